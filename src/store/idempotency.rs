//! `Idempotency-Key`s: what an operator's request made, so that a repeat makes nothing.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, TimeDelta, Utc};

const TABLE: &str = "idempotency";

/// One use of a key by an operator.
#[derive(Clone, Copy, Debug)]
pub struct KeyUse<'a> {
    /// Whose key it is; keys of different operators never meet.
    pub operator_id: &'a str,
    /// The key.
    pub key: &'a str,
    /// What the request makes.
    pub resource_id: &'a str,
}

/// Claims the key for 24 hours. `Some` names what an earlier request with it made; then nothing is changed.
///
/// Of two callers at once one gets `None`; on PostgreSQL the other waits for its commit.
pub async fn put(
    conn: &mut Conn<'_>,
    used: KeyUse<'_>,
    now: DateTime<Utc>,
) -> Result<Option<String>, StoreError> {
    const CLAIM: &str = "
        INSERT INTO idempotency (operator_id, key, resource_id, created_at) VALUES ($1, $2, $3, $4)
        ON CONFLICT (operator_id, key)
        DO UPDATE SET resource_id = excluded.resource_id, created_at = excluded.created_at
         WHERE idempotency.created_at <= $5";
    const EARLIER: &str = "SELECT resource_id FROM idempotency WHERE operator_id = $1 AND key = $2";
    let expired = micros(now - TimeDelta::hours(24));
    let claimed = on_db!(&mut *conn, |db| {
        let claim = sqlx::query(CLAIM).bind(used.operator_id).bind(used.key).bind(used.resource_id);
        claim.bind(micros(now)).bind(expired).execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))?;
    if claimed {
        return Ok(None);
    }
    on_db!(conn, |db| {
        sqlx::query_scalar(EARLIER).bind(used.operator_id).bind(used.key).fetch_one(db).await.map(Some)
    })
    .map_err(StoreError::of(TABLE))
}
