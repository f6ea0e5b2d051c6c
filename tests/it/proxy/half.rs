//! A stream that ends inside an event, of which the client has a part: an error event there would be glued to the part,
//! and client libraries would fail over it in words of their own. The connection breaks off instead, or the event is
//! brought to its end first.

use super::raw::{Raw, written};
use crate::support::server::TestServer;
use crate::support::store::TestStore;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Its key.
pub(super) const KEY: &str = "half-canary-5d1c77e0a9";

/// A provider whose answer the test writes.
pub(super) struct Provider {
    listener: TcpListener,
}

/// Its answer under way.
pub(super) struct Answer(pub(super) TcpStream);

impl Provider {
    /// Registers it for all dialects, with a model `m` of which a token costs something.
    pub(super) async fn register(server: &TestServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
        let provider = json!({"slug": "half", "dialects": dialects, "supports_stream_options": false});
        let made = server.admin_post("/api/v1/providers", &provider).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let key = json!({"name": "main", "secret": KEY});
        let made = server.admin_post("/api/v1/providers/half/credentials", &key).await;
        assert_eq!(made.status, 201, "{:?}", made.json());
        let model = json!({
            "operations": ["chat", "responses"], "context_window": 1000, "max_output_tokens": 100,
            "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "1"},
        });
        let path = "/api/v1/models/half/m";
        let made = server.admin_call(http::Method::PUT, path, Some(&model)).await;
        assert!(made.status.is_success(), "{:?}", made.json());
        Self { listener }
    }

    /// The next request's answer, its head written.
    pub(super) async fn answer(&self, kind: &str) -> Answer {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            assert!(stream.read_buf(&mut request).await.unwrap() > 0);
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Answer(stream)
    }
}

impl Answer {
    pub(super) async fn say(&mut self, bytes: &str) {
        let chunk = format!("{:x}\r\n{bytes}\r\n", bytes.len());
        self.0.write_all(chunk.as_bytes()).await.unwrap();
    }
}

pub(super) const EVENTS: &str = "text/event-stream";

/// Path, the answer's kind, a whole event, and the two halves of another.
const STREAMS: [(&str, &str, &str, [&str; 2]); 5] = [
    (
        "/v1/chat/completions",
        EVENTS,
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"one\"}}]}\n\n",
        ["data: {\"choices\":[{\"index\":0,\"del", "ta\":{\"content\":\"two\"}}]}\n\n"],
    ),
    (
        "/v1/responses",
        EVENTS,
        "data: {\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"one\"}\n\n",
        ["data: {\"type\":\"response.output_te", "xt.delta\",\"sequence_number\":5,\"delta\":\"two\"}\n\n"],
    ),
    (
        "/v1/messages",
        EVENTS,
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
        ["event: ping\ndata: {\"ty", "pe\":\"ping\"}\n\n"],
    ),
    (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        EVENTS,
        "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"one\"}]}}]}\r\n\r\n",
        ["data: {\"candidates\":[{\"content\":{\"parts\":[{\"te", "xt\":\"two\"}]}}]}\r\n\r\n"],
    ),
    (
        "/v1beta/models/m:streamGenerateContent",
        "application/json",
        "[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"one\"}]}}]}",
        [",\r\n{\"candidates\":[{\"content\":{\"parts\":[{\"te", "xt\":\"two\"}]}}]}"],
    ),
];

/// Asks for a stream, of which it has the head when this returns.
pub(super) async fn ask(server: &TestServer, secret: &str, path: &str) -> Raw {
    let content = json!([{"role": "user", "content": "hi"}]);
    let body = match path {
        "/v1/responses" => {
            json!({"model": "m", "input": "hi", "max_output_tokens": 1, "stream": true, "store": false})
        }
        path if path.starts_with("/v1beta") => {
            json!({"contents": [{"parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 1}})
        }
        _ => json!({"model": "m", "messages": content, "max_tokens": 1, "stream": true}),
    };
    let body = body.to_string();
    let request = written(secret, &format!("Content-Length: {}\r\n", body.len()), &body);
    let mut raw = Raw::connect(server).await;
    raw.send(request.replacen("/v1/chat/completions", path, 1)).await;
    raw
}

/// The chunks that are left of a body, without their framing, and whether its end was told.
pub(super) fn unframed(rest: &[u8]) -> (String, bool) {
    let text = String::from_utf8(rest.to_vec()).unwrap();
    let (mut chunks, mut body) = (text.trim_start(), String::new());
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        body.push_str(&rest[..size]);
        chunks = &rest[size + 2..];
    }
    (body, false)
}

#[tokio::test]
async fn a_provider_that_breaks_off_inside_an_event_breaks_off_the_clients_connection() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = Provider::register(&server).await;
    let (id, secret) = server.mint(json!({"models": ["half/*"]})).await;
    for (path, kind, whole, [first, _]) in STREAMS {
        for is_inside in [true, false] {
            let (mut raw, mut answer) = tokio::join!(ask(&server, &secret, path), provider.answer(kind));
            answer.say(whole).await;
            if is_inside {
                answer.say(first).await;
            }
            let last = if is_inside { first } else { whole };
            assert!(raw.until(last.as_bytes()).await, "{path}");
            drop(answer);
            let rest = String::from_utf8(raw.rest().await).unwrap();
            assert!(!rest.contains("\r\n0\r\n"), "never a clean end: {rest}");
            assert_eq!(rest.contains("upstream_error"), !is_inside, "{path}: {rest}");
            if is_inside {
                assert_eq!(rest.trim(), "", "{path}");
            }
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!(
                (&entry["outcome"], &entry["rule"]),
                (&json!("upstream_failed"), &json!("upstream_error"))
            );
        }
    }
}

#[tokio::test]
async fn a_cap_reached_inside_an_event_is_told_behind_it() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = Provider::register(&server).await;
    let budgets = json!({"models": ["half/*"], "budgets": [{"limit_usd": "1", "window": "day"}]});
    let (_, secret) = server.mint(budgets).await;
    for (path, kind, whole, [first, second]) in STREAMS {
        if path == "/v1/messages" {
            continue;
        }
        let (mut raw, mut answer) = tokio::join!(ask(&server, &secret, path), provider.answer(kind));
        answer.say(&format!("{whole}{first}")).await;
        assert!(raw.until(first.as_bytes()).await, "{path}");
        // More than a token can be, behind the rest of the event.
        let more = format!("{second}{}", whole.trim_start_matches('[').replace("one", &"x".repeat(1_000)));
        let more = if path.ends_with("Content") { more.replacen("}{", "},{", 1) } else { more };
        answer.say(&more).await;
        let (body, has_ended) = unframed(&raw.rest().await);
        let told = body.strip_prefix(second);
        let told = told.unwrap_or_else(|| panic!("{path}: the event comes to its end: {body}"));
        assert!(told.contains("budget_exceeded") && !told.contains("xxx") && !has_ended, "{path}: {told}");
    }
}

#[tokio::test]
async fn a_key_revoked_inside_an_event_that_does_not_end_breaks_off() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = Provider::register(&server).await;
    for (path, kind, whole, [first, _]) in STREAMS {
        let (id, secret) = server.mint(json!({"models": ["half/*"]})).await;
        let (mut raw, mut answer) = tokio::join!(ask(&server, &secret, path), provider.answer(kind));
        answer.say(whole).await;
        answer.say(first).await;
        assert!(raw.until(first.as_bytes()).await, "{path}");
        let revoked = server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await;
        assert_eq!(revoked.status, 200, "{:?}", revoked.json());
        let rest = String::from_utf8(raw.rest().await).unwrap();
        assert_eq!(rest.trim(), "", "{path}: nothing is glued to the half of an event");
        drop(answer);
    }
}

#[tokio::test]
async fn an_event_that_comes_to_its_end_in_pieces_after_the_cut_has_no_hole() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let provider = Provider::register(&server).await;
    for (path, kind, whole, [first, second]) in STREAMS {
        let (id, secret) = server.mint(json!({"models": ["half/*"]})).await;
        let (mut raw, mut answer) = tokio::join!(ask(&server, &secret, path), provider.answer(kind));
        answer.say(whole).await;
        answer.say(first).await;
        assert!(raw.until(first.as_bytes()).await, "{path}");
        // It is cut somewhere in these, each of which arrives by itself.
        let (start, end) = second.split_at(2);
        let pieces = async {
            let (path, nothing) = (format!("/api/v1/subkeys/{id}/revoke"), json!({}));
            let revoke = server.admin_post(&path, &nothing);
            let mut revoke = std::pin::pin!(revoke);
            answer.say(start).await;
            let (mut said, mut is_revoked) = (start.to_owned(), false);
            for number in 0.. {
                let piece = format!("{number:04} ");
                answer.say(&piece).await;
                said.push_str(&piece);
                tokio::select! {
                    done = &mut revoke, if !is_revoked => {
                        assert_eq!(done.status, 200);
                        is_revoked = true;
                    }
                    alive = server.admin_get("/healthz") => drop(alive),
                }
                if is_revoked && number % 8 == 7 {
                    break;
                }
            }
            answer.say(end).await;
            said + end
        };
        let said = pieces.await;
        let (body, has_ended) = unframed(&raw.rest().await);
        assert!(!has_ended, "{path}: {body}");
        match body.strip_prefix(&said) {
            Some(told) => assert!(told.contains("key_revoked"), "{path}: {told}"),
            None => assert!(said.starts_with(&body), "{path}: something is missing of {said} in {body}"),
        }
    }
}
