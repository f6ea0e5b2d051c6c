//! Bounds on output that the key sets, defaults, clamps, and what the headers say of it.

use super::{books, total, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use serde_json::{Value, json};

/// The body that the provider got last.
fn received(server: &TestServer) -> Value {
    let received = server.sandbox.requests();
    serde_json::from_str(&received.last().unwrap().body).unwrap()
}

fn asking(max_tokens: Option<u64>) -> Value {
    let mut body = chat("sandbox-mini");
    body.as_object_mut().unwrap().remove("max_tokens");
    if let Some(max) = max_tokens {
        body["max_tokens"] = json!(max);
    }
    body
}

on_both! {
    async fn clamp_to_budget_lowers_the_bound_to_what_fits_and_says_so(test: TestStore) {
        let server = TestServer::start(test).await;
        let mut definition = total("0.001");
        let (_, refused) = server.mint(definition.clone()).await;
        definition["clamp_to_budget"] = json!(true);
        let (id, secret) = server.mint(definition).await;
        let body = asking(Some(10_000));
        assert_eq!(server.post(&refused, "/v1/chat/completions", &body).await.refusal().0, 402);
        let answer = server.post(&secret, "/v1/chat/completions", &body).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        assert_eq!(answer.header("x-bitting-changed"), Some("max_tokens"));
        let entry = server.entries(&id).await.remove(0);
        let reserved = usd(&entry["reserved_usd"]);
        assert!(reserved <= "0.001".parse().unwrap() && reserved > "0.000999".parse().unwrap(), "{entry}");
        let sent = received(&server)["max_tokens"].as_u64().unwrap();
        assert!(sent < 10_000 && sent > 1_000, "{sent}");
        let (posted, held) = books(&server, &id).await;
        assert_eq!((posted, held), (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        let remaining = "0.001".parse::<NanoUsd>().unwrap().checked_sub(posted).unwrap();
        assert_eq!(answer.header("x-bitting-budget-remaining-usd"), Some(remaining.to_string().as_str()));
        server.end().await;
    }

    async fn clamp_to_budget_refuses_when_not_one_token_fits(test: TestStore) {
        let server = TestServer::start(test).await;
        let mut definition = total("0.00001");
        definition["clamp_to_budget"] = json!(true);
        let (id, secret) = server.mint(definition).await;
        let answer = server.post(&secret, "/v1/chat/completions", &asking(Some(100))).await;
        assert_eq!(answer.refusal(), (402, "budget_exceeded".to_owned()));
        assert_eq!((server.sandbox.bill().requests, server.entries(&id).await.len()), (0, 1));
        server.end().await;
    }

    async fn a_default_bound_is_given_to_requests_that_state_none(test: TestStore) {
        let server = TestServer::start(test).await;
        let mut definition = total("1");
        definition["default_max_output_tokens"] = json!(50);
        let (id, secret) = server.mint(definition).await;
        let answer = server.post(&secret, "/v1/chat/completions", &asking(None)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let field = answer.header("x-bitting-changed").unwrap().to_owned();
        assert!(field == "max_tokens" || field == "max_completion_tokens", "{field}");
        assert_eq!(received(&server)[&field], 50);
        let answer = server.post(&secret, "/v1/chat/completions", &asking(Some(60))).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-changed")), (200, None));
        let entries = server.entries(&id).await;
        let more = usd(&entries[1]["reserved_usd"]).checked_sub(usd(&entries[0]["reserved_usd"])).unwrap();
        assert_eq!(more, NanoUsd::from_nano(10 * 600), "ten more tokens of output");
        server.end().await;
    }

    async fn a_bound_above_the_keys_is_refused_or_clamped(test: TestStore) {
        let server = TestServer::start(test).await;
        let mut definition = total("1");
        definition["max_output_tokens"] = json!(20);
        let (_, strict) = server.mint(definition.clone()).await;
        definition["clamp_output"] = json!(true);
        let (_, clamped) = server.mint(definition).await;
        for max in [Some(21), None] {
            let refused = server.post(&strict, "/v1/chat/completions", &asking(max)).await;
            assert_eq!(refused.refusal(), (403, "output_bound_exceeded".to_owned()));
            let answer = server.post(&clamped, "/v1/chat/completions", &asking(max)).await;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            let field = answer.header("x-bitting-changed").unwrap().to_owned();
            assert_eq!(received(&server)[&field], 20, "{field}");
        }
        let answer = server.post(&strict, "/v1/chat/completions", &asking(Some(20))).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-changed")), (200, None));
        server.end().await;
    }

    async fn p3_a_response_that_goes_on_is_held_for_pictures_that_nobody_sees_in_it(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-mini+tokens=3";
        let list = async |more: &Value| {
            let prices = json!({"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"});
            let mut document = json!({"operations": ["responses"], "context_window": 1_000, "max_output_tokens": 16, "prices": prices});
            document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let path = format!("/api/v1/models/sandbox/{model}");
            let put = server.admin_call(http::Method::PUT, &path, Some(&document)).await;
            assert!(put.status.is_success(), "{:?}", put.json());
        };
        let (id, secret) = server.mint(total("1")).await;
        let held = async |previous: &Value| {
            let body = json!({"model": model, "input": "hello", "previous_response_id": previous});
            let answer = server.post(&secret, "/v1/responses", &body).await;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            let entry = server.entries(&id).await.pop().unwrap();
            (answer.json()["id"].clone(), usd(&entry["reserved_usd"]))
        };
        list(&json!({})).await;
        let (first, _) = held(&Value::Null).await;
        assert_eq!(held(&first).await.1, NanoUsd::from_nano(1_016_000), "the window, and the output");
        list(&json!({"image_window_factor": 34, "max_image_tokens": 48_169})).await;
        assert!(held(&Value::Null).await.1 < NanoUsd::from_nano(1_016_000));
        assert_eq!(held(&first).await.1, NanoUsd::from_nano(34_016_000));
        server.end().await;
    }
}
