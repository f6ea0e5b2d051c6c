//! Answers that are read whole have a room together: who finds none is told, and charged for what the provider made.

use super::memory::resident;
use super::raw::Raw;
use crate::support::process::{Installation, Process};
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const MIB: usize = 1 << 20;
/// What an answer of the provider has.
const ANSWER: usize = 31 * MIB;

/// A provider that answers at length, and keeps the last byte back until it may end.
struct Provider {
    url: String,
    may_end: watch::Sender<bool>,
    /// Answers of which only the last byte is missing.
    told: Arc<AtomicUsize>,
}

impl Provider {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let this = Self { url, may_end: watch::Sender::new(false), told: Arc::default() };
        let (may_end, told) = (this.may_end.clone(), this.told.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, may_end.subscribe(), told.clone()));
            }
        });
        this
    }
}

async fn answer(
    mut stream: TcpStream,
    mut may_end: watch::Receiver<bool>,
    told: Arc<AtomicUsize>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().unwrap();
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let (begin, end) = (
        r#"{"model":"any","choices":[{"index":0,"message":{"role":"assistant","content":""#,
        r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
    );
    let start = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {ANSWER}\r\nconnection: close\r\n\r\n{begin}"
    );
    stream.write_all(start.as_bytes()).await.ok()?;
    let piece = vec![b'x'; 64 * 1024];
    let mut left = ANSWER - begin.len() - end.len();
    while left > 0 {
        let now = left.min(piece.len());
        stream.write_all(&piece[..now]).await.ok()?;
        left -= now;
    }
    stream.write_all(&end.as_bytes()[..end.len() - 1]).await.ok()?;
    told.fetch_add(1, Ordering::SeqCst);
    may_end.wait_for(|may_end| *may_end).await.ok()?;
    stream.write_all(b"}").await.ok()
}

fn asked(secret: &str, path: &str) -> String {
    let body = json!({"model": "any", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 16})
        .to_string();
    format!(
        "POST /p/long/v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A server with this provider, whose model has a price, and a key with a cap.
async fn server(installation: &Installation, provider: &Provider) -> (Process, String, String) {
    let server = installation.serve_with_limits("request_bodies_bytes = 41943040").await;
    let origin = provider.url.strip_suffix("/v1").unwrap();
    let dialects = json!({"openai": provider.url, "anthropic": origin});
    let model = json!({"operations": ["chat"], "context_window": 1_000, "max_output_tokens": 1_000,
        "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"}});
    for (method, path, body) in [
        (Method::POST, "/api/v1/providers", json!({"slug": "long", "dialects": dialects})),
        (
            Method::POST,
            "/api/v1/providers/long/credentials",
            json!({"name": "main", "secret": "long-canary-5f8b2c91d7e64a03"}),
        ),
        (Method::PUT, "/api/v1/models/long/any", model),
    ] {
        let made = server.admin(method, path, &body).await;
        assert!(made.status.is_success(), "{:?}", made.json());
    }
    let budgets = json!([{"limit_usd": "1", "window": "total"}]);
    let key = json!({"name": "many", "models": ["long/*"], "budgets": budgets});
    let (id, secret) = server.mint(&key).await;
    (server, id, secret)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_are_read_whole_have_a_room_and_who_finds_none_pays_and_is_told() {
    let provider = Provider::start().await;
    let installation = Installation::sqlite().await;
    let (server, id, secret) = server(&installation, &provider).await;
    let (before, _) = resident(&server);
    let mut first = Raw::connect_to(server.proxy_url()).await;
    first.send(asked(&secret, "chat/completions")).await;
    while provider.told.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // All of it but a byte is here, and there is no room for as much again.
    for path in ["chat/completions", "messages"] {
        for _ in 0..3 {
            let mut other = Raw::connect_to(server.proxy_url()).await;
            other.send(asked(&secret, path)).await;
            let said = other.said().await.expect("it is told");
            assert_eq!((said.status, said.code().as_str()), (503, "overloaded"), "{}", said.json());
            assert!(said.head.contains("x-should-retry: false") && said.head.contains("retry-after: 1"));
            assert_eq!(said.json()["type"] == "error", path == "messages", "in its own dialect");
        }
    }
    let (_, most) = resident(&server);
    println!("seven answers of 31 MiB in a room of 40: {} MiB at the most", (most - before) / MIB);
    assert!(most - before < 40 * MIB + 16 * MIB, "{before} {most}");
    let refused = server.entries(&id).await;
    assert_eq!(refused.len(), 6);
    for entry in refused {
        let told = ["rule", "usage_source", "outcome"].map(|field| entry[field].as_str().unwrap().to_owned());
        assert_eq!(told, ["overloaded", "reserved", "cut"], "{entry}");
        assert_eq!((&entry["status"], &entry["cost_usd"]), (&json!(503), &entry["reserved_usd"]), "{entry}");
        assert_ne!(entry["cost_usd"], "0.00");
    }
    // It has the room until its client has taken it.
    provider.may_end.send_replace(true);
    assert!(first.exactly(1_000).await.unwrap().starts_with(b"HTTP/1.1 200"));
    let mut other = Raw::connect_to(server.proxy_url()).await;
    other.send(asked(&secret, "chat/completions")).await;
    assert_eq!(other.said().await.unwrap().status, 503, "nobody has taken the first one");
    assert!(first.until(br#""completion_tokens":1}}"#).await, "and it is whole");
    let whole = loop {
        let mut next = Raw::connect_to(server.proxy_url()).await;
        next.send(asked(&secret, "chat/completions")).await;
        match next.said().await.unwrap() {
            said if said.status == 200 => break said,
            said => assert_eq!(said.status, 503),
        }
    };
    assert_eq!(whole.body.len(), ANSWER);
    let last = server.entries(&id).await.pop().unwrap();
    assert_eq!((&last["usage_source"], &last["cost_usd"]), (&json!("reported"), &json!("0.000002")));
}
