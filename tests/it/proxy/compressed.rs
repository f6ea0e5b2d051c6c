//! A provider that compresses its answers although it is asked not to: what cannot be metered or searched does not pass.

use super::still_server;
use crate::support::server::chat;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Answers every request with these bytes.
async fn provider(said: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let said = said.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 65_536];
                if matches!(stream.read(&mut buffer).await, Ok(1..)) {
                    let _ = stream.write_all(said.as_bytes()).await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn p1_in_never_out_and_p3_what_is_compressed_is_neither_passed_nor_free() {
    let server = still_server(&[]).await;
    let free = "0.00";
    for (slug, status, kind, is_charged) in [
        ("whole", "200 OK", "application/json", true),
        ("events", "200 OK", "text/event-stream", true),
        ("refusal", "400 Bad Request", "application/json", false),
        ("failure", "500 Oops", "application/json", true),
    ] {
        let said = format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Encoding: gzip\r\n\
            Content-Length: 8\r\n\r\nunreadab"
        );
        let url = provider(said).await;
        let document = json!({"slug": slug, "dialects": {"openai": format!("{url}/v1")}});
        assert_eq!(server.admin_post("/api/v1/providers", &document).await.status, 201);
        let key = json!({"name": "main", "secret": "the-key-of-the-provider"});
        let made = server.admin_post(&format!("/api/v1/providers/{slug}/credentials"), &key).await;
        assert_eq!(made.status, 201);
        let model = json!({
            "operations": ["chat"], "context_window": 1000, "max_output_tokens": 100,
            "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"},
        });
        let put =
            server.admin_call(http::Method::PUT, &format!("/api/v1/models/{slug}/m"), Some(&model)).await;
        assert!(put.status.is_success(), "{:?}", put.json());
        let models =
            json!({"models": [format!("{slug}/*")], "budgets": [{"limit_usd": "1", "window": "total"}]});
        let (id, secret) = server.mint(models).await;
        let mut body = chat(&format!("{slug}/m"));
        body["stream"] = json!(kind == "text/event-stream");
        let answer = server.post(&secret, "/v1/chat/completions", &body).await;
        assert_eq!(answer.refusal(), (502, "upstream_error".to_owned()), "{slug}: {}", answer.json());
        assert_eq!(answer.header("x-should-retry"), Some("false"), "{slug}");
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!(entry["cost_usd"] != free, is_charged, "{slug}: {entry}");
        assert_eq!(entry["outcome"], "upstream_failed");
    }
}
