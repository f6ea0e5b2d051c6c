//! What SQL can do to signatures, terms and counters, under a running server and under a stopped one: nothing is
//! admitted, it is alarmed, and nothing reaches a provider.

use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use bitting::service::RowWatch;
use serde_json::json;

const MODEL: &str = "sandbox/sandbox-mini";

/// What is done, with the id of the key that it shall not help, and that of another.
type Sql = fn(&str, &str) -> String;

const CASES: [(&str, Sql); 11] = [
    ("the term of a row's MAC is raised", |key, _| {
        format!("UPDATE row_macs SET term = term + 1 WHERE id = '{key}'")
    }),
    ("the term of a row's MAC is lowered", |key, _| {
        format!("UPDATE row_macs SET term = term - 1 WHERE id = '{key}'")
    }),
    ("the term of a secret's MAC is raised", |key, _| {
        format!("UPDATE subkey_secrets SET mac_term = mac_term + 1 WHERE subkey_id = '{key}'")
    }),
    ("the MAC of another row is put in its place", |key, other| {
        format!(
            "UPDATE row_macs SET mac = (SELECT mac FROM row_macs WHERE id = '{other}') WHERE id = '{key}'"
        )
    }),
    ("MAC and row of another key are put in its place", |key, other| {
        format!(
            "UPDATE row_macs SET mac = (SELECT mac FROM row_macs WHERE id = '{other}') WHERE id = '{key}';
             UPDATE subkeys SET definition = (SELECT definition FROM subkeys WHERE id = '{other}') WHERE id = '{key}'"
        )
    }),
    ("the secret of another key is put in its place", |key, other| {
        format!(
            "UPDATE subkey_secrets SET mac = (SELECT mac FROM subkey_secrets WHERE subkey_id = '{other}')
              WHERE subkey_id = '{key}'"
        )
    }),
    ("its row is changed", |key, _| format!("UPDATE subkeys SET created_by = 'eve' WHERE id = '{key}'")),
    ("the counter of changes is lowered", |_, _| "UPDATE register SET seq = seq - 1".to_owned()),
    ("the epoch is lowered", |_, _| "UPDATE register SET epoch = epoch - 1".to_owned()),
    ("the term of the register is raised", |_, _| "UPDATE register SET term = term + 1".to_owned()),
    ("the register is deleted", |_, _| "DELETE FROM register".to_owned()),
];

fn alarms(server: &TestServer) -> u64 {
    let text = server.services.metrics.render();
    let count = |kind: &str| {
        let line = format!("bitting_alarms_total{{kind=\"{kind}\"}} ");
        let found = text.lines().find_map(|one| one.strip_prefix(&line));
        found.map_or(0, |count| count.parse::<u64>().unwrap())
    };
    count("row_tampered") + count("register_mismatch")
}

async fn another(like: &TestStore) -> TestStore {
    if like.url.starts_with("sqlite") { TestStore::sqlite().await } else { TestStore::postgres().await }
}

/// A server with a key that was used, and another one.
async fn used(test: TestStore) -> (TestServer, (String, String), String) {
    let server = TestServer::start(test).await;
    let (key, other) = (server.mint(json!({})).await, server.mint(json!({})).await);
    for (_, secret) in [&key, &other] {
        assert_eq!(server.chat(secret, MODEL).await.status, 200);
    }
    assert_eq!(alarms(&server), 0);
    (server, key, other.0)
}

async fn is_refused(server: &TestServer, secret: &str, name: &str) {
    let sent = server.sandbox.requests().len();
    for _ in 0..2 {
        let answer = server.chat(secret, MODEL).await;
        assert_eq!(answer.status, 401, "{name}: {:?}", answer.json());
    }
    assert_eq!(server.sandbox.requests().len(), sent, "{name}: something was sent");
    assert!(alarms(server) > 0, "{name}: no alarm");
}

on_both! {
    async fn a_running_server_is_not_taken_in_by_signatures(test: TestStore) {
        for (name, sql) in CASES {
            let (server, (key, secret), other) = used(another(&test).await).await;
            server.store.tamper(&sql(&key, &other)).await;
            RowWatch::new(server.services.clone()).turn().await.unwrap();
            is_refused(&server, &secret, name).await;
            server.end().await;
        }
    }

    async fn a_server_that_starts_is_not_taken_in_by_signatures(test: TestStore) {
        for (name, sql) in CASES {
            let (mut server, (key, secret), other) = used(another(&test).await).await;
            server.pause().await;
            server.store.tamper(&sql(&key, &other)).await;
            server.resume().await;
            is_refused(&server, &secret, name).await;
            server.end().await;
        }
    }

    async fn a_revocation_that_is_taken_out_of_everything_is_noticed(test: TestStore) {
        let (mut server, (id, secret), _) = used(test).await;
        let tables = ["subkeys", "subkey_secrets", "row_macs", "register"];
        for table in tables {
            server.store.tamper(&format!("CREATE TABLE saved_{table} AS SELECT * FROM {table}")).await;
        }
        assert_eq!(server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await.status, 200);
        server.pause().await;
        // Rows, MACs and register of one earlier moment agree with each other.
        for table in tables.iter().rev() {
            server.store.tamper(&format!("DELETE FROM {table}")).await;
        }
        for table in tables {
            server.store.tamper(&format!("INSERT INTO {table} SELECT * FROM saved_{table}")).await;
        }
        server.store.tamper("DELETE FROM admin_log WHERE action = 'subkey.revoke'").await;
        server.resume().await;
        let sent = server.sandbox.requests().len();
        assert_eq!(server.chat(&secret, MODEL).await.refusal(), (401, "key_suspended".to_owned()));
        assert_eq!(server.services.quarantine().unwrap().reason, "database_older");
        assert_eq!(server.sandbox.requests().len(), sent);
    }

    async fn rotations_beside_every_kind_of_reading_raise_no_alarm(test: TestStore) {
        let (server, (_, secret), _) = used(test).await;
        let done = std::sync::atomic::AtomicBool::new(false);
        let reads = async {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                RowWatch::new(server.services.clone()).turn().await.unwrap();
                server.services.reload_directory().await.unwrap();
                server.services.ledger.audit().await.unwrap();
                assert_eq!(server.chat(&secret, MODEL).await.status, 200);
                server.services.write_last_used().await.unwrap();
            }
        };
        let rotations = async {
            for _ in 0..4 {
                assert_eq!(server.admin_post("/api/v1/vault/rotate", &json!({})).await.status, 202);
                loop {
                    let vault = server.admin_get("/api/v1/vault").await.json();
                    if vault["rewrap"]["running"] == false && vault["rewrap"]["left"] == 0 {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        tokio::join!(reads, rotations);
        assert_eq!((alarms(&server), server.services.quarantine()), (0, None));
        server.end().await;
    }
}
