//! Alerts of budgets: which budgets have any, and which were told of. A share of a cap is told of once for each window,
//! by one conditional INSERT in the transaction of what is posted.

use super::budget::{BudgetId, WindowId};
use super::query::{Pieces, micros};
use super::{Conn, StoreError};
use crate::base::NanoUsd;
use crate::budget::{Share, Window};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use sqlx::types::Json;

const TABLE: &str = "budget_alerts";
const BUDGETS: &str = "budgets";
const WINDOWS: &str = "budget_windows";

/// A budget that alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertingBudget {
    /// The budget.
    pub id: BudgetId,
    /// How long the amount lasts.
    pub window: Window,
    /// Whose midnight it follows.
    pub timezone: Tz,
    /// The cap.
    pub limit: NanoUsd,
    /// At which shares of it.
    pub alert_at: Vec<Share>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    win: String,
    timezone: String,
    limit_nano: i64,
    alert_at: Json<Vec<Share>>,
}

impl TryFrom<Row> for AlertingBudget {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: BudgetId::stored(row.id),
            window: Window::parse(&row.win).ok_or_else(|| StoreError::corrupt(BUDGETS, "win"))?,
            timezone: row.timezone.parse().map_err(|_| StoreError::corrupt(BUDGETS, "timezone"))?,
            limit: NanoUsd::from_nano(row.limit_nano),
            alert_at: row.alert_at.0,
        })
    }
}

/// Whether any budget alerts.
pub async fn any(conn: &mut Conn<'_>) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM budgets WHERE alert_at IS NOT NULL LIMIT 1";
    on_db!(conn, |db| sqlx::query(SQL).fetch_optional(db).await.map(|row| row.is_some()))
        .map_err(StoreError::of(BUDGETS))
}

/// Those of these budgets that alert and that their owners have now, as they are.
pub async fn alerting(conn: &mut Conn<'_>, budgets: &[&BudgetId]) -> Result<Vec<AlertingBudget>, StoreError> {
    /// Bound by the number of values that one statement may have.
    const BUDGETS_PER_STATEMENT: usize = 1_000;
    let mut found = Vec::new();
    for some in budgets.chunks(BUDGETS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql(
            "SELECT id, win, timezone, limit_nano, alert_at FROM budgets
              WHERE alert_at IS NOT NULL AND active AND id IN (",
        );
        for (index, budget) in some.iter().enumerate() {
            sql.sql(if index == 0 { "" } else { ", " }).value(budget.as_str());
        }
        sql.sql(") ORDER BY id");
        let rows: Vec<Row> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(false).fetch_all(db).await)
                .map_err(StoreError::of(BUDGETS))?;
        for row in rows {
            found.push(row.try_into()?);
        }
    }
    Ok(found)
}

/// What is posted in a window, which nobody else changes until the transaction ends; `None` when it has no row. Of
/// several, in the order of their names: PostgreSQL would find a deadlock otherwise.
pub async fn keep_posted(conn: &mut Conn<'_>, window: &WindowId) -> Result<Option<NanoUsd>, StoreError> {
    const SQL: &str = "
        UPDATE budget_windows SET posted_nano = posted_nano WHERE budget_id = $1 AND window_start = $2
        RETURNING posted_nano";
    let posted: Option<i64> = on_db!(conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(window.budget.as_str())
            .bind(micros(window.window_start))
            .fetch_optional(db)
            .await
    })
    .map_err(StoreError::of(WINDOWS))?;
    Ok(posted.map(NanoUsd::from_nano))
}

/// A share of a cap that is reached.
#[derive(Clone, Copy, Debug)]
pub struct Reached<'r> {
    /// In which window.
    pub window: &'r WindowId,
    /// Which share.
    pub share: &'r Share,
    /// Of which cap.
    pub limit: NanoUsd,
    /// What is spent.
    pub spent: NanoUsd,
}

/// Notes that it is told of. `false` when it was before.
pub async fn note(conn: &mut Conn<'_>, reached: Reached<'_>, now: DateTime<Utc>) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO budget_alerts (budget_id, window_start, share_nano, limit_nano, spent_nano, noticed_at)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (budget_id, window_start, share_nano, limit_nano) DO NOTHING";
    let Reached { window, share, limit, spent } = reached;
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(window.budget.as_str())
            .bind(micros(window.window_start))
            .bind(share.as_nano())
            .bind(limit.as_nano())
            .bind(spent.as_nano())
            .bind(micros(now))
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}
