//! The one server at a time that may keep the ledger of a database.
//!
//! SQLite: an exclusive lock on a file beside the database. PostgreSQL: a session's advisory lock, held on the very
//! connection that writes, so that a server that lost the lock has lost the means to write, too. A pooler between
//! that shares sessions would break this; connect to the server itself.

use super::open::commit_durably;
use super::{BEGIN_POSTGRES, BEGIN_SQLITE, Backend, Patience, Store, StoreError, Tx, TxKind};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::SqlitePool;
use sqlx::{ConnectOptions, Connection};
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The first half of the advisory lock's name ("bitt"); the second is the schema.
const LOCK_CLASS: i32 = 0x6269_7474;

/// The right to keep the ledger, held until dropped.
pub struct Writer {
    kind: WriterKind,
    losses: Arc<AtomicU64>,
    patience: Patience,
}

enum WriterKind {
    Sqlite {
        write: SqlitePool,
        _lock: File,
    },
    /// Without a connection between one that was lost and the next.
    Postgres {
        options: Box<PgConnectOptions>,
        db: Option<Box<PgConnection>>,
    },
}

/// Why there is no writer.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// Another server keeps the ledger of this database.
    #[error("another server is using this database")]
    HeldByAnother,
    /// The lock file cannot be opened.
    #[error("the lock file beside the database cannot be opened: {0}")]
    LockFile(io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Takes the right to keep the ledger. There is one for each database.
    pub async fn writer(&self) -> Result<Writer, WriterError> {
        let (kind, patience) = match &self.0 {
            Backend::Sqlite { path, write, .. } => {
                let lock = lock_file(&path.with_added_extension("lock"))?;
                (WriterKind::Sqlite { write: write.clone(), _lock: lock }, Patience::endless())
            }
            Backend::Postgres { options, .. } => {
                let patience = Patience::bounded();
                let db = Box::new(patience.listen(lock_session(options)).await??);
                (WriterKind::Postgres { options: options.clone(), db: Some(db) }, patience)
            }
        };
        Ok(Writer { kind, losses: Arc::default(), patience })
    }
}

impl Writer {
    /// Counts how often the right was lost and taken anew: whoever remembers something compares it.
    pub fn losses(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.losses)
    }

    /// What everything that is done with its connection is to be waited for with.
    pub fn patience(&self) -> Patience {
        self.patience.clone()
    }

    /// Gives the right back, so that whoever asks next has it. Dropped, it comes back too, a moment later.
    pub async fn release(self) -> Result<(), StoreError> {
        const SQL: &str = "SELECT pg_advisory_unlock($1, hashtext(CAST(current_schema() AS TEXT)))";
        match self.kind {
            WriterKind::Sqlite { .. } | WriterKind::Postgres { db: None, .. } => Ok(()),
            WriterKind::Postgres { db: Some(mut db), .. } => {
                let unlocked = sqlx::query(SQL).bind(LOCK_CLASS).execute(&mut *db).await;
                unlocked.map_err(StoreError::Unavailable)?;
                db.close().await.map_err(StoreError::Unavailable)
            }
        }
    }

    /// Begins a transaction. When the connection was lost, or fell silent, it connects and takes the lock again first; meanwhile
    /// another server may have held it, so nothing remembered from before counts.
    pub async fn begin(&mut self) -> Result<Tx<'_>, WriterError> {
        let patience = &self.patience;
        let kind = match &mut self.kind {
            WriterKind::Sqlite { write, .. } => write.begin_with(BEGIN_SQLITE).await.map(TxKind::Sqlite),
            WriterKind::Postgres { options, db } => {
                // One that fell silent is not asked again: an answer of before would be taken for its answer.
                let kept = match db.take().filter(|_| !patience.was_silent()) {
                    Some(mut kept) => patience.listen(kept.ping()).await?.is_ok().then_some(kept),
                    None => None,
                };
                let db = if let Some(kept) = kept {
                    db.insert(kept)
                } else {
                    let new = patience.listen(lock_session(options)).await??;
                    patience.forget_silence();
                    self.losses.fetch_add(1, Ordering::SeqCst);
                    db.insert(Box::new(new))
                };
                patience.listen(db.begin_with(BEGIN_POSTGRES)).await?.map(TxKind::Postgres)
            }
        };
        Ok(Tx(kind.map_err(StoreError::Unavailable)?))
    }
}

fn lock_file(path: &Path) -> Result<File, WriterError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = open.map_err(WriterError::LockFile)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WriterError::HeldByAnother),
        Err(TryLockError::Error(error)) => Err(WriterError::LockFile(error)),
    }
}

async fn lock_session(options: &PgConnectOptions) -> Result<PgConnection, WriterError> {
    const SQL: &str = "SELECT pg_try_advisory_lock($1, hashtext(CAST(current_schema() AS TEXT)))";
    let connect = async {
        let mut db = options.connect().await?;
        commit_durably(&mut db).await?;
        let held: Option<bool> = sqlx::query_scalar(SQL).bind(LOCK_CLASS).fetch_one(&mut db).await?;
        Ok((db, held))
    };
    let (db, held) = connect.await.map_err(StoreError::Unavailable)?;
    if held == Some(true) { Ok(db) } else { Err(WriterError::HeldByAnother) }
}
