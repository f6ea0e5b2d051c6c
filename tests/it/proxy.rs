//! The proxy from outside: what is admitted arrives and comes back, what is not is refused unseen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod address;
mod agents;
mod answer_room;
mod asking;
mod azure;
mod bad_input;
mod betas;
mod bodies;
mod broken_streams;
mod canary;
mod compressed;
mod credentials;
mod differential;
mod ends;
mod errors;
mod explain;
mod faithful;
mod files;
mod floods;
mod gaps;
mod gate;
mod gemini;
mod half;
mod header_lists;
mod keys;
mod lists;
mod media;
mod memory;
mod moderations;
mod owners;
mod peer;
mod rates;
mod raw;
mod refused;
mod resolution;
mod responses;
mod rotation;
mod rows;
mod shared_rates;
mod slow;
mod smuggling;
mod unread;
mod upload;

use crate::support::server::{Answer, TestServer};
use crate::support::store::{TestStore, on_both};
use bitting::base::Clock;
use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderName, HeaderValue, Request};
use http_body_util::Full;
use serde_json::{Value, json};

/// Where a client puts its key, and what else its library sends, in each dialect.
const DIALECTS: [(&str, &str, Option<&str>); 3] = [
    ("openai", "authorization", None),
    ("anthropic", "x-api-key", Some("anthropic-version")),
    ("gemini", "x-goog-api-key", None),
];

fn still_clock() -> Clock {
    Clock::manual(DateTime::from_timestamp(1_790_000_000, 0).unwrap())
}

/// A server on SQLite whose clock stands still.
async fn still_server(environment: &[(&str, &str)]) -> TestServer {
    TestServer::start_with(TestStore::sqlite().await, still_clock(), environment).await
}

/// A request as a client of this dialect makes it.
fn spoken(
    server: &TestServer,
    dialect: &str,
    secret: &str,
    path: &str,
    body: &Value,
) -> Request<Full<Bytes>> {
    let (_, header, also) = DIALECTS.iter().find(|(name, ..)| *name == dialect).unwrap();
    let key = if *header == "authorization" { format!("Bearer {secret}") } else { secret.to_owned() };
    let request = Request::builder().uri(format!("{}{path}", server.proxy)).header(*header, key);
    let request = also.iter().fold(request, |request, name| request.header(*name, "2023-06-01"));
    if body.is_null() {
        return request.method("GET").body(Full::default()).unwrap();
    }
    let request = request.method("POST").header("content-type", "application/json");
    request.body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

/// The same request with more header lines.
fn also(mut request: Request<Full<Bytes>>, headers: &[(&str, &str)]) -> Request<Full<Bytes>> {
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// The whole of a refusal, in its dialect: status, type and code.
fn assert_refusal(answer: &Answer, dialect: &str, status: u16, kind: &str, code: &str, what: &str) {
    let body = answer.json();
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-bitting-error")),
        (status, Some(code)),
        "{what}: {body}"
    );
    let error = &body["error"];
    assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {body}");
    let said = match dialect {
        "openai" => json!([error["type"], error["code"]]),
        "anthropic" => {
            assert_eq!(
                (&body["type"], body["request_id"].as_str()),
                (&json!("error"), answer.header("x-bitting-request-id"))
            );
            json!([error["type"], error["code"]])
        }
        _ => {
            assert_eq!(error["code"], status, "{what}: {body}");
            json!([error["status"], error["details"][0]["reason"]])
        }
    };
    assert_eq!(said, json!([kind, code]), "{what}: {body}");
}

/// Exactly one entry, which says denied and by what.
async fn assert_one_denial(server: &TestServer, id: &str, code: &str, status: u16, what: &str) {
    let entries = server.entries(id).await;
    assert_eq!(entries.len(), 1, "{what}: {entries:?}");
    let entry = &entries[0];
    let said = (&entry["decision"], &entry["rule"], &entry["status"], &entry["cost_usd"]);
    assert_eq!((said.0, said.1, said.2), (&json!("denied"), &json!(code), &json!(status)), "{what}: {entry}");
    assert!(matches!(said.3.as_str(), None | Some("0" | "0.00")), "{what}: {entry}");
}

/// The type that each dialect gives a status; for OpenAI's the contract's table.
fn kind(dialect: &str, status: u16, openai: &'static str) -> &'static str {
    match (dialect, status) {
        ("anthropic", 402) => "billing_error",
        ("anthropic", 404) => "not_found_error",
        ("anthropic", 413) => "request_too_large",
        ("gemini", 401) => "UNAUTHENTICATED",
        ("gemini", 402 | 429) => "RESOURCE_EXHAUSTED",
        ("gemini", 403) => "PERMISSION_DENIED",
        ("gemini", 404) => "NOT_FOUND",
        ("gemini", _) => "INVALID_ARGUMENT",
        _ => openai,
    }
}

on_both! {
    async fn an_admitted_chat_is_answered_charged_and_logged(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let bill = server.sandbox.bill();
        assert_eq!(answer.header("x-bitting-cost-usd"), Some(bill.cost_usd.to_string().as_str()));
        let entries = server.entries(&id).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["cost_usd"], json!(bill.cost_usd));
        assert_eq!(entries[0]["outcome"], "completed");
        server.end().await;
    }
}
