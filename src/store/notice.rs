//! Notices: what the webhook is told. A notice waits until it is delivered or given up, and is forgotten after a while.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};

const TABLE: &str = "notices";

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct NoticeRecord {
    /// Its id, the same at each attempt.
    pub id: String,
    /// The event's type.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// What is sent, in the very bytes.
    pub body: String,
    /// When it happened.
    pub created_at: DateTime<Utc>,
    /// How often it was sent in vain.
    pub attempts: i64,
}

/// How the outbox stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoticesState {
    /// How many wait.
    pub waiting: i64,
    /// How many were given up, and are not forgotten yet.
    pub failed: i64,
    /// The oldest that waits: since when, and what its last attempt came to.
    pub oldest: Option<(DateTime<Utc>, Option<String>)>,
}

/// Puts a notice in, to be sent at once.
pub async fn insert(conn: &mut Conn<'_>, notice: &NoticeRecord) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO notices (id, kind, subject, body, created_at, attempts, next_try_at)
        VALUES ($1, $2, $3, $4, $5, $6, $5)";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&notice.id)
            .bind(&notice.kind)
            .bind(&notice.subject)
            .bind(&notice.body)
            .bind(micros(notice.created_at))
            .bind(notice.attempts)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// Those that are to be sent by now, the longest due first, at most `limit`.
pub async fn due(
    conn: &mut Conn<'_>,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<Vec<NoticeRecord>, StoreError> {
    const SQL: &str = "
        SELECT id, kind, subject, body, created_at, attempts FROM notices
         WHERE delivered_at IS NULL AND failed_at IS NULL AND next_try_at <= $1
         ORDER BY next_try_at, id LIMIT $2";
    on_db!(conn, |db| sqlx::query_as(SQL).bind(micros(now)).bind(i64::from(limit)).fetch_all(db).await)
        .map_err(StoreError::of(TABLE))
}

/// How many wait.
pub async fn waiting(conn: &mut Conn<'_>) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM notices WHERE delivered_at IS NULL AND failed_at IS NULL";
    on_db!(conn, |db| sqlx::query_scalar(SQL).fetch_one(db).await).map_err(StoreError::of(TABLE))
}

/// How the outbox stands.
pub async fn state(conn: &mut Conn<'_>) -> Result<NoticesState, StoreError> {
    const FAILED: &str = "SELECT COUNT(*) FROM notices WHERE failed_at IS NOT NULL";
    const OLDEST: &str = "
        SELECT created_at, last_error FROM notices WHERE delivered_at IS NULL AND failed_at IS NULL
         ORDER BY created_at, id LIMIT 1";
    let waiting = waiting(conn).await?;
    let failed = on_db!(&mut *conn, |db| sqlx::query_scalar(FAILED).fetch_one(db).await)
        .map_err(StoreError::of(TABLE))?;
    let oldest =
        on_db!(conn, |db| sqlx::query_as(OLDEST).fetch_optional(db).await).map_err(StoreError::of(TABLE))?;
    Ok(NoticesState { waiting, failed, oldest })
}

/// It was taken.
pub async fn deliver(conn: &mut Conn<'_>, id: &str, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE notices SET delivered_at = $2, attempts = attempts + 1, last_error = NULL
         WHERE id = $1 AND delivered_at IS NULL";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).bind(micros(now)).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// It was sent in vain, and is sent again at `next`.
pub async fn postpone(
    conn: &mut Conn<'_>,
    id: &str,
    next: DateTime<Utc>,
    error: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE notices SET next_try_at = $2, attempts = attempts + 1, last_error = $3
         WHERE id = $1 AND delivered_at IS NULL AND failed_at IS NULL";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).bind(micros(next)).bind(error).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// It was sent in vain, and is not sent again.
pub async fn give_up(
    conn: &mut Conn<'_>,
    id: &str,
    now: DateTime<Utc>,
    error: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE notices SET failed_at = $2, attempts = attempts + 1, last_error = $3
         WHERE id = $1 AND delivered_at IS NULL AND failed_at IS NULL";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).bind(micros(now)).bind(error).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// All that wait are to be sent at `now`, not later.
pub async fn hasten(conn: &mut Conn<'_>, now: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE notices SET next_try_at = $1
         WHERE delivered_at IS NULL AND failed_at IS NULL AND next_try_at > $1";
    on_db!(conn, |db| sqlx::query(SQL).bind(micros(now)).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// Drops the oldest `count` that wait; returns how many that were.
pub async fn drop_oldest(conn: &mut Conn<'_>, count: i64) -> Result<u64, StoreError> {
    const SQL: &str = "
        DELETE FROM notices WHERE id IN (
            SELECT id FROM notices WHERE delivered_at IS NULL AND failed_at IS NULL
             ORDER BY created_at, id LIMIT $1)";
    on_db!(conn, |db| sqlx::query(SQL).bind(count).execute(db).await.map(|done| done.rows_affected()))
        .map_err(StoreError::of(TABLE))
}

/// Forgets what was delivered, and what was given up, before these moments.
pub async fn forget(
    conn: &mut Conn<'_>,
    delivered_before: DateTime<Utc>,
    failed_before: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM notices WHERE delivered_at < $1 OR failed_at < $2";
    on_db!(conn, |db| {
        let bound = sqlx::query(SQL).bind(micros(delivered_before)).bind(micros(failed_before));
        bound.execute(db).await.map(drop)
    })
    .map_err(StoreError::of(TABLE))
}
