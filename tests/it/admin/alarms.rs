//! Alarms as operators see and close them.

use super::plane::Plane;
use crate::support::store::on_both;
use bitting::log::AlarmKind;
use bitting::service::Role;
use serde_json::{Value, json};
use std::time::Duration;

/// The list at `path` once it has so many items.
async fn once(plane: &Plane, path: &str, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let items = plane.get(path).await["items"].as_array().unwrap().clone();
        if items.len() >= count {
            assert_eq!(items.len(), count, "{items:?}");
            return items;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{path} did not have {count} items in five seconds");
}

on_both! {
    async fn a_repeat_is_counted_and_only_the_first_is_an_entry(test: TestStore) {
        let plane = Plane::new(test).await;
        let raise = |subject: &str, n: u32| plane.services.alarms.raise(AlarmKind::RowTampered, subject, &json!({"n": n}));
        raise("providers/openai", 1);
        once(&plane, "/api/v1/alarms", 1).await;
        for n in 2..5 {
            raise("providers/openai", n);
        }
        raise("providers/zhipu", 9);
        let items = once(&plane, "/api/v1/alarms?status=open&kind=row_tampered", 2).await;
        let openai = items.iter().find(|item| item["subject"] == "providers/openai").unwrap();
        assert_eq!((&openai["count"], &openai["detail"]), (&json!(4), &json!({"n": 1})));
        assert_eq!((&openai["status"], &openai["closed_at"]), (&json!("open"), &Value::Null));
        let opened = plane.get("/api/v1/admin-log?action=alarm.open").await;
        assert_eq!(opened["items"].as_array().unwrap().len(), 2, "{opened}");
        assert_eq!(opened["items"][0]["actor"], "bitting");
    }

    async fn an_alarm_is_closed_once_and_with_a_reason(test: TestStore) {
        let plane = Plane::new(test).await;
        plane.services.alarms.raise(AlarmKind::UpstreamCredential, "cred_1", &json!({"status": 401}));
        let id = once(&plane, "/api/v1/alarms", 1).await[0]["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/alarms/{id}/close");
        for body in [json!({"reason": ""}), json!({"reason": "  "}), json!({"reason": "x".repeat(1_001)})] {
            let refused = plane.ask("POST", &path, Some(body)).await;
            assert_eq!(refused.refusal(), (400, "invalid_field".to_owned(), "reason".to_owned()));
        }
        assert_eq!(plane.ask("POST", &path, Some(json!({}))).await.status, 400);
        let responder = plane.operator(Role::Responder, None).await;
        let closed = plane.ask_as(&responder, "POST", &path, Some(json!({"reason": "rotated"}))).await.expect(200);
        assert_eq!((&closed["status"], &closed["reason"]), (&json!("closed"), &json!("rotated")));
        let again = plane.ask("POST", &path, Some(json!({"reason": "again"}))).await;
        assert_eq!(again.refusal().1, "already_closed");
        let nobody = plane.ask("POST", "/api/v1/alarms/alarm_0/close", Some(json!({"reason": "x"}))).await;
        assert_eq!(nobody.refusal().1, "not_found");
        assert_eq!(plane.get(&format!("/api/v1/admin-log?target={id}&action=alarm.close")).await["items"][0]["detail"]["reason"], "rotated");
        assert_eq!(plane.get("/api/v1/alarms?status=open").await["items"], json!([]));
        assert_eq!(once(&plane, "/api/v1/alarms?status=closed", 1).await[0]["id"], *id);
        for query in ["status=shut", "kind=noise", "x=1"] {
            assert_eq!(plane.ask("GET", &format!("/api/v1/alarms?{query}"), None).await.status, 400, "{query}");
        }
        // The same thing again is a new alarm.
        plane.services.alarms.raise(AlarmKind::UpstreamCredential, "cred_1", &json!({}));
        let open = once(&plane, "/api/v1/alarms?status=open", 1).await;
        assert_ne!(open[0]["id"], *id);
    }

    async fn alarms_wait_for_a_store_that_is_away(test: TestStore) {
        let url = test.url.clone();
        let plane = Plane::new(test).await;
        crate::support::store::tamper(&url, "ALTER TABLE alarms RENAME TO alarms_lost").await;
        for n in 0..3 {
            plane.services.alarms.raise(AlarmKind::RowTampered, &format!("models/{n}"), &json!({}));
            plane.services.alarms.raise(AlarmKind::RowTampered, "models/0", &json!({}));
        }
        assert_eq!(plane.ask("GET", "/api/v1/alarms", None).await.status, 503);
        crate::support::store::tamper(&url, "ALTER TABLE alarms_lost RENAME TO alarms").await;
        let items = once(&plane, "/api/v1/alarms", 3).await;
        assert_eq!(items.iter().map(|item| item["count"].as_i64().unwrap()).sum::<i64>(), 6);
    }
}
