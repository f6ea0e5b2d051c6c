//! Azure's paths and errors.

use super::{KEY, Running, chat, json_of, start, with};
use axum::http::StatusCode;
use serde_json::{Value, json};

const VERSION: &str = "?api-version=2024-10-21";

async fn post(run: &Running, path: &str, key: Option<&str>, body: &Value) -> (StatusCode, Value) {
    let request = run.request("POST", path);
    let request = if let Some(key) = key { request.header("api-key", key) } else { request };
    json_of(run.send(request, body).await).await
}

#[tokio::test]
async fn the_deployment_is_the_model() {
    let run = start().await;
    let at = |deployment: &str, below: &str| format!("/openai/deployments/{deployment}/{below}{VERSION}");
    let deployed = at("sandbox-large%2Btokens=3", "chat/completions");
    let (status, body) = post(&run, &deployed, Some(KEY), &chat("whatever")).await;
    assert_eq!((status, &body["model"]), (StatusCode::OK, &json!("sandbox-large+tokens=3")), "{body}");
    for (model, below, body) in [
        ("sandbox-mini", "completions", json!({"prompt": "a"})),
        ("sandbox-embedding", "embeddings", json!({"input": "a"})),
        ("sandbox-image", "images/generations", json!({"prompt": "a"})),
    ] {
        assert_eq!(post(&run, &at(model, below), Some(KEY), &body).await.0, StatusCode::OK, "{below}");
        assert_eq!(run.sandbox.bill().models[model].requests, 1);
    }
    for (path, body) in [
        ("/openai/v1/chat/completions", chat("sandbox-mini")),
        ("/openai/v1/responses", json!({"model": "sandbox-mini", "input": "a"})),
        ("/openai/v1/moderations?api-version=preview", json!({"input": "a"})),
    ] {
        assert_eq!(post(&run, path, Some(KEY), &body).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn azure_refuses_in_its_own_words() {
    let run = start().await;
    let deployed = |name: &str| format!("/openai/deployments/{name}/chat/completions");
    let versioned = deployed("sandbox-mini") + VERSION;
    let mut seen = Vec::new();
    for (path, key, body) in [
        (deployed("sandbox-mini"), Some(KEY), chat("m")),
        (deployed("gpt-4o") + VERSION, Some(KEY), chat("m")),
        (versioned.clone(), None, chat("m")),
        (versioned.clone(), Some("sandbox-bad-1"), chat("m")),
        (versioned.clone(), Some(KEY), with(chat("m"), &json!({"max_tokens": 0}))),
        (deployed("sandbox-mini+status=429") + VERSION, Some(KEY), chat("m")),
        (format!("/openai/deployments/sandbox-mini/nothing{VERSION}"), Some(KEY), chat("m")),
    ] {
        let (status, body) = post(&run, &path, key, &body).await;
        seen.push(format!("{} {}", status.as_u16(), body["error"]));
    }
    insta::assert_snapshot!(seen.join("\n"), @r#"
    404 {"code":"404","message":"Resource not found"}
    404 {"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please wait a moment and try again."}
    401 {"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}
    401 {"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource."}
    400 {"code":null,"message":"Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 instead.","param":"max_tokens","type":"invalid_request_error"}
    429 {"code":"429","message":"Rate limit reached. Please try again in 1s."}
    404 {"code":"404","message":"Resource not found"}
    "#);
}
