//! Rotation of the keyring: a new term, everything moved to it under traffic, and the old one gone.

use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use bitting::app::kek::FileKek;
use bitting::base::{Clock, Entropy};
use bitting::service::{self, WrapLimits};
use bitting::store;
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

async fn rotate(server: &TestServer) -> Value {
    let answer = server.admin_post("/api/v1/vault/rotate", &json!({})).await;
    assert_eq!(answer.status, 202, "{:?}", answer.json());
    answer.json()
}

pub(super) fn terms(state: &Value) -> Vec<u64> {
    state["terms"].as_array().unwrap().iter().map(|term| term["term"].as_u64().unwrap()).collect()
}

/// Uses every key until one term is left; each request has to be served.
async fn use_until_one_term_is_left(server: &TestServer, secrets: &[String]) -> Value {
    for _ in 0..2_000 {
        for secret in secrets {
            let answer = server.chat(secret, "sandbox-mini").await;
            assert_eq!(answer.status, 200, "{:?}", answer.json());
        }
        server.services.write_last_used().await.unwrap();
        let state = server.admin_get("/api/v1/vault").await.json();
        if terms(&state).len() == 1 {
            return state;
        }
    }
    panic!("terms are left: {}", server.admin_get("/api/v1/vault").await.json());
}

on_both! {
    async fn a_rotation_under_traffic_fails_no_request_and_leaves_no_old_term(test: TestStore) {
        let server = TestServer::start(test).await;
        let mut secrets = Vec::new();
        for _ in 0..3 {
            secrets.push(server.mint(json!({})).await.1);
        }
        assert_eq!(server.chat(&secrets[0], "sandbox-mini").await.status, 200);
        let state = rotate(&server).await;
        assert_eq!(terms(&state), [1, 2]);
        let state = use_until_one_term_is_left(&server, &secrets).await;
        assert_eq!(terms(&state), [2]);
        assert_eq!(state["rewrap"]["left"], 0);
        assert!(state["terms"][0]["uses"].as_i64().unwrap() >= 1, "{state}");
        server.end().await;
    }

    async fn a_key_that_was_not_used_still_works_after_two_rotations(test: TestStore) {
        let server = TestServer::start(test).await;
        let idle = server.mint(json!({})).await.1;
        assert_eq!(terms(&rotate(&server).await), [1, 2]);
        let state = rotate(&server).await;
        assert!(terms(&state).contains(&1), "its pepper is kept: {state}");
        let state = use_until_one_term_is_left(&server, &[idle]).await;
        assert_eq!((terms(&state), &state["terms"][0]["secrets_left"]), (vec![3], &json!(1)));
        server.end().await;
    }

    async fn secrets_of_revoked_keys_keep_no_term(test: TestStore) {
        let server = TestServer::start(test).await;
        let (used, (revoked, _)) = (server.mint(json!({})).await.1, server.mint(json!({})).await);
        let path = format!("/api/v1/subkeys/{revoked}/revoke");
        assert_eq!(server.admin_post(&path, &json!({})).await.status, 200);
        rotate(&server).await;
        use_until_one_term_is_left(&server, &[used]).await;
        server.end().await;
    }

    async fn a_term_column_that_was_changed_opens_nothing(test: TestStore) {
        let server = TestServer::start(test).await;
        let secret = server.mint(json!({})).await.1;
        rotate(&server).await;
        use_until_one_term_is_left(&server, std::slice::from_ref(&secret)).await;
        server.store.tamper("UPDATE credential_versions SET term = 1").await;
        server.services.reload_directory().await.unwrap();
        let sent = server.sandbox.requests().len();
        assert_ne!(server.chat(&secret, "sandbox-mini").await.status, 200);
        assert_eq!(server.sandbox.requests().len(), sent, "nothing is forwarded");
        server.store.tamper("UPDATE credential_versions SET term = 2").await;
        server.services.reload_directory().await.unwrap();
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
        server.end().await;
    }

    async fn without_its_source_the_keyring_is_not_rotated(test: TestStore) {
        let server = TestServer::start(test).await;
        let kek = server.store.folder.path().join("kek");
        let aside = server.store.folder.path().join("aside");
        std::fs::rename(&kek, &aside).unwrap();
        let refused = server.admin_post("/api/v1/vault/rotate", &json!({})).await;
        assert!([409, 503].contains(&refused.status.as_u16()), "{:?}", refused.json());
        assert_eq!(terms(&server.admin_get("/api/v1/vault").await.json()), [1]);
        std::fs::rename(&aside, &kek).unwrap();
        assert_eq!(terms(&rotate(&server).await), [1, 2]);
        server.end().await;
    }

    async fn a_term_that_wrapped_enough_or_long_enough_is_rotated_by_itself(test: TestStore) {
        let clock = Clock::manual("2026-11-22T12:00:00Z".parse().unwrap());
        let server = TestServer::start_with(test, clock, &[]).await;
        let limits = |uses_max, days| WrapLimits { uses_max, age_max: TimeDelta::days(days) };
        let due = async |limits| server.services.rotate_when_due(limits).await.unwrap();
        assert_eq!(due(limits(2, 90)).await, None, "one credential was sealed");
        assert_eq!(due(limits(1, 90)).await, Some(2));
        assert_eq!(due(limits(1 << 30, 90)).await, None);
        server.clock.advance(TimeDelta::days(90));
        // The server's own check may come first; it is rotated once.
        due(limits(1 << 30, 90)).await;
        assert_eq!(server.services.vault.keyring().unwrap().current_term(), 3);
        let log = server.admin_get("/api/v1/admin-log?action=vault.rotate").await.json();
        assert_eq!(log["items"][0]["actor"], "bitting", "{log}");
        server.end().await;
    }

    async fn two_rotations_at_once_are_two_terms_and_both_are_said(test: TestStore) {
        let server = TestServer::start(test).await;
        let secret = server.mint(json!({})).await.1;
        let (one, other) = tokio::join!(rotate(&server), rotate(&server));
        let mut newest = [&one, &other].map(|state| *terms(state).last().unwrap());
        newest.sort_unstable();
        assert_eq!(newest, [2, 3], "{one} {other}");
        let state = use_until_one_term_is_left(&server, &[secret]).await;
        assert_eq!(terms(&state), [3]);
        server.end().await;
    }

    async fn keys_rotate_while_the_keyring_does_and_no_request_fails(test: TestStore) {
        let server = TestServer::start(test).await;
        let secret = server.mint(json!({})).await.1;
        let credentials = "/api/v1/providers/sandbox/credentials";
        let id = server.admin_get(credentials).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
        let is_over = AtomicBool::new(false);
        let rotations = async {
            for number in 0..4 {
                let key = json!({"secret": format!("sandbox-key-{number}"), "drain_seconds": 600});
                let path = format!("{credentials}/{id}/rotate");
                let (_, rotated) = tokio::join!(rotate(&server), server.admin_post(&path, &key));
                assert_eq!(rotated.status, 200, "{:?}", rotated.json());
            }
            is_over.store(true, Ordering::SeqCst);
        };
        let traffic = async {
            let mut count = 0;
            while !is_over.load(Ordering::SeqCst) {
                let answer = server.chat(&secret, "sandbox-mini").await;
                assert_eq!(answer.status, 200, "{:?}", answer.json());
                count += 1;
            }
            count
        };
        let ((), answered) = tokio::join!(rotations, traffic);
        assert!(answered > 0);
        let state = use_until_one_term_is_left(&server, &[secret]).await;
        assert_eq!((terms(&state), &state["terms"][0]["wraps_left"]), (vec![5], &json!(2)), "{state}");
        let kept = server.admin_get(credentials).await.json()["items"][0].clone();
        assert_eq!((&kept["secret_version"], &kept["draining"]["secret_version"]), (&json!(5), &json!(4)));
        server.end().await;
    }

    async fn what_was_tampered_with_keeps_its_term_alarmed_and_is_not_made_good(test: TestStore) {
        let server = TestServer::start(test).await;
        let secret = server.mint(json!({})).await.1;
        let credentials = "/api/v1/providers/sandbox/credentials";
        for name in ["heavy", "broken"] {
            let made = json!({"name": name, "secret": format!("sandbox-{name}"), "weight": 0});
            assert_eq!(server.admin_post(credentials, &made).await.status, 201);
        }
        let list = server.admin_get(credentials).await.json();
        let id = |name: &str| {
            let found = list["items"].as_array().unwrap().iter().find(|one| one["name"] == name);
            found.unwrap()["id"].as_str().unwrap().to_owned()
        };
        let (heavy, broken) = (id("heavy"), id("broken"));
        let path = format!("{credentials}/{broken}/disable");
        assert_eq!(server.admin_post(&path, &json!({})).await.status, 200);
        // One row is changed; of the other, which nobody uses, the data key is that of another.
        server.store.tamper(&format!("UPDATE credentials SET weight = 9 WHERE id = '{heavy}'")).await;
        let swap = format!(
            "UPDATE credential_versions SET wrapped_dek = (SELECT wrapped_dek FROM credential_versions WHERE \
             credential_id = '{heavy}') WHERE credential_id = '{broken}'"
        );
        server.store.tamper(&swap).await;
        rotate(&server).await;
        server.alarm_about("row_tampered", &format!("credentials/{heavy}")).await;
        let told = server.alarm_about("rewrap_blocked", &broken).await;
        assert_eq!((&told["detail"]["term"], &told["detail"]["provider_is_usable"]), (&json!(1), &json!(true)), "{told}");
        for _ in 0..20 {
            assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
            server.services.write_last_used().await.unwrap();
        }
        server.services.ask_for_rewrap();
        let state = server.admin_get("/api/v1/vault").await.json();
        assert_eq!(terms(&state), [1, 2], "{state}");
        let old = &state["terms"][0];
        assert_eq!((&old["wraps_left"], &old["rows_left"]), (&json!(1), &json!(1)), "{state}");

        // Put back, the one row is moved; the other data key is lost, and goes with its credential's version.
        server.store.tamper(&format!("UPDATE credentials SET weight = 0 WHERE id = '{heavy}'")).await;
        let path = format!("{credentials}/{broken}/rotate");
        let another = json!({"secret": "sandbox-new", "drain_seconds": 0});
        assert_eq!(server.admin_post(&path, &another).await.status, 200);
        server.services.ask_for_rewrap();
        let state = use_until_one_term_is_left(&server, &[secret]).await;
        assert_eq!((terms(&state), &state["terms"][0]["wraps_left"]), (vec![2], &json!(3)), "{state}");
        server.end().await;
    }
}

/// The whole keyring file: what stands there before a term is retired is not in the files after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retired_terms_keyring_leaves_the_files_of_the_database() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let secret = server.mint(json!({})).await.1;
    let sealed = async || {
        let mut read = server.store.store.read().await.unwrap();
        store::keyring::get(&mut read.conn(), "root").await.unwrap().unwrap()
    };
    let old = sealed().await;
    assert!(is_in_files(&server, &old[old.len() - 32..]));
    rotate(&server).await;
    use_until_one_term_is_left(&server, &[secret]).await;
    let begun = Instant::now();
    while !server.services.erase_destroyed().await.unwrap() {
        assert!(begun.elapsed() < Duration::from_secs(10), "somebody always reads");
        tokio::task::yield_now().await;
    }
    let new = sealed().await;
    assert!(is_in_files(&server, &new[new.len() - 32..]));
    assert!(!is_in_files(&server, &old[old.len() - 32..]));
    server.end().await;
}

/// Whether these bytes stand anywhere in the database's files.
pub(crate) fn is_in_files(server: &TestServer, wanted: &[u8]) -> bool {
    let files = std::fs::read_dir(server.store.folder.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|file| file.to_string_lossy().contains("bitting.db")).any(|file| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    })
}

/// A change of the source beside a server that rotates: whoever comes second changes nothing, and both sources open
/// what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_and_a_change_of_the_source_at_once_leave_a_keyring_that_opens() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let secret = server.mint(json!({})).await.1;
    let folder = server.store.folder.path();
    let (clock, entropy) = (Clock::system(), Entropy::new());
    let old = FileKek::new(folder.join("kek"));
    let (mut moved, mut newest) = (0, 1);
    for round in 0..6 {
        let new = FileKek::new(folder.join(format!("new-{round}")));
        let path = "/api/v1/vault/rotate";
        let (answer, body) = (json!({}), &server.store.store);
        let (rotated, added) = tokio::join!(
            server.admin_post(path, &answer),
            service::add_kek(body, (&old, &new), (&clock, &entropy))
        );
        let is_added = match added {
            Ok(_) => true,
            Err(service::ChangeKekError::Moved) => false,
            Err(error) => panic!("{error}"),
        };
        match rotated.status.as_u16() {
            202 => newest += 1,
            409 => {}
            _ => panic!("{:?}", rotated.json()),
        }
        moved += usize::from(!is_added) + usize::from(rotated.status != 202);
        let opened = service::open_keyring(&server.store.store, &old).await.unwrap();
        assert_eq!(opened.keyring.current_term(), newest);
        assert_eq!(service::open_keyring(&server.store.store, &new).await.is_ok(), is_added);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    }
    println!("of 6 rounds {moved} changes came second");
    server.end().await;
}
