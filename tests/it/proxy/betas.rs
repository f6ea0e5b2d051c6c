//! Beta values: passed on as they came, refused where a key or a ceiling denies them, and priced for what they open.

use super::{also, assert_one_denial, assert_refusal, spoken, still_clock, still_server};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use http::Method;
use serde_json::{Value, json};

const WIDE: &str = "context-1m-2025-08-07";
const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages?beta=true";
const COUNT: &str = "/v1/messages/count_tokens?beta=true";
const GENERATE: &str = "/v1beta/models/sandbox-mini:generateContent";

fn body(path: &str) -> Value {
    match path {
        GENERATE => json!({"contents": [{"parts": [{"text": "hello"}]}]}),
        COUNT => json!({"model": "sandbox-mini", "messages": [{"role": "user", "content": "hello"}]}),
        _ => chat("sandbox-mini"),
    }
}

on_both! {
    async fn a_denied_beta_is_refused_by_name_in_every_dialect_and_others_pass_as_they_came(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (_, open) = server.mint(json!({})).await;
        for (dialect, path, kind, header) in [
            ("openai", CHAT, "permission_error", "openai-beta"),
            ("anthropic", MESSAGES, "permission_error", "anthropic-beta"),
            ("anthropic", COUNT, "permission_error", "anthropic-beta"),
            ("gemini", GENERATE, "PERMISSION_DENIED", "anthropic-beta"),
        ] {
            let fields = json!({"deny_betas": ["context-1m-*", "assistants=*"]});
            for denied in [WIDE, "files-api-2025-04-14, Context-1M-2031-01-01", "a,,assistants=v2"] {
                let (id, secret) = server.mint(fields.clone()).await;
                let request = spoken(&server, dialect, &secret, path, &body(path));
                let request = also(request, &[(header, "effort-2025-11-24"), (header, denied)]);
                let (sent, what) = (server.sandbox.requests().len(), format!("{path} {denied}"));
                let answer = server.call(request).await;
                assert_refusal(&answer, dialect, 403, kind, "feature_not_allowed", &what);
                let named = denied.rsplit(',').next().unwrap().trim().to_ascii_lowercase();
                assert!(answer.json()["error"]["message"].as_str().unwrap().contains(&named), "{what}");
                assert_one_denial(&server, &id, "feature_not_allowed", 403, &what).await;
                assert_eq!(server.sandbox.requests().len(), sent, "{what}");
            }
            let (_, secret) = server.mint(fields).await;
            for (secret, value) in [(&secret, "Wibble-2031-01-01 , context-2m-x"), (&open, WIDE)] {
                let request = spoken(&server, dialect, secret, path, &body(path));
                let answer = server.call(also(request, &[(header, "b"), (header, value)])).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.json());
                let sent = server.sandbox.requests().pop().unwrap();
                let lines = sent.headers.iter().filter(|(name, _)| name == header).map(|(_, value)| value.as_str());
                assert_eq!(lines.collect::<Vec<_>>(), ["b", value], "{path}");
            }
        }
    }

    async fn a_ceiling_denies_betas_to_every_key_below_it(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let project = json!({"slug": "team", "ceiling": {"deny_betas": [WIDE]}});
        assert_eq!(server.admin_post("/api/v1/projects", &project).await.status, 201);
        let beyond = json!({"name": "k", "project": "team", "models": ["*"]});
        let refused = server.admin_post("/api/v1/subkeys", &beyond).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["field"]), (403, &json!("/deny_betas")));
        let (id, secret) = server.mint(json!({"project": "team", "deny_betas": ["context-*"]})).await;
        let asks = || also(spoken(&server, "anthropic", &secret, MESSAGES, &body(MESSAGES)), &[("anthropic-beta", WIDE)]);
        assert_eq!(server.call(asks()).await.refusal(), (403, "feature_not_allowed".to_owned()));
        let ceiling = json!({"ceiling": {"deny_betas": ["effort-*"]}});
        let path = "/api/v1/projects/team";
        assert_eq!(server.admin_call(Method::PATCH, path, Some(&ceiling)).await.status, 200);
        let freed = json!({"deny_betas": ["effort*"]});
        let freed = server.admin_call(Method::PATCH, &format!("/api/v1/subkeys/{id}"), Some(&freed)).await;
        assert_eq!(freed.status, 200);
        assert_eq!(server.call(asks()).await.status, 200);
        let project = json!({"ceiling": {"deny_betas": ["context*"]}});
        assert_eq!(server.admin_call(Method::PATCH, path, Some(&project)).await.status, 200);
        let answer = server.call(asks()).await;
        assert_eq!(answer.refusal(), (403, "feature_not_allowed".to_owned()));
        assert_eq!(answer.json()["error"]["details"]["ceiling"], "project:team");
        let own = server.call(spoken(&server, "openai", &secret, "/bitting/self", &Value::Null)).await.json();
        assert_eq!((&own["deny_betas"], &own["projects"][0]["ceiling"]["deny_betas"]), (&json!(["effort*"]), &json!(["context*"])));
    }
}

#[tokio::test]
async fn a_beta_that_no_list_knows_is_an_unknown_field() {
    let server = still_server(&[]).await;
    let (_, strict) = server.mint(json!({"strict_fields": true})).await;
    let (_, open) = server.mint(json!({})).await;
    let ask = |secret: &str, value: &str| {
        let request = spoken(&server, "anthropic", secret, MESSAGES, &body(MESSAGES));
        server.call(also(request, &[("anthropic-beta", value)]))
    };
    let unknown = "context-1m-2025-08-07,wibble-2031-01-01";
    assert_eq!(ask(&open, unknown).await.status, 200);
    let answer = ask(&strict, unknown).await;
    assert_eq!(answer.refusal(), (403, "feature_not_allowed".to_owned()));
    let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(said.contains("anthropic-beta=wibble-2031-01-01"), "{said}");
    assert_eq!(ask(&strict, WIDE).await.status, 200);
    for bad in ["a b", "a;b", "\"context-1m-2025-08-07\"", "a\tb"] {
        assert_eq!(ask(&open, bad).await.refusal(), (400, "invalid_body".to_owned()), "{bad}");
    }
    assert_eq!(server.sandbox.requests().len(), 2);
}

#[tokio::test]
async fn a_beta_in_the_body_counts_like_one_in_the_header() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({"deny_betas": ["context-1m-*"]})).await;
    for field in ["anthropic_beta", "betas"] {
        let mut body = body(MESSAGES);
        body[field] = json!(["effort-2025-11-24", WIDE]);
        let answer = server.call(spoken(&server, "anthropic", &secret, MESSAGES, &body)).await;
        assert_eq!(answer.refusal(), (403, "feature_not_allowed".to_owned()), "{field}");
    }
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn p3_a_wider_window_is_reserved_for_or_refused_under_a_cap() {
    let server = still_server(&[]).await;
    let prices = json!({"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"});
    let tiered = json!({
        "input_per_mtok_usd": "1", "output_per_mtok_usd": "1",
        "context_tiers": [{"above_tokens": 1000, "input_per_mtok_usd": "2", "output_per_mtok_usd": "2"}],
    });
    for (name, prices) in [("tokens=1", prices), ("tokens=2", tiered)] {
        let model = json!({"operations": ["chat"], "context_window": 1000, "max_output_tokens": 10, "prices": prices});
        let path = format!("/api/v1/models/sandbox/sandbox-mini+{name}");
        let put = server.admin_call(Method::PUT, &path, Some(&model)).await;
        assert!(put.status.is_success(), "{}", put.json());
    }
    let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
    let ask = |model: &str, text: &str, beta: &'static str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 10});
        let request = spoken(&server, "anthropic", &secret, MESSAGES, &body);
        server.call(also(request, &[("anthropic-beta", beta)]))
    };
    let long = "x".repeat(3_000);
    let reserved =
        async || server.entries(&id).await.pop().unwrap()["reserved_usd"].as_str().unwrap().to_owned();
    assert_eq!(ask("sandbox-mini+tokens=1", &long, "effort-2025-11-24").await.status, 200);
    assert_eq!(reserved().await, "0.00101", "1,000 tokens and 10");
    assert_eq!(
        ask("sandbox-mini+tokens=1", &long, WIDE).await.refusal(),
        (403, "feature_unpriced".to_owned())
    );
    assert_eq!(
        ask("sandbox-mini+tokens=1", "short", WIDE).await.status,
        200,
        "what fits the window has its price"
    );
    assert_eq!(ask("sandbox-mini+tokens=2", &long, WIDE).await.status, 200);
    assert!(reserved().await.as_str() > "0.006", "{}", reserved().await);
}

#[tokio::test]
async fn p3_what_a_provider_is_set_to_ask_for_moves_the_bounds_and_is_told() {
    let server = still_server(&[]).await;
    let url = &server.sandbox_url;
    let headers =
        json!({"anthropic-beta": "context-1m-2025-08-07, files-api-2025-04-14", "x-team": "search"});
    let patch = json!({"dialects": {"anthropic": {"base_url": url, "headers": headers}, "openai": format!("{url}/v1")}});
    let patched = server.admin_call(Method::PATCH, "/api/v1/providers/sandbox", Some(&patch)).await;
    assert_eq!(patched.status, 200, "{}", patched.json());
    let prices = json!({"input_per_mtok_usd": "1", "output_per_mtok_usd": "1", "context_tiers": [
        {"above_tokens": 1000, "input_per_mtok_usd": "2", "output_per_mtok_usd": "2"}]});
    let model =
        json!({"operations": ["chat"], "context_window": 1000, "max_output_tokens": 10, "prices": prices});
    let put =
        server.admin_call(Method::PUT, "/api/v1/models/sandbox/sandbox-mini+tokens=2", Some(&model)).await;
    assert!(put.status.is_success(), "{}", put.json());
    // What the key may not ask for, and does not, is no reason to refuse it.
    let key = json!({"budgets": [{"limit_usd": "1", "window": "day"}], "deny_betas": ["context-*"], "strict_fields": true});
    let (id, secret) = server.mint(key).await;
    let body = json!({"model": "sandbox-mini+tokens=2", "messages": [{"role": "user", "content": "x".repeat(3_000)}], "max_tokens": 10});
    let ask = async |dialect: &str, path: &str, betas: &[(&'static str, &'static str)]| {
        let answer = server.call(also(spoken(&server, dialect, &secret, path, &body), betas)).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let sent = server.sandbox.requests().pop().unwrap();
        let lines =
            sent.headers.iter().filter(|(name, _)| name == "anthropic-beta").map(|(_, value)| value.clone());
        let reserved = server.entries(&id).await.pop().unwrap()["reserved_usd"].as_str().unwrap().to_owned();
        (lines.collect::<Vec<_>>(), answer.header("x-bitting-changed").map(str::to_owned), reserved)
    };
    let told = Some("anthropic-beta".to_owned());
    let (sent, changed, reserved) = ask("anthropic", MESSAGES, &[]).await;
    assert_eq!(
        (sent, changed),
        (vec!["context-1m-2025-08-07,files-api-2025-04-14".to_owned()], told.clone())
    );
    assert!(reserved.as_str() > "0.006", "what lies beyond the window, at its price: {reserved}");
    let own = [("anthropic-beta", "effort-2025-11-24"), ("anthropic-beta", "Files-API-2025-04-14")];
    let (sent, changed, _) = ask("anthropic", MESSAGES, &own).await;
    assert_eq!(
        sent,
        ["effort-2025-11-24,Files-API-2025-04-14,context-1m-2025-08-07"],
        "nothing of its own is lost"
    );
    assert_eq!(changed, told);
    // What only the body asks for is added to the header all the same, and that is told.
    let mut own = body.clone();
    own["anthropic_beta"] = json!(["files-api-2025-04-14"]);
    let header = [("anthropic-beta", "context-1m-2025-08-07")];
    let (_, open) = server.mint(json!({"name": "open"})).await;
    let answer = server.call(also(spoken(&server, "anthropic", &open, MESSAGES, &own), &header)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-bitting-changed")), (200, told.as_deref()));
    assert_eq!(
        server.sandbox.requests().pop().unwrap().header("anthropic-beta"),
        Some("context-1m-2025-08-07,files-api-2025-04-14")
    );
    let (sent, changed, reserved) = ask("openai", CHAT, &[]).await;
    assert_eq!(
        (sent, changed, reserved.as_str()),
        (vec![], None, "0.00101"),
        "another dialect has its own headers"
    );
}
