//! Rates and concurrency: exact waits, and places that come back.

use super::{assert_refusal, kind, spoken, still_server};
use crate::support::server::{TestServer, chat};
use crate::support::store::TestStore;
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::sync::Arc;

#[tokio::test]
async fn a_used_up_rate_says_exactly_how_long_to_wait() {
    let server = still_server(&[]).await;
    let (id, secret) =
        server.mint(json!({"rate_limits": [{"metric": "requests", "limit": 2, "per": "minute"}]})).await;
    let into_minute = server.clock.now().timestamp() % 60;
    server.clock.advance(TimeDelta::seconds(60 - into_minute) + TimeDelta::milliseconds(17_250));
    for _ in 0..2 {
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    }
    for (dialect, path, body) in [
        ("openai", "/v1/chat/completions", chat("sandbox-mini")),
        ("anthropic", "/v1/messages", chat("sandbox-mini")),
        ("gemini", "/v1beta/models", Value::Null),
    ] {
        let answer = server.call(spoken(&server, dialect, &secret, path, &body)).await;
        assert_refusal(
            &answer,
            dialect,
            429,
            kind(dialect, 429, "rate_limit_error"),
            "rate_limit_exceeded",
            dialect,
        );
        assert_eq!(answer.header("retry-after"), Some("43"), "rounded up");
        assert_eq!(answer.header("retry-after-ms"), Some("42750"));
    }
    assert_eq!(server.sandbox.requests().len(), 2);
    let denied = server.entries(&id).await.into_iter().filter(|entry| entry["decision"] == "denied").count();
    assert_eq!(denied, 3);
    server.clock.advance(TimeDelta::milliseconds(42_749));
    assert_eq!(server.chat(&secret, "sandbox-mini").await.header("retry-after-ms"), Some("1"));
    server.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
}

#[tokio::test]
async fn a_place_in_flight_is_free_again_when_its_answer_ended() {
    let server = Arc::new(TestServer::start(TestStore::sqlite().await).await);
    let (id, secret) =
        server.mint(json!({"rate_limits": [{"metric": "concurrent_requests", "limit": 1}]})).await;
    for stream in [false, true] {
        let mut body = chat("sandbox-mini+hold");
        body["stream"] = json!(stream);
        let (held, held_secret) = (Arc::clone(&server), secret.clone());
        let first = tokio::spawn(async move { held.post(&held_secret, "/v1/chat/completions", &body).await });
        assert_eq!(server.sandbox.wait_held(1).await, 1);
        let before = server.sandbox.requests().len();
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_refusal(&answer, "openai", 429, "rate_limit_error", "concurrency_limit", "second");
        assert!(answer.header("retry-after").is_some());
        assert_eq!(server.sandbox.requests().len(), before);
        server.sandbox.release();
        assert_eq!(first.await.unwrap().status, 200);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    }
    assert_eq!(server.entries(&id).await.len(), 6);
}
