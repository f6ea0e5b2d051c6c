//! Clients that leave before their answer ends.

use super::{books, entries_once, list_model, read_to_end, streamed, total, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Waits until nothing is in flight at the sandbox; says how long that took.
async fn until_idle(server: &TestServer) -> Duration {
    let began = Instant::now();
    while server.sandbox.bill().in_flight > 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the provider still works");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

/// A connection of its own, so that leaving it is hanging up.
async fn hang_up_after_first_byte(server: &TestServer, secret: &str, model: &str) {
    let response =
        server.send(server.proxied(secret, "/v1/chat/completions", streamed(model).to_string())).await;
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
}

/// Asks again and again for a stream, and leaves it once it has `last`, until the cap refuses. What the sandbox billed
/// never passes what is spent, and that never the cap.
async fn leave_until_refused(server: &TestServer, cap: &str, path: &str, body: &Value, last: &str) {
    let (id, secret) = server.mint(total(cap)).await;
    server.sandbox.reset();
    let what = format!("{} after {last}", body["model"]);
    let mut left = 0;
    let refused = loop {
        let response = server.send(server.proxied(&secret, path, body.to_string())).await;
        match response.status().as_u16() {
            200 => left += 1,
            402 => break read_to_end(response).await.0,
            // What was left is being settled.
            429 => continue,
            other => panic!("{what}: {other}"),
        }
        let (mut body, mut text) = (response.into_body(), String::new());
        while !text.contains(last) {
            let Some(Ok(frame)) = body.frame().await else { break };
            text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
        }
        drop(body);
        until_idle(server).await;
    };
    assert!(
        left > 2 && refused.contains("USD left"),
        "{what}: {left}: {refused}: {:?}",
        server.entries(&id).await
    );
    let spent = loop {
        let (spent, held) = books(server, &id).await;
        if held == NanoUsd::ZERO {
            break spent;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let billed = server.sandbox.bill().cost_usd;
    assert!(
        billed <= spent && spent <= cap.parse().unwrap(),
        "{what}: billed {billed}, spent {spent}, {left} times"
    );
}

/// A model that reasons, and a long answer of it.
async fn list_reasoning(server: &TestServer, name: &str) {
    let document = json!({
        "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384, "capabilities": ["reasoning"],
        "bound_covers_reasoning": true,
        "prices": {"input_per_mtok_usd": "1.1", "cached_input_per_mtok_usd": "0.55", "output_per_mtok_usd": "4.4"},
    });
    let put =
        server.admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{name}"), Some(&document)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

fn bounded(model: &str, max_tokens: u64) -> Value {
    let mut body = streamed(model);
    body["max_tokens"] = json!(max_tokens);
    body
}

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

on_both! {
    async fn p3_whoever_hangs_up_again_and_again_stays_below_the_cap(test: TestStore) {
        let server = TestServer::start(test).await;
        let (paced, rushed, long) =
            ("sandbox-large+gap=3,tokens=20", "sandbox-large+tokens=1000", "sandbox-large+tokens=16000");
        for model in [paced, rushed, long] {
            list_model(&server, "sandbox", model).await;
        }
        let (first, finish) = ("data: {", "\"finish_reason\":\"");
        leave_until_refused(&server, "0.003", CHAT, &bounded(paced, 20), first).await;
        leave_until_refused(&server, "0.003", CHAT, &bounded(paced, 20), finish).await;
        // What the provider sends ahead of who reads it is billed as well.
        leave_until_refused(&server, "1", CHAT, &bounded(long, 16_000), first).await;
        leave_until_refused(&server, "0.05", CHAT, &bounded(rushed, 1_000), finish).await;
        leave_until_refused(&server, "0.05", MESSAGES, &bounded(rushed, 1_000), "content_block_delta").await;
        server.end().await;
    }

    async fn p3_whoever_hangs_up_on_a_model_that_reasons_unseen_stays_below_the_cap(test: TestStore) {
        let server = TestServer::start(test).await;
        let (paced, rushed) = (
            "sandbox-reasoning+gap=3,tokens=20,hidden_reasoning=4000",
            "sandbox-reasoning+tokens=1000,hidden_reasoning=4000",
        );
        for model in [paced, rushed] {
            list_reasoning(&server, model).await;
        }
        for last in ["data: {", "\"finish_reason\":\""] {
            leave_until_refused(&server, "1", CHAT, &bounded(paced, 5_000), last).await;
        }
        leave_until_refused(&server, "1", CHAT, &bounded(rushed, 5_000), "data: {").await;
        server.end().await;
    }

    async fn sound_that_nobody_heard_is_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-rates+gap=30,tokens=40,audio_output=1500";
        let document = json!({
            "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384, "capabilities": ["audio"],
            "prices": {"input_per_mtok_usd": "1", "cache_write_per_mtok_usd": "2", "output_per_mtok_usd": "5", "reasoning_per_mtok_usd": "7",
                "audio_input_per_mtok_usd": "3", "audio_output_per_mtok_usd": "12", "per_request_usd": "0.0001"},
        });
        let put = server.admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{model}"), Some(&document)).await;
        assert!(put.status.is_success(), "{:?}", put.json());
        let (id, secret) = server.mint(total("1")).await;
        let mut body = bounded(model, 2_000);
        body["modalities"] = json!(["text", "audio"]);
        body["audio"] = json!({"voice": "alloy", "format": "pcm16"});
        let response = server.send(server.proxied(&secret, CHAT, body.to_string())).await;
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        until_idle(&server).await;
        let entry = entries_once(&server, &id, 1).await.remove(0);
        let (cost, billed) = (usd(&entry["cost_usd"]), server.sandbox.bill().cost_usd);
        assert!(billed <= cost && cost <= usd(&entry["reserved_usd"]), "billed {billed}: {entry}");
        server.end().await;
    }

    async fn who_leaves_once_the_usage_is_told_is_charged_that(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-reasoning+gap=100,tokens=3,hidden_reasoning=200";
        list_reasoning(&server, model).await;
        for (path, last) in [(CHAT, "\"usage\":{"), (MESSAGES, "event: message_delta")] {
            let (id, secret) = server.mint(total("1")).await;
            server.sandbox.reset();
            let mut body = bounded(model, 5_000);
            if path == CHAT {
                body["stream_options"] = json!({"include_usage": true});
            }
            let response = server.send(server.proxied(&secret, path, body.to_string())).await;
            assert_eq!(response.status(), 200);
            let (mut body, mut text) = (response.into_body(), String::new());
            while !text.contains(last) || !text.ends_with("\n\n") {
                text.push_str(&String::from_utf8_lossy(&body.frame().await.unwrap().unwrap().into_data().unwrap()));
            }
            drop(body);
            until_idle(&server).await;
            let entry = entries_once(&server, &id, 1).await.remove(0);
            assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("client_gone"), &json!("reported")), "{path}: {entry}");
            assert_eq!(usd(&entry["cost_usd"]), server.sandbox.bill().cost_usd, "{path}: {entry}");
        }
        server.end().await;
    }

    async fn a_client_that_leaves_its_stream_stops_the_provider_and_is_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-mini+gap=50,tokens=400";
        list_model(&server, "sandbox", model).await;
        let (id, secret) = server.mint(total("1")).await;
        let mut long = streamed(model);
        long["max_tokens"] = json!(400);
        let response = server.send(server.proxied(&secret, "/v1/chat/completions", long.to_string())).await;
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        assert!(until_idle(&server).await < Duration::from_secs(1), "cancelled within a second");
        let entry = entries_once(&server, &id, 1).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("client_gone"), &json!("estimated")));
        let cost = usd(&entry["cost_usd"]);
        assert!(cost > NanoUsd::ZERO && cost >= server.sandbox.bill().cost_usd && cost < usd(&entry["reserved_usd"]), "{entry}");
        assert_eq!(books(&server, &id).await, (cost, NanoUsd::ZERO));
        server.end().await;
    }

    async fn a_provider_that_bills_on_is_heard_to_the_end(test: TestStore) {
        let server = TestServer::start(test).await;
        let patch = json!({"on_client_gone": "drain"});
        assert_eq!(server.admin_call(Method::PATCH, "/api/v1/providers/sandbox", Some(&patch)).await.status, 200);
        let model = "sandbox-mini+gap=20,drain";
        list_model(&server, "sandbox", model).await;
        let (id, secret) = server.mint(total("1")).await;
        hang_up_after_first_byte(&server, &secret, model).await;
        until_idle(&server).await;
        let entry = entries_once(&server, &id, 1).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("client_gone"), &json!("reported")), "{entry}");
        assert_eq!(usd(&entry["cost_usd"]), server.sandbox.bill().cost_usd);
        server.end().await;
    }

    async fn a_client_that_leaves_before_its_whole_answer_is_charged_what_it_cost(test: TestStore) {
        let server = TestServer::start(test).await;
        // Time enough for the server to notice that the client has left.
        let model = "sandbox-mini+delay=500";
        list_model(&server, "sandbox", model).await;
        let (id, secret) = server.mint(total("1")).await;
        let request = server.proxied(&secret, "/v1/chat/completions", chat(model).to_string());
        let arrived = async {
            while server.sandbox.bill().in_flight == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = server.call(request) => panic!("it was delayed"),
            () = arrived => {}
        }
        let entry = entries_once(&server, &id, 1).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("client_gone"), &json!("reported")), "{entry}");
        assert_eq!(usd(&entry["cost_usd"]), server.sandbox.bill().cost_usd);
        assert_eq!(books(&server, &id).await, (usd(&entry["cost_usd"]), NanoUsd::ZERO));
        server.end().await;
    }
}
