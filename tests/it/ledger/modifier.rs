//! What modifies a price: service tier, speed, region, classes of tokens, calls of hosted tools. Charged to the
//! nano-USD as the provider bills.

use super::{books, read_to_end, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use serde_json::{Value, json};

/// Puts `sandbox-rates` with directives into the catalog, at the prices that the catalog lists for it.
async fn list_rates(server: &TestServer, model: &str) {
    let listed = server.admin_get("/api/v1/models?limit=1000").await.json();
    let listed = listed["items"].as_array().unwrap();
    let known = listed.iter().find(|known| known["model"] == "sandbox-rates").unwrap();
    let mut document = known.clone();
    let facts = [
        "operations",
        "aliases",
        "capabilities",
        "context_window",
        "max_output_tokens",
        "max_image_tokens",
        "picture_tokens",
        "max_input_seconds",
        "bound_covers_reasoning",
        "prices",
    ];
    document.as_object_mut().unwrap().retain(|field, _| facts.contains(&field.as_str()));
    let path = format!("/api/v1/models/sandbox/{model}");
    let put = server.admin_call(Method::PUT, &path, Some(&document)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

/// A key that may do what is priced here.
fn liberal(limit: &str) -> Value {
    json!({
        "budgets": [{"limit_usd": limit, "window": "total"}], "hosted_tools": ["*"],
        "service_tiers": ["auto", "default", "flex", "priority", "standard_only", "turbo"],
    })
}

fn with(mut body: Value, more: &Value) -> Value {
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

/// Sends one request with a fresh key; its entry, and what the sandbox billed.
async fn see(server: &TestServer, path: &str, model: &str, more: &Value) -> (Value, NanoUsd) {
    list_rates(server, model).await;
    let (id, secret) = server.mint(liberal("20")).await;
    server.sandbox.reset();
    let answer = server.post(&secret, path, &with(chat(model), more)).await;
    assert_eq!(answer.status, 200, "{model} {more}: {:?}", answer.json());
    let entry = server.entries(&id).await.remove(0);
    assert_eq!(books(server, &id).await, (usd(&entry["cost_usd"]), NanoUsd::ZERO), "{model} {more}");
    assert_eq!(entry["usage_source"], "reported", "{model} {more}");
    (entry, server.sandbox.bill().cost_usd)
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

on_both! {
    async fn a_request_is_charged_in_the_circumstances_that_its_answer_reports(test: TestStore) {
        let server = TestServer::start(test).await;
        // Chat completions do not report a region: it is charged as the dearest, which is where the sandbox runs here.
        for (path, model, more) in [
            (CHAT, "sandbox-rates+serve_us", json!({"service_tier": "default"})),
            (CHAT, "sandbox-rates+serve_us", json!({"service_tier": "priority"})),
            (CHAT, "sandbox-rates+serve_us", json!({"service_tier": "flex"})),
            (CHAT, "sandbox-rates+serve_us,serve_priority", json!({"service_tier": "auto"})),
            (CHAT, "sandbox-rates+serve_us,serve_priority", json!({})),
            (CHAT, "sandbox-rates+serve_us,serve_default", json!({"service_tier": "priority"})),
            (CHAT, "sandbox-rates+serve_us,unknown_tier", json!({"service_tier": "priority"})),
            (CHAT, "sandbox-rates+serve_us,unreported_tier", json!({"service_tier": "priority"})),
            (MESSAGES, "sandbox-rates", json!({"inference_geo": "global"})),
            (MESSAGES, "sandbox-rates", json!({"speed": "fast", "inference_geo": "us"})),
            (MESSAGES, "sandbox-rates+serve_us", json!({"speed": "fast"})),
            (MESSAGES, "sandbox-rates+serve_us,serve_default", json!({"speed": "fast"})),
        ] {
            let (entry, billed) = see(&server, path, model, &more).await;
            assert_eq!(usd(&entry["cost_usd"]), billed, "{model} {more}: {entry}");
            assert!(usd(&entry["reserved_usd"]) >= billed, "{model} {more}: {entry}");
        }
        let unknown = "sandbox/sandbox-rates+serve_us,unknown_tier";
        let alarm = server.alarm_about("factor_unknown", unknown).await;
        assert_eq!(alarm["detail"]["field"], "service_tier");
        let told = server.alarms_once("factor_unknown").await;
        assert_eq!(told.len(), 1, "every other has a factor, or reports none: {told:?}");
        server.end().await;
    }

    async fn what_is_not_reported_is_charged_at_the_dearest_it_can_be(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, billed) = see(&server, MESSAGES, "sandbox-rates", &json!({"inference_geo": "global"})).await;
        let (entry, _) = see(&server, MESSAGES, "sandbox-rates", &json!({})).await;
        let tokens = billed.checked_sub("0.0001".parse().unwrap()).unwrap();
        let dearest = NanoUsd::from_nano(tokens.as_nano() * 11 / 10 + 100_000);
        assert_eq!(usd(&entry["cost_usd"]), dearest, "the tier is told, the region is not: {entry}");
        server.end().await;
    }

    async fn p3_a_modifier_without_a_price_is_refused_under_a_cap_and_passes_without(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, capped) = server.mint(liberal("20")).await;
        let mut definition = liberal("20");
        definition["budgets"] = json!([]);
        let (_, free) = server.mint(definition).await;
        let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
        for (path, model, more, named) in [
            (CHAT, "sandbox-mini", json!({"service_tier": "priority"}), "service_tier"),
            (CHAT, "sandbox-rates", json!({"service_tier": "turbo"}), "service_tier"),
            (MESSAGES, "sandbox-mini", json!({"speed": "fast"}), "speed"),
            (MESSAGES, "sandbox-rates", json!({"inference_geo": "eu"}), "inference_geo"),
            (MESSAGES, "sandbox-rates", json!({"tools": search}), "web_search"),
            (CHAT, "sandbox-mini", json!({"modalities": ["text", "audio"]}), "modalities"),
        ] {
            let body = with(chat(model), &more);
            let refused = server.post(&capped, path, &body).await;
            assert_eq!(refused.refusal(), (403, "feature_unpriced".to_owned()), "{more}");
            let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(named), "{message}");
            assert_eq!(server.post(&free, path, &body).await.status, 200, "{more}");
        }
        server.end().await;
    }

    async fn a_tier_above_the_reserved_is_charged_as_reported_and_alarmed(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-rates+serve_us,serve_priority,tokens=2000,hidden_reasoning=2000";
        list_rates(&server, model).await;
        let mut definition = liberal("20");
        definition["service_tiers"] = json!(["auto", "default"]);
        let (id, secret) = server.mint(definition).await;
        let body = with(chat(model), &json!({"max_tokens": 2000}));
        assert_eq!(server.post(&secret, CHAT, &body).await.status, 200);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!(usd(&entry["cost_usd"]), server.sandbox.bill().cost_usd, "{entry}");
        assert!(usd(&entry["cost_usd"]) > usd(&entry["reserved_usd"]), "{entry}");
        assert_eq!(server.alarms_once("bill_above_bound").await[0]["subject"], "sandbox");
        server.end().await;
    }

    async fn every_class_of_tokens_and_every_search_is_charged_as_billed(test: TestStore) {
        let server = TestServer::start(test).await;
        let long = "a text of some length, so that there is something to share out. ".repeat(40);
        let said = json!({"messages": [{"role": "user", "content": long}], "max_tokens": 500, "service_tier": "default"});
        let classes = "sandbox-rates+serve_us,cached=50,cache_write=60,audio_input=70,image_input=80,hidden_reasoning=90";
        let (entry, billed) = see(&server, CHAT, &format!("{classes},audio_output=100,image_output=110"), &said).await;
        assert_eq!(usd(&entry["cost_usd"]), billed, "{entry}");
        assert_eq!((&entry["cached_input_tokens"], &entry["cache_write_tokens"]), (&json!(50), &json!(60)));
        assert_eq!((&entry["reasoning_tokens"], &entry["output_tokens"]), (&json!(90), &json!(16 + 90 + 100 + 110)));

        let hour = json!({
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": long, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}],
            "max_tokens": 500, "service_tier": "standard_only", "inference_geo": "us", "speed": "fast",
        });
        let model = "sandbox-rates+cached=50,cache_write=60,cache_write_1h=70";
        let (entry, billed) = see(&server, MESSAGES, model, &hour).await;
        assert_eq!(usd(&entry["cost_usd"]), billed, "{entry}");
        assert_eq!(entry["cache_write_tokens"], 130);

        let search = json!({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}],
            "service_tier": "standard_only", "inference_geo": "global"});
        for searches in [0, 2, 3] {
            let (entry, billed) = see(&server, MESSAGES, &format!("sandbox-rates+searches={searches}"), &search).await;
            assert_eq!(usd(&entry["cost_usd"]), billed, "{entry}");
            assert!(usd(&entry["reserved_usd"]) >= "1.5".parse().unwrap(), "four times the window: {entry}");
        }
        server.end().await;
    }

    async fn a_streams_tier_is_read_from_its_events_and_its_usage_cuts_it(test: TestStore) {
        let server = TestServer::start(test).await;
        for (path, directives, more) in [
            (CHAT, "serve_us,cached=2", json!({"service_tier": "priority", "stream": true})),
            (MESSAGES, "cached=2", json!({"speed": "fast", "inference_geo": "us", "service_tier": "standard_only", "stream": true})),
        ] {
            let (entry, billed) = see(&server, path, &format!("sandbox-rates+{directives}"), &more).await;
            assert_eq!((usd(&entry["cost_usd"]), &entry["outcome"]), (billed, &json!("completed")), "{entry}");
        }
        let model = "sandbox-rates+usage_times=100000";
        list_rates(&server, model).await;
        let (id, secret) = server.mint(liberal("20")).await;
        let body = with(chat(model), &json!({"stream": true, "stream_options": {"include_usage": true}}));
        let (text, clean) = read_to_end(server.send(server.proxied(&secret, CHAT, body.to_string())).await).await;
        assert!(!clean && text.contains("budget_exceeded") && !text.contains("[DONE]"), "{text}");
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("cut"), &json!("reported")), "{entry}");
        assert!(usd(&entry["cost_usd"]) > usd(&entry["reserved_usd"]), "actual: {entry}");
        server.alarms_once("bill_above_bound").await;
        server.end().await;
    }
}
