//! Clients that leave before their answer ends.

use super::{books, entries_once, list_model, streamed, total, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use http_body_util::BodyExt;
use serde_json::json;
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

on_both! {
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
