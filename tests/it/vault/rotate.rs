//! Rotation of the keyring: a new term, everything moved to it under traffic, and the old one gone.

use crate::support::process::{Installation, Process};
use crate::support::server::{TestServer, chat};
use crate::support::store::on_both;
use bitting::app::kek::FileKek;
use bitting::base::{CidrSet, Clock, Entropy, Secret};
use bitting::provider::ProviderDocument;
use bitting::service::{self, WrapLimits};
use bitting::store::credential::{CredentialRecord, CredentialStatus, SealedSecret};
use bitting::store::{self, Store};
use bitting::vault::seal_credential;
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};

async fn rotate(server: &TestServer) -> Value {
    let answer = server.admin_post("/api/v1/vault/rotate", &json!({})).await;
    assert_eq!(answer.status, 202, "{:?}", answer.json());
    answer.json()
}

fn terms(state: &Value) -> Vec<u64> {
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
}

/// Seals credentials beside a server that does not run.
async fn add_credentials(home: &Installation, count: usize) {
    let (store, entropy) = (Store::open(&home.url).await.unwrap(), Entropy::new());
    let kek = FileKek::new(home.folder.path().join("kek"));
    let opened = service::open_keyring(&store, &kek).await.unwrap();
    let record = store::provider::get(&mut store.read().await.unwrap().conn(), "sandbox").await.unwrap();
    let document: ProviderDocument = serde_json::from_value(record.unwrap().document).unwrap();
    let provider = document.check(&CidrSet::parse(&["127.0.0.0/8"]).unwrap()).unwrap();
    let now = Clock::system().now();
    let mut tx = store.write().await.unwrap();
    for number in 0..count {
        let record = CredentialRecord {
            id: entropy.id("cred"),
            provider: "sandbox".to_owned(),
            name: format!("bulk-{number}"),
            weight: 1,
            projects: None,
            organization: None,
            openai_project: None,
            status: CredentialStatus::Active,
            secret_version: 1,
            version: 1,
            created_at: now,
            created_by: "test".to_owned(),
            draining: None,
            rotation_due: None,
        };
        let place = service::binding(&opened.installation, &provider, &record.id, 1);
        let sealed =
            seal_credential(&entropy, &opened.keyring, &place, &Secret::new("sandbox-key".to_owned()));
        let sealed = SealedSecret {
            term: i64::from(sealed.term),
            wrapped_dek: sealed.wrapped_dek,
            sealed: sealed.sealed,
        };
        store::credential::insert(&mut tx.conn(), &record).await.unwrap();
        store::credential::insert_secret(&mut tx.conn(), &record.id, 1, &sealed, now).await.unwrap();
    }
    tx.commit().await.unwrap();
    store.close().await;
}

/// Chats until `enough`; every answer that comes is 200. Returns the last state of the vault.
async fn served(
    server: &Process,
    secret: &str,
    enough: impl Fn(&Value, std::time::Duration) -> bool,
) -> Value {
    let begun = std::time::Instant::now();
    loop {
        let answer = server.chat(secret, &chat("sandbox-mini")).await.expect("the server is there");
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let state = server.admin(Method::GET, "/api/v1/vault", &Value::Null).await.json();
        if enough(&state, begun.elapsed()) {
            return state;
        }
        assert!(begun.elapsed().as_secs() < 120, "{state}");
    }
}

async fn survives_kills(home: Installation, credentials: usize, kills: usize, life: std::time::Duration) {
    let mut server = home.serve_first().await;
    let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
    server.terminate();
    server.child.wait().await.unwrap();
    add_credentials(&home, credentials).await;
    server = home.serve().await;
    let rotated = server.admin(Method::POST, "/api/v1/vault/rotate", &json!({})).await;
    assert_eq!(rotated.status, 202, "{:?}", rotated.json());
    for kill in 0..kills {
        let state = served(&server, &secret, |_, elapsed| elapsed >= life).await;
        println!("kill {kill}: {} left", state["rewrap"]["left"]);
        server.child.kill().await.unwrap();
        server = home.serve().await;
    }
    let state = served(&server, &secret, |state, _| terms(state).len() == 1).await;
    assert_eq!((terms(&state), &state["rewrap"]["left"]), (vec![2], &json!(0)));
    let wraps = state["terms"][0]["wraps_left"].as_u64().unwrap();
    assert_eq!(wraps, u64::try_from(credentials).unwrap() + 1, "each is there once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrap_goes_on_after_kills() {
    survives_kills(Installation::sqlite().await, 1_000, 3, std::time::Duration::from_millis(150)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_rewrap_of_ten_thousand_goes_on_after_a_kill_every_two_seconds() {
    survives_kills(Installation::sqlite().await, 10_000, 5, std::time::Duration::from_secs(2)).await;
}
