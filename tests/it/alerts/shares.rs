//! When a share of a cap is told of: once, and not before it is reached.

use super::{
    MODEL, alerts, budget, pairs, patch, server_by, server_with, spend, start_of_time, state, state_once,
    told, usd,
};
use crate::support::receiver::{Receiver, SECRET};
use crate::support::server::TestServer;
use crate::support::store::on_both;
use chrono::TimeDelta;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Spends once, however long there is no room beside the others.
async fn spend_some_time(server: &TestServer, secret: &str) {
    loop {
        let answer = server.chat(secret, MODEL).await;
        if answer.status == 200 {
            return;
        }
        assert_eq!(answer.refusal(), (429, "budget_held".to_owned()), "{:?}", answer.json());
    }
}

on_both! {
    async fn each_share_is_told_of_once_by_64_requests_at_once(test: TestStore) {
        let mut receiver = Receiver::start().await;
        let server = server_with(test, &receiver).await;
        let (id, secret) = server.mint(budget("3.5", "month", &["0.8", "0.5", "1"])).await;
        let spending: FuturesUnordered<_> = (0..64).map(|_| spend_some_time(&server, &secret)).collect();
        spending.collect::<Vec<()>>().await;
        // 64 times 0.05 are 3.20: more than 0.8 of 3.50, and less than the whole.
        let shares: BTreeSet<_> = told(&server).await.into_iter().collect();
        assert_eq!(shares, pairs(&[("0.5", "3.50"), ("0.8", "3.50")]).into_iter().collect());
        assert_eq!(alerts(&server).await.len(), 2);

        let mut seen = BTreeSet::new();
        for _ in 0..2 {
            let delivery = receiver.next().await;
            assert!(delivery.is_signed_by(SECRET));
            assert_eq!(delivery.timestamp, server.clock.now().timestamp());
            let body = delivery.body();
            let data = &body["data"];
            assert_eq!((&body["type"], &body["timestamp"]), (&json!("budget.alert"), &json!("2026-11-22T16:00:00.000000Z")));
            let spent = usd(data["spent_usd"].as_str().unwrap());
            let least = if data["share"] == "0.5" { "1.75" } else { "2.80" };
            assert!(spent >= usd(least) && spent <= usd("3.20"), "{data}");
            let expected = json!({
                "budget": format!("subkey:{id}/month"), "owner_kind": "subkey", "owner": id,
                "subkey_name": data["subkey_name"], "project": "default", "window": "month",
                "window_start": "2026-11-01T00:00:00Z", "resets_at": "2026-12-01T00:00:00Z",
                "share": data["share"], "limit_usd": "3.50", "spent_usd": data["spent_usd"],
            });
            assert_eq!(data, &expected);
            assert!(data["subkey_name"].as_str().unwrap().len() == 12);
            seen.insert(data["share"].as_str().unwrap().to_owned());
        }
        assert_eq!(seen, BTreeSet::from(["0.5".to_owned(), "0.8".to_owned()]));
        state_once(&server, |state| state.waiting == 0).await;
        assert!(receiver.come().is_empty());
        let metrics = server.admin_get("/metrics").await;
        let metrics = String::from_utf8(metrics.bytes.to_vec()).unwrap();
        assert!(metrics.contains("bitting_notices_total{outcome=\"delivered\"} 2"), "{metrics}");
        server.end().await;
    }

    async fn a_share_is_told_of_by_the_request_that_reaches_it_and_by_none_before(test: TestStore) {
        let server = server_by(test, start_of_time(), &[]).await;
        let (id, secret) = server.mint(budget("0.5", "total", &["0.1", "0.35", "0.8", "1"])).await;
        let expected = [1, 1, 1, 2, 2, 2, 2, 3, 3, 4];
        for (requests, count) in expected.into_iter().enumerate() {
            spend(&server, &secret).await;
            let told = alerts(&server).await;
            assert_eq!(told.len(), count, "after {} requests: {told:?}", requests + 1);
        }
        assert_eq!(server.chat(&secret, MODEL).await.status, 402);
        let told = alerts(&server).await;
        assert_eq!(told.len(), 4);
        let last = &told[3];
        assert_eq!((&last["actor"], &last["target"]), (&json!("bitting"), &json!(format!("subkey:{id}/total"))));
        assert_eq!((&last["detail"]["spent_usd"], &last["detail"]["resets_at"]), (&json!("0.50"), &Value::Null));
        assert_eq!(state(&server).await.waiting, 0, "nothing is put in where there is no webhook");
        server.end().await;
    }

    async fn a_new_window_and_a_raised_cap_are_told_of_anew_and_a_lowered_one_at_once(test: TestStore) {
        let server = server_by(test, start_of_time(), &[]).await;
        let (id, secret) = server.mint(budget("0.2", "day", &["0.5"])).await;
        let mut expected = vec![("0.5", "0.20")];
        for _ in 0..3 {
            spend(&server, &secret).await;
        }
        assert_eq!(told(&server).await, pairs(&expected));
        server.clock.advance(TimeDelta::days(1));
        spend(&server, &secret).await;
        assert_eq!(told(&server).await, pairs(&expected), "the new window has spent a quarter");
        spend(&server, &secret).await;
        expected.push(("0.5", "0.20"));
        assert_eq!(told(&server).await, pairs(&expected));
        assert_eq!(alerts(&server).await[1]["detail"]["window_start"], "2026-11-23T00:00:00Z");

        patch(&server, &id, &budget("0.4", "day", &["0.5"])).await;
        spend(&server, &secret).await;
        assert_eq!(told(&server).await, pairs(&expected), "0.15 of 0.40");
        spend(&server, &secret).await;
        expected.push(("0.5", "0.40"));
        assert_eq!(told(&server).await, pairs(&expected));

        // 0.20 is spent.
        patch(&server, &id, &budget("0.21", "day", &["0.5", "0.9", "1"])).await;
        expected.extend([("0.5", "0.21"), ("0.9", "0.21")]);
        assert_eq!(told(&server).await, pairs(&expected));
        patch(&server, &id, &budget("0.1", "day", &["0.5", "0.9", "1"])).await;
        expected.extend([("0.5", "0.10"), ("0.9", "0.10"), ("1", "0.10")]);
        assert_eq!(told(&server).await, pairs(&expected));
        // What was told of is not told of again; a share that is new is.
        patch(&server, &id, &budget("0.21", "day", &["0.5", "0.9", "0.95"])).await;
        expected.push(("0.95", "0.21"));
        assert_eq!(told(&server).await, pairs(&expected));
        server.end().await;
    }

    async fn a_budget_that_is_gone_tells_nothing_and_one_that_comes_back_what_it_missed(test: TestStore) {
        let server = server_by(test, start_of_time(), &[]).await;
        let (id, secret) = server.mint(budget("0.2", "total", &["0.5"])).await;
        spend(&server, &secret).await;
        patch(&server, &id, &budget("0.2", "total", &[])).await;
        spend(&server, &secret).await;
        assert!(alerts(&server).await.is_empty());
        patch(&server, &id, &json!({"budgets": []})).await;
        patch(&server, &id, &budget("0.2", "total", &["0.5", "0.75"])).await;
        assert_eq!(told(&server).await, pairs(&[("0.5", "0.20")]));
        server.end().await;
    }

    async fn alerts_are_known_to_a_server_that_starts_anew(test: TestStore) {
        let mut server = server_by(test, start_of_time(), &[]).await;
        let (_, secret) = server.mint(budget("0.2", "total", &["0.5"])).await;
        spend(&server, &secret).await;
        server.pause().await;
        server.resume().await;
        spend(&server, &secret).await;
        assert_eq!(told(&server).await, pairs(&[("0.5", "0.20")]));
        server.end().await;
    }

    async fn more_shares_than_anybody_needs_are_refused(test: TestStore) {
        let server = TestServer::start(test).await;
        let shares: Vec<String> = (1..=11).map(|n| format!("0.{n:02}")).collect();
        let shares: Vec<&str> = shares.iter().map(String::as_str).collect();
        let mut definition = budget("1", "day", &shares);
        definition["name"] = json!("many");
        definition["models"] = json!(["*"]);
        let refused = server.admin_post("/api/v1/subkeys", &definition).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["field"]), (400, &json!("/budgets/0/alert_at")));
        server.end().await;
    }
}
