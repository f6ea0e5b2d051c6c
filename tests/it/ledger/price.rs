//! Prices that change: each request is charged by those that it was admitted by.

use super::{books, model_document, read_to_end, streamed, total, usd};
use crate::support::server::{Answer, TestServer};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const MODEL: &str = "sandbox-mini+hold";

/// Sets the model's price to so many times its own, from a time on.
async fn set(server: &TestServer, model: &str, times: u64, effective_from: Value) -> Answer {
    let mut document = model_document(model);
    for price in document["prices"].as_object_mut().unwrap().values_mut() {
        *price = json!(usd(price).times(times));
    }
    document["effective_from"] = effective_from;
    let put =
        server.admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{model}"), Some(&document)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
    put
}

on_both! {
    async fn a_stream_in_flight_is_charged_by_the_price_that_admitted_it(test: TestStore) {
        let server = TestServer::start(test).await;
        set(&server, MODEL, 1, Value::Null).await;
        let (id, secret) = server.mint(total("1")).await;
        let request = server.proxied(&secret, "/v1/chat/completions", streamed(MODEL).to_string());
        let change = async {
            while server.sandbox.bill().held == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            set(&server, MODEL, 7, Value::Null).await;
            server.sandbox.release();
        };
        let (response, ()) = tokio::join!(server.send(request), change);
        assert!(read_to_end(response).await.1);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((usd(&entry["cost_usd"]), &entry["price_version"]), (server.sandbox.bill().cost_usd, &json!("override@1")));
        assert_eq!(books(&server, &id).await, (usd(&entry["cost_usd"]), NanoUsd::ZERO));
        server.end().await;
    }

    async fn a_price_of_the_future_leaves_the_present_one_in_force(test: TestStore) {
        let server = TestServer::start(test).await;
        let model = "sandbox-mini+tokens=20";
        set(&server, model, 3, Value::Null).await;
        set(&server, model, 7, json!("2100-01-01T00:00:00Z")).await;
        set(&server, "sandbox-large", 9, json!("2100-01-01T00:00:00Z")).await;
        let (id, secret) = server.mint(total("1")).await;
        for (model, times, version) in [(model, 3, "override@1"), ("sandbox-large", 1, "catalog@2026-01-01")] {
            server.sandbox.reset();
            assert_eq!(server.chat(&secret, model).await.status, 200);
            let entry = server.entries(&id).await.pop().unwrap();
            let billed = server.sandbox.bill().cost_usd.times(times);
            assert_eq!((usd(&entry["cost_usd"]), &entry["price_version"]), (billed, &json!(version)), "{model}");
        }
        server.end().await;
    }
}
