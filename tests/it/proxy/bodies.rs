//! Bodies that two readers could understand differently, or not at all: refused, and nothing is worse for it.

use super::{also, assert_refusal};
use crate::support::server::{TestServer, chat};
use crate::support::store::TestStore;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn p2_one_gate_refuses_a_body_that_has_two_readings() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    let deep =
        format!(r#"{{"model":"sandbox-mini","messages":[],"x":{}1{}}}"#, "[".repeat(80), "]".repeat(80));
    let good = chat("sandbox-mini").to_string();
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"\"sandbox-mini\"".to_vec(),
        br#"{"model":"sandbox-mini","model":"sandbox-large","messages":[]}"#.to_vec(),
        br#"{"model":"sandbox-mini","mod\u0065l":"sandbox-large","messages":[]}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[{"role":"user","content":"a","content":"b"}]}"#.to_vec(),
        format!("\u{feff}{good}").into_bytes(),
        format!("{good}x").into_bytes(),
        format!("{good}{good}").into_bytes(),
        format!("{good}\0").into_bytes(),
        deep.into_bytes(),
        b"{\"model\":\"sandbox-mini\",\"messages\":[],\"x\":\"\xff\"}".to_vec(),
        br#"{"model":"sandbox-mini","messages":[],"x":NaN}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[],}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[],"x":"\ud800"}"#.to_vec(),
        br#"{"model":["sandbox-mini"],"messages":[]}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[],"max_tokens":-1}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[],"max_tokens":1e3}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[],"max_tokens":"16"}"#.to_vec(),
        br#"{"model":"sandbox-mini","messages":[],"stream":"true"}"#.to_vec(),
    ];
    let count = bodies.len();
    for (path, dialect) in [("/v1/chat/completions", "openai"), ("/v1/messages", "anthropic")] {
        for body in &bodies {
            let shown = String::from_utf8_lossy(body).into_owned();
            let answer = server.call(server.proxied(&secret, path, body.clone())).await;
            assert_refusal(&answer, dialect, 400, "invalid_request_error", "invalid_body", &shown);
        }
    }
    let entries = server.entries(&id).await;
    assert_eq!(entries.len(), 2 * count);
    assert!(entries.iter().all(|entry| entry["rule"] == "invalid_body" && entry["decision"] == "denied"));
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
}

#[tokio::test]
async fn a_body_in_the_wrong_form_is_refused_and_the_next_is_served() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    let request = || server.proxied(&secret, "/v1/chat/completions", chat("sandbox-mini").to_string());
    for encoding in ["gzip", "br", "identity, gzip"] {
        let answer = server.call(also(request(), &[("content-encoding", encoding)])).await;
        assert_refusal(&answer, "openai", 415, "invalid_request_error", "unsupported_encoding", encoding);
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let mut wrong = request();
        wrong.headers_mut().insert("content-type", kind.parse().unwrap());
        assert_eq!(server.call(wrong).await.refusal(), (415, "unsupported_encoding".to_owned()), "{kind}");
    }
    for body in [
        json!({"messages": []}),
        json!({"model": "", "messages": []}),
        json!({"model": null, "messages": []}),
    ] {
        let answer = server.post(&secret, "/v1/chat/completions", &body).await;
        assert_refusal(&answer, "openai", 400, "invalid_request_error", "model_required", &body.to_string());
        assert_eq!(answer.json()["error"]["param"], "model");
    }
    assert!(server.sandbox.requests().is_empty());
    let mut spelt = request();
    spelt.headers_mut().insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    assert_eq!(server.call(spelt).await.status, 200);
    assert_eq!(server.entries(&id).await.len(), 3 + 4 + 3 + 1);
}

/// Writes a head and a body of so many mebibytes until the server has heard enough; its answer.
async fn send_large(
    server: &TestServer,
    secret: &str,
    framing: &str,
    mebibytes: usize,
    chunked: bool,
) -> String {
    let address = server.proxy.strip_prefix("http://").unwrap();
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\n\
         content-type: application/json\r\nconnection: close\r\n{framing}\r\n\r\n"
    );
    let writing = tokio::spawn(async move {
        writes.write_all(head.as_bytes()).await?;
        let piece = vec![b' '; 1 << 20];
        for _ in 0..mebibytes {
            if chunked {
                writes.write_all(b"100000\r\n").await?;
            }
            writes.write_all(&piece).await?;
            if chunked {
                writes.write_all(b"\r\n").await?;
            }
        }
        Ok::<_, std::io::Error>(writes)
    });
    let mut answer = Vec::new();
    // The server may close before all was written: what it said before is what counts.
    let _ = reads.read_to_end(&mut answer).await;
    writing.abort();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_of_forty_mebibytes_is_refused_however_it_is_framed() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    for (framing, chunked) in [("content-length: 41943040", false), ("transfer-encoding: chunked", true)] {
        let answer = send_large(&server, &secret, framing, 40, chunked).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{framing}: {answer:.300}");
        assert!(answer.contains("body_too_large"), "{framing}: {answer:.600}");
    }
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    assert_eq!(server.entries(&id).await.len(), 3);
}
