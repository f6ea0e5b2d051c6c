//! A charge that waits for the use of work out of sight is corrected once, by what was signed when it was charged: whatever
//! the log says of it, and whoever corrects it, the one who reads its use or an operator.

use super::deferred::{
    RESPONSES, begin, cancelled, corrections, document, get, is_charged_by_its_use, is_charged_in_full, look,
    model,
};
use super::{books, total};
use crate::support::server::TestServer;
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use serde_json::{Value, json};

const RELEASES: &str = "/api/v1/usage/releases";
/// The rows that wait, put aside and back.
const ASIDE: &str = "CREATE TABLE aside AS SELECT * FROM deferred_charges";
const BACK: &str = "INSERT INTO deferred_charges SELECT * FROM aside";

/// The request that was charged.
async fn charged(server: &TestServer, key: &str) -> String {
    let entries = server.entries(key).await;
    let charge = entries.iter().find(|entry| entry["path"] == RESPONSES).unwrap();
    charge["request_id"].as_str().unwrap().to_owned()
}

async fn refused(server: &TestServer, request_id: &str) -> Value {
    let order = json!({"request_id": request_id, "reason": "x"});
    let refused = server.admin_post(RELEASES, &order).await;
    assert_eq!(refused.status, 409, "{}", refused.json());
    refused.json()
}

async fn released(server: &TestServer, request_id: &str) {
    let order = json!({"request_id": request_id, "reason": "cancelled, and not billed"});
    let done = server.admin_post(RELEASES, &order).await;
    assert_eq!(done.status, 201, "{}", done.json());
}

on_both! {
    async fn a_log_that_says_another_charge_or_other_windows_corrects_nothing(test: TestStore) {
        let is_sqlite = test.url.starts_with("sqlite:");
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        let bound = is_charged_in_full(&server, &key).await;
        let request = charged(&server, &key).await;
        let cost = |to: &str| if is_sqlite {
            format!("UPDATE access_log SET entry = json_set(entry, '$.cost_usd', '{to}') WHERE request_id = '{request}'")
        } else {
            format!(
                "UPDATE access_log SET entry = jsonb_set(entry, '{{cost_usd}}', '\"{to}\"') WHERE request_id = '{request}'"
            )
        };
        let windows = |from: &str, to: &str| if is_sqlite {
            format!("UPDATE access_log SET postings = replace(postings, '/{from}', '/{to}') WHERE request_id = '{request}'")
        } else {
            format!(
                "UPDATE access_log SET postings = replace(CAST(postings AS TEXT), '/{from}', '/{to}')::jsonb WHERE request_id = '{request}'"
            )
        };
        for (change, restore) in [
            (cost("9.00"), cost(&bound.to_string())),
            (windows("total", "month"), windows("month", "total")),
        ] {
            server.store.tamper(&change).await;
            look(&server, &secret, &id).await;
            let entries = server.entries(&key).await;
            assert!(corrections(&entries).is_empty(), "{change}: {entries:?}");
            assert_eq!(books(&server, &key).await.0, bound, "{change}");
            let alarm = server.alarm_about("row_tampered", &format!("access_log/{request}")).await;
            assert_eq!(alarm["detail"]["charged_usd"], json!(bound), "{alarm}");
            server.store.tamper(&restore).await;
        }
        look(&server, &secret, &id).await;
        is_charged_by_its_use(&server, &key).await;
        assert_eq!(books(&server, &key).await.0, server.sandbox.bill().cost_usd);
    }

    async fn p3_what_an_operator_took_back_is_not_given_back_again_by_its_use(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        is_charged_in_full(&server, &key).await;
        let request = charged(&server, &key).await;
        server.store.tamper(ASIDE).await;
        released(&server, &request).await;
        assert_eq!(books(&server, &key).await, (NanoUsd::ZERO, NanoUsd::ZERO));
        let again = refused(&server, &request).await;
        assert_eq!((&again["code"], &again["id"]), (&json!("already_done"), &json!(format!("release-{request}"))), "{again}");
        look(&server, &secret, &id).await;
        // Whoever puts back what waited gets nothing for it.
        server.store.tamper(BACK).await;
        look(&server, &secret, &id).await;
        let entries = server.entries(&key).await;
        assert!(corrections(&entries).is_empty(), "{entries:?}");
        assert_eq!(books(&server, &key).await, (NanoUsd::ZERO, NanoUsd::ZERO));
    }

    async fn p3_what_came_to_its_use_is_not_taken_back_again_by_an_operator(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        is_charged_in_full(&server, &key).await;
        let request = charged(&server, &key).await;
        server.store.tamper(ASIDE).await;
        look(&server, &secret, &id).await;
        server.store.tamper(BACK).await;
        for _ in 0..2 {
            let told = refused(&server, &request).await;
            assert_eq!((&told["code"], &told["id"]), (&json!("already_done"), &json!(format!("use-{request}"))), "{told}");
            look(&server, &secret, &id).await;
            is_charged_by_its_use(&server, &key).await;
        }
        let told = refused(&server, &format!("use-{request}")).await;
        assert_eq!(told["code"], "not_correctable", "{told}");
        assert!(told.to_string().contains("corrects another one"), "{told}");
        assert_eq!(books(&server, &key).await.0, server.sandbox.bill().cost_usd);
    }

    async fn what_was_cancelled_without_its_use_is_taken_back_by_an_operator(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "polls=9,tokens=30").await;
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        assert_eq!(cancelled(&server, &secret, &format!("{RESPONSES}/{id}/cancel")).await["status"], "cancelled");
        let bound = is_charged_in_full(&server, &key).await;
        let request = charged(&server, &key).await;
        // What the log says of the charge is not what was signed.
        server.store.tamper("UPDATE deferred_charges SET terms = replace(terms, '0.60', '0.01')").await;
        assert_eq!(refused(&server, &request).await["code"], "not_correctable");
        server.store.tamper("UPDATE deferred_charges SET terms = replace(terms, '0.01', '0.60')").await;
        assert_eq!(books(&server, &key).await, (bound, NanoUsd::ZERO));
        released(&server, &request).await;
        assert_eq!(books(&server, &key).await, (NanoUsd::ZERO, NanoUsd::ZERO));
        // What was never deferred is the provider's to say.
        let made = server.post(&secret, RESPONSES, &json!({"model": "sandbox-mini", "input": "x"})).await;
        assert_eq!(made.status, 200, "{}", made.json());
        let entries = server.entries(&key).await;
        let plain = entries.iter().find(|entry| entry["path"] == RESPONSES && entry["request_id"] != request.as_str());
        let plain = plain.unwrap()["request_id"].as_str().unwrap();
        assert_eq!(refused(&server, plain).await["code"], "not_correctable");
    }

    async fn a_use_that_is_told_later_in_circumstances_without_a_price_is_alarmed(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-rates+unknown_tier,tokens=30";
        let path = format!("/api/v1/models/sandbox/{model}");
        assert!(server.admin_call(Method::PUT, &path, Some(&document())).await.status.is_success());
        let (key, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, model).await;
        let request = charged(&server, &key).await;
        look(&server, &secret, &id).await;
        let alarm = server.alarm_about("factor_unknown", &format!("sandbox/{model}")).await;
        assert_eq!((&alarm["detail"]["request_id"], &alarm["detail"]["reported"]), (&json!(request), &json!("turbo")), "{alarm}");
        assert!(alarm["detail"]["price_version"].is_string(), "{alarm}");
    }

    async fn a_rotation_that_finds_a_charge_changed_says_so(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (_, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        server.store.tamper("UPDATE deferred_charges SET terms = replace(terms, '0.60', '0.01')").await;
        assert_eq!(server.admin_post("/api/v1/vault/rotate", &json!({})).await.status, 202);
        server.alarm_about("row_tampered", &format!("deferred_charges/sandbox/{id}")).await;
    }

    async fn what_a_response_shows_is_written_when_it_is_first_seen(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = model(&server, "tokens=30").await;
        let (_, secret) = server.mint(total("1")).await;
        let id = begin(&server, &secret, &model).await;
        let shown = look(&server, &secret, &id).await;
        let item: bitting::provider::ObjectId = shown["output"][0]["id"].as_str().unwrap().parse().unwrap();
        let provider = "sandbox".parse().unwrap();
        let other = "msg_0123456789abcdef".parse().unwrap();
        let known = server.services.known_objects(&provider, &[&item, &other]).await.unwrap();
        assert_eq!(known.into_iter().collect::<Vec<_>>(), [item]);
        // What was forgotten is seen again, and what is known stays as it is.
        server.store.tamper("DELETE FROM objects WHERE kind = 'item'").await;
        look(&server, &secret, &id).await;
        look(&server, &secret, &id).await;
        let items = get(&server, &secret, &format!("{RESPONSES}/{id}/input_items")).await;
        assert_eq!(items.status, 200);
        let item = shown["output"][0]["id"].as_str().unwrap().parse().unwrap();
        assert_eq!(server.services.known_objects(&provider, &[&item]).await.unwrap().len(), 1);
    }
}
