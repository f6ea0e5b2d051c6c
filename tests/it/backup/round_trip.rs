//! What goes in comes out: the same rows, whichever database, and all from one moment.

use super::{FIRST, contents_at, empty, execute, first_kek, put_back, take};
use crate::support::store::{TestStore, on_both};
use bitting::base::Clock;
use bitting::service;
use bitting::service::backup::{RestoreError, back_up};
use bitting::store::dump::{self, Cell, Kind, TABLES};
use bitting::store::{SchemaState, Store, migrations};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio_util::sync::CancellationToken;

fn newest() -> i64 {
    migrations().last().unwrap().0
}

/// Puts a row with something in every column into each table that has none.
async fn fill(store: &Store) {
    let contents = contents_at(store, newest()).await;
    let mut tx = store.write().await.unwrap();
    for table in TABLES.iter().filter(|table| contents[table.name].is_empty()) {
        let columns = table.columns_at(newest());
        let value = |kind| match kind {
            Kind::Text => Cell::Text("\u{e9} \"quoted\"\n\t".to_owned()),
            Kind::Int => Cell::Int(1),
            Kind::Bool => Cell::Bool(true),
            Kind::Bytes => Cell::Bytes(vec![0, 10, 255]),
            Kind::Time => Cell::Time("2026-11-22T16:00:00.123456Z".parse().unwrap()),
            Kind::Json => {
                Cell::Json(RawValue::from_string(r#"{"b": [1, null, "é"], "a": {}}"#.into()).unwrap())
            }
        };
        let row = columns.iter().map(|column| value(column.kind)).collect();
        dump::insert(&mut tx.conn(), table, &columns, &[row]).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// From the first release's backup, through one database into another.
async fn comes_out_as_it_went_in(from: TestStore, to: TestStore) {
    let kek = first_kek();
    put_back(&from.store, FIRST, &kek.source).await.unwrap();
    assert_eq!(from.store.schema_state().await.unwrap(), SchemaState::UpToDate);
    fill(&from.store).await;
    let mut before = contents_at(&from.store, newest()).await;
    assert!(before.values().all(|rows| !rows.is_empty()), "{before:?}");

    let (backup, manifest) = take(&from.store, &kek.source).await;
    assert_eq!(manifest.backend, from.store.backend());
    put_back(&to.store, &backup, &kek.source).await.unwrap();
    let mut after = contents_at(&to.store, newest()).await;
    let marked = after.get_mut("admin_log").unwrap().pop().unwrap();
    assert!(marked.contains("backup.restore"), "{marked}");
    let (register, _) = (after.remove("register").unwrap(), before.remove("register").unwrap());
    assert!(register[0].contains("restored from a backup"), "{register:?}");
    assert_eq!(after, before);
    service::open_keyring(&to.store, &kek.source).await.unwrap();

    // New rows are numbered behind the old ones.
    let last = manifest.log_seq;
    let insert = "INSERT INTO access_log (request_id, time, day, project, subkey_id, decision, count, input_tokens, \
        cached_input_tokens, cache_write_tokens, output_tokens, cost_nano, entry) \
        VALUES ('new', '2026-11-22T16:00:00+00:00', '2026-11-22', 'p', 'k', 'denied', 1, 0, 0, 0, 0, 0, '{}')";
    execute(&to.store, &[insert.to_owned()]).await;
    let (_, table) = dump::table("access_log").unwrap();
    let mut read = to.store.read().await.unwrap();
    assert_eq!(dump::last_seq(&mut read.conn(), table, "seq").await.unwrap(), last + 1);
    drop(read);

    let again = put_back(&to.store, &backup, &kek.source).await;
    assert!(matches!(again, Err(RestoreError::AlreadyInstalled)), "{again:?}");
    assert_eq!(contents_at(&to.store, newest()).await["access_log"].len(), before["access_log"].len() + 1);
}

#[tokio::test]
async fn sqlite_comes_out_as_it_went_in() {
    comes_out_as_it_went_in(empty(TestStore::empty_sqlite()).await, empty(TestStore::empty_sqlite()).await)
        .await;
}

#[tokio::test]
async fn postgres_comes_out_as_it_went_in() {
    let (from, to) = (TestStore::empty_postgres().await, TestStore::empty_postgres().await);
    comes_out_as_it_went_in(empty(from).await, empty(to).await).await;
}

#[tokio::test]
async fn sqlite_goes_into_postgres() {
    let to = TestStore::empty_postgres().await;
    comes_out_as_it_went_in(empty(TestStore::empty_sqlite()).await, empty(to).await).await;
}

#[tokio::test]
async fn postgres_goes_into_sqlite() {
    let from = TestStore::empty_postgres().await;
    comes_out_as_it_went_in(empty(from).await, empty(TestStore::empty_sqlite()).await).await;
}

/// Writes transactions that hold together until stopped, and counts them.
async fn keep_writing(store: Store, stop: CancellationToken, written: &AtomicU64) {
    const AT: &str = "'2026-11-22T16:00:00+00:00'";
    while !stop.is_cancelled() {
        let n = written.load(Ordering::SeqCst);
        let transaction = [
            format!(
                "INSERT INTO subkeys (id, project, name, version, state, definition, created_at, created_by) \
                 VALUES ('k{n}', 'default', 'n{n}', 1, 'active', '{{}}', {AT}, 'op')"
            ),
            format!(
                "INSERT INTO admissions (request_id, node, admitted_at, subkey_id, holds, entry) \
                 VALUES ('r{n}', 'node', {AT}, 'k{n}', '[]', '{{}}')"
            ),
            "UPDATE budget_windows SET posted_nano = posted_nano + 1 WHERE budget_id = 'audited'".to_owned(),
            format!(
                "INSERT INTO access_log (request_id, time, day, project, subkey_id, decision, count, \
                 input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano, entry) VALUES \
                 ('a{n}', {AT}, '2026-11-22', 'p', 'k{n}', 'audited', 1, 0, 0, 0, 0, 1, '{{}}')"
            ),
        ];
        execute(&store, &transaction).await;
        written.fetch_add(1, Ordering::SeqCst);
    }
}

on_both! {
    async fn a_backup_beside_a_writer_is_from_one_moment_and_holds_nobody_up(test: TestStore) {
        static WRITTEN: [AtomicU64; 2] = [AtomicU64::new(0), AtomicU64::new(0)];
        let written = &WRITTEN[usize::from(test.store.backend() == "sqlite")];
        let (kek, entropy) = (first_kek(), bitting::base::Entropy::new());
        service::install(&test.store, &kek.source, &Clock::system(), &entropy).await.unwrap();
        let yes = if test.store.backend() == "sqlite" { "1" } else { "TRUE" };
        execute(&test.store, &[
            format!("INSERT INTO budgets (id, owner, win, limit_nano, timezone, active) \
                     VALUES ('audited', 'o', 'total', 1, 'UTC', {yes})"),
            "INSERT INTO budget_windows (budget_id, window_start) \
             VALUES ('audited', '2026-11-22T16:00:00+00:00')".to_owned(),
        ]).await;
        let stop = CancellationToken::new();
        let writer = tokio::spawn(keep_writing(test.store.clone(), stop.clone(), written));
        while written.load(Ordering::SeqCst) < 5 {
            tokio::task::yield_now().await;
        }
        // In the middle of the backup, the writer goes on before the backup does.
        let mut waited = BTreeSet::new();
        let mut progress = |table: &'static str, _| {
            if waited.insert(table) {
                let seen = written.load(Ordering::SeqCst);
                while written.load(Ordering::SeqCst) < seen + 2 {
                    std::thread::yield_now();
                }
            }
        };
        let mut backup = Vec::new();
        back_up(&test.store, &kek.source, &Clock::system(), &mut backup, &mut progress).await.unwrap();
        stop.cancel();
        writer.await.unwrap();

        let (mut keys, mut admissions, mut posted, mut logged) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
        for line in String::from_utf8(backup.clone()).unwrap().lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |at: usize| line["r"][at].as_str().unwrap_or_default().to_owned();
            match line["t"].as_str() {
                Some("subkeys") => _ = keys.insert(text(0)),
                Some("admissions") => _ = admissions.insert(text(3)),
                Some("budget_windows") => posted = line["r"][2].as_i64().unwrap(),
                Some("access_log") => logged += line["r"][17].as_i64().unwrap(),
                _ => {}
            }
        }
        assert!(posted >= 5 && posted == logged, "{posted} posted, {logged} in the log");
        assert_eq!(keys, admissions);
        assert_eq!(i64::try_from(keys.len()).unwrap(), posted);
        let target = empty(TestStore::empty_sqlite()).await;
        put_back(&target.store, &backup, &kek.source).await.unwrap();
    }
}
