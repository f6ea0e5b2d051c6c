//! Numbers that nobody means: a clear refusal that names the field, and nothing is spent.

use super::assert_refusal;
use crate::support::server::TestServer;
use crate::support::store::on_both;
use serde_json::{Value, json};

fn body(members: &str) -> String {
    format!(r#"{{"model":"sandbox-mini","messages":[{{"role":"user","content":"hello"}}],{members}}}"#)
}

on_both! {
    async fn bounds_and_counts_that_make_no_sense_are_refused_by_name(test: TestStore) {
        let server = TestServer::start(test).await;
        let key = json!({
            "budgets": [{"limit_usd": "5", "window": "total"}],
            "rate_limits": [{"metric": "tokens", "limit": 1_000_000, "per": "day"}],
        });
        let (id, secret) = server.mint(key).await;
        let bad = ["-1", "1e18", "\"10\"", "1.5", "true", "false", "[]", "{}", "-0", "99999999999999999999"];
        let mut cases: Vec<(&str, String)> = Vec::new();
        for field in ["max_tokens", "max_completion_tokens"] {
            cases.extend(bad.iter().map(|value| (field, body(&format!(r#""{field}":{value}"#)))));
        }
        for value in ["1000", "0", "129"].iter().chain(&bad) {
            cases.push(("n", body(&format!(r#""max_tokens":16,"n":{value}"#))));
        }
        for (field, body) in &cases {
            let request = server.proxied(&secret, "/v1/chat/completions", body.clone());
            let answer = server.call(request).await;
            assert_refusal(&answer, "openai", 400, "invalid_request_error", "invalid_body", body);
            assert_eq!(answer.json()["error"]["param"], *field, "{body}");
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains(&format!("`{field}` must be a")), "{message}");
        }
        assert_eq!(server.entries(&id).await.len(), cases.len());
        assert!(server.sandbox.requests().is_empty());
        let about = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
        let money = &about["budgets"][0];
        assert_eq!((&money["spent_usd"], &money["held_usd"]), (&json!("0.00"), &json!("0.00")));
        // Null is absent, as providers read it; a whole number above the model's ceiling is for the provider to judge,
        // and is held at the ceiling.
        for members in [r#""max_tokens":null,"n":null"#, r#""max_tokens":1000000000000000000"#] {
            let answer = server.call(server.proxied(&secret, "/v1/chat/completions", body(members))).await;
            assert_eq!(answer.status, 200, "{members}: {:?}", answer.json());
            let left = answer.header("x-bitting-ratelimit-remaining-tokens").unwrap().parse::<u64>().unwrap();
            assert!(left > 999_000, "{left}");
        }
        let entries = server.entries(&id).await;
        let reserved = |back: usize| entries[entries.len() - back]["reserved_usd"].clone();
        let within = |amount: Value| amount.as_str().unwrap().parse::<bitting::base::NanoUsd>().unwrap();
        assert!(within(reserved(1)) < "0.02".parse().unwrap() && within(reserved(2)) < "0.02".parse().unwrap());
        server.end().await;
    }
}
