//! What is in flight when the vault is sealed.

use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use http::Method;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

const STREAM: &str = "sandbox-mini+gap=200,tokens=400";
const HELD: &str = "sandbox-mini+hold";

on_both! {
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
