//! Keys without a cap: what has no bound is served, and charged by what its answer tells.

use super::{read_to_end, usd};
use crate::support::form::Form;
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";
const TRANSCRIPTS: &str = "/v1/audio/transcriptions";

/// Puts a model into the catalog at the prices of the sandbox's, and with no bound of any kind.
async fn list_boundless(server: &TestServer, name: &str) {
    let listed = server.admin_get("/api/v1/models?limit=1000").await.json();
    let base = name.split('+').next().unwrap();
    let known = listed["items"].as_array().unwrap().iter().find(|known| known["model"] == base).unwrap();
    let document = json!({"operations": known["operations"], "prices": known["prices"]});
    let path = format!("/api/v1/models/sandbox/{name}");
    let put = server.admin_call(Method::PUT, &path, Some(&document)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

fn free() -> Value {
    json!({"hosted_tools": ["*"], "service_tiers": ["auto", "default", "standard_only"]})
}

fn capped() -> Value {
    let mut key = free();
    key["budgets"] = json!([{"limit_usd": "20", "window": "total"}]);
    key
}

fn unbounded(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]})
}

on_both! {
    async fn what_has_no_bound_is_charged_to_an_uncapped_key_as_the_provider_bills_it(test: TestStore) {
        let server = TestServer::start(test).await;
        let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        let mut searching = chat("sandbox-rates+searches=2");
        for (field, value) in [("tools", search), ("service_tier", json!("standard_only")), ("inference_geo", json!("global"))] {
            searching[field] = value;
        }
        let mut streamed = unbounded("sandbox-mini+tokens=7");
        streamed["stream"] = json!(true);
        for (path, body) in [
            (CHAT, unbounded("sandbox-mini+tokens=9,cached=2")),
            (CHAT, streamed),
            (MESSAGES, searching),
            (RESPONSES, json!({"model": "sandbox-mini+tokens=5", "input": "hello"})),
        ] {
            let model = body["model"].as_str().unwrap();
            list_boundless(&server, model).await;
            let (_, bound) = server.mint(capped()).await;
            assert_eq!(server.post(&bound, path, &body).await.refusal(), (403, "feature_unpriced".to_owned()), "{model}");
            let (id, secret) = server.mint(free()).await;
            server.sandbox.reset();
            let response = server.send(server.proxied(&secret, path, body.to_string())).await;
            assert_eq!(response.status(), 200, "{model}");
            assert!(read_to_end(response).await.1);
            let entry = server.entries(&id).await.remove(0);
            let billed = server.sandbox.bill().cost_usd;
            assert!(billed > NanoUsd::ZERO);
            assert_eq!((usd(&entry["cost_usd"]), &entry["usage_source"]), (billed, &json!("reported")), "{path} {entry}");
            assert_eq!((&entry["reserved_usd"], &entry["rule"]), (&json!("0.00"), &Value::Null), "{entry}");
            assert!(entry["price_version"].is_string(), "{entry}");
            let usage = server.admin_get("/api/v1/usage?group_by=subkey&from=2020-01-01T00:00:00Z").await.json();
            let row = usage["items"].as_array().unwrap().iter().find(|row| row["subkey"] == id.as_str()).unwrap();
            assert_eq!(usd(&row["cost_usd"]), billed, "{usage}");
        }
        server.end().await;
    }

    async fn a_sound_without_a_bound_is_charged_by_its_seconds(test: TestStore) {
        let server = TestServer::start(test).await;
        list_boundless(&server, "sandbox-whisper").await;
        let (id, secret) = server.mint(free()).await;
        let sound = Form::default().field("model", "sandbox-whisper").file("file", "a.mp3", &vec![7; 40_000]);
        assert_eq!(server.call(sound.request(&server, &secret, TRANSCRIPTS)).await.status, 200);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!(usd(&entry["cost_usd"]), server.sandbox.bill().cost_usd, "{entry}");
        assert!(usd(&entry["cost_usd"]) > NanoUsd::ZERO);
        server.end().await;
    }

    async fn what_tells_nothing_and_has_no_bound_is_no_amount(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-mini+no_usage";
        list_boundless(&server, model).await;
        let (id, secret) = server.mint(free()).await;
        assert_eq!(server.post(&secret, CHAT, &unbounded(model)).await.status, 200);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["cost_usd"], &entry["usage_source"]), (&json!("0.00"), &json!("none")), "{entry}");
        server.end().await;
    }

    async fn deferred_work_of_an_uncapped_key_is_charged_in_full_when_it_is_accepted(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(free()).await;
        let deferred = json!({"model": "sandbox-mini", "input": "hello", "max_output_tokens": 16, "background": true});
        let answer = server.post(&secret, RESPONSES, &deferred).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let entry = server.entries(&id).await.remove(0);
        assert!(usd(&entry["cost_usd"]) >= NanoUsd::from_nano(16 * 600), "{entry}");
        assert_eq!((&entry["cost_usd"], &entry["usage_source"]), (&entry["reserved_usd"], &json!("reserved")), "{entry}");
        // A limit of tokens is held against what bounds them: the same is bounded, and nothing bounds what a provider makes
        // shorter by itself.
        let mut limited = free();
        limited["rate_limits"] = json!([{"metric": "tokens", "limit": 1_000_000, "per": "day"}]);
        let (_, limited) = server.mint(limited).await;
        assert_eq!(server.post(&limited, RESPONSES, &deferred).await.status, 200);
        let mut unbounded = deferred.clone();
        unbounded["context_management"] = json!([{"type": "compaction", "compact_threshold": 1_000}]);
        assert_eq!(server.post(&limited, RESPONSES, &unbounded).await.refusal(), (403, "model_unpriced".to_owned()));
        assert_eq!(server.post(&secret, RESPONSES, &unbounded).await.status, 200);
        let entry = server.entries(&id).await.remove(0);
        assert!(usd(&entry["cost_usd"]) >= NanoUsd::from_nano(16 * 600), "{entry}");
        assert_eq!((&entry["cost_usd"], &entry["usage_source"]), (&entry["reserved_usd"], &json!("reserved")), "{entry}");
        server.end().await;
    }
}
