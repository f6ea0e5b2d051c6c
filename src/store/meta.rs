//! Facts about the installation: its id and the like as names and texts, and how far everything was counted.

use super::{Conn, StoreError};
use serde::{Deserialize, Serialize};

const TABLE: &str = "meta";

/// The value of `name`.
pub async fn get(conn: &mut Conn<'_>, name: &str) -> Result<Option<String>, StoreError> {
    const SQL: &str = "SELECT value FROM meta WHERE name = $1";
    on_db!(conn, |db| sqlx::query_scalar(SQL).bind(name).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))
}

/// Sets `name` once. Returns the value in force: of two callers at once, both get the first one's.
pub async fn put_if_absent(conn: &mut Conn<'_>, name: &str, value: &str) -> Result<String, StoreError> {
    // An update that changes nothing, because a row that was left alone is not returned.
    const SQL: &str = "
        INSERT INTO meta (name, value) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET name = excluded.name
        RETURNING value";
    on_db!(conn, |db| sqlx::query_scalar(SQL).bind(name).bind(value).fetch_one(db).await)
        .map_err(StoreError::of(TABLE))
}

/// Sets `name`, whatever it was.
pub async fn put(conn: &mut Conn<'_>, name: &str, value: &str) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO meta (name, value) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    on_db!(conn, |db| sqlx::query(SQL).bind(name).bind(value).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// How far a database has come. Of two copies of one database, the one with a lower figure is the older one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Figures {
    /// Restores and quarantines.
    pub epoch: i64,
    /// Changes of rows that grant power.
    pub register_seq: i64,
    /// The last entry of the access log.
    pub access_log_seq: i64,
    /// The last entry of the admin log.
    pub admin_log_seq: i64,
}

/// How far this database has come, as far as it is committed.
pub async fn figures(conn: &mut Conn<'_>) -> Result<Figures, StoreError> {
    const SQL: &str = "
        SELECT COALESCE((SELECT epoch FROM register WHERE id = 1), 0) AS epoch,
               COALESCE((SELECT seq FROM register WHERE id = 1), 0) AS register_seq,
               COALESCE((SELECT MAX(seq) FROM access_log), 0) AS access_log_seq,
               COALESCE((SELECT MAX(seq) FROM admin_log), 0) AS admin_log_seq";
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_one(db).await).map_err(StoreError::of("register"))
}
