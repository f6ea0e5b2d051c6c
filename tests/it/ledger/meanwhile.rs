//! What happens between a request's head and its body.

use super::{total, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use http::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A chat of which the head was sent, and the key recognised.
struct Begun {
    socket: TcpStream,
    body: String,
}

impl Begun {
    async fn with(server: &TestServer, secret: &str) -> Self {
        let body = chat("sandbox-mini").to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: bitting\r\nauthorization: Bearer {secret}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nx-bitting-tag-job: nightly\r\n\
             expect: 100-continue\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let mut socket = TcpStream::connect(server.proxy.trim_start_matches("http://")).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        // It asks for the body when it has recognised the key.
        let mut asks = [0; 25];
        socket.read_exact(&mut asks).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&asks), "HTTP/1.1 100 Continue\r\n\r\n");
        Self { socket, body }
    }

    /// Sends the rest; the whole answer.
    async fn end(mut self) -> String {
        self.socket.write_all(self.body.as_bytes()).await.unwrap();
        let mut answer = String::new();
        self.socket.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

on_both! {
    async fn a_request_of_a_key_that_moved_is_on_record_where_it_is_paid(test: TestStore) {
        let server = TestServer::start(test).await;
        for slug in ["here", "there"] {
            let mut project = total("1");
            project["slug"] = json!(slug);
            assert_eq!(server.admin_post("/api/v1/projects", &project).await.status, 201);
        }
        let (id, secret) = server.mint(json!({"project": "here", "labels": {"team": "old"}})).await;
        let begun = Begun::with(&server, &secret).await;
        let moved = json!({"project": "there", "labels": {"team": "new"}, "owner": "mia"});
        let patched = server.admin_call(Method::PATCH, &format!("/api/v1/subkeys/{id}"), Some(&moved)).await;
        assert_eq!(patched.status, 200, "{:?}", patched.json());
        let answer = begun.end().await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let there = server.admin_get("/api/v1/projects/there").await.json();
        assert_eq!(usd(&there["budgets"][0]["spent_usd"]), server.sandbox.bill().cost_usd);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["project"], &entry["labels"]["team"], &entry["owner"]), (&json!("there"), &json!("new"), &json!("mia")), "{entry}");
        assert_eq!((&entry["operation"], &entry["tags"]["job"]), (&json!("chat"), &json!("nightly")), "{entry}");
        let usage = server.admin_get("/api/v1/usage?group_by=project").await.json();
        let rows = usage["items"].as_array().or(usage["rows"].as_array()).unwrap();
        assert_eq!((rows.len(), &rows[0]["project"]), (1, &json!("there")), "{usage}");
        server.end().await;
    }

    async fn a_key_that_cannot_be_looked_up_any_more_is_not_called_incorrect(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        let begun = Begun::with(&server, &secret).await;
        let path = format!("/api/v1/subkeys/{id}");
        assert_eq!(server.admin_call(Method::PATCH, &path, Some(&json!({"owner": "mia"}))).await.status, 200);
        let sealed = server.admin_post("/api/v1/vault/seal", &json!({})).await;
        assert!(sealed.status.is_success(), "{:?}", sealed.json());
        let answer = begun.end().await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!(server.sandbox.bill().requests, 0);
        server.end().await;
    }
}
