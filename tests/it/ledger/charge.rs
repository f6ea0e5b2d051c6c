//! What each event is charged: one entry each, with the outcome and by what the cost is known.

use super::{books, list_model, read_to_end, streamed, total, usd};
use crate::support::server::{Answer, TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use serde_json::{Value, json};

/// What came of one chat with a fresh key, alone on the sandbox's bill.
struct Seen {
    answer: Answer,
    entry: Value,
    billed: NanoUsd,
}

impl Seen {
    fn cost(&self) -> NanoUsd {
        usd(&self.entry["cost_usd"])
    }

    fn reserved(&self) -> NanoUsd {
        usd(&self.entry["reserved_usd"])
    }

    /// Status, outcome and source.
    fn told(&self) -> (u16, &str, &str) {
        let text = |name: &str| self.entry[name].as_str().unwrap_or("null");
        (self.answer.status.as_u16(), text("outcome"), text("usage_source"))
    }
}

async fn see(server: &TestServer, model: &str) -> Seen {
    list_model(server, "sandbox", model).await;
    let (id, secret) = server.mint(total("1")).await;
    server.sandbox.reset();
    let answer = server.chat(&secret, model).await;
    let entries = server.entries(&id).await;
    assert_eq!(entries.len(), 1, "{model}: {entries:?}");
    let entry = entries.into_iter().next().unwrap();
    assert_eq!(books(server, &id).await, (usd(&entry["cost_usd"]), NanoUsd::ZERO), "{model}");
    assert!(server.sandbox.bill().requests <= 1, "{model}: nothing is retried");
    assert_eq!(entry["status"], json!(answer.status.as_u16()), "{model}");
    Seen { answer, entry, billed: server.sandbox.bill().cost_usd }
}

async fn see_stream(server: &TestServer, model: &str) -> (String, bool, Value) {
    list_model(server, "sandbox", model).await;
    let (id, secret) = server.mint(total("1")).await;
    server.sandbox.reset();
    let response =
        server.send(server.proxied(&secret, "/v1/chat/completions", streamed(model).to_string())).await;
    assert_eq!(response.status(), 200, "{model}");
    let (text, clean) = read_to_end(response).await;
    let mut entries = server.entries(&id).await;
    assert_eq!(entries.len(), 1, "{model}");
    let entry = entries.remove(0);
    assert_eq!(books(server, &id).await, (usd(&entry["cost_usd"]), NanoUsd::ZERO), "{model}");
    assert!(usd(&entry["cost_usd"]) >= server.sandbox.bill().cost_usd, "{model}: {entry}");
    assert!(usd(&entry["cost_usd"]) <= usd(&entry["reserved_usd"]), "{model}: {entry}");
    (text, clean, entry)
}

on_both! {
    async fn a_refusal_before_generation_costs_nothing(test: TestStore) {
        let server = TestServer::start(test).await;
        for status in [400, 404, 422, 429, 529] {
            let seen = see(&server, &format!("sandbox-mini+status={status}")).await;
            let outcome = if status == 529 { "upstream_failed" } else { "completed" };
            assert_eq!(seen.told(), (status, outcome, "none"), "{:?}", seen.entry);
            assert_eq!((seen.cost(), seen.billed), (NanoUsd::ZERO, NanoUsd::ZERO));
        }
        server.end().await;
    }

    async fn what_the_provider_may_have_billed_without_saying_is_never_free(test: TestStore) {
        let server = TestServer::start(test).await;
        for status in [500, 503] {
            let seen = see(&server, &format!("sandbox-mini+status={status}")).await;
            assert_eq!(seen.told(), (status, "upstream_failed", "estimated"));
            assert!(seen.cost() >= seen.billed && seen.cost() > NanoUsd::ZERO);
        }
        let seen = see(&server, "sandbox-mini+close").await;
        assert_eq!(seen.told(), (502, "upstream_failed", "reserved"));
        assert_eq!(seen.answer.refusal().1, "upstream_error");
        assert_eq!((seen.cost(), seen.answer.header("x-should-retry")), (seen.reserved(), Some("false")));
        for model in ["sandbox-mini+no_usage", "sandbox-mini+no_usage,tokens=9"] {
            let seen = see(&server, model).await;
            assert_eq!(seen.told(), (200, "completed", "estimated"));
            assert!(seen.cost() >= seen.billed && seen.cost() <= seen.reserved(), "{:?}", seen.entry);
        }
        for (model, source) in [("sandbox-mini+malformed", "estimated"), ("sandbox-mini+cut=0", "reserved")] {
            let seen = see(&server, model).await;
            assert_eq!(seen.entry["usage_source"], source, "{model}: {:?}", seen.entry);
            assert!(seen.cost() >= seen.billed && seen.cost() <= seen.reserved(), "{model}: {:?} {}", seen.entry, seen.billed);
        }
        server.end().await;
    }

    async fn what_an_error_says_was_used_is_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        for (status, seen_as) in [(400, 400), (429, 429), (500, 500), (529, 529), (403, 502)] {
            let seen = see(&server, &format!("sandbox-mini+status={status},error_usage,tokens=9")).await;
            assert_eq!((seen.told().0, seen.told().2), (seen_as, "reported"), "{:?}", seen.entry);
            assert!(seen.billed > NanoUsd::ZERO);
            assert_eq!(seen.cost(), seen.billed, "{:?}", seen.entry);
        }
        let seen = see(&server, "sandbox-mini+status=400,error_usage,cost=20123").await;
        assert_eq!(seen.cost(), NanoUsd::from_nano(20_123));
        server.end().await;
    }

    async fn p3_usage_that_a_broken_stream_told_is_the_least_that_it_costs(test: TestStore) {
        let server = TestServer::start(test).await;
        // Everything but the last event, of two candidates: nobody sees what they reasoned, and the catalog does not know.
        let model = "sandbox-mini+tokens=1,hidden_reasoning=900,cut=7";
        list_model(&server, "sandbox", model).await;
        let (id, secret) = server.mint(total("1")).await;
        let mut body = streamed(model);
        (body["n"], body["max_tokens"]) = (json!(2), json!(1_000));
        let response = server.send(server.proxied(&secret, "/v1/chat/completions", body.to_string())).await;
        assert!(!read_to_end(response).await.1);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!(entry["outcome"], "upstream_failed", "{entry}");
        assert_eq!((usd(&entry["cost_usd"]), &entry["usage_source"]), (server.sandbox.bill().cost_usd, &json!("reported")), "{entry}");
        server.end().await;
    }

    async fn p3_a_stream_that_tells_of_more_than_is_held_for_it_is_cut(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-mini+usage_times=1000,gap=5,tokens=50";
        list_model(&server, "sandbox", model).await;
        let (id, secret) = server.mint(total("1")).await;
        let response = server.send(server.proxied(&secret, "/v1/messages", streamed(model).to_string())).await;
        let (text, is_clean) = read_to_end(response).await;
        assert!(!is_clean && !text.contains("message_stop") && text.contains("budget_exceeded"), "{text}");
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("cut"), &json!("budget_exceeded")), "{entry}");
        server.end().await;
    }

    async fn no_first_byte_in_time_is_charged_in_full(test: TestStore) {
        let server = TestServer::start(test).await;
        let patch = json!({"timeouts": {"first_byte_ms": 200}});
        let patched = server.admin_call(http::Method::PATCH, "/api/v1/providers/sandbox", Some(&patch)).await;
        assert_eq!(patched.status, 200, "{:?}", patched.json());
        let seen = see(&server, "sandbox-mini+hold").await;
        assert_eq!(seen.told(), (504, "upstream_failed", "reserved"));
        assert_eq!(seen.answer.refusal().1, "upstream_timeout");
        assert_eq!((seen.cost(), seen.answer.header("x-should-retry")), (seen.reserved(), Some("false")));
        server.end().await;
    }

    async fn reported_usage_is_charged_as_it_is_and_an_impossible_one_within_bounds(test: TestStore) {
        let server = TestServer::start(test).await;
        let seen = see(&server, "sandbox-mini+tokens=9,cached=2").await;
        assert_eq!(seen.told(), (200, "completed", "reported"));
        assert_eq!((seen.cost(), &seen.entry["output_tokens"]), (seen.billed, &json!(9)));
        let seen = see(&server, "sandbox-mini+usage_times=10").await;
        assert_eq!(seen.told(), (200, "completed", "reported"));
        assert_eq!(seen.cost(), seen.billed.times(10));
        let seen = see(&server, "sandbox-mini+usage_times=1000").await;
        assert!(seen.cost() > seen.reserved(), "actual, although it is above the reservation: {:?}", seen.entry);
        let seen = see(&server, "sandbox-mini+negative_usage").await;
        assert_eq!(seen.answer.status, 200);
        assert!(seen.cost() >= seen.billed && seen.cost() <= seen.reserved(), "{:?}", seen.entry);
        server.end().await;
    }

    async fn a_stream_that_the_provider_breaks_never_ends_cleanly(test: TestStore) {
        let server = TestServer::start(test).await;
        for model in ["sandbox-mini+cut=1", "sandbox-mini+cut=3", "sandbox-mini+cut=3,no_usage"] {
            let (text, clean, entry) = see_stream(&server, model).await;
            assert!(!clean && !text.contains("[DONE]"), "{model}: {text}");
            assert!(text.contains("upstream_error"), "{model}: {text}");
            assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("upstream_failed"), &json!("estimated")), "{model}");
        }
        let (_, _, entry) = see_stream(&server, "sandbox-mini+malformed").await;
        assert_ne!(entry["cost_usd"], "0.00", "{entry}");
        let (text, clean, entry) = see_stream(&server, "sandbox-mini+no_usage").await;
        assert!(clean && text.ends_with("data: [DONE]\n\n"), "{text}");
        assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("completed"), &json!("estimated")));
        server.end().await;
    }

    async fn p3_a_stream_that_passes_what_is_held_for_it_is_cut(test: TestStore) {
        let server = TestServer::start(test).await;
        let (text, clean, entry) = see_stream(&server, "sandbox-mini+huge_event=100000").await;
        assert!(!clean && !text.contains("[DONE]") && text.contains("budget_exceeded"), "{}", text.len());
        assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("cut"), &json!("budget_exceeded")));
        server.end().await;
    }

    async fn nothing_sent_is_nothing_charged_and_may_be_tried_again(test: TestStore) {
        let server = TestServer::start(test).await;
        let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", unused.local_addr().unwrap());
        drop(unused);
        let limits = json!([{"metric": "requests", "limit": 10, "per": "day"}, {"metric": "tokens", "limit": 100_000, "per": "day"}]);
        let provider = json!({"slug": "nowhere", "dialects": {"openai": url}, "rate_limits": limits});
        let made = server.admin_post("/api/v1/providers", &provider).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let team = json!({"slug": "team", "rate_limits": limits});
        assert_eq!(server.admin_post("/api/v1/projects", &team).await.status, 201);
        let key = json!({"name": "main", "secret": "nobody-listens-5f8b2c91d7e64a03", "rate_limits": limits});
        assert_eq!(server.admin_post("/api/v1/providers/nowhere/credentials", &key).await.status, 201);
        list_model(&server, "nowhere", "m").await;
        let budget = json!([{"limit_usd": "1", "window": "total"}]);
        let key = json!({"models": ["nowhere/*"], "project": "team", "budgets": budget, "rate_limits": limits});
        let (id, secret) = server.mint(key).await;
        let answer = server.post(&secret, "/v1/chat/completions", &chat("nowhere/m")).await;
        assert_eq!(answer.refusal(), (502, "upstream_error".to_owned()));
        assert_ne!(answer.header("x-should-retry"), Some("false"));
        let entries = server.entries(&id).await;
        assert_eq!((entries.len(), &entries[0]["cost_usd"], &entries[0]["outcome"]), (1, &json!("0.00"), &json!("upstream_failed")));
        assert_eq!(books(&server, &id).await, (NanoUsd::ZERO, NanoUsd::ZERO));
        // Nothing of it counts for anybody, but as a request of the key that asked.
        let question = json!({"operation": "chat", "model": "nowhere/m", "max_output_tokens": 16});
        let explained = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await.json();
        let steps = explained["trace"].as_array().unwrap().iter();
        let rates: Vec<(&str, &str)> = steps
            .map(|step| (step["rule"].as_str().unwrap(), step["value"].as_str().unwrap()))
            .filter(|(rule, _)| rule.contains("rate_limits/"))
            .collect();
        assert_eq!(rates.len(), 8, "{explained}");
        for (rule, value) in rates {
            let left = match rule {
                "rate_limits/requests/day" => "of 9 left of 10",
                _ if rule.contains("requests") => "of 10 left of 10",
                _ => "of 100000 left of 100000",
            };
            assert!(value.contains(left), "{rule}: {value}");
        }
        server.end().await;
    }

    async fn a_redirect_is_not_followed(test: TestStore) {
        let server = TestServer::start(test).await;
        let seen = see(&server, "sandbox-mini+redirect").await;
        assert_eq!(seen.answer.refusal(), (502, "upstream_error".to_owned()));
        assert_eq!((seen.answer.header("location"), server.sandbox.bill().requests), (None, 1));
        assert_eq!((seen.cost(), seen.billed), (NanoUsd::ZERO, NanoUsd::ZERO));
        server.end().await;
    }
}
