//! Real sockets on loopback, each misbehaving in its own way.

use super::*;
use crate::base::CidrSet;
use crate::http::{Entrance, Limits, Tls, serve};
use axum::Router;
use axum::routing::{any, post};
use bytes::Bytes;
use http_body_util::BodyExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SHORT: Deadlines =
    Deadlines { connect: Duration::from_secs(5), first_byte: Duration::from_millis(200) };

fn settings(private: &[&str]) -> UpstreamSettings {
    UpstreamSettings::new(AddressRule::new(CidrSet::parse(private).unwrap()))
}

fn local() -> Upstream {
    Upstream::new(settings(&["127.0.0.0/8"])).unwrap()
}

fn request(uri: &str) -> Request<Chain> {
    let body = ["{\"model\"", ": ", "\"m\"}"].map(|piece| Bytes::from_static(piece.as_bytes()));
    Request::post(uri).body(body.into_iter().collect()).unwrap()
}

async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/v1", listener.local_addr().unwrap());
    (listener, uri)
}

/// A provider that treats each connection, once a request has come in on it, as `then` says.
async fn provider<F: Future<Output = ()> + Send + 'static>(
    then: impl Fn(TcpStream, usize) -> F + Send + 'static,
) -> (String, Arc<AtomicUsize>) {
    let (listener, uri) = bind().await;
    let requests = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = if read_request(&mut stream).await {
                seen.fetch_add(1, Ordering::SeqCst)
            } else {
                usize::MAX
            };
            tokio::spawn(then(stream, number));
        }
    });
    (uri, requests)
}

async fn read_request(stream: &mut TcpStream) -> bool {
    let mut text = Vec::new();
    while !text.ends_with(b"\"m\"}") {
        if !matches!(stream.read_buf(&mut text).await, Ok(read) if read > 0) {
            return false;
        }
    }
    true
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn a_refused_connection_sent_nothing() {
    let (listener, uri) = bind().await;
    drop(listener);
    let error = local().send(request(&uri), Deadlines::default()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(ConnectError::Tcp { .. })), "{error:?}");
}

#[tokio::test]
async fn an_address_that_is_not_allowed_is_never_dialled() {
    let (listener, uri) = bind().await;
    let port = listener.local_addr().unwrap().port();
    let nothing_private = Upstream::new(settings(&[])).unwrap();
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "127.1", "0"]
    {
        for scheme in ["http", "https"] {
            let uri = format!("{scheme}://{host}:{port}/");
            let error = nothing_private.send(request(&uri), SHORT).await.unwrap_err();
            // By https an odd host is refused even earlier: it is no name that a certificate could bear.
            let refused = match &error {
                UpstreamError::NotConnected(ConnectError::Tls { .. }) => scheme == "https",
                UpstreamError::NotConnected(failure) => {
                    matches!(failure, ConnectError::AddressDenied { .. } | ConnectError::Resolve { .. })
                }
                UpstreamError::BrokenOff { .. } | UpstreamError::FirstByteTimeout { .. } => false,
            };
            assert!(refused, "{uri}: {error:?}");
        }
    }
    let metadata = Upstream::new(settings(&["0.0.0.0/0"])).unwrap();
    let error = metadata.send(request("http://169.254.169.254/latest"), SHORT).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(ConnectError::AddressDenied { .. })), "{error:?}");
    let quiet = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(quiet.is_err(), "nothing was dialled");

    // The same listener, once its network is listed.
    let answer = tokio::spawn(async move { local().send(request(&uri), SHORT).await });
    listener.accept().await.unwrap();
    answer.abort();
}

#[tokio::test]
async fn plain_http_goes_to_listed_networks_only() {
    let public = Upstream::new(settings(&[])).unwrap();
    let error = public.send(request("http://1.1.1.1/"), SHORT).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(ConnectError::AddressDenied { .. })), "{error:?}");
}

#[tokio::test]
async fn a_name_without_an_address_and_a_uri_without_a_host_sent_nothing() {
    let error = local().send(request("/v1/models"), Deadlines::default()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(ConnectError::Unused { .. })), "{error:?}");
    let error = local().send(request("ftp://127.0.0.1/"), Deadlines::default()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(_)), "{error:?}");
}

#[tokio::test]
async fn an_untrusted_certificate_or_no_tls_at_all_sent_nothing() {
    let (uri, _shutdown) = https_server(Router::new()).await;
    let error = local().send(request(&uri), Deadlines::default()).await.unwrap_err();
    let UpstreamError::NotConnected(ConnectError::Tls { reason, .. }) = &error else { panic!("{error:?}") };
    assert!(reason.contains("UnknownIssuer"), "{reason}");

    let (uri, requests) = provider(|_, _| async {}).await;
    let silent =
        UpstreamSettings { connect_timeout: Duration::from_millis(200), ..settings(&["127.0.0.0/8"]) };
    let uri = uri.replace("http:", "https:");
    let error = Upstream::new(silent).unwrap().send(request(&uri), Deadlines::default()).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(ConnectError::Timeout { .. })), "{error:?}");
    let deadlines = Deadlines { connect: Duration::from_millis(200), ..Deadlines::default() };
    let error = local().send(request(&uri), deadlines).await.unwrap_err();
    assert!(matches!(error, UpstreamError::NotConnected(ConnectError::Timeout { .. })), "{error:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_that_ends_after_the_request_may_have_been_worked_on() {
    let closes = provider(|stream, _| async { drop(stream) }).await;
    let resets = provider(|stream, _| async move { stream.set_zero_linger().unwrap() }).await;
    let half = provider(|mut stream, _| async move { stream.write_all(b"HTTP/1.1 20").await.unwrap() }).await;
    let junk =
        provider(|mut stream, _| async move { stream.write_all(b"SSH-2.0\r\n\r\n").await.unwrap() }).await;
    for (name, (uri, requests)) in [("closes", closes), ("resets", resets), ("half", half), ("junk", junk)] {
        let error = local().send(request(&uri), Deadlines::default()).await.unwrap_err();
        assert!(matches!(error, UpstreamError::BrokenOff { .. }), "{name}: {error:?}");
        assert_eq!(requests.load(Ordering::SeqCst), 1, "{name}: never sent twice");
    }
}

#[tokio::test]
async fn a_provider_that_hangs_is_timed_out_and_its_connection_closed() {
    let (gone_in, mut gone) = tokio::sync::mpsc::channel(1);
    let (uri, requests) = provider(move |mut stream, _| {
        let gone_in = gone_in.clone();
        async move {
            let read = stream.read(&mut [0; 16]).await;
            gone_in.send(read.is_ok_and(|bytes| bytes == 0)).await.unwrap();
        }
    })
    .await;
    let error = local().send(request(&uri), SHORT).await.unwrap_err();
    assert_eq!(error, UpstreamError::FirstByteTimeout { after: SHORT.first_byte });
    assert_eq!(gone.recv().await, Some(true), "the provider learns that nobody waits any more");
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

/// The provider closes each connection after one answer, without saying so. Whether hyper has noticed when the next
/// request comes is a race; whoever wins it, no request is seen twice, and none fails as unsent.
#[tokio::test]
async fn a_pooled_connection_that_the_provider_closed_never_sends_twice() {
    let (uri, requests) = provider(|mut stream, _| async move { stream.write_all(OK).await.unwrap() }).await;
    let upstream = local();
    let mut answered = 0;
    for round in 1..=50 {
        match upstream.send(request(&uri), Deadlines::default()).await {
            Ok(answer) => {
                assert_eq!(text(answer).await, "ok");
                answered += 1;
            }
            Err(error) => assert!(matches!(error, UpstreamError::BrokenOff { .. }), "{error:?}"),
        }
        let seen = requests.load(Ordering::SeqCst);
        assert!(answered <= seen && seen <= round, "answered {answered}, seen {seen}, sent {round}");
    }
    assert!(answered > 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (elsewhere, target) = bind().await;
    let head = format!("HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
    let (uri, _) = provider(move |mut stream, _| {
        let head = head.clone();
        async move { stream.write_all(head.as_bytes()).await.unwrap() }
    })
    .await;
    let answer = local().send(request(&uri), Deadlines::default()).await.unwrap();
    assert_eq!(answer.status(), 302);
    assert!(tokio::time::timeout(Duration::from_millis(50), elsewhere.accept()).await.is_err());
}

#[tokio::test]
async fn an_answer_that_stops_coming_is_idle_and_one_that_breaks_is_broken() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n";
    let slow = provider(move |mut stream, _| async move {
        stream.write_all(head).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await;
    let cut = provider(move |mut stream, _| async move { stream.write_all(head).await.unwrap() }).await;
    for (name, (uri, _)) in [("slow", slow), ("cut", cut)] {
        let answer = local().send(request(&uri), SHORT).await.unwrap();
        let mut body = IdleTimeout::new(answer.into_body(), Duration::from_millis(100));
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "ok");
        let error = body.frame().await.unwrap().unwrap_err();
        match name {
            "slow" => assert!(matches!(error, AnswerError::Idle { .. }), "{error:?}"),
            _ => assert!(matches!(error, AnswerError::Broken(_)), "{error:?}"),
        }
    }
}

/// A server with the test certificate.
async fn https_server(app: Router) -> (String, tokio_util::sync::DropGuard) {
    let (listener, uri) = bind().await;
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/testdata");
    let tls = Tls::load(&files.join("one.cert.pem"), &files.join("one.key.pem")).unwrap();
    let shutdown = CancellationToken::new();
    let entrance = Entrance { tls: Some(tls), ..Entrance::default() };
    tokio::spawn(serve(listener, entrance, Limits::default(), app, shutdown.clone()));
    (uri.replace("http:", "https:"), shutdown.drop_guard())
}

#[tokio::test]
async fn a_trusted_provider_is_spoken_to_over_tls() {
    let version =
        |request: http::Request<axum::body::Body>| async move { format!("{:?}", request.version()) };
    let app = Router::new().route("/v1", post(version)).route("/never", any(std::future::pending::<()>));
    let (uri, _shutdown) = https_server(app).await;
    let settings = settings(&["127.0.0.0/8"]);
    let authority = include_bytes!("../../http/testdata/one.cert.pem");
    let outgoing = Outgoing::new(settings.addresses).trusting(authority).unwrap();
    let upstream = Upstream::over(outgoing, settings.pool_idle_timeout, settings.pool_idle_max).unwrap();
    for _ in 0..2 {
        let answer = upstream.send(request(&uri), Deadlines::default()).await.unwrap();
        assert_eq!(text(answer).await, "HTTP/1.1");
    }
    let error = upstream.send(request(&uri.replace("/v1", "/never")), SHORT).await.unwrap_err();
    assert!(matches!(error, UpstreamError::FirstByteTimeout { .. }), "{error:?}");
}
