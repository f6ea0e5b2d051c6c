//! A fresh, migrated store for a test, on each database.
//!
//! SQLite is a file in a temporary folder. PostgreSQL is a schema of its own in the database that
//! `BITTING_TEST_POSTGRES_URL` names, which is thrown away by whoever made it. Without it the PostgreSQL half fails:
//! a half that is skipped is a half that breaks unseen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bitting::base::Entropy;
use bitting::store::Store;
use sqlx::Connection;
use tempfile::TempDir;

/// A store that nobody else uses, and where it is.
pub(crate) struct TestStore {
    /// The store, migrated.
    pub(crate) store: Store,
    /// Opens it again.
    pub(crate) url: String,
    /// Keeps the SQLite file; gone with it.
    pub(crate) folder: TempDir,
}

impl TestStore {
    /// A fresh SQLite store.
    pub(crate) async fn sqlite() -> Self {
        Self::migrated(Self::empty_sqlite()).await
    }

    /// A fresh PostgreSQL store.
    pub(crate) async fn postgres() -> Self {
        Self::migrated(Self::empty_postgres().await).await
    }

    /// Where a SQLite store could be made.
    pub(crate) fn empty_sqlite() -> (String, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        (format!("sqlite://{}", folder.path().join("bitting.db").display()), folder)
    }

    /// A schema in which a PostgreSQL store could be made.
    #[expect(clippy::disallowed_methods, reason = "tests are told by the environment where PostgreSQL is")]
    pub(crate) async fn empty_postgres() -> (String, TempDir) {
        let base = std::env::var("BITTING_TEST_POSTGRES_URL").expect(
            "BITTING_TEST_POSTGRES_URL is not set: run tests/run, which starts a throw-away PostgreSQL",
        );
        let schema = format!("t_{}", Entropy::new().base62(16)).to_lowercase();
        let mut db =
            sqlx::PgConnection::connect(&base).await.expect("PostgreSQL of BITTING_TEST_POSTGRES_URL");
        let create = sqlx::AssertSqlSafe(format!("CREATE SCHEMA {schema}"));
        sqlx::raw_sql(create).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
        let sign = if base.contains('?') { '&' } else { '?' };
        (format!("{base}{sign}options[search_path]={schema}"), tempfile::tempdir().unwrap())
    }

    async fn migrated((url, folder): (String, TempDir)) -> Self {
        let store = Store::open(&url).await.unwrap();
        store.migrate().await.unwrap();
        Self { store, url, folder }
    }

    /// Runs SQL behind the store's back, on a connection of its own.
    pub(crate) async fn tamper(&self, sql: &str) {
        tamper(&self.url, sql).await;
    }
}

/// Runs SQL in the database at `url`, behind the store's back.
pub(crate) async fn tamper(url: &str, sql: &str) {
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    if url.starts_with("sqlite:") {
        let mut db = sqlx::SqliteConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    } else {
        let mut db = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
        db.close().await.unwrap();
    }
}

/// Somebody who holds the database: nothing of the ledger can be written until he lets go.
pub(crate) enum Locked {
    Sqlite(sqlx::SqliteConnection),
    Postgres(sqlx::PgConnection),
}

impl Locked {
    pub(crate) async fn new(url: &str) -> Self {
        if url.starts_with("sqlite:") {
            let mut db = sqlx::SqliteConnection::connect(url).await.unwrap();
            sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut db).await.unwrap();
            Self::Sqlite(db)
        } else {
            let mut db = sqlx::PgConnection::connect(url).await.unwrap();
            let lock = "BEGIN; LOCK TABLE admissions, access_log, budget_windows IN EXCLUSIVE MODE";
            sqlx::raw_sql(lock).execute(&mut db).await.unwrap();
            Self::Postgres(db)
        }
    }

    pub(crate) async fn release(self) {
        match self {
            Self::Sqlite(db) => db.close().await.unwrap(),
            Self::Postgres(db) => db.close().await.unwrap(),
        }
    }
}

/// Makes of `async fn name(test: TestStore)` two tests, `name::sqlite` and `name::postgres`.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($test:ident: TestStore) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn run($test: $crate::support::store::TestStore) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                Box::pin(run($crate::support::store::TestStore::sqlite().await)).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                Box::pin(run($crate::support::store::TestStore::postgres().await)).await;
            }
        }
    )+};
}
pub(crate) use on_both;
