//! A database of the first release, brought up to date by this program.

use super::first::First;
use crate::backup::contents_at;
use crate::support::process::Installation;
use crate::support::server::chat;
use crate::support::store::{TestStore, tamper};
use bitting::base::NanoUsd;
use bitting::store::{SchemaState, Store};
use http::Method;
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::str::FromStr;
use std::time::Duration;
use tokio::process::Command;

/// Makes of `async fn name(first: First)` two tests, `name::sqlite` and `name::postgres`.
macro_rules! first_on_both {
    ($(async fn $name:ident($first:ident: First) $body:block)+) => {$(
        mod $name {
            use super::*;

            async fn run($first: First) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                Box::pin(run(First::sqlite().await)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(run(First::postgres().await)).await;
            }
        }
    )+};
}

fn command(url: &str, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.args(arguments).env("BITTING_DATA_DIR", folder).env("BITTING_DATABASE_URL", url);
    command.env("BITTING_PROXY_LISTEN", "127.0.0.1:0").env("BITTING_ADMIN_LISTEN", "127.0.0.1:0");
    command.env("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8").kill_on_drop(true);
    command
}

/// Runs the program on a database; its exit code, and what it said on standard output and on standard error.
async fn run_on((url, folder): (&str, &Path), arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(url, folder, arguments).output().await.unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The copies of a SQLite file in its folder, by name.
fn copies(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut copies: Vec<PathBuf> =
        entries.filter(|path| path.to_string_lossy().contains(".before-")).collect();
    copies.sort();
    copies
}

first_on_both! {
    async fn a_plan_shows_the_sql_and_changes_nothing(first: First) {
        let store = first.store().await;
        let before = contents_at(&store, 1).await;
        let place = (first.place.0.as_str(), first.place.1.path());
        let (code, plan, _) = run_on(place, &["migrate", "--plan"]).await;
        assert_eq!(code, Some(0));
        assert!(plan.starts_with("-- 0002_vault\n"), "{plan}");
        assert!(plan.contains("CREATE TABLE row_macs") && !plan.contains("CREATE TABLE meta"), "{plan}");
        assert!(matches!(store.schema_state().await.unwrap(), SchemaState::Pending(_)));
        assert_eq!(contents_at(&store, 1).await, before);
        assert!(copies(place.1).is_empty());
    }

    async fn an_old_database_is_not_served_and_once_migrated_it_is_as_it_was(first: First) {
        let is_sqlite = first.place.0.starts_with("sqlite:");
        let store = first.store().await;
        let before = contents_at(&store, 1).await;
        assert!(before["subkeys"].len() == 3 && before["access_log"].len() == 7, "{before:?}");
        let (home, known) = first.with_provider().await;
        let place = (home.url.as_str(), home.folder.path());
        for refused in [&["serve"][..], &["doctor"], &["backup", "b"]] {
            let (code, out, err) = run_on(place, refused).await;
            let said = out + &err;
            let told = "the database lacks 0002_vault, 0003_leases, 0004_projects, 0005_credential_rates, \
                0006_usage, 0007_notices, 0008_objects, 0009_deferred; run: bitting migrate";
            assert!(code == Some(1) && said.contains(told), "{refused:?}: {said}");
        }

        let (code, out, err) = run_on(place, &["migrate"]).await;
        assert!(code == Some(0) && out.starts_with("applied 0002_vault"), "{out}{err}");
        assert_eq!(store.schema_state().await.unwrap(), SchemaState::UpToDate);
        assert_eq!(contents_at(&store, 1).await, before);
        if is_sqlite {
            copy_is_as_before(&err, place.1, &before).await;
        } else {
            assert!(err.contains("pg_dump") && copies(place.1).is_empty(), "{err}");
        }
        let (code, out, err) = run_on(place, &["migrate"]).await;
        assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "the schema is up to date\n", ""));
        store.close().await;
        everything_is_as_it_was(&home, &known).await;
    }

    async fn a_schema_is_not_changed_under_a_server(first: First) {
        let store = first.store().await;
        let before = contents_at(&store, 1).await;
        // What a server holds as long as it runs, whichever release it is of.
        let server = store.writer().await.unwrap();
        let place = (first.place.0.as_str(), first.place.1.path());
        let (code, _, err) = run_on(place, &["migrate"]).await;
        assert!(code == Some(1) && err.contains("stop it, then run: bitting migrate"), "{err}");
        assert_eq!(contents_at(&store, 1).await, before);
        assert!(matches!(store.schema_state().await.unwrap(), SchemaState::Pending(_)));
        assert!(copies(place.1).is_empty());
        assert_eq!(run_on(place, &["migrate", "--plan"]).await.0, Some(0), "a plan disturbs nobody");
        server.release().await.unwrap();
        let (code, _, err) = run_on(place, &["migrate"]).await;
        assert_eq!(code, Some(0), "{err}");
    }

    async fn a_migration_that_is_killed_is_taken_back_and_can_be_repeated(first: First) {
        let store = first.store().await;
        let before = contents_at(&store, 1).await;
        let (url, folder) = (first.place.0.as_str(), first.place.1.path());
        let is_sqlite = url.starts_with("sqlite:");
        let mut in_the_way = InTheWay::of(url).await;
        let mut child = command(url, folder, &["migrate"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        in_the_way.has_stopped_it(folder).await;
        assert!(child.try_wait().unwrap().is_none(), "it is in the middle");
        child.kill().await.unwrap();
        in_the_way.leaves().await;

        for _ in 0..100 {
            let (code, _, err) = run_on((url, folder), &["migrate"]).await;
            if code == Some(0) {
                break;
            }
            // PostgreSQL has yet to see that nobody is there any more.
            assert!(!is_sqlite && err.contains("stop it, then run"), "{err}");
            assert_eq!(contents_at(&store, 1).await, before);
        }
        assert_eq!(store.schema_state().await.unwrap(), SchemaState::UpToDate);
        assert_eq!(contents_at(&store, 1).await, before);
        let copies = copies(folder);
        assert_eq!(copies.len(), if is_sqlite { 2 } else { 0 }, "{copies:?}");
        for copy in copies {
            let copy = Store::open(&format!("sqlite://{}", copy.display())).await.unwrap();
            assert_eq!(contents_at(&copy, 1).await, before);
        }
    }

    async fn a_database_that_is_newer_than_the_program_is_left_alone(first: First) {
        let place = (first.place.0.as_str(), first.place.1.path());
        assert_eq!(run_on(place, &["migrate"]).await.0, Some(0));
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
            SELECT 99, 'of next year', success, checksum, 1 FROM _sqlx_migrations WHERE version = 1";
        tamper(place.0, newer).await;
        for refused in [&["serve"][..], &["migrate"], &["migrate", "--plan"], &["doctor"], &["init"], &["quickstart"]] {
            let (code, out, err) = run_on(place, refused).await;
            let said = out + &err;
            let is_named = said.contains("it has 0099_of_next_year; run the newer program");
            assert!(code == Some(1) && is_named, "{refused:?}: {said}");
        }
    }
}

/// What was made aside is the database as it was, for its owner's eyes.
async fn copy_is_as_before(
    said: &str,
    folder: &Path,
    before: &std::collections::BTreeMap<&'static str, Vec<String>>,
) {
    let copy = folder.join("bitting.db.before-0002_vault");
    assert!(said.contains("bitting.db.before-0002_vault") && copies(folder) == [copy.clone()], "{said}");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let copied = Store::open(&format!("sqlite://{}", copy.display())).await.unwrap();
    assert!(matches!(copied.schema_state().await.unwrap(), SchemaState::Pending(_)));
    assert_eq!(&contents_at(&copied, 1).await, before);
    copied.close().await;
}

/// Serves it: old keys, old spend, old log; and what has power is signed.
async fn everything_is_as_it_was(home: &Installation, known: &Value) {
    let server = home.serve().await;
    let secret = |name: &str| known["subkeys"][name]["secret"].as_str().unwrap().to_owned();
    let live = known["subkeys"]["live"]["id"].as_str().unwrap();
    let admin = async |path: &str| server.admin(Method::GET, path, &Value::Null).await.json();
    let spent = async || {
        let spent = admin(&format!("/api/v1/subkeys/{live}")).await["budgets"][0]["spent_usd"].clone();
        spent.as_str().unwrap().parse::<NanoUsd>().unwrap()
    };
    let first_spent: NanoUsd = known["spent_usd"].as_str().unwrap().parse().unwrap();
    assert_eq!(spent().await, first_spent);
    assert_eq!(server.entries(live).await.len(), 3);

    let answer = server.chat(&secret("live"), &chat("sandbox-mini")).await.unwrap();
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let received = home.sandbox.requests().pop().unwrap();
    let key = format!("Bearer {}", known["provider_key"].as_str().unwrap());
    assert_eq!(received.header("authorization"), Some(key.as_str()));
    for (name, code) in [("revoked", "key_revoked"), ("suspended", "key_suspended")] {
        let refused = server.chat(&secret(name), &chat("sandbox-mini")).await.unwrap();
        assert_eq!(refused.refusal(), (401, code.to_owned()));
    }
    assert!(spent().await > first_spent);
    let over = json!({"model": "sandbox-own", "messages": [], "max_tokens": 100, "n": 128});
    let over = server.chat(&secret("live"), &over).await.unwrap();
    assert_eq!(
        over.refusal(),
        (402, "budget_exceeded".to_owned()),
        "the model's old price and the old cap hold"
    );

    let alarms = admin("/api/v1/alarms").await;
    assert_eq!(alarms["items"], json!([]), "the rows, and the log beside the books");
    let adopted = admin("/api/v1/admin-log?action=vault.adopt").await;
    let signed = adopted["items"][0]["detail"]["rows_signed"].as_u64().unwrap();
    let state = admin("/api/v1/vault").await;
    assert!(signed > 10 && state["terms"][0]["rows_left"].as_u64() >= Some(signed), "{signed} {state}");
    // Signed: what SQL widens is noticed.
    let widen = "UPDATE budgets SET limit_nano = 900000000000000";
    tamper(&home.url, widen).await;
    server.terminate();
    drop(server);
    let server = home.serve().await;
    let refused = server.chat(&secret("live"), &chat("sandbox-mini")).await.unwrap();
    assert_eq!(refused.refusal(), (401, "key_suspended".to_owned()));
}

/// A session that a migration has to wait for.
enum InTheWay {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl InTheWay {
    async fn of(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let mut db = sqlx::sqlite::SqliteConnectOptions::from_str(url).unwrap().connect().await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
            Self::Sqlite(db)
        } else {
            let mut db = sqlx::PgConnection::connect(url).await.unwrap();
            let lock = "BEGIN; LOCK TABLE credential_versions IN ACCESS SHARE MODE";
            sqlx::raw_sql(lock).execute(&mut db).await.unwrap();
            Self::Postgres(db)
        }
    }

    /// Returns once the migration waits: beside its copy (SQLite), or among its statements (PostgreSQL).
    async fn has_stopped_it(&mut self, folder: &Path) {
        const WAITING: &str =
            "SELECT COUNT(*) FROM pg_locks WHERE NOT granted AND relation = CAST($1 AS regclass)";
        for _ in 0..400 {
            let waits = match self {
                Self::Sqlite(_) => {
                    copies(folder).iter().any(|copy| copy.ends_with("bitting.db.before-0002_vault"))
                }
                Self::Postgres(db) => {
                    let waiting = sqlx::query_scalar::<_, i64>(WAITING).bind("credential_versions");
                    waiting.fetch_one(db).await.unwrap() > 0
                }
            };
            if waits {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it was not caught in the middle");
    }

    async fn leaves(self) {
        match self {
            Self::Sqlite(db) => db.close().await.unwrap(),
            Self::Postgres(db) => db.close().await.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_copy_never_takes_the_place_of_another_nor_leaves_a_part() {
    let first = First::sqlite().await;
    let store = first.store().await;
    let before = contents_at(&store, 1).await;
    let folder = first.place.1.path();
    // What a crash left.
    std::fs::write(folder.join("bitting.db.before-0002_vault.partial"), "half of it").unwrap();
    let one = store.copy_aside("0002_vault").await.unwrap().unwrap();
    let bytes = std::fs::read(&one).unwrap();
    let two = store.copy_aside("0002_vault").await.unwrap().unwrap();
    assert_eq!(two, one.with_added_extension("2"));
    assert_eq!((std::fs::read(&one).unwrap(), copies(folder).len()), (bytes, 2));
    let copied = Store::open(&format!("sqlite://{}", two.display())).await.unwrap();
    assert_eq!(contents_at(&copied, 1).await, before);
}

#[tokio::test]
async fn a_copy_of_a_postgres_database_is_left_to_its_operator() {
    let store = TestStore::postgres().await.store;
    assert_eq!(store.copy_aside("0002_vault").await.unwrap(), None);
}
