//! Answers that are read whole have a room together: who finds none is told, before anything is sent where that is known by
//! then, and charged for what the provider made. Who does not take his answer keeps nobody else from theirs.

use super::memory::resident;
use super::raw::h2::{DATA, END_HEADERS, END_STREAM, Ended, H2, HEADERS, WINDOW_UPDATE, block, frame};
use super::raw::{Raw, Said};
use crate::support::process::{Installation, Process};
use http::Method;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const MIB: usize = 1 << 20;
/// What an answer of the provider has that is not asked for another length.
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
    let mut asked = vec![0; length];
    stream.read_exact(&mut asked).await.ok()?;
    let asked: Value = serde_json::from_slice(&asked).unwrap();
    let length = asked["messages"][0]["content"].as_str().unwrap().parse().unwrap_or(ANSWER);
    let (begin, end) = (
        r#"{"model":"any","choices":[{"index":0,"message":{"role":"assistant","content":""#,
        r#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
    );
    let start = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{begin}"
    );
    stream.write_all(start.as_bytes()).await.ok()?;
    let piece = vec![b'x'; 64 * 1024];
    let mut left = length - begin.len() - end.len();
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

/// A chat whose answer shall have so many bytes.
fn chat_of(bytes: usize) -> String {
    let messages = json!([{"role": "user", "content": bytes.to_string()}]);
    json!({"model": "any", "messages": messages, "max_tokens": 16}).to_string()
}

fn asked(secret: &str, path: &str) -> String {
    asked_for(secret, path, ANSWER)
}

fn asked_for(secret: &str, path: &str, bytes: usize) -> String {
    let body = chat_of(bytes);
    format!(
        "POST /p/long/v1/{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A server with this provider, whose model has a price, and a key with a cap.
async fn server(installation: &Installation, provider: &Provider) -> (Process, String, String) {
    server_within(installation, provider, "request_bodies_bytes = 41943040").await
}

async fn server_within(
    installation: &Installation,
    provider: &Provider,
    limits: &str,
) -> (Process, String, String) {
    let server = installation.serve_with_limits(limits).await;
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
    let (id, secret) = mint(&server, "many").await;
    (server, id, secret)
}

async fn mint(server: &Process, name: &str) -> (String, String) {
    let budgets = json!([{"limit_usd": "1", "window": "total"}]);
    server.mint(&json!({"name": name, "models": ["long/*"], "budgets": budgets})).await
}

/// What is said to somebody who asks for an answer of so many bytes.
async fn said(server: &Process, secret: &str, bytes: usize) -> Said {
    let mut raw = Raw::connect_to(server.proxy_url()).await;
    raw.send(asked_for(secret, "chat/completions", bytes)).await;
    raw.said().await.expect("it is told")
}

/// A client that has the head of its answer on stream 1, and gives it no window for more.
async fn hoards(server: &Process, secret: &str, bytes: usize) -> H2 {
    let bearer = format!("Bearer {secret}");
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/p/long/v1/chat/completions"),
        (":authority", "x"),
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    let mut h2 = H2::without_window(server.proxy_url()).await;
    h2.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
    h2.send(&frame(DATA, END_STREAM, 1, chat_of(bytes).as_bytes())).await;
    h2.headed(1).await;
    h2
}

/// Asks until there is room again. No refusal sends anything.
async fn until_there_is_room(server: &Process, secret: &str) {
    let start = Instant::now();
    loop {
        match said(server, secret, 1_000).await {
            said if said.status == 200 => return,
            said => assert_eq!((said.status, said.code().as_str()), (503, "overloaded")),
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the room is never free again");
    }
}

/// One that takes all of the room, and a time that is over in a second.
const FULL_AND_SHORT: &str = "request_bodies_bytes = 32505856
    write_stall_seconds = 1
    unread_bytes_per_second = 1073741824";

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_room_refuses_unsent_and_charges_nothing() {
    let provider = Provider::start().await;
    provider.may_end.send_replace(true);
    let installation = Installation::sqlite().await;
    let (server, _, secret) =
        server_within(&installation, &provider, "request_bodies_bytes = 32505856").await;
    let _hoard = hoards(&server, &secret, ANSWER).await;
    let told = provider.told.load(Ordering::SeqCst);
    let (id, other) = mint(&server, "other").await;
    for secret in [&other, &secret] {
        let said = said(&server, secret, 1_000).await;
        assert_eq!((said.status, said.code().as_str()), (503, "overloaded"), "{}", said.json());
        assert!(said.head.contains("retry-after: 1") && !said.head.contains("x-should-retry: false"));
    }
    assert_eq!(provider.told.load(Ordering::SeqCst), told, "nothing was sent");
    let entry = server.entries(&id).await.pop().unwrap();
    assert_eq!(
        (&entry["rule"], &entry["status"], &entry["attempts"]),
        (&json!("overloaded"), &json!(503), &json!(0)),
        "{entry}"
    );
    let cost = &entry["cost_usd"];
    assert!(["0", "0.00"].iter().any(|nothing| cost == nothing), "{entry}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_leaves_its_answers_unread_keeps_no_other_from_theirs() {
    const LARGE: usize = 4 * MIB;
    let provider = Provider::start().await;
    provider.may_end.send_replace(true);
    let installation = Installation::sqlite().await;
    let limits = "request_bodies_bytes = 16777216\nanswer_body_bytes = 4194304";
    let (server, _, secret) = server_within(&installation, &provider, limits).await;
    let (_, other) = mint(&server, "other").await;
    let _hoard = hoards(&server, &secret, LARGE).await;
    for _ in 0..4 {
        let refused = said(&server, &secret, 1_000).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "overloaded"), "it has its part");
        for bytes in [1_000, LARGE] {
            let answer = said(&server, &other, bytes).await;
            assert_eq!((answer.status, answer.body.len()), (200, bytes));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_given_no_window_loses_its_answer_in_time() {
    let provider = Provider::start().await;
    provider.may_end.send_replace(true);
    let installation = Installation::sqlite().await;
    let (server, _, secret) = server_within(&installation, &provider, FULL_AND_SHORT).await;
    let (_, other) = mint(&server, "other").await;
    let mut hoard = hoards(&server, &secret, ANSWER).await;
    until_there_is_room(&server, &other).await;
    // Let on, it is no answer that ends well.
    hoard.send(&frame(WINDOW_UPDATE, 0, 1, &65_535_u32.to_be_bytes())).await;
    assert!(matches!(hoard.ended(1).await, Ended::Reset(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_a_little_at_a_time_loses_its_answer_in_time() {
    let provider = Provider::start().await;
    provider.may_end.send_replace(true);
    let installation = Installation::sqlite().await;
    let (server, _, secret) = server_within(&installation, &provider, FULL_AND_SHORT).await;
    let (_, other) = mint(&server, "other").await;
    let mut slow = Raw::connect_to(server.proxy_url()).await;
    slow.send(asked(&secret, "chat/completions")).await;
    assert!(slow.exactly(1_000).await.unwrap().starts_with(b"HTTP/1.1 200"));
    // Never so slow that nothing can be written for a second: another's request lies between two reads.
    let mut read = 1_000;
    while slow.exactly(16 * 1024).await.is_some() {
        read += 16 * 1024;
        assert!(read < ANSWER, "it had all the time that it took");
        let status = said(&server, &other, 1_000).await.status;
        assert!(status == 200 || status == 503, "{status}");
    }
    until_there_is_room(&server, &other).await;
}
