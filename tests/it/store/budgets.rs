//! Windows, leases, and the admissions they belong to.

use super::{at, entry, insert, key};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use bitting::budget::{Balance, BudgetSpec, Window};
use bitting::store::admission::{Admission, Hold};
use bitting::store::budget::{BudgetId, BudgetOwner, Standing, WindowChange, WindowId};
use bitting::store::{Store, admission, budget, disorder, lease, subkey};
use bitting::subkey::{State, SubKeyId};
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

fn window_of(budget: &BudgetId, second: i64) -> WindowId {
    WindowId { budget: budget.clone(), window_start: at(second) }
}

fn standing((posted, held): (i64, i64)) -> Standing {
    Standing { posted: nano(posted), held: nano(held) }
}

/// Changes the first window, admitting by this cap if any.
async fn change(
    store: &Store,
    id: &BudgetId,
    before: (i64, i64),
    after: (i64, i64),
    cap: Option<i64>,
) -> bool {
    let change =
        WindowChange { before: standing(before), after: standing(after), admitted_by: cap.map(nano) };
    let mut tx = store.write().await.unwrap();
    let changed = budget::change(&mut tx.conn(), &window_of(id, 0), change).await.unwrap();
    tx.commit().await.unwrap();
    changed
}

async fn stands(store: &Store, id: &BudgetId) -> Option<Balance> {
    budget::balance(&mut store.read().await.unwrap().conn(), id, at(0)).await.unwrap()
}

on_both! {
    async fn a_window_is_changed_only_as_it_was_left_and_by_the_cap_that_was_decided_by(test: TestStore) {
        let store = &test.store;
        let id = budget_of(store, 1_000).await;
        assert_eq!(id.as_str(), format!("subkey:{SUBKEY}/month"));
        assert_eq!(id.owner(), format!("subkey:{SUBKEY}"));
        for (before, cap) in [((0, 1), None), ((1, 0), None), ((0, 0), Some(999)), ((0, 0), Some(1_001))] {
            assert!(!change(store, &id, before, (0, 600), cap).await, "{before:?} {cap:?}");
        }
        assert!(change(store, &id, (0, 0), (0, 600), Some(1_000)).await);
        assert!(!change(store, &id, (0, 0), (0, 600), Some(1_000)).await, "it is another one by now");
        assert!(change(store, &id, (0, 600), (250, 0), None).await);
        assert_eq!(stands(store, &id).await, Some(balance(1_000, 250, 0)));

        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        let nothing = WindowChange { before: standing((0, 0)), after: standing((0, 1)), admitted_by: None };
        assert!(!budget::change(conn, &window_of(&id, 1), nothing).await.unwrap(), "no such window");
        assert_eq!(budget::balance(conn, &id, at(1)).await.unwrap(), Some(balance(1_000, 0, 0)));
        let other = BudgetId::new(&owner(), Window::Day);
        assert_eq!(budget::balance(conn, &other, at(0)).await.unwrap(), None);
        budget::ensure_window(conn, &other, at(0)).await.unwrap();
        assert_eq!(disorder::look(conn, &other, at(0)).await.unwrap(), None, "no budget, no window");
    }

    async fn a_blocked_window_admits_nothing_and_is_posted_to_all_the_same(test: TestStore) {
        let store = &test.store;
        let (id, mut tx) = (budget_of(store, 1_000).await, store.write().await.unwrap());
        let (window, conn) = (window_of(&id, 0), &mut tx.conn());
        disorder::block(conn, &window, "books_do_not_add_up").await.unwrap();
        let admitting = WindowChange { before: standing((0, 0)), after: standing((0, 1)), admitted_by: Some(nano(1_000)) };
        assert!(!budget::change(conn, &window, admitting).await.unwrap());
        let posting = WindowChange { admitted_by: None, after: standing((5, 1)), ..admitting };
        assert!(budget::change(conn, &window, posting).await.unwrap());
        // Nothing falls below zero or past what can be counted.
        assert!(budget::post(conn, &window, nano(i64::MAX), nano(10)).await.unwrap());
        assert!(!budget::post(conn, &window_of(&id, 9), nano(1), nano(0)).await.unwrap());
        assert_eq!(disorder::blocked_of(conn, id.as_str(), "books").await.unwrap(), []);
        let blocked = disorder::blocked_of(conn, id.as_str(), "bill").await.unwrap();
        assert_eq!(blocked, [(window.clone(), standing((i64::MAX, 0)))]);
        assert!(disorder::repair(conn, &window, standing((5, 1))).await.unwrap());
        let again = WindowChange { before: standing((5, 1)), after: standing((5, 11)), admitted_by: Some(nano(1_000)) };
        assert!(budget::change(conn, &window, again).await.unwrap());
        tx.commit().await.unwrap();
    }

    /// 64 tasks that change one window from what they found, on separate connections: no change is lost.
    async fn of_racing_changes_one_wins(test: TestStore) {
        let id = budget_of(&test.store, 100).await;
        let tasks: Vec<_> = (0..64).map(|_| {
            let (store, id) = (test.store.clone(), id.clone());
            tokio::spawn(async move { change(&store, &id, (0, 0), (0, 7), Some(100)).await })
        }).collect();
        let mut won = 0;
        for task in tasks {
            won += usize::from(task.await.unwrap());
        }
        assert_eq!(won, 1);
        assert_eq!(stands(&test.store, &id).await, Some(balance(100, 0, 7)));
    }

    async fn a_removed_budget_admits_nothing_and_comes_back_with_what_was_spent(test: TestStore) {
        let store = &test.store;
        let id = budget_of(store, 1_000).await;
        assert!(change(store, &id, (0, 0), (300, 200), Some(1_000)).await);
        let mut tx = store.write().await.unwrap();
        budget::upsert(&mut tx.conn(), &owner(), &spec("day", nano(5))).await.unwrap();
        assert_eq!(budget::deactivate_except(&mut tx.conn(), &owner(), &[Window::Day]).await.unwrap(), 1);
        tx.commit().await.unwrap();
        assert!(!change(store, &id, (300, 200), (300, 201), Some(1_000)).await);
        assert!(change(store, &id, (300, 200), (400, 0), None).await, "settled all the same");

        let mut tx = store.write().await.unwrap();
        budget::upsert(&mut tx.conn(), &owner(), &spec("month", nano(401))).await.unwrap();
        tx.commit().await.unwrap();
        assert!(change(store, &id, (400, 0), (400, 1), Some(401)).await);
        let kept = budget::of_owner(&mut store.read().await.unwrap().conn(), &owner()).await.unwrap();
        let told: Vec<_> = kept.iter().map(|one| (one.window, one.limit.as_nano(), one.timezone.name(), one.active)).collect();
        assert_eq!(told, [(Window::Day, 5, "Europe/Berlin", true), (Window::Month, 401, "Europe/Berlin", true)]);
    }

    async fn leases_are_of_an_epoch_and_settled_by_a_later_one(test: TestStore) {
        let id = budget_of(&test.store, 100).await;
        let (one, two) = (window_of(&id, 0), window_of(&id, 60));
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        let first = lease::begin_epoch(conn, ("n1", "before_answer"), at(1)).await.unwrap();
        let second = lease::begin_epoch(conn, ("n2", "before_forward"), at(2)).await.unwrap();
        assert!(second > first);
        for (epoch, window, amount) in [(first, &one, 7), (first, &one, 5), (first, &two, 3), (second, &one, 1), (first, &one, -2)] {
            lease::add(conn, epoch, window, nano(amount)).await.unwrap();
        }
        assert_eq!(lease::amount(conn, first, &one).await.unwrap(), nano(10));
        assert_eq!(lease::of_window(conn, &one).await.unwrap(), nano(11));
        lease::add(conn, first, &two, nano(-9)).await.unwrap();
        assert_eq!(lease::amount(conn, first, &two).await.unwrap(), nano(0), "never less than nothing");
        lease::drop_empty(conn, first).await.unwrap();
        let left = lease::take_left(conn, second).await.unwrap();
        let expected = lease::Left { epoch: first, node: "n1".into(), durability: "before_answer".into(), window: one.clone(), amount: nano(10) };
        assert_eq!(left, [expected]);
        assert_eq!(lease::take_left(conn, second).await.unwrap(), []);
        assert_eq!(lease::of_window(conn, &one).await.unwrap(), nano(1));
        tx.commit().await.unwrap();
    }

    async fn many_balances_come_at_once(test: TestStore) {
        let store = &test.store;
        let month = budget_of(store, 1_000).await;
        assert!(change(store, &month, (0, 0), (0, 7), Some(1_000)).await);
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

    async fn an_admission_is_recorded_once_and_taken_once(test: TestStore) {
        let store = &test.store;
        let mut key = key("ci", at(0));
        key.secrets.clear();
        insert(store, &key).await.unwrap();
        let hold = Hold { budget: BudgetId::new(&owner(), Window::Month), window_start: at(0), amount: nano(5) };
        let admission = Admission {
            request_id: "req_1".into(),
            node: "n1".into(),
            epoch: 3,
            admitted_at: at(1),
            subkey_id: key.id.clone(),
            holds: vec![hold],
            entry: entry("req_1", at(1)),
        };
        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        let id = key.id.as_str();
        assert_eq!(admission::active_versions(conn, &[id, "nobody"]).await.unwrap(), [(id.to_owned(), 1)].into());
        assert!(admission::is_current(conn, &key.id, 1).await.unwrap());
        admission::insert(conn, &admission).await.unwrap();
        admission::insert(conn, &admission).await.unwrap();
        let later = Admission { request_id: "req_0".into(), admitted_at: at(2), ..admission.clone() };
        admission::insert(conn, &later).await.unwrap();
        assert_eq!(subkey::update(conn, &key.id, 1, &key.definition, State::Suspended).await.unwrap(), Some(2));
        assert_eq!(admission::active_versions(conn, &[id]).await.unwrap(), [].into(), "suspended");
        assert!(!admission::is_current(conn, &key.id, 2).await.unwrap());
        tx.commit().await.unwrap();

        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        assert_eq!(admission::list_open(conn, 1).await.unwrap(), std::slice::from_ref(&admission), "the oldest");
        assert_eq!(admission::list_open(conn, 10).await.unwrap(), [admission.clone(), later]);
        assert_eq!(admission::take(conn, "req_1").await.unwrap(), Some(admission));
        assert_eq!(admission::take(conn, "req_1").await.unwrap(), None);
        admission::forget(conn, "req_0").await.unwrap();
        assert_eq!(admission::list_open(conn, 10).await.unwrap(), []);
        tx.commit().await.unwrap();
    }
}
