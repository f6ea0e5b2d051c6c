//! Sealed keyrings. The store never sees one open.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};

const TABLE: &str = "keyring";

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
