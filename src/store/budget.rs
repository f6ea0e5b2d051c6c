//! Budgets and their windows. Here a cap is a cap: each change of a window is one conditional UPDATE, which also
//! asks whether the rows are as their keeper left them.
//!
//! A budget keeps its identity (owner, window) when it is removed and comes back, and its windows with it. A window is
//! a row that is never reset. In a batch, touch windows in a fixed order: PostgreSQL would find a deadlock otherwise.

use super::query::{Pieces, micros};
use super::{Conn, StoreError};
use crate::base::NanoUsd;
use crate::budget::{Balance, BudgetSpec, Window};
use crate::subkey::SubKeyId;
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use std::collections::HashMap;
use std::fmt;

const TABLE: &str = "budgets";
const WINDOWS: &str = "budget_windows";

/// Who owns budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetOwner(String);

impl BudgetOwner {
    /// A sub-key.
    pub fn subkey(id: &SubKeyId) -> Self {
        Self(format!("subkey:{id}"))
    }

    /// A project.
    pub fn project(slug: &str) -> Self {
        Self(format!("project:{slug}"))
    }

    /// The text, as it is kept.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The project that is the owner of this name; `None` when it is not one.
    pub fn project_of(owner: &str) -> Option<&str> {
        owner.strip_prefix("project:")
    }

    /// The sub-key that is the owner of this name; `None` when it is not one.
    pub fn subkey_of(owner: &str) -> Option<SubKeyId> {
        SubKeyId::parse(owner.strip_prefix("subkey:")?)
    }
}

/// Names one budget: its owner and its window, like `subkey:<id>/month`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BudgetId(pub(super) String);

impl BudgetId {
    /// The budget of an owner for a window.
    pub fn new(owner: &BudgetOwner, window: Window) -> Self {
        Self(format!("{}/{}", owner.0, window.as_str()))
    }

    /// What the database calls it.
    pub(super) fn stored(text: String) -> Self {
        Self(text)
    }

    /// Whose it is, as it is kept.
    pub fn owner(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(owner, _)| owner)
    }

    /// The text, as it is kept and logged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BudgetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one window of one budget.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowId {
    /// The budget.
    pub budget: BudgetId,
    /// When the window began.
    pub window_start: DateTime<Utc>,
}

/// What is posted and held in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Spent for certain.
    pub posted: NanoUsd,
    /// Leased to nodes, for requests in flight and the next ones.
    pub held: NanoUsd,
}

impl From<Balance> for Standing {
    fn from(balance: Balance) -> Self {
        Self { posted: balance.posted, held: balance.held }
    }
}

/// A budget as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetRecord {
    /// Its id.
    pub id: BudgetId,
    /// How long the amount lasts.
    pub window: Window,
    /// The cap.
    pub limit: NanoUsd,
    /// Whose midnight it follows.
    pub timezone: Tz,
    /// Whether the owner has it now. An inactive budget admits nothing.
    pub active: bool,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    win: String,
    limit_nano: i64,
    timezone: String,
    active: bool,
}

impl TryFrom<Row> for BudgetRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: BudgetId(row.id),
            window: Window::parse(&row.win).ok_or_else(|| StoreError::corrupt(TABLE, "win"))?,
            limit: NanoUsd::from_nano(row.limit_nano),
            timezone: row.timezone.parse().map_err(|_| StoreError::corrupt(TABLE, "timezone"))?,
            active: row.active,
        })
    }
}

#[derive(sqlx::FromRow)]
#[expect(clippy::struct_field_names, reason = "columns carry their unit")]
struct BalanceRow {
    limit_nano: i64,
    posted_nano: i64,
    held_nano: i64,
}

impl From<BalanceRow> for Balance {
    fn from(row: BalanceRow) -> Self {
        Self {
            limit: NanoUsd::from_nano(row.limit_nano),
            posted: NanoUsd::from_nano(row.posted_nano),
            held: NanoUsd::from_nano(row.held_nano),
        }
    }
}

/// Gives the owner a budget, or changes it, or brings it back; what was spent stays. Returns its id.
pub async fn upsert(
    conn: &mut Conn<'_>,
    owner: &BudgetOwner,
    spec: &BudgetSpec,
) -> Result<BudgetId, StoreError> {
    const SQL: &str = "
        INSERT INTO budgets (id, owner, win, limit_nano, timezone, active, alert_at)
        VALUES ($1, $2, $3, $4, $5, TRUE, $6)
        ON CONFLICT (id)
        DO UPDATE SET limit_nano = excluded.limit_nano, timezone = excluded.timezone, active = TRUE,
                      alert_at = excluded.alert_at";
    let alert_at = Some(&spec.alert_at).filter(|shares| !shares.is_empty()).map(Json);
    let id = BudgetId::new(owner, spec.window);
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(id.as_str())
            .bind(&owner.0)
            .bind(spec.window.as_str())
            .bind(spec.limit_usd.as_nano())
            .bind(spec.timezone.name())
            .bind(alert_at)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))?;
    Ok(id)
}

/// Takes from the owner the budgets for all windows but `keep`; returns how many that were. What was spent stays.
pub async fn deactivate_except(
    conn: &mut Conn<'_>,
    owner: &BudgetOwner,
    keep: &[Window],
) -> Result<u64, StoreError> {
    let mut sql = Pieces::default();
    sql.sql("UPDATE budgets SET active = FALSE WHERE active AND owner = ").value(owner.0.as_str());
    for window in keep {
        sql.sql(" AND win <> ").value(window.as_str());
    }
    on_db!(conn, |db| sql.build().build().execute(db).await.map(|done| done.rows_affected()))
        .map_err(StoreError::of(TABLE))
}

/// The owner's budgets, inactive ones too, by id.
pub async fn of_owner(conn: &mut Conn<'_>, owner: &BudgetOwner) -> Result<Vec<BudgetRecord>, StoreError> {
    const SQL: &str =
        "SELECT id, win, limit_nano, timezone, active FROM budgets WHERE owner = $1 ORDER BY id";
    let rows: Vec<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(&owner.0).fetch_all(db).await)
        .map_err(StoreError::of(TABLE))?;
    rows.into_iter().map(BudgetRecord::try_from).collect()
}

#[derive(sqlx::FromRow)]
struct OwnedRow {
    owner: String,
    #[sqlx(flatten)]
    budget: Row,
}

/// As [`of_owner`], of several owners, by owner.
pub async fn of_owners(
    conn: &mut Conn<'_>,
    owners: &[BudgetOwner],
) -> Result<HashMap<String, Vec<BudgetRecord>>, StoreError> {
    /// Bound by the number of values that one statement may have.
    const OWNERS_PER_STATEMENT: usize = 1_000;
    let mut found: HashMap<String, Vec<BudgetRecord>> = HashMap::with_capacity(owners.len());
    for some in owners.chunks(OWNERS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql("SELECT owner, id, win, limit_nano, timezone, active FROM budgets WHERE owner IN (");
        for (index, owner) in some.iter().enumerate() {
            sql.sql(if index == 0 { "" } else { ", " }).value(owner.as_str());
        }
        sql.sql(") ORDER BY owner, id");
        let rows: Vec<OwnedRow> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(false).fetch_all(db).await)
                .map_err(StoreError::of(TABLE))?;
        for OwnedRow { owner, budget } in rows {
            found.entry(owner).or_default().push(budget.try_into()?);
        }
    }
    Ok(found)
}

/// Makes the window's row unless there is one. Nothing is made when there is no such budget.
pub async fn ensure_window(
    conn: &mut Conn<'_>,
    budget: &BudgetId,
    start: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO budget_windows (budget_id, window_start) SELECT b.id, $2 FROM budgets b WHERE b.id = $1
        ON CONFLICT (budget_id, window_start) DO NOTHING";
    on_db!(conn, |db| sqlx::query(SQL).bind(budget.as_str()).bind(micros(start)).execute(db).await.map(drop))
        .map_err(StoreError::of(WINDOWS))
}

/// How a window's row changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowChange {
    /// As it was left, and has to be found.
    pub before: Standing,
    /// As it becomes.
    pub after: Standing,
    /// The cap that something is admitted by: the budget's row has to say the same, and the window not be blocked.
    pub admitted_by: Option<NanoUsd>,
}

/// Changes the window's row. `false`, changing nothing, if it is not as it was left, or may not admit by that cap:
/// [`super::disorder::look`] tells which. The comparison and the change are one UPDATE.
pub async fn change(
    conn: &mut Conn<'_>,
    window: &WindowId,
    change: WindowChange,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE budget_windows
           SET posted_nano = $5, held_nano = $6
         WHERE budget_id = $1 AND window_start = $2 AND posted_nano = $3 AND held_nano = $4
           AND ($7 IS NULL OR (blocked IS NULL AND EXISTS (
                   SELECT 1 FROM budgets b WHERE b.id = $1 AND b.active AND b.limit_nano = $7)))";
    let WindowChange { before, after, admitted_by } = change;
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(window.budget.as_str())
            .bind(micros(window.window_start))
            .bind(before.posted.as_nano())
            .bind(before.held.as_nano())
            .bind(after.posted.as_nano())
            .bind(after.held.as_nano())
            .bind(admitted_by.map(NanoUsd::as_nano))
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(WINDOWS))
}

/// Posts a cost and gives back what was held for it, whatever the row says: what is held does not fall below zero, and
/// what is posted does not pass what can be counted. `false` when there is no such window.
pub async fn post(
    conn: &mut Conn<'_>,
    window: &WindowId,
    cost: NanoUsd,
    unheld: NanoUsd,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE budget_windows
           SET held_nano = CASE WHEN held_nano >= $3 THEN held_nano - $3 ELSE 0 END,
               posted_nano = CASE WHEN posted_nano <= 9223372036854775807 - $4
                                  THEN posted_nano + $4 ELSE 9223372036854775807 END
         WHERE budget_id = $1 AND window_start = $2 AND $3 >= 0 AND $4 >= 0";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(window.budget.as_str())
            .bind(micros(window.window_start))
            .bind(unheld.as_nano())
            .bind(cost.as_nano())
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(WINDOWS))
}

/// Where a window stands. A window without a row has nothing in it; `None` when there is no such budget.
pub async fn balance(
    conn: &mut Conn<'_>,
    budget: &BudgetId,
    start: DateTime<Utc>,
) -> Result<Option<Balance>, StoreError> {
    const SQL: &str = "
        SELECT b.limit_nano, COALESCE(w.posted_nano, 0) AS posted_nano, COALESCE(w.held_nano, 0) AS held_nano
          FROM budgets b LEFT JOIN budget_windows w ON w.budget_id = b.id AND w.window_start = $2
         WHERE b.id = $1";
    let row: Option<BalanceRow> = on_db!(conn, |db| {
        sqlx::query_as(SQL).bind(budget.as_str()).bind(micros(start)).fetch_optional(db).await
    })
    .map_err(StoreError::of(WINDOWS))?;
    Ok(row.map(Balance::from))
}

#[derive(sqlx::FromRow)]
struct ManyRow {
    id: String,
    #[sqlx(flatten)]
    balance: BalanceRow,
}

/// Where the window of each budget stands; budgets that do not exist are left out.
pub async fn balances(
    conn: &mut Conn<'_>,
    windows: &[(BudgetId, DateTime<Utc>)],
) -> Result<HashMap<BudgetId, Balance>, StoreError> {
    /// Bound by the number of values that one statement may have.
    const WINDOWS_PER_STATEMENT: usize = 1_000;
    let mut found = HashMap::with_capacity(windows.len());
    for some in windows.chunks(WINDOWS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql("WITH asked (budget_id, window_start) AS (VALUES ");
        for (index, (budget, start)) in some.iter().enumerate() {
            sql.sql(if index == 0 { "(" } else { ", (" })
                .value(budget.as_str())
                .sql(", ")
                .value(*start)
                .sql(")");
        }
        sql.sql(
            ")
            SELECT b.id, b.limit_nano, COALESCE(w.posted_nano, 0) AS posted_nano, COALESCE(w.held_nano, 0) AS held_nano
              FROM asked a JOIN budgets b ON b.id = a.budget_id
              LEFT JOIN budget_windows w ON w.budget_id = a.budget_id AND w.window_start = a.window_start",
        );
        let rows: Vec<ManyRow> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(false).fetch_all(db).await)
                .map_err(StoreError::of(WINDOWS))?;
        found.extend(rows.into_iter().map(|row| (BudgetId(row.id), row.balance.into())));
    }
    Ok(found)
}
