//! Moving from one source of the key-encryption key to another: every pair opens until it is confirmed, and whatever
//! breaks off on the way leaves a vault that opens, and a step that can be done again.

use super::{installed_on_both, sealed, unseal, vault};
use crate::kek::source;
use crate::support::process::Installation;
use crate::support::server::chat;
use crate::support::store::on_both;
use crate::support::transit::{Mood, Transit, write_secret};
use bitting::app::kek::FileKek;
use bitting::base::{Clock, Entropy};
use bitting::service::{self, ChangeKekError, KekSource, KekSourceError, open_keyring};
use bitting::store::{self, Store};
use bitting::vault::Kek;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sqlx::Connection;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

type Environment = Vec<(String, String)>;

fn file_source(path: &Path) -> Environment {
    vec![("BITTING_KEK_FILE".to_owned(), path.display().to_string())]
}

fn first_source(installation: &Installation) -> Environment {
    file_source(&installation.folder.path().join("kek"))
}

fn transit_flags(transit: &Transit) -> Vec<String> {
    let [(_, url), (_, key), (_, token)] = <[_; 3]>::try_from(transit.environment()).unwrap();
    ["--to-transit", &url, "--transit-key", &key, "--transit-token-file", &token].map(str::to_owned).to_vec()
}

fn command(installation: &Installation, by: &Environment, flags: &[String]) -> tokio::process::Command {
    let flags = flags.iter().map(String::as_str);
    let arguments: Vec<&str> = ["vault", "change-kek"].into_iter().chain(flags).chain(["--data"]).collect();
    let mut command = installation.command(&arguments);
    command.envs(by.iter().map(|(name, value)| (name, value)));
    command
}

async fn change(installation: &Installation, by: &Environment, flags: &[String]) -> Output {
    command(installation, by, flags).output().await.unwrap()
}

/// Does a step; what it says to set next.
async fn step(installation: &Installation, by: &Environment, flags: &[String]) -> Environment {
    let done = change(installation, by, flags).await;
    assert!(done.status.success(), "{flags:?}: {}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    let set = said.lines().filter_map(|line| line.strip_prefix("        BITTING_")?.split_once('='));
    set.map(|(name, value)| (format!("BITTING_{name}"), value.to_owned())).collect()
}

async fn confirm(installation: &Installation, by: &Environment) -> Output {
    change(installation, by, &["--confirm".to_owned()]).await
}

#[track_caller]
fn assert_done(done: &Output) {
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[track_caller]
fn assert_says(refused: &Output, part: &str) {
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains(part), "{part:?} is not in {said}");
}

/// Whether a server with this environment would open the vault.
async fn opens_by(installation: &Installation, by: &Environment) -> bool {
    let by: Vec<(&str, &str)> = by.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let store = Store::open(&installation.url).await.unwrap();
    let opened = open_keyring(&store, &*source(&by)).await.is_ok();
    store.close().await;
    opened
}

async fn wraps(store: &Store) -> usize {
    store::keyring::wraps(&mut store.read().await.unwrap().conn()).await.unwrap().len()
}

async fn wraps_of(installation: &Installation) -> usize {
    let store = Store::open(&installation.url).await.unwrap();
    let wraps = wraps(&store).await;
    store.close().await;
    wraps
}

installed_on_both! {
    async fn every_source_is_moved_to_by_what_the_step_says_to_set(installation: Installation) {
        let transit = Transit::start().await;
        let folder = transit.folder.path();
        write_secret(&folder.join("kek"), Kek::generate(&Entropy::new()).to_line().expose(), 0o400);
        write_secret(&folder.join("passphrase"), "correct horse battery staple\n", 0o600);
        let handed = ("CREDENTIALS_DIRECTORY".to_owned(), folder.display().to_string());
        let path = |name: &str| folder.join(name).display().to_string();
        let mut present = first_source(&installation);
        present.push(handed.clone());
        for (flags, kind) in [
            (vec!["--to-credential".to_owned(), "kek".to_owned()], "credential"),
            (transit_flags(&transit), "transit"),
            (vec!["--to-passphrase-file".to_owned(), path("passphrase")], "passphrase"),
            (vec!["--to-file".to_owned(), path("new")], "file"),
        ] {
            let mut next = step(&installation, &present, &flags).await;
            assert!(!next.is_empty(), "{kind}");
            next.push(handed.clone());
            assert!(opens_by(&installation, &present).await && opens_by(&installation, &next).await, "{kind}");
            assert_says(&confirm(&installation, &present).await, "that of an older source");
            assert!(opens_by(&installation, &present).await && opens_by(&installation, &next).await, "{kind}");
            assert_done(&confirm(&installation, &next).await);
            assert!(!opens_by(&installation, &present).await && opens_by(&installation, &next).await, "{kind}");
            assert_eq!(wraps_of(&installation).await, 1);
            present = next;
        }
        let by: Vec<(&str, &str)> = present.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let server = installation.serve_telling(&by, &folder.join("log")).await;
        assert_eq!(vault(&server).await, (false, Value::Null));
    }

    async fn a_step_may_be_repeated_and_its_source_confirmed(installation: Installation) {
        let transit = Transit::start().await;
        let file = transit.folder.path().join("passphrase");
        write_secret(&file, "correct horse battery staple\n", 0o600);
        let mut present = first_source(&installation);
        for flags in [vec!["--to-passphrase-file".to_owned(), file.display().to_string()], transit_flags(&transit)] {
            let next = step(&installation, &present, &flags).await;
            assert_eq!(step(&installation, &present, &flags).await, next);
            assert!(opens_by(&installation, &present).await);
            assert_done(&confirm(&installation, &next).await);
            // What is confirmed can be confirmed again: another root.
            assert_done(&confirm(&installation, &next).await);
            assert!(!opens_by(&installation, &present).await && opens_by(&installation, &next).await);
            assert_eq!(wraps_of(&installation).await, 1);
            present = next;
        }
    }

    async fn a_transit_engine_is_moved_to_from_another_one(installation: Installation) {
        let (one, other) = (Transit::start().await, Transit::start().await);
        let file = first_source(&installation);
        let from = step(&installation, &file, &transit_flags(&one)).await;
        assert_done(&confirm(&installation, &from).await);
        let to = step(&installation, &from, &transit_flags(&other)).await;
        assert!(opens_by(&installation, &from).await && opens_by(&installation, &to).await);
        assert_says(&confirm(&installation, &from).await, "that of an older source");
        assert_done(&confirm(&installation, &to).await);
        assert!(!opens_by(&installation, &from).await && opens_by(&installation, &to).await);
    }

    async fn killed_at_any_point_a_step_leaves_what_opens_and_can_be_done_again(installation: Installation) {
        let transit = Transit::start().await;
        let (old, flags) = (first_source(&installation), transit_flags(&transit));
        // Wrapped, and unwrapped to see that it can be; then written down.
        for works in 0..3 {
            killed_at(&installation, (&old, &flags), &transit, works, 2).await;
            assert!(opens_by(&installation, &old).await);
            assert_eq!(wraps_of(&installation).await, 1, "after {works} calls");
        }
        let new = step(&installation, &old, &flags).await;
        // Opened before that.
        for works in 0..4 {
            killed_at(&installation, (&new, &["--confirm".to_owned()]), &transit, works, 3).await;
            assert!(opens_by(&installation, &old).await && opens_by(&installation, &new).await);
            assert_eq!(wraps_of(&installation).await, 2, "after {works} calls");
        }
        assert_done(&confirm(&installation, &new).await);
        assert!(!opens_by(&installation, &old).await && opens_by(&installation, &new).await);
    }

    async fn killed_at_any_time_a_confirmation_leaves_a_vault_that_the_new_source_opens(installation: Installation) {
        let mut present = first_source(&installation);
        for turn in 0..12_u64 {
            let path = installation.folder.path().join(format!("kek{turn}"));
            let next = step(&installation, &present, &["--to-file".to_owned(), path.display().to_string()]).await;
            let mut confirming = command(&installation, &next, &["--confirm".to_owned()]);
            let mut confirming = confirming.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let _ended = tokio::time::timeout(Duration::from_millis(10 * turn), confirming.wait()).await;
            confirming.kill().await.unwrap();
            assert!(opens_by(&installation, &next).await, "killed after {} ms", 10 * turn);
            assert_done(&confirm(&installation, &next).await);
            assert!(!opens_by(&installation, &present).await && opens_by(&installation, &next).await);
            present = next;
        }
    }

    async fn a_sealed_vault_changes_its_key_and_stays_sealed(installation: Installation) {
        let server = installation.serve_first().await;
        let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
        let old = first_source(&installation);
        let path = installation.folder.path().join("new");
        let code = sealed(&server).await;
        let new = step(&installation, &old, &["--to-file".to_owned(), path.display().to_string()]).await;
        assert_eq!(vault(&server).await, (true, json!("sealed_by_operator")));
        assert_eq!(unseal(&server, &json!({"code": code})).await.0, 200);
        let code = sealed(&server).await;
        assert_done(&confirm(&installation, &new).await);
        // The server still asks the old source. The code is right all the same, and the new key opens.
        assert_eq!(unseal(&server, &json!({"code": code})).await, (503, "sealed".to_owned()));
        assert_eq!(vault(&server).await, (true, json!("sealed_by_operator")));
        let key = std::fs::read_to_string(&path).unwrap();
        assert_eq!(unseal(&server, &json!({"kek": key})).await.0, 200);
        assert_eq!(server.chat(&secret, &chat("sandbox-mini")).await.unwrap().status, 200);
    }
}

/// Kills a step after so many calls to the engine: in the next call, or where there are no more, in the database.
async fn killed_at(
    installation: &Installation,
    (by, flags): (&Environment, &[String]),
    transit: &Transit,
    works: usize,
    calls: usize,
) {
    transit.calls();
    let in_database = works == calls;
    let lock = if in_database { Some(Lock::take(&installation.url).await) } else { None };
    transit.meet_first(&vec![Mood::Works; works]);
    transit.set_mood(Mood::Hangs);
    let mut step = command(installation, by, flags);
    let mut step = step.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut seen = 0;
    while seen < (works + 1).min(calls) {
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(step.try_wait().unwrap(), None, "it ended after {seen} calls");
        seen += transit.calls();
    }
    if in_database {
        // It is about to write, and may not.
        let ended = tokio::time::timeout(Duration::from_millis(200), step.wait()).await;
        assert!(ended.is_err(), "it did not wait for the database");
    }
    step.kill().await.unwrap();
    drop(lock);
    transit.set_mood(Mood::Works);
}

/// Nobody else writes the keyring while this is held.
enum Lock {
    Sqlite(#[expect(dead_code, reason = "held")] sqlx::SqliteConnection),
    Postgres(#[expect(dead_code, reason = "held")] sqlx::PgConnection),
}

impl Lock {
    async fn take(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let mut db = sqlx::SqliteConnection::connect(url).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
            return Self::Sqlite(db);
        }
        let mut db = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("BEGIN; LOCK TABLE keyring IN EXCLUSIVE MODE").execute(&mut db).await.unwrap();
        Self::Postgres(db)
    }
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_named_by_its_flag_before_anything_is_changed() {
    let installation = Installation::sqlite().await;
    let transit = Transit::start().await;
    let present = first_source(&installation);
    let refused = async |flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        change(&installation, &present, &flags).await
    };
    assert_says(
        &refused(&["--to-credential", "kek"]).await,
        "--to-credential: systemd hands no credentials over",
    );
    assert_says(&refused(&["--to-transit", "https://v:8200"]).await, "--transit-key");
    assert_says(&refused(&["--transit-key", "k"]).await, "--to-");
    let flags = ["--to-transit", "http://10.0.0.1:8200", "--transit-key", "k", "--transit-token-file", "t"];
    assert_says(&refused(&flags).await, "--to-transit: it is not encrypted");
    transit.set_mood(Mood::Denies);
    let flags = transit_flags(&transit);
    assert_says(&change(&installation, &present, &flags).await, "the new source: ");
    assert_says(&change(&installation, &present, &flags).await, "`update` on transit/encrypt/bitting");
    assert_eq!(wraps_of(&installation).await, 1);
}

#[tokio::test]
async fn a_key_file_that_systemd_hands_over_is_the_same_key() {
    let installation = Installation::sqlite().await;
    let folder = installation.folder.path().display().to_string();
    let credential: Environment =
        [("BITTING_KEK_CREDENTIAL", "kek".to_owned()), ("CREDENTIALS_DIRECTORY", folder)]
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
    assert!(opens_by(&installation, &credential).await);
    let mut present = first_source(&installation);
    present.push(credential[1].clone());
    let same = change(&installation, &present, &["--to-credential".to_owned(), "kek".to_owned()]).await;
    assert_says(&same, "if it has only moved, set the new source");
    // And back.
    assert_done(&confirm(&installation, &credential).await);
    assert!(opens_by(&installation, &first_source(&installation)).await);
}

/// A source that takes its time: meanwhile the keyring gets another root.
struct Meanwhile {
    store: Store,
    present: FileKek,
    key: FileKek,
}

impl KekSource for Meanwhile {
    fn kind(&self) -> &'static str {
        self.key.kind()
    }

    fn describe(&self) -> String {
        self.key.describe()
    }

    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        Box::pin(async move {
            let by = (&Clock::system(), entropy);
            service::confirm_kek(&self.store, &self.present, by).await.unwrap();
            self.key.create(entropy, installation).await
        })
    }

    fn open<'a>(
        &'a self,
        kept: &'a Value,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        self.key.open(kept, installation)
    }
}

on_both! {
    async fn a_keyring_that_was_written_anew_meanwhile_is_left_as_it_is(test: TestStore) {
        let (clock, entropy) = (Clock::system(), Entropy::new());
        let file = |name: &str| FileKek::new(test.folder.path().join(name));
        let (present, key) = (file("kek"), file("new"));
        assert!(service::install(&test.store, &present, &clock, &entropy).await.is_ok());
        let slow = Meanwhile { store: test.store.clone(), present: present.clone(), key: key.clone() };
        let added = service::add_kek(&test.store, (&present, &slow), (&clock, &entropy)).await;
        assert!(matches!(added, Err(ChangeKekError::Moved)), "{added:?}");
        assert!(open_keyring(&test.store, &present).await.is_ok());
        assert!(open_keyring(&test.store, &key).await.is_err());
        let slow = Meanwhile { key: present.clone(), ..slow };
        let confirmed = service::confirm_kek(&test.store, &slow, (&clock, &entropy)).await;
        assert!(matches!(confirmed, Err(ChangeKekError::Moved)), "{confirmed:?}");
        assert!(open_keyring(&test.store, &present).await.is_ok());
        assert_eq!(wraps(&test.store).await, 1);
    }
}
