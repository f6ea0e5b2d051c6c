//! A database of the first release, opened by this program.

use crate::backup::{contents_at, first_kek};
use crate::support::store::{TestStore, tamper};
use bitting::service;
use bitting::store::{SchemaState, Store, migrate_within};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;
use tokio::process::Command;

/// Makes a database with the first migration alone, and what the first release wrote into it.
async fn first_release(url: &str) -> Store {
    let store = Store::open(url).await.unwrap();
    let mut tx = store.write().await.unwrap();
    migrate_within(&mut tx.conn(), Some(1)).await.unwrap();
    tx.commit().await.unwrap();
    tamper(url, include_str!("first/rows.sql")).await;
    store
}

async fn migrate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bitting"))
        .arg("migrate")
        .args(arguments)
        .env("BITTING_DATA_DIR", folder)
        .output()
        .await
        .unwrap()
}

#[tokio::test]
async fn a_database_of_the_first_release_is_copied_and_then_migrated_with_everything_in_it() {
    let (url, folder) = TestStore::empty_sqlite();
    let store = first_release(&url).await;
    let before = contents_at(&store, 1).await;
    assert!(before["subkeys"].len() == 2 && before["access_log"].len() >= 2, "{before:?}");

    let plan = migrate(folder.path(), &["--plan"]).await;
    let plan = String::from_utf8(plan.stdout).unwrap();
    assert!(plan.starts_with("-- 0002_vault\n"), "{plan}");
    assert!(plan.contains("CREATE TABLE row_macs") && !plan.contains("CREATE TABLE meta"), "{plan}");
    assert!(matches!(store.schema_state().await.unwrap(), SchemaState::Pending(_)), "a plan changes nothing");

    let done = migrate(folder.path(), &[]).await;
    let said = String::from_utf8(done.stderr).unwrap();
    let copy = folder.path().join("bitting.db.before-0002_vault");
    assert!(done.status.success() && said.contains("bitting.db.before-0002_vault"), "{said}");
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(store.schema_state().await.unwrap(), SchemaState::UpToDate);
    assert_eq!(contents_at(&store, 1).await, before);
    service::open_keyring(&store, &first_kek().source).await.unwrap();

    let copied = Store::open(&format!("sqlite://{}", copy.display())).await.unwrap();
    assert!(matches!(copied.schema_state().await.unwrap(), SchemaState::Pending(_)));
    assert_eq!(contents_at(&copied, 1).await, before);

    // Nothing to change, nothing to copy; and a copy never takes the place of another.
    assert!(migrate(folder.path(), &[]).await.stderr.is_empty());
    let second = store.copy_aside("0002_vault").await.unwrap().unwrap();
    assert_eq!(second, copy.canonicalize().unwrap().with_added_extension("2"));
    assert_eq!(contents_at(&copied, 1).await, before);
}

#[tokio::test]
async fn a_copy_of_a_postgres_database_is_left_to_its_operator() {
    let store = TestStore::postgres().await.store;
    assert_eq!(store.copy_aside("0002_vault").await.unwrap(), None);
}
