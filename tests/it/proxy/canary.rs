//! In, never out: the provider's key is looked for wherever anything comes out.

use super::spoken;
use crate::support::process::Installation;
use crate::support::server::{Answer, CANARY, TestServer, chat};
use crate::support::store::{TestStore, on_both};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::path::Path;

fn holds_key(bytes: &[u8]) -> bool {
    bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes())
}

fn assert_clean(answer: &Answer, what: &str) {
    assert!(!holds_key(&answer.bytes), "{what}: the key is in the body");
    assert!(
        !answer.headers.values().any(|value| holds_key(value.as_bytes())),
        "{what}: the key is in a header"
    );
}

/// Sends a request and reads what there is of its answer: a stream that is cut ends in an error.
async fn read_all(server: &TestServer, request: Request<Full<Bytes>>) -> Answer {
    let (parts, mut body) = server.send(request).await.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    Answer { status: parts.status, headers: parts.headers, bytes: Bytes::from(bytes) }
}

/// What a client that puts the pieces of a stream together has.
fn joined(stream: &[u8]) -> String {
    let text = String::from_utf8_lossy(stream);
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let events = events.filter_map(|event| serde_json::from_str::<Value>(event).ok());
    let piece = |event: &Value| {
        let piece = event["choices"][0]["delta"]["content"].as_str().or(event["delta"]["text"].as_str());
        piece.unwrap_or("").to_owned()
    };
    events.map(|event| piece(&event)).collect()
}

/// Everything that an application can provoke, answers checked on the way.
async fn drive(server: &TestServer) -> String {
    let (id, secret) = server.mint(json!({})).await;
    for directives in [
        "",
        "+echo_key",
        "+echo_key_split",
        "+bad_key",
        "+bad_key,echo_key",
        "+status=401",
        "+status=403,echo_key",
        "+status=400,echo_key",
        "+status=500,echo_key",
        "+status=429,echo_key",
        "+redirect",
        "+redirect,echo_key",
        "+malformed,echo_key",
        "+cut=2",
        "+close",
    ] {
        for stream in [false, true] {
            for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")] {
                let mut body = chat(&format!("sandbox-mini{directives}"));
                body["stream"] = json!(stream);
                let answer = read_all(server, spoken(server, dialect, &secret, path, &body)).await;
                assert_clean(&answer, &format!("{dialect} {body}"));
            }
        }
    }
    id
}

/// Everything that an operator can read.
async fn read_admin_plane(server: &TestServer, id: &str) {
    let credentials = server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    assert!(!credentials["items"].as_array().unwrap().is_empty(), "{credentials}");
    for path in [
        "/api/v1/providers",
        "/api/v1/providers/sandbox",
        "/api/v1/providers/sandbox/credentials",
        "/api/v1/models",
        "/api/v1/subkeys",
        &format!("/api/v1/subkeys/{id}"),
        "/api/v1/usage",
        "/api/v1/access-log",
        "/api/v1/access-log/export?format=jsonl",
        "/api/v1/admin-log",
        "/api/v1/admin-log/export?format=jsonl",
        "/metrics",
        "/readyz",
        "/healthz",
    ] {
        let answer = server.admin_get(path).await;
        assert_clean(&answer, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.json());
    }
}

fn files_under(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_under(&path) } else { vec![path] }).collect()
}

on_both! {
    async fn p1_in_never_out_of_any_answer_or_page(test: TestStore) {
        let server = TestServer::start(test).await;
        let id = drive(&server).await;
        read_admin_plane(&server, &id).await;
    }
}

#[tokio::test]
async fn p1_in_never_out_of_the_database_or_its_write_ahead_log() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    drive(&server).await;
    let rotated = "sandbox-canary-of-a-later-version-77aa";
    let credentials = server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    let id = credentials["items"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/providers/sandbox/credentials/{id}/rotate");
    assert!(server.admin_post(&path, &json!({"secret": rotated})).await.status.is_success());
    let files = files_under(server.store.folder.path());
    assert!(files.iter().any(|file| file.ends_with("bitting.db-wal")), "{files:?}");
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        assert!(!holds_key(&bytes), "{}", file.display());
        assert!(
            !bytes.windows(rotated.len()).any(|window| window == rotated.as_bytes()),
            "{}",
            file.display()
        );
    }
}

/// The real process, so that whatever any of its threads says is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p1_in_never_out_of_the_servers_own_log_or_arguments() {
    let installation = Installation::sqlite().await;
    let log = installation.folder.path().join("trace.log");
    let server = installation.serve_tracing_to(&log).await;
    let (_, secret) = server.mint(&json!({"name": "traced", "models": ["sandbox/*"]})).await;
    for directives in ["", "+echo_key", "+bad_key,echo_key", "+status=500,echo_key", "+close"] {
        for stream in [false, true] {
            let mut body = chat(&format!("sandbox-mini{directives}"));
            body["stream"] = json!(stream);
            // A stream that is cut does not come whole, which is no matter here.
            let _ = server.chat(&secret, &body).await;
        }
    }
    let pid = server.child.id().unwrap();
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(!arguments.is_empty() && !holds_key(&arguments));
    let lines = std::fs::read(&log).unwrap();
    let text = String::from_utf8_lossy(&lines);
    assert!(text.contains("credential_echoed") && text.contains("TRACE"), "the log was caught");
    assert!(!holds_key(&lines), "the provider's key");
    assert!(!text.contains(&secret[20..]), "nor a sub-key's secret");
    assert!(!text.contains(server.token()), "nor an operator's token");
}

#[tokio::test]
async fn a_key_that_the_provider_refuses_is_our_fault_and_not_shown() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({"budgets": []})).await;
    for directives in ["bad_key", "status=401", "status=402", "status=403"] {
        for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")] {
            let body = chat(&format!("sandbox-mini+{directives}"));
            let answer = server.call(spoken(&server, dialect, &secret, path, &body)).await;
            super::assert_refusal(
                &answer,
                dialect,
                502,
                "api_error",
                "upstream_credential_error",
                directives,
            );
            assert_eq!(answer.header("x-should-retry"), Some("false"));
            let text = String::from_utf8_lossy(&answer.bytes);
            assert!(!text.contains(&CANARY[..8]) && !text.contains(&CANARY[CANARY.len() - 4..]), "{text}");
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!(
                (&entry["status"], &entry["outcome"]),
                (&json!(502), &json!("upstream_failed")),
                "{entry}"
            );
        }
    }
}

on_both! {
    async fn p1_in_never_out_in_two_pieces_of_a_stream(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({})).await;
        for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")] {
            let mut body = chat("sandbox-mini+echo_key_split");
            body["stream"] = json!(true);
            let answer = read_all(&server, spoken(&server, dialect, &secret, path, &body)).await;
            let text = joined(&answer.bytes);
            assert!(!text.contains(CANARY), "{dialect}: a client that joins the pieces has the key");
            assert!(CANARY.starts_with(&text) && !text.is_empty(), "{dialect}: what came before passed: {text}");
            let last = String::from_utf8_lossy(&answer.bytes);
            assert!(last.contains("upstream_error"), "{dialect}: the client is told: {last}");
        }
        let entries = server.entries(&id).await;
        assert!(entries.len() == 2 && entries.iter().all(|entry| entry["outcome"] == "cut"), "{entries:?}");
    }
}

/// A stream is the same with the guard as without, also where each word could begin the key.
#[tokio::test]
async fn the_guard_takes_nothing_from_a_stream_and_moves_nothing_in_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let credentials = server.admin_get("/api/v1/providers/sandbox/credentials").await.json();
    let id = credentials["items"][0]["id"].as_str().unwrap();
    let (_, secret) = server.mint(json!({})).await;
    let direct = format!("{}/v1/chat/completions", server.sandbox_url);
    for key in ["e-begins-in-many-words", "said-begins-a-word", "{-begins-every-object", CANARY] {
        let path = format!("/api/v1/providers/sandbox/credentials/{id}/rotate");
        assert_eq!(server.admin_post(&path, &json!({"secret": key})).await.status, 200);
        for (dialect, path) in [("openai", "/v1/chat/completions"), ("anthropic", "/v1/messages")] {
            let mut body = chat("sandbox-mini+tokens=200");
            body["stream"] = json!(true);
            body["max_tokens"] = json!(500);
            let guarded = read_all(&server, spoken(&server, dialect, &secret, path, &body)).await;
            let mut request = spoken(&server, dialect, key, path, &body);
            *request.uri_mut() = direct.replace("/v1/chat/completions", path).parse().unwrap();
            let plain = read_all(&server, request).await;
            let events = |answer: &Answer| {
                let text = String::from_utf8_lossy(&answer.bytes).into_owned();
                text.matches("\n\n").count()
            };
            assert_eq!(joined(&guarded.bytes), joined(&plain.bytes), "{dialect} {key}");
            assert!(joined(&plain.bytes).len() > 400 && events(&plain) > 150, "{dialect} {key}");
            assert_eq!(events(&guarded), events(&plain), "{dialect} {key}");
        }
    }
}

/// What a provider that writes the key with escapes, in JSON or in what only looks like it, answers; and whether that
/// is a stream.
const ESCAPED: [(&str, bool, &str); 5] = [
    ("whole", false, r#"{"choices":[{"message":{"content":"\u0073and-e\u0073caped-key"}}]}"#),
    ("no-json", false, r#"{"a":NaN,"a":"sand-e\u0073caped-key"}"#),
    ("stream", true, "data: {\"choices\":[{\"delta\":{\"content\":\"sand-\\u0065scaped-key\"}}]}\n\n"),
    ("stream-no-json", true, "data: {\"a\":NaN,\"content\":\"sand-\\u0065scaped-key\"}\n\n"),
    (
        "stream-no-json-split",
        true,
        "data: {\"a\":NaN,\"content\":\"sand-\"}\n\ndata: {\"a\":NaN,\"content\":\"escaped-key\"}\n\n",
    ),
];

#[tokio::test]
async fn p1_in_never_out_written_with_escapes() {
    let app = axum::Router::new().route(
        "/v1/chat/completions",
        axum::routing::post(async |body: axum::Json<Value>| {
            let (_, is_stream, text) = ESCAPED.iter().find(|one| one.0 == body["model"]).unwrap();
            let kind = if *is_stream { "text/event-stream" } else { "application/json" };
            ([("content-type", kind)], *text)
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async { axum::serve(listener, app).await });
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = json!({"slug": "other", "dialects": {"openai": url}});
    assert_eq!(server.admin_post("/api/v1/providers", &provider).await.status, 201);
    let key = json!({"name": "main", "secret": "sand-escaped-key"});
    assert_eq!(server.admin_post("/api/v1/providers/other/credentials", &key).await.status, 201);
    let (id, secret) = server.mint(json!({"models": ["other/*"]})).await;
    for (name, is_stream, _) in ESCAPED {
        let mut body = chat(&format!("other/{name}"));
        body["stream"] = json!(is_stream);
        let answer =
            read_all(&server, spoken(&server, "openai", &secret, "/v1/chat/completions", &body)).await;
        let text = String::from_utf8_lossy(&answer.bytes);
        assert!(text.contains("upstream_error") && !text.contains("caped"), "{name}: {text}");
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!(entry["outcome"], "cut", "{name}: {entry}");
    }
    server.alarms_once("credential_echoed").await;
}

on_both! {
    async fn a_redirect_takes_the_key_nowhere_and_is_an_error(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        for stream in [false, true] {
            server.sandbox.reset();
            let mut body = chat("sandbox-mini+redirect");
            body["stream"] = json!(stream);
            let answer = server.post(&secret, "/v1/chat/completions", &body).await;
            assert_eq!(answer.refusal(), (502, "upstream_error".to_owned()));
            assert_eq!((answer.header("location"), server.sandbox.requests().len()), (None, 1));
        }
        server.end().await;
    }
}
