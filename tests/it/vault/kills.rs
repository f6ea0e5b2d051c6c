//! Rotations and rewraps of a server that is killed in their middle, again and again.

use super::rotate::terms;
use crate::support::process::{Installation, Process};
use crate::support::server::chat;
use bitting::app::kek::FileKek;
use bitting::base::{CidrSet, Clock, Entropy, Secret};
use bitting::provider::ProviderDocument;
use bitting::service;
use bitting::store::credential::{CredentialRecord, CredentialStatus, SealedSecret};
use bitting::store::register::{RowMac, SignedRegister};
use bitting::store::{self, Store};
use bitting::vault::{PowerRow, PowerTable, seal_credential};
use http::Method;
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Adds credentials beside a server that does not run, signed as the server signs them.
async fn add_credentials(home: &Installation, count: usize) {
    let (store, entropy) = (Store::open(&home.url).await.unwrap(), Entropy::new());
    let kek = FileKek::new(home.folder.path().join("kek"));
    let opened = service::open_keyring(&store, &kek).await.unwrap();
    let keyring = &opened.keyring;
    let record = store::provider::get(&mut store.read().await.unwrap().conn(), "sandbox").await.unwrap();
    let document: ProviderDocument = serde_json::from_value(record.unwrap().document).unwrap();
    let provider = document.check(&CidrSet::parse(&["127.0.0.0/8"]).unwrap()).unwrap();
    let now = Clock::system().now();
    let mut tx = store.write().await.unwrap();
    let mut register = store::register::get(&mut tx.conn()).await.unwrap().unwrap().register;
    for number in 0..count {
        let record = CredentialRecord {
            id: entropy.id("cred"),
            provider: "sandbox".to_owned(),
            name: format!("bulk-{number}"),
            weight: 1,
            projects: None,
            organization: None,
            openai_project: None,
            rate_limits: Vec::new(),
            status: CredentialStatus::Active,
            secret_version: 1,
            version: 1,
            created_at: now,
            created_by: "test".to_owned(),
            draining: None,
            rotation_due: None,
        };
        let place = service::binding(&opened.installation, &provider, &record.id, 1);
        let key = Secret::new(format!("sandbox-bulk-{number}-{}", record.id));
        let sealed = seal_credential(&entropy, keyring, &place, &key);
        let sealed = SealedSecret {
            term: i64::from(sealed.term),
            wrapped_dek: sealed.wrapped_dek,
            sealed: sealed.sealed,
        };
        store::credential::insert(&mut tx.conn(), &record).await.unwrap();
        store::credential::insert_secret(&mut tx.conn(), &record.id, 1, &sealed, now).await.unwrap();
        let versions = store::credential::versions_of(&mut tx.conn(), &record.id).await.unwrap();
        let (mac, term) = keyring.sign_row(signed_form(&record, versions).canonical());
        let (tbl, id) = (PowerTable::Credentials.as_str().to_owned(), record.id);
        let kept = RowMac { tbl, id, term: i64::from(term), mac: mac.to_vec() };
        store::register::put_mac(&mut tx.conn(), &kept).await.unwrap();
        register.add(&keyring.share(&mac, term).unwrap());
    }
    let before = register.seq;
    register.seq += 1;
    let (mac, term) = keyring.sign_row(&register.canonical());
    let signed = SignedRegister { register, mac: mac.to_vec(), term: i64::from(term) };
    assert!(store::register::replace(&mut tx.conn(), Some(before), &signed).await.unwrap());
    tx.commit().await.unwrap();
    store.close().await;
}

/// A credential in the form in which it is signed; another form is a row that nobody uses, and the tests say so.
fn signed_form(credential: &CredentialRecord, versions: Vec<String>) -> PowerRow {
    PowerRow::new(PowerTable::Credentials, &credential.id, credential.version)
        .text(&credential.provider)
        .text(&credential.name)
        .number(credential.weight)
        .json(&credential.projects)
        .optional(credential.organization.as_deref())
        .optional(credential.openai_project.as_deref())
        .text(credential.status.as_str())
        .number(credential.secret_version)
        .time(credential.created_at)
        .text(&credential.created_by)
        .children("versions", versions)
}

/// Clients at once.
const CLIENTS: usize = 4;

/// What the clients of all rounds saw.
#[derive(Default)]
struct Tally {
    answered: AtomicUsize,
    /// Under way when the server was killed: no answer, or not all of one.
    cut: AtomicUsize,
    refused: Mutex<Vec<(u16, Value)>>,
    slowest: Mutex<Duration>,
}

impl Tally {
    /// Chats until the server is gone, or until it is enough.
    async fn chat(&self, server: &Process, secret: &str, is_enough: &AtomicBool) {
        while !is_enough.load(Ordering::SeqCst) {
            let begun = Instant::now();
            let Some(answer) = server.chat(secret, &chat("sandbox-mini")).await else {
                self.cut.fetch_add(1, Ordering::SeqCst);
                return;
            };
            let mut slowest = self.slowest.lock().unwrap();
            *slowest = slowest.max(begun.elapsed());
            if answer.status == 200 {
                self.answered.fetch_add(1, Ordering::SeqCst);
            } else {
                self.refused.lock().unwrap().push((answer.status.as_u16(), answer.json()));
            }
        }
    }

    async fn clients(&self, server: &Process, secret: &str, is_enough: &AtomicBool) {
        let clients = (0..CLIENTS).map(|_| self.chat(server, secret, is_enough));
        futures_util::future::join_all(clients).await;
    }
}

async fn vault_state(server: &Process) -> Value {
    server.admin(Method::GET, "/api/v1/vault", &Value::Null).await.json()
}

/// Rotates, and kills the server again and again while it rewraps and clients chat, until one term is left.
async fn survives_kills(home: Installation, credentials: usize, kills_min: usize, life: Duration) {
    let mut server = home.serve_first().await;
    let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
    server.terminate();
    server.child.wait().await.unwrap();
    let begun = Instant::now();
    add_credentials(&home, credentials).await;
    println!("{credentials} signed credentials added in {:?}", begun.elapsed());
    server = home.serve().await;
    let rotated = server.admin(Method::POST, "/api/v1/vault/rotate", &json!({})).await;
    assert_eq!(rotated.status, 202, "{:?}", rotated.json());
    let (begun, tally, mut kills) = (Instant::now(), Tally::default(), 0);
    let (mut starting, mut life) = (Duration::ZERO, life);
    let state = loop {
        let is_enough = AtomicBool::new(false);
        let killing = async {
            tokio::time::sleep(life).await;
            let state = vault_state(&server).await;
            if terms(&state).len() == 1 {
                is_enough.store(true, Ordering::SeqCst);
                return Some(state);
            }
            println!("kill {kills} at {:?}: {} left", begun.elapsed(), state["rewrap"]["left"]);
            server.kill();
            // What is left is the sub-key's own secret, which moves when it is used and is written down every second.
            if state["rewrap"]["left"] == 0 {
                life = life.max(Duration::from_secs(2));
            }
            None
        };
        let ((), state) = tokio::join!(tally.clients(&server, &secret, &is_enough), killing);
        let seen = home.sandbox.requests();
        let keys = seen.iter().filter_map(|one| one.header("authorization"));
        assert!(keys.into_iter().all(|key| key.starts_with("Bearer sandbox-")), "another key was sent");
        if let Some(state) = state {
            break state;
        }
        server.child.wait().await.unwrap();
        kills += 1;
        assert!(kills < 200, "it does not end");
        let start = Instant::now();
        server = home.serve().await;
        starting += start.elapsed();
    };
    let (refused, answered) = (tally.refused.into_inner().unwrap(), tally.answered.into_inner());
    println!(
        "{credentials} credentials, {kills} kills, {:?} in all, {starting:?} of it starting; {answered} answered (slowest \
         {:?}), {} under way at a kill, {} refused; terms {:?}, {} wraps",
        begun.elapsed(),
        tally.slowest.into_inner().unwrap(),
        tally.cut.into_inner(),
        refused.len(),
        terms(&state),
        state["terms"][0]["wraps_left"],
    );
    assert!(refused.is_empty(), "{refused:?}");
    assert!(kills >= kills_min && answered > 0);
    assert_eq!((terms(&state), &state["rewrap"]["left"]), (vec![2], &json!(0)));
    let wraps = state["terms"][0]["wraps_left"].as_u64().unwrap();
    assert_eq!(wraps, u64::try_from(credentials).unwrap() + 1, "each is there once");
    let alarms = server.admin(Method::GET, "/api/v1/alarms?status=open", &Value::Null).await.json();
    assert_eq!(alarms["items"], json!([]), "no row was found changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrap_goes_on_after_kills() {
    survives_kills(Installation::sqlite().await, 600, 2, Duration::from_millis(200)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_rewrap_of_ten_thousand_goes_on_after_a_kill_every_two_seconds() {
    survives_kills(Installation::sqlite().await, 10_000, 2, Duration::from_secs(2)).await;
}

/// Wherever a kill falls between the steps of a rotation and of what follows it, the next start goes on from there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_anywhere_leaves_a_keyring_that_opens() {
    let home = Installation::sqlite().await;
    let mut server = home.serve_first().await;
    let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
    let mut rotated = 1;
    for life_ms in [0, 2, 4, 8, 12, 20, 40, 80] {
        let kill = async {
            tokio::time::sleep(Duration::from_millis(life_ms)).await;
            server.kill();
        };
        let nothing = json!({});
        let asked = server.try_admin(Method::POST, "/api/v1/vault/rotate", &nothing);
        let ((), answered) = tokio::join!(kill, asked);
        server.child.wait().await.unwrap();
        server = home.serve().await;
        let answer = server.chat(&secret, &chat("sandbox-mini")).await.unwrap();
        assert_eq!(answer.status, 200, "{life_ms} ms: {:?}", answer.json());
        let newest = *terms(&vault_state(&server).await).last().unwrap();
        let is_said = answered.is_some_and(|answer| answer.status == 202);
        assert!(
            newest == rotated + 1 || newest == rotated && !is_said,
            "{life_ms} ms: {newest} after {rotated}"
        );
        println!(
            "killed {life_ms} ms after it was asked: term {newest}, {}",
            if is_said { "said" } else { "not said" }
        );
        rotated = newest;
    }
    let begun = Instant::now();
    while terms(&vault_state(&server).await).len() > 1 {
        assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
        assert!(begun.elapsed() < Duration::from_mins(1), "{}", vault_state(&server).await);
    }
}
