//! Alerts of budgets, and the webhook that is told of them and of alarms: over whole servers and the real program, with a
//! receiver that checks what it gets by itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod config;
mod delivery;
mod kills;
mod outbox;
mod shares;

use crate::support::receiver::Receiver;
use crate::support::server::TestServer;
use crate::support::store::TestStore;
use bitting::base::{Clock, NanoUsd};
use bitting::store::notice::{self, NoticesState};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// A model of the sandbox of which each request costs five cents, no more and no less.
const MODEL: &str = "sandbox-mini";

fn five_cents() -> Value {
    json!({
        "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
        "prices": {"input_per_mtok_usd": "0", "output_per_mtok_usd": "0", "per_request_usd": "0.05"},
    })
}

fn start_of_time() -> Clock {
    Clock::manual("2026-11-22T16:00:00Z".parse().unwrap())
}

/// A server with a clock that is moved by hand, and a webhook.
async fn server_with(test: TestStore, receiver: &Receiver) -> TestServer {
    let environment = receiver.environment();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    server_by(test, start_of_time(), &environment).await
}

async fn server_by(test: TestStore, clock: Clock, environment: &[(&str, &str)]) -> TestServer {
    let server = TestServer::start_with(test, clock, environment).await;
    let path = format!("/api/v1/models/sandbox/{MODEL}");
    let put = server.admin_call(Method::PUT, &path, Some(&five_cents())).await;
    assert!(put.status.is_success(), "{:?}", put.json());
    server
}

fn budget(limit: &str, window: &str, shares: &[&str]) -> Value {
    json!({"budgets": [{"limit_usd": limit, "window": window, "alert_at": shares}]})
}

/// Spends five cents.
async fn spend(server: &TestServer, secret: &str) {
    let answer = server.chat(secret, MODEL).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

/// Changes budgets.
async fn patch(server: &TestServer, id: &str, budgets: &Value) {
    let changed = server.admin_call(Method::PATCH, &format!("/api/v1/subkeys/{id}"), Some(budgets)).await;
    assert_eq!(changed.status, 200, "{:?}", changed.json());
}

/// The alerts in the admin log, oldest first.
async fn alerts(server: &TestServer) -> Vec<Value> {
    let log = server.admin_get("/api/v1/admin-log?action=budget.alert&limit=1000").await.json();
    log["items"].as_array().unwrap().iter().rev().cloned().collect()
}

/// Share and cap of each alert, oldest first.
async fn told(server: &TestServer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of = |alert: Value| (text(&alert["detail"]["share"]), text(&alert["detail"]["limit_usd"]));
    alerts(server).await.into_iter().map(of).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(share, limit)| ((*share).to_owned(), (*limit).to_owned())).collect()
}

async fn state(server: &TestServer) -> NoticesState {
    notice::state(&mut server.services.store.read().await.unwrap().conn()).await.unwrap()
}

/// The outbox once it is as wanted.
async fn state_once(server: &TestServer, wanted: impl Fn(&NoticesState) -> bool) -> NoticesState {
    for _ in 0..400 {
        let state = state(server).await;
        if wanted(&state) {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the outbox is not as wanted after ten seconds: {:?}", state(server).await);
}

fn usd(text: &str) -> NanoUsd {
    text.parse().unwrap()
}
