//! Caps that are changed while requests are admitted by them: nothing passes them, nobody is refused for it, and no books
//! are taken for wrong.

use super::cap::five_cents;
use super::{books, list_model, total, usd};
use crate::support::server::TestServer;
use crate::support::store::{Locked, TestStore, on_both};
use bitting::base::NanoUsd;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use sqlx::Connection;
use std::time::Duration;

const KEYS: usize = 12;
const HELD: &str = "sandbox-mini+hold";

async fn set_cap(server: &TestServer, id: &str, budgets: serde_json::Value) {
    let path = format!("/api/v1/subkeys/{id}");
    let patched = server.admin_call(Method::PATCH, &path, Some(&json!({"budgets": budgets}))).await;
    assert_eq!(patched.status, 200, "{:?}", patched.json());
}

on_both! {
    async fn p3_what_fits_a_cap_that_was_lowered_under_a_lease_is_admitted_at_once(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(total("1")).await;
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        let entry = server.entries(&id).await.remove(0);
        // One more request fits, and what is leased ahead is above the cap.
        let cap = usd(&entry["cost_usd"]).saturating_add(usd(&entry["reserved_usd"]));
        set_cap(&server, &id, json!([{"limit_usd": cap, "window": "total"}])).await;
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.status, 200, "nothing is in flight: {:?}", answer.json());
        let refused = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(refused.refusal(), (402, "budget_exceeded".to_owned()), "{:?}", refused.json());
        let (spent, held) = books(&server, &id).await;
        assert_eq!((spent, held), (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        assert!(spent <= cap);
        server.end().await;
    }

    async fn caps_that_were_changed_since_a_turn_touched_them_keep_nobody_out(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", HELD).await;
        let mut keys = Vec::new();
        for _ in 0..KEYS {
            keys.push(server.mint(total("1")).await);
        }
        let (_, other) = server.mint(total("1")).await;
        let held = join_all(keys.iter().map(|(_, secret)| server.chat(secret, HELD)));
        let changed = async {
            server.sandbox.wait_held(u64::try_from(KEYS).unwrap()).await;
            for (id, _) in &keys {
                set_cap(&server, id, json!([{"limit_usd": "2", "window": "total"}])).await;
            }
            // All of them settle in one turn, and somebody else's reservation is in it.
            let locked = Locked::new(&server.store.url).await;
            server.sandbox.release();
            let asked = server.chat(&other, "sandbox-mini");
            let freed = async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                locked.release().await;
            };
            tokio::join!(asked, freed).0
        };
        let (held, other) = tokio::join!(held, changed);
        assert_eq!(other.status, 200, "{:?}", other.json());
        assert!(held.iter().all(|answer| answer.status == 200), "{held:?}");
        for (id, secret) in &keys {
            assert_eq!(server.chat(secret, "sandbox-mini").await.status, 200);
            assert_eq!(books(&server, id).await.1, NanoUsd::ZERO);
        }
        server.end().await;
    }

    async fn p3_who_waits_for_room_is_asked_before_those_who_came_later(test: TestStore) {
        let server = TestServer::start(test).await;
        let body = five_cents(&server, "sandbox-large+hold").await;
        // Room for one at a time.
        let (id, secret) = server.mint(total("0.09")).await;
        let post = || server.post(&secret, "/v1/chat/completions", &body);
        let waits = async {
            server.sandbox.wait_held(1).await;
            post().await
        };
        let later = async {
            server.sandbox.wait_held(1).await;
            tokio::time::sleep(Duration::from_millis(200)).await;
            let calls = join_all((0..30).map(|_| post()));
            let release = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                loop {
                    server.sandbox.release();
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                _ = calls => {}
                () = release => unreachable!(),
            }
        };
        let (first, waited, ()) = tokio::join!(post(), waits, later);
        assert_eq!((first.status.as_u16(), waited.status.as_u16()), (200, 200), "{:?}", waited.json());
        assert_eq!(server.sandbox.bill().in_flight_max, 1);
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }
}

/// A turn that makes a window's row, and is undone because the cap was changed meanwhile, leaves no row.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p3_a_cap_that_is_changed_while_its_window_begins_is_no_disorder() {
    let server = TestServer::start(TestStore::postgres().await).await;
    let budgets =
        |day: &str| json!([{"limit_usd": day, "window": "day"}, {"limit_usd": "1", "window": "total"}]);
    let (id, secret) = server.mint(json!({"budgets": budgets("1")})).await;
    // Somebody else makes the row of the window that comes second: the turn waits for him between the two.
    let mut db = sqlx::PgConnection::connect(&server.store.url).await.unwrap();
    let begin = format!(
        "BEGIN; INSERT INTO budget_windows (budget_id, window_start) \
         SELECT id, to_timestamp(0) FROM budgets WHERE owner LIKE '%{id}%' AND win = 'total'"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut db).await.unwrap();
    let mut look = sqlx::PgConnection::connect(&server.store.url).await.unwrap();
    let waits = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%budget_windows%'";
    let limit = format!("SELECT limit_nano FROM budgets WHERE owner LIKE '%{id}%' AND win = 'day'");
    let freed = async {
        once(&mut look, waits, |waiting| waiting > 0).await;
        let changed = set_cap(&server, &id, budgets("2"));
        let freed = async {
            once(&mut look, &limit, |limit| limit == 2_000_000_000).await;
            db.close().await.unwrap();
        };
        tokio::join!(changed, freed);
    };
    let (answer, ()) = tokio::join!(server.chat(&secret, "sandbox-mini"), freed);
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    let alarms = server.admin_get("/api/v1/alarms?kind=books_do_not_add_up").await.json();
    assert_eq!(alarms["items"], json!([]));
    server.end().await;
}

/// Asks until the answer is right; ten seconds at most.
async fn once(db: &mut sqlx::PgConnection, sql: &str, is_right: impl Fn(i64) -> bool) {
    let asked = async {
        loop {
            let sql = sqlx::AssertSqlSafe(sql.to_owned());
            let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut *db).await.unwrap();
            if is_right(found) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
}
