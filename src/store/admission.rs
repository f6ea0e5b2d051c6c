//! Requests that were admitted and have no outcome yet. After a crash, what is left here is charged in full.

use super::budget::BudgetId;
use super::query::{Pieces, micros};
use super::{Conn, StoreError};
use crate::base::NanoUsd;
use crate::log::Entry;
use crate::subkey::SubKeyId;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use std::collections::HashMap;

const TABLE: &str = "admissions";

/// An admitted request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// The request.
    pub request_id: String,
    /// The node that admitted it.
    pub node: String,
    /// The run of its ledger.
    pub epoch: i64,
    /// When.
    pub admitted_at: DateTime<Utc>,
    /// The sub-key that it was admitted for.
    pub subkey_id: SubKeyId,
    /// What is held for it.
    pub holds: Vec<Hold>,
    /// The log entry so far.
    pub entry: Entry,
}

/// What is held in one window for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// The budget.
    pub budget: BudgetId,
    /// The window's start.
    pub window_start: DateTime<Utc>,
    /// The amount held.
    pub amount: NanoUsd,
}

#[derive(sqlx::FromRow)]
struct Row {
    request_id: String,
    node: String,
    epoch: i64,
    admitted_at: DateTime<Utc>,
    subkey_id: String,
    holds: Json<Vec<Hold>>,
    entry: Json<Entry>,
}

impl TryFrom<Row> for Admission {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            request_id: row.request_id,
            node: row.node,
            epoch: row.epoch,
            admitted_at: row.admitted_at,
            subkey_id: SubKeyId::parse(&row.subkey_id)
                .ok_or_else(|| StoreError::corrupt(TABLE, "subkey_id"))?,
            holds: row.holds.0,
            entry: row.entry.0,
        })
    }
}

/// The versions of those of these sub-keys that are active.
pub async fn active_versions(
    conn: &mut Conn<'_>,
    subkeys: &[&str],
) -> Result<HashMap<String, i64>, StoreError> {
    /// Bound by the number of values that one statement may have.
    const SUBKEYS_PER_STATEMENT: usize = 1_000;
    let mut found = HashMap::with_capacity(subkeys.len());
    for some in subkeys.chunks(SUBKEYS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql("SELECT id, version FROM subkeys WHERE state = 'active' AND id IN (");
        for (index, id) in some.iter().enumerate() {
            sql.sql(if index == 0 { "" } else { ", " }).value(*id);
        }
        sql.sql(")");
        let rows: Vec<(String, i64)> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(false).fetch_all(db).await)
                .map_err(StoreError::of("subkeys"))?;
        found.extend(rows);
    }
    Ok(found)
}

/// Whether the sub-key is active and still at `version`.
pub async fn is_current(conn: &mut Conn<'_>, subkey: &SubKeyId, version: i64) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM subkeys WHERE id = $1 AND version = $2 AND state = 'active'";
    on_db!(conn, |db| {
        let found = sqlx::query(SQL).bind(subkey.as_str()).bind(version).fetch_optional(db).await;
        found.map(|row| row.is_some())
    })
    .map_err(StoreError::of("subkeys"))
}

/// Records an admission whatever the sub-key's state is: for what was spent already. Recording the same request again
/// changes nothing.
pub async fn insert(conn: &mut Conn<'_>, admission: &Admission) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO admissions (request_id, node, admitted_at, subkey_id, holds, entry, epoch)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (request_id) DO NOTHING";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&admission.request_id)
            .bind(&admission.node)
            .bind(micros(admission.admitted_at))
            .bind(admission.subkey_id.as_str())
            .bind(Json(&admission.holds))
            .bind(Json(&admission.entry))
            .bind(admission.epoch)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// Takes an admission off the record, to settle it. Only one caller gets it; `None` when it is settled already.
pub async fn take(conn: &mut Conn<'_>, request_id: &str) -> Result<Option<Admission>, StoreError> {
    const SQL: &str = "
        DELETE FROM admissions WHERE request_id = $1
        RETURNING request_id, node, epoch, admitted_at, subkey_id, holds, entry";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(request_id).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    row.map(Admission::try_from).transpose()
}

/// Forgets an admission that is settled, if it was on record.
pub async fn forget(conn: &mut Conn<'_>, request_id: &str) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM admissions WHERE request_id = $1";
    on_db!(conn, |db| sqlx::query(SQL).bind(request_id).execute(db).await.map(drop))
        .map_err(StoreError::of(TABLE))
}

/// Admissions without an outcome, oldest first, at most `limit`.
pub async fn list_open(conn: &mut Conn<'_>, limit: u32) -> Result<Vec<Admission>, StoreError> {
    const SQL: &str = "
        SELECT request_id, node, epoch, admitted_at, subkey_id, holds, entry
          FROM admissions ORDER BY admitted_at, request_id LIMIT $1";
    let rows: Vec<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(i64::from(limit)).fetch_all(db).await)
        .map_err(StoreError::of(TABLE))?;
    rows.into_iter().map(Admission::try_from).collect()
}
