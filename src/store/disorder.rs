//! Windows whose books do not add up: looked at, blocked, and set right.

use super::budget::{BudgetId, Standing, WindowId};
use super::query::micros;
use super::{Conn, StoreError};
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};

const WINDOWS: &str = "budget_windows";

/// A budget's row and a window's, as they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The cap.
    pub limit: NanoUsd,
    /// Whether the owner has the budget now.
    pub is_active: bool,
    /// What is in the window; `None` when it has no row.
    pub standing: Option<Standing>,
    /// Whether nothing is admitted in it.
    pub is_blocked: bool,
}

#[derive(sqlx::FromRow)]
struct FoundRow {
    limit_nano: i64,
    active: bool,
    posted_nano: Option<i64>,
    held_nano: Option<i64>,
    is_blocked: bool,
}

/// The rows as they are. `None` when there is no such budget.
pub async fn look(
    conn: &mut Conn<'_>,
    budget: &BudgetId,
    start: DateTime<Utc>,
) -> Result<Option<Found>, StoreError> {
    const SQL: &str = "
        SELECT b.limit_nano, b.active, w.posted_nano, w.held_nano, w.blocked IS NOT NULL AS is_blocked
          FROM budgets b LEFT JOIN budget_windows w ON w.budget_id = b.id AND w.window_start = $2
         WHERE b.id = $1";
    let row: Option<FoundRow> = on_db!(conn, |db| {
        sqlx::query_as(SQL).bind(budget.as_str()).bind(micros(start)).fetch_optional(db).await
    })
    .map_err(StoreError::of(WINDOWS))?;
    Ok(row.map(|row| Found {
        limit: NanoUsd::from_nano(row.limit_nano),
        is_active: row.active,
        standing: row.posted_nano.zip(row.held_nano).map(|(posted, held)| Standing {
            posted: NanoUsd::from_nano(posted),
            held: NanoUsd::from_nano(held),
        }),
        is_blocked: row.is_blocked,
    }))
}

/// Admits nothing in the window any more, for a reason that is a word. A window whose row is lost is made anew, so that
/// it can be blocked; without its budget nothing is admitted anyway.
pub async fn block(conn: &mut Conn<'_>, window: &WindowId, reason: &str) -> Result<(), StoreError> {
    const UPDATE: &str = "UPDATE budget_windows SET blocked = $3 WHERE budget_id = $1 AND window_start = $2";
    const INSERT: &str = "
        INSERT INTO budget_windows (budget_id, window_start, blocked)
        SELECT b.id, $2, $3 FROM budgets b WHERE b.id = $1
        ON CONFLICT (budget_id, window_start) DO UPDATE SET blocked = excluded.blocked";
    for sql in [UPDATE, INSERT] {
        let done = on_db!(&mut *conn, |db| {
            let bound = sqlx::query(sql).bind(window.budget.as_str()).bind(micros(window.window_start));
            bound.bind(reason).execute(db).await.map(|done| done.rows_affected())
        })
        .map_err(StoreError::of(WINDOWS))?;
        if done > 0 {
            break;
        }
    }
    Ok(())
}

/// Sets a window right and admits in it again. `false` when there is no such window.
pub async fn repair(conn: &mut Conn<'_>, window: &WindowId, standing: Standing) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE budget_windows SET posted_nano = $3, held_nano = $4, blocked = NULL
         WHERE budget_id = $1 AND window_start = $2";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(window.budget.as_str())
            .bind(micros(window.window_start))
            .bind(standing.posted.as_nano())
            .bind(standing.held.as_nano())
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(WINDOWS))
}

#[derive(sqlx::FromRow)]
struct BlockedRow {
    budget_id: String,
    window_start: DateTime<Utc>,
    posted_nano: i64,
    held_nano: i64,
    blocked: String,
}

/// The blocked windows of a budget, by its id as alarms name it, but for those whose reason begins with `but_for`.
pub async fn blocked_of(
    conn: &mut Conn<'_>,
    budget: &str,
    but_for: &str,
) -> Result<Vec<(WindowId, Standing)>, StoreError> {
    const SQL: &str = "
        SELECT budget_id, window_start, posted_nano, held_nano, blocked FROM budget_windows
         WHERE budget_id = $1 AND blocked IS NOT NULL ORDER BY window_start";
    blocked(conn, SQL, budget, |row| !row.blocked.starts_with(but_for)).await
}

/// The windows that are blocked for a reason.
pub async fn blocked_for(conn: &mut Conn<'_>, reason: &str) -> Result<Vec<(WindowId, Standing)>, StoreError> {
    const SQL: &str = "
        SELECT budget_id, window_start, posted_nano, held_nano, blocked FROM budget_windows
         WHERE blocked = $1 ORDER BY budget_id, window_start";
    blocked(conn, SQL, reason, |_| true).await
}

async fn blocked(
    conn: &mut Conn<'_>,
    sql: &'static str,
    by: &str,
    wanted: impl Fn(&BlockedRow) -> bool,
) -> Result<Vec<(WindowId, Standing)>, StoreError> {
    let rows: Vec<BlockedRow> = on_db!(conn, |db| sqlx::query_as(sql).bind(by).fetch_all(db).await)
        .map_err(StoreError::of(WINDOWS))?;
    let read = |row: BlockedRow| {
        let standing =
            Standing { posted: NanoUsd::from_nano(row.posted_nano), held: NanoUsd::from_nano(row.held_nano) };
        (WindowId { budget: BudgetId(row.budget_id), window_start: row.window_start }, standing)
    };
    Ok(rows.into_iter().filter(wanted).map(read).collect())
}
