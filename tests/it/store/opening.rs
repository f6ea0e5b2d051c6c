//! Opening, migrating, the one writer, and what SQLite was told.

use super::{at, insert, key};
use crate::support::store::{TestStore, on_both, tamper};
use bitting::store::{MigrateError, OpenError, SchemaState, Store, StoreError, WriterError, meta, subkey};
use sqlx::Connection;
use std::os::unix::fs::PermissionsExt;

fn first() -> Vec<String> {
    let names = [
        "0001_first",
        "0002_vault",
        "0003_leases",
        "0004_projects",
        "0005_credential_rates",
        "0006_usage",
        "0007_notices",
        "0008_objects",
        "0009_deferred",
    ];
    names.map(str::to_owned).to_vec()
}

async fn a_schema_is_judged_by_name((url, _folder): (String, tempfile::TempDir)) {
    let store = Store::open(&url).await.unwrap();
    assert_eq!(store.schema_state().await.unwrap(), SchemaState::Pending(first()));
    assert_eq!(store.migrate().await.unwrap(), first());
    assert_eq!(store.schema_state().await.unwrap(), SchemaState::UpToDate);
    assert!(store.migrate().await.unwrap().is_empty());

    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'from the future', TRUE, 'x', 0)";
    let cases = [
        ("UPDATE _sqlx_migrations SET checksum = 'x'", SchemaState::Changed(first())),
        (newer, SchemaState::Newer(vec!["9999_from_the_future".into()])),
        (
            "UPDATE _sqlx_migrations SET success = FALSE WHERE version = 1",
            SchemaState::HalfMigrated(vec!["0001_first".to_owned()]),
        ),
    ];
    for (sql, state) in cases {
        let sql = if url.starts_with("sqlite") { sql.replace("'x'", "X'00'") } else { sql.to_owned() };
        tamper(&url, &sql).await;
        assert_eq!(store.schema_state().await.unwrap(), state);
        let refused = store.migrate().await;
        assert!(matches!(&refused, Err(MigrateError::Refused(same)) if *same == state), "{refused:?}");
    }
}

#[tokio::test]
async fn a_schema_is_judged_by_name_on_sqlite() {
    a_schema_is_judged_by_name(TestStore::empty_sqlite()).await;
}

#[tokio::test]
async fn a_schema_is_judged_by_name_on_postgres() {
    a_schema_is_judged_by_name(TestStore::empty_postgres().await).await;
}

on_both! {
    async fn what_was_committed_is_there_after_reopening_and_nothing_else(test: TestStore) {
        let TestStore { store, url, folder: _folder } = test;
        let key = key("ci", at(0));
        insert(&store, &key).await.unwrap();
        let mut tx = store.write().await.unwrap();
        meta::put(&mut tx.conn(), "dropped", "x").await.unwrap();
        drop(tx);
        store.close().await;
        let closed = store.read().await;
        assert!(matches!(closed, Err(StoreError::Unavailable(_))));

        let store = Store::open(&url).await.unwrap();
        assert_eq!(store.schema_state().await.unwrap(), SchemaState::UpToDate);
        store.ping().await.unwrap();
        let mut read = store.read().await.unwrap();
        assert_eq!(subkey::get(&mut read.conn(), &key.id).await.unwrap(), Some(key));
        assert_eq!(meta::get(&mut read.conn(), "dropped").await.unwrap(), None);
    }

    async fn a_reading_connection_cannot_change_anything(test: TestStore) {
        let mut read = test.store.read().await.unwrap();
        let refused = meta::put(&mut read.conn(), "a", "b").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }

    async fn there_is_one_writer_and_the_next_one_after_it(test: TestStore) {
        let second_store = Store::open(&test.url).await.unwrap();
        let mut writer = test.store.writer().await.unwrap();
        assert!(matches!(second_store.writer().await, Err(WriterError::HeldByAnother)));
        assert!(matches!(test.store.writer().await, Err(WriterError::HeldByAnother)));
        let mut tx = writer.begin().await.unwrap();
        meta::put(&mut tx.conn(), "a", "b").await.unwrap();
        tx.commit().await.unwrap();
        // Others still administrate.
        let mut tx = second_store.write().await.unwrap();
        assert_eq!(meta::get(&mut tx.conn(), "a").await.unwrap().as_deref(), Some("b"));
        tx.commit().await.unwrap();
        drop(writer);
        let mut free = second_store.writer().await;
        // PostgreSQL lets go when it notices that the session is over.
        while matches!(free, Err(WriterError::HeldByAnother)) {
            tokio::task::yield_now().await;
            free = second_store.writer().await;
        }
        free.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_lost_its_connection_takes_the_lock_again_unless_another_has_it() {
    let test = TestStore::postgres().await;
    let mut writer = test.store.writer().await.unwrap();
    let kill = "SELECT pg_terminate_backend(l.pid, 5000) FROM pg_locks l \
                 WHERE l.locktype = 'advisory' AND l.classid = 1651078260 AND l.granted \
                   AND l.objid = CAST(hashtext(current_schema()::text)::bigint & 4294967295 AS oid)";
    test.tamper(kill).await;
    let mut tx = writer.begin().await.unwrap();
    meta::put(&mut tx.conn(), "a", "b").await.unwrap();
    tx.commit().await.unwrap();
    assert!(matches!(test.store.writer().await, Err(WriterError::HeldByAnother)), "the lock is held again");

    test.tamper(kill).await;
    let usurper = test.store.writer().await.unwrap();
    assert!(matches!(writer.begin().await, Err(WriterError::HeldByAnother)));
    drop(usurper);
}

#[tokio::test]
async fn sqlite_is_private_durable_and_keeps_references() {
    let test = TestStore::sqlite().await;
    let file = test.folder.path().join("bitting.db");
    for name in ["bitting.db", "bitting.db-wal", "bitting.db-shm"] {
        let mode = test.folder.path().join(name).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let _writer = test.store.writer().await.unwrap();
    let lock = test.folder.path().join("bitting.db.lock").metadata().unwrap();
    assert_eq!(lock.permissions().mode() & 0o777, 0o600);
    assert!(file.exists());

    let mut read = test.store.read().await.unwrap();
    let mut tx = test.store.write().await.unwrap();
    for conn in [read.conn(), tx.conn()] {
        let bitting::store::Conn::Sqlite(db) = conn else { panic!("not SQLite") };
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *db).await.unwrap();
        assert_eq!(journal, "wal");
        for (pragma, value) in [
            ("PRAGMA synchronous", 2),
            ("PRAGMA foreign_keys", 1),
            ("PRAGMA busy_timeout", 5_000),
            ("PRAGMA trusted_schema", 0),
        ] {
            let number: i64 = sqlx::query_scalar(pragma).fetch_one(&mut *db).await.unwrap();
            assert_eq!(number, value, "{pragma}");
        }
    }
}

/// A role may default to answering commits early; the store does not go along.
#[tokio::test]
async fn postgres_commits_are_durable_whatever_the_default() {
    let (url, _folder) = TestStore::empty_postgres().await;
    let store = Store::open(&format!("{url}&options[synchronous_commit]=off")).await.unwrap();
    store.migrate().await.unwrap();
    let setting = async |conn: bitting::store::Conn<'_>| {
        let bitting::store::Conn::Postgres(db) = conn else { panic!("not PostgreSQL") };
        let text: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(db).await.unwrap();
        text
    };
    assert_eq!(setting(store.write().await.unwrap().conn()).await, "on");
    assert_eq!(setting(store.writer().await.unwrap().begin().await.unwrap().conn()).await, "on");
}

#[tokio::test]
async fn an_error_never_shows_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().display();
    for url in [
        "postgres://user:canary-pw@[broken/db".to_owned(),
        "postgres://user:canary-pw@localhost:99999/db".to_owned(),
        format!("postgres://user:canary-pw@/db?host={socket}&password=canary-pw"),
        "mysql://user:canary-pw@localhost/db".to_owned(),
    ] {
        let error = Store::open(&url).await.unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary-pw"), "{shown}");
    }
    let store = TestStore::sqlite().await.store;
    assert_eq!(format!("{store:?}"), "Store(\"sqlite\")");
}

#[tokio::test]
async fn a_sqlite_url_is_a_path_in_a_folder_that_exists() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}/no/bitting.db", folder.path().display());
    assert!(matches!(Store::open(&missing).await, Err(OpenError::Folder { .. })));
    for url in ["sqlite://", "sqlite:///", "sqlite:bitting.db", "bitting.db", ""] {
        assert!(matches!(Store::open(url).await, Err(OpenError::Url)), "{url}");
    }
    // Taken literally, whatever SQLite would make of it.
    let odd = folder.path().join("a b%20?mode=memory");
    let store = Store::open(&format!("sqlite://{}", odd.display())).await.unwrap();
    store.migrate().await.unwrap();
    assert!(odd.metadata().unwrap().len() > 0);
    drop(store);
    let mut db =
        sqlx::SqliteConnection::connect_with(&sqlx::sqlite::SqliteConnectOptions::new().filename(&odd))
            .await
            .unwrap();
    let tables: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM projects").fetch_one(&mut db).await.unwrap();
    assert_eq!(tables, 1);
}
