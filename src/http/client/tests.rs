//! Real sockets on loopback, and a name service that lies.

use super::*;
use crate::base::{CidrSet, Secret};
use crate::http::{Entrance, Limits, Tls, serve};
use axum::Router;
use axum::http::HeaderMap;
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use http::{Method, StatusCode, Uri};
use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Answers each question with the next of its answers, and with the last one from then on.
struct Lying(Mutex<VecDeque<Vec<IpAddr>>>, Mutex<Vec<String>>);

impl Lying {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect()), Mutex::default()))
    }

    fn asked(&self) -> usize {
        self.1.lock().unwrap().len()
    }
}

impl Resolve for Lying {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        self.1.lock().unwrap().push(host.to_owned());
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        Box::pin(std::future::ready(Ok(answer.unwrap_or_default())))
    }
}

fn private(networks: &[&str]) -> AddressRule {
    AddressRule::new(CidrSet::parse(networks).unwrap())
}

fn call(uri: &str) -> JsonCall {
    JsonCall {
        method: Method::GET,
        uri: uri.parse().unwrap(),
        headers: HeaderMap::new(),
        body: None,
        timeout: Duration::from_secs(5),
    }
}

fn client(outgoing: Outgoing) -> JsonClient {
    JsonClient::new(outgoing, 1_024).unwrap()
}

async fn serve_plain(app: Router) -> (String, tokio_util::sync::DropGuard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, Entrance::default(), Limits::default(), app, shutdown.clone()));
    (uri, shutdown.drop_guard())
}

fn port(uri: &str) -> u16 {
    uri.parse::<Uri>().unwrap().port_u16().unwrap()
}

#[tokio::test]
async fn the_address_that_was_checked_is_the_one_that_is_dialled() {
    let (uri, _server) = serve_plain(Router::new().route("/", get(async || "1"))).await;
    let uri = format!("http://rebinding.example:{}/", port(&uri));
    let resolver = Lying::new(&[&["127.0.0.1"], &["127.9.9.9"]]);
    let client = client(Outgoing::new(private(&["127.0.0.0/29"])).resolved_by(resolver.clone()));
    let answer = client.send(call(&uri)).await.unwrap();
    assert_eq!((answer.status, answer.read()), (StatusCode::OK, Some(1)));
    assert_eq!(resolver.asked(), 1, "the name is looked up once; what it becomes later changes nothing");
    // The next connection has a check of its own, and the name's new address does not pass it.
    let error = client.send(call(&uri)).await.err().unwrap();
    let denied = ConnectError::AddressDenied {
        host: "rebinding.example".to_owned(),
        ip: "127.9.9.9".parse().unwrap(),
    };
    assert_eq!(error, JsonCallError::NotConnected(denied));
}

#[tokio::test]
async fn of_many_addresses_only_those_that_pass_are_dialled() {
    let (uri, _server) = serve_plain(Router::new().route("/", get(async || "1"))).await;
    let uri = format!("http://many.example:{}/", port(&uri));
    let denied = ["169.254.169.254", "::ffff:169.254.169.254", "10.0.0.1", "::a9fe:a9fe", "0.0.0.0"];
    let mixed: Vec<&str> = denied.iter().copied().chain(["127.0.0.1"]).collect();
    let rule = private(&["127.0.0.0/8", "169.254.0.0/16", "::/0"]);
    let mixed = client(Outgoing::new(rule.clone()).resolved_by(Lying::new(&[&mixed])));
    assert_eq!(mixed.send(call(&uri)).await.unwrap().status, StatusCode::OK);
    for scheme in ["http", "https"] {
        let only = client(Outgoing::new(rule.clone()).resolved_by(Lying::new(&[&denied])));
        let error = only.send(call(&uri.replace("http", scheme))).await.err().unwrap();
        let refused = JsonCallError::NotConnected(ConnectError::AddressDenied {
            host: "many.example".to_owned(),
            ip: "169.254.169.254".parse().unwrap(),
        });
        assert_eq!(error, refused, "{scheme}");
    }
}

#[tokio::test]
async fn a_literal_address_is_checked_without_asking_anybody_and_an_odd_one_by_what_it_resolves_to() {
    let resolver = Lying::new(&[&["127.0.0.1"]]);
    let client = client(Outgoing::new(AddressRule::default()).resolved_by(resolver.clone()));
    for (host, asked) in [("127.0.0.1", 0), ("[::ffff:127.0.0.1]", 0), ("[::1]", 0), ("0x7f.1", 1)] {
        let error = client.send(call(&format!("http://{host}:1/"))).await.err().unwrap();
        let denied = matches!(error, JsonCallError::NotConnected(ConnectError::AddressDenied { .. }));
        assert!(denied && resolver.asked() == asked, "{host}: {error:?}");
    }
}

#[tokio::test]
async fn a_call_carries_its_headers_and_body_and_its_answer_is_read() {
    let echo = |headers: HeaderMap, body: String| async move {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let seen = [header("x-token"), header("content-type"), header("accept"), header("accept-encoding")];
        axum::Json(serde_json::json!({"seen": seen, "body": body}))
    };
    let (uri, _server) = serve_plain(Router::new().route("/call", post(echo))).await;
    let client = client(Outgoing::new(AddressRule::Configured));
    let mut call = call(&format!("{uri}/call"));
    call.method = Method::POST;
    call.headers.insert("x-token", "t".parse().unwrap());
    call.body = Some(Secret::new(b"{\"a\":1}".to_vec()));
    let answer: serde_json::Value = client.send(call).await.unwrap().read().unwrap();
    let json = "application/json";
    assert_eq!(answer, serde_json::json!({"seen": ["t", json, json, null], "body": "{\"a\":1}"}));
}

#[tokio::test]
async fn a_call_follows_no_redirect_and_bounds_what_it_reads_and_how_long() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/", elsewhere.local_addr().unwrap());
    let app = Router::new()
        .route("/moved", get(async move || axum::response::Redirect::temporary(&target)))
        .route("/fits", get(async || "1".repeat(1_024)))
        .route("/long", get(async || "1".repeat(1_025)))
        .route("/never", get(std::future::pending::<()>));
    let (uri, _server) = serve_plain(app).await;
    let client = client(Outgoing::new(AddressRule::Configured));
    let send =
        async |path: &str, timeout| client.send(JsonCall { timeout, ..call(&format!("{uri}{path}")) }).await;
    let enough = Duration::from_secs(5);
    assert_eq!(send("/moved", enough).await.unwrap().status, StatusCode::TEMPORARY_REDIRECT);
    assert!(tokio::time::timeout(Duration::from_millis(50), elsewhere.accept()).await.is_err());
    assert_eq!(send("/fits", enough).await.unwrap().status, StatusCode::OK);
    assert_eq!(send("/long", enough).await.err(), Some(JsonCallError::TooLarge { bytes_max: 1_024 }));
    let after = Duration::from_millis(100);
    assert_eq!(send("/never", after).await.err(), Some(JsonCallError::Timeout { after }));
}

#[tokio::test]
async fn a_connection_that_breaks_off_may_have_carried_the_call_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let server = async move {
        let mut stream = listener.accept().await.unwrap().0;
        stream.read_exact(&mut [0; 16]).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1").await.unwrap();
        listener
    };
    let client = client(Outgoing::new(AddressRule::Configured));
    let (listener, answer) = tokio::join!(server, client.send(call(&uri)));
    assert!(matches!(answer.err(), Some(JsonCallError::BrokenOff { .. })));
    drop(listener);
    let refused = client.send(call(&uri)).await.err();
    assert!(matches!(refused, Some(JsonCallError::NotConnected(ConnectError::Tcp { .. }))), "{refused:?}");
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_alone() {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/testdata");
    let tls = Tls::load(&files.join("one.cert.pem"), &files.join("one.key.pem")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("https://{}/", listener.local_addr().unwrap());
    let app = Router::new().route("/", get(async || "1"));
    let shutdown = CancellationToken::new();
    let entrance = Entrance { tls: Some(tls), ..Entrance::default() };
    tokio::spawn(serve(listener, entrance, Limits::default(), app, shutdown.clone()));
    let authority = |name: &str| std::fs::read(files.join(name)).unwrap();
    let outgoing = || Outgoing::new(AddressRule::Configured);
    let own = client(outgoing().trusting(&authority("one.cert.pem")).unwrap());
    assert_eq!(own.send(call(&uri)).await.unwrap().status, StatusCode::OK);
    for other in [outgoing(), outgoing().trusting(&authority("two.cert.pem")).unwrap()] {
        let error = client(other).send(call(&uri)).await.err().unwrap();
        assert!(matches!(error, JsonCallError::NotConnected(ConnectError::Tls { .. })), "{error:?}");
    }
    for empty in [b"".to_vec(), b"junk".to_vec(), authority("one.key.pem")] {
        assert_eq!(outgoing().trusting(&empty).err(), Some(OutgoingError::NoCertificate));
    }
    shutdown.cancel();
}
