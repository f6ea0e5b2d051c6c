//! The access log: one row for each entry. The row's columns are for filters and sums; the entry itself is the truth.
//!
//! Rows are appended and never changed here. `seq` is the order of appending; with one writer, reading on from a `seq`
//! misses nothing. Lists are by the request's time, which a long request's entry reaches late.

use super::budget::{BudgetId, WindowId};
use super::query::{Pieces, micros, page_limit};
use super::{Conn, Cursor, Page, StoreError};
use crate::base::{NanoUsd, signed};
use crate::log::{Decision, Entry, Filter, Rollup, Sums};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

const TABLE: &str = "access_log";

/// An entry and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEntry {
    /// Its place in the order of appending.
    pub seq: i64,
    /// The entry.
    pub entry: Entry,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    entry: Json<Entry>,
}

impl From<Row> for LoggedEntry {
    fn from(row: Row) -> Self {
        Self { seq: row.seq, entry: row.entry.0 }
    }
}

/// What of an entry's cost was posted to a window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// The budget.
    pub budget: BudgetId,
    /// When its window began.
    pub window_start: DateTime<Utc>,
    /// How much, negative in a correction; `None` for all of it.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "signed::deserialize_some")]
    pub amount_usd: Option<NanoUsd>,
}

impl Posting {
    /// All of the cost, to this window.
    pub fn all(window: WindowId) -> Self {
        Self { budget: window.budget, window_start: window.window_start, amount_usd: None }
    }

    /// The window.
    pub fn window(self) -> WindowId {
        WindowId { budget: self.budget, window_start: self.window_start }
    }
}

/// Appends the entry, with the windows that its cost was posted to, and returns its `seq`. `None`, changing nothing, if
/// the request has an entry already: there is exactly one, however often its end is told.
///
/// What it adds to the sums of usage goes into `rollup`, which [`super::usage::add`] writes in the same transaction.
pub async fn append(
    conn: &mut Conn<'_>,
    rollup: &mut Rollup,
    entry: &Entry,
    postings: &[Posting],
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        INSERT INTO access_log (request_id, time, day, project, subkey_id, provider, model, decision, status,
                                client_ip, count, input_tokens, cached_input_tokens, cache_write_tokens,
                                output_tokens, cost_nano, entry, postings)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        ON CONFLICT (request_id) DO NOTHING
        RETURNING seq";
    const TAG: &str = "INSERT INTO access_tags (seq, name, value) VALUES ($1, $2, $3)";
    let sums = Sums::of(entry);
    let seq: Option<i64> = on_db!(&mut *conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(&entry.request_id)
            .bind(micros(entry.time))
            .bind(entry.time.date_naive().to_string())
            .bind(&entry.project)
            .bind(&entry.subkey_id)
            .bind(&entry.provider)
            .bind(&entry.model)
            .bind(entry.decision.as_str())
            .bind(entry.status.map(i64::from))
            .bind(&entry.client_ip)
            .bind(sums.requests)
            .bind(sums.input_tokens)
            .bind(sums.cached_input_tokens)
            .bind(sums.cache_write_tokens)
            .bind(sums.output_tokens)
            .bind(sums.cost.as_nano())
            .bind(Json(entry))
            .bind((!postings.is_empty()).then_some(Json(postings)))
            .fetch_optional(db)
            .await
    })
    .map_err(StoreError::of(TABLE))?;
    if let Some(seq) = seq {
        rollup.add(entry);
        for (name, value) in &entry.tags {
            on_db!(&mut *conn, |db| sqlx::query(TAG)
                .bind(seq)
                .bind(name)
                .bind(value)
                .execute(db)
                .await
                .map(drop))
            .map_err(StoreError::of("access_tags"))?;
        }
    }
    Ok(seq)
}

/// The entry of a request, if there is one.
pub async fn get(conn: &mut Conn<'_>, request_id: &str) -> Result<Option<LoggedEntry>, StoreError> {
    const SQL: &str = "SELECT seq, entry FROM access_log WHERE request_id = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(request_id).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    Ok(row.map(LoggedEntry::from))
}

#[derive(sqlx::FromRow)]
struct ChargedRow {
    entry: Json<Entry>,
    postings: Option<Json<Vec<Posting>>>,
}

impl ChargedRow {
    fn read(self) -> (Entry, Vec<Posting>) {
        (self.entry.0, self.postings.map(|postings| postings.0).unwrap_or_default())
    }
}

/// The entry of a request with the windows that its cost was posted to, if there is one.
pub async fn charged(
    conn: &mut Conn<'_>,
    request_id: &str,
) -> Result<Option<(Entry, Vec<Posting>)>, StoreError> {
    const SQL: &str = "SELECT entry, postings FROM access_log WHERE request_id = $1";
    let row: Option<ChargedRow> =
        on_db!(conn, |db| sqlx::query_as(SQL).bind(request_id).fetch_optional(db).await)
            .map_err(StoreError::of(TABLE))?;
    Ok(row.map(ChargedRow::read))
}

/// The entries of one moment with the windows that their cost was posted to: a crash's charges and what was taken back of
/// them bear the same time.
pub async fn charged_at(
    conn: &mut Conn<'_>,
    time: DateTime<Utc>,
) -> Result<Vec<(Entry, Vec<Posting>)>, StoreError> {
    const SQL: &str = "SELECT entry, postings FROM access_log WHERE time = $1 ORDER BY seq";
    let rows: Vec<ChargedRow> = on_db!(conn, |db| sqlx::query_as(SQL).bind(micros(time)).fetch_all(db).await)
        .map_err(StoreError::of(TABLE))?;
    Ok(rows.into_iter().map(ChargedRow::read).collect())
}

/// The entries that fit `filter`, newest first, from `after` on, at most `limit` (and [`super::PAGE_MAX`]).
pub async fn page(
    conn: &mut Conn<'_>,
    filter: &Filter,
    after: Option<&Cursor<i64>>,
    limit: u32,
) -> Result<Page<LoggedEntry, i64>, StoreError> {
    let limit = page_limit(limit);
    let mut sql = Pieces::default();
    sql.sql("SELECT l.seq, l.entry FROM access_log l WHERE 1 = 1").append(conditions(filter));
    if let Some(after) = after {
        sql.sql(" AND (l.time, l.seq) < (").value(after.at).sql(", ").value(after.key).sql(")");
    }
    sql.sql(" ORDER BY l.time DESC, l.seq DESC LIMIT ").value(i64::from(limit) + 1);
    let entries = fetch(conn, &sql).await?;
    Ok(Page::of(entries, limit, |logged| Cursor { at: micros(logged.entry.time), key: logged.seq }))
}

/// The next entries that fit `filter` in the order of appending, after `after_seq` (0 at first), at most `limit` (and
/// [`super::PAGE_MAX`]). Fewer than asked for means that there are no more yet.
pub async fn export(
    conn: &mut Conn<'_>,
    filter: &Filter,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<LoggedEntry>, StoreError> {
    let mut sql = Pieces::default();
    sql.sql("SELECT l.seq, l.entry FROM access_log l WHERE l.seq > ")
        .value(after_seq)
        .append(conditions(filter));
    sql.sql(" ORDER BY l.seq LIMIT ").value(i64::from(page_limit(limit)));
    fetch(conn, &sql).await
}

/// An entry as the books see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posted {
    /// Its place.
    pub seq: i64,
    /// What it cost, by the entry itself.
    pub cost: NanoUsd,
    /// The windows that this was posted to.
    pub postings: Vec<Posting>,
}

#[derive(sqlx::FromRow)]
struct PostedRow {
    seq: i64,
    entry: Option<Json<Cost>>,
    postings: Option<Json<Vec<Posting>>>,
}

#[derive(Deserialize)]
struct Cost {
    #[serde(deserialize_with = "signed::deserialize")]
    cost_usd: NanoUsd,
}

/// The next entries after `after_seq` as the books see them, in the order of appending, at most `limit` (and
/// [`super::PAGE_MAX`]). Fewer than asked for means that there are no more yet.
pub async fn posted_after(
    conn: &mut Conn<'_>,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<Posted>, StoreError> {
    const SQL: &str = "
        SELECT seq, CASE WHEN postings IS NULL THEN NULL ELSE entry END AS entry, postings
          FROM access_log WHERE seq > $1 ORDER BY seq LIMIT $2";
    let limit = i64::from(page_limit(limit));
    let rows: Vec<PostedRow> =
        on_db!(conn, |db| sqlx::query_as(SQL).bind(after_seq).bind(limit).fetch_all(db).await)
            .map_err(StoreError::of(TABLE))?;
    let read = |row: PostedRow| Posted {
        seq: row.seq,
        cost: row.entry.map_or(NanoUsd::ZERO, |entry| entry.0.cost_usd),
        postings: row.postings.map(|postings| postings.0).unwrap_or_default(),
    };
    Ok(rows.into_iter().map(read).collect())
}

/// The place of the newest entry; 0 when there is none.
pub async fn last_seq(conn: &mut Conn<'_>) -> Result<i64, StoreError> {
    const SQL: &str = "SELECT COALESCE(MAX(seq), 0) FROM access_log";
    on_db!(conn, |db| sqlx::query_scalar(SQL).fetch_one(db).await).map_err(StoreError::of(TABLE))
}

/// Whether any entry of an answered request names windows. What a crash left open was not answered.
pub async fn has_settlements(conn: &mut Conn<'_>) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM access_log WHERE postings IS NOT NULL AND status IS NOT NULL LIMIT 1";
    on_db!(conn, |db| sqlx::query(SQL).fetch_optional(db).await.map(|row| row.is_some()))
        .map_err(StoreError::of(TABLE))
}

async fn fetch(conn: &mut Conn<'_>, sql: &Pieces) -> Result<Vec<LoggedEntry>, StoreError> {
    let rows: Vec<Row> =
        on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    Ok(rows.into_iter().map(LoggedEntry::from).collect())
}

/// The conditions of `filter` on the log as `l`, each with an AND before it.
pub(super) fn conditions(filter: &Filter) -> Pieces {
    let mut sql = Pieces::default();
    sql.when(" AND l.time >= ", filter.from);
    sql.when(" AND l.time < ", filter.to);
    sql.when(" AND l.project = ", filter.project.as_deref());
    sql.among(" AND l.project", filter.within.as_deref());
    sql.when(" AND l.subkey_id = ", filter.subkey.as_deref());
    sql.when(" AND l.provider = ", filter.provider.as_deref());
    sql.when(" AND l.model = ", filter.model.as_deref());
    sql.when(" AND l.status = ", filter.status.map(i64::from));
    sql.when(" AND l.request_id = ", filter.request_id.as_deref());
    sql.when(" AND l.client_ip = ", filter.client_ip.as_deref());
    // Literals, so that the index of refusals is seen to fit.
    match filter.decision {
        Some(Decision::Denied) => sql.sql(" AND l.decision = 'denied'"),
        Some(Decision::Allowed) => sql.sql(" AND l.decision = 'allowed'"),
        None => &mut sql,
    };
    sql
}
