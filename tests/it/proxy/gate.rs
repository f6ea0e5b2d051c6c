//! One gate: what the policy does not admit reaches no provider, leaves one entry, and says why in the
//! caller's dialect.

use super::{also, assert_one_denial, assert_refusal, kind, spoken, still_clock, still_server};
use crate::support::server::{TestServer, chat};
use crate::support::store::{TestStore, on_both};
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};

/// A chat with more fields.
fn with(more: &Value) -> Value {
    let mut body = chat("sandbox-mini");
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A chat whose one message holds one part.
fn part(part: &Value) -> Value {
    with(&json!({"messages": [{"role": "user", "content": [part]}]}))
}

struct Case {
    fields: Value,
    body: Value,
    status: u16,
    kind: &'static str,
    code: &'static str,
}

fn denied(fields: Value, body: Value, code: &'static str) -> Case {
    Case { fields, body, status: 403, kind: "permission_error", code }
}

/// What is refused alike in every dialect that has a chat.
fn of_any_dialect() -> Vec<Case> {
    let tiny = "0.000000001";
    let plain = || with(&json!({}));
    let paid = |fields, code| Case { fields, body: plain(), status: 402, kind: "insufficient_quota", code };
    vec![
        denied(json!({"models": []}), plain(), "model_not_allowed"),
        denied(json!({"models": ["sandbox/other-*", "openai/*"]}), plain(), "model_not_allowed"),
        denied(json!({"models": ["Sandbox/*"]}), plain(), "model_not_allowed"),
        denied(json!({"models": ["*"], "deny_models": ["sandbox/sandbox-m*"]}), plain(), "model_not_allowed"),
        denied(json!({"operations": ["embeddings"]}), plain(), "operation_not_allowed"),
        denied(json!({"operations": []}), plain(), "operation_not_allowed"),
        denied(json!({"ip_allow": []}), plain(), "ip_not_allowed"),
        denied(json!({"ip_allow": ["192.0.2.0/24", "::1/128"]}), plain(), "ip_not_allowed"),
        denied(json!({"allow_streaming": false}), with(&json!({"stream": true})), "feature_not_allowed"),
        denied(
            json!({"service_tiers": ["default"]}),
            with(&json!({"service_tier": "auto"})),
            "feature_not_allowed",
        ),
        denied(json!({}), with(&json!({"service_tier": "priority"})), "feature_not_allowed"),
        denied(json!({"max_output_tokens": 15}), plain(), "output_bound_exceeded"),
        denied(json!({"strict_fields": true}), with(&json!({"wibble": 1})), "feature_not_allowed"),
        denied(
            json!({"budgets": [{"limit_usd": "9", "window": "day"}]}),
            with(&json!({"model": "sandbox-unpriced"})),
            "model_unpriced",
        ),
        denied(
            json!({"max_request_usd": "9"}),
            with(&json!({"model": "sandbox-unpriced"})),
            "model_unpriced",
        ),
        denied(
            json!({"rate_limits": [{"metric": "tokens", "limit": 1, "per": "minute"}]}),
            plain(),
            "exceeds_rate_limit",
        ),
        paid(json!({"max_request_usd": tiny}), "request_too_expensive"),
        paid(json!({"budgets": [{"limit_usd": tiny, "window": "total"}]}), "budget_exceeded"),
        // The order of refusals: address, operation, model, feature, bound, price.
        denied(json!({"ip_allow": [], "operations": [], "models": []}), plain(), "ip_not_allowed"),
        denied(json!({"operations": [], "models": []}), plain(), "operation_not_allowed"),
        denied(
            json!({"models": [], "allow_streaming": false}),
            with(&json!({"stream": true})),
            "model_not_allowed",
        ),
        denied(
            json!({"allow_streaming": false, "max_output_tokens": 1}),
            with(&json!({"stream": true})),
            "feature_not_allowed",
        ),
        denied(json!({"max_output_tokens": 1, "max_request_usd": tiny}), plain(), "output_bound_exceeded"),
    ]
}

fn of_openai() -> Vec<Case> {
    let gone = |body| Case {
        fields: json!({}),
        body,
        status: 404,
        kind: "invalid_request_error",
        code: "object_not_found",
    };
    let not = |switch: &str, body| denied(json!({switch: false}), body, "feature_not_allowed");
    let pixel = "data:image/png;base64,iVBORw0KGgo=";
    let image = |url: &str| part(&json!({"type": "image_url", "image_url": {"url": url}}));
    let function = json!([{"type": "function", "function": {"name": "f"}}]);
    vec![
        not("allow_tools", with(&json!({"tools": function}))),
        not("allow_tools", with(&json!({"functions": [{"name": "f"}]}))),
        not("allow_images", image(pixel)),
        not("allow_remote_urls", image("https://example.com/cat.png")),
        not(
            "allow_audio",
            part(&json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})),
        ),
        not(
            "allow_files",
            part(
                &json!({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}),
            ),
        ),
        not("allow_store", with(&json!({"store": true}))),
        denied(json!({}), with(&json!({"truncation": "auto"})), "feature_not_allowed"),
        denied(json!({}), with(&json!({"web_search_options": {}})), "feature_not_allowed"),
        denied(
            json!({"hosted_tools": ["file_search"]}),
            with(&json!({"tools": [{"type": "web_search"}]})),
            "feature_not_allowed",
        ),
        gone(part(&json!({"type": "file", "file": {"file_id": "file-1"}}))),
        gone(with(&json!({"previous_response_id": "resp_1"}))),
        gone(with(&json!({"conversation": {"id": "conv_1"}}))),
        gone(with(&json!({"container": "cntr_1"}))),
    ]
}

fn of_anthropic() -> Vec<Case> {
    let gone = |body| Case {
        fields: json!({}),
        body,
        status: 404,
        kind: "not_found_error",
        code: "object_not_found",
    };
    let not = |switch: &str, body| denied(json!({switch: false}), body, "feature_not_allowed");
    let source = |kind: &str, source: Value| part(&json!({"type": kind, "source": source}));
    let inline = |media: &str| json!({"type": "base64", "media_type": media, "data": "AAAA"});
    let url = json!({"type": "url", "url": "https://example.com/a"});
    let search = json!([{"type": "web_search_20250305", "name": "web_search"}]);
    vec![
        not("allow_tools", with(&json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}))),
        not("allow_images", source("image", inline("image/png"))),
        not("allow_remote_urls", source("image", url.clone())),
        not("allow_remote_urls", source("document", url)),
        not("allow_files", source("document", inline("application/pdf"))),
        denied(json!({}), with(&json!({"tools": search})), "feature_not_allowed"),
        gone(source("document", json!({"type": "file", "file_id": "file_1"}))),
        gone(with(&json!({"container": "container_1"}))),
    ]
}

async fn assert_all_refused(server: &TestServer, dialect: &str, path: &str, cases: Vec<Case>) {
    for case in cases {
        let what = format!("{dialect}: {} under {}", case.body, case.fields);
        let (id, secret) = server.mint(case.fields).await;
        let answer = server.call(spoken(server, dialect, &secret, path, &case.body)).await;
        assert_refusal(
            &answer,
            dialect,
            case.status,
            kind(dialect, case.status, case.kind),
            case.code,
            &what,
        );
        assert_eq!(answer.header("x-should-retry"), (case.status == 402).then_some("false"), "{what}");
        assert_eq!(answer.header("x-bitting-subkey"), Some(id.as_str()), "{what}");
        assert_one_denial(server, &id, case.code, case.status, &what).await;
        assert!(server.sandbox.requests().is_empty(), "{what}: it went through");
    }
}

on_both! {
    async fn p2_one_gate_refuses_in_openais_words_what_the_policy_does_not_admit(test: TestStore) {
        let server = TestServer::start(test).await;
        assert_all_refused(&server, "openai", "/v1/chat/completions", of_any_dialect()).await;
        assert_all_refused(&server, "openai", "/v1/chat/completions", of_openai()).await;
    }
}

#[tokio::test]
async fn p2_one_gate_refuses_in_anthropics_words_what_the_policy_does_not_admit() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    assert_all_refused(&server, "anthropic", "/v1/messages", of_any_dialect()).await;
    assert_all_refused(&server, "anthropic", "/v1/messages", of_anthropic()).await;
}

#[tokio::test]
async fn what_each_switch_refuses_is_admitted_without_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    for (dialect, path, cases) in
        [("openai", "/v1/chat/completions", of_openai()), ("anthropic", "/v1/messages", of_anthropic())]
    {
        for case in cases.into_iter().filter(|case| case.status == 403) {
            let (_, secret) = server.mint(json!({"hosted_tools": ["*"], "allow_truncation": true})).await;
            let before = server.sandbox.requests().len();
            let answer = server.call(spoken(&server, dialect, &secret, path, &case.body)).await;
            assert_ne!(answer.status, 403, "{}: {}", case.body, answer.json());
            assert_eq!(server.sandbox.requests().len(), before + 1, "{}", case.body);
        }
    }
}

#[tokio::test]
async fn p2_one_gate_knows_no_second_reading_of_a_path() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    for path in [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/v1/chat%2fcompletions",
        "/v1/chat%2Fcompletions",
        "/v1/%63hat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/%2e%2e/v1/chat/completions",
        "/V1/chat/completions",
        "/v1/Chat/Completions",
        "/v1/chat/completions;x=1",
        "/chat/completions",
        "/v1",
        "/",
        "/v1/uploads",
        "/v1/unknown",
        "/p/sandbox",
        "/p/Sandbox/v1/chat/completions",
        "/p/nobody/v1/chat/completions",
        "/p/sandbox//v1/chat/completions",
        "/p/sandbox/sandbox/bill",
        "/sandbox/bill",
        "/p/sandbox/p/sandbox/v1/chat/completions",
        "/api/v1/subkeys",
        "/metrics",
    ] {
        let (id, secret) = server.mint(json!({})).await;
        let answer = server.call(spoken(&server, "openai", &secret, path, &chat("sandbox-mini"))).await;
        assert_refusal(&answer, "openai", 404, "invalid_request_error", "unknown_operation", path);
        assert_one_denial(&server, &id, "unknown_operation", 404, path).await;
        // Of a known path with an unknown provider it is the path that tells the dialect.
        for dialect in ["anthropic", "gemini"].into_iter().filter(|_| !path.starts_with("/p/nobody")) {
            let answer = server.call(spoken(&server, dialect, &secret, path, &chat("sandbox-mini"))).await;
            assert_refusal(&answer, dialect, 404, kind(dialect, 404, ""), "unknown_operation", path);
        }
    }
    let (_, secret) = server.mint(json!({})).await;
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS, Method::GET] {
        let mut request = spoken(&server, "openai", &secret, "/v1/chat/completions", &chat("sandbox-mini"));
        *request.method_mut() = method.clone();
        assert_eq!(server.call(request).await.refusal(), (404, "unknown_operation".to_owned()), "{method}");
    }
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_websocket_is_refused_on_a_known_path() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    let mut request = spoken(&server, "openai", &secret, "/v1/chat/completions", &Value::Null);
    *request.method_mut() = Method::GET;
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let answer = server.call(also(request, &upgrade)).await;
    assert_refusal(&answer, "openai", 426, "invalid_request_error", "websocket_not_supported", "upgrade");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_one_denial(&server, &id, "websocket_not_supported", 426, "upgrade").await;
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn p2_one_gate_compares_model_names_byte_for_byte() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({"models": ["sandbox/sandbox-mini"]})).await;
    for model in [
        "Sandbox-mini",
        "SANDBOX-MINI",
        "sandbox-mini ",
        " sandbox-mini",
        "sandbox-mini\u{200b}",
        "sandbox‐mini",
        "ѕandbox-mini",
        "sandbox/Sandbox-mini",
        "Sandbox/sandbox-mini",
        "sandbox/sandbox/sandbox-mini",
        "/sandbox-mini",
        "sandbox//sandbox-mini",
        "sandbox-mini/",
        "sandbox-mini\0",
        "sandbox-mini+tokens=2",
        "*",
        "sandbox/*",
    ] {
        let answer = server.chat(&secret, model).await;
        let (status, code) = answer.refusal();
        assert!(
            matches!((status, code.as_str()), (403, "model_not_allowed") | (400, "invalid_body")),
            "{model:?}: {status} {code}"
        );
    }
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
}

#[tokio::test]
async fn p2_one_gate_lets_no_field_choose_where_a_request_goes() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    let fields = [
        "api_base",
        "base_url",
        "baseURL",
        "api_key",
        "apiKey",
        "custom_llm_provider",
        "extra_headers",
        "azure_endpoint",
        "models",
        "fallbacks",
        "Model",
        "MODEL",
        "Max_Tokens",
        "stReam",
    ];
    for field in fields {
        let answer =
            server.post(&secret, "/v1/chat/completions", &with(&json!({field: "http://127.0.0.1:1"}))).await;
        assert_eq!(answer.refusal(), (400, "invalid_body".to_owned()), "{field}: {}", answer.json());
        assert_eq!(answer.json()["error"]["param"], field);
    }
    assert_eq!(server.entries(&id).await.len(), fields.len());
    assert!(server.sandbox.requests().is_empty());
}

on_both! {
    async fn a_key_is_refused_by_its_state_with_its_own_code(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let in_an_hour = (server.clock.now() + TimeDelta::hours(1)).to_rfc3339();
        let (early_id, early) = server.mint(json!({"not_before": in_an_hour})).await;
        let (late_id, late) = server.mint(json!({"expires_at": in_an_hour})).await;
        let (idle_id, idle) = server.mint(json!({})).await;
        let (gone_id, gone) = server.mint(json!({})).await;
        for (id, verb) in [(&idle_id, "suspend"), (&gone_id, "revoke")] {
            let done = server.admin_call(Method::POST, &format!("/api/v1/subkeys/{id}/{verb}"), None).await;
            assert_eq!(done.status, 200, "{:?}", done.json());
        }
        assert_eq!(server.chat(&late, "sandbox-mini").await.status, 200);
        server.sandbox.reset();
        let refused = [(&early_id, &early, "key_not_yet_valid"), (&idle_id, &idle, "key_suspended"), (&gone_id, &gone, "key_revoked")];
        for (id, secret, code) in refused {
            let mut times = 0;
            for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")] {
                let answer = server.call(spoken(&server, dialect, secret, path, &chat("sandbox-mini"))).await;
                assert_refusal(&answer, dialect, 401, "authentication_error", code, code);
                times += 1;
            }
            let answer = server.call(spoken(&server, "gemini", secret, "/v1beta/models", &Value::Null)).await;
            assert_refusal(&answer, "gemini", 401, "UNAUTHENTICATED", code, code);
            let entries = server.entries(id).await;
            assert_eq!(entries.len(), times + 1);
            assert!(entries.iter().all(|entry| entry["decision"] == "denied" && entry["rule"] == code));
        }
        server.clock.advance(TimeDelta::hours(1) - TimeDelta::microseconds(1));
        assert_eq!(server.chat(&early, "sandbox-mini").await.refusal().1, "key_not_yet_valid");
        assert_eq!(server.chat(&late, "sandbox-mini").await.status, 200);
        server.clock.advance(TimeDelta::microseconds(1));
        assert_eq!(server.chat(&early, "sandbox-mini").await.status, 200);
        assert_eq!(server.chat(&late, "sandbox-mini").await.refusal(), (401, "key_expired".to_owned()));
        let last = server.entries(&late_id).await.pop().unwrap();
        assert_eq!((&last["decision"], &last["rule"]), (&json!("denied"), &json!("key_expired")));
        assert_eq!(server.sandbox.requests().len(), 2);
        let resumed = server.admin_call(Method::POST, &format!("/api/v1/subkeys/{idle_id}/resume"), None).await;
        assert_eq!(resumed.status, 200);
        assert_eq!(server.chat(&idle, "sandbox-mini").await.status, 200);
    }
}

#[tokio::test]
async fn a_used_up_budget_says_what_it_is_and_when_it_ends() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({"budgets": [{"limit_usd": "0.000001", "window": "hour"}]})).await;
    let answer = server.chat(&secret, "sandbox-mini").await;
    assert_eq!(answer.refusal(), (402, "budget_exceeded".to_owned()));
    let left = 3600 - server.clock.now().timestamp() % 3600;
    assert_eq!(answer.header("retry-after"), Some(left.to_string().as_str()));
    let text = answer.json()["error"].to_string();
    for word in ["budget", "limit_usd", "spent_usd", "held_usd", "requested_usd"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (_, secret) = server.mint(json!({"budgets": [{"limit_usd": "0.000001", "window": "total"}]})).await;
    assert_eq!(server.chat(&secret, "sandbox-mini").await.header("retry-after"), None);
}
