//! The only SQL of the product, for SQLite and PostgreSQL, one text for both.
//!
//! A function here is one statement with a name (and what hangs on the same row: labels, tags); it takes
//! a [`Conn`], and its doc says what `None` means. A race is settled by one conditional statement, never by
//! a look and then a change. Row structs are private and become a domain type in one place; a row that makes
//! no sense is [`StoreError::Corrupt`]. After an error inside a [`Tx`], drop it: PostgreSQL has given it up.
//!
//! What keeps one text true on both databases, checked by running every contract test on both:
//! - Placeholders are `$1, $2`, each bound: a missing bind is silently NULL on SQLite.
//! - `INSERT .. RETURNING`, `ON CONFLICT (k) DO UPDATE SET x = excluded.x`, `(a, b) < ($1, $2)` read alike.
//!   `RETURNING` names columns of the changed table only.
//! - Ids are TEXT, compared by code point (`COLLATE "C"`). Times are TIMESTAMPTZ / TEXT by `DateTime<Utc>`,
//!   whole microseconds because PostgreSQL stores no finer, their text order the order in time; the clock is
//!   bound, SQL never asks for `now()`. JSON is [`sqlx::types::Json`] on JSONB / TEXT, never queried inside.
//! - Money is BIGINT nano-USD. A sum is `CAST(SUM(x) AS BIGINT)`. Arithmetic that could overflow is guarded
//!   by CASE: PostgreSQL would fail and SQLite would go on in floating point.
//! - No `greatest`, `ILIKE`, `= ANY`, `FOR UPDATE`. NULLs sort differently: order what can be NULL in Rust.
//! - A violated constraint is asked for its kind; SQLite does not tell its name.
//! - SQLite writes begin with `BEGIN IMMEDIATE` on a pool of one; PostgreSQL at READ COMMITTED, where an UPDATE
//!   that waited looks at its condition again. Only this file and `writer.rs` begin transactions.
//! - Optional filters go through `query.rs`; a fixed statement is a `const SQL`.
//! - `migrations/sqlite` and `migrations/postgres` hold the same file names.

/// Runs one expression on whichever database the connection belongs to, typed for each.
macro_rules! on_db {
    ($conn:expr, |$db:ident| $body:expr) => {
        match $conn {
            $crate::store::Conn::Sqlite($db) => {
                let $db = &mut **$db;
                $body
            }
            $crate::store::Conn::Postgres($db) => {
                let $db = &mut **$db;
                $body
            }
        }
    };
}

pub mod access_log;
pub mod admin_log;
pub mod admission;
pub mod alarm;
pub mod audit;
pub mod budget;
pub mod budget_alert;
mod copy;
pub mod credential;
pub mod deferred;
pub mod disorder;
pub mod dump;
mod erase;
mod error;
pub mod idempotency;
pub mod keyring;
pub mod lease;
pub mod meta;
pub mod model;
pub mod notice;
pub mod object;
mod open;
pub mod operator;
pub mod project;
pub mod provider;
mod query;
pub mod register;
mod schema;
mod silence;
pub mod subkey;
pub mod term;
pub mod usage;
pub mod window_time;
mod writer;

pub use copy::CopyError;
pub use error::StoreError;
pub use open::OpenError;
pub use query::{Cursor, CursorError, PAGE_MAX, Page};
pub use schema::{MigrateError, SchemaState, migrate_within, migrations};
pub use silence::Patience;
pub use writer::{Writer, WriterError};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool};
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Postgres, Sqlite, Transaction};
use std::fmt;
use std::path::PathBuf;

/// The database, opened. Clones share its pools.
#[derive(Clone)]
pub struct Store(Backend);

#[derive(Clone)]
enum Backend {
    Sqlite { path: PathBuf, read: SqlitePool, write: SqlitePool },
    Postgres { options: Box<PgConnectOptions>, read: PgPool, write: PgPool },
}

/// A connection of either database, lent for statements.
pub enum Conn<'c> {
    /// SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// PostgreSQL.
    Postgres(&'c mut PgConnection),
}

/// A connection for reading; the database refuses changes on it. Each statement sees what was committed before it.
pub struct Read(ReadKind);

enum ReadKind {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

/// A moment of the database: every statement on it sees what was committed before its first one, and nothing later. It
/// holds no writer up.
pub struct Snapshot(SnapshotKind);

enum SnapshotKind {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A transaction that may change things. Dropped without [`Tx::commit`], it changes nothing.
pub struct Tx<'c>(TxKind<'c>);

enum TxKind<'c> {
    Sqlite(Transaction<'c, Sqlite>),
    Postgres(Transaction<'c, Postgres>),
}

/// Takes the write lock at once, so that a transaction that reads first cannot find the database busy later.
const BEGIN_SQLITE: &str = "BEGIN IMMEDIATE";
/// Named, because conditional updates rely on it whatever the server's default is.
const BEGIN_POSTGRES: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// A read transaction of SQLite's WAL sees one moment from its first statement on.
const SNAPSHOT_SQLITE: &str = "BEGIN DEFERRED";
const SNAPSHOT_POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

impl Store {
    /// A connection for reading, within five seconds.
    pub async fn read(&self) -> Result<Read, StoreError> {
        let kind = match &self.0 {
            Backend::Sqlite { read, .. } => read.acquire().await.map(ReadKind::Sqlite),
            Backend::Postgres { read, .. } => read.acquire().await.map(ReadKind::Postgres),
        };
        kind.map(Read).map_err(StoreError::Unavailable)
    }

    /// A moment of the database to read from, within five seconds.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let kind = match &self.0 {
            Backend::Sqlite { read, .. } => read.begin_with(SNAPSHOT_SQLITE).await.map(SnapshotKind::Sqlite),
            Backend::Postgres { read, .. } => {
                read.begin_with(SNAPSHOT_POSTGRES).await.map(SnapshotKind::Postgres)
            }
        };
        kind.map(Snapshot).map_err(StoreError::Unavailable)
    }

    /// Begins a transaction that may change things, within five seconds. On SQLite there is one at a time.
    pub async fn write(&self) -> Result<Tx<'static>, StoreError> {
        let kind = match &self.0 {
            Backend::Sqlite { write, .. } => write.begin_with(BEGIN_SQLITE).await.map(TxKind::Sqlite),
            Backend::Postgres { write, .. } => write.begin_with(BEGIN_POSTGRES).await.map(TxKind::Postgres),
        };
        kind.map(Tx).map_err(StoreError::Unavailable)
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        const SQL: &str = "SELECT 1";
        let mut read = self.read().await?;
        on_db!(&mut read.conn(), |db| sqlx::query(SQL).execute(db).await.map(drop))
            .map_err(StoreError::of("ping"))
    }

    /// `sqlite` or `postgres`.
    pub fn backend(&self) -> &'static str {
        match &self.0 {
            Backend::Sqlite { .. } => "sqlite",
            Backend::Postgres { .. } => "postgres",
        }
    }

    /// Waits for the connections in use and closes all.
    pub async fn close(&self) {
        match &self.0 {
            Backend::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
            Backend::Postgres { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

impl fmt::Debug for Store {
    /// The kind of database only: connection options hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.backend()).finish()
    }
}

impl Read {
    /// Lends the connection to a statement.
    pub fn conn(&mut self) -> Conn<'_> {
        match &mut self.0 {
            ReadKind::Sqlite(db) => Conn::Sqlite(db),
            ReadKind::Postgres(db) => Conn::Postgres(db),
        }
    }
}

impl Snapshot {
    /// Lends the connection to a statement.
    pub fn conn(&mut self) -> Conn<'_> {
        match &mut self.0 {
            SnapshotKind::Sqlite(db) => Conn::Sqlite(db),
            SnapshotKind::Postgres(db) => Conn::Postgres(db),
        }
    }
}

impl Tx<'_> {
    /// Lends the transaction to a statement.
    pub fn conn(&mut self) -> Conn<'_> {
        match &mut self.0 {
            TxKind::Sqlite(db) => Conn::Sqlite(db),
            TxKind::Postgres(db) => Conn::Postgres(db),
        }
    }

    /// Makes the changes durable: they are on disk when this returns `Ok`. After an error it is not known whether they are.
    pub async fn commit(self) -> Result<(), StoreError> {
        let done = match self.0 {
            TxKind::Sqlite(tx) => tx.commit().await,
            TxKind::Postgres(tx) => tx.commit().await,
        };
        done.map_err(StoreError::of("commit"))
    }
}
