//! Bytes that two readers could take for different requests: refused, the connection closed, and no provider asked.

use super::raw::{Raw, chunked, good, written};
use super::still_server;
use crate::support::server::{TestServer, chat};
use serde_json::json;

/// A refusal that ends the connection, whatever stands behind it.
async fn assert_refused(server: &TestServer, bytes: &[u8], statuses: &[u16]) {
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let mut raw = Raw::connect(server).await;
    raw.send(bytes).await;
    let said = raw.said().await.unwrap_or_else(|| panic!("no answer to {shown:?}"));
    assert!(statuses.contains(&said.status), "{shown:?}: {said:?}");
    raw.assert_closed(&shown).await;
    assert!(server.sandbox.requests().is_empty(), "{shown:?} was sent");
}

#[tokio::test]
async fn x07_a_body_with_two_ends_is_refused_and_nothing_behind_it_is_read() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let body = chat("sandbox-mini").to_string();
    let (length, chunks) = (body.len(), chunked(&body));
    for framing in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n".to_owned(),
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: identity, chunked\r\n".to_owned(),
        "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding: \"chunked\"\r\n".to_owned(),
        "Transfer-Encoding: chunked;q=1\r\n".to_owned(),
        "Transfer-Encoding:\u{b}chunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding\t: chunked\r\n".to_owned(),
        " Transfer-Encoding: chunked\r\n".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        "X: y\r\n\tTransfer-Encoding: chunked\r\n".to_owned(),
        "X: y\nTransfer-Encoding: chunked\r\n".to_owned(),
        "X: y\rTransfer-Encoding: chunked\r\n".to_owned(),
        "X\0: y\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "X: y\0\r\nTransfer-Encoding: chunked\r\n".to_owned(),
    ] {
        let request = written(&secret, &framing, &chunks) + &good(&secret);
        assert_refused(&server, request.as_bytes(), &[400]).await;
    }
    for framing in [
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: 0\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length: -{length}\r\n"),
        format!("Content-Length: 0x{length:x}\r\n"),
        format!("Content-Length: {length}.0\r\n"),
        format!("Content-Length: {length} 0\r\n"),
        format!("Content-Length : {length}\r\n"),
        format!("Content-Length: {length}\n"),
        format!("X: y\r\n Content-Length: {length}\r\n"),
        format!("Content-Length: 18446744073709551616{length}\r\n"),
        "Content-Length:\r\n".to_owned(),
        "Content-Length: five\r\n".to_owned(),
    ] {
        let request = written(&secret, &framing, &body) + &good(&secret);
        assert_refused(&server, request.as_bytes(), &[400]).await;
    }
    let old = written(&secret, "Transfer-Encoding: chunked\r\n", &chunks).replace("HTTP/1.1", "HTTP/1.0");
    assert_refused(&server, (old + &good(&secret)).as_bytes(), &[400]).await;
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200, "others are served all the while");
}

#[tokio::test]
async fn x07_a_head_that_is_none_is_refused() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let good = good(&secret);
    let with = |line: &str| good.replacen("Host: x\r\n", line, 1);
    let first = |line: &str| good.replacen("POST /v1/chat/completions HTTP/1.1", line, 1);
    for (head, statuses) in [
        (with(""), &[400][..]),
        (with("Host: x\r\nHost: x\r\n"), &[400]),
        (with("Host: x\r\nHost: y\r\n"), &[400]),
        (with("Host: x y\r\n"), &[400]),
        (with("Host: a@x\r\n"), &[400]),
        (with("Host: x\r\nno colon\r\n"), &[400]),
        (with("Host: x\r\nX Y: z\r\n"), &[400]),
        (with("Host: x\r\nX\u{e4}: z\r\n"), &[400]),
        (with("Host: x\r\n: z\r\n"), &[400]),
        (with("Host: x\r\nX: a\u{7f}b\r\n"), &[400]),
        (with("Host: x\r\nX: a\u{8}b\r\n"), &[400]),
        (good.replace("\r\n", "\n"), &[400]),
        (first("POST /v1/chat/completions HTTP/1.2"), &[400, 505]),
        (first("POST /v1/chat/completions HTTP/2.0"), &[400, 505]),
        (first("POST /v1/chat/completions http/1.1"), &[400]),
        (first("POST /v1/chat/completions"), &[400]),
        (first("POST  /v1/chat/completions HTTP/1.1"), &[400]),
        (first("POST\t/v1/chat/completions\tHTTP/1.1"), &[400]),
        (first("POST /v1/chat/completions HTTP/1.1 x"), &[400]),
        (first("POST /v1/chat completions HTTP/1.1"), &[400]),
        (first("PO\0ST /v1/chat/completions HTTP/1.1"), &[400]),
        (first("POST /v1/chat/\0completions HTTP/1.1"), &[400]),
        (first("POST v1/chat/completions HTTP/1.1"), &[400]),
        (first("POST * HTTP/1.1"), &[400]),
        (first("POST http://evil.example/v1/chat/completions HTTP/1.1"), &[400]),
        (first("POST http://x@evil.example/v1/chat/completions HTTP/1.1"), &[400]),
        (first("CONNECT evil.example:443 HTTP/1.1"), &[405]),
        (first("CONNECT /v1/chat/completions HTTP/1.1"), &[400, 405]),
    ] {
        assert_refused(&server, (head + &good).as_bytes(), statuses).await;
    }
    let bare = good.replacen("Host: x\r\n", "Host: x\r\nX: \u{e4}\r\n", 1);
    let latin: Vec<u8> = bare.chars().map(|c| u8::try_from(c).unwrap()).collect();
    let mut raw = Raw::connect(&server).await;
    raw.send(&latin).await;
    assert_eq!(
        raw.said().await.unwrap().status,
        200,
        "a value may hold any visible byte, and is not sent on"
    );
}

#[tokio::test]
async fn what_follows_a_refusal_is_a_request_of_its_own_or_nothing() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let good = good(&secret);

    // Refused with its body unread: the next one begins where the body ends.
    for refused in [
        good.replacen(&secret, "bk_nobody", 1),
        good.replacen("application/json", "text/plain", 1),
        good.replacen("/v1/chat/completions", "/v1/unknown", 1),
    ] {
        server.sandbox.reset();
        let hidden = refused.replacen("hello", "GET /", 1);
        let mut raw = Raw::connect(&server).await;
        raw.send(hidden + &good).await;
        let first = raw.said().await.unwrap();
        assert!((400..500).contains(&first.status), "{first:?}");
        match raw.said().await {
            Some(second) => {
                assert_eq!((second.status, server.sandbox.requests().len()), (200, 1), "{second:?}");
            }
            None => assert!(server.sandbox.requests().is_empty()),
        }
    }
    server.sandbox.reset();
    let large = written(&secret, "Content-Length: 40000000\r\n", &good);
    assert_refused(&server, large.as_bytes(), &[413]).await;
    let cut = written(&secret, "Transfer-Encoding: chunked\r\n", &format!("zz\r\n{good}"));
    assert_refused(&server, cut.as_bytes(), &[400]).await;
    let cut = written(&secret, "Transfer-Encoding: chunked\r\n", &format!("5\r\nhello{good}"));
    assert_refused(&server, cut.as_bytes(), &[400]).await;

    let mut raw = Raw::connect(&server).await;
    raw.send(good.repeat(3) + "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n" + &good).await;
    let mut statuses = Vec::new();
    while let Some(said) = raw.said().await {
        statuses.push(said.status);
    }
    assert_eq!((statuses, server.sandbox.requests().len()), (vec![200, 200, 200, 400], 3));
}

#[tokio::test]
async fn odd_but_plain_requests_are_served_once() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let body = chat("sandbox-mini").to_string();
    let (start, end) = body.split_at(7);
    let extended = format!(
        "{:x};a=b;c=\"d\"\r\n{start}\r\n000{:X} \r\n{end}\r\n0;last\r\nX-Api-Key: other\r\nContent-Length: 5\r\n\r\n",
        start.len(),
        end.len()
    );
    let chunked = "Transfer-Encoding: Chunked\r\nTrailer: X-Api-Key\r\n";
    let absolute = good(&secret).replacen("POST /v1", "POST http://x/v1", 1);
    for request in [written(&secret, chunked, &extended), absolute, format!("\r\n{}", good(&secret))] {
        server.sandbox.reset();
        let mut raw = Raw::connect(&server).await;
        raw.send(&request).await;
        assert_eq!(raw.said().await.unwrap().status, 200, "{request}");
        let arrived = server.sandbox.requests();
        assert_eq!(arrived.len(), 1, "{request}");
        assert_eq!((arrived[0].body.as_str(), arrived[0].path.as_str()), (&*body, "/v1/chat/completions"));
        let names: Vec<&str> = arrived[0].headers.iter().map(|(name, _)| name.as_str()).collect();
        let framing = ["transfer-encoding", "trailer", "te", "x-api-key", "connection", "expect", "upgrade"];
        assert!(!names.iter().any(|name| framing.contains(name)), "{names:?}");
        assert_eq!(names.iter().filter(|name| **name == "content-length").count(), 1);
        assert_eq!(arrived[0].header("host"), server.sandbox_url.strip_prefix("http://"));
        raw.send(good(&secret)).await;
        assert_eq!(raw.said().await.unwrap().status, 200, "and the connection goes on");
    }
}

#[tokio::test]
async fn a_body_is_asked_for_only_once_its_head_is_admitted() {
    let server = still_server(&[]).await;
    let (_, secret) = server.mint(json!({})).await;
    let body = chat("sandbox-mini").to_string();
    let expecting = |secret: &str, length: usize| {
        written(secret, &format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), "")
    };
    let mut raw = Raw::connect(&server).await;
    raw.send(expecting(&secret, body.len())).await;
    assert_eq!(raw.said().await.unwrap().status, 100);
    raw.send(&body).await;
    assert_eq!(raw.said().await.unwrap().status, 200);
    assert_eq!(server.sandbox.requests().len(), 1);
    for (head, status) in [
        (expecting("bk_nobody", body.len()), 401),
        (expecting(&secret, 40_000_000), 413),
        (expecting(&secret, body.len()).replacen("/v1/chat", "/v1/chats", 1), 404),
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(&head).await;
        assert_eq!(raw.said().await.unwrap().status, status, "without a 100 before it: {head}");
        raw.assert_closed("what was announced and not asked for").await;
    }
    assert_eq!(server.sandbox.requests().len(), 1);
}

#[tokio::test]
async fn nothing_is_upgraded_or_tunnelled() {
    let server = still_server(&[]).await;
    let (id, secret) = server.mint(json!({})).await;
    for upgrade in ["websocket", "h2c", "x"] {
        let lines = format!(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n"
        );
        let request = good(&secret).replacen("Host: x\r\n", &format!("Host: x\r\n{lines}"), 1);
        let mut raw = Raw::connect(&server).await;
        raw.send(request + &good(&secret)).await;
        let said = raw.said().await.unwrap();
        assert_eq!((said.status, said.code().as_str()), (426, "websocket_not_supported"), "{said:?}");
        assert!(said.head.contains("connection: close"), "{said:?}");
        raw.assert_closed(upgrade).await;
    }
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(server.entries(&id).await.len(), 3);
}

#[tokio::test]
async fn the_listener_itself_refuses_in_the_dialect_of_the_caller() {
    let server = still_server(&[]).await;
    let many = "X: y\r\n".repeat(200);
    let long = "x".repeat(9000);
    for (request, status, code) in [
        (format!("GET /v1/models HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431, "too_many_headers"),
        (format!("GET /v1/models?{long} HTTP/1.1\r\nHost: x\r\n\r\n"), 414, "uri_too_long"),
        ("GET /v1/models HTTP/1.1\r\n\r\n".to_owned(), 400, "invalid_host"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 400, "invalid_target"),
        ("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n".to_owned(), 405, "method_not_allowed"),
    ] {
        let mut raw = Raw::connect(&server).await;
        raw.send(&request).await;
        let said = raw.said().await.unwrap();
        assert_eq!((said.status, said.code().as_str()), (status, code), "{said:?}");
        assert!(said.head.contains("content-type: application/json\r\n"), "{said:?}");
        assert!(said.head.contains(&format!("x-bitting-error: {code}\r\n")), "{said:?}");
        assert!(said.head.contains("x-bitting-request-id: req_"), "{said:?}");
        raw.assert_closed(code).await;

        let mut raw = Raw::connect(&server).await;
        raw.send(request.replacen("HTTP/1.1\r\n", "HTTP/1.1\r\nanthropic-version: 1\r\n", 1)).await;
        let body = raw.said().await.unwrap().json();
        assert_eq!((&body["type"], &body["error"]["code"]), (&json!("error"), &json!(code)), "{body}");
    }
    let mut raw = Raw::connect(&server).await;
    raw.send("DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(
        raw.said().await.unwrap().code(),
        "invalid_api_key",
        "a method that a route lacks is a path unknown"
    );
    let mut raw = Raw::connect_to(&server.admin).await;
    raw.send("GET /api/v1/subkeys HTTP/1.1\r\n\r\n").await;
    let said = raw.said().await.unwrap();
    assert_eq!((said.status, &said.json()["code"]), (400, &json!("invalid_host")));
    assert!(said.head.contains("content-type: application/problem+json"), "{said:?}");
}
