//! What the proxy answers by itself: the models that a key may use, and the key about itself.

use super::{spoken, still_server};
use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use serde_json::{Value, json};

/// The ids of a list of models in its dialect.
fn ids(dialect: &str, body: &Value) -> Vec<String> {
    let (list, field) = if dialect == "gemini" { ("models", "name") } else { ("data", "id") };
    let list = body[list].as_array().unwrap_or_else(|| panic!("{dialect}: {body}"));
    list.iter().map(|item| item[field].as_str().unwrap().trim_start_matches("models/").to_owned()).collect()
}

on_both! {
    async fn the_list_of_models_is_what_the_key_may_use_in_each_dialect(test: TestStore) {
        let server = TestServer::start(test).await;
        for (fields, expected) in [
            (json!({"models": ["sandbox/sandbox-mi*", "sandbox/sandbox-dated"]}), vec!["sandbox-dated", "sandbox-mini"]),
            (json!({"models": ["*"], "deny_models": ["*-l*", "*-e*", "*-r*", "*-u*", "*-v*", "*-d*", "*-i*", "*-mo*", "*-s*", "*-t*", "*-w*"]}), vec!["sandbox-mini"]),
            (json!({"models": []}), vec![]),
            (json!({"models": ["openai/*"]}), vec![]),
        ] {
            let (id, secret) = server.mint(fields.clone()).await;
            let mut count = 0;
            for (dialect, path) in [
                ("openai", "/v1/models"), ("anthropic", "/v1/models"), ("gemini", "/v1/models"), ("gemini", "/v1beta/models"),
                ("openai", "/p/sandbox/v1/models"),
            ] {
                let answer = server.call(spoken(&server, dialect, &secret, path, &Value::Null)).await;
                assert_eq!(answer.status, 200, "{}", answer.json());
                assert_eq!(ids(dialect, &answer.json()), expected, "{dialect} {path} {fields}");
                count += 1;
            }
            let answer = server.call(spoken(&server, "openai", &secret, "/p/openai/v1/models", &Value::Null)).await;
            assert!(ids("openai", &answer.json()).is_empty(), "no credential, no models");
            let entries = server.entries(&id).await;
            assert_eq!(entries.len(), count + 1);
            assert!(entries.iter().all(|entry| entry["decision"] == "allowed" && entry["operation"] == "models"));
        }
        assert!(server.sandbox.requests().is_empty(), "the catalog answers");
    }
}

#[tokio::test]
async fn one_model_is_described_if_the_key_may_use_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({"models": ["sandbox/sandbox-mini"]})).await;
    for (dialect, path) in
        [("openai", "/v1/models"), ("anthropic", "/v1/models"), ("gemini", "/v1beta/models")]
    {
        for (name, status) in
            [("sandbox-mini", 200), ("sandbox/sandbox-mini", 200), ("sandbox-dated", 404), ("gpt-4o", 404)]
        {
            let answer =
                server.call(spoken(&server, dialect, &secret, &format!("{path}/{name}"), &Value::Null)).await;
            assert_eq!(answer.status.as_u16(), status, "{dialect} {name}: {}", answer.json());
            if status == 404 {
                assert_eq!(answer.header("x-bitting-error"), Some("object_not_found"));
            }
        }
    }
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_key_can_ask_about_itself_and_about_nobody_else() {
    let server = still_server(&[]).await;
    let (id, secret) = server
        .mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}], "max_output_tokens": 64, "ip_allow": ["127.0.0.0/8"]}))
        .await;
    let spent = server.chat(&secret, "sandbox-mini").await.header("x-bitting-cost-usd").unwrap().to_owned();
    let answer = server.call(spoken(&server, "openai", &secret, "/bitting/self", &Value::Null)).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(
        (&body["id"], &body["status"], &body["models"], &body["max_output_tokens"], &body["ip_allow"]),
        (&json!(id), &json!("active"), &json!(["sandbox/*"]), &json!(64), &json!(["127.0.0.0/8"]))
    );
    let budget = &body["budgets"][0];
    assert_eq!(
        (&budget["limit_usd"], &budget["window"], &budget["spent_usd"]),
        (&json!("1.00"), &json!("day"), &json!(spent)),
        "{budget}"
    );
    assert!(!body.to_string().contains(&secret[20..]), "no secret, no hash");
    let junk = server.call(spoken(&server, "openai", "junk", "/bitting/self", &Value::Null)).await;
    assert_eq!(junk.refusal(), (401, "invalid_api_key".to_owned()));
}

#[tokio::test]
async fn p2_one_gate_holds_for_what_a_key_asks_about_itself() {
    let server = still_server(&[]).await;
    let (id, secret) = server.mint(json!({"ip_allow": ["192.0.2.0/24"]})).await;
    for path in ["/bitting/self", "/v1/models", "/v1beta/models"] {
        let answer = server.call(spoken(&server, "openai", &secret, path, &Value::Null)).await;
        assert_eq!(answer.refusal(), (403, "ip_not_allowed".to_owned()), "{path}");
    }
    let entries = server.entries(&id).await;
    assert!(
        entries.len() == 3 && entries.iter().all(|entry| entry["rule"] == "ip_not_allowed"),
        "{entries:?}"
    );
    let (id, secret) =
        server.mint(json!({"rate_limits": [{"metric": "requests", "limit": 1, "per": "day"}]})).await;
    for code in [None, Some("rate_limit_exceeded")] {
        let answer = server.call(spoken(&server, "openai", &secret, "/bitting/self", &Value::Null)).await;
        assert_eq!(answer.header("x-bitting-error"), code);
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!((&entry["path"], &entry["rule"]), (&json!("/bitting/self"), &json!(code)));
    }
}
