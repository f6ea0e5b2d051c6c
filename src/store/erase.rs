//! Erasing what was deleted from the database's files.
//!
//! SQLite overwrites what it deletes (`secure_delete`), but earlier pages stay in the write-ahead log until it is begun
//! anew. PostgreSQL keeps old rows until it reuses their room, and its log for as long as it is told to: none of that is
//! in reach of a client.

use super::{Backend, Store, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::time::Duration;

impl Store {
    /// Empties SQLite's write-ahead log. `false` where somebody reads or writes just now: the log is as it was, and
    /// nobody was held up. On PostgreSQL there is nothing to do.
    pub async fn erase_deleted(&self) -> Result<bool, StoreError> {
        const SQL: &str = "PRAGMA wal_checkpoint(TRUNCATE)";
        let Backend::Sqlite { path, .. } = &self.0 else { return Ok(true) };
        // A connection of its own: the others wait where this one gives up.
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::ZERO);
        let mut db: SqliteConnection =
            options.pragma("fullfsync", "ON").connect().await.map_err(StoreError::Unavailable)?;
        let done: Result<(i64, i64, i64), _> = sqlx::query_as(SQL).fetch_one(&mut db).await;
        let closed = db.close().await;
        let (busy, _, _) = done.map_err(StoreError::of("wal_checkpoint"))?;
        closed.map_err(StoreError::of("wal_checkpoint"))?;
        Ok(busy == 0)
    }
}
