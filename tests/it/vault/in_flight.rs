//! What is in flight when the vault is sealed.

use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::fs;
use std::io::ErrorKind;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const STREAM: &str = "sandbox-mini+gap=200,tokens=400";
const HELD: &str = "sandbox-mini+hold";

/// More than the sockets between the sandbox and a client hold, in one piece.
const FLOOD: &str = "sandbox-mini+huge_event=16000000,tokens=100000";

/// A client that asks for a stream and reads none of it: returns once everything between it and the provider stands still.
async fn client_that_does_not_read(server: &TestServer, secret: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let address = server.proxy.strip_prefix("http://").unwrap().parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let mut body = chat(FLOOD);
    (body["stream"], body["max_tokens"]) = (json!(true), json!(200_000));
    let body = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {secret}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let (client, provider) = (stream.local_addr().unwrap().port(), port_of(&server.sandbox_url));
    let (mut looks, mut before) = (0, (0, 0));
    while looks < 5 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        // What the server has for its client, and what it leaves unread of the provider's.
        let now = (queued(client, Queue::Unsent), queued(provider, Queue::Unread));
        looks = if now == before && now.0 > 0 && now.1 > 0 { looks + 1 } else { 0 };
        before = now;
    }
    stream
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}

#[derive(Clone, Copy)]
enum Queue {
    Unsent,
    Unread,
}

/// Bytes that wait in this machine's sockets which are connected to a port.
fn queued(port: u16, queue: Queue) -> u64 {
    let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap();
    let of_port = sockets.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, remote) = fields[2].split_once(':')?;
        let (unsent, unread) = fields[4].split_once(':')?;
        let bytes = match queue {
            Queue::Unsent => unsent,
            Queue::Unread => unread,
        };
        (u16::from_str_radix(remote, 16).ok()? == port).then(|| u64::from_str_radix(bytes, 16).unwrap())
    });
    of_port.sum()
}

on_both! {
    async fn a_client_that_does_not_read_is_cut_at_once_like_any_other(test: TestStore) {
        let server = TestServer::start(test).await;
        let document = json!({
            "operations": ["chat"], "context_window": 2_000_000, "max_output_tokens": 1_000_000,
            "prices": {"input_per_mtok_usd": "0.15", "output_per_mtok_usd": "0.6"},
        });
        let path = format!("/api/v1/models/sandbox/{FLOOD}");
        assert!(server.admin_call(Method::PUT, &path, Some(&document)).await.status.is_success());
        for (cut, rule) in [("/api/v1/subkeys/ID/revoke", "key_revoked"), ("/api/v1/vault/seal", "sealed")] {
            let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "9", "window": "total"}]})).await;
            let mut stalled = client_that_does_not_read(&server, &secret).await;
            assert_eq!(server.sandbox.bill().in_flight, 1, "the provider waits for the client");
            assert_eq!(server.admin_post(&cut.replace("ID", &id), &json!({})).await.status, 200);
            let begun = Instant::now();
            while server.sandbox.bill().in_flight > 0 {
                assert!(begun.elapsed() < Duration::from_secs(2), "{rule}: the provider still waits");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let mut read = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(2), async {
                while stalled.take_error().unwrap().is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                stalled.read_to_end(&mut read).await
            });
            let ended = ended.await.unwrap_or_else(|_| panic!("{rule}: the connection is still there"));
            println!("{rule}: all over after {:?}", begun.elapsed());
            assert!(ended.is_ok() || ended.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
            assert!(read.len() < 16_000_000 && !read.ends_with(b"0\r\n\r\n"), "never a clean end");
            if rule == "sealed" {
                let kek = fs::read_to_string(server.store.folder.path().join("kek")).unwrap();
                assert_eq!(server.admin_post("/api/v1/vault/unseal", &json!({"kek": kek})).await.status, 200);
            }
            let entry = server.entries(&id).await.pop().unwrap();
            assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("cut"), &json!(rule)), "{entry}");
            let key = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
            assert_eq!(key["budgets"][0]["held_usd"], json!("0.00"));
            assert_ne!(key["budgets"][0]["spent_usd"], json!("0.00"));
        }
        server.end().await;
    }

    async fn a_seal_cuts_what_is_in_flight_and_it_is_charged_and_recorded(test: TestStore) {
        let server = TestServer::start(test).await;
        let document = json!({
            "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
            "prices": {"input_per_mtok_usd": "0.15", "output_per_mtok_usd": "0.6"},
        });
        for model in [STREAM, HELD] {
            let path = format!("/api/v1/models/sandbox/{model}");
            assert!(server.admin_call(Method::PUT, &path, Some(&document)).await.status.is_success());
        }
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "total"}]})).await;
        let mut long = chat(STREAM);
        long["stream"] = json!(true);
        long["max_tokens"] = json!(400);
        let request = server.proxied(&secret, "/v1/chat/completions", long.to_string());
        let mut stream = server.send(request).await;
        assert_eq!(stream.status(), 200);
        stream.body_mut().frame().await.unwrap().unwrap();

        let sealing = async {
            server.sandbox.wait_held(1).await;
            assert_eq!(server.admin_post("/api/v1/vault/seal", &json!({})).await.status, 200);
            Instant::now()
        };
        let (held, sealed_at) = tokio::join!(server.chat(&secret, HELD), sealing);
        assert_eq!(held.refusal(), (503, "sealed".to_owned()));
        assert_eq!(held.header("x-should-retry"), Some("false"), "something was sent");
        let (mut body, mut text, mut clean) = (stream.into_body(), String::new(), true);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                clean = false;
                break;
            };
            text.push_str(&String::from_utf8_lossy(&frame.into_data().unwrap_or_default()));
        }
        assert!(sealed_at.elapsed() < Duration::from_secs(2), "cut after {:?}", sealed_at.elapsed());
        assert!(!clean && text.contains("\"code\":\"sealed\"") && !text.contains("[DONE]"), "{text}");

        let kek = fs::read_to_string(server.store.folder.path().join("kek")).unwrap();
        assert_eq!(server.admin_post("/api/v1/vault/unseal", &json!({"kek": kek})).await.status, 200);
        let entries = server.entries(&id).await;
        assert_eq!(entries.len(), 2, "{entries:?}");
        for entry in &entries {
            assert_eq!((&entry["outcome"], &entry["rule"]), (&json!("cut"), &json!("sealed")), "{entry}");
            assert_ne!(entry["cost_usd"], json!("0.00"), "{entry}");
        }
        let key = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
        assert_eq!(key["budgets"][0]["held_usd"], Value::from("0.00"));
    }
}
