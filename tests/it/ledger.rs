//! Promises about money, records and revocation, from outside: over whole servers and over the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agents;
mod alarms;
mod books;
mod bound;
mod cap;
mod caps;
mod charge;
mod clamp;
mod clock;
mod crash;
mod database;
mod deferred;
mod drain;
mod hang_up;
mod hot;
mod kills;
mod lease;
mod left;
mod meanwhile;
mod media;
mod modifier;
mod objects;
mod power;
mod price;
mod projects;
mod release;
mod reseller;
mod silent;
mod uncapped;
mod usage;
mod waiting;

use crate::support::server::TestServer;
use bitting::base::NanoUsd;
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::time::Duration;

/// What `sandbox-mini` costs, or `sandbox-large`.
fn model_document(name: &str) -> Value {
    let (input, cached, output) =
        if name.starts_with("sandbox-large") { ("2.5", "1.25", "10") } else { ("0.15", "0.075", "0.6") };
    json!({
        "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
        "prices": {"input_per_mtok_usd": input, "cached_input_per_mtok_usd": cached, "output_per_mtok_usd": output},
    })
}

/// Puts a model of the sandbox with directives in its name into the catalog.
async fn list_model(server: &TestServer, provider: &str, name: &str) {
    let path = format!("/api/v1/models/{provider}/{name}");
    let put = server.admin_call(Method::PUT, &path, Some(&model_document(name))).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

/// Amounts in the log and in answers.
fn usd(value: &Value) -> NanoUsd {
    value.as_str().unwrap_or_else(|| panic!("{value} is no amount")).parse().unwrap()
}

/// The first budget of a sub-key: what is spent and what is held.
async fn books(server: &TestServer, id: &str) -> (NanoUsd, NanoUsd) {
    let key = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
    (usd(&key["budgets"][0]["spent_usd"]), usd(&key["budgets"][0]["held_usd"]))
}

/// A budget for ever: no test crosses the end of its window.
fn total(limit: &str) -> Value {
    json!({"budgets": [{"limit_usd": limit, "window": "total"}]})
}

/// The entries of a sub-key once there are so many. What no answer waits for is written a little later.
async fn entries_once(server: &TestServer, id: &str, count: usize) -> Vec<Value> {
    for _ in 0..200 {
        let entries = server.entries(id).await;
        if entries.len() >= count {
            assert_eq!(entries.len(), count, "{entries:?}");
            return entries;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{count} entries were not written in five seconds");
}

/// Reads a body until its end; whether it was a clean one.
async fn read_to_end(response: Response<Incoming>) -> (String, bool) {
    let (mut body, mut text) = (response.into_body(), String::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default())),
            Err(_) => return (text, false),
        }
    }
    (text, true)
}

/// A streamed chat.
fn streamed(model: &str) -> Value {
    let mut chat = crate::support::server::chat(model);
    chat["stream"] = json!(true);
    chat
}
