//! Holding, posting, and the admissions they belong to.

use super::{at, entry, insert, key};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use bitting::budget::{Balance, BudgetSpec, Window};
use bitting::store::admission::{Admission, Hold};
use bitting::store::budget::{BudgetId, BudgetOwner, Claim, Settlement, Standing, WindowId};
use bitting::store::{Store, admission, budget, disorder, subkey};
use bitting::subkey::{State, SubKeyId};
use chrono::{DateTime, Utc};
use serde_json::json;

const SUBKEY: &str = "0123456789abcdef";

fn nano(amount: i64) -> NanoUsd {
    NanoUsd::from_nano(amount)
}

fn owner() -> BudgetOwner {
    BudgetOwner::subkey(&SubKeyId::parse(SUBKEY).unwrap())
}

fn spec(window: &str, limit: NanoUsd) -> BudgetSpec {
    serde_json::from_value(json!({"limit_usd": limit, "window": window, "timezone": "Europe/Berlin"}))
        .unwrap()
}

fn balance(limit: i64, posted: i64, held: i64) -> Balance {
    Balance { limit: nano(limit), posted: nano(posted), held: nano(held) }
}

/// A monthly budget with one window.
async fn budget_of(store: &Store, limit: i64) -> BudgetId {
    let mut tx = store.write().await.unwrap();
    let id = budget::upsert(&mut tx.conn(), &owner(), &spec("month", nano(limit))).await.unwrap();
    budget::ensure_window(&mut tx.conn(), &id, at(0)).await.unwrap();
    budget::ensure_window(&mut tx.conn(), &id, at(0)).await.unwrap();
    tx.commit().await.unwrap();
    id
}

/// Holds by the limit that the budget's row has.
async fn hold(store: &Store, id: &BudgetId, start: DateTime<Utc>, amount: i64) -> Option<Balance> {
    let found = disorder::look(&mut store.read().await.unwrap().conn(), id, start).await.unwrap();
    let claim = Claim { amount: nano(amount), limit: found?.limit, expected: None };
    let mut tx = store.write().await.unwrap();
    let held = budget::hold(&mut tx.conn(), id, start, claim).await.unwrap();
    tx.commit().await.unwrap();
    held
}

async fn post(store: &Store, id: &BudgetId, held_back: i64, cost: i64) -> Option<Balance> {
    let mut tx = store.write().await.unwrap();
    let settlement = Settlement { held_back: nano(held_back), cost: nano(cost), expected: None };
    let posted = budget::post(&mut tx.conn(), id, at(0), settlement).await.unwrap();
    tx.commit().await.unwrap();
    posted
}

async fn stands(store: &Store, id: &BudgetId) -> Option<Balance> {
    budget::balance(&mut store.read().await.unwrap().conn(), id, at(0)).await.unwrap()
}

on_both! {
    async fn what_is_held_is_posted_or_given_back(test: TestStore) {
        let store = &test.store;
        let id = budget_of(store, 1_000).await;
        assert_eq!(id.as_str(), format!("subkey:{SUBKEY}/month"));
        assert_eq!(hold(store, &id, at(0), 600).await, Some(balance(1_000, 0, 600)));
        assert_eq!(hold(store, &id, at(0), 401).await, None);
        assert_eq!(hold(store, &id, at(0), 400).await, Some(balance(1_000, 0, 1_000)));
        assert_eq!(post(store, &id, 600, 250).await, Some(balance(1_000, 250, 400)));
        // More than was held, and past the limit: what was spent was spent.
        assert_eq!(post(store, &id, 400, 900).await, Some(balance(1_000, 1_150, 0)));
        assert_eq!(hold(store, &id, at(0), 0).await, None, "a window past its limit admits nothing");
        assert_eq!(stands(store, &id).await, Some(balance(1_000, 1_150, 0)));

        let mut tx = store.write().await.unwrap();
        let other = BudgetId::new(&owner(), Window::Day);
        assert_eq!(budget::unhold(&mut tx.conn(), &id, at(0), nano(1)).await.unwrap(), None, "nothing is held");
        let claim = Claim { amount: nano(1), limit: nano(1_000), expected: None };
        assert_eq!(budget::hold(&mut tx.conn(), &id, at(1), claim).await.unwrap(), None, "no such window");
        assert_eq!(budget::balance(&mut tx.conn(), &id, at(1)).await.unwrap(), Some(balance(1_000, 0, 0)));
        assert_eq!(budget::balance(&mut tx.conn(), &other, at(0)).await.unwrap(), None);
        budget::ensure_window(&mut tx.conn(), &other, at(0)).await.unwrap();
        assert_eq!(disorder::look(&mut tx.conn(), &other, at(0)).await.unwrap(), None, "no budget, no window");
    }

    async fn a_window_is_changed_only_as_it_was_left_and_by_the_cap_that_was_decided_by(test: TestStore) {
        let store = &test.store;
        let id = budget_of(store, 1_000).await;
        let window = WindowId { budget: id.clone(), window_start: at(0) };
        let left = |posted, held| Some(Standing { posted: nano(posted), held: nano(held) });
        let claim = |limit, expected| Claim { amount: nano(10), limit: nano(limit), expected };
        let settlement = |expected| Settlement { held_back: nano(10), cost: nano(4), expected };
        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        for refused in [claim(999, None), claim(1_001, None), claim(1_000, left(1, 0)), claim(1_000, left(0, 1))] {
            assert_eq!(budget::hold(conn, &id, at(0), refused).await.unwrap(), None, "{refused:?}");
        }
        assert_eq!(budget::hold(conn, &id, at(0), claim(1_000, left(0, 0))).await.unwrap(), Some(balance(1_000, 0, 10)));
        for refused in [left(0, 0), left(1, 10)] {
            assert_eq!(budget::post(conn, &id, at(0), settlement(refused)).await.unwrap(), None);
        }
        assert_eq!(budget::post(conn, &id, at(0), settlement(left(0, 10))).await.unwrap(), Some(balance(1_000, 4, 0)));
        disorder::block(conn, &window, "books_do_not_add_up").await.unwrap();
        assert_eq!(budget::hold(conn, &id, at(0), claim(1_000, None)).await.unwrap(), None, "blocked");
        assert!(disorder::look(conn, &id, at(0)).await.unwrap().unwrap().is_blocked);
        // What was spent is posted all the same, and nothing falls below zero or past what can be counted.
        let disorder = Settlement { held_back: nano(10), cost: nano(i64::MAX), expected: None };
        let after = disorder::post_in_disorder(conn, &id, at(0), disorder).await.unwrap();
        assert_eq!(after, Some(balance(1_000, i64::MAX, 0)));
        let blocked = disorder::blocked_of(conn, id.as_str()).await.unwrap();
        assert_eq!(blocked, [(window.clone(), left(i64::MAX, 0).unwrap())]);
        assert!(disorder::repair(conn, &window, left(5, 1).unwrap()).await.unwrap());
        assert_eq!(budget::hold(conn, &id, at(0), claim(1_000, left(5, 1))).await.unwrap(), Some(balance(1_000, 5, 11)));
        tx.commit().await.unwrap();
    }

    async fn no_amount_overflows_or_makes_room(test: TestStore) {
        let store = &test.store;
        let id = budget_of(store, i64::MAX).await;
        assert_eq!(hold(store, &id, at(0), i64::MAX).await, Some(balance(i64::MAX, 0, i64::MAX)));
        assert_eq!(hold(store, &id, at(0), 1).await, None);
        assert_eq!(hold(store, &id, at(0), i64::MAX).await, None);
        assert_eq!(hold(store, &id, at(0), -1).await, None, "a negative amount would make room");
        assert_eq!(post(store, &id, i64::MAX, i64::MAX).await, Some(balance(i64::MAX, i64::MAX, 0)));
        assert_eq!(hold(store, &id, at(0), i64::MAX).await, None);
        assert_eq!(hold(store, &id, at(0), 0).await, Some(balance(i64::MAX, i64::MAX, 0)));
        assert_eq!(post(store, &id, 0, 1).await, None, "cannot be counted");
        assert_eq!(post(store, &id, 0, -1).await, None);
        assert_eq!(post(store, &id, -1, 0).await, None);
    }

    /// 64 tasks that hold 7 of a limit of 100 at once: 14 get it, on separate connections.
    async fn racing_holds_never_pass_the_limit(test: TestStore) {
        let id = budget_of(&test.store, 100).await;
        let tasks: Vec<_> = (0..64).map(|_| {
            let (store, id) = (test.store.clone(), id.clone());
            tokio::spawn(async move { hold(&store, &id, at(0), 7).await })
        }).collect();
        let mut won = 0;
        for task in tasks {
            if let Some(after) = task.await.unwrap() {
                won += 1;
                assert!(after.held.as_nano() <= 100, "{after:?}");
            }
        }
        assert_eq!(won, 14);
        assert_eq!(stands(&test.store, &id).await, Some(balance(100, 0, 98)));
    }

    async fn a_removed_budget_admits_nothing_and_comes_back_with_what_was_spent(test: TestStore) {
        let store = &test.store;
        let id = budget_of(store, 1_000).await;
        hold(store, &id, at(0), 500).await.unwrap();
        post(store, &id, 300, 300).await.unwrap();
        let mut tx = store.write().await.unwrap();
        budget::upsert(&mut tx.conn(), &owner(), &spec("day", nano(5))).await.unwrap();
        assert_eq!(budget::deactivate_except(&mut tx.conn(), &owner(), &[Window::Day]).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert_eq!(hold(store, &id, at(0), 1).await, None);
        assert_eq!(post(store, &id, 200, 100).await, Some(balance(1_000, 400, 0)), "settled all the same");

        let mut tx = store.write().await.unwrap();
        budget::upsert(&mut tx.conn(), &owner(), &spec("month", nano(401))).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(hold(store, &id, at(0), 2).await, None);
        assert_eq!(hold(store, &id, at(0), 1).await, Some(balance(401, 400, 1)));
        let kept = budget::of_owner(&mut store.read().await.unwrap().conn(), &owner()).await.unwrap();
        let told: Vec<_> = kept.iter().map(|one| (one.window, one.limit.as_nano(), one.timezone.name(), one.active)).collect();
        assert_eq!(told, [(Window::Day, 5, "Europe/Berlin", true), (Window::Month, 401, "Europe/Berlin", true)]);
    }

    async fn many_balances_come_at_once(test: TestStore) {
        let store = &test.store;
        let month = budget_of(store, 1_000).await;
        hold(store, &month, at(0), 7).await.unwrap();
        let mut tx = store.write().await.unwrap();
        let day = budget::upsert(&mut tx.conn(), &owner(), &spec("day", nano(5))).await.unwrap();
        tx.commit().await.unwrap();
        let mut asked = vec![(month.clone(), at(0)), (day.clone(), at(60))];
        asked.extend((0..1_500).map(|one| (BudgetId::new(&owner(), Window::Hour), at(one))));
        let found = budget::balances(&mut store.read().await.unwrap().conn(), &asked).await.unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found.get(&month).copied(), Some(balance(1_000, 0, 7)));
        assert_eq!(found.get(&day).copied(), Some(balance(5, 0, 0)));
        assert!(budget::balances(&mut store.read().await.unwrap().conn(), &[]).await.unwrap().is_empty());
    }

    async fn an_admission_needs_the_version_it_was_decided_by_and_is_taken_once(test: TestStore) {
        let store = &test.store;
        let mut key = key("ci", at(0));
        key.secrets.clear();
        insert(store, &key).await.unwrap();
        let hold = Hold { budget: BudgetId::new(&owner(), Window::Month), window_start: at(0), amount: nano(5) };
        let admission = Admission {
            request_id: "req_1".into(),
            node: "n1".into(),
            admitted_at: at(1),
            subkey_id: key.id.clone(),
            holds: vec![hold],
            entry: entry("req_1", at(1)),
        };
        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        assert!(!admission::insert_if_current(conn, &admission, 2).await.unwrap());
        assert!(admission::insert_if_current(conn, &admission, 1).await.unwrap());
        assert!(admission::insert_if_current(conn, &admission, 1).await.unwrap(), "again is harmless");
        let later = Admission { request_id: "req_0".into(), admitted_at: at(2), ..admission.clone() };
        assert!(admission::insert_if_current(conn, &later, 1).await.unwrap());
        assert_eq!(subkey::update(conn, &key.id, 1, &key.definition, State::Suspended).await.unwrap(), Some(2));
        let refused = Admission { request_id: "req_2".into(), ..admission.clone() };
        assert!(!admission::insert_if_current(conn, &refused, 1).await.unwrap());
        assert!(!admission::insert_if_current(conn, &refused, 2).await.unwrap(), "suspended");
        tx.commit().await.unwrap();

        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        assert_eq!(admission::list_open(conn, 1).await.unwrap(), std::slice::from_ref(&admission), "the oldest");
        assert_eq!(admission::list_open(conn, 10).await.unwrap(), [admission.clone(), later]);
        assert_eq!(admission::take(conn, "req_1").await.unwrap(), Some(admission));
        assert_eq!(admission::take(conn, "req_1").await.unwrap(), None);
        tx.commit().await.unwrap();
    }
}
