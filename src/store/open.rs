//! Opening a database: where it is, and the settings that its promises rest on.
//!
//! Durable means durable on both: WAL with `synchronous = FULL` on SQLite, never `synchronous_commit = off` on
//! PostgreSQL. Errors never repeat the URL, which may hold a password.

use super::{Backend, Store};
use sqlx::Connection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long SQLite waits for another process's lock (a backup, a shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READ_CONNECTIONS_MAX: u32 = 8;
const PG_WRITE_CONNECTIONS_MAX: u32 = 4;

/// Bounds that PostgreSQL keeps for us; the keepalives free a vanished server's lock within half a minute.
const PG_SETTINGS: [(&str, &str); 5] = [
    ("statement_timeout", "30s"),
    ("idle_in_transaction_session_timeout", "60s"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither `sqlite://PATH` nor `postgres://...`.
    #[error("the database URL is not understood; write sqlite://PATH or postgres://USER@HOST/DATABASE")]
    Url,
    /// The folder of the SQLite file is missing or closed to us.
    #[error("the folder of {path} cannot be used: {source}")]
    Folder {
        /// The database's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The SQLite file cannot be made.
    #[error("{path} cannot be created: {source}")]
    Create {
        /// The database's path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The database does not let us in.
    #[error("the database cannot be opened: {0}")]
    Connect(sqlx::Error),
}

impl Store {
    /// Opens the database at `url`. `sqlite://PATH` takes the path literally and makes the file, readable by its owner
    /// only, in a folder that exists. The schema is not touched: see [`Store::schema_state`] and [`Store::migrate`].
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        if let Some(path) = url.strip_prefix("sqlite://") {
            open_sqlite(Path::new(path)).await
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            open_postgres(url).await
        } else {
            Err(OpenError::Url)
        }
    }
}

async fn open_sqlite(path: &Path) -> Result<Store, OpenError> {
    let file_name = path.file_name().ok_or(OpenError::Url)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.canonicalize().map_err(|source| OpenError::Folder { path: path.into(), source })?;
    // Absolute, so that SQLite takes neither `:memory:` nor `file:` for anything but a name.
    let path = folder.join(file_name);
    create_private(&path).map_err(|source| OpenError::Create { path: path.clone(), source })?;

    let options = SqliteConnectOptions::new()
        .filename(&path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("fullfsync", "ON")
        .foreign_keys(true)
        .pragma("trusted_schema", "OFF")
        .pragma("secure_delete", "ON")
        .busy_timeout(BUSY_TIMEOUT);
    let pool = |connections_max| {
        SqlitePoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // After a full disk, SQLite has rolled a transaction back that the library still counts: no other would begin.
            .before_acquire(|db, _| Box::pin(std::future::ready(Ok(!db.is_in_transaction()))))
    };
    let write = pool(1).connect_with(options.clone()).await.map_err(OpenError::Connect)?;
    let read = pool(READ_CONNECTIONS_MAX).connect_with(options.pragma("query_only", "ON")).await;
    Ok(Store(Backend::Sqlite { path, read: read.map_err(OpenError::Connect)?, write }))
}

/// Makes an empty file that only its owner can read, unless there is a file already.
fn create_private(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

async fn open_postgres(url: &str) -> Result<Store, OpenError> {
    let options = PgConnectOptions::from_str(url).map_err(|_| OpenError::Url)?;
    let options = options.application_name("bitting").options(PG_SETTINGS);
    let pool = |connections_max| {
        PgPoolOptions::new()
            .max_connections(connections_max)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(|db, _| Box::pin(commit_durably(db)))
    };
    let write =
        pool(PG_WRITE_CONNECTIONS_MAX).connect_with(options.clone()).await.map_err(OpenError::Connect)?;
    let read_options = options.clone().options([("default_transaction_read_only", "on")]);
    let read = pool(READ_CONNECTIONS_MAX).connect_with(read_options).await.map_err(OpenError::Connect)?;
    Ok(Store(Backend::Postgres { options: Box::new(options), read, write }))
}

/// Overrules a server, database or role whose default is to answer a commit before it is on disk.
pub(super) async fn commit_durably(db: &mut PgConnection) -> Result<(), sqlx::Error> {
    const SQL: &str = "
        SELECT set_config('synchronous_commit', 'on', FALSE)
         WHERE current_setting('synchronous_commit') = 'off'";
    sqlx::query(SQL).execute(db).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::Store;
    use crate::store::TxKind;

    #[tokio::test]
    async fn a_transaction_that_sqlite_ended_by_itself_spoils_no_later_one() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite://{}/db", folder.path().display())).await.unwrap();
        for _ in 0..3 {
            let mut tx = store.write().await.unwrap();
            // As when the disk is full: it is rolled back, and only its commit tells.
            let TxKind::Sqlite(db) = &mut tx.0 else { unreachable!() };
            sqlx::raw_sql("ROLLBACK").execute(&mut **db).await.unwrap();
            assert!(tx.commit().await.is_err());
        }
        store.write().await.unwrap().commit().await.unwrap();
    }
}
