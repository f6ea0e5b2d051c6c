//! Rates and concurrency: exact waits, and places that come back.

use super::{assert_refusal, kind, spoken, still_server};
use crate::support::server::{Answer, TestServer, chat};
use crate::support::store::TestStore;
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

fn limit(metric: &str, limit: u64, per: &str) -> Value {
    json!({"metric": metric, "limit": limit, "per": per})
}

/// How each of these headers stands: limit, remaining and reset.
fn told(answer: &Answer, of: &str) -> [Option<u64>; 3] {
    ["limit", "remaining", "reset"].map(|what| {
        let text = answer.header(&format!("x-bitting-ratelimit-{what}-{of}"))?;
        Some(text.parse().unwrap())
    })
}

/// The key about itself: what is left of its first rate limit.
async fn left(server: &TestServer, secret: &str) -> u64 {
    let about = server.call(spoken(server, "openai", secret, "/bitting/self", &Value::Null)).await;
    assert_eq!(about.status, 200, "{:?}", about.json());
    about.json()["rate_limits"][0]["remaining"].as_u64().unwrap()
}

/// Puts a model of the sandbox with directives in its name into the catalog.
async fn list_model(server: &TestServer, name: &str) {
    let model = json!({
        "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
        "prices": {"input_per_mtok_usd": "0.15", "output_per_mtok_usd": "0.6"},
    });
    let put = server.admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{name}"), Some(&model)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

/// The worst case of a plain chat in tokens, and what it uses.
async fn worst_and_used(server: &Arc<TestServer>) -> (u64, u64) {
    list_model(server, "sandbox-mini+hold").await;
    let (_, secret) = server.mint(json!({"rate_limits": [limit("tokens", 1_000_000, "day")]})).await;
    let (held, held_secret) = (Arc::clone(server), secret.clone());
    let first = tokio::spawn(async move { held.chat(&held_secret, "sandbox-mini+hold").await });
    server.sandbox.wait_held(1).await;
    let worst = 1_000_000 - left(server, &secret).await;
    server.sandbox.release();
    let answer = first.await.unwrap();
    let [_, remaining, _] = told(&answer, "tokens");
    let used = 1_000_000 - remaining.unwrap();
    let usage = &answer.json()["usage"];
    assert_eq!(json!(used), usage["total_tokens"], "settled at use before the answer is seen");
    assert_eq!(left(server, &secret).await, 1_000_000 - used);
    assert!(worst > used + 16, "{worst} {used}");
    (worst, used)
}

#[tokio::test]
async fn each_metric_is_held_to_each_window_to_the_millisecond() {
    let server = Arc::new(still_server(&[]).await);
    let (worst, used) = worst_and_used(&server).await;
    server.clock.advance(TimeDelta::milliseconds(250));
    for (per, seconds) in [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)] {
        for (metric, max) in [("requests", 1), ("tokens", worst + used - 1)] {
            let (id, secret) = server.mint(json!({"rate_limits": [limit(metric, max, per)]})).await;
            let first = server.chat(&secret, "sandbox-mini").await;
            assert_eq!(first.status, 200, "{metric} {per}: {:?}", first.json());
            let into_ms = server.clock.now().timestamp_millis() % (seconds * 1_000);
            let wait_ms = seconds * 1_000 - into_ms;
            let counted = if metric == "requests" { 1 } else { used };
            let reset = u64::try_from((wait_ms + 999) / 1_000).unwrap();
            assert_eq!(told(&first, metric), [Some(max), Some(max - counted), Some(reset)], "{per}");
            let refused = server.chat(&secret, "sandbox-mini").await;
            let what = format!("{metric} {per}");
            assert_refusal(&refused, "openai", 429, "rate_limit_error", "rate_limit_exceeded", &what);
            assert_eq!(refused.header("retry-after-ms"), Some(wait_ms.to_string().as_str()), "{what}");
            assert_eq!(refused.header("retry-after"), Some(reset.to_string().as_str()), "{what}");
            assert_eq!(told(&refused, metric), told(&first, metric), "a refusal takes nothing: {what}");
            assert_eq!(refused.json()["error"]["details"], limit(metric, max, per));
            assert_eq!(server.entries(&id).await[1]["rule"], "rate_limit_exceeded");
            let before = server.clock.now();
            server.clock.advance(TimeDelta::milliseconds(wait_ms - 1));
            assert_eq!(server.chat(&secret, "sandbox-mini").await.header("retry-after-ms"), Some("1"));
            server.clock.advance(TimeDelta::milliseconds(1));
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "{what}");
            server.clock.advance(before + TimeDelta::days(1) - server.clock.now());
        }
    }
}

#[tokio::test]
async fn a_request_that_never_fits_is_told_so() {
    let server = still_server(&[]).await;
    let (id, secret) = server.mint(json!({"rate_limits": [limit("tokens", 5, "day")]})).await;
    let answer = server.chat(&secret, "sandbox-mini").await;
    assert_refusal(&answer, "openai", 403, "permission_error", "exceeds_rate_limit", "tokens");
    assert_eq!((answer.header("retry-after"), told(&answer, "tokens")[1]), (None, Some(5)));
    let answer = server.chat(&secret, "sandbox-nameless").await;
    assert_eq!(answer.refusal(), (403, "model_unpriced".to_owned()), "nobody knows how many it could be");
    assert_eq!((server.entries(&id).await.len(), server.sandbox.requests().len()), (2, 0));
}

#[tokio::test]
async fn the_headers_tell_the_tightest_limit_on_every_answer() {
    let server = Arc::new(still_server(&[]).await);
    let limits = json!([
        limit("requests", 100, "day"), limit("requests", 7, "hour"), {"metric": "concurrent_requests", "limit": 3},
    ]);
    let (_, secret) = server.mint(json!({"rate_limits": limits, "max_output_tokens": 100})).await;
    let seconds_left = u64::try_from(3_600 - server.clock.now().timestamp() % 3_600).unwrap();
    let mut stream = chat("sandbox-mini");
    stream["stream"] = json!(true);
    let mut denied = chat("sandbox-mini");
    denied["max_tokens"] = json!(101);
    let failing = chat("sandbox-mini+status=500");
    for (body, status, concurrent, remaining) in [
        (chat("sandbox-mini"), 200, 3, 6),
        (stream, 200, 2, 5),
        (denied, 403, 3, 4),
        (failing, 500, 3, 3),
        (json!({"model": "sandbox-mini", "n": 0}), 400, 3, 2),
    ] {
        let answer = server.post(&secret, "/v1/chat/completions", &body).await;
        assert_eq!(answer.status, status, "{:?}", answer.json());
        assert_eq!(told(&answer, "requests"), [Some(7), Some(remaining), Some(seconds_left)], "{status}");
        assert_eq!(told(&answer, "concurrent"), [Some(3), Some(concurrent), None], "{status}");
        assert_eq!(told(&answer, "tokens"), [None; 3]);
    }
    let models = server.call(spoken(&server, "openai", &secret, "/v1/models", &Value::Null)).await;
    assert_eq!(told(&models, "requests")[1], Some(1));
    let about = server.call(spoken(&server, "openai", &secret, "/bitting/self", &Value::Null)).await;
    let hourly = &about.json()["rate_limits"][1];
    assert_eq!(
        (&hourly["limit"], &hourly["remaining"], &hourly["per"]),
        (&json!(7), &json!(0), &json!("hour"))
    );
    assert!(hourly["resets_at"].is_string());
    let refused = server.chat(&secret, "sandbox-mini").await;
    assert_eq!((refused.refusal().0, told(&refused, "requests")[1]), (429, Some(0)));
    let (_, free) = server.mint(json!({})).await;
    let answer = server.chat(&free, "sandbox-mini").await;
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("x-bitting-ratelimit")));
}

#[tokio::test]
async fn tokens_of_which_nobody_knows_the_use_count_in_full() {
    let server = Arc::new(still_server(&[]).await);
    let (worst, _) = worst_and_used(&server).await;
    list_model(&server, "sandbox-mini+close").await;
    list_model(&server, "sandbox-mini+status=429").await;
    let limits = json!([limit("tokens", 1_000_000, "day"), limit("requests", 50, "day")]);
    let (_, secret) = server.mint(json!({"rate_limits": limits})).await;
    let refused = server.chat(&secret, "sandbox-mini+status=429").await;
    assert_eq!((refused.status.as_u16(), told(&refused, "tokens")[1]), (429, Some(1_000_000)));
    assert_eq!(server.chat(&secret, "sandbox-mini+close").await.status, 502);
    assert_eq!(left(&server, &secret).await, 1_000_000 - worst);
    // Refused for another reason: its tokens are free again.
    let mut patch = json!({"budgets": [{"limit_usd": "0.000000001", "window": "total"}]});
    let (id, poor) = server.mint(json!({"rate_limits": [limit("tokens", 1_000_000, "day")]})).await;
    let key = format!("/api/v1/subkeys/{id}");
    assert!(server.admin_call(Method::PATCH, &key, Some(&patch)).await.status.is_success());
    assert_eq!(server.chat(&poor, "sandbox-mini").await.refusal(), (402, "budget_exceeded".to_owned()));
    assert_eq!(left(&server, &poor).await, 1_000_000);
    patch["budgets"] = json!([]);
    assert!(server.admin_call(Method::PATCH, &key, Some(&patch)).await.status.is_success());
    assert_eq!(server.chat(&poor, "sandbox-mini").await.status, 200);
}

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
