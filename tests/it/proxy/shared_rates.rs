//! Rates of providers and credentials: one application cannot throttle the account that others use too.

use super::{assert_refusal, spoken, still_clock, still_server};
use crate::support::server::{Answer, CANARY, TestServer, chat};
use crate::support::store::{TestStore, on_both};
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;

const PROVIDER: &str = "/api/v1/providers/sandbox";

async fn patch(server: &TestServer, path: &str, body: Value) -> Value {
    let patched = server.admin_call(Method::PATCH, path, Some(&body)).await;
    assert_eq!(patched.status, 200, "{:?}", patched.json());
    patched.json()
}

fn hourly(limit: u64) -> Value {
    json!({"rate_limits": [{"metric": "requests", "limit": limit, "per": "hour"}]})
}

/// What is left of the requests of a key.
fn left(answer: &Answer) -> Option<&str> {
    answer.header("x-bitting-ratelimit-remaining-requests")
}

async fn last_rule(server: &TestServer, id: &str) -> Value {
    server.entries(id).await.last().unwrap()["rule"].clone()
}

/// Begins a request that is held, and returns once the provider has it.
async fn held(server: &Arc<TestServer>, secret: &str, stream: bool) -> tokio::task::JoinHandle<Answer> {
    let mut body = chat("sandbox-mini+hold");
    body["stream"] = json!(stream);
    let (server_of, secret) = (Arc::clone(server), secret.to_owned());
    let begun = tokio::spawn(async move { server_of.post(&secret, "/v1/chat/completions", &body).await });
    assert_eq!(server.sandbox.wait_held(1).await, 1);
    begun
}

#[tokio::test]
async fn a_projects_limit_binds_every_key_below_it_and_outlasts_a_change() {
    let server = still_server(&[]).await;
    let team = json!({"slug": "team", "name": "team", "rate_limits": hourly(2)["rate_limits"]});
    assert_eq!(server.admin_post("/api/v1/projects", &team).await.status, 201);
    let below = json!({"slug": "web", "name": "web", "parent": "team"});
    assert_eq!(server.admin_post("/api/v1/projects", &below).await.status, 201);
    let (one, one_secret) = server.mint(json!({"project": "team"})).await;
    let (_, two_secret) = server.mint(json!({"project": "web"})).await;
    let first = server.chat(&one_secret, "sandbox-mini").await;
    assert_eq!((first.status.as_u16(), left(&first)), (200, Some("1")));
    assert_eq!(left(&server.chat(&two_secret, "sandbox-mini").await), Some("0"));
    let refused = server.chat(&one_secret, "sandbox-mini").await;
    assert_refusal(&refused, "openai", 429, "rate_limit_error", "rate_limit_exceeded", "project team");
    assert_eq!(last_rule(&server, &one).await, "rate_limit_exceeded:project:team");
    let asked = json!({"operation": "chat", "model": "sandbox-mini", "client_ip": "127.0.0.1", "max_output_tokens": 16});
    let said = server.admin_post(&format!("/api/v1/subkeys/{one}/explain"), &asked).await.json();
    assert_eq!(said["denied_by"], "project:team/rate_limits/requests/hour", "{said}");
    let patched = patch(&server, "/api/v1/projects/team", hourly(3)).await;
    assert_eq!(patched["rate_limits"], hourly(3)["rate_limits"]);
    assert_eq!(server.chat(&two_secret, "sandbox-mini").await.status, 200);
    assert_eq!(server.chat(&two_secret, "sandbox-mini").await.status, 429, "a patch opens no fresh window");
    server.end().await;
}

#[tokio::test]
async fn a_providers_limit_is_shared_and_costs_a_refused_key_nothing() {
    let server = still_server(&[]).await;
    let shown = patch(&server, PROVIDER, hourly(2)).await;
    assert_eq!(shown["rate_limits"], hourly(2)["rate_limits"]);
    let (one, one_secret) = server.mint(hourly(50)).await;
    let (_, two_secret) = server.mint(json!({"models": ["sandbox/sandbox-mini"]})).await;
    // What is refused, for whatever reason, costs the others nothing.
    for _ in 0..3 {
        assert_eq!(server.chat(&two_secret, "sandbox-large").await.refusal().0, 403);
    }
    assert_eq!(left(&server.chat(&one_secret, "sandbox-mini").await), Some("49"));
    let second = server.chat(&two_secret, "sandbox-mini").await;
    assert_eq!(second.status, 200, "{:?}", second.json());
    assert_eq!(left(&second), None, "what others do is not told");
    let seconds = 3_600 - server.clock.now().timestamp() % 3_600;
    for _ in 0..3 {
        let refused = server.chat(&one_secret, "sandbox-mini").await;
        assert_refusal(&refused, "openai", 429, "rate_limit_error", "rate_limit_exceeded", "shared");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("The shared account at sandbox"), "{message}");
        assert_eq!(refused.header("retry-after-ms"), Some(format!("{seconds}000").as_str()));
        assert_eq!(left(&refused), Some("49"), "all or nothing");
        assert_eq!(refused.json()["error"]["details"], Value::Null);
    }
    assert_eq!(last_rule(&server, &one).await, "rate_limit_exceeded:provider:sandbox");
    assert_eq!(server.sandbox.requests().len(), 2);
    let explained = json!({"operation": "chat", "model": "sandbox-mini", "client_ip": "127.0.0.1", "max_output_tokens": 16});
    let said = server.admin_post(&format!("/api/v1/subkeys/{one}/explain"), &explained).await.json();
    assert_eq!(said["denied_by"], "provider:sandbox/rate_limits/requests/hour", "{said}");
    let own =
        said["trace"].as_array().unwrap().iter().find(|step| step["rule"] == "rate_limits/requests/hour");
    assert_eq!(own.unwrap()["value"], "1 of 49 left of 50 requests per hour");
    // A change opens no fresh window, and neither does one beside it.
    let second = json!({"name": "second", "secret": CANARY, "weight": 0});
    assert_eq!(server.admin_post(&format!("{PROVIDER}/credentials"), &second).await.status, 201);
    patch(&server, PROVIDER, hourly(3)).await;
    assert_eq!(server.chat(&one_secret, "sandbox-mini").await.status, 200);
    assert_eq!(server.chat(&two_secret, "sandbox-mini").await.refusal().0, 429);
    server.clock.advance(TimeDelta::seconds(seconds));
    assert_eq!(server.chat(&two_secret, "sandbox-mini").await.status, 200);
    patch(&server, PROVIDER, json!({"rate_limits": null})).await;
    for _ in 0..5 {
        assert_eq!(server.chat(&two_secret, "sandbox-mini").await.status, 200);
    }
}

on_both! {
    async fn a_credential_at_its_limit_gives_way_to_another_and_a_pinned_one_does_not(test: TestStore) {
        let mut server = TestServer::start_with(test, still_clock(), &[]).await;
        let credentials = format!("{PROVIDER}/credentials");
        let main = server.admin_get(&credentials).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
        let patched = patch(&server, &format!("{credentials}/{main}"), hourly(2)).await;
        assert_eq!((&patched["rate_limits"], &patched["version"]), (&hourly(2)["rate_limits"], &json!(2)));
        let second = json!({"name": "second", "secret": CANARY, "rate_limits": hourly(1)["rate_limits"]});
        let second = server.admin_post(&credentials, &second).await.json()["id"].as_str().unwrap().to_owned();
        let (id, secret) = server.mint(hourly(100)).await;
        let (pinned_id, pinned) = server.mint(json!({"credential": second})).await;
        // The limits are those that are kept.
        server.pause().await;
        server.resume().await;
        for _ in 0..3 {
            let answer = server.chat(&secret, "sandbox-mini").await;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
        }
        let entries = server.entries(&id).await;
        let count = |id: &str| entries.iter().filter(|entry| entry["credential_id"] == id).count();
        assert_eq!((count(&main), count(&second)), (2, 1), "each as far as its limit goes");
        let refused = server.chat(&secret, "sandbox-mini").await;
        assert_refusal(&refused, "openai", 429, "rate_limit_error", "rate_limit_exceeded", "all are full");
        let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.starts_with("The shared account at the provider"), "{message}");
        assert_eq!(left(&refused), Some("97"));
        let rule = last_rule(&server, &id).await;
        assert!(rule.as_str().unwrap().starts_with("rate_limit_exceeded:credential:cred_"), "{rule}");
        // With room in the other, one that is pinned to the full one is refused all the same.
        patch(&server, &format!("{credentials}/{main}"), hourly(3)).await;
        assert_eq!(server.chat(&pinned, "sandbox-mini").await.refusal().0, 429);
        let rule = last_rule(&server, &pinned_id).await;
        assert_eq!(rule, json!(format!("rate_limit_exceeded:credential:{second}")));
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "the change opened no fresh window");
        assert_eq!(server.chat(&secret, "sandbox-mini").await.refusal().0, 429);
        patch(&server, &format!("{credentials}/{main}"), json!({"rate_limits": []})).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let path = format!("{credentials}/{main}");
        let wrong = server.admin_call(Method::PATCH, &path, Some(&json!({"weight": 3}))).await;
        assert_eq!((wrong.status.as_u16(), wrong.refusal().1), (400, "unknown_field".to_owned()));
        server.end().await;
    }
}

#[tokio::test]
async fn a_place_at_the_provider_is_held_until_the_exchange_is_over() {
    let server = Arc::new(TestServer::start(TestStore::sqlite().await).await);
    let (_, one) = server.mint(json!({})).await;
    let (id, two) = server.mint(hourly(100)).await;
    let credentials = format!("{PROVIDER}/credentials");
    let main = server.admin_get(&credentials).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
    let limit = json!({"rate_limits": [{"metric": "concurrent_requests", "limit": 1}]});
    for (path, owner) in [
        (PROVIDER.to_owned(), "provider:sandbox".to_owned()),
        (format!("{credentials}/{main}"), format!("credential:{main}")),
    ] {
        for stream in [false, true] {
            patch(&server, &path, limit.clone()).await;
            let first = held(&server, &one, stream).await;
            let refused = server.chat(&two, "sandbox-mini").await;
            assert_refusal(&refused, "openai", 429, "rate_limit_error", "concurrency_limit", &owner);
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(last_rule(&server, &id).await, json!(format!("concurrency_limit:{owner}")));
            server.sandbox.release();
            assert_eq!(first.await.unwrap().status, 200);
            assert_eq!(server.chat(&two, "sandbox-mini").await.status, 200, "{owner} {stream}");
        }
        patch(&server, &path, json!({"rate_limits": []})).await;
    }
}

#[tokio::test]
async fn many_at_once_never_pass_a_shared_limit_and_none_is_refused_in_vain() {
    let server = Arc::new(still_server(&[]).await);
    patch(&server, PROVIDER, hourly(20)).await;
    let keys =
        [server.mint(hourly(15)).await.1, server.mint(hourly(15)).await.1, server.mint(hourly(3)).await.1];
    let mut calls = Vec::new();
    for call in 0..60 {
        let (server, secret) = (Arc::clone(&server), keys[call % 3].clone());
        calls.push(tokio::spawn(async move { server.chat(&secret, "sandbox-mini").await.status.as_u16() }));
    }
    let mut admitted = 0;
    for call in calls {
        let status = call.await.unwrap();
        assert!(status == 200 || status == 429, "{status}");
        admitted += usize::from(status == 200);
    }
    assert_eq!((admitted, server.sandbox.requests().len()), (20, 20));
    let (_, fresh) = server.mint(json!({})).await;
    let about = server.call(spoken(&server, "openai", &fresh, "/v1/models", &Value::Null)).await;
    assert_eq!(about.status, 200, "the list of models is nobody's but ours");
}
