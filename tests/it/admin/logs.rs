//! Both logs and usage: pages, exports, and what reading them leaves behind.

use super::plane::{Plane, names, now};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use bitting::log::{Decision, Entry, Rollup};
use bitting::store::{Conn, access_log, usage};
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ops::Range;

fn entry(n: u32) -> Entry {
    let denied = n.is_multiple_of(10);
    Entry {
        time: now() + TimeDelta::seconds(i64::from(n)),
        request_id: format!("req_{n:05}"),
        subkey_id: "0000000000000000".to_owned(),
        subkey_name: "ci\n=cmd()|".to_owned(),
        project: "default".to_owned(),
        provider: Some("openai".to_owned()),
        model: Some(if n.is_multiple_of(2) { "gpt-4o" } else { "o3" }.to_owned()),
        decision: if denied { Decision::Denied } else { Decision::Allowed },
        status: Some(if denied { 403 } else { 200 }),
        count: 1,
        input_tokens: 10,
        output_tokens: 1,
        cost_usd: NanoUsd::from_nano(1_000_000),
        client_ip: Some("192.0.2.7".to_owned()),
        tags: BTreeMap::from([("team".to_owned(), if n < 5 { "a" } else { "b" }.to_owned())]),
        ..Entry::default()
    }
}

async fn append_all(conn: &mut Conn<'_>, numbers: Range<u32>) {
    let mut rollup = Rollup::default();
    for n in numbers {
        access_log::append(conn, &mut rollup, &entry(n), &[]).await.unwrap().unwrap();
    }
    usage::add(conn, &rollup).await.unwrap();
}

async fn fill(plane: &Plane, count: u32) {
    let mut tx = plane.services.store.write().await.unwrap();
    append_all(&mut tx.conn(), 0..count).await;
    tx.commit().await.unwrap();
}

fn lines(text: &str) -> Vec<Value> {
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

on_both! {
    async fn an_export_has_every_entry_once_and_in_order(test: TestStore) {
        let plane = Plane::new(test).await;
        // Two full pages of an export and a bit, and exactly two.
        for (before, count) in [(0, 1_000), (1_000, 1_203)] {
            let mut tx = plane.services.store.write().await.unwrap();
            append_all(&mut tx.conn(), before..count).await;
            tx.commit().await.unwrap();
            let answer = plane.ask("GET", "/api/v1/access-log/export?format=jsonl", None).await;
            assert_eq!(answer.headers["content-type"], "application/x-ndjson");
            let ids: Vec<String> = lines(&answer.text).iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect();
            let expected: Vec<String> = (0..count).map(|n| format!("req_{n:05}")).collect();
            assert_eq!(ids, expected);
        }
        let denied = plane.ask("GET", "/api/v1/access-log/export?decision=denied&model=gpt-4o&status=403", None).await;
        let denied = lines(&denied.text);
        assert_eq!(denied.len(), 121);
        assert_eq!(denied[0]["subkey_name"], "ci\n=cmd()|");
        for query in ["format=csv", "x=1", "from=soon", "status=ok", "decision=maybe", "client_ip=here", "limit=1"] {
            assert_eq!(plane.ask("GET", &format!("/api/v1/access-log/export?{query}"), None).await.status, 400, "{query}");
        }
    }

    async fn entries_are_paged_newest_first_and_filtered(test: TestStore) {
        let plane = Plane::new(test).await;
        fill(&plane, 25).await;
        let first = plane.get("/api/v1/access-log?limit=10").await;
        assert_eq!(names(&first, "request_id")[0], "req_00024");
        let cursor = first["next_cursor"].as_str().unwrap();
        let second = plane.get(&format!("/api/v1/access-log?limit=10&cursor={cursor}")).await;
        assert_eq!(names(&second, "request_id")[0], "req_00014");
        let window = plane.get("/api/v1/access-log?from=2026-11-22T16:00:05Z&to=2026-11-22T16:00:07Z").await;
        assert_eq!(names(&window, "request_id"), ["req_00006", "req_00005"]);
        let one = plane.get("/api/v1/access-log?request_id=req_00003&client_ip=192.0.2.7").await;
        assert_eq!(names(&one, "request_id"), ["req_00003"]);
        assert_eq!(plane.get("/api/v1/access-log?subkey=nobody").await, json!({"items": [], "next_cursor": null}));
    }

    async fn usage_is_summed_by_group(test: TestStore) {
        let plane = Plane::new(test).await;
        fill(&plane, 20).await;
        let all = plane.get("/api/v1/usage").await;
        assert_eq!(all["items"], json!([{"requests": 20, "denied": 2, "failed": 0, "input_tokens": 200, "cached_input_tokens": 0,
            "cache_write_tokens": 0, "output_tokens": 20, "cost_usd": "0.02"}]));
        let by = plane.get("/api/v1/usage?group_by=model,tag:team,day&limit=1000").await;
        let row = |model: &str, team: &str, requests: u32| (json!(model), json!(team), json!("2026-11-22"), json!(requests));
        let rows: Vec<_> = by["items"].as_array().unwrap().iter()
            .map(|row| (row["model"].clone(), row["tag:team"].clone(), row["day"].clone(), row["requests"].clone())).collect();
        assert_eq!(rows, [row("gpt-4o", "a", 3), row("gpt-4o", "b", 7), row("o3", "a", 2), row("o3", "b", 8)]);
        let page = plane.get("/api/v1/usage?group_by=model,tag:team&limit=3").await;
        let rest = plane.get(&format!("/api/v1/usage?group_by=model,tag:team&limit=3&cursor={}", page["next_cursor"].as_str().unwrap())).await;
        assert_eq!((rest["items"].as_array().unwrap().len(), &rest["next_cursor"]), (1, &Value::Null));
        for query in ["group_by=", "group_by=colour", "group_by=tag:", "group_by=day,day", "by=day"] {
            assert_eq!(plane.ask("GET", &format!("/api/v1/usage?{query}"), None).await.status, 400, "{query}");
        }
    }

    async fn every_change_and_every_read_of_evidence_is_in_the_admin_log(test: TestStore) {
        let plane = Plane::new(test).await;
        let id = plane.minted("ci").await;
        let path = format!("/api/v1/subkeys/{id}");
        plane.ask("PATCH", &path, Some(json!({"owner": "ana"}))).await.expect(200);
        plane.ask("PATCH", &path, Some(json!({"owner": "ana"}))).await.expect(200);
        for verb in ["rotate", "suspend", "resume", "revoke", "revoke"] {
            plane.ask("POST", &format!("{path}/{verb}"), None).await.expect(200);
        }
        let credential = plane.credential("openai", "main").await;
        plane.ask("GET", "/api/v1/access-log?decision=denied", None).await.expect(200);
        plane.ask("GET", "/api/v1/access-log/export", None).await;
        plane.ask("POST", "/api/v1/subkeys", Some(json!({"name": "", "models": []}))).await.expect(400);
        let export = plane.ask("GET", "/api/v1/admin-log/export", None).await;
        let entries = lines(&export.text);
        let told: Vec<(String, String)> = entries.iter()
            .map(|entry| (entry["action"].as_str().unwrap().to_owned(), entry["target"].as_str().unwrap().to_owned())).collect();
        let key = |action: &str| (action.to_owned(), id.clone());
        let expected = [
            ("ledger.audit_begin".to_owned(), "ledger".to_owned()),
            key("subkey.mint"), key("subkey.patch"), key("subkey.rotate"), key("subkey.suspend"), key("subkey.resume"),
            key("subkey.revoke"), ("credential.create".to_owned(), credential),
            ("access_log.read".to_owned(), "access_log".to_owned()), ("access_log.export".to_owned(), "access_log".to_owned()),
            ("admin_log.export".to_owned(), "admin_log".to_owned()),
        ];
        assert_eq!(told, expected);
        let changed = &entries[2];
        assert_eq!(changed["actor"], "owner");
        assert!(changed["request_id"].as_str().unwrap().starts_with("req_"));
        assert_eq!(changed["detail"]["changed"], json!({"owner": {"before": null, "after": "ana"}}));
        assert!(!export.text.contains("bk_") && !export.text.contains("bo_"));
        let page = plane.get(&format!("/api/v1/admin-log?subkey={id}&limit=2")).await;
        assert_eq!(names(&page, "action"), ["subkey.revoke", "subkey.resume"]);
        assert!(page["next_cursor"].is_string());
    }
}
