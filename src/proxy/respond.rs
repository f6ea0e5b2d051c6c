//! Answers of our own: refusals, and the headers that every answer carries.

use super::arrival::Arrival;
use super::headers::put;
use super::rates;
use super::refusal::{Code, Refusal};
use crate::provider::Dialect;
use crate::service::Caller;
use axum::body::Body;
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use http::header::{CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};

/// A refusal as an answer.
pub(super) fn refusal(
    refusal: &Refusal,
    dialect: Dialect,
    request_id: &str,
    caller: Option<&Caller>,
) -> Response {
    let body = refusal.body(dialect, request_id).to_string();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = refusal.code.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    put(headers, "x-bitting-error", refusal.code.as_str());
    put(headers, "x-bitting-request-id", request_id);
    if let Some(caller) = caller {
        put(headers, "x-bitting-subkey", caller.key.subkey.id.as_str());
    }
    if let Some(wait) = refusal.retry_after {
        let wait_ms = whole_ms(wait).max(1);
        put(headers, "retry-after", &((wait_ms + 999) / 1000).to_string());
        if refusal.code.status().as_u16() == 429 {
            put(headers, "retry-after-ms", &wait_ms.to_string());
        }
    }
    if refusal.forbids_retry() {
        put(headers, "x-should-retry", "false");
    }
    if refusal.code == Code::WebsocketNotSupported {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    debug_assert!(!headers.contains_key(RETRY_AFTER) || refusal.retry_after.is_some());
    response
}

/// Milliseconds, rounded up: who waits so long does not come too early.
pub(super) fn whole_ms(wait: TimeDelta) -> i64 {
    let ms = wait.num_milliseconds();
    if wait > TimeDelta::milliseconds(ms) { ms + 1 } else { ms }
}

/// A refusal with what the request has cost in time, and how the caller's rate limits stand now.
pub(super) fn refusal_after(
    refused: &Refusal,
    dialect: Dialect,
    arrival: &Arrival,
    (caller, now): (&Caller, DateTime<Utc>),
) -> Response {
    let mut response = refusal(refused, dialect, arrival.id.as_str(), Some(caller));
    let headers = response.headers_mut();
    rates::stamp(headers, caller, now);
    put(headers, "x-bitting-overhead-us", &arrival.elapsed_us().to_string());
    stamp_attempts(headers, u32::from(refused.was_sent), None);
    response
}

/// What every answer to an admitted request says about itself.
pub(super) struct Facts<'a> {
    pub(super) request_id: &'a str,
    pub(super) subkey: &'a str,
    pub(super) provider: &'a str,
    pub(super) model: Option<&'a str>,
    pub(super) attempts: u32,
    pub(super) fallback: Option<&'a str>,
    pub(super) changed: &'a [String],
    pub(super) overhead_us: u64,
}

/// Writes those facts into an answer's headers.
pub(super) fn stamp(headers: &mut HeaderMap, facts: &Facts<'_>) {
    put(headers, "x-bitting-request-id", facts.request_id);
    put(headers, "x-bitting-subkey", facts.subkey);
    put(headers, "x-bitting-provider", facts.provider);
    if let Some(model) = facts.model {
        put(headers, "x-bitting-model", model);
    }
    stamp_attempts(headers, facts.attempts, facts.fallback);
    if !facts.changed.is_empty() {
        put(headers, "x-bitting-changed", &facts.changed.join(","));
    }
    put(headers, "x-bitting-overhead-us", &facts.overhead_us.to_string());
}

/// How often the provider was asked, and why more than once.
pub(super) fn stamp_attempts(headers: &mut HeaderMap, attempts: u32, fallback: Option<&str>) {
    put(headers, "x-bitting-attempts", &attempts.to_string());
    put(headers, "x-bitting-fallback", fallback.unwrap_or("none"));
}

/// Nothing can be checked or recorded now.
pub(super) fn store_unavailable() -> Refusal {
    Refusal::new(Code::StoreUnavailable, "The request cannot be checked and recorded now. Try again.")
        .retry_after(TimeDelta::seconds(1))
}

/// The vault is closed: nobody can be recognised.
pub(super) fn sealed() -> Refusal {
    Refusal::new(Code::Sealed, "The gateway is sealed and serves nothing until an operator opens it.")
        .retry_after(TimeDelta::seconds(10))
}

/// The server is at its limit.
pub(super) fn overloaded() -> Refusal {
    Refusal::new(Code::Overloaded, "The server is at its limit. Try again.")
        .retry_after(TimeDelta::seconds(1))
}
