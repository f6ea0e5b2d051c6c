//! Authentication: one answer to every key that is nobody's, and two planes that know each other's keys not.

use super::{also, assert_refusal, spoken};
use crate::support::server::{Answer, TestServer, chat};
use crate::support::store::{TestStore, on_both};
use bitting::base::Entropy;
use bitting::subkey::{SubKeyId, SubKeyToken};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

/// An answer without what may differ between two answers to the same.
fn comparable(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let varies = ["date", "x-bitting-request-id", "x-bitting-overhead-us"];
    let headers = answer.headers.iter().filter(|(name, _)| !varies.contains(&name.as_str()));
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    headers.sort();
    let mut body = answer.json();
    if body.get("request_id").is_some() {
        body["request_id"] = Value::Null;
    }
    (answer.status.as_u16(), headers, body)
}

on_both! {
    async fn nothing_tells_a_near_miss_from_junk(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({})).await;
        let entropy = Entropy::new();
        let reveal = |id| SubKeyToken::generate(id, &entropy).reveal().expose().clone();
        let last = if secret.ends_with('0') { "1" } else { "0" };
        let keys = [
            "junk".to_owned(),
            "sk-proj-0123456789".to_owned(),
            format!("{}{last}", &secret[..secret.len() - 1]),
            secret.to_lowercase(),
            secret.replacen("bk_", "bo_", 1),
            format!("{secret}x"),
            reveal(SubKeyId::generate(&entropy)),
            reveal(SubKeyId::parse(&id).unwrap()),
            server.token.clone(),
        ];
        for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages"), ("gemini", "/v1beta/models")] {
            let body = if dialect == "gemini" { Value::Null } else { chat("sandbox-mini") };
            let mut none = spoken(&server, dialect, "x", path, &body);
            for name in ["authorization", "x-api-key"] {
                none.headers_mut().remove(name);
            }
            if dialect == "gemini" {
                none.headers_mut().insert("x-goog-api-key", "".parse().unwrap());
            }
            let none = server.call(none).await;
            let kind = if dialect == "gemini" { "UNAUTHENTICATED" } else { "authentication_error" };
            assert_refusal(&none, dialect, 401, kind, "invalid_api_key", "no key");
            if dialect == "openai" {
                assert!(none.json()["error"]["message"].as_str().unwrap().starts_with("Incorrect API key provided"));
            }
            for key in &keys {
                let answer = server.call(spoken(&server, dialect, key, path, &body)).await;
                assert_eq!(comparable(&answer), comparable(&none), "{dialect} {key}");
            }
        }
        assert!(server.sandbox.requests().is_empty());
        assert!(server.entries(&id).await.is_empty(), "a wrong secret is not the key's request");
    }
}

#[tokio::test]
async fn a_key_is_taken_from_every_place_where_libraries_put_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let bare = || {
        let mut request = server.proxied(&secret, "/v1/chat/completions", chat("sandbox-mini").to_string());
        request.headers_mut().remove("authorization");
        request
    };
    let bearer = format!("Bearer {secret}");
    for headers in [
        &[("authorization", bearer.as_str())][..],
        &[("x-api-key", &secret)],
        &[("x-goog-api-key", &secret)],
        &[("api-key", &secret)],
        &[("authorization", &bearer), ("x-api-key", &secret), ("api-key", &secret)],
        &[("x-api-key", &secret), ("x-api-key", &secret)],
    ] {
        assert_eq!(server.call(also(bare(), headers)).await.status, 200, "{headers:?}");
    }
}

#[tokio::test]
async fn two_different_keys_or_a_key_in_the_query_are_refused_whichever_is_right() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let (_, other) = server.mint(json!({})).await;
    let request = |path: &str| server.proxied(&secret, path, chat("sandbox-mini").to_string());
    for (name, value) in [
        ("x-api-key", other.as_str()),
        ("api-key", "junk"),
        ("x-goog-api-key", &other),
        ("authorization", &format!("Bearer {other}")),
    ] {
        let answer = server.call(also(request("/v1/chat/completions"), &[(name, value)])).await;
        assert_eq!(answer.refusal(), (400, "ambiguous_credentials".to_owned()), "{name}");
    }
    for query in ["key=x", "a=1&api_key=x", "API-KEY=x", "access_token", &format!("key={secret}")] {
        let answer = server.call(request(&format!("/v1/chat/completions?{query}"))).await;
        assert_eq!(answer.refusal(), (400, "key_in_query".to_owned()), "{query}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(&secret));
    }
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn p2_one_gate_for_each_plane_and_neither_takes_the_others_key() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let answer = server.post(&server.token, path, &chat("sandbox-mini")).await;
        assert_eq!(answer.refusal(), (401, "invalid_api_key".to_owned()));
    }
    for path in ["/api/v1/subkeys", "/api/v1/providers", "/api/v1/access-log", "/metrics"] {
        let request = Request::get(format!("{}{path}", server.admin))
            .header("authorization", format!("Bearer {secret}"))
            .body(Full::<Bytes>::default());
        assert_eq!(server.call(request.unwrap()).await.status, 401, "{path}");
    }
    assert!(server.sandbox.requests().is_empty());
}
