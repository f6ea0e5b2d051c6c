//! What the log's entries add up to, window by window, as far as they were read. The rows are signed elsewhere; here
//! they are only kept.

use super::budget::{BudgetId, WindowId};
use super::query::{micros, page_limit};
use super::{Conn, StoreError, meta};
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

const SUMS: &str = "window_audits";
const PROGRESS: &str = "audit_progress";
/// The name of the base among the facts about the installation.
const BASE: &str = "audit_base";

/// A signature: the term of its key, and the MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The term.
    pub term: i64,
    /// The MAC.
    pub mac: Vec<u8>,
}

/// What the log adds up to for one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sum {
    /// The sum.
    pub audited: NanoUsd,
    /// Over window and sum.
    pub signature: Signature,
}

/// How far the log was read, and what all sums add up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last entry that is counted.
    pub through_seq: i64,
    /// How many windows have a sum.
    pub windows: i64,
    /// The sum of the sums.
    pub total: i128,
    /// Over all of these.
    pub signature: Signature,
}

/// A window beside its sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The window.
    pub window: WindowId,
    /// What its row says was spent; `None` when it has no row.
    pub posted: Option<NanoUsd>,
    /// What the log says.
    pub sum: Option<Sum>,
    /// Why nothing is admitted in it, where that is so.
    pub blocked: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    budget_id: String,
    window_start: DateTime<Utc>,
    posted_nano: Option<i64>,
    blocked: Option<String>,
    audited_nano: Option<i64>,
    term: Option<i64>,
    mac: Option<Vec<u8>>,
}

impl From<Row> for Compared {
    fn from(row: Row) -> Self {
        let signature = row.term.zip(row.mac).map(|(term, mac)| Signature { term, mac });
        Self {
            window: WindowId { budget: BudgetId::stored(row.budget_id), window_start: row.window_start },
            posted: row.posted_nano.map(NanoUsd::from_nano),
            blocked: row.blocked,
            sum: row
                .audited_nano
                .zip(signature)
                .map(|(audited, signature)| Sum { audited: NanoUsd::from_nano(audited), signature }),
        }
    }
}

const EACH_WINDOW: &str = "
    SELECT w.budget_id, w.window_start, w.posted_nano, w.blocked, a.audited_nano, a.term, a.mac
      FROM budget_windows w
      LEFT JOIN window_audits a ON a.budget_id = w.budget_id AND a.window_start = w.window_start
     WHERE (w.budget_id, w.window_start) > ($1, $2)
     ORDER BY w.budget_id, w.window_start LIMIT $3";

const EACH_LOST: &str = "
    SELECT a.budget_id, a.window_start, w.posted_nano, w.blocked, a.audited_nano, a.term, a.mac
      FROM window_audits a
      LEFT JOIN budget_windows w ON w.budget_id = a.budget_id AND w.window_start = a.window_start
     WHERE w.budget_id IS NULL AND (a.budget_id, a.window_start) > ($1, $2)
     ORDER BY a.budget_id, a.window_start LIMIT $3";

/// The next windows after `after`, each beside its sum, at most `limit` (and [`super::PAGE_MAX`]).
pub async fn windows(
    conn: &mut Conn<'_>,
    after: Option<&WindowId>,
    limit: u32,
) -> Result<Vec<Compared>, StoreError> {
    page(conn, EACH_WINDOW, after, limit).await
}

/// The next sums after `after` whose window has no row, at most `limit` (and [`super::PAGE_MAX`]).
pub async fn lost_windows(
    conn: &mut Conn<'_>,
    after: Option<&WindowId>,
    limit: u32,
) -> Result<Vec<Compared>, StoreError> {
    page(conn, EACH_LOST, after, limit).await
}

async fn page(
    conn: &mut Conn<'_>,
    sql: &'static str,
    after: Option<&WindowId>,
    limit: u32,
) -> Result<Vec<Compared>, StoreError> {
    let (budget, start) =
        after.map_or(("", DateTime::UNIX_EPOCH), |after| (after.budget.as_str(), after.window_start));
    let limit = i64::from(page_limit(limit));
    let rows: Vec<Row> = on_db!(conn, |db| {
        sqlx::query_as(sql).bind(budget).bind(micros(start)).bind(limit).fetch_all(db).await
    })
    .map_err(StoreError::of(SUMS))?;
    Ok(rows.into_iter().map(Compared::from).collect())
}

#[derive(sqlx::FromRow)]
struct SumRow {
    audited_nano: i64,
    term: i64,
    mac: Vec<u8>,
}

/// A window's sum.
pub async fn sum(conn: &mut Conn<'_>, window: &WindowId) -> Result<Option<Sum>, StoreError> {
    const SQL: &str =
        "SELECT audited_nano, term, mac FROM window_audits WHERE budget_id = $1 AND window_start = $2";
    let row: Option<SumRow> = on_db!(conn, |db| {
        let asked = sqlx::query_as(SQL).bind(window.budget.as_str()).bind(micros(window.window_start));
        asked.fetch_optional(db).await
    })
    .map_err(StoreError::of(SUMS))?;
    Ok(row.map(|row| Sum {
        audited: NanoUsd::from_nano(row.audited_nano),
        signature: Signature { term: row.term, mac: row.mac },
    }))
}

/// Keeps a window's sum, in place of an earlier one.
pub async fn put_sum(conn: &mut Conn<'_>, window: &WindowId, sum: &Sum) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO window_audits (budget_id, window_start, audited_nano, term, mac) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (budget_id, window_start)
        DO UPDATE SET audited_nano = excluded.audited_nano, term = excluded.term, mac = excluded.mac";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(window.budget.as_str())
            .bind(micros(window.window_start))
            .bind(sum.audited.as_nano())
            .bind(sum.signature.term)
            .bind(&sum.signature.mac)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(SUMS))
}

#[derive(sqlx::FromRow)]
struct ProgressRow {
    through_seq: i64,
    windows: i64,
    total_nano: String,
    term: i64,
    mac: Vec<u8>,
}

/// How far the log was read; `None` when it never was.
pub async fn progress(conn: &mut Conn<'_>) -> Result<Option<Progress>, StoreError> {
    const SQL: &str = "SELECT through_seq, windows, total_nano, term, mac FROM audit_progress WHERE id = 1";
    let row: Option<ProgressRow> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_optional(db).await).map_err(StoreError::of(PROGRESS))?;
    Ok(row.map(|row| Progress {
        through_seq: row.through_seq,
        windows: row.windows,
        // What does not read was never signed.
        total: row.total_nano.parse().unwrap_or(-1),
        signature: Signature { term: row.term, mac: row.mac },
    }))
}

/// Keeps how far the log was read.
pub async fn put_progress(conn: &mut Conn<'_>, progress: &Progress) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO audit_progress (id, through_seq, windows, total_nano, term, mac)
        VALUES (1, $1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE SET through_seq = excluded.through_seq, windows = excluded.windows,
            total_nano = excluded.total_nano, term = excluded.term, mac = excluded.mac";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(progress.through_seq)
            .bind(progress.windows)
            .bind(progress.total.to_string())
            .bind(progress.signature.term)
            .bind(&progress.signature.mac)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(PROGRESS))
}

/// Forgets every sum; the log is read from its beginning then.
pub async fn forget_sums(conn: &mut Conn<'_>) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM window_audits";
    on_db!(conn, |db| sqlx::query(SQL).execute(db).await.map(drop)).map_err(StoreError::of(SUMS))
}

/// Whether there is any sum.
pub async fn has_sums(conn: &mut Conn<'_>) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM window_audits LIMIT 1";
    on_db!(conn, |db| sqlx::query(SQL).fetch_optional(db).await.map(|row| row.is_some()))
        .map_err(StoreError::of(SUMS))
}

/// Sums that were signed in a term before `term`, after a window in their order.
pub async fn sums_before(
    conn: &mut Conn<'_>,
    term: i64,
    after: Option<&WindowId>,
    limit: u32,
) -> Result<Vec<Compared>, StoreError> {
    const SQL: &str = "
        SELECT budget_id, window_start, CAST(NULL AS BIGINT) AS posted_nano, CAST(NULL AS TEXT) AS blocked,
               audited_nano, term, mac
          FROM window_audits
         WHERE (budget_id, window_start) > ($1, $2) AND term < $4
         ORDER BY budget_id, window_start LIMIT $3";
    let (budget, start) =
        after.map_or(("", DateTime::UNIX_EPOCH), |after| (after.budget.as_str(), after.window_start));
    let rows: Vec<Row> = on_db!(conn, |db| {
        let asked = sqlx::query_as(SQL).bind(budget).bind(micros(start)).bind(i64::from(page_limit(limit)));
        asked.bind(term).fetch_all(db).await
    })
    .map_err(StoreError::of(SUMS))?;
    Ok(rows.into_iter().map(Compared::from).collect())
}

/// What counts for each window although no entry of the log tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// The windows and their amounts.
    pub windows: Vec<(WindowId, NanoUsd)>,
    /// Over all of them.
    pub signature: Signature,
}

/// How it is written: a window's budget, its start in microseconds, and the amount.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseDocument {
    windows: Vec<(String, i64, i64)>,
    term: i64,
    mac: String,
}

impl BaseDocument {
    fn read(self) -> Option<Base> {
        let windows = self.windows.into_iter().map(|(budget, start, nano)| {
            let window_start = DateTime::from_timestamp_micros(start)?;
            Some((WindowId { budget: BudgetId::stored(budget), window_start }, NanoUsd::from_nano(nano)))
        });
        let mac = HEXLOWER.decode(self.mac.as_bytes()).ok()?;
        Some(Base { windows: windows.collect::<Option<_>>()?, signature: Signature { term: self.term, mac } })
    }
}

/// The base; `None` when nothing is counted so. One that does not read was never signed, and is returned so.
pub async fn base(conn: &mut Conn<'_>) -> Result<Option<Base>, StoreError> {
    let Some(text) = meta::get(conn, BASE).await? else { return Ok(None) };
    let document: Option<BaseDocument> = serde_json::from_str(&text).ok();
    let unsigned = || Base { windows: Vec::new(), signature: Signature { term: -1, mac: Vec::new() } };
    Ok(Some(document.and_then(BaseDocument::read).unwrap_or_else(unsigned)))
}

/// Keeps the base.
pub async fn put_base(conn: &mut Conn<'_>, base: &Base) -> Result<(), StoreError> {
    let windows = base.windows.iter().map(|(window, amount)| {
        (window.budget.as_str().to_owned(), window.window_start.timestamp_micros(), amount.as_nano())
    });
    let document = BaseDocument {
        windows: windows.collect(),
        term: base.signature.term,
        mac: HEXLOWER.encode(&base.signature.mac),
    };
    let text = serde_json::to_string(&document).map_err(|_| StoreError::corrupt("meta", "value"))?;
    meta::put(conn, BASE, &text).await
}
