//! A database that goes away and comes back: nothing is served unrecorded, and nothing is lost.

use super::{books, entries_once, list_model, total, usd};
use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both, tamper};
use bitting::base::{Entropy, NanoUsd};
use bitting::store::Store;
use std::collections::BTreeSet;
use std::time::Duration;

/// A store whose connections all have a role of their own, so that they can be told from others'.
async fn store_of_its_own() -> (TestStore, String) {
    let (url, folder) = TestStore::empty_postgres().await;
    let role = format!("r_{}", Entropy::new().base62(16)).to_lowercase();
    tamper(&url, &format!("CREATE ROLE {role} LOGIN SUPERUSER")).await;
    let url = format!("{url}&user={role}");
    let store = Store::open(&url).await.unwrap();
    store.migrate().await.unwrap();
    (TestStore { store, url, folder }, role)
}

/// Ends every connection of the role but its own.
async fn cut_connections(server: &TestServer, role: &str) {
    let sql =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND usename = ";
    server.store.tamper(&format!("{sql}'{role}'")).await;
}

/// Serves again within ten seconds; whatever is refused until then is a 503.
async fn serves_again(server: &TestServer, secret: &str) -> usize {
    for refused in 0..100 {
        let answer = server.chat(secret, "sandbox-mini").await;
        if answer.status == 200 {
            return refused;
        }
        assert_eq!(answer.status, 503, "{:?}", answer.json());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it did not recover in ten seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_what_a_lost_connection_interrupts_is_settled_when_it_is_back() {
    let (store, role) = store_of_its_own().await;
    let server = TestServer::start(store).await;
    list_model(&server, "sandbox", "sandbox-mini+hold").await;
    let (id, secret) = server.mint(total("1")).await;
    let mut answered = 0;
    for _ in 0..2 {
        serves_again(&server, &secret).await;
        cut_connections(&server, &role).await;
        serves_again(&server, &secret).await;
        let cut = async {
            server.sandbox.wait_held(1).await;
            cut_connections(&server, &role).await;
            server.sandbox.release();
        };
        let (answer, ()) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), cut);
        assert_eq!(answer.status, 200, "it was admitted, and waits for its record: {:?}", answer.json());
        answered += 3;
    }
    let entries = server.entries(&id).await;
    let allowed: Vec<_> =
        entries.iter().filter(|entry| entry["decision"] == "allowed" && entry["status"] == 200).collect();
    assert_eq!(allowed.len(), answered);
    let ids: BTreeSet<_> = entries.iter().map(|entry| entry["request_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), entries.len());
    let sum = entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
    assert_eq!(sum, server.sandbox.bill().cost_usd);
    assert_eq!(books(&server, &id).await, (sum, NanoUsd::ZERO));
    entries_once(&server, &id, entries.len()).await;
    server.end().await;
}

on_both! {
    async fn p4_nothing_is_admitted_unrecorded_and_settlements_wait_until_they_can_be_written(test: TestStore) {
        let server = TestServer::start(test).await;
        list_model(&server, "sandbox", "sandbox-mini+hold").await;
        let (id, secret) = server.mint(total("1")).await;
        let broken = async {
            server.sandbox.wait_held(1).await;
            server.store.tamper("ALTER TABLE budget_windows RENAME TO budget_windows_lost").await;
            server.sandbox.release();
            for _ in 0..3 {
                let refused = server.chat(&secret, "sandbox-mini").await;
                assert_eq!(refused.refusal(), (503, "store_unavailable".to_owned()), "{:?}", refused.json());
                assert!(refused.header("retry-after").is_some());
            }
            assert_eq!(server.sandbox.bill().requests, 1, "nothing is sent unrecorded");
            server.store.tamper("ALTER TABLE budget_windows_lost RENAME TO budget_windows").await;
        };
        let (answer, ()) = tokio::join!(server.chat(&secret, "sandbox-mini+hold"), broken);
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        serves_again(&server, &secret).await;
        let entries = server.entries(&id).await;
        let answered: Vec<_> = entries.iter().filter(|entry| entry["status"] == 200).collect();
        assert_eq!(answered.len(), 2, "{entries:?}");
        assert_eq!(books(&server, &id).await, (server.sandbox.bill().cost_usd, NanoUsd::ZERO));
        server.end().await;
    }
}
