//! The contract's table of errors: every condition, provoked in every dialect; status, type, code, shape and the headers
//! that tell a client library whether to try again.

use super::{DIALECTS, also, assert_refusal, spoken, still_clock};
use crate::support::objects::{Kept, put_on_record};
use crate::support::server::{Answer, CANARY, FILE, TestServer, chat};
use crate::support::store::TestStore;
use bitting::provider::ObjectKind;
use bytes::Bytes;
use chrono::TimeDelta;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The table: code, status, `OpenAI`'s type.
const CONTRACT: [(&str, u16, &str); 37] = [
    ("invalid_api_key", 401, "authentication_error"),
    ("key_revoked", 401, "authentication_error"),
    ("key_expired", 401, "authentication_error"),
    ("key_suspended", 401, "authentication_error"),
    ("key_not_yet_valid", 401, "authentication_error"),
    ("ambiguous_credentials", 400, "invalid_request_error"),
    ("key_in_query", 400, "invalid_request_error"),
    ("ip_not_allowed", 403, "permission_error"),
    ("model_not_allowed", 403, "permission_error"),
    ("operation_not_allowed", 403, "permission_error"),
    ("feature_not_allowed", 403, "permission_error"),
    ("output_bound_exceeded", 403, "permission_error"),
    ("model_unpriced", 403, "permission_error"),
    ("feature_unpriced", 403, "permission_error"),
    ("object_not_found", 404, "invalid_request_error"),
    ("unknown_operation", 404, "invalid_request_error"),
    ("invalid_body", 400, "invalid_request_error"),
    ("body_too_large", 413, "invalid_request_error"),
    ("unsupported_encoding", 415, "invalid_request_error"),
    ("model_required", 400, "invalid_request_error"),
    ("model_ambiguous", 400, "invalid_request_error"),
    ("provider_ambiguous", 400, "invalid_request_error"),
    ("dialect_not_supported", 400, "invalid_request_error"),
    ("budget_exceeded", 402, "insufficient_quota"),
    ("request_too_expensive", 402, "insufficient_quota"),
    ("budget_held", 429, "rate_limit_error"),
    ("rate_limit_exceeded", 429, "rate_limit_error"),
    ("concurrency_limit", 429, "rate_limit_error"),
    ("exceeds_rate_limit", 403, "permission_error"),
    ("websocket_not_supported", 426, "invalid_request_error"),
    ("sealed", 503, "api_error"),
    ("store_unavailable", 503, "api_error"),
    ("overloaded", 503, "api_error"),
    ("upstream_credential_error", 502, "api_error"),
    ("upstream_error", 502, "api_error"),
    ("upstream_timeout", 504, "api_error"),
    // Of a budget in disorder and the like; never on purpose.
    ("internal_error", 500, "api_error"),
];

/// What cannot come about: a model is always in the path of Google's, and no defect is known.
const NEVER: [(&str, &str); 4] = [
    ("gemini", "model_required"),
    ("openai", "internal_error"),
    ("anthropic", "internal_error"),
    ("gemini", "internal_error"),
];

/// The type that the dialect gives the error.
pub(super) fn kind(dialect: &str, code: &str) -> (u16, &'static str) {
    let (_, status, openai) = CONTRACT.into_iter().find(|one| one.0 == code).unwrap();
    let kind = match (dialect, status, code) {
        ("anthropic", _, "overloaded") => "overloaded_error",
        ("gemini", 502 | 503, _) => "UNAVAILABLE",
        ("gemini", 504, _) => "DEADLINE_EXCEEDED",
        _ => super::kind(dialect, status, openai),
    };
    (status, kind)
}

/// What has been provoked.
struct Table {
    server: TestServer,
    seen: BTreeSet<(&'static str, &'static str)>,
}

impl Table {
    fn over(server: TestServer) -> Self {
        Self { server, seen: BTreeSet::new() }
    }

    /// The refusal whole, in its dialect.
    fn saw(&mut self, dialect: &'static str, code: &'static str, answer: &Answer) {
        let (status, kind) = kind(dialect, code);
        assert_refusal(answer, dialect, status, kind, code, &format!("{code} in {dialect}"));
        assert_eq!(answer.header("content-type"), Some("application/json"), "{code} in {dialect}");
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert_eq!(message.starts_with("Incorrect API key provided"), code == "invalid_api_key", "{message}");
        let holds_key = message.split("bk_").skip(1).any(|rest| rest.starts_with(char::is_alphanumeric));
        assert!(!holds_key && !message.contains(CANARY), "{message}");
        self.seen.insert((dialect, code));
    }

    async fn expect(
        &mut self,
        dialect: &'static str,
        code: &'static str,
        request: Request<Full<Bytes>>,
    ) -> Answer {
        let answer = self.server.call(request).await;
        self.saw(dialect, code, &answer);
        answer
    }

    /// Refused with nothing sent and no hint when to come back.
    async fn for_good(&mut self, dialect: &'static str, code: &'static str, request: Request<Full<Bytes>>) {
        let before = self.server.sandbox.requests().len();
        let answer = self.expect(dialect, code, request).await;
        assert_eq!(self.server.sandbox.requests().len(), before, "{code} in {dialect}: it went through");
        assert_eq!(retry(&answer), (None, None, None), "{code} in {dialect}");
    }

    async fn mint(&self, more: Value) -> String {
        self.server.mint(more).await.1
    }

    async fn put_model(&self, provider: &str, name: &str, document: &Value) {
        let path = format!("/api/v1/models/{provider}/{name}");
        let put = self.server.admin_call(Method::PUT, &path, Some(document)).await;
        assert!(put.status.is_success(), "{}", put.json());
    }

    async fn add_provider(&self, slug: &str, dialects: Value) -> String {
        let made =
            self.server.admin_post("/api/v1/providers", &json!({"slug": slug, "dialects": dialects})).await;
        assert_eq!(made.status, 201, "{}", made.json());
        let key = json!({"name": "main", "secret": CANARY});
        let made = self.server.admin_post(&format!("/api/v1/providers/{slug}/credentials"), &key).await;
        made.json()["id"].as_str().unwrap().to_owned()
    }
}

/// `retry-after`, `retry-after-ms` and `x-should-retry`.
fn retry(answer: &Answer) -> (Option<&str>, Option<&str>, Option<&str>) {
    (answer.header("retry-after"), answer.header("retry-after-ms"), answer.header("x-should-retry"))
}

/// The path of the dialect's chat.
fn chat_path(dialect: &str, model: &str) -> String {
    match dialect {
        "openai" => "/v1/chat/completions".to_owned(),
        "anthropic" => "/v1/messages".to_owned(),
        _ => format!("/v1beta/models/{}:generateContent", model.replace(',', "%2C").replace('=', "%3D")),
    }
}

/// A chat of the dialect with more fields.
fn chatting(dialect: &str, model: &str, more: &Value) -> Value {
    let mut body = match dialect {
        "gemini" => json!({
            "contents": [{"role": "user", "parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 16},
        }),
        _ => chat(model),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn ask(server: &TestServer, dialect: &str, secret: &str, model: &str, more: &Value) -> Request<Full<Bytes>> {
    spoken(server, dialect, secret, &chat_path(dialect, model), &chatting(dialect, model, more))
}

fn plain(server: &TestServer, dialect: &str, secret: &str) -> Request<Full<Bytes>> {
    ask(server, dialect, secret, "sandbox-mini", &json!({}))
}

/// A field that names an object.
fn naming(dialect: &str, id: &str) -> Value {
    match dialect {
        "openai" => json!({"previous_response_id": id}),
        "anthropic" => json!({"container": id}),
        _ => json!({"cachedContent": id}),
    }
}

async fn keys(table: &mut Table, dialect: &'static str) {
    let server = &table.server;
    let (soon, later) = (server.clock.now() + TimeDelta::seconds(5), server.clock.now() + TimeDelta::days(1));
    let expired = table.mint(json!({"expires_at": soon})).await;
    server.clock.advance(TimeDelta::seconds(6));
    let early = table.mint(json!({"not_before": later})).await;
    let (open, other) = (table.mint(json!({})).await, table.mint(json!({})).await);
    let (idle_id, idle) = server.mint(json!({})).await;
    let (gone_id, gone) = server.mint(json!({})).await;
    for (id, verb) in [(idle_id, "suspend"), (gone_id, "revoke")] {
        server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &json!({})).await;
    }
    for (secret, code) in [
        ("junk", "invalid_api_key"),
        (&expired, "key_expired"),
        (&early, "key_not_yet_valid"),
        (&idle, "key_suspended"),
        (&gone, "key_revoked"),
    ] {
        let request = plain(&table.server, dialect, secret);
        table.for_good(dialect, code, request).await;
    }
    let two = also(plain(&table.server, dialect, &open), &[("api-key", &other)]);
    table.for_good(dialect, "ambiguous_credentials", two).await;
    let mut in_query = plain(&table.server, dialect, &open);
    *in_query.uri_mut() = format!("{}?key={other}", in_query.uri()).parse().unwrap();
    table.for_good(dialect, "key_in_query", in_query).await;
}

async fn policy(table: &mut Table, dialect: &'static str) {
    let tools = match dialect {
        "openai" => json!({"tools": [{"type": "function", "function": {"name": "f"}}]}),
        "anthropic" => json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}]}),
        _ => json!({"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
    };
    let priced = match dialect {
        "openai" => json!({"prediction": {"type": "content", "content": "x"}}),
        "anthropic" => json!({"context_management": {"edits": [{"type": "compact_20260112"}]}}),
        _ => json!({"tools": [{"googleSearch": {}}]}),
    };
    let capped = json!([{"limit_usd": "9", "window": "day"}]);
    let nothing = || json!({});
    let mini = "sandbox-mini";
    for (fields, model, more, code) in [
        (json!({"ip_allow": []}), mini, nothing(), "ip_not_allowed"),
        (json!({"models": []}), mini, nothing(), "model_not_allowed"),
        (json!({"operations": []}), mini, nothing(), "operation_not_allowed"),
        (json!({"allow_tools": false}), mini, tools, "feature_not_allowed"),
        (json!({"max_output_tokens": 15}), mini, nothing(), "output_bound_exceeded"),
        (json!({"budgets": capped}), "sandbox-unpriced", nothing(), "model_unpriced"),
        (
            json!({"budgets": capped, "allow_truncation": true, "hosted_tools": ["*"]}),
            mini,
            priced,
            "feature_unpriced",
        ),
        (nothing(), mini, naming(dialect, "nobodys_object_0001"), "object_not_found"),
        (
            json!({"rate_limits": [{"metric": "tokens", "limit": 1, "per": "minute"}]}),
            mini,
            nothing(),
            "exceeds_rate_limit",
        ),
    ] {
        let secret = table.mint(fields).await;
        let request = ask(&table.server, dialect, &secret, model, &more);
        table.for_good(dialect, code, request).await;
    }
}

async fn bodies(table: &mut Table, dialect: &'static str) {
    let secret = table.mint(json!({"models": ["*"]})).await;
    let whole = |more: &Value| ask(&table.server, dialect, &secret, "sandbox-mini", more);
    let with_bytes = |bytes: Vec<u8>| {
        let (parts, _) = whole(&json!({})).into_parts();
        Request::from_parts(parts, Full::new(Bytes::from(bytes)))
    };
    let lost = spoken(&table.server, dialect, &secret, "/v1/no/such/thing", &chat("sandbox-mini"));
    let upgrade = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    let socket = spoken(&table.server, dialect, &secret, &chat_path(dialect, "sandbox-mini"), &Value::Null);
    let cases = vec![
        ("unknown_operation", lost),
        ("websocket_not_supported", also(socket, &upgrade)),
        ("invalid_body", with_bytes(b"{".to_vec())),
        ("body_too_large", with_bytes(vec![b' '; 70_000])),
        ("unsupported_encoding", also(whole(&json!({})), &[("content-encoding", "gzip")])),
    ];
    for (code, request) in cases {
        table.for_good(dialect, code, request).await;
    }
    if dialect != "gemini" {
        let request = ask(&table.server, dialect, &secret, "sandbox-mini", &json!({"model": null}));
        table.for_good(dialect, "model_required", request).await;
    }
    let twice = ask(&table.server, dialect, &secret, "sandbox-twice", &json!({}));
    table.for_good(dialect, "model_ambiguous", twice).await;
    let mono = if dialect == "openai" { "only-anthropic" } else { "only-openai" };
    let path = format!("/p/{mono}{}", chat_path(dialect, "m"));
    let request = spoken(&table.server, dialect, &secret, &path, &chatting(dialect, "m", &json!({})));
    table.for_good(dialect, "dialect_not_supported", request).await;
}

async fn money(table: &mut Table, dialect: &'static str) {
    let tiny = "0.000000001";
    let budget = |limit: &str, window: &str| json!({"budgets": [{"limit_usd": limit, "window": window}]});
    let left = 86_400 - table.server.clock.now().timestamp() % 86_400;
    for (fields, code, wait) in [
        (budget(tiny, "day"), "budget_exceeded", Some(left.to_string())),
        (budget(tiny, "total"), "budget_exceeded", None),
        (json!({"max_request_usd": tiny}), "request_too_expensive", None),
    ] {
        let secret = table.mint(fields).await;
        let request = plain(&table.server, dialect, &secret);
        let answer = table.expect(dialect, code, request).await;
        assert_eq!(retry(&answer), (wait.as_deref(), None, Some("false")), "{code} in {dialect}");
        let error = &answer.json()["error"];
        let told = if dialect == "gemini" { &error["details"][0]["metadata"] } else { &error["details"] };
        let names: &[&str] = match code {
            "budget_exceeded" => &["budget", "limit_usd", "spent_usd", "held_usd", "requested_usd"],
            _ => &["limit_usd", "requested_usd"],
        };
        for name in names {
            assert!(told[*name].is_string() || told[*name].is_object(), "{name}: {error}");
        }
    }
    let secret = table.mint(budget("1.5", "total")).await;
    let held = held(table, dialect, &secret, "budget_held").await;
    assert_eq!(retry(&held), (Some("1"), Some("1000"), None), "{dialect}");
}

/// What a second request comes to while a first one is held by the provider.
async fn held(table: &mut Table, dialect: &'static str, secret: &str, code: &'static str) -> Answer {
    let first = table.server.call(ask(&table.server, dialect, secret, "sandbox-mini+hold", &json!({})));
    let second = async {
        table.server.sandbox.wait_held(1).await;
        let answer =
            table.server.call(ask(&table.server, dialect, secret, "sandbox-mini+hold", &json!({}))).await;
        table.server.sandbox.release();
        answer
    };
    let (first, second) = futures_util::future::join(first, second).await;
    assert_eq!(first.status, 200, "{}", first.json());
    table.saw(dialect, code, &second);
    second
}

async fn rates(table: &mut Table, dialect: &'static str) {
    let fields = json!({"rate_limits": [{"metric": "requests", "limit": 1, "per": "minute"}]});
    let secret = table.mint(fields).await;
    assert_eq!(table.server.call(plain(&table.server, dialect, &secret)).await.status, 200);
    let request = plain(&table.server, dialect, &secret);
    let answer = table.expect(dialect, "rate_limit_exceeded", request).await;
    let (seconds, ms, should) = retry(&answer);
    let ms: u64 = ms.unwrap().parse().unwrap();
    assert!((1..=60_000).contains(&ms), "{ms}");
    assert_eq!((seconds, should), (Some(ms.div_ceil(1000).to_string().as_str()), None));
    let secret = table.mint(json!({"rate_limits": [{"metric": "concurrent_requests", "limit": 1}]})).await;
    let answer = held(table, dialect, &secret, "concurrency_limit").await;
    assert_eq!(retry(&answer).2, None);
}

async fn provider(table: &mut Table, dialect: &'static str) {
    let secret = table.mint(json!({})).await;
    for (model, code) in [
        ("sandbox-mini+bad_key", "upstream_credential_error"),
        ("sandbox-mini+close", "upstream_error"),
        ("sandbox-mini+delay=60000", "upstream_timeout"),
    ] {
        let request = ask(&table.server, dialect, &secret, model, &json!({}));
        let answer = table.expect(dialect, code, request).await;
        assert_eq!(
            retry(&answer),
            (None, None, Some("false")),
            "{code} in {dialect}: it would be paid twice"
        );
        assert_eq!(answer.header("x-bitting-attempts"), Some("1"), "{code}");
    }
    // Nothing was sent: trying again costs nothing.
    let secret = table.mint(json!({"models": ["nowhere/*"]})).await;
    let path = format!("/p/nowhere{}", chat_path(dialect, "m"));
    let request = spoken(&table.server, dialect, &secret, &path, &chatting(dialect, "m", &json!({})));
    let answer = table.expect(dialect, "upstream_error", request).await;
    assert_eq!(retry(&answer).2, None, "{dialect}");
}

#[tokio::test]
async fn every_error_of_the_contract_in_every_dialect() {
    let limits = "[limits]\njson_body_bytes = 65536";
    let server = TestServer::start_with(TestStore::sqlite().await, still_clock(), &[(FILE, limits)]).await;
    let mut table = Table::over(server);
    let url = table.server.sandbox_url.clone();
    let all = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
    let second = table.add_provider("second", all).await;
    let first = table.server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    let first = first["items"][0]["id"].as_str().unwrap().to_owned();
    table.add_provider("only-openai", json!({"openai": format!("{url}/v1")})).await;
    table.add_provider("only-anthropic", json!({"anthropic": url})).await;
    let closed = "http://127.0.0.1:1";
    table.add_provider("nowhere", json!({"openai": closed, "anthropic": closed, "gemini": closed})).await;
    let document = |per_request: &str| {
        let prices =
            json!({"input_per_mtok_usd": "0", "output_per_mtok_usd": "0", "per_request_usd": per_request});
        json!({"operations": ["chat"], "context_window": 1000, "max_output_tokens": 100, "prices": prices})
    };
    for provider in ["sandbox", "second"] {
        table.put_model(provider, "sandbox-twice", &document("0")).await;
    }
    table.put_model("sandbox", "sandbox-mini+hold", &document("1")).await;
    let timeouts = json!({"timeouts": {"first_byte_ms": 10_000}});
    let path = "/api/v1/providers/sandbox";
    assert_eq!(table.server.admin_call(Method::PATCH, path, Some(&timeouts)).await.status, 200);

    for (dialect, ..) in DIALECTS {
        keys(&mut table, dialect).await;
        policy(&mut table, dialect).await;
        bodies(&mut table, dialect).await;
        money(&mut table, dialect).await;
        rates(&mut table, dialect).await;
        // Of one id at two providers nobody can say which is meant.
        let secret = table.mint(json!({"models": ["*"]})).await;
        let id = format!("object_at_two_providers_{dialect}");
        for (provider, credential_id) in [("sandbox", &first), ("second", &second)] {
            let kept = Kept { provider, credential_id, model: None };
            put_on_record(&table.server, &secret, kept, ObjectKind::Container, &id).await;
        }
        let request = ask(&table.server, dialect, &secret, "sandbox-mini", &naming(dialect, &id));
        table.for_good(dialect, "provider_ambiguous", request).await;
    }
    let timeouts = json!({"timeouts": {"first_byte_ms": 200}});
    assert_eq!(table.server.admin_call(Method::PATCH, path, Some(&timeouts)).await.status, 200);
    for (dialect, ..) in DIALECTS {
        provider(&mut table, dialect).await;
    }
    let seen = closed_gates(table).await;
    for (code, ..) in CONTRACT {
        for (dialect, ..) in DIALECTS {
            let is_seen = seen.contains(&(dialect, code));
            assert_ne!(is_seen, NEVER.contains(&(dialect, code)), "{code} in {dialect}");
        }
    }
}

/// What nobody is served by: a full server, one without its database, a sealed one.
async fn closed_gates(table: Table) -> BTreeSet<(&'static str, &'static str)> {
    let mut seen = table.seen;
    let server = table.server;
    let secret = server.mint(json!({})).await.1;
    server.services.store.close().await;
    let mut table = Table { server, seen: BTreeSet::new() };
    for (dialect, ..) in DIALECTS {
        let request = plain(&table.server, dialect, &secret);
        let answer = table.expect(dialect, "store_unavailable", request).await;
        assert_eq!(retry(&answer).0, Some("1"), "{dialect}");
    }
    seen.append(&mut table.seen);

    let full = [(FILE, "[limits]\nrequests_max = 1")];
    let server = TestServer::start_with(TestStore::sqlite().await, still_clock(), &full).await;
    let mut table = Table::over(server);
    let secret = table.mint(json!({})).await;
    for (dialect, ..) in DIALECTS {
        let answer = held(&mut table, dialect, &secret, "overloaded").await;
        assert_eq!(retry(&answer), (Some("1"), None, None), "{dialect}");
    }
    assert_eq!(table.server.admin_post("/api/v1/vault/seal", &json!({})).await.status, 200);
    for (dialect, ..) in DIALECTS {
        let request = plain(&table.server, dialect, &secret);
        let answer = table.expect(dialect, "sealed", request).await;
        assert_eq!(retry(&answer), (Some("10"), None, None), "{dialect}");
    }
    seen.append(&mut table.seen);
    seen
}
