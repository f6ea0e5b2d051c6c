//! Sealed keyrings. The store never sees one open.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;

const TABLE: &str = "keyring";
const WRAPS: &str = "keyring_wraps";

/// The sealed keyring `id`.
pub async fn get(conn: &mut Conn<'_>, id: &str) -> Result<Option<Vec<u8>>, StoreError> {
    const SQL: &str = "SELECT sealed FROM keyring WHERE id = $1";
    on_db!(conn, |db| sqlx::query_scalar(SQL).bind(id).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))
}

/// Keeps the sealed keyring `id`, in place of an earlier one.
pub async fn put(conn: &mut Conn<'_>, id: &str, sealed: &[u8], now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO keyring (id, sealed, updated_at) VALUES ($1, $2, $3)
        ON CONFLICT (id) DO UPDATE SET sealed = excluded.sealed, updated_at = excluded.updated_at";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).bind(sealed).bind(micros(now)).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// Puts another sealed keyring in the place of `old`; `false`, changing nothing, if `old` is not what is there. Until
/// the end of the transaction nobody else replaces it.
pub async fn replace(
    conn: &mut Conn<'_>,
    id: &str,
    old: &[u8],
    sealed: &[u8],
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE keyring SET sealed = $3, updated_at = $4 WHERE id = $1 AND sealed = $2";
    on_db!(conn, |db| {
        let done = sqlx::query(SQL).bind(id).bind(old).bind(sealed).bind(micros(now)).execute(db).await;
        done.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}

/// Forgets the sealed keyring `id`; `false` when there is none.
pub async fn delete(conn: &mut Conn<'_>, id: &str) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM keyring WHERE id = $1";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).execute(db).await.map(|done| done.rows_affected() == 1))
        .map_err(StoreError::of(TABLE))
}

/// The root key under one key-encryption key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrap {
    /// Which key-encryption key, by `Kek::id`.
    pub id: String,
    /// The kind of its source.
    pub source: String,
    /// What the source needs to give the key again; no secret.
    pub kept: Value,
    /// The sealed root.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct WrapRow {
    id: String,
    source: String,
    stored: Json<Value>,
    sealed: Vec<u8>,
    created_at: DateTime<Utc>,
}

/// Every wrapping of the root, oldest first.
pub async fn wraps(conn: &mut Conn<'_>) -> Result<Vec<Wrap>, StoreError> {
    const SQL: &str =
        "SELECT id, source, stored, sealed, created_at FROM keyring_wraps ORDER BY created_at, id";
    let rows: Vec<WrapRow> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(WRAPS))?;
    let wrap = |row: WrapRow| {
        let WrapRow { id, source, stored, sealed, created_at } = row;
        Wrap { id, source, kept: stored.0, sealed, created_at }
    };
    Ok(rows.into_iter().map(wrap).collect())
}

/// Keeps a wrapping, in place of an earlier one under the same key.
pub async fn put_wrap(conn: &mut Conn<'_>, wrap: &Wrap) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO keyring_wraps (id, source, stored, sealed, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE
        SET source = excluded.source, stored = excluded.stored, sealed = excluded.sealed, created_at = excluded.created_at";
    on_db!(conn, |db| {
        let put = sqlx::query(SQL).bind(&wrap.id).bind(&wrap.source).bind(Json(&wrap.kept));
        put.bind(&wrap.sealed).bind(micros(wrap.created_at)).execute(db).await.map(drop)
    })
    .map_err(StoreError::of(WRAPS))
}

/// Forgets a wrapping; `false` when there is none.
pub async fn delete_wrap(conn: &mut Conn<'_>, id: &str) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM keyring_wraps WHERE id = $1";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).execute(db).await.map(|done| done.rows_affected() == 1))
        .map_err(StoreError::of(WRAPS))
}

/// Keeps the sealed keyring `id` if there is none yet; `false`, changing nothing, if there is.
pub async fn put_if_absent(
    conn: &mut Conn<'_>,
    id: &str,
    sealed: &[u8],
    now: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO keyring (id, sealed, updated_at) VALUES ($1, $2, $3)
        ON CONFLICT (id) DO NOTHING";
    on_db!(conn, |db| {
        let done = sqlx::query(SQL).bind(id).bind(sealed).bind(micros(now)).execute(db).await;
        done.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}
