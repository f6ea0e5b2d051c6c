//! Paths, methods, bodies and health.

use super::plane::Plane;
use crate::support::store::on_both;
use axum::body::Body;
use http::Request;
use serde_json::json;

on_both! {
    async fn unknown_paths_and_wrong_methods_are_problems(test: TestStore) {
        let plane = Plane::new(test).await;
        for path in ["/", "/api/v1", "/api/v1/nothing", "/api/v1/subkeys/", "/api/v1//subkeys", "/API/v1/subkeys",
            "/api/v1/subkeys/x/../y", "/api/v1%2fsubkeys", "/api/v1/subkeys/0000000000000000/explode", "/v1/chat/completions"] {
            let answer = plane.ask("GET", path, None).await;
            assert_eq!(answer.refusal(), (404, "not_found".to_owned(), String::new()), "{path}");
            assert_eq!(answer.headers["cache-control"], "no-store");
        }
        for (method, path) in [("DELETE", "/api/v1/subkeys"), ("GET", "/api/v1/subkeys/0000000000000000/revoke"), ("POST", "/healthz"), ("PUT", "/api/v1/providers/openai")] {
            assert_eq!(plane.ask(method, path, None).await.refusal().1, "method_not_allowed", "{method} {path}");
        }
        for id in ["0000000000000000", "x", "%00", "bk_secret", "..%2f.."] {
            assert_eq!(plane.ask("GET", &format!("/api/v1/subkeys/{id}"), None).await.refusal().1, "not_found", "{id}");
        }
        assert_eq!(plane.ask("GET", "/api/v1/subkeys/0000000000000000?x=1", None).await.refusal().1, "unknown_field");
    }

    async fn bodies_that_are_not_the_json_asked_for_are_refused(test: TestStore) {
        let plane = Plane::new(test).await;
        let send = async |kind: &str, body: String| {
            let request = Request::post("/api/v1/subkeys")
                .header("authorization", format!("Bearer {}", plane.owner))
                .header("content-type", kind)
                .body(Body::from(body))
                .unwrap();
            let answer = plane.send(request).await;
            (answer.status, answer.refusal().1)
        };
        let whole = r#"{"name": "x", "models": ["*"]}"#.to_owned();
        assert_eq!(send("text/plain", whole.clone()).await.0, 415);
        assert_eq!(send("application/x-www-form-urlencoded", whole.clone()).await.0, 415);
        assert_eq!(send("application/merge-patch+json", whole).await.0, 415);
        for body in ["", "{", "[]", "null", r#"{"name": "x", "models": [], "name": "y"}"#, "\u{feff}{}", r#"{"name": "x", "models": []} x"#] {
            assert_eq!(send("application/json", body.to_owned()).await.0, 400, "{body}");
        }
        assert_eq!(send("application/json", r#"{"name": "x", "models": [], "name": "y"}"#.to_owned()).await.1, "invalid_body");
        assert_eq!(send("application/json", " ".repeat(256 * 1024 + 1)).await, (413, "body_too_large".to_owned()));
        assert_eq!(send("application/json", "[".repeat(5_000)).await.0, 400);
    }

    async fn health_needs_no_token_and_metrics_do(test: TestStore) {
        let plane = Plane::new(test).await;
        let health = plane.ask_with("GET", "/healthz", None, &[]).await;
        assert_eq!(health.expect(200), json!({"status": "ok"}));
        let ready = plane.ask_with("GET", "/readyz", None, &[]).await;
        assert_eq!(ready.expect(200), json!({"status": "ok", "reasons": []}));
        assert_eq!(plane.ask_with("GET", "/metrics", None, &[]).await.status, 401);
        let metrics = plane.ask("GET", "/metrics", None).await;
        assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
        let key = plane.get("/api/v1/log/public-key").await;
        assert!(key["public_key"].as_str().unwrap().starts_with("ed25519:"));
        plane.services.store.close().await;
        let unready = plane.ask_with("GET", "/readyz", None, &[]).await.expect(503);
        assert!(unready["reasons"].as_array().unwrap().contains(&json!("store_unavailable")), "{unready}");
        let refused = plane.ask("GET", "/api/v1/subkeys", None).await;
        assert_eq!(refused.refusal(), (503, "store_unavailable".to_owned(), String::new()));
    }
}
