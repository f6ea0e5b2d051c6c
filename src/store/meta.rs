//! Facts about the installation, like its id: names and texts.

use super::{Conn, StoreError};

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
