//! Leases: what the rows of windows hold for each run of a node.
//!
//! A run has a number of its own, its epoch. What windows hold is the sum of what is leased to all epochs; a lease of an
//! epoch that is over is settled by a later one.

use super::budget::{BudgetId, WindowId};
use super::query::micros;
use super::{Conn, StoreError};
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};

const TABLE: &str = "leases";
const EPOCHS: &str = "ledger_epochs";

/// Numbers a new run of a node's ledger. `durability` says what its leases mean after a crash.
pub async fn begin_epoch(
    conn: &mut Conn<'_>,
    (node, durability): (&str, &str),
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    const SQL: &str =
        "INSERT INTO ledger_epochs (node, durability, began_at) VALUES ($1, $2, $3) RETURNING epoch";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL).bind(node).bind(durability).bind(micros(now)).fetch_one(db).await
    })
    .map_err(StoreError::of(EPOCHS))
}

/// Leases so much more of the window to the epoch; less where it is negative, and never less than nothing.
pub async fn add(
    conn: &mut Conn<'_>,
    epoch: i64,
    window: &WindowId,
    amount: NanoUsd,
) -> Result<(), StoreError> {
    const MORE: &str = "
        INSERT INTO leases (epoch, budget_id, window_start, amount_nano) VALUES ($1, $2, $3, $4)
        ON CONFLICT (epoch, budget_id, window_start)
        DO UPDATE SET amount_nano = leases.amount_nano + excluded.amount_nano";
    const LESS: &str = "
        UPDATE leases SET amount_nano = CASE WHEN amount_nano + $4 > 0 THEN amount_nano + $4 ELSE 0 END
         WHERE epoch = $1 AND budget_id = $2 AND window_start = $3";
    let sql = if amount > NanoUsd::ZERO { MORE } else { LESS };
    on_db!(conn, |db| {
        let bound = sqlx::query(sql).bind(epoch).bind(window.budget.as_str());
        bound.bind(micros(window.window_start)).bind(amount.as_nano()).execute(db).await.map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// What of the window is leased to the epoch.
pub async fn amount(conn: &mut Conn<'_>, epoch: i64, window: &WindowId) -> Result<NanoUsd, StoreError> {
    const SQL: &str =
        "SELECT amount_nano FROM leases WHERE epoch = $1 AND budget_id = $2 AND window_start = $3";
    let amount: Option<i64> = on_db!(conn, |db| {
        let bound = sqlx::query_scalar(SQL).bind(epoch).bind(window.budget.as_str());
        bound.bind(micros(window.window_start)).fetch_optional(db).await
    })
    .map_err(StoreError::of(TABLE))?;
    Ok(amount.map_or(NanoUsd::ZERO, NanoUsd::from_nano))
}

/// What of the window is leased to anybody.
pub async fn of_window(conn: &mut Conn<'_>, window: &WindowId) -> Result<NanoUsd, StoreError> {
    const SQL: &str = "
        SELECT CAST(COALESCE(SUM(amount_nano), 0) AS BIGINT) FROM leases
         WHERE budget_id = $1 AND window_start = $2";
    let amount: i64 = on_db!(conn, |db| {
        let bound = sqlx::query_scalar(SQL).bind(window.budget.as_str());
        bound.bind(micros(window.window_start)).fetch_one(db).await
    })
    .map_err(StoreError::of(TABLE))?;
    Ok(NanoUsd::from_nano(amount))
}

/// Forgets leases of nothing.
pub async fn drop_empty(conn: &mut Conn<'_>, epoch: i64) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM leases WHERE epoch = $1 AND amount_nano = 0";
    on_db!(conn, |db| sqlx::query(SQL).bind(epoch).execute(db).await.map(drop)).map_err(StoreError::of(TABLE))
}

/// What an epoch that is over left leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The epoch.
    pub epoch: i64,
    /// Its node.
    pub node: String,
    /// As it was told when the epoch began.
    pub durability: String,
    /// The window.
    pub window: WindowId,
    /// How much.
    pub amount: NanoUsd,
}

#[derive(sqlx::FromRow)]
struct LeftRow {
    epoch: i64,
    node: String,
    durability: String,
    budget_id: String,
    window_start: DateTime<Utc>,
    amount_nano: i64,
}

/// Takes away what is leased to the first of the epochs other than this one, all of it; empty when nothing is.
pub async fn take_left(conn: &mut Conn<'_>, epoch: i64) -> Result<Vec<Left>, StoreError> {
    const SQL: &str = "
        SELECT l.epoch, e.node, e.durability, l.budget_id, l.window_start, l.amount_nano
          FROM leases l JOIN ledger_epochs e ON e.epoch = l.epoch
         WHERE l.epoch = (SELECT MIN(epoch) FROM leases WHERE epoch <> $1)
         ORDER BY l.budget_id, l.window_start";
    const DELETE: &str = "DELETE FROM leases WHERE epoch = $1";
    let rows: Vec<LeftRow> = on_db!(&mut *conn, |db| sqlx::query_as(SQL).bind(epoch).fetch_all(db).await)
        .map_err(StoreError::of(TABLE))?;
    if let Some(row) = rows.first() {
        on_db!(&mut *conn, |db| sqlx::query(DELETE).bind(row.epoch).execute(db).await.map(drop))
            .map_err(StoreError::of(TABLE))?;
    }
    let left = |row: LeftRow| Left {
        epoch: row.epoch,
        node: row.node,
        durability: row.durability,
        window: WindowId { budget: BudgetId::stored(row.budget_id), window_start: row.window_start },
        amount: NanoUsd::from_nano(row.amount_nano),
    };
    Ok(rows.into_iter().map(left).collect())
}
