//! Faithful: what the application sends is what the provider gets, and back; where policy says otherwise, a
//! header says what changed.

use super::{also, spoken, still_clock, still_server};
use crate::support::server::{CANARY, TestServer, chat};
use crate::support::store::{TestStore, on_both};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CHAT: &str = "/v1/chat/completions";

/// The text with the sandbox's own ids, which count up, made alike.
fn without_ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((at, prefix)) =
        ["chatcmpl_", "msg_", "cmpl_"].iter().filter_map(|prefix| Some((rest.find(prefix)?, prefix))).min()
    {
        let (before, after) = rest.split_at(at + prefix.len());
        out.push_str(before);
        rest = after.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out + rest
}

/// What the sandbox answers when it is asked without us in between.
async fn direct(server: &TestServer, path: &str, body: &str) -> String {
    let request = Request::post(format!("{}{path}", server.sandbox_url))
        .header("authorization", "Bearer other-key")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_owned())));
    let answer = server.call(request.unwrap()).await;
    without_ids(std::str::from_utf8(&answer.bytes).unwrap())
}

on_both! {
    async fn p6_faithful_bytes_arrive_as_they_were_written(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (_, secret) = server.mint(json!({"budgets": [{"limit_usd": "9", "window": "day"}]})).await;
        for (path, body) in [
            (CHAT, r#"{"model":"sandbox-mini","messages":[{"role":"user","content":"hi"}],"max_tokens":16}"#),
            (CHAT, " \r\n\t{ \"messages\" : [ {\"content\":\"\\u0068\\u00e9 \\ud83d\\ude00 é\\/\", \"role\":\"user\"} ] ,\n\"max_tokens\":16 , \"model\" : \"sandbox\\u002dmini\" }\n "),
            (CHAT, r#"{"model":"sandbox-mini","messages":[{"role":"user","content":"hi","wibble":[1.0,1e2,-0]}],"max_tokens":16,"unknown_field":{"b":1,"a":2},"temperature":0.70}"#),
            (CHAT, r#"{"model":"sandbox-mini","messages":[{"role":"user","content":"hi"}],"max_completion_tokens":16,"stream":false}"#),
            (CHAT, r#"{"model":"sandbox-mini","messages":[{"role":"user","content":"no bound is stated"}]}"#),
            ("/v1/messages", r#"{"model":"sandbox-mini","max_tokens":16,"messages":[{"role":"user","content":"hi"}],"metadata":{"user_id":"u"},"wobble":null}"#),
            ("/v1/messages", r#"{"stream":true,"model":"sandbox-mini","max_tokens":16,"messages":[{"role":"user","content":"hi"}]}"#),
            ("/v1/embeddings", r#"{"model":"sandbox-embedding","input":["a","b"],"wobble":1}"#),
            ("/v1/completions", r#"{"model":"sandbox-mini","prompt":"hi","max_tokens":4}"#),
        ] {
            let answer = server.call(server.proxied(&secret, path, body)).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.json());
            let sent = server.sandbox.requests().pop().unwrap();
            assert_eq!((sent.body.as_str(), sent.path.as_str(), sent.method.as_str()), (body, path, "POST"));
            assert_eq!(answer.header("x-bitting-changed"), None, "{body}");
            assert_eq!(answer.header("x-bitting-provider"), Some("sandbox"));
            let text = std::str::from_utf8(&answer.bytes).unwrap();
            assert_eq!(without_ids(text), direct(&server, path, body).await, "{body}");
        }
    }

    async fn p6_faithful_streams_show_no_more_than_was_asked_for(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "9", "window": "day"}]})).await;
        let messages = r#""messages":[{"role":"user","content":"hello"}],"max_tokens":16"#;
        for (path, more, changed) in [
            (CHAT, r#""stream":true"#, true),
            (CHAT, r#""stream":true,"stream_options":{}"#, true),
            (CHAT, r#""stream":true,"stream_options":null"#, true),
            (CHAT, r#""stream":true,"stream_options":{"include_usage":false}"#, true),
            (CHAT, r#""stream":true,"stream_options":{"include_usage":true}"#, false),
            (CHAT, r#""stream":true,"n":2"#, true),
            ("/v1/messages", r#""stream":true"#, false),
        ] {
            let body = format!(r#"{{"model":"sandbox-mini",{messages},{more}}}"#);
            let answer = server.call(server.proxied(&secret, path, body.clone())).await;
            assert_eq!(answer.status, 200, "{body}: {}", answer.json());
            let text = std::str::from_utf8(&answer.bytes).unwrap();
            let sent = server.sandbox.requests().pop().unwrap();
            assert_eq!(sent.body != body, changed, "{}", sent.body);
            let named = answer.header("x-bitting-changed");
            assert_eq!(named, changed.then_some("stream_options.include_usage"), "{body}");
            assert_eq!(without_ids(text), direct(&server, path, &body).await, "{body}");
            assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!(
                (&entry["usage_source"], &entry["outcome"], &entry["streamed"]),
                (&json!("reported"), &json!("completed"), &json!(true)),
                "{entry}"
            );
        }
        let spent: Value = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
        assert_ne!(spent["budgets"][0]["spent_usd"], "0");
    }
}

#[tokio::test]
async fn p6_faithful_a_provider_is_asked_for_usage_only_where_it_takes_that() {
    let server = still_server(&[]).await;
    let dialects = json!({"openai": format!("{}/v1", server.sandbox_url)});
    let provider = json!({"slug": "mute", "dialects": dialects, "supports_stream_options": false});
    assert_eq!(server.admin_post("/api/v1/providers", &provider).await.status, 201);
    let key = json!({"name": "main", "secret": "mute-canary-1f6e0c93b2"});
    assert_eq!(server.admin_post("/api/v1/providers/mute/credentials", &key).await.status, 201);
    let (id, secret) = server.mint(json!({"models": ["mute/*"]})).await;
    for (options, asks) in [("", false), (r#","stream_options":{"include_usage":true}"#, true)] {
        let messages = r#""messages":[{"role":"user","content":"hello"}],"max_tokens":16"#;
        let body = format!(r#"{{"model":"sandbox-mini",{messages},"stream":true{options}}}"#);
        let answer = server.call(server.proxied(&secret, "/p/mute/v1/chat/completions", body.clone())).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-changed")), (200, None));
        assert_eq!(server.sandbox.requests().pop().unwrap().body, body, "byte for byte");
        let text = std::str::from_utf8(&answer.bytes).unwrap();
        assert_eq!(text.contains("\"usage\""), asks, "what it was asked for itself it passes on: {text}");
        assert_eq!(without_ids(text), direct(&server, CHAT, &body).await);
        assert_eq!(server.entries(&id).await.pop().unwrap()["outcome"], "completed");
    }
}

#[tokio::test]
async fn p6_faithful_changes_are_of_one_value_and_named() {
    let server = still_server(&[]).await;
    let (_, plain) = server.mint(json!({})).await;
    let (_, defaulted) = server.mint(json!({"default_max_output_tokens": 7})).await;
    let (_, clamped) = server.mint(json!({"max_output_tokens": 7, "clamp_output": true})).await;
    let prefix = r#"{ "messages":[{"role":"user","content":"sandbox/sandbox-mini"}], "model" : "#;
    let bounded = |model: &str| format!(r#"{prefix}"{model}", "max_tokens":16, "x":1.0 }}"#);
    for (secret, sent, arrives, changed) in [
        (&plain, bounded("sandbox/sandbox-mini"), bounded("sandbox-mini"), "model"),
        (&plain, bounded(r"sandbox\/sandbox-mini"), bounded("sandbox-mini"), "model"),
        (
            &clamped,
            bounded("sandbox-mini"),
            bounded("sandbox-mini").replace("\"max_tokens\":16", "\"max_tokens\":7"),
            "max_tokens",
        ),
    ] {
        let answer = server.call(server.proxied(secret, CHAT, sent.clone())).await;
        assert_eq!(answer.status, 200, "{sent}: {}", answer.json());
        assert_eq!(server.sandbox.requests().pop().unwrap().body, arrives);
        assert_eq!(answer.header("x-bitting-changed"), Some(changed));
    }
    let sent = format!(r#"{prefix}"sandbox-mini" }}"#);
    let answer = server.call(server.proxied(&defaulted, CHAT, sent.clone())).await;
    let arrived = server.sandbox.requests().pop().unwrap().body;
    let field = answer.header("x-bitting-changed").unwrap();
    let value: Value = serde_json::from_str(&arrived).unwrap();
    assert_eq!(value[field], 7, "{arrived}");
    let without = |text: &str| {
        let mut value: Value = serde_json::from_str(text).unwrap();
        value.as_object_mut().unwrap().remove(field);
        value
    };
    assert_eq!(without(&arrived), without(&sent));
}

#[tokio::test]
async fn only_listed_headers_pass_in_either_direction() {
    let server = still_server(&[]).await;
    let (id, secret) = server.mint(json!({})).await;
    let request = spoken(&server, "openai", &secret, CHAT, &chat("sandbox-mini"));
    let sent = [
        ("accept", "application/json"),
        ("user-agent", "test/1"),
        ("openai-beta", "a=1"),
        ("x-stainless-lang", "rust"),
        ("x-stainless-retry-count", "0"),
        ("x-client-request-id", "mine"),
        ("traceparent", "00-1-2-01"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "a"),
        ("anthropic-beta", "b"),
        ("x-goog-api-client", "g"),
        ("anthropic-workspace-id", "w"),
        // None of these.
        ("cookie", "a=b"),
        ("forwarded", "for=1.1.1.1"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "1.1.1.1"),
        ("via", "1.1 x"),
        ("openai-organization", "org-evil"),
        ("openai-project", "proj-evil"),
        ("proxy-authorization", "Basic eA=="),
        ("x-bitting-tag-team", "search"),
        ("x-sandbox", "status=500"),
        ("x-api-key", &secret),
        ("api-key", &secret),
        ("te", "trailers"),
        ("connection", "x-stainless-os"),
        ("x-stainless-os", "named by connection"),
        ("accept-encoding", "gzip"),
        ("referer", "https://a.example"),
        ("origin", "https://a.example"),
        ("idempotency-key", "order-1"),
        ("x-request-id", "mine"),
        ("range", "bytes=0-1"),
        ("x-http-method-override", "DELETE"),
        ("expect-ct", "x"),
        ("x-unknown", "x"),
    ];
    let answer = server.call(also(request, &sent)).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    let received = server.sandbox.requests().pop().unwrap();
    let names: BTreeSet<&str> = received.headers.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "accept",
        "accept-encoding",
        "anthropic-beta",
        "anthropic-version",
        "anthropic-workspace-id",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "openai-beta",
        "traceparent",
        "user-agent",
        "x-client-request-id",
        "x-goog-api-client",
        "x-stainless-lang",
        "x-stainless-retry-count",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for (name, value) in &sent[..12] {
        assert!(received.headers.contains(&((*name).to_owned(), (*value).to_owned())), "{name}");
    }
    assert_eq!(received.header("authorization"), Some(format!("Bearer {CANARY}").as_str()));
    assert_eq!(received.header("accept-encoding"), Some("identity"));
    assert_eq!(format!("http://{}", received.header("host").unwrap()), server.sandbox_url);
    assert!(!format!("{received:?}").contains(&secret) && !format!("{received:?}").contains("search"));
    assert_eq!(server.entries(&id).await[0]["tags"], json!({"team": "search"}));

    let passed: BTreeSet<&str> = answer.headers.keys().map(http::HeaderName::as_str).collect();
    for name in
        ["content-type", "x-request-id", "openai-version", "openai-processing-ms", "x-bitting-request-id"]
    {
        assert!(passed.contains(name), "{name}: {passed:?}");
    }
    for name in [
        "set-cookie",
        "openai-organization",
        "anthropic-organization-id",
        "server-timing",
        "location",
        "alt-svc",
        "x-echo",
    ] {
        assert!(!passed.contains(name), "{name}: {passed:?}");
    }
    let ours = passed.iter().filter(|name| name.starts_with("x-bitting-")).copied().collect::<BTreeSet<_>>();
    let stamps = [
        "x-bitting-attempts",
        "x-bitting-cost-usd",
        "x-bitting-fallback",
        "x-bitting-model",
        "x-bitting-overhead-us",
        "x-bitting-provider",
        "x-bitting-request-id",
        "x-bitting-subkey",
    ];
    assert!(ours.is_superset(&BTreeSet::from(stamps)), "{ours:?}");
}

#[tokio::test]
async fn an_idempotency_key_is_each_sub_keys_own() {
    let server = still_server(&[]).await;
    let (_, one) = server.mint(json!({})).await;
    let (_, two) = server.mint(json!({})).await;
    let mut arrived = vec![];
    for (secret, key) in [(&one, "order-1"), (&one, "order-1"), (&one, "order-2"), (&two, "order-1")] {
        let request = spoken(&server, "openai", secret, CHAT, &chat("sandbox-mini"));
        assert_eq!(server.call(also(request, &[("idempotency-key", key)])).await.status, 200);
        arrived.push(server.sandbox.requests().pop().unwrap().header("idempotency-key").unwrap().to_owned());
    }
    assert_eq!(arrived[0], arrived[1]);
    assert_eq!(arrived.iter().collect::<BTreeSet<_>>().len(), 3);
    assert!(arrived.iter().all(|key| !key.contains("order")));
}

#[tokio::test]
async fn tags_that_do_not_fit_are_refused_and_sent_nowhere() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    let nine: Vec<(String, &str)> = (0..9).map(|n| (format!("x-bitting-tag-{n}"), "v")).collect();
    let nine: Vec<(&str, &str)> = nine.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let long = "v".repeat(65);
    for tags in [&nine[..], &[("x-bitting-tag-a", long.as_str())], &[("x-bitting-tag-a", "")]] {
        let request = spoken(&server, "openai", &secret, CHAT, &chat("sandbox-mini"));
        assert_eq!(server.call(also(request, tags)).await.refusal(), (400, "invalid_body".to_owned()));
    }
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(server.entries(&id).await.len(), 3, "a right secret always leaves an entry");
}

#[tokio::test]
async fn p6_faithful_refusals_of_the_provider_pass_unchanged() {
    let server = still_server(&[]).await;
    let (id, secret) = server.mint(json!({})).await;
    for status in [400, 404, 409, 422, 429, 500, 503] {
        for path in [CHAT, "/v1/messages"] {
            let body = chat(&format!("sandbox-mini+status={status}")).to_string();
            let answer = server.call(server.proxied(&secret, path, body.clone())).await;
            assert_eq!(answer.status.as_u16(), status, "{}", answer.json());
            let text = String::from_utf8_lossy(&answer.bytes);
            let ids = |text: &str| {
                let mut value: Value = serde_json::from_str(text).unwrap();
                value["request_id"] = Value::Null;
                value
            };
            assert_eq!(ids(&text), ids(&direct(&server, path, &body).await));
            assert_eq!(answer.header("retry-after"), (status == 429).then_some("1"));
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!(
                (&entry["status"], &entry["upstream_status"], &entry["decision"]),
                (&json!(status), &json!(status), &json!("allowed"))
            );
        }
    }
}
