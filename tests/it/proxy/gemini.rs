//! Google's dialect through the hop: generations, streams of both forms, embeddings, counts.

use super::{also, spoken};
use crate::support::server::{Answer, TestServer};
use crate::support::store::{TestStore, on_both};
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

fn hello() -> Value {
    json!({"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]})
}

fn path(model: &str, action: &str) -> String {
    format!("/v1beta/models/{model}:{action}")
}

async fn asked(server: &TestServer, secret: &str, path: &str, body: &Value) -> Answer {
    server.call(spoken(server, "gemini", secret, path, body)).await
}

/// The text of a streamed or whole generation.
fn said(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str()).collect()
}

on_both! {
    async fn a_generation_is_answered_charged_and_logged_in_every_form(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        for (path, form) in [
            (path("sandbox-mini", "generateContent"), "whole"),
            (path("sandbox-mini", "streamGenerateContent?alt=sse"), "events"),
            (path("sandbox-mini", "streamGenerateContent"), "array"),
            ("/v1/models/sandbox-mini:streamGenerateContent".to_owned(), "array"),
            (format!("/p/sandbox{}", path("sandbox-mini", "generateContent")), "whole"),
        ] {
            server.sandbox.reset();
            let answer = asked(&server, &secret, &path, &hello()).await;
            assert_eq!(answer.status, 200, "{path}");
            let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
            let chunks: Vec<Value> = match form {
                "whole" => vec![serde_json::from_str(&text).unwrap()],
                "array" => serde_json::from_str(&text).unwrap(),
                _ => text.lines().filter_map(|line| line.strip_prefix("data: "))
                    .map(|data| serde_json::from_str(data).unwrap()).collect(),
            };
            assert!(said(&chunks).contains("Say hello."), "{path}: {text}");
            let sent = server.sandbox.requests().pop().unwrap();
            let to = path.split('?').next().unwrap();
            assert_eq!(sent.path, to.strip_prefix("/p/sandbox").unwrap_or(to));
            assert_eq!(sent.query, path.split_once('?').map(|(_, query)| query.to_owned()));
            assert_eq!(serde_json::from_str::<Value>(&sent.body).unwrap(), hello());
            let entry = server.entries(&id).await.pop().unwrap();
            let bill = server.sandbox.bill();
            assert!(bill.cost_usd > bitting::base::NanoUsd::ZERO);
            assert_eq!(entry["cost_usd"], json!(bill.cost_usd), "{path}: {entry}");
            assert_eq!((&entry["dialect"], &entry["operation"], &entry["model"]),
                (&json!("gemini"), &json!("chat"), &json!("sandbox-mini")));
            assert_eq!((&entry["streamed"], &entry["usage_source"], &entry["outcome"]),
                (&json!(form != "whole"), &json!("reported"), &json!("completed")), "{path}: {entry}");
            assert_eq!(entry["finish_reason"], "STOP");
        }
    }
}

#[tokio::test]
async fn p6_faithful_only_what_must_change_does_in_googles_dialect() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server
        .mint(json!({"default_max_output_tokens": 7, "max_output_tokens": 9, "clamp_output": true}))
        .await;
    let with = |config: &str| format!(r#"{{ "contents":[{{"parts":[{{"text":"hi"}}]}}]{config} }}"#);
    let bound = "generationConfig.maxOutputTokens";
    for (model, body, sent, changed) in [
        ("sandbox-mini", with(r#","generationConfig":{"max_output_tokens":5}"#), None, None),
        (
            "sandbox/sandbox-mini",
            with(r#", "generation_config": {"seed":1}"#),
            Some(with(r#", "generation_config": {"maxOutputTokens":7,"seed":1}"#)),
            Some(format!("model,{bound}")),
        ),
        (
            "sandbox-mini",
            with(r#","generationConfig":{"maxOutputTokens": 5000}"#),
            Some(with(r#","generationConfig":{"maxOutputTokens": 9}"#)),
            Some(bound.to_owned()),
        ),
    ] {
        let mut request = spoken(&server, "gemini", &secret, &path(model, "generateContent"), &hello());
        *request.body_mut() = http_body_util::Full::from(body.clone());
        let answer = server.call(request).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.json());
        let last = server.sandbox.requests().pop().unwrap();
        assert_eq!(last.path, path("sandbox-mini", "generateContent"));
        assert_eq!(last.body, sent.unwrap_or(body));
        assert_eq!(answer.header("x-bitting-changed"), changed.as_deref());
    }
}

#[tokio::test]
async fn embeddings_and_counts_pass_and_every_model_they_name_is_the_one() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
    let one =
        |model: &str| json!({"model": format!("models/{model}"), "content": {"parts": [{"text": "abc"}]}});
    let batch = |models: [&str; 2]| json!({"requests": models.map(one)});
    let embedding = "sandbox-embedding";
    for (action, body) in
        [("embedContent", one(embedding)), ("batchEmbedContents", batch([embedding, embedding]))]
    {
        server.sandbox.reset();
        let answer = asked(&server, &secret, &path(embedding, action), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.json());
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!(entry["cost_usd"], json!(server.sandbox.bill().cost_usd), "{entry}");
        assert_eq!(entry["operation"], "embeddings");
    }
    let prefixed = asked(&server, &secret, &path("sandbox/sandbox-embedding", "batchEmbedContents"), &json!({
        "requests": [{"model": "models/sandbox/sandbox-embedding", "content": {"parts": [{"text": "abc"}]}}]
    })).await;
    assert_eq!((prefixed.status.as_u16(), prefixed.header("x-bitting-changed")), (200, Some("model")));
    let sent: Value = serde_json::from_str(&server.sandbox.requests().pop().unwrap().body).unwrap();
    assert_eq!(sent["requests"][0]["model"], "models/sandbox-embedding");

    let before = server.sandbox.requests().len();
    let two =
        asked(&server, &secret, &path(embedding, "batchEmbedContents"), &batch([embedding, "sandbox-large"]))
            .await;
    assert_eq!((two.status.as_u16(), two.header("x-bitting-error")), (400, Some("model_ambiguous")));
    assert_eq!(server.sandbox.requests().len(), before);

    let counted = asked(&server, &secret, &path("sandbox-mini", "countTokens"), &hello()).await;
    assert!(counted.status == 200 && counted.json()["totalTokens"].as_u64().is_some_and(|tokens| tokens > 0));
    let entry = server.entries(&id).await.pop().unwrap();
    assert_eq!((&entry["operation"], &entry["cost_usd"]), (&json!("count_tokens"), &json!("0.00")));
}

#[tokio::test]
async fn p2_one_gate_in_googles_words() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server
        .mint(json!({"models": ["sandbox/sandbox-mini"], "allow_images": false, "allow_remote_urls": false}))
        .await;
    let picture =
        json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}]});
    let remote = json!({"contents": [{"parts": [{"fileData": {"fileUri": "https://youtu.be/x"}}]}]});
    let kept = json!({"contents": [], "cachedContent": "cachedContents/theirs"});
    let twice = json!({"contents": [], "generationConfig": {}, "generation_config": {}});
    let search = json!({"contents": [], "tools": [{"google_search": {}}]});
    for (path, body, status, kind, code) in [
        (path("sandbox-large", "generateContent"), hello(), 403, "PERMISSION_DENIED", "model_not_allowed"),
        (path("sandbox-mini", "generateContent"), picture, 403, "PERMISSION_DENIED", "feature_not_allowed"),
        (
            path("sandbox-mini", "streamGenerateContent"),
            remote,
            403,
            "PERMISSION_DENIED",
            "feature_not_allowed",
        ),
        (path("sandbox-mini", "generateContent"), search, 403, "PERMISSION_DENIED", "feature_not_allowed"),
        (path("sandbox-mini", "generateContent"), kept, 404, "NOT_FOUND", "object_not_found"),
        (path("sandbox-mini", "generateContent"), twice, 400, "INVALID_ARGUMENT", "invalid_body"),
        (path("sandbox-mini", "generateContent?alt=media"), hello(), 400, "INVALID_ARGUMENT", "invalid_body"),
        (path("sandbox-mini", "predict"), hello(), 404, "NOT_FOUND", "unknown_operation"),
    ] {
        let answer = asked(&server, &secret, &path, &body).await;
        super::assert_refusal(&answer, "gemini", status, kind, code, &path);
    }
    assert!(server.sandbox.requests().is_empty());
}

on_both! {
    async fn a_stream_that_is_cut_says_so_in_its_own_form(test: TestStore) {
        let server = TestServer::start(test).await;
        for (query, form) in [("?alt=sse", "events"), ("", "array")] {
            let model = "sandbox-mini+gap=50,tokens=200";
            let document = json!({"operations": ["chat"], "context_window": 1000, "max_output_tokens": 400,
                "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}});
            let put = format!("/api/v1/models/sandbox/{model}");
            assert!(server.admin_call(Method::PUT, &put, Some(&document)).await.status.is_success());
            let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
            let model = model.replace(',', "%2C").replace('=', "%3D");
            let request = spoken(&server, "gemini", &secret, &path(&model, &format!("streamGenerateContent{query}")), &hello());
            let mut response = server.send(also(request, &[])).await;
            assert_eq!(response.status(), 200);
            let mut text = Vec::new();
            let first = response.body_mut().frame().await.unwrap().unwrap();
            text.extend_from_slice(first.data_ref().unwrap());
            let revoked = server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await;
            assert_eq!(revoked.status, 200);
            while let Some(Ok(frame)) = response.body_mut().frame().await {
                text.extend_from_slice(frame.data_ref().unwrap());
            }
            let text = String::from_utf8(text).unwrap();
            let error = if form == "array" {
                let chunks: Vec<Value> = serde_json::from_str(&text).expect(&text);
                chunks.last().unwrap()["error"].clone()
            } else {
                let last = text.trim_end().rsplit("data: ").next().unwrap();
                serde_json::from_str::<Value>(last).unwrap()["error"].clone()
            };
            assert_eq!((&error["status"], &error["details"][0]["reason"]),
                (&json!("UNAUTHENTICATED"), &json!("key_revoked")), "{text}");
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("cut"), &json!("key_revoked")));
        }
    }
}
