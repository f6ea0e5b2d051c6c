//! The memory of a server in a process of its own: of a thousand slow streams, of clients that do not read, of large
//! bodies. The figures are printed (`--nocapture`); the bounds are generous and for a debug build.

use super::raw::Raw;
use crate::support::process::{Installation, Process};
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// How a provider answers, until it is told otherwise.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// An event at once, and then one every second.
    Drips,
    /// Events of 16 KiB, as fast as they are taken.
    Floods,
    /// The stream's end.
    Ends,
    /// One event of 16 MiB, all but its end.
    Swells,
    /// The body of the request is not read.
    Sleeps,
}

/// What an event has that swells.
const SWOLLEN: usize = 16 * MIB;

/// A provider that streams, on sockets of its own.
struct Provider {
    url: String,
    pace: watch::Sender<Pace>,
    /// Bytes of bodies that it was sent.
    received: Arc<AtomicUsize>,
    /// Bytes of streams that were taken from it.
    taken: Arc<AtomicUsize>,
}

impl Provider {
    async fn start(pace: Pace) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let this =
            Self { url, pace: watch::Sender::new(pace), received: Arc::default(), taken: Arc::default() };
        let (pace, received, taken) = (this.pace.clone(), this.received.clone(), this.taken.clone());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(answer(stream, pace.subscribe(), received.clone(), taken.clone()));
            }
        });
        this
    }
}

async fn answer(
    mut stream: TcpStream,
    mut pace: watch::Receiver<Pace>,
    received: Arc<AtomicUsize>,
    taken: Arc<AtomicUsize>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let mut left: usize = length.parse().unwrap();
    pace.wait_for(|pace| *pace != Pace::Sleeps).await.ok()?;
    let mut piece = vec![0; 64 * KIB];
    while left > 0 {
        let read = stream.read(&mut piece[..left.min(64 * KIB)]).await.ok().filter(|read| *read > 0)?;
        left -= read;
        received.fetch_add(read, Ordering::SeqCst);
    }
    let start = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
    stream.write_all(start.as_bytes()).await.ok()?;
    let event = |text: &str| {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": text}}]});
        format!("data: {delta}\n\n")
    };
    loop {
        let now = *pace.borrow();
        let text = match now {
            Pace::Drips => event(&"drip".repeat(500)),
            Pace::Floods => event(&"x".repeat(16 * KIB)),
            Pace::Ends => {
                let usage = json!({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}});
                format!("data: {usage}\n\ndata: [DONE]\n\n")
            }
            Pace::Swells => {
                let begin = r#"data: {"choices":[{"index":0,"delta":{"images":[{"image_url":{"url":""#;
                stream.write_all(begin.as_bytes()).await.ok()?;
                let picture = "iVBORw0K".repeat(8 * KIB);
                for _ in 0..SWOLLEN / picture.len() {
                    stream.write_all(picture.as_bytes()).await.ok()?;
                    taken.fetch_add(picture.len(), Ordering::SeqCst);
                }
                pace.wait_for(|pace| *pace == Pace::Ends).await.ok()?;
                r#""}}]}}],"usage":null}"#.to_owned() + "\n\n"
            }
            Pace::Sleeps => String::new(),
        };
        stream.write_all(text.as_bytes()).await.ok()?;
        taken.fetch_add(text.len(), Ordering::SeqCst);
        match now {
            Pace::Drips => drop(timeout(Duration::from_secs(1), pace.changed()).await),
            Pace::Floods | Pace::Swells => {}
            Pace::Sleeps => drop(pace.changed().await),
            Pace::Ends => return Some(()),
        }
    }
}

/// A server whose one provider is this, and a key for it.
async fn server(installation: &Installation, provider: &Provider) -> (Process, String) {
    limited(installation, provider, "").await
}

async fn limited(installation: &Installation, provider: &Provider, limits: &str) -> (Process, String) {
    let server = installation.serve_with_limits(limits).await;
    let dialects = json!({"openai": format!("{}/v1", provider.url)});
    let made =
        server.admin(Method::POST, "/api/v1/providers", &json!({"slug": "drip", "dialects": dialects})).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
    let key = json!({"name": "main", "secret": "drip-canary-0d41c6a2b7"});
    let made = server.admin(Method::POST, "/api/v1/providers/drip/credentials", &key).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
    let (_, secret) = server.mint(&json!({"name": "many", "models": ["drip/*"]})).await;
    (server, secret)
}

/// A streamed chat of so many bytes of text, to which the gate has to add something or not.
fn streamed(secret: &str, text_bytes: usize, adds_usage: bool) -> String {
    let messages = json!([{"role": "user", "content": "x".repeat(text_bytes)}]);
    // What it asks for by itself need not be added.
    let options = json!({"include_usage": !adds_usage});
    let body =
        json!({"model": "any", "stream": true, "stream_options": options, "messages": messages}).to_string();
    format!(
        "POST /p/drip/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Resident memory of the server: now, and at its most so far.
pub(super) fn resident(server: &Process) -> (usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id().unwrap())).unwrap();
    let of = |name: &str| -> usize {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * KIB
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// This process holds both ends of what the server has open.
fn open_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_slow_streams_have_little_memory_each() {
    const STREAMS: usize = 1_000;
    open_many_files();
    let provider = Provider::start(Pace::Drips).await;
    let installation = Installation::sqlite().await;
    let (server, secret) = server(&installation, &provider).await;
    let request = streamed(&secret, 2_000, true);
    let open = async || {
        let mut raw = Raw::connect_to(server.proxy_url()).await;
        raw.send(&request).await;
        let begun = raw.exactly(1_500).await.expect("the stream goes on");
        assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun));
        raw
    };
    let warm = join_all((0..20).map(|_| open())).await;
    let (before, _) = resident(&server);
    let mut streams = Vec::new();
    while streams.len() < STREAMS {
        streams.extend(join_all((0..100).map(|_| open())).await);
    }
    let (during, most) = resident(&server);
    let each = during.saturating_sub(before) / STREAMS;
    println!(
        "{STREAMS} streams: {} KiB each; {} MiB before, {} MiB with them, {} MiB at the most",
        each / KIB,
        before / MIB,
        during / MIB,
        most / MIB
    );
    provider.pace.send_replace(Pace::Ends);
    let ended = join_all(
        warm.into_iter().chain(streams).map(|mut raw| async move { raw.until(b"data: [DONE]\n\n").await }),
    );
    assert!(ended.await.into_iter().all(|whole| whole), "every stream ends whole");
    assert!(each <= 128 * KIB, "{each} bytes for a stream that does little");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_holds_its_provider_up_and_not_the_memory() {
    const STUCK: usize = 20;
    let provider = Provider::start(Pace::Drips).await;
    let installation = Installation::sqlite().await;
    let (server, secret) = server(&installation, &provider).await;
    let request = streamed(&secret, 10, true);
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        let mut raw = Raw::connect_to(server.proxy_url()).await;
        raw.send(&request).await;
        assert!(raw.exactly(1_500).await.unwrap().starts_with(b"HTTP/1.1 200"));
        stuck.push(raw);
    }
    let (before, _) = resident(&server);
    provider.pace.send_replace(Pace::Floods);
    // The kernel's buffers fill up, the server's own, and then nothing moves.
    let (mut taken, mut still) = (0, 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = provider.taken.load(Ordering::SeqCst);
        still = if now == taken { still + 1 } else { 0 };
        taken = now;
    }
    let (during, most) = resident(&server);
    println!(
        "{STUCK} clients that do not read: {} KiB of memory each, {} KiB taken from the provider for each",
        most.saturating_sub(before) / STUCK / KIB,
        taken / STUCK / KIB
    );
    assert!(taken < STUCK * 32 * MIB, "the provider is made to wait");
    assert!(during.max(most) - before < STUCK * MIB, "{before} {during} {most}");
    // Who reads on gets all of it.
    provider.pace.send_replace(Pace::Ends);
    for raw in &mut stuck {
        assert!(raw.until(b"data: [DONE]\n\n").await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_in_memory_once_changed_or_not_and_gone_once_it_was_sent() {
    const TEXT: usize = 31 * MIB;
    let provider = Provider::start(Pace::Drips).await;
    // Of each process the first body counts: what the allocator makes of later ones is its own.
    for (how, adds_usage) in [("changed", true), ("as it came", false)] {
        let installation = Installation::sqlite().await;
        // There is room for one at a time: the second is let in because the first is gone, although its answer goes on.
        let room = "request_bodies_bytes = 41943040";
        let (server, secret) = limited(&installation, &provider, room).await;
        let open = async |text_bytes: usize| {
            let mut raw = Raw::connect_to(server.proxy_url()).await;
            let earlier = provider.received.load(Ordering::SeqCst);
            raw.send(streamed(&secret, text_bytes, adds_usage)).await;
            assert!(raw.exactly(1_500).await.unwrap().starts_with(b"HTTP/1.1 200"));
            assert!(provider.received.load(Ordering::SeqCst) > earlier + text_bytes, "all of it was sent on");
            raw
        };
        let _small = open(10).await;
        let (before, _) = resident(&server);
        let first = open(TEXT).await;
        let (during, most) = resident(&server);
        println!(
            "31 MiB of body, {how}: {} MiB at the most, {} MiB while its stream goes on",
            (most - before) / MIB,
            during.saturating_sub(before) / MIB
        );
        assert!(most - before < TEXT + 16 * MIB, "{before} {most}");
        assert!(during < before + 8 * MIB, "{before} {during}: kept for the length of an answer");
        let second = open(TEXT).await;
        drop((first, second));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_sixteen_mebibytes_is_metered_without_being_held() {
    const STREAMS: usize = 16;
    let provider = Provider::start(Pace::Swells).await;
    let installation = Installation::sqlite().await;
    let (server, secret) = server(&installation, &provider).await;
    let (before, _) = resident(&server);
    // Of some the usage has to be taken out, of others not.
    let open = async |adds_usage: bool| {
        let mut raw = Raw::connect_to(server.proxy_url()).await;
        raw.send(streamed(&secret, 10, adds_usage)).await;
        let begun = raw.exactly(SWOLLEN).await.expect("it passes before it has ended");
        assert!(begun.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&begun[..300]));
        raw
    };
    let streams: Vec<Raw> = join_all((0..STREAMS).map(|number| open(number % 2 == 0))).await;
    let (during, most) = resident(&server);
    println!(
        "{STREAMS} streams, each inside an event of 16 MiB: {} KiB each, {} KiB at the most",
        during.saturating_sub(before) / STREAMS / KIB,
        most.saturating_sub(before) / STREAMS / KIB
    );
    assert!(most - before < STREAMS * 4 * MIB, "{before} {during} {most}");
    provider.pace.send_replace(Pace::Ends);
    let ended =
        join_all(streams.into_iter().map(|mut raw| async move { raw.until(b"data: [DONE]\n\n").await }));
    assert!(ended.await.into_iter().all(|whole| whole), "every stream ends whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_does_not_read_holds_a_body_up_and_not_the_memory() {
    const TEXT: usize = 31 * MIB;
    let provider = Provider::start(Pace::Sleeps).await;
    let installation = Installation::sqlite().await;
    let (server, secret) = limited(&installation, &provider, "request_bodies_bytes = 41943040").await;
    let (before, _) = resident(&server);
    let mut raw = Raw::connect_to(server.proxy_url()).await;
    raw.send(streamed(&secret, TEXT, true)).await;
    // It has all of it, and the provider has none: there is no room for another.
    let mut other = Raw::connect_to(server.proxy_url()).await;
    other.send(streamed(&secret, TEXT, true)).await;
    let said = other.said().await.expect("it is told");
    assert_eq!((said.status, said.code().as_str()), (503, "overloaded"));
    let (_, most) = resident(&server);
    println!("31 MiB of body that nobody takes: {} MiB at the most", (most - before) / MIB);
    assert!(most - before < TEXT + 16 * MIB, "{before} {most}");
    assert_eq!(provider.received.load(Ordering::SeqCst), 0);
    // Once it is read, it is sent on whole, and gone.
    provider.pace.send_replace(Pace::Drips);
    assert!(raw.exactly(1_500).await.unwrap().starts_with(b"HTTP/1.1 200"));
    assert!(provider.received.load(Ordering::SeqCst) > TEXT, "all of it was sent on");
    let mut next = Raw::connect_to(server.proxy_url()).await;
    next.send(streamed(&secret, TEXT, true)).await;
    assert!(next.exactly(1_500).await.unwrap().starts_with(b"HTTP/1.1 200"));
}
