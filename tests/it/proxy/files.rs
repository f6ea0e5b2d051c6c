//! Files that providers keep, in both dialects that have them: whose they are, where they go, what a list shows.

mod bad_forms;
mod lists;
mod places;
mod process;

use super::{spoken, still_clock};
use crate::support::server::{Answer, CANARY, TestServer};
use crate::support::store::{TestStore, on_both};
use bytes::Bytes;
use chrono::TimeDelta;
use http::{HeaderValue, Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

const FILES: &str = "/v1/files";
const BINARY: &[u8] = b"\0\xff\r\n--cu\xfe\r\n";
const FORM: &str = "multipart/form-data; boundary=cut";

/// A form whose boundary is `cut`.
fn form(fields: &[(&str, &str)], files: &[(&str, &str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--cut\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.bytes());
    }
    for (name, kind, bytes) in files {
        let disposition = format!("Content-Disposition: form-data; name=\"{name}\"; filename=\"a.bin\"");
        body.extend(format!("--cut\r\n{disposition}\r\nContent-Type: {kind}\r\n\r\n").bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--cut--\r\n");
    body
}

/// A form that both dialects take.
fn upload_of(bytes: &[u8]) -> Vec<u8> {
    form(&[("purpose", "user_data")], &[("file", "application/octet-stream", bytes)])
}

/// A request with this body, as a client of the dialect makes it.
fn request(
    server: &TestServer,
    dialect: &str,
    secret: &str,
    (method, path): (&str, &str),
    (content_type, body): (&str, Vec<u8>),
) -> Request<Full<Bytes>> {
    let mut request = spoken(server, dialect, secret, path, &Value::Null);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).unwrap();
    if !content_type.is_empty() {
        request.headers_mut().insert("content-type", HeaderValue::from_str(content_type).unwrap());
    }
    *request.body_mut() = Full::new(Bytes::from(body));
    request
}

async fn call(server: &TestServer, dialect: &str, secret: &str, method: &str, path: &str) -> Answer {
    server.call(request(server, dialect, secret, (method, path), ("", Vec::new()))).await
}

async fn upload_at(server: &TestServer, dialect: &str, secret: &str, path: &str, body: Vec<u8>) -> Answer {
    server.call(request(server, dialect, secret, ("POST", path), (FORM, body))).await
}

/// Uploads a file; what the provider says of it.
async fn made(server: &TestServer, dialect: &str, secret: &str) -> Value {
    let answer = upload_at(server, dialect, secret, FILES, upload_of(BINARY)).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

fn id(file: &Value) -> &str {
    file["id"].as_str().unwrap()
}

/// What a list shows.
async fn listed(server: &TestServer, dialect: &str, secret: &str, path: &str) -> Vec<Value> {
    let answer = call(server, dialect, secret, "GET", path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    answer.json()["data"].as_array().unwrap().clone()
}

/// Nothing that the key may use, and the provider saw nothing.
fn is_nobodys(server: &TestServer, answer: &Answer, seen: usize, what: &str) {
    assert_eq!(answer.refusal(), (404, "object_not_found".to_owned()), "{what}: {}", answer.json());
    assert_eq!(server.sandbox.requests().len(), seen, "{what}: the provider saw it");
}

/// A message that names the file.
fn naming(dialect: &str, file: &Value) -> (&'static str, Value) {
    if dialect == "anthropic" {
        let source = json!({"type": "file", "file_id": id(file)});
        let content = json!([{"type": "document", "source": source}]);
        let messages = json!([{"role": "user", "content": content}]);
        ("/v1/messages", json!({"model": "sandbox-mini", "max_tokens": 16, "messages": messages}))
    } else {
        let content = json!([{"type": "file", "file": {"file_id": id(file)}}]);
        let messages = json!([{"role": "user", "content": content}]);
        ("/v1/chat/completions", json!({"model": "sandbox-mini", "messages": messages}))
    }
}

on_both! {
    async fn p2_one_gate_lets_nobody_have_anothers_file(test: TestStore) {
        let server = TestServer::start(test).await;
        let (key, a) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let (_, b) = server.mint(json!({"share_objects": true})).await;
        for dialect in ["openai", "anthropic"] {
            let file = made(&server, dialect, &a).await;
            let sent = server.sandbox.requests().pop().unwrap();
            assert_eq!((sent.path.as_str(), sent.header("content-type")), (FILES, Some(FORM)));
            assert_eq!(sent.bytes().unwrap(), upload_of(BINARY), "byte for byte");
            let entry = server.entries(&key).await.pop().unwrap();
            assert_eq!((&entry["operation"], &entry["cost_usd"], &entry["model"], &entry["outcome"]),
                (&json!("files"), &json!("0.00"), &Value::Null, &json!("completed")), "{entry}");
            let path = format!("{FILES}/{}", id(&file));
            let seen = server.sandbox.requests().len();
            for (method, path) in [
                ("GET", path.clone()),
                ("DELETE", path.clone()),
                ("GET", format!("{path}/content")),
                ("GET", format!("/p/sandbox{path}")),
                ("GET", format!("{FILES}/file_nobody_made_this")),
            ] {
                is_nobodys(&server, &call(&server, dialect, &b, method, &path).await, seen, &path);
            }
            let (named, body) = naming(dialect, &file);
            let answer = server.call(spoken(&server, dialect, &b, named, &body)).await;
            is_nobodys(&server, &answer, seen, "named in a request");
            assert!(listed(&server, dialect, &b, FILES).await.is_empty());
            assert_eq!(listed(&server, dialect, &a, FILES).await, std::slice::from_ref(&file), "as it was described");
            assert_eq!(server.sandbox.requests().len(), seen, "no list reaches the provider");

            // Its maker has it all.
            assert_eq!(call(&server, dialect, &a, "GET", &path).await.json(), file);
            let content = call(&server, dialect, &a, "GET", &format!("{path}/content")).await;
            assert_eq!((&content.bytes[..], content.header("content-length")), (BINARY, Some("11")));
            let used = server.call(spoken(&server, dialect, &a, named, &body)).await;
            assert_eq!(used.status, 200, "{}", used.json());
            let deleted = call(&server, dialect, &a, "DELETE", &path).await;
            assert_eq!((deleted.status.as_u16(), &deleted.json()["id"]), (200, &file["id"]));
            let seen = server.sandbox.requests().len();
            is_nobodys(&server, &call(&server, dialect, &a, "GET", &path).await, seen, "deleted");
            is_nobodys(&server, &call(&server, dialect, &a, "DELETE", &path).await, seen, "deleted");
            let again = server.call(spoken(&server, dialect, &a, named, &body)).await;
            is_nobodys(&server, &again, seen, "deleted");
            assert!(listed(&server, dialect, &a, FILES).await.is_empty());
        }
    }

    async fn keys_that_share_in_one_project_have_each_others_files(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, a) = server.mint(json!({"share_objects": true})).await;
        let (_, b) = server.mint(json!({"share_objects": true})).await;
        let (_, alone) = server.mint(json!({})).await;
        for dialect in ["openai", "anthropic"] {
            let (file, own) = (made(&server, dialect, &a).await, made(&server, dialect, &alone).await);
            let path = format!("{FILES}/{}", id(&file));
            assert_eq!(listed(&server, dialect, &b, FILES).await, std::slice::from_ref(&file));
            assert_eq!(listed(&server, dialect, &alone, FILES).await, std::slice::from_ref(&own));
            let seen = server.sandbox.requests().len();
            is_nobodys(&server, &call(&server, dialect, &alone, "DELETE", &path).await, seen, "not shared with it");
            assert_eq!(call(&server, dialect, &b, "GET", &path).await.json(), file);
            assert_eq!(call(&server, dialect, &b, "GET", &format!("{path}/content")).await.bytes, BINARY);
            assert_eq!(call(&server, dialect, &b, "DELETE", &path).await.status, 200);
            let seen = server.sandbox.requests().len();
            is_nobodys(&server, &call(&server, dialect, &a, "GET", &path).await, seen, "deleted by another");
            assert!(listed(&server, dialect, &a, FILES).await.is_empty());
        }
    }

    async fn what_is_gone_at_the_provider_is_forgotten(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (_, secret) = server.mint(json!({})).await;
        let file = made(&server, "openai", &secret).await;
        let path = format!("{FILES}/{}", id(&file));
        let away = Request::delete(format!("{}{path}", server.sandbox_url));
        let away = away.header("authorization", format!("Bearer {CANARY}")).body(Full::default()).unwrap();
        assert_eq!(server.call(away).await.status, 200);
        // To look says so and changes nothing: a provider may be slow to know of what it has just been given.
        let shown = call(&server, "openai", &secret, "GET", &path).await;
        assert_eq!((shown.status.as_u16(), shown.header("x-bitting-error")), (404, None), "{}", shown.json());
        assert_eq!(listed(&server, "openai", &secret, FILES).await.len(), 1);
        let deleted = call(&server, "openai", &secret, "DELETE", &path).await;
        assert_eq!((deleted.status.as_u16(), deleted.header("x-bitting-error")), (404, None));
        assert!(listed(&server, "openai", &secret, FILES).await.is_empty());
        let seen = server.sandbox.requests().len();
        is_nobodys(&server, &call(&server, "openai", &secret, "GET", &path).await, seen, "forgotten");

        // What expires is gone by then.
        for (dialect, fields) in [
            ("openai", [("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")].as_slice()),
            ("anthropic", [("expires_in_seconds", "3600")].as_slice()),
        ] {
            let all: Vec<(&str, &str)> = [("purpose", "batch")].iter().chain(fields).copied().collect();
            let body = form(&all, &[("file", "text/plain", b"x")]);
            let file = upload_at(&server, dialect, &secret, FILES, body).await;
            assert!(!file.json()["expires_at"].is_null(), "{}", file.json());
            assert_eq!(listed(&server, dialect, &secret, FILES).await.len(), 1);
            server.clock.advance(TimeDelta::minutes(61));
            assert!(listed(&server, dialect, &secret, FILES).await.is_empty());
            let seen = server.sandbox.requests().len();
            let path = format!("{FILES}/{}/content", id(&file.json()));
            is_nobodys(&server, &call(&server, dialect, &secret, "GET", &path).await, seen, "expired");
        }
    }
}

#[tokio::test]
async fn the_content_of_a_file_passes_whatever_it_looks_like() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (key, secret) = server.mint(json!({"allow_streaming": false})).await;
    for (kind, bytes) in [
        ("application/json", &b"{\"a\": 1, \"a\": 2"[..]),
        ("text/event-stream", b"data: {\"usage\": {\"prompt_tokens\": 1}}\n\ndata: [DO"),
        ("application/octet-stream", b""),
        ("image/png", BINARY),
    ] {
        let file = upload_at(
            &server,
            "openai",
            &secret,
            FILES,
            form(&[("purpose", "vision")], &[("file", kind, bytes)]),
        )
        .await;
        let content =
            call(&server, "openai", &secret, "GET", &format!("{FILES}/{}/content", id(&file.json()))).await;
        assert_eq!((content.status.as_u16(), &content.bytes[..]), (200, bytes), "{kind}");
        assert_eq!(content.header("content-type"), Some(kind));
        assert_eq!(content.header("content-length"), Some(bytes.len().to_string().as_str()), "{kind}");
        let entry = server.entries(&key).await.pop().unwrap();
        assert_eq!((&entry["outcome"], &entry["streamed"]), (&json!("completed"), &json!(false)), "{entry}");
    }
    // The provider's key is nobody's to read, wherever it stands.
    let leak = format!("key={CANARY};");
    let seen = server.sandbox.requests().len();
    let file = upload_at(&server, "openai", &secret, FILES, upload_of(leak.as_bytes())).await.json();
    assert_eq!(server.sandbox.requests().len(), seen + 1);
    let path = format!("{FILES}/{}/content", id(&file));
    let (parts, body) =
        server.send(request(&server, "openai", &secret, ("GET", &path), ("", vec![]))).await.into_parts();
    let read = http_body_util::BodyExt::collect(body).await;
    assert!(parts.status == 200 && read.is_err(), "the connection breaks off");
    server.alarms_once("credential_echoed").await;
}
