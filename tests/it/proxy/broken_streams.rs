//! What ends a stream that was under way says so in the stream's own form, and nothing looks like a clean end.

use super::errors::kind;
use super::{spoken, still_clock};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};

/// The forms of streams.
const FORMS: [&str; 5] = ["chat", "responses", "messages", "events", "array"];

/// Dialect, path and body of a streamed request.
fn streaming(form: &str, model: &str) -> (&'static str, String, Value) {
    let encoded = model.replace(',', "%2C").replace('=', "%3D");
    let generate = |query: &str| format!("/v1beta/models/{encoded}:streamGenerateContent{query}");
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}],
        "generationConfig": {"maxOutputTokens": 200}});
    let mut body = chat(model);
    (body["stream"], body["max_tokens"]) = (json!(true), json!(200));
    match form {
        "chat" => ("openai", "/v1/chat/completions".to_owned(), body),
        "responses" => {
            let body = json!({"model": model, "input": "hello", "stream": true, "max_output_tokens": 200});
            ("openai", "/v1/responses".to_owned(), body)
        }
        "messages" => ("anthropic", "/v1/messages".to_owned(), body),
        "events" => ("gemini", generate("?alt=sse"), contents),
        _ => ("gemini", generate(""), contents),
    }
}

/// The error that the stream ends with, as the dialect's type and code; `None` where it ends in another way.
fn last_error(form: &str, text: &str) -> Option<(String, String)> {
    let last = |text: &str| serde_json::from_str::<Value>(text.trim_end().rsplit("data: ").next()?).ok();
    let told = match form {
        // What has an error of ours is an array to its end.
        "array" if text.contains("\"domain\":\"bitting\"") => {
            let array: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            array.as_array()?.last()?.clone()
        }
        "array" => return None,
        _ => last(text)?,
    };
    let words = |kind: &Value, code: &Value| Some((kind.as_str()?.to_owned(), code.as_str()?.to_owned()));
    let error = &told["error"];
    match form {
        "chat" => words(&error["type"], &error["code"]),
        "messages" => {
            assert!(text.trim_end().rsplit("\n\n").next()?.starts_with("event: error\n"), "{text}");
            words(&error["type"], &error["code"])
        }
        // A failed response has a code and no type.
        "responses" => {
            assert!(text.trim_end().rsplit("\n\n").next()?.starts_with("event: response.failed\n"), "{text}");
            words(&told["type"], &told["response"]["error"]["code"])
        }
        _ => words(&error["status"], &error["details"][0]["reason"]),
    }
}

on_both! {
    async fn what_ends_a_stream_is_told_in_its_own_form(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let timeouts = json!({"timeouts": {"idle_ms": 300}});
        let path = "/api/v1/providers/sandbox";
        assert_eq!(server.admin_call(Method::PATCH, path, Some(&timeouts)).await.status, 200);
        for form in FORMS {
            for (directives, verb, code) in [
                ("gap=20,tokens=200", Some("revoke"), "key_revoked"),
                ("gap=20,tokens=200", Some("suspend"), "key_revoked"),
                ("usage_times=100000,tokens=20", None, "budget_exceeded"),
                ("cut=3,tokens=20", None, "upstream_error"),
                ("gap=5000,tokens=20", None, "upstream_timeout"),
            ] {
                let (model, what) = (format!("sandbox-mini+{directives}"), format!("{code} by {directives} in {form}"));
                let document = json!({"operations": ["chat", "responses"], "context_window": 1000, "max_output_tokens": 400,
                    "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}});
                let put = server.admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{model}"), Some(&document)).await;
                assert!(put.status.is_success(), "{}", put.json());
                let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "9", "window": "day"}]})).await;
                let (dialect, path, body) = streaming(form, &model);
                let mut response = server.send(spoken(&server, dialect, &secret, &path, &body)).await;
                assert_eq!(response.status(), 200, "{what}");
                let mut text = Vec::new();
                if let Some(verb) = verb {
                    let first = response.body_mut().frame().await.unwrap().unwrap();
                    text.extend_from_slice(first.data_ref().unwrap());
                    let done = server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &json!({})).await;
                    assert_eq!(done.status, 200, "{what}");
                }
                let mut is_clean = true;
                while let Some(frame) = response.body_mut().frame().await {
                    let Ok(frame) = frame else {
                        is_clean = false;
                        break;
                    };
                    text.extend_from_slice(frame.data_ref().unwrap());
                }
                let text = String::from_utf8(text).unwrap();
                let (_, kind) = kind(dialect, code);
                let kind = if form == "responses" { "response.failed" } else { kind };
                match last_error(form, &text) {
                    Some(told) => assert_eq!(told, (kind.to_owned(), code.to_owned()), "{what}: {text}"),
                    None => assert!(!is_clean, "{what}: a clean end: {text}"),
                }
                for end in ["[DONE]", "event: message_stop", "event: response.completed"] {
                    assert!(!text.contains(end), "{what}: {end}");
                }
                let entry = server.entries(&id).await.pop().unwrap();
                let outcome = if code.starts_with("upstream") { "upstream_failed" } else { "cut" };
                assert_eq!((&entry["outcome"], &entry["status"]), (&json!(outcome), &json!(200)), "{what}: {entry}");
                assert_ne!(entry["cost_usd"], "0.00", "{what}");
            }
        }
    }
}
