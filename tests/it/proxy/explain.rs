//! `explain` says of a request what the proxy then does with it.

use super::asking::{self, MODEL};
use super::rows::{Tapped, what};
use super::still_server;
use crate::support::store::TestStore;
use bitting::budget::Window;
use bitting::provider::operation::{Hole, ROWS, Row};
use bitting::store::budget::{BudgetId, BudgetOwner, WindowId};
use bitting::store::disorder;
use bitting::subkey::SubKeyId;
use chrono::DateTime;
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn explain_agrees_with_what_the_proxy_does() {
    let server = still_server(&[]).await;
    let budget = |limit: &str| json!([{"limit_usd": limit, "window": "day"}]);
    let keys = [
        json!({}),
        json!({"models": []}),
        json!({"models": ["sandbox/sandbox-mini"], "deny_models": ["*mini"]}),
        json!({"models": ["*"], "deny_models": ["*-large"]}),
        json!({"operations": ["embeddings"]}),
        json!({"ip_allow": []}),
        json!({"ip_allow": ["127.0.0.1/32"]}),
        json!({"max_output_tokens": 10}),
        json!({"max_output_tokens": 10, "clamp_output": true}),
        json!({"default_max_output_tokens": 10, "max_output_tokens": 20}),
        json!({"default_max_output_tokens": 100_000, "max_output_tokens": 20_000}),
        json!({"max_request_usd": "0.000000001"}),
        json!({"max_request_usd": "1"}),
        json!({"max_request_usd": "0.00001", "clamp_to_budget": true}),
        json!({"budgets": budget("0.000000001")}),
        json!({"budgets": budget("1")}),
        json!({"not_before": "2999-01-01T00:00:00Z"}),
    ];
    let questions: [(&str, &str, Option<u64>); 10] = [
        ("chat", "sandbox-mini", Some(16)),
        ("chat", "sandbox-mini", None),
        ("chat", "sandbox/sandbox-large", Some(10)),
        ("chat", "sandbox-unpriced", Some(1)),
        ("chat", "sandbox-nameless", Some(1)),
        ("chat", "openai/gpt-4o", Some(1)),
        ("chat", "Sandbox-mini", Some(1)),
        ("chat", "sandbox-embedding", Some(1)),
        ("embeddings", "sandbox-embedding", None),
        ("embeddings", "sandbox-mini", None),
    ];
    let (mut admitted, mut refused) = (0, 0);
    for key in keys {
        let mut fields = json!({"models": ["*"]});
        fields.as_object_mut().unwrap().extend(key.as_object().unwrap().clone());
        let (id, secret) = server.mint(fields).await;
        for (operation, model, bound) in questions {
            let (path, mut body) = match operation {
                "chat" => (
                    "/v1/chat/completions",
                    json!({"model": model, "messages": [{"role": "user", "content": "hello"}]}),
                ),
                _ => ("/v1/embeddings", json!({"model": model, "input": "hello"})),
            };
            if let Some(bound) = bound {
                body["max_tokens"] = json!(bound);
            }
            let question = json!({
                "operation": operation, "model": model, "client_ip": "127.0.0.1",
                "input_tokens": body.to_string().len(), "max_output_tokens": bound,
            });
            let said = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await;
            assert_eq!(said.status, 200, "{:?}", said.json());
            let said = said.json();
            let before = server.sandbox.requests().len();
            let answer = server.post(&secret, path, &body).await;
            let what = format!("{model} {bound:?} under {key}: {} but {said}", answer.json());
            let did = server.sandbox.requests().len() > before;
            assert_eq!(said["allowed"], json!(did), "{what}");
            if did {
                admitted += 1;
                assert_eq!(said["denied_by"], Value::Null);
                continue;
            }
            refused += 1;
            let rule = said["denied_by"].as_str().unwrap();
            let code = answer.header("x-bitting-error").unwrap().to_owned();
            let fits = match rule {
                "not_before" => code == "key_not_yet_valid",
                "ip_allow" => code == "ip_not_allowed",
                "operations" => code == "operation_not_allowed",
                "models" => code == "model_not_allowed",
                "model" => {
                    ["model_not_allowed", "operation_not_allowed", "model_ambiguous"].contains(&code.as_str())
                }
                "max_output_tokens" => code == "output_bound_exceeded",
                "price" => code == "model_unpriced",
                "max_request_usd" => code == "request_too_expensive",
                "budgets/day" => code == "budget_exceeded",
                _ => false,
            };
            assert!(fits, "{rule} is not {code}: {what}");
        }
    }
    assert!(admitted > 30 && refused > 30, "{admitted} and {refused}");
}

/// A path that a client of the row has, under a provider.
fn path(row: &Row, provider: &str, object: &str) -> String {
    let named = if row.template.hole() == Some(Hole::Object) { object } else { MODEL };
    format!("/p/{provider}{}", row.template.path(named))
}

/// The code that a denial by a rule is told the caller with.
fn codes_of(rule: &str) -> &'static [&'static str] {
    match rule.rsplit('/').next().unwrap_or(rule) {
        _ if rule.starts_with("budgets/") => &["budget_exceeded"],
        // A rate of tokens is no less a bound than a cap: without a price nobody knows how many there are.
        _ if rule.contains("rate_limits/") => {
            &["exceeds_rate_limit", "rate_limit_exceeded", "model_unpriced"]
        }
        "status" => &["key_suspended", "key_revoked"],
        "not_before" => &["key_not_yet_valid"],
        "expires_at" => &["key_expired"],
        "ip_allow" => &["ip_not_allowed"],
        "operations" => &["operation_not_allowed"],
        "models" => &["model_not_allowed"],
        "model" => &[
            "model_not_allowed",
            "operation_not_allowed",
            "dialect_not_supported",
            "provider_ambiguous",
            "unknown_operation",
        ],
        "request" => &["unknown_operation"],
        "object" => &["object_not_found"],
        "features" => &["feature_not_allowed"],
        "max_output_tokens" => &["output_bound_exceeded"],
        "price" => &["model_unpriced", "feature_unpriced"],
        "max_request_usd" => &["request_too_expensive"],
        _ => &[],
    }
}

/// Keys that differ in what they may, and the server's state that makes a difference to some rows.
fn keys() -> Vec<Value> {
    let features = ["allow_store", "allow_files", "allow_audio", "allow_images", "allow_streaming"];
    let without = features.map(|switch| json!({switch: false}));
    let only = |operation: &str| json!({"operations": [operation]});
    [
        json!({}),
        json!({"models": []}),
        json!({"models": ["tapped/other-*"]}),
        json!({"deny_models": ["*"]}),
        json!({"deny_models": [format!("*{MODEL}")]}),
        json!({"ip_allow": ["192.0.2.0/24"]}),
        json!({"max_output_tokens": 8}),
        json!({"max_output_tokens": 8, "clamp_output": true}),
        json!({"default_max_output_tokens": 4, "max_output_tokens": 8}),
        json!({"budgets": [{"limit_usd": "0.000000001", "window": "day"}]}),
        json!({"budgets": [{"limit_usd": "100", "window": "day"}]}),
        json!({"max_request_usd": "0.000000001"}),
        json!({"max_request_usd": "0.000000001", "clamp_to_budget": true}),
        json!({"rate_limits": [{"metric": "tokens", "limit": 1, "per": "hour"}]}),
        json!({"not_before": "2999-01-01T00:00:00Z"}),
        only("files"),
        only("responses"),
        only("chat"),
    ]
    .into_iter()
    .chain(without)
    .collect()
}

/// Asks what would become of a request of the row, then makes it, and holds one against the other.
async fn asked_and_made(
    tapped: &Tapped,
    row: &Row,
    provider: &str,
    (id, secret): (&str, &str),
    object: &str,
) -> Result<bool, String> {
    let server = &tapped.server;
    let said = asking::said(row.form);
    let question = json!({
        "method": row.method.as_str(), "path": path(row, provider, object), "dialect": row.dialect.as_str(),
        "model": said.as_ref().filter(|said| said.names_model()).map(|_| MODEL),
        "client_ip": "127.0.0.1", "input_tokens": 200,
        "max_output_tokens": said.as_ref().and_then(asking::Said::bound),
    });
    let explained = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await;
    assert_eq!(explained.status, 200, "{:?}", explained.json());
    let explained = explained.json();
    let answer = server.call(asking::request(server, (row, provider), secret, object, said.as_ref())).await;
    let code = answer.header("x-bitting-error").map(str::to_owned);
    let what = format!("{} under {id} at {provider}: {code:?} but {explained}", what(row));
    match (&code, explained["denied_by"].as_str()) {
        (None, None) => Ok(true),
        (Some(code), Some(rule)) if codes_of(rule).contains(&code.as_str()) => Ok(false),
        (None | Some(_), _) => Err(what),
    }
}

#[tokio::test]
async fn explain_agrees_with_what_the_proxy_does_in_every_row_for_every_key() {
    let tapped = Tapped::over(TestStore::sqlite().await).await;
    let (mut admitted, mut refused, mut apart) = (0, 0, Vec::new());
    let is_of_price = |fields: &Value| {
        let of = ["budgets", "max_request_usd", "max_output_tokens", "rate_limits"];
        of.iter().any(|field| fields.get(field).is_some())
    };
    let unpriced = keys().into_iter().map(|fields| (fields, false));
    let priced = keys().into_iter().filter(is_of_price).map(|fields| (fields, true));
    for (number, (fields, is_priced)) in unpriced.chain(priced).enumerate() {
        if is_priced {
            let costs = json!({"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"});
            let model = json!({
                "operations": ["chat", "completions", "responses", "embeddings"], "context_window": 16_000,
                "max_output_tokens": 4_096, "prices": costs,
            });
            let path = format!("/api/v1/models/tapped/{MODEL}");
            let put = tapped.server.admin_call(Method::PUT, &path, Some(&model)).await;
            assert!(put.status.is_success(), "{}", put.json());
        }
        let (id, secret) = tapped.mint(fields).await;
        for (at, row) in ROWS.iter().enumerate() {
            let object = format!("object_that_is_explained_{number}_{at}");
            // Every other object is nobody's.
            if at % 2 == 0 {
                tapped.own(row, &secret, &object).await;
            }
            let provider = if (at + number) % 7 == 0 { "nobody" } else { "tapped" };
            match asked_and_made(&tapped, row, provider, (&id, &secret), &object).await {
                Ok(true) => admitted += 1,
                Ok(false) => refused += 1,
                Err(what) => apart.push(what),
            }
        }
    }
    assert!(apart.is_empty(), "{} come apart: {}", apart.len(), apart.join("\n"));
    assert!(admitted > 200 && refused > 400, "{admitted} and {refused}");
}

#[tokio::test]
async fn explain_agrees_about_keys_and_windows_that_admit_nothing() {
    let tapped = Tapped::over(TestStore::sqlite().await).await;
    let server = &tapped.server;
    let budget = json!({"budgets": [{"limit_usd": "100", "window": "total"}]});
    let [blocked, edited, raised, revoked, suspended] =
        [budget.clone(), json!({}), budget, json!({}), json!({})].map(|fields| tapped.mint(fields));
    let (blocked, edited, raised) = (blocked.await, edited.await, raised.await);
    let (revoked, suspended) = (revoked.await, suspended.await);
    let owner = BudgetOwner::subkey(&SubKeyId::parse(&blocked.0).unwrap());
    let window =
        WindowId { budget: BudgetId::new(&owner, Window::Total), window_start: DateTime::UNIX_EPOCH };
    let mut tx = server.services.store.write().await.unwrap();
    disorder::block(&mut tx.conn(), &window, "books").await.unwrap();
    tx.commit().await.unwrap();
    let edit = format!("UPDATE subkeys SET created_by = 'eve' WHERE id = '{}'", edited.0);
    let raise = format!("UPDATE budgets SET limit_nano = limit_nano + 1 WHERE owner = 'subkey:{}'", raised.0);
    server.store.tamper(&format!("{edit};\n{raise};")).await;
    for (id, verb) in [(&revoked.0, "revoke"), (&suspended.0, "suspend")] {
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &json!({})).await.status, 200);
    }
    for (what, (id, secret)) in [
        ("blocked", &blocked),
        ("edited", &edited),
        ("raised", &raised),
        ("revoked", &revoked),
        ("suspended", &suspended),
    ] {
        let row = &ROWS[0];
        let admitted = asked_and_made(&tapped, row, "tapped", (id, secret), "").await;
        assert_eq!(admitted, Ok(false), "{what}");
    }
}

#[tokio::test]
async fn a_question_says_an_operation_or_a_path() {
    let server = still_server(&[]).await;
    let (id, _) = server.mint(json!({})).await;
    let explain = format!("/api/v1/subkeys/{id}/explain");
    for (question, field) in [
        (json!({}), "/operation"),
        (json!({"operation": "chat", "path": "/v1/chat/completions"}), "/path"),
        (json!({"operation": "chat", "method": "GET"}), "/method"),
        (json!({"path": "/v1/models", "method": "G T"}), "/method"),
    ] {
        let answer = server.admin_post(&explain, &question).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["errors"][0]["field"]),
            (400, &json!(field)),
            "{question}"
        );
    }
    for (question, request) in [
        (json!({"operation": "chat", "model": "sandbox-mini"}), "POST /v1/chat/completions"),
        (json!({"operation": "chat", "model": "sandbox-mini", "dialect": "anthropic"}), "POST /v1/messages"),
        (
            json!({"operation": "chat", "model": "sandbox-mini", "dialect": "gemini"}),
            "POST /v1beta/models/sandbox-mini:generateContent",
        ),
        (json!({"path": "/v1/models", "method": "GET"}), "GET /v1/models"),
        (json!({"operation": "files"}), "POST /v1/files"),
    ] {
        let said = server.admin_post(&explain, &question).await.json();
        let step = said["trace"].as_array().unwrap().iter().find(|step| step["rule"] == "request").cloned();
        assert_eq!(step.unwrap()["value"], request, "{said}");
        assert_eq!(said["allowed"], true, "{said}");
    }
}
