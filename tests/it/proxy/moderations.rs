//! Moderations: with a model that is named like any other's, and without one, which the provider then chooses.

use super::spoken;
use crate::support::server::{Answer, TestServer};
use crate::support::store::{TestStore, on_both};
use http::Method;
use serde_json::{Value, json};

const PATH: &str = "/v1/moderations";
const MODEL: &str = "sandbox-moderation";

async fn moderated(server: &TestServer, secret: &str, body: &Value) -> Answer {
    server.post(secret, PATH, body).await
}

on_both! {
    async fn a_text_is_classified_with_or_without_a_model(test: TestStore) {
        let server = TestServer::start(test).await;
        let (key, secret) = server.mint(json!({"budgets": [{"limit_usd": "0.01", "window": "day"}]})).await;
        let picture = json!([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "https://x/y.png"}}]);
        for (body, results) in [
            (json!({"model": MODEL, "input": "some violence"}), 1),
            (json!({"input": "some violence"}), 1),
            (json!({"input": ["a", "b"], "model": null}), 2),
            (json!({"input": picture}), 1),
        ] {
            let answer = moderated(&server, &secret, &body).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.json());
            assert_eq!(answer.json()["results"].as_array().unwrap().len(), results);
            assert_eq!(answer.json()["results"][0]["flagged"], body.to_string().contains("violence"));
            let sent = server.sandbox.requests().pop().unwrap();
            assert_eq!((sent.path.as_str(), sent.body), (PATH, body.to_string()), "nothing is put in");
            assert_eq!((answer.header("x-bitting-changed"), answer.header("x-bitting-cost-usd")), (None, Some("0.00")));
            let entry = server.entries(&key).await.pop().unwrap();
            let named = body["model"].is_string();
            assert_eq!((&entry["operation"], entry["model"].as_str()), (&json!("moderations"), named.then_some(MODEL)));
            assert_eq!(entry["model_reported"].as_str(), (!named).then_some(MODEL), "{entry}");
        }
        let azure = server.post(&secret, "/openai/v1/moderations?api-version=v1", &json!({"input": "x"})).await;
        assert_eq!(azure.status, 200, "{}", azure.json());
    }

    async fn p2_one_gate_wants_a_model_named_where_the_key_may_not_use_all_that_it_could_be(test: TestStore) {
        let server = TestServer::start(test).await;
        let other = json!({"operations": ["moderations"], "context_window": 1_000,
            "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"}});
        let put = server.admin_call(Method::PUT, "/api/v1/models/sandbox/other-moderation", Some(&other)).await;
        assert!(put.status.is_success(), "{:?}", put.json());
        let models = |models: &[&str]| json!({"models": models});
        for key in [models(&["sandbox/sandbox-mini"]), models(&["sandbox/sandbox-moderation"]), models(&[])] {
            let (_, secret) = server.mint(key.clone()).await;
            let answer = moderated(&server, &secret, &json!({"input": "x"})).await;
            assert_eq!(answer.refusal(), (403, "model_not_allowed".to_owned()), "{key}: {}", answer.json());
            assert!(answer.json()["error"]["message"].as_str().unwrap().contains("name a model"));
        }
        let (_, chats) = server.mint(json!({"operations": ["chat"]})).await;
        let answer = moderated(&server, &chats, &json!({"input": "x"})).await;
        assert_eq!(answer.refusal(), (403, "operation_not_allowed".to_owned()));
        let (_, texts) = server.mint(json!({"allow_images": false})).await;
        let picture = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
        let answer = moderated(&server, &texts, &json!({"input": picture, "model": MODEL})).await;
        assert_eq!(answer.refusal(), (403, "feature_not_allowed".to_owned()));
        // Which one it will be changes what it costs: not under a cap.
        let (_, capped) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let answer = moderated(&server, &capped, &json!({"input": "x"})).await;
        assert_eq!(answer.refusal(), (403, "model_unpriced".to_owned()), "{}", answer.json());
        assert!(server.sandbox.requests().is_empty());
        for (key, body) in [
            (models(&["sandbox/sandbox-moderation"]), json!({"input": "x", "model": MODEL})),
            (models(&["sandbox/*"]), json!({"input": "x"})),
            (json!({"budgets": [{"limit_usd": "1", "window": "day"}]}), json!({"input": "x", "model": MODEL})),
        ] {
            let (_, secret) = server.mint(key.clone()).await;
            assert_eq!(moderated(&server, &secret, &body).await.status, 200, "{key}");
        }
    }
}

#[tokio::test]
async fn without_a_model_a_ceiling_binds_and_two_providers_are_ambiguous() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let url = format!("{}/v1", server.sandbox_url);
    let second = json!({"slug": "second", "dialects": {"openai": url}});
    assert_eq!(server.admin_post("/api/v1/providers", &second).await.status, 201);
    let key = json!({"name": "main", "secret": "sandbox-second-account-key"});
    assert_eq!(server.admin_post("/api/v1/providers/second/credentials", &key).await.status, 201);
    let dear = json!({"operations": ["moderations"], "context_window": 1_000,
        "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"}});
    let put = server.admin_call(Method::PUT, "/api/v1/models/sandbox/a-moderation", Some(&dear)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
    let (_, wide) = server.mint(json!({"models": ["sandbox/*", "second/*"]})).await;
    let body = json!({"input": "x"});
    assert_eq!(moderated(&server, &wide, &body).await.status, 200, "the other is not known to serve it");
    let unknown = server.post(&wide, "/p/second/v1/moderations", &body).await;
    assert_eq!(unknown.refusal(), (400, "model_required".to_owned()), "{}", unknown.json());
    let model = json!({"operations": ["moderations"], "context_window": 1_000});
    let put = server.admin_call(Method::PUT, "/api/v1/models/second/house-moderation", Some(&model)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
    let seen = server.sandbox.requests().len();
    let ambiguous = moderated(&server, &wide, &body).await;
    assert_eq!(ambiguous.refusal(), (400, "provider_ambiguous".to_owned()), "{}", ambiguous.json());
    let messages = server.call(spoken(&server, "anthropic", &wide, PATH, &body)).await;
    assert_eq!(messages.refusal(), (400, "provider_ambiguous".to_owned()), "in the only dialect of its path");
    let sent = server.post(&wide, "/p/second/v1/moderations", &body).await;
    assert_eq!((sent.status.as_u16(), sent.header("x-bitting-provider")), (200, Some("second")));
    // Only what a provider is known to have for it was meant.
    let alarm = server.alarm_about("model_substituted", "second").await;
    assert_eq!(alarm["detail"]["served"], "sandbox-moderation");
    assert_eq!(server.alarms_once("model_substituted").await.len(), 1, "the other provider's was meant");
    // What a ceiling forbids is forbidden without a name, too.
    assert_eq!(server.admin_post("/api/v1/projects", &json!({"slug": "narrow"})).await.status, 201);
    let (_, below) = server.mint(json!({"models": ["sandbox/*"], "project": "narrow"})).await;
    assert_eq!(moderated(&server, &below, &body).await.status, 200);
    let ceiling = json!({"ceiling": {"models": ["sandbox/sandbox-mini"]}});
    let patched = server.admin_call(Method::PATCH, "/api/v1/projects/narrow", Some(&ceiling)).await;
    assert!(patched.status.is_success(), "{:?}", patched.json());
    for path in [PATH, "/p/sandbox/v1/moderations"] {
        let answer = server.post(&below, path, &body).await;
        assert_eq!(answer.refusal(), (403, "model_not_allowed".to_owned()), "{path}: {}", answer.json());
    }
    assert_eq!(server.sandbox.requests().len(), seen + 2);
}
