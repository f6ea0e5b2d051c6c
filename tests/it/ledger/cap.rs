//! P3 under concurrency.

use super::{books, list_model, total, usd};
use crate::support::server::{Answer, TestServer};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CALLS: usize = 200;

fn said(model: &str, padding: usize, max_tokens: u64) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "x".repeat(1 + padding)}], "max_tokens": max_tokens})
}

/// A chat with `model` (at the prices of `sandbox-large`) whose worst case is 0.05 USD exactly.
pub(super) async fn five_cents(server: &TestServer, model: &str) -> Value {
    let (id, secret) = server.mint(json!({})).await;
    list_model(server, "sandbox", "sandbox-large").await;
    list_model(server, "sandbox", model).await;
    let tried = server.post(&secret, "/v1/chat/completions", &said("sandbox-large", 0, 1)).await;
    assert_eq!(tried.status, 200, "{:?}", tried.json());
    server.sandbox.reset();
    let reserved = usd(&server.entries(&id).await[0]["reserved_usd"]).as_nano();
    let input = u64::try_from((reserved - 10_000) / 2_500).unwrap();
    let padding = (4 - input % 4) % 4;
    said(model, usize::try_from(padding).unwrap(), (20_000 - input - padding) / 4)
}

/// Every call has one entry, the books are the provider's, and nothing is held.
async fn the_books_add_up(server: &TestServer, id: &str, answers: &[Answer]) {
    let bill = server.sandbox.bill();
    let (spent, held) = books(server, id).await;
    assert_eq!((spent, held), (bill.cost_usd, NanoUsd::ZERO));
    assert!(spent <= "1".parse().unwrap(), "{spent}");
    let entries = server.entries(id).await;
    let ids: BTreeSet<&str> = entries.iter().map(|entry| entry["request_id"].as_str().unwrap()).collect();
    let answered: BTreeSet<&str> =
        answers.iter().map(|answer| answer.header("x-bitting-request-id").unwrap()).collect();
    assert_eq!((entries.len(), &ids), (CALLS, &answered));
    let allowed = entries.iter().filter(|entry| entry["decision"] == "allowed");
    for entry in allowed.clone() {
        assert_eq!((&entry["reserved_usd"], &entry["outcome"]), (&json!("0.05"), &json!("completed")));
    }
    assert_eq!(allowed.count(), answers.iter().filter(|answer| answer.status == 200).count());
    let sum = entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
    assert_eq!(sum, spent);
}

fn is_held(answer: &Answer) -> bool {
    if answer.refusal() != (429, "budget_held".to_owned()) {
        return false;
    }
    assert_eq!(answer.header("retry-after"), Some("1"));
    true
}

fn is_exceeded(answer: &Answer) -> bool {
    if answer.refusal() != (402, "budget_exceeded".to_owned()) {
        return false;
    }
    assert_eq!((answer.header("x-should-retry"), answer.header("retry-after")), (Some("false"), None));
    true
}

fn is_refused_for_ever_today(answer: &Answer) -> bool {
    let seconds: Option<u32> = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
    answer.refusal() == (402, "budget_exceeded".to_owned())
        && seconds.is_some_and(|seconds| seconds <= 86_400)
}

on_both! {
    async fn p3_a_cap_is_a_cap_and_whatever_fits_beside_the_others_is_admitted(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+hold").await;
        let (id, secret) = server.mint(total("1")).await;
        let post = || server.post(&secret, "/v1/chat/completions", &body);
        let mut calls: FuturesUnordered<_> = (0..CALLS).map(|_| post()).collect();
        let mut answers = Vec::new();
        while answers.len() < CALLS - 20 {
            answers.push(calls.next().await.unwrap());
        }
        assert!(answers.iter().all(is_held), "{:?}", answers.iter().find(|answer| !is_held(answer)));
        assert_eq!(server.sandbox.wait_held(20).await, 20);
        assert_eq!(books(&server, &id).await, (NanoUsd::ZERO, "1".parse().unwrap()));
        server.sandbox.release();
        while let Some(answer) = calls.next().await {
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            answers.push(answer);
        }
        drop(calls);
        assert_eq!(server.sandbox.bill().in_flight_max, 20);
        the_books_add_up(&server, &id, &answers).await;
        server.end().await;
    }

    async fn p3_a_cap_is_a_cap_when_requests_cost_nearly_their_worst_case(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+tokens=100000").await;
        let (id, secret) = server.mint(total("1")).await;
        let calls: FuturesUnordered<_> =
            (0..CALLS).map(|_| server.post(&secret, "/v1/chat/completions", &body)).collect();
        let answers: Vec<_> = calls.collect().await;
        let admitted = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(admitted, 20, "one more would not have fitted, and no fewer");
        let refused = answers.iter().filter(|answer| answer.status != 200);
        assert!(refused.clone().all(|answer| is_exceeded(answer) || is_held(answer)), "{refused:?}");
        assert!(is_exceeded(&server.post(&secret, "/v1/chat/completions", &body).await));
        assert!(server.sandbox.bill().in_flight_max <= 20);
        assert_eq!(server.entries(&id).await.len(), CALLS + 1);
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }

    async fn p3_whoever_waits_for_room_gets_it_when_requests_in_flight_settle(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+hold").await;
        let (id, secret) = server.mint(total("1")).await;
        let calls: FuturesUnordered<_> =
            (0..CALLS).map(|_| server.post(&secret, "/v1/chat/completions", &body)).collect();
        let release = async {
            loop {
                server.sandbox.wait_held(1).await;
                server.sandbox.release();
                tokio::task::yield_now().await;
            }
        };
        let answers: Vec<_> = tokio::select! {
            answers = calls.collect() => answers,
            () = release => unreachable!(),
        };
        assert!(answers.iter().all(|answer| answer.status == 200 || is_held(answer)), "{answers:?}");
        let admitted = answers.iter().filter(|answer| answer.status == 200).count();
        assert!(admitted > 20, "only {admitted}");
        assert!(server.sandbox.bill().in_flight_max <= 20);
        the_books_add_up(&server, &id, &answers).await;
        server.end().await;
    }

    async fn p3_what_one_budget_refuses_is_held_in_none(test: TestStore) {
        let server = TestServer::start(test).await;
        let budgets = json!([{"limit_usd": "1", "window": "total"}, {"limit_usd": "0.000001", "window": "day"},
                             {"limit_usd": "1", "window": "month"}]);
        let (id, secret) = server.mint(json!({"budgets": budgets})).await;
        assert!(is_refused_for_ever_today(&server.chat(&secret, "sandbox-mini").await));
        let key = server.admin_get(&format!("/api/v1/subkeys/{id}")).await.json();
        for budget in key["budgets"].as_array().unwrap() {
            assert_eq!((&budget["held_usd"], &budget["spent_usd"]), (&json!("0.00"), &json!("0.00")), "{budget}");
        }
        assert_eq!(server.sandbox.bill().requests, 0);
        server.end().await;
    }

    async fn p5_who_waits_for_room_sends_nothing_once_the_key_is_revoked(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        // Room for one at a time.
        let (id, secret) = server.mint(total("0.0001")).await;
        let waiting = async {
            server.sandbox.wait_held(1).await;
            server.chat(&secret, "sandbox-mini").await
        };
        let revoked = async {
            server.sandbox.wait_held(1).await;
            server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await
        };
        let (held, waiting, revoked) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), waiting, revoked);
        assert_eq!(revoked.status, 200);
        assert_eq!(held.refusal(), (401, "key_revoked".to_owned()), "{:?}", held.json());
        // What was held for the first is charged to it, so the budget may be what refuses the second.
        assert_eq!(waiting.refusal(), (401, "key_revoked".to_owned()));
        assert_eq!((server.entries(&id).await.len(), server.sandbox.bill().requests), (2, 1));
        assert_eq!(books(&server, &id).await.1, NanoUsd::ZERO);
        server.end().await;
    }

    async fn p3_clamped_requests_share_a_cap_too(test: TestStore) {
        let server = TestServer::start(test).await;
        let mut definition = total("0.01");
        definition["clamp_to_budget"] = json!(true);
        let (id, secret) = server.mint(definition).await;
        let body = said("sandbox-mini", 0, 16_000);
        let calls: FuturesUnordered<_> = (0..60).map(|_| server.post(&secret, "/v1/chat/completions", &body)).collect();
        let answers: Vec<_> = calls.collect().await;
        assert!(answers.iter().any(|answer| answer.status == 200));
        for answer in &answers {
            // Who is overtaken again and again while the bound is lowered is told to come back.
            assert!([200, 402, 429].contains(&answer.status.as_u16()), "{:?}", answer.json());
        }
        let (spent, held) = books(&server, &id).await;
        assert_eq!((spent, held), (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        assert!(spent <= "0.01".parse().unwrap());
        assert_eq!(server.entries(&id).await.len(), 60);
        server.end().await;
    }
}
