//! Raw sockets against the listener: what hyper refuses by itself, and what is refused beside it.

use super::*;
use crate::http::{BodyBound, BodyRoom, RequestId, read_body};
use axum::Extension;
use axum::body::Body;
use axum::routing::{any, get};
use http_body_util::BodyExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinHandle;

mod relays;
mod tls;

struct Served {
    address: SocketAddr,
    /// How many requests a handler saw.
    handled: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    cut: JoinHandle<usize>,
}

/// `/` counts and answers the body's length; `/hang` answers never; `/flood` answers without end; `/peer` says who asks.
async fn served(limits: Limits, entrance: Entrance) -> Served {
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let echo = move |request: http::Request<Body>| async move {
        count.fetch_add(1, Ordering::SeqCst);
        let room = BodyRoom::new(1 << 22);
        let bound = BodyBound { bytes_max: 1 << 20, read_timeout: Duration::from_secs(30), room };
        match read_body(&request.headers().clone(), request.into_body(), bound).await {
            Ok(body) => body.len().to_string(),
            Err(error) => error.to_string(),
        }
    };
    let flood = || async {
        let chunk = futures_util::stream::repeat_with(|| io::Result::Ok(vec![0_u8; 65536]));
        Body::from_stream(chunk)
    };
    let who = |Extension(peer): Extension<Peer>, id: RequestId| async move { format!("{} {id}", peer.ip()) };
    let app = Router::new()
        .route("/", any(echo))
        .route("/hang", any(|| async { std::future::pending::<()>().await }))
        .route("/flood", get(flood))
        .route("/peer", get(who));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let cut = tokio::spawn(serve(listener, entrance, limits, app, shutdown.clone()));
    Served { address, handled, shutdown, cut }
}

/// All that comes back until the server closes, or until nothing has come for a while.
async fn answer(stream: &mut TcpStream) -> (String, bool) {
    let mut text = Vec::new();
    let mut closed = false;
    while let Ok(read) = timeout(Duration::from_millis(300), stream.read_buf(&mut text)).await {
        if matches!(read, Ok(0) | Err(_)) {
            closed = true;
            break;
        }
    }
    (String::from_utf8_lossy(&text).into_owned(), closed)
}

impl Served {
    async fn raw(&self, request: &str) -> (String, bool) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        answer(&mut stream).await
    }
}

const SMUGGLED: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_request_framed_in_two_ways_is_400_and_close_and_reaches_no_handler() {
    let server = served(Limits::default(), Entrance::default()).await;
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 5",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0, 0",
        "Content-Length: +5",
        "Content-Length : 0",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding:\u{b}chunked",
        "Transfer-Encoding: chunked\nContent-Length: 5",
        "X: y\n\rContent-Length: 5",
        "X: a\r\n folded",
    ] {
        let (text, closed) =
            server.raw(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n{SMUGGLED}")).await;
        assert!(text.starts_with("HTTP/1.1 400"), "{fields:?}: {text}");
        assert!(closed && text.matches("HTTP/1.1").count() == 1, "{fields:?}: {text}");
    }
    for bare in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let (text, closed) = server.raw(bare).await;
        assert!(text.starts_with("HTTP/1.1 400") && closed, "{bare:?}: {text}");
    }
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (text, closed) = server.raw(old).await;
    assert!(text.starts_with("HTTP/1.") && text.contains(" 400 ") && closed, "{text}");
    assert_eq!(server.handled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_offending_second_request_is_refused_after_the_first_is_answered() {
    let server = served(Limits::default(), Entrance::default()).await;
    let first = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let second = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (text, closed) = server.raw(&format!("{first}{second}{SMUGGLED}")).await;
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("HTTP/1.1 400") && closed, "{text}");
    assert_eq!(server.handled.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn requests_one_after_the_other_share_a_connection() {
    let server = served(Limits::default(), Entrance::default()).await;
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na\nb";
    let (text, closed) = server.raw(&[SMUGGLED, post, SMUGGLED, post].concat()).await;
    assert_eq!(text.matches("HTTP/1.1 200").count(), 4, "{text}");
    assert!(!closed && text.contains("x-bitting-request-id: req_"), "{text}");
}

#[tokio::test]
async fn heads_above_a_bound_and_methods_without_meaning_are_refused() {
    let server = served(Limits::default(), Entrance::default()).await;
    let long = |len| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len));
    let many = |count| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count));
    let block = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(33 * 1024));
    for (request, status) in [
        (long(8191), "404 Not Found"),
        (long(8192), "414 URI Too Long"),
        (long(40_000), "431 "),
        (many(99), "200 OK"),
        (many(100), "431 "),
        (many(500), "431 "),
        (block, "431 "),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(), "405 "),
        ("GET / HTTP/1.1\r\n\r\n".into(), "400 "),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), "400 "),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), "400 "),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), "400 "),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), "400 "),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), "400 "),
        ("GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n".into(), "400 "),
        ("GET http://A:80/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), "200 "),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), "200 "),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), "400 "),
    ] {
        let (text, closed) = server.raw(&request).await;
        let start = &text[..text.len().min(40)];
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {start}");
        assert_eq!(closed, !matches!(&status[..3], "200" | "404"), "{status}");
    }
    let (text, _) = server.raw(&many(100)).await;
    assert!(text.contains("too_many_headers") && text.contains("more than 100 header fields"), "{text}");
}

#[tokio::test]
async fn a_slow_head_a_silent_client_and_an_idle_connection_are_closed() {
    let limits = Limits {
        header_read_timeout: Duration::from_millis(100),
        keep_alive_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = served(limits, Entrance::default()).await;
    for start in ["", "PRI * HT", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\nX:"] {
        let (text, closed) = server.raw(start).await;
        assert!(closed && text.is_empty(), "{start:?}: {text}");
    }
    let (text, closed) = server.raw(SMUGGLED).await;
    assert!(text.starts_with("HTTP/1.1 200") && closed, "idle after an answer: {text}");
    let (text, closed) = server.raw(&format!("{SMUGGLED}GET / HT")).await;
    assert!(text.starts_with("HTTP/1.1 200") && closed, "a slow second head: {text}");
    assert_eq!(server.raw("GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await, (String::new(), false), "not idle");
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut() {
    let limits = Limits { write_stall_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = served(limits, Entrance::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 15]).await.unwrap();
    server.shutdown.cancel();
    let cut = timeout(Duration::from_secs(20), server.cut).await;
    assert_eq!(cut.unwrap().unwrap(), 0, "it ends before the drain would cut it");
}

#[tokio::test]
async fn an_answer_reaches_a_client_that_is_still_sending() {
    let limits = Limits { header_read_timeout: Duration::from_millis(500), ..Limits::default() };
    let server = served(limits, Entrance::default()).await;
    let large = vec![b'x'; 20 << 20];
    for (head, status) in [
        ("POST /nothing HTTP/1.1\r\nHost: a\r\nContent-Length: 20971520\r\n\r\n", "404"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20971520\r\nContent-Length: 1\r\n\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&large).await.expect("all of it is taken");
        let (text, closed) = answer(&mut stream).await;
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")) && closed, "{text}");
    }
    let mut endless = TcpStream::connect(server.address).await.unwrap();
    endless
        .write_all(b"POST /nothing HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .unwrap();
    let sending = async { while endless.write_all(b"1\r\nx\r\n").await.is_ok() {} };
    timeout(Duration::from_secs(20), sending).await.expect("but not for ever");
}

#[tokio::test]
async fn a_drain_lets_requests_end_and_then_cuts() {
    let limits = Limits { drain_timeout: Duration::from_millis(300), ..Limits::default() };
    let server = served(limits, Entrance::default()).await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(SMUGGLED.as_bytes()).await.unwrap();
    assert!(answer(&mut idle).await.0.starts_with("HTTP/1.1 200"));
    let mut hanging = TcpStream::connect(server.address).await.unwrap();
    hanging.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").await.unwrap();
    while server.handled.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }

    server.shutdown.cancel();
    assert!(answer(&mut idle).await.1, "an idle connection is closed");
    slow.write_all(b"b").await.unwrap();
    let (text, closed) = answer(&mut slow).await;
    assert!(text.starts_with("HTTP/1.1 200") && closed, "a request in flight ends: {text}");
    assert_eq!(server.cut.await.unwrap(), 1, "what hangs is cut");
    assert!(answer(&mut hanging).await.1);
    assert!(TcpStream::connect(server.address).await.is_err(), "nothing is accepted any more");
}

#[tokio::test]
async fn connections_above_the_bound_wait_for_room() {
    let server = served(Limits { connections_max: 1, ..Limits::default() }, Entrance::default()).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.raw(SMUGGLED).await, (String::new(), false));
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(SMUGGLED.as_bytes()).await.unwrap();
    drop(first);
    assert!(answer(&mut second).await.0.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn http2_is_served_with_the_same_bounds_and_the_peer() {
    let server = served(Limits::default(), Entrance::default()).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut get = async |path: &str| {
        let request = http::Request::get(format!("http://a{path}")).body(Body::empty()).unwrap();
        let (parts, body) = client.send_request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, headers, text) = get("/peer").await;
    let id = headers["x-bitting-request-id"].to_str().unwrap().to_owned();
    assert_eq!((status, text), (200, format!("127.0.0.1 {id}")));
    let (status, headers, text) = get(&format!("/{}", "x".repeat(8192))).await;
    let id = headers["x-bitting-request-id"].to_str().unwrap();
    assert!(status == 414 && text.contains(&format!("\"request_id\":\"{id}\"")), "{status} {text}");
    drop(client);
    connection.await.unwrap().unwrap();
}
