//! Backup and restore, on and across both databases, and through the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod damage;
mod elsewhere;
mod program;
mod round_trip;

use crate::support::store::TestStore;
use bitting::app::kek::FileKek;
use bitting::base::Clock;
use bitting::service::KekSource;
use bitting::service::backup::{Manifest, RestoreError, back_up, check_backup, restore};
use bitting::store::dump::{self, Cell, TABLES};
use bitting::store::{Conn, Store};
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use tempfile::TempDir;

/// A backup that the first release could have written, had it known how.
const FIRST: &[u8] = include_bytes!("store/first/backup.jsonl");

/// The key of the installation in [`FIRST`].
pub(crate) fn first_kek() -> TestKek {
    TestKek::of("6Ssj5176yGTissbCJQsqceHCDn6UfKbEvVuwfMJPCC4=\n")
}

/// A key file, gone with its folder.
pub(crate) struct TestKek {
    pub(crate) source: FileKek,
    folder: TempDir,
}

impl TestKek {
    fn of(line: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(line.as_bytes()).unwrap();
        Self { source: FileKek::new(path), folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kek")
    }
}

/// Every row of every table, as text that is the same for the same row of either database.
pub(crate) async fn contents_at(store: &Store, schema: i64) -> BTreeMap<&'static str, Vec<String>> {
    let mut snapshot = store.snapshot().await.unwrap();
    let mut tables = BTreeMap::new();
    for table in &TABLES {
        let mut rows = Vec::new();
        let mut each = |row: Vec<Cell>| {
            let text: Vec<String> = row.iter().map(text).collect();
            rows.push(text.join("|"));
            Ok(())
        };
        dump::each_row(&mut snapshot.conn(), table, schema, &mut each).await.unwrap();
        tables.insert(table.name, rows);
    }
    tables
}

fn text(cell: &Cell) -> String {
    match cell {
        Cell::Json(json) => serde_json::from_str::<serde_json::Value>(json.get()).unwrap().to_string(),
        Cell::Null | Cell::Text(_) | Cell::Int(_) | Cell::Bool(_) | Cell::Bytes(_) | Cell::Time(_) => {
            format!("{cell:?}")
        }
    }
}

/// A database without any table.
async fn empty((url, folder): (String, TempDir)) -> TestStore {
    TestStore { store: Store::open(&url).await.unwrap(), url, folder }
}

async fn take(store: &Store, kek: &dyn KekSource) -> (Vec<u8>, Manifest) {
    let mut bytes = Vec::new();
    let done = back_up(store, kek, &Clock::system(), &mut bytes, &mut |_, _| {}).await;
    (bytes, done.unwrap())
}

/// Checks a backup and puts it back, as the program does.
async fn put_back(store: &Store, backup: &[u8], kek: &dyn KekSource) -> Result<(), RestoreError> {
    let scratch = empty(TestStore::empty_sqlite()).await;
    let checked = check_backup(&mut &*backup, &scratch.store, kek, &mut |_, _| {}).await?;
    restore(store, &checked, &mut &*backup, &Clock::system(), &mut |_, _| {}).await
}

/// Runs SQL that both databases understand, in a transaction of its own.
async fn execute(store: &Store, statements: &[String]) {
    let mut tx = store.write().await.unwrap();
    for sql in statements {
        let sql = sqlx::AssertSqlSafe(sql.clone());
        match tx.conn() {
            Conn::Sqlite(db) => drop(sqlx::raw_sql(sql).execute(db).await.unwrap()),
            Conn::Postgres(db) => drop(sqlx::raw_sql(sql).execute(db).await.unwrap()),
        }
    }
    tx.commit().await.unwrap();
}
