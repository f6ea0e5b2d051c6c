//! Output bounds that are lowered to what a cap still has room for, and what refuses where that is not allowed.

use super::cap::five_cents;
use super::{list_model, total, usd};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use http::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

async fn project(server: &TestServer, slug: &str, parent: Option<&str>, more: Value) {
    let mut document = json!({"slug": slug, "parent": parent});
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = server.admin_post("/api/v1/projects", &document).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
}

/// A chat whose worst case is a little more than 0.16 USD, of which all but a little is output.
fn long() -> Value {
    let mut body = chat("sandbox-large");
    body["max_tokens"] = json!(16_000);
    body
}

on_both! {
    async fn what_fits_the_tightest_of_many_budgets_is_admitted(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-large").await;
        // Each is tighter than the one that is asked before it.
        for (slug, parent, limit) in [("top", None, "0.02"), ("mid", Some("top"), "0.03"), ("leaf", Some("mid"), "0.04")] {
            project(&server, slug, parent, total(limit)).await;
        }
        let budgets = json!([{"limit_usd": "0.06", "window": "hour"}, {"limit_usd": "0.05", "window": "total"}]);
        let (id, secret) = server.mint(json!({"project": "leaf", "budgets": budgets, "clamp_to_budget": true})).await;
        let answer = server.post(&secret, CHAT, &long()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        assert_eq!(answer.header("x-bitting-changed"), Some("max_tokens"));
        let reserved = &server.entries(&id).await[0]["reserved_usd"];
        assert!(usd(reserved) <= "0.02".parse().unwrap() && usd(reserved) > "0.0199".parse().unwrap(), "{reserved}");
        server.end().await;
    }

    async fn what_requests_in_flight_leave_is_given_to_who_takes_less(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+hold").await;
        let mut definition = total("0.2");
        definition["clamp_to_budget"] = json!(true);
        let (id, secret) = server.mint(definition).await;
        let question = json!({"operation": "chat", "model": "sandbox-large", "max_output_tokens": 16_000, "input_tokens": 5});
        let second = async {
            server.sandbox.wait_held(1).await;
            // 0.16 would fit a cap of 0.2 once the 0.05 are settled.
            let explained = server.admin_post(&format!("/api/v1/subkeys/{id}/explain"), &question).await.json();
            let answer = server.post(&secret, CHAT, &long()).await;
            assert_eq!(explained["allowed"], json!(answer.status == 200), "{explained}: {:?}", answer.json());
            assert_eq!((answer.status.as_u16(), answer.header("x-bitting-changed")), (200, Some("max_tokens")), "{:?}", answer.json());
            server.sandbox.release();
        };
        let (first, ()) = tokio::join!(server.post(&secret, CHAT, &body), second);
        assert_eq!(first.status, 200, "{:?}", first.json());
        server.end().await;
    }

    async fn what_is_given_fits_every_budget_and_not_only_the_one_that_is_asked_first(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+hold").await;
        // The one cap leaves 0.15 beside the 0.05 in flight, the other 0.13; 0.16 would fit both of them later.
        for (slug, of_project, of_key) in [("one", "0.18", "0.2"), ("two", "0.2", "0.18")] {
            project(&server, slug, None, total(of_project)).await;
            let mut definition = total(of_key);
            (definition["clamp_to_budget"], definition["project"]) = (json!(true), json!(slug));
            let (_, secret) = server.mint(definition).await;
            let second = async {
                server.sandbox.wait_held(1).await;
                let answer = server.post(&secret, CHAT, &long()).await;
                let changed = answer.header("x-bitting-changed");
                assert_eq!((answer.status.as_u16(), changed), (200, Some("max_tokens")), "{slug}: {:?}", answer.json());
                server.sandbox.release();
            };
            let (first, ()) = tokio::join!(server.post(&secret, CHAT, &body), second);
            assert_eq!(first.status, 200, "{:?}", first.json());
        }
        server.end().await;
    }

    async fn a_request_that_is_too_dear_is_told_whose_bound_it_passes(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-large").await;
        project(&server, "top", None, json!({})).await;
        project(&server, "leaf", Some("top"), json!({})).await;
        let (_, unbound) = server.mint(json!({"project": "leaf"})).await;
        let (_, bound) = server.mint(json!({"project": "leaf", "max_request_usd": "0.05"})).await;
        let clamps = json!({"project": "leaf", "max_request_usd": "0.05", "clamp_to_budget": true});
        let (clamps, clamped) = server.mint(clamps).await;
        for (slug, max) in [("top", "0.1"), ("leaf", "0.15")] {
            let ceiling = json!({"ceiling": {"max_request_usd": max}});
            let patched = server.admin_call(Method::PATCH, &format!("/api/v1/projects/{slug}"), Some(&ceiling)).await;
            assert_eq!(patched.status, 200, "{:?}", patched.json());
        }
        for (secret, ceiling, max) in [(unbound, Some("top"), "0.10"), (bound, None, "0.05")] {
            let refused = server.post(&secret, CHAT, &long()).await;
            assert_eq!(refused.refusal(), (402, "request_too_expensive".to_owned()));
            let error = refused.json()["error"].clone();
            assert_eq!(error["details"]["limit_usd"], max, "{error}");
            let told = ceiling.map_or(Value::Null, |slug| json!(format!("project:{slug}")));
            assert_eq!(error["details"]["ceiling"], told, "{error}");
            let message = error["message"].as_str().unwrap();
            assert_eq!(message.contains("the project top"), ceiling.is_some(), "{message}");
            assert_eq!(message.contains("this sub-key may"), ceiling.is_none(), "{message}");
        }
        let answer = server.post(&clamped, CHAT, &long()).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-bitting-changed")), (200, Some("max_tokens")), "{:?}", answer.json());
        let reserved = usd(&server.entries(&clamps).await[0]["reserved_usd"]);
        assert!(reserved <= "0.05".parse().unwrap() && reserved > "0.049".parse().unwrap(), "{reserved}");
        server.end().await;
    }
}
