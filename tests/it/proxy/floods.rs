//! Too much of something: each has its bound, the answer says which, and others are served all the while.

use super::raw::h2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Ended, H2, HEADERS, RST_STREAM, block, frame,
};
use super::raw::{Raw, good, written};
use super::{assert_refusal, still_clock, still_server};
use crate::support::server::{FILE, TestServer, chat};
use crate::support::store::TestStore;
use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::net::TcpStream;

/// The fields of a good chat, but for these.
fn fields<'a>(bearer: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/v1/chat/completions"),
        (":authority", "x"),
        ("authorization", bearer),
        ("content-type", "application/json"),
    ];
    let said = |name: &str| more.iter().any(|(other, _)| *other == name);
    let usual = usual.into_iter().filter(|(name, _)| !said(name));
    let (pseudo, plain): (Vec<_>, Vec<_>) =
        usual.chain(more.iter().copied()).partition(|(name, _)| name.starts_with(':'));
    [pseudo, plain].concat()
}

/// A request on a stream: its head, and its body where there is one.
fn request(stream: u32, block: &[u8], body: Option<&str>) -> Vec<u8> {
    match body {
        None => frame(HEADERS, END_HEADERS | END_STREAM, stream, block),
        Some(body) => {
            [frame(HEADERS, END_HEADERS, stream, block), frame(DATA, END_STREAM, stream, body.as_bytes())]
                .concat()
        }
    }
}

#[tokio::test]
async fn x07_both_protocols_share_the_port_and_http2_has_one_reading_too() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let bearer = format!("Bearer {secret}");
    let body = chat("sandbox-mini").to_string();
    let fields = |more| fields(&bearer, more);
    let twice = |name: &'static str, value: &'static str| [fields(&[]), vec![(name, value)]].concat();
    let without = |name: &str| {
        let all = fields(&[]).into_iter();
        all.filter(|(other, _)| *other != name).collect::<Vec<_>>()
    };
    for (fields, what) in [
        (fields(&[("connection", "close")]), "connection"),
        (fields(&[("transfer-encoding", "chunked")]), "transfer-encoding"),
        (fields(&[("upgrade", "websocket")]), "upgrade"),
        (fields(&[("keep-alive", "5")]), "keep-alive"),
        (fields(&[("proxy-connection", "close")]), "proxy-connection"),
        (fields(&[("te", "gzip")]), "te"),
        (fields(&[("X-Upper", "a")]), "upper case"),
        (fields(&[("x y", "a")]), "a space in a name"),
        (fields(&[("x", "a\r\nhost: b")]), "a line end in a value"),
        (fields(&[("x", "a\0b")]), "a NUL in a value"),
        (fields(&[(":path", "v1/chat/completions")]), "a path without a slash"),
        (fields(&[(":path", "*")]), "no path"),
        (fields(&[(":path", "")]), "an empty path"),
        (fields(&[(":path", "/v1/chat/ completions")]), "a space in the path"),
        (fields(&[(":method", "CONNECT")]), "CONNECT"),
        (fields(&[(":method", "PO ST")]), "a space in the method"),
        (fields(&[(":unknown", "a")]), "an unknown pseudo field"),
        (fields(&[(":status", "200")]), "a status"),
        (fields(&[("host", "y")]), "two hosts"),
        (fields(&[("content-length", "5")]), "a false length"),
        (fields(&[("content-length", "+5")]), "a length with a sign"),
        (twice(":path", "/v1/models"), "two paths, one behind the fields"),
        (twice(":method", "GET"), "a pseudo field behind the fields"),
        ([vec![(":path", "/v1/models")], fields(&[])].concat(), "two paths"),
        (without(":path"), "none of the paths"),
        (without(":method"), "no method"),
    ] {
        let mut h2 = H2::connect(&server).await;
        h2.send(&request(1, &block(&fields), Some(&body))).await;
        match h2.ended(1).await {
            Ended::Answered(text) => assert!(text.contains("\"error\""), "{what}: {text}"),
            Ended::Reset(_) | Ended::Gone(_) => {}
        }
        assert!(server.sandbox.requests().is_empty(), "{what} was sent");
    }

    let mut h2 = H2::connect(&server).await;
    h2.send(&request(1, &block(&fields(&[("te", "trailers")])), Some(&body))).await;
    let Ended::Answered(text) = h2.ended(1).await else { panic!("a good request is served") };
    assert!(text.contains("chat.completion"), "{text}");
    let mut raw = Raw::connect(&server).await;
    raw.send(good(&secret)).await;
    assert_eq!(raw.said().await.unwrap().status, 200);
    let arrived = server.sandbox.requests();
    assert!(arrived.len() == 2 && arrived.iter().all(|one| one.body == body && one.header("te").is_none()));
}

#[tokio::test]
async fn a_connection_has_a_hundred_streams_and_no_more() {
    let server = still_server(&[]).await;
    let mut h2 = H2::connect(&server).await;
    let (_, secret) = server.mint(json!({})).await;
    let bearer = format!("Bearer {secret}");
    let (head, health) =
        (block(&fields(&bearer, &[])), block(&fields("", &[(":method", "GET"), (":path", "/healthz")])));
    for number in 0..100 {
        // Each waits for its body.
        h2.send(&frame(HEADERS, END_HEADERS, 2 * number + 1, &head)).await;
    }
    h2.send(&request(201, &health, None)).await;
    assert_eq!(h2.ended(201).await, Ended::Reset(7), "refused, and safe to send again");
    h2.send(&frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])).await;
    h2.send(&request(203, &health, None)).await;
    assert!(matches!(h2.ended(203).await, Ended::Answered(_)), "there is room again");
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn a_flood_of_resets_or_of_header_frames_ends_its_connection_alone() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let cancel = [0, 0, 0, 8];
    let bearer = format!("Bearer {secret}");
    let body = chat("sandbox-mini").to_string();
    let mut h2 = H2::connect(&server).await;
    let head = block(&fields(&bearer, &[]));
    let (mut number, mut taken) = (1, true);
    while taken && number < 200_000 {
        let burst: Vec<u8> = (0..100)
            .flat_map(|at| {
                let stream = number + 2 * at;
                [request(stream, &head, Some(&body)), frame(RST_STREAM, 0, stream, &cancel)].concat()
            })
            .collect();
        taken = h2.send(&burst).await;
        number += 200;
    }
    let sent = server.sandbox.requests().len();
    println!("{} resets before the connection ended, {sent} requests sent on", number / 2);
    assert!(!taken, "a hundred thousand resets were taken");
    assert!(sent < 256);

    let mut h2 = H2::connect(&server).await;
    let filler = block(&[("x-filler", &"y".repeat(120))]).repeat(100);
    let mut taken = h2.send(&frame(HEADERS, END_STREAM, 1, &head)).await;
    let mut frames = 0;
    while taken && frames < 10_000 {
        taken = h2.send(&frame(CONTINUATION, 0, 1, &filler)).await;
        frames += 1;
    }
    println!("{frames} frames of {} bytes before the connection ended", filler.len());
    assert!(!taken, "a head without end was taken");
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
}

#[tokio::test]
async fn x10_bodies_and_heads_beyond_their_bounds_are_refused_by_name() {
    const CHAT: &str = "/v1/chat/completions";
    let server = still_server(&[]).await;
    let (id, secret) = server.mint(json!({})).await;
    let with = |value: String| format!(r#"{{"model":"sandbox-mini","messages":[],"x":{value}}}"#);
    let deep = with("[".repeat(1000) + &"]".repeat(1000));
    let wide = with(format!("[{}1]", "1,".repeat(1_000_000)));
    let large = with(format!("\"{}\"", "x".repeat(33 << 20)));
    for (path, body, status, code) in [
        (CHAT, deep, 400, "invalid_body"),
        (CHAT, wide, 400, "invalid_body"),
        (CHAT, large.clone(), 413, "body_too_large"),
        // A form may be larger here; what is no form may not.
        ("/v1/images/edits", large, 413, "body_too_large"),
    ] {
        let answer = server.call(server.proxied(&secret, path, body)).await;
        assert_refusal(&answer, "openai", status, "invalid_request_error", code, code);
    }
    let mut raw = Raw::connect(&server).await;
    raw.send(good(&secret).replacen("Host: x\r\n", &format!("Host: x\r\n{}", "X: y\r\n".repeat(200)), 1))
        .await;
    assert_eq!(raw.said().await.unwrap().status, 431);
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(server.entries(&id).await.len(), 4);
}

#[tokio::test]
async fn bodies_share_a_room_and_who_finds_none_is_told_to_come_again() {
    let room = "[limits]\nrequest_bodies_bytes = 1048576";
    let server = TestServer::start_with(TestStore::sqlite().await, still_clock(), &[(FILE, room)]).await;
    let (id, secret) = server.mint(json!({})).await;
    let mut padded = chat("sandbox-mini");
    padded["user"] = json!("u".repeat(400_000));
    // Two fit, and each has its share until it was sent on: these lack their last byte.
    let body = padded.to_string();
    let (most, last) = body.split_at(body.len() - 1);
    let request = written(&secret, &format!("Content-Length: {}\r\n", body.len()), most);
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(&server).await;
        raw.send(&request).await;
        held.push(raw);
    }
    // It takes a moment until they have come that far.
    let mut answer = server.post(&secret, "/v1/chat/completions", &padded).await;
    for _ in 0..1_000 {
        if answer.status == 200 {
            answer = server.post(&secret, "/v1/chat/completions", &padded).await;
        }
    }
    assert_refusal(&answer, "openai", 503, "api_error", "overloaded", "no room");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "a small one fits beside them");
    for mut raw in held {
        raw.send(last).await;
        assert_eq!(raw.said().await.unwrap().status, 200);
    }
    // A body that was sent on has none, however long its answer takes.
    padded["model"] = json!("sandbox-mini+hold");
    let body = padded.to_string();
    let request = written(&secret, &format!("Content-Length: {}\r\n", body.len()), &body);
    let mut waiting = Vec::new();
    for number in 1..=4 {
        let mut raw = Raw::connect(&server).await;
        raw.send(&request).await;
        server.sandbox.wait_held(number).await;
        waiting.push(raw);
    }
    server.sandbox.release();
    for mut raw in waiting {
        assert_eq!(raw.said().await.unwrap().status, 200);
    }
    padded["model"] = json!("sandbox-mini");
    assert_eq!(
        server.post(&secret, "/v1/chat/completions", &padded).await.status,
        200,
        "there is room again"
    );
    padded["user"] = json!("u".repeat(1 << 20));
    let answer = server.post(&secret, "/v1/chat/completions", &padded).await;
    assert_refusal(&answer, "openai", 413, "invalid_request_error", "body_too_large", "more than the room");
    let entries = server.entries(&id).await;
    assert_eq!(entries.iter().filter(|entry| entry["rule"] == "overloaded").count(), 1, "{entries:?}");
}

#[tokio::test]
async fn a_client_of_http2_is_served_like_one_of_http1() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let stream = TcpStream::connect(server.proxy.strip_prefix("http://").unwrap()).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut streamed = chat("sandbox-mini");
    streamed["stream"] = json!(true);
    let asked = join_all([chat("sandbox-mini"), streamed].map(|body| {
        let (mut client, body) = (client.clone(), Full::new(Bytes::from(body.to_string())));
        let request = Request::post(format!("{}/v1/chat/completions", server.proxy))
            .header("authorization", format!("Bearer {secret}"))
            .header("content-type", "application/json")
            .body(body)
            .unwrap();
        async move {
            let answer = client.send_request(request).await.unwrap();
            let status = answer.status();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(bytes.to_vec()).unwrap())
        }
    }))
    .await;
    assert!(asked.iter().all(|(status, _)| *status == 200), "{asked:?}");
    assert!(
        asked[0].1.contains("chat.completion\"") && asked[1].1.ends_with("data: [DONE]\n\n"),
        "{asked:?}"
    );
}
