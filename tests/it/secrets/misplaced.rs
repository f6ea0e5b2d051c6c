//! Secrets where they do not belong: sent by mistake, or by somebody who tries.

use super::journey::Journey;
use crate::support::server::chat;
use bitting::base::Entropy;
use bitting::subkey::{SubKeyId, SubKeyToken};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

/// Secrets where they do not belong: what is refused, and what is served and logged.
pub(super) async fn misplaced(journey: &mut Journey, live: &str, old: &str) {
    let stranger = SubKeyToken::generate(SubKeyId::generate(&Entropy::new()), &Entropy::new());
    let stranger = stranger.reveal().expose().clone();
    journey.witness.know_token("a sub-key that nobody has", &stranger);
    let operator = journey.home.token().to_owned();
    let bearer = |secret: &str| format!("Bearer {secret}");
    let mut typo = live.to_owned();
    typo.pop();
    typo.push('!');

    // Nobody's, an old one, one with a slip, an operator's; and one beside another.
    for presented in [&stranger, old, &typo, &operator] {
        let request = journey.to_proxy(
            "/v1/chat/completions",
            &[("authorization", &bearer(presented))],
            &chat("sandbox-mini"),
        );
        assert_eq!(journey.call("a wrong key", request).await.unwrap().status, 401);
        let request =
            journey.to_proxy("/v1/chat/completions", &[("authorization", presented)], &chat("sandbox-mini"));
        assert_eq!(journey.call("a key without its scheme", request).await.unwrap().status, 401);
    }
    for (name, value) in [
        ("authorization", live),
        ("x-token", live),
        ("cookie", live),
        ("proxy-authorization", live),
        ("x-forwarded-for", live),
        ("forwarded", live),
        ("anthropic-version", live),
    ] {
        let request = journey.to_proxy("/v1/messages", &[(name, value)], &chat("sandbox-mini"));
        assert_eq!(journey.call(&format!("a key in {name}"), request).await.unwrap().status, 401);
    }
    for other in [old, &stranger, &operator] {
        let headers = [("authorization", bearer(live)), ("x-api-key", other.to_owned())];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let request = journey.to_proxy("/v1/chat/completions", &headers, &chat("sandbox-mini"));
        assert_eq!(journey.call("two keys", request).await.unwrap().status, 400);
    }
    for secret in [live, &operator] {
        for path in
            [format!("/v1/chat/completions?key={secret}"), format!("/v1/chat/completions?other={secret}")]
        {
            let request = journey.to_proxy(&path, &[("authorization", &bearer(live))], &chat("sandbox-mini"));
            journey.call("a key in the query", request).await.unwrap();
        }
        for path in [
            format!("/v1/models/{secret}"),
            format!("/v1/{secret}"),
            format!("/p/{secret}/v1/chat/completions"),
            format!("/v1beta/models/{secret}:generateContent"),
        ] {
            let request = journey.to_proxy(&path, &[("authorization", &bearer(live))], &chat("sandbox-mini"));
            journey.call("a key in the path", request).await.unwrap();
        }
        for name in [
            "user-agent",
            "x-request-id",
            "x-client-request-id",
            "traceparent",
            "idempotency-key",
            "anthropic-beta",
            "openai-organization",
            "x-bitting-tag-key",
        ] {
            let headers = [("authorization", bearer(live)), (name, secret.to_owned())];
            let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
            let request = journey.to_proxy("/v1/chat/completions", &headers, &chat("sandbox-mini"));
            journey.call(&format!("a key in {name}"), request).await.unwrap();
        }
        for body in [
            json!({"model": secret, "messages": []}),
            json!({"model": format!("sandbox/{secret}"), "messages": []}),
            json!({"model": "sandbox-mini", "max_tokens": 16, "messages": [], secret: 1}),
            json!({"model": "sandbox-mini", "max_tokens": secret, "messages": []}),
            json!({"model": "sandbox-mini", "max_tokens": 16, "messages": [], "service_tier": secret}),
            json!({"model": "sandbox-mini", "max_tokens": 16, "messages": [], "tools": [{"type": secret}]}),
            json!({"model": "sandbox-mini", "max_tokens": 16, "messages": [{"role": secret, "content": "x"}]}),
            json!({"model": "sandbox-mini", "max_tokens": 16, "messages": [], "previous_response_id": secret}),
            json!(secret),
        ] {
            let request =
                journey.to_proxy("/v1/chat/completions", &[("authorization", &bearer(live))], &body);
            journey.call("a key in the body", request).await.unwrap();
        }
        let mut twice =
            journey.to_proxy("/v1/chat/completions", &[("authorization", &bearer(live))], &json!({}));
        *twice.body_mut() = Full::new(Bytes::from(format!(r#"{{"{secret}": 1, "{secret}": 2}}"#)));
        assert_eq!(journey.call("a key twice", twice).await.unwrap().status, 400);
    }

    // The same on the plane of operators.
    for presented in [live, &typo, &stranger, "bo_nobody", &format!("{operator}x")] {
        for path in ["/api/v1/subkeys", "/metrics"] {
            let request = Request::get(format!("{}{path}", journey.server.admin_url()));
            let request = request.header("authorization", bearer(presented)).body(Full::default()).unwrap();
            assert_eq!(journey.call("a wrong token", request).await.unwrap().status, 401);
        }
    }
    for secret in [live, &operator] {
        for path in [
            format!("/api/v1/subkeys/{secret}"),
            format!("/api/v1/{secret}"),
            format!("/api/v1/providers/{secret}"),
            format!("/api/v1/subkeys?q={secret}"),
            format!("/api/v1/subkeys?{secret}=1"),
            format!("/api/v1/usage?from={secret}"),
            format!("/api/v1/access-log?subkey={secret}"),
            format!("/api/v1/alarms?kind={secret}"),
            format!("/api/v1/access-log/export?format={secret}"),
        ] {
            journey.admin("GET", &path, &Value::Null).await;
        }
        journey.admin("POST", &format!("/api/v1/subkeys/{secret}/revoke"), &Value::Null).await;
        for body in [
            json!({secret: 1}),
            json!({"name": "x", "models": secret}),
            json!({"name": "x", "models": ["*"], "budgets": [{"limit_usd": secret, "window": "day"}]}),
            json!({"name": "x", "models": ["*"], "ip_allow": [secret]}),
        ] {
            let refused = journey.admin("POST", "/api/v1/subkeys", &body).await;
            assert!(refused.status.is_client_error(), "{:?}", refused.json());
        }
        let mut request = journey.to_admin(
            "POST",
            "/api/v1/subkeys",
            json!({"name": "by-a-token", "models": secret}).to_string(),
        );
        request.headers_mut().insert("idempotency-key", secret.parse().unwrap());
        request.headers_mut().insert("if-match", secret.parse().unwrap());
        journey.call("a secret in headers", request).await.unwrap();
    }
}
