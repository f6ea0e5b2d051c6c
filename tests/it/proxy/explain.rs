//! `explain` says of a request what the proxy then does with it.

use super::still_server;
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
