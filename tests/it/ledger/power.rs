//! P5: a call that takes power away has taken it when it returns.

use super::{books, entries_once, list_model, read_to_end, streamed, total, usd};
use crate::support::server::{Answer, TestServer};
use crate::support::store::{TestStore, on_both};
use bitting::base::{Clock, NanoUsd};
use chrono::{TimeDelta, TimeZone, Utc};
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn act(server: &TestServer, id: &str, verb: &str, body: Value) -> Answer {
    let answer = server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &body).await;
    assert_eq!(answer.status, 200, "{verb}: {:?}", answer.json());
    answer
}

async fn patch(server: &TestServer, id: &str, change: Value) {
    let path = format!("/api/v1/subkeys/{id}");
    let answer = server.admin_call(Method::PATCH, &path, Some(&change)).await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

async fn is_refused(server: &TestServer, secret: &str, status: u16, code: &str) {
    let answer = server.chat(secret, "sandbox-mini").await;
    assert_eq!(answer.refusal(), (status, code.to_owned()), "{:?}", answer.json());
}

async fn is_served(server: &TestServer, secret: &str) {
    let answer = server.chat(secret, "sandbox-mini").await;
    assert_eq!(answer.status, 200, "{:?}", answer.json());
}

/// A server that goes by a clock set to a minute before midnight.
async fn before_midnight(test: TestStore) -> TestServer {
    let clock = Clock::manual(Utc.with_ymd_and_hms(2026, 11, 21, 23, 59, 0).unwrap());
    TestServer::start_with(test, clock, &[]).await
}

on_both! {
    async fn p5_revoked_means_revoked_and_what_is_in_flight_is_cut_and_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        for verb in ["revoke", "suspend"] {
            server.sandbox.reset();
            let code = if verb == "revoke" { "key_revoked" } else { "key_suspended" };
            let model = "sandbox-mini+gap=100,tokens=200";
            list_model(&server, "sandbox", model).await;
            list_model(&server, "sandbox", "sandbox-mini+hold").await;
            let (id, secret) = server.mint(total("1")).await;
            let mut long = streamed(model);
            long["max_tokens"] = json!(200);
            let mut streams = Vec::new();
            for _ in 0..4 {
                let sent = server.send(server.proxied(&secret, "/v1/chat/completions", long.to_string())).await;
                assert_eq!(sent.status(), 200);
                streams.push(sent);
            }
            let held = server.chat(&secret, "sandbox-mini+hold");
            let stop = async {
                server.sandbox.wait_held(1).await;
                act(&server, &id, verb, json!({})).await;
                is_refused(&server, &secret, 401, code).await;
                let began = Instant::now();
                let ends = join_all(streams.into_iter().map(read_to_end)).await;
                assert!(began.elapsed() < Duration::from_secs(2), "cut within two seconds: {:?}", began.elapsed());
                ends
            };
            let (held, ends) = tokio::join!(held, stop);
            assert_eq!(held.status, 401, "{:?}", held.json());
            for (text, clean) in ends {
                assert!(!clean && !text.contains("[DONE]") && text.contains("\"error\""), "{text}");
            }
            let entries = entries_once(&server, &id, 6).await;
            let cut: Vec<_> = entries.iter().filter(|entry| entry["outcome"] == "cut").collect();
            assert_eq!(cut.len(), 5, "{entries:?}");
            assert!(cut.iter().all(|entry| usd(&entry["cost_usd"]) > NanoUsd::ZERO));
            let (spent, held) = books(&server, &id).await;
            assert!(spent >= server.sandbox.bill().cost_usd && held == NanoUsd::ZERO);
            if verb == "suspend" {
                act(&server, &id, "resume", json!({})).await;
                is_served(&server, &secret).await;
            }
        }
        server.end().await;
    }

    async fn p5_a_narrowed_key_is_narrow_when_the_call_returns(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        is_served(&server, &secret).await;
        for (narrow, widen, code) in [
            (json!({"models": ["sandbox/sandbox-large"]}), json!({"models": ["sandbox/*"]}), "model_not_allowed"),
            (json!({"deny_models": ["sandbox/sandbox-mini"]}), json!({"deny_models": []}), "model_not_allowed"),
            (json!({"ip_allow": ["192.0.2.0/24"]}), json!({"ip_allow": null}), "ip_not_allowed"),
            (json!({"ip_allow": []}), json!({"ip_allow": null}), "ip_not_allowed"),
            (json!({"operations": ["embeddings"]}), json!({"operations": ["*"]}), "operation_not_allowed"),
            (json!({"max_output_tokens": 1}), json!({"max_output_tokens": null}), "output_bound_exceeded"),
        ] {
            patch(&server, &id, narrow).await;
            is_refused(&server, &secret, 403, code).await;
            patch(&server, &id, widen).await;
            is_served(&server, &secret).await;
        }
        patch(&server, &id, json!({"max_request_usd": "0.000001"})).await;
        is_refused(&server, &secret, 402, "request_too_expensive").await;
        server.end().await;
    }

    async fn p5_a_secret_that_was_rotated_away_without_overlap_opens_nothing(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, old) = server.mint(total("1")).await;
        is_served(&server, &old).await;
        let rotated = act(&server, &id, "rotate", json!({"overlap_seconds": 0})).await.json();
        let new = rotated["secret"].as_str().unwrap();
        is_refused(&server, &old, 401, "invalid_api_key").await;
        is_served(&server, new).await;
        let rotated = act(&server, &id, "rotate", json!({"overlap_seconds": 60})).await.json();
        is_served(&server, new).await;
        is_served(&server, rotated["secret"].as_str().unwrap()).await;
        server.end().await;
    }

    async fn p5_a_cap_lowered_below_what_is_spent_admits_nothing(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        is_served(&server, &secret).await;
        let (spent, _) = books(&server, &id).await;
        patch(&server, &id, total("0.000000001")).await;
        is_refused(&server, &secret, 402, "budget_exceeded").await;
        assert_eq!(books(&server, &id).await, (spent, NanoUsd::ZERO));
        patch(&server, &id, total("1")).await;
        is_served(&server, &secret).await;
        server.end().await;
    }

    async fn p3_a_budget_that_is_removed_and_added_again_remembers_what_was_spent(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        is_served(&server, &secret).await;
        let (spent, _) = books(&server, &id).await;
        assert!(spent > NanoUsd::ZERO);
        patch(&server, &id, json!({"budgets": []})).await;
        patch(&server, &id, total("1")).await;
        assert_eq!(books(&server, &id).await, (spent, NanoUsd::ZERO));
        patch(&server, &id, total(&spent.to_string())).await;
        is_refused(&server, &secret, 402, "budget_exceeded").await;
        server.end().await;
    }

    async fn p3_a_budget_removed_while_a_request_is_in_flight_is_still_charged(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        let (id, secret) = server.mint(total("1")).await;
        let change = async {
            server.sandbox.wait_held(1).await;
            patch(&server, &id, json!({"budgets": []})).await;
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), change);
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        patch(&server, &id, total("1")).await;
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }

    async fn p3_a_new_day_gives_room_and_a_settlement_goes_to_the_day_that_admitted_it(test: TestStore) {
        let server = before_midnight(test).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        // Room for one worst case of about 0.00006 USD at a time.
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "0.0001", "window": "day"}]})).await;
        let midnight = async {
            server.sandbox.wait_held(1).await;
            server.clock.advance(TimeDelta::minutes(2));
            is_served(&server, &secret).await;
            let today = books(&server, &id).await;
            server.sandbox.release();
            today
        };
        let (answer, today) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), midnight);
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        assert!(today.0 > NanoUsd::ZERO && today.1 == NanoUsd::ZERO);
        assert_eq!(books(&server, &id).await, today, "yesterday's request is yesterday's");
        let spent = server.entries(&id).await.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
        assert_eq!(spent, server.sandbox.bill().cost_usd);
        assert!(spent > today.0);
        server.end().await;
    }

    async fn p3_a_spent_day_says_when_it_ends(test: TestStore) {
        let server = before_midnight(test).await;
        let (_, secret) = server.mint(json!({"budgets": [{"limit_usd": "0.000001", "window": "day"}]})).await;
        let refused = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(refused.refusal(), (402, "budget_exceeded".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("60"));
        server.clock.advance(TimeDelta::minutes(-10));
        assert_eq!(server.chat(&secret, "sandbox-mini").await.refusal().0, 402);
        server.end().await;
    }
}
