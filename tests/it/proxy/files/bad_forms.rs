//! Uploads that are none, or too large, or refused: nothing is kept, and the client learns what to do.

use super::super::assert_refusal;
use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What no upload is, where `field` is a field that an upload of the dialect has.
fn bad(field: &str) -> Vec<(&'static str, Vec<u8>)> {
    let file: (&str, &str, &[u8]) = ("file", "text/plain", b"x");
    let known = (field, "3600");
    let (upper, listed) = (field.to_uppercase(), format!("{field}[]"));
    let good = form(&[known], &[file]);
    let named = String::from_utf8(good.clone()).unwrap();
    vec![
        ("no parts", b"--cut--\r\n".to_vec()),
        ("nothing", Vec::new()),
        ("JSON", b"{\"purpose\":\"batch\"}".to_vec()),
        ("no end", good[..good.len() - 12].to_vec()),
        ("two files", form(&[known], &[file, file])),
        ("no file", form(&[known], &[])),
        ("a field as file", form(&[], &[(field, "text/plain", b"3600"), file])),
        ("a file as field", form(&[known, ("file", "x")], &[])),
        ("twice", form(&[known, known], &[file])),
        ("another case", form(&[known, (&upper, "1")], &[file])),
        ("a variant", form(&[known, ("file[]", "1")], &[file])),
        ("a list", form(&[known, (&listed, "1")], &[file])),
        ("upstream", form(&[known, ("base_url", "http://evil")], &[file])),
        ("a preamble", [b"preamble\r\n", &good[..]].concat()),
        ("an epilogue", [&good[..], b"epilogue"].concat()),
        ("bare line ends", named.replace("\r\n", "\n").into_bytes()),
        ("two names", named.replace("name=\"file\"", "name=\"file\"; name=\"x\"").into_bytes()),
        (
            "an encoding",
            named.replace("Content-Type:", "Content-Transfer-Encoding: base64\r\nX-A:").into_bytes(),
        ),
    ]
}

#[tokio::test]
async fn p2_one_gate_refuses_a_form_that_has_two_readings() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (key, secret) = server.mint(json!({})).await;
    for (dialect, field) in [("openai", "purpose"), ("anthropic", "expires_in_seconds")] {
        for (what, body) in bad(field) {
            let answer = upload_at(&server, dialect, &secret, FILES, body).await;
            assert_refusal(&answer, dialect, 400, "invalid_request_error", "invalid_body", what);
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.len() > 20 && !message.contains("bk_"), "{what}: {message}");
        }
    }
    let good = form(&[("purpose", "batch")], &[("file", "text/plain", b"x")]);
    for content_type in [
        "application/json",
        "",
        "multipart/form-data",
        "multipart/mixed; boundary=cut",
        "multipart/form-data; boundary=cut; boundary=x",
        "multipart/form-data; boundary=\"\"",
    ] {
        let answer = server
            .call(request(&server, "openai", &secret, ("POST", FILES), (content_type, good.clone())))
            .await;
        assert!(matches!(answer.status.as_u16(), 400 | 415), "{content_type}: {}", answer.json());
        assert!(
            ["invalid_body", "unsupported_encoding"].contains(&answer.refusal().1.as_str()),
            "{content_type}"
        );
    }
    for (method, path) in [("GET", FILES), ("GET", "/v1/files/file-1"), ("DELETE", "/v1/files/file-1")] {
        let answer =
            server.call(request(&server, "openai", &secret, (method, path), (FORM, good.clone()))).await;
        assert_eq!(answer.refusal(), (400, "invalid_body".to_owned()), "{method} {path} has no body");
    }
    let entries = server.entries(&key).await;
    assert!(entries.iter().all(|entry| entry["decision"] == "denied"), "{entries:?}");
    assert!(server.sandbox.requests().is_empty());
    assert_eq!(made(&server, "openai", &secret).await["object"], "file", "and the next is served");
}

#[tokio::test]
async fn a_file_above_the_bound_is_refused_in_its_clients_dialect() {
    let file = "[limits]\nmultipart_body_bytes = 2048\n";
    let server = TestServer::start_with(
        TestStore::sqlite().await,
        still_clock(),
        &[(crate::support::server::FILE, file)],
    )
    .await;
    let (_, secret) = server.mint(json!({})).await;
    for (dialect, kind) in [("openai", "invalid_request_error"), ("anthropic", "request_too_large")] {
        let answer = upload_at(&server, dialect, &secret, FILES, upload_of(&[b'x'; 2_000])).await;
        assert_refusal(&answer, dialect, 413, kind, "body_too_large", "above the bound");
        assert_eq!(upload_at(&server, dialect, &secret, FILES, upload_of(&[b'x'; 1_000])).await.status, 200);
    }
    assert_eq!(server.sandbox.requests().len(), 2);
    let large =
        json!({"model": "sandbox-mini", "messages": [{"role": "user", "content": "x".repeat(5_000)}]});
    assert_eq!(
        server.post(&secret, "/v1/chat/completions", &large).await.status,
        200,
        "a bound of forms alone"
    );
}

#[tokio::test]
async fn what_the_provider_refuses_is_passed_on_and_nothing_is_kept() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (key, secret) = server.mint(json!({})).await;
    let nameless = form(&[("purpose", "nonsense")], &[("file", "text/plain", b"x")]);
    let answer = upload_at(&server, "openai", &secret, FILES, nameless).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-bitting-error")), (400, None), "{}", answer.json());
    assert_eq!(answer.json()["error"]["param"], "purpose");
    assert!(listed(&server, "openai", &secret, FILES).await.is_empty());
    assert_eq!(server.entries(&key).await[0]["upstream_status"], 400);
}

/// A provider that answers everything with this.
async fn provider(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut piece) = (Vec::new(), [0; 4_096]);
                while !read.ends_with(b"--cut--\r\n") && !read.starts_with(b"GET") {
                    let bytes = stream.read(&mut piece).await.unwrap_or(0);
                    if bytes == 0 {
                        return;
                    }
                    read.extend_from_slice(&piece[..bytes]);
                }
                let head = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
            });
        }
    });
    url
}

#[tokio::test]
async fn an_answer_that_names_no_file_passes_and_gives_nobody_anything() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    for (slug, status, body, listed_of_it) in [
        ("nameless", "200 OK", r#"{"object":"file","filename":"a"}"#, 0),
        ("broken", "200 OK", r#"{"id":"file-1","#, 0),
        ("odd", "200 OK", r#"{"id":"../secret","object":"file"}"#, 0),
        ("failing", "500 Internal Server Error", r#"{"id":"file-2","object":"file"}"#, 0),
        ("terse", "201 Created", r#"{"id":"file-3"}"#, 1),
    ] {
        let dialects = json!({"openai": provider(status, body).await});
        let added =
            server.admin_post("/api/v1/providers", &json!({"slug": slug, "dialects": dialects})).await;
        assert_eq!(added.status, 201, "{:?}", added.json());
        let key = json!({"name": "main", "secret": "plain-canary-provider-key"});
        let path = format!("/api/v1/providers/{slug}/credentials");
        assert_eq!(server.admin_post(&path, &key).await.status, 201);
        let (_, secret) = server.mint(json!({"models": [format!("{slug}/*")]})).await;
        let answer = upload_at(&server, "openai", &secret, FILES, upload_of(b"x")).await;
        assert_eq!((&answer.bytes[..], answer.status.as_str()), (body.as_bytes(), &status[..3]), "{slug}");
        assert_eq!(listed(&server, "openai", &secret, FILES).await.len(), listed_of_it, "{slug}");
    }
}
