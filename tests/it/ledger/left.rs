//! What a crash leaves leased, however much it is: settled at the next start, and in the log.

use super::{total, usd};
use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use bitting::base::NanoUsd;
use bitting::store::budget::{BudgetId, BudgetOwner, Standing, WindowChange, WindowId};
use bitting::store::{self, Store};
use bitting::subkey::SubKeyId;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

const WINDOWS: i64 = 1_203;
const EACH: NanoUsd = NanoUsd::from_nano(1_000);

/// Leases as much of so many hours of a key's budget, and of its project's, to a run that is over.
async fn leave_leased(store: &Store, id: &str, durability: &str) {
    let mut tx = store.write().await.unwrap();
    let conn = &mut tx.conn();
    let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
    let epoch = store::lease::begin_epoch(conn, ("another", durability), now).await.unwrap();
    let owners = [BudgetOwner::subkey(&SubKeyId::parse(id).unwrap()), BudgetOwner::project("team")];
    for (owner, hour) in owners.iter().flat_map(|owner| (0..WINDOWS).map(move |hour| (owner, hour))) {
        let budget = BudgetId::new(owner, bitting::budget::Window::Hour);
        let window_start = now - TimeDelta::hours(hour);
        store::budget::ensure_window(conn, &budget, window_start).await.unwrap();
        let window = WindowId { budget, window_start };
        let after = Standing { posted: NanoUsd::ZERO, held: EACH };
        let change = WindowChange { before: Standing::default(), after, admitted_by: None };
        assert!(store::budget::change(conn, &window, change).await.unwrap());
        store::lease::add(conn, epoch, &window, EACH).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// The sum of what crash charges posted, and how many there are.
fn charged(entries: &[Value]) -> (usize, NanoUsd) {
    let charges: Vec<&Value> = entries.iter().filter(|entry| entry["rule"] == "crash_charge").collect();
    let sum = charges.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
    (charges.len(), sum)
}

async fn restarted_over_leases(test: TestStore, durability: &str) -> (TestServer, Vec<Value>, usize) {
    let mut server = TestServer::start(test).await;
    let hourly = json!([{"limit_usd": "1", "window": "hour"}]);
    let team = server.admin_post("/api/v1/projects", &json!({"slug": "team", "budgets": hourly})).await;
    assert!(team.status.is_success(), "{:?}", team.json());
    let (id, secret) = server.mint(json!({"project": "team", "budgets": hourly})).await;
    server.pause().await;
    leave_leased(&Store::open(&server.store.url).await.unwrap(), &id, durability).await;
    server.resume().await;
    let entries = server.entries(&id).await;
    let usage = server.admin_get("/api/v1/usage").await.json();
    assert_eq!(usd(&usage["items"][0]["cost_usd"]), charged(&entries).1, "what is lost to both is told once");
    assert_eq!(server.services.ledger.audit().await.unwrap(), 0, "the books add up");
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    let mut tx = server.store.store.write().await.unwrap();
    let left = store::lease::take_left(&mut tx.conn(), i64::MAX).await.unwrap();
    let ours = left.iter().filter(|left| left.node != "another").count();
    drop(tx);
    (server, entries, left.len() - ours)
}

on_both! {
    async fn p3_whatever_a_crash_left_leased_is_posted_once(test: TestStore) {
        let (server, entries, left) = restarted_over_leases(test, "before_answer").await;
        // A request draws on one of these hours, so they all add up.
        assert_eq!((charged(&entries), left), ((1, NanoUsd::from_nano(WINDOWS * EACH.as_nano())), 0));
        server.end().await;
    }

    async fn p3_what_was_leased_before_forward_goes_back(test: TestStore) {
        let (server, entries, left) = restarted_over_leases(test, "before_forward").await;
        assert_eq!((charged(&entries), left), ((0, NanoUsd::ZERO), 0));
        let (_, secret) = server.mint(total("1")).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }
}
