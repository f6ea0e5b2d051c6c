//! A key service between the server and its key: away or refusing at the start, and taking the key back later.

use super::{opens, unseal, vault};
use crate::admin::plane::settings;
use crate::kek::source;
use crate::support::process::{Installation, Process};
use crate::support::server::chat;
use crate::support::store::{TestStore, on_both};
use crate::support::transit::{Mood, Transit};
use bitting::app::kek::FileKek;
use bitting::base::{Clock, Entropy};
use bitting::service::{self, Actor, KekLease, Operator, Presented, SealReason, Services};
use bitting::store;
use data_encoding::BASE64;
use http::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::task::TaskTracker;

/// An installation whose key a transit engine wraps.
struct Wrapped {
    installation: Installation,
    transit: Transit,
}

impl Wrapped {
    /// The key file opens nothing any more.
    async fn new() -> Self {
        let this = Self::beside_a_file().await;
        let mut confirm = this.installation.command(&["vault", "change-kek", "--confirm", "--data"]);
        let done = confirm.envs(this.transit.environment()).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        fs::remove_file(this.installation.folder.path().join("kek")).unwrap();
        this
    }

    /// The key file opens it too.
    async fn beside_a_file() -> Self {
        let this = Self { installation: Installation::sqlite().await, transit: Transit::start().await };
        let [(_, url), (_, key), (_, token)] = <[_; 3]>::try_from(this.transit.environment()).unwrap();
        let flags = ["--to-transit", &url, "--transit-key", &key, "--transit-token-file", &token];
        let added = [&["vault", "change-kek"], flags.as_slice(), &["--data"]].concat();
        let kek = this.installation.folder.path().join("kek");
        let done = this.installation.command(&added).env("BITTING_KEK_FILE", &kek).output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        this
    }

    fn log(&self) -> PathBuf {
        self.transit.folder.path().join("log")
    }

    async fn serve(&self) -> Process {
        let environment = self.transit.environment();
        let environment: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.installation.serve_telling(&environment, &self.log()).await
    }

    async fn doctor(&self) -> String {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bitting"));
        command.arg("doctor").env("BITTING_DATA_DIR", self.installation.folder.path());
        let done = command.envs(self.transit.environment()).kill_on_drop(true).output().await.unwrap();
        assert_eq!(done.status.code(), Some(1));
        String::from_utf8(done.stdout).unwrap()
    }
}

async fn reasons(server: &Process) -> (u16, Value) {
    let ready = server.admin(Method::GET, "/readyz", &Value::Null).await;
    (ready.status.as_u16(), ready.json()["reasons"].clone())
}

async fn assert_sealed(server: &Process, reason: &str) {
    assert_eq!(vault(server).await, (true, json!(reason)));
    let refused = (503, "sealed".to_owned());
    assert_eq!(server.chat("bk_nobody", &chat("sandbox-mini")).await.unwrap().refusal(), refused);
    assert_eq!(server.admin(Method::GET, "/api/v1/subkeys", &Value::Null).await.refusal(), refused);
    assert_eq!(reasons(server).await, (503, json!(["sealed", reason])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_key_a_server_starts_sealed_says_why_and_opens_when_it_is_given() {
    let wrapped = Wrapped::new().await;
    let others = BASE64.encode(&[7; 32]);
    for (mood, reason, says) in [
        (Mood::Denies, "kek_refused", "transit/decrypt/bitting is denied (403"),
        (Mood::Answers(404), "kek_refused", "there is no key \"bitting\" at the mount \"transit\""),
        (Mood::Unwraps(others), "kek_refused", "is not one that this database is wrapped by"),
        (Mood::Sealed, "kek_unavailable", "it is sealed or in standby (503"),
        (Mood::Answers(500), "kek_unavailable", "it answered 500"),
        (Mood::Answers(307), "kek_unavailable", "redirects are not followed"),
        (Mood::Says("<html>".to_owned()), "kek_unavailable", "its answer is not one of a transit engine"),
    ] {
        wrapped.transit.set_mood(mood);
        let server = wrapped.serve().await;
        assert_sealed(&server, reason).await;
        let doctor = wrapped.doctor().await;
        assert!(doctor.contains("FAIL  vault: ") && doctor.contains(says), "{says:?} is not in {doctor}");
        wrapped.transit.set_mood(Mood::Works);
        opens(&server).await;
        assert_eq!(reasons(&server).await.0, 200);
        let said = fs::read_to_string(wrapped.log()).unwrap();
        assert!(said.contains(r#""level":"ERROR""#) && !said.contains("s.first-token"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_hangs_or_is_gone_or_a_token_that_is_not_there_yet_holds_nobody_up_for_long() {
    let mut wrapped = Wrapped::new().await;
    wrapped.transit.set_mood(Mood::Hangs);
    let began = Instant::now();
    let server = wrapped.serve().await;
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert_sealed(&server, "kek_unavailable").await;
    wrapped.transit.set_mood(Mood::Works);
    opens(&server).await;
    drop(server);

    wrapped.transit.go_down().await;
    let server = wrapped.serve().await;
    assert_sealed(&server, "kek_unavailable").await;
    assert!(wrapped.doctor().await.contains("no connection to 127.0.0.1"));
    wrapped.transit.come_back().await;
    opens(&server).await;
    drop(server);

    let token = wrapped.transit.folder.path().join("token");
    fs::remove_file(&token).unwrap();
    let server = wrapped.serve().await;
    assert_sealed(&server, "kek_unavailable").await;
    assert!(wrapped.doctor().await.contains("cannot read"));
    wrapped.transit.set_token("s.another-token");
    opens(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_taken_back_seals_a_running_server_until_it_is_given_again() {
    let wrapped = Wrapped::new().await;
    let file = wrapped.installation.folder.path().join("bitting.toml");
    fs::write(file, "[limits]\nkek_lease_seconds = 5\n").unwrap();
    let server = wrapped.serve().await;
    assert_eq!(reasons(&server).await.0, 200);
    wrapped.transit.set_mood(Mood::Denies);
    let began = Instant::now();
    while !vault(&server).await.0 {
        assert!(began.elapsed() < Duration::from_secs(15), "it was not sealed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(
        began.elapsed() >= Duration::from_secs(5),
        "there is time to renew a token: {:?}",
        began.elapsed()
    );
    assert_sealed(&server, "kek_refused").await;
    wrapped.transit.set_mood(Mood::Works);
    opens(&server).await;
    let alarms = server.admin(Method::GET, "/api/v1/alarms?status=open&kind=kek_refused", &Value::Null).await;
    let alarms = alarms.json()["items"].as_array().unwrap().clone();
    let details: Vec<&Value> = alarms.iter().map(|alarm| &alarm["detail"]).collect();
    assert!(
        details.iter().all(|detail| detail["error"].as_str().unwrap().contains("is denied")),
        "{details:?}"
    );
    let said = fs::read_to_string(wrapped.log()).unwrap();
    assert_eq!(
        said.matches("\"alarm\":\"kek_refused\"").count(),
        2,
        "at once, and when it was sealed: {said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_a_key_unsealed_does_not_hang_on_a_service_that_refuses() {
    let wrapped = Wrapped::beside_a_file().await;
    let folder = wrapped.installation.folder.path();
    fs::write(folder.join("bitting.toml"), "[limits]\nkek_lease_seconds = 5\n").unwrap();
    wrapped.transit.set_mood(Mood::Denies);
    let server = wrapped.serve().await;
    assert_sealed(&server, "kek_refused").await;
    let key = fs::read_to_string(folder.join("kek")).unwrap();
    assert_eq!(unseal(&server, &json!({"kek": key})).await.0, 200);
    // Two looks at the lease: the first refusal would be alarmed.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(vault(&server).await, (false, Value::Null));
    let said = fs::read_to_string(wrapped.log()).unwrap();
    assert!(!said.contains("\"alarm\":\"kek_refused\""), "{said}");
}

/// Turns until the vault is sealed; how long that took.
async fn sealed_after(lease: &mut KekLease, services: &Services) -> Duration {
    let began = Instant::now();
    while services.vault.sealed().is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it was not sealed");
        lease.turn().await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

async fn owner(test: &TestStore) -> Actor {
    let mut read = test.store.read().await.unwrap();
    let record = store::operator::find_by_name(&mut read.conn(), "owner").await.unwrap().unwrap();
    Actor { operator: Operator::from(record), ..Actor::local() }
}

/// Turns for a while; the vault is open all the time.
async fn open_for(lease: &mut KekLease, services: &Services, time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        lease.turn().await.unwrap();
        assert_eq!(services.vault.sealed(), None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

on_both! {
    async fn only_a_refusal_that_lasts_ends_a_lease(test: TestStore) {
        const LEASE: Duration = Duration::from_millis(300);
        let (clock, entropy) = (Clock::system(), Entropy::new());
        let by = (&clock, &Entropy::new());
        let transit = Transit::start().await;
        let kek = source(&transit.environment());
        assert!(service::install(&test.store, &*kek, &clock, &entropy).await.is_ok());
        let settings = settings(clock.clone(), entropy, &[], test.folder.path());
        let tasks = TaskTracker::new();
        let services = Services::start(test.store.clone(), kek.clone(), settings, &tasks).await.ok().unwrap();
        let mut lease = KekLease::new(services.clone(), LEASE).unwrap();
        assert_eq!(lease.pause(), LEASE / 10);
        open_for(&mut lease, &services, LEASE * 2).await;

        transit.set_mood(Mood::Says("no engine".to_owned()));
        open_for(&mut lease, &services, LEASE * 2).await;
        transit.set_mood(Mood::Denies);
        open_for(&mut lease, &services, LEASE / 3).await;
        transit.set_mood(Mood::Works);
        open_for(&mut lease, &services, LEASE).await;
        transit.set_mood(Mood::Denies);
        assert!(sealed_after(&mut lease, &services).await >= LEASE, "a refusal that passed does not count");
        assert_eq!(services.vault.sealed(), Some(SealReason::KekRefused));
        assert!(services.open_vault().await.is_err());
        transit.set_mood(Mood::Works);
        services.open_vault().await.unwrap();

        // No answer in between is no grant.
        transit.set_mood(Mood::Denies);
        open_for(&mut lease, &services, LEASE / 2).await;
        transit.set_mood(Mood::Says("no engine".to_owned()));
        open_for(&mut lease, &services, LEASE).await;
        transit.set_mood(Mood::Denies);
        assert!(sealed_after(&mut lease, &services).await < LEASE);
        transit.set_mood(Mood::Works);
        services.open_vault().await.unwrap();

        // Nor does a refusal from before an operator sealed the vault.
        transit.set_mood(Mood::Denies);
        open_for(&mut lease, &services, LEASE / 2).await;
        let code = services.seal(&Actor::local()).await.unwrap();
        lease.turn().await.unwrap();
        transit.set_mood(Mood::Works);
        services.unseal(&owner(&test).await, &Presented::Code(code)).await.unwrap();
        transit.set_mood(Mood::Denies);
        assert!(sealed_after(&mut lease, &services).await >= LEASE);
        transit.set_mood(Mood::Works);
        services.open_vault().await.unwrap();

        // The lease goes with the key to its next wrapping.
        service::confirm_kek(&test.store, &*kek, by).await.unwrap();
        open_for(&mut lease, &services, LEASE / 3).await;
        transit.set_mood(Mood::Denies);
        sealed_after(&mut lease, &services).await;
        transit.set_mood(Mood::Works);
        services.open_vault().await.unwrap();

        // Moved to a file, there is nothing to lease, and whoever was told so is not sealed.
        let file = FileKek::new(test.folder.path().join("moved"));
        service::add_kek(&test.store, (&*kek, &file), by).await.unwrap();
        service::confirm_kek(&test.store, &file, by).await.unwrap();
        transit.set_mood(Mood::Denies);
        open_for(&mut lease, &services, LEASE * 2).await;
        assert!(KekLease::new(services.clone(), LEASE).is_some());
        services.ledger.stop().await;
    }
}

#[tokio::test]
async fn a_key_of_ones_own_is_not_leased() {
    let test = TestStore::sqlite().await;
    let (clock, entropy) = (Clock::system(), Entropy::new());
    let file = std::sync::Arc::new(FileKek::new(test.folder.path().join("kek")));
    assert!(service::install(&test.store, &*file, &clock, &entropy).await.is_ok());
    let settings = settings(clock, entropy, &[], test.folder.path());
    let services =
        Services::start(test.store.clone(), file, settings, &TaskTracker::new()).await.ok().unwrap();
    assert!(KekLease::new(services, Duration::from_secs(1)).is_none());
}
