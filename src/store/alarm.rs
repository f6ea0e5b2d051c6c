//! Alarms: one open row for each kind and subject; a repeat is counted on it.

use super::query::{Pieces, micros, page_limit};
use super::{Conn, Cursor, Page, StoreError};
use crate::log::AlarmKind;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::types::Json;

const TABLE: &str = "alarms";

/// An alarm as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmRecord {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub kind: AlarmKind,
    /// What exactly: an id, by the kind.
    pub subject: String,
    /// What was known when it was opened.
    pub detail: Value,
    /// How often it was raised while it was open.
    pub count: i64,
    /// When it was raised first.
    pub opened_at: DateTime<Utc>,
    /// When it was raised last.
    pub last_seen_at: DateTime<Utc>,
    /// How it ended; `None` while it is open.
    pub closed: Option<Closing>,
}

/// How an alarm ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// When.
    pub at: DateTime<Utc>,
    /// By whom.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// Which alarms a reader wants; every part given must match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AlarmFilter {
    /// Open ones, or closed ones.
    pub is_open: Option<bool>,
    /// Of this kind.
    pub kind: Option<AlarmKind>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    kind: String,
    subject: String,
    detail: Json<Value>,
    count: i64,
    opened_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    closed_by: Option<String>,
    reason: Option<String>,
}

impl TryFrom<Row> for AlarmRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            kind: AlarmKind::parse(&row.kind).ok_or_else(|| StoreError::corrupt(TABLE, "kind"))?,
            id: row.id,
            subject: row.subject,
            detail: row.detail.0,
            count: row.count,
            opened_at: row.opened_at,
            last_seen_at: row.last_seen_at,
            closed: row.closed_at.map(|at| Closing {
                at,
                by: row.closed_by.unwrap_or_default(),
                reason: row.reason.unwrap_or_default(),
            }),
        })
    }
}

/// Opens the alarm, or counts it on the one that is open. `true` when it was opened.
pub async fn raise(conn: &mut Conn<'_>, alarm: &AlarmRecord) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO alarms (id, kind, subject, detail, count, opened_at, last_seen_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (kind, subject) WHERE closed_at IS NULL
        DO UPDATE SET count = alarms.count + excluded.count, last_seen_at = excluded.last_seen_at
        RETURNING id";
    let id: String = on_db!(conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(&alarm.id)
            .bind(alarm.kind.as_str())
            .bind(&alarm.subject)
            .bind(Json(&alarm.detail))
            .bind(alarm.count)
            .bind(micros(alarm.opened_at))
            .bind(micros(alarm.last_seen_at))
            .fetch_one(db)
            .await
    })
    .map_err(StoreError::of(TABLE))?;
    Ok(id == alarm.id)
}

/// Whether an alarm of this kind is open about this subject.
pub async fn is_open(conn: &mut Conn<'_>, kind: AlarmKind, subject: &str) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM alarms WHERE kind = $1 AND subject = $2 AND closed_at IS NULL";
    on_db!(conn, |db| {
        sqlx::query(SQL).bind(kind.as_str()).bind(subject).fetch_optional(db).await.map(|row| row.is_some())
    })
    .map_err(StoreError::of(TABLE))
}

/// The alarm of this id.
pub async fn get(conn: &mut Conn<'_>, id: &str) -> Result<Option<AlarmRecord>, StoreError> {
    const SQL: &str = "
        SELECT id, kind, subject, detail, count, opened_at, last_seen_at, closed_at, closed_by, reason
          FROM alarms WHERE id = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(id).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    row.map(AlarmRecord::try_from).transpose()
}

/// Closes the alarm and returns it. `None`, changing nothing, when there is no such alarm or it is closed.
pub async fn close(
    conn: &mut Conn<'_>,
    id: &str,
    closing: &Closing,
) -> Result<Option<AlarmRecord>, StoreError> {
    const SQL: &str = "
        UPDATE alarms SET closed_at = $2, closed_by = $3, reason = $4 WHERE id = $1 AND closed_at IS NULL
        RETURNING id, kind, subject, detail, count, opened_at, last_seen_at, closed_at, closed_by, reason";
    let row: Option<Row> = on_db!(conn, |db| {
        sqlx::query_as(SQL)
            .bind(id)
            .bind(micros(closing.at))
            .bind(&closing.by)
            .bind(&closing.reason)
            .fetch_optional(db)
            .await
    })
    .map_err(StoreError::of(TABLE))?;
    row.map(AlarmRecord::try_from).transpose()
}

/// The alarms that fit `filter`, newest first, from `after` on, at most `limit` (and [`super::PAGE_MAX`]).
pub async fn page(
    conn: &mut Conn<'_>,
    filter: AlarmFilter,
    after: Option<&Cursor<String>>,
    limit: u32,
) -> Result<Page<AlarmRecord, String>, StoreError> {
    let limit = page_limit(limit);
    let mut sql = Pieces::default();
    sql.sql(
        "SELECT id, kind, subject, detail, count, opened_at, last_seen_at, closed_at, closed_by, reason
           FROM alarms WHERE 1 = 1",
    );
    match filter.is_open {
        Some(true) => sql.sql(" AND closed_at IS NULL"),
        Some(false) => sql.sql(" AND closed_at IS NOT NULL"),
        None => &mut sql,
    };
    sql.when(" AND kind = ", filter.kind.map(AlarmKind::as_str));
    if let Some(after) = after {
        sql.sql(" AND (opened_at, id) < (").value(after.at).sql(", ").value(after.key.as_str()).sql(")");
    }
    sql.sql(" ORDER BY opened_at DESC, id DESC LIMIT ").value(i64::from(limit) + 1);
    let rows: Vec<Row> =
        on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    let alarms = rows.into_iter().map(AlarmRecord::try_from).collect::<Result<_, _>>()?;
    Ok(Page::of(alarms, limit, |alarm: &AlarmRecord| Cursor { at: alarm.opened_at, key: alarm.id.clone() }))
}
