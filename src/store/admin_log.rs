//! The admin log: one row for each change, and for each read of evidence. Appended, never changed here.

use super::query::{Pieces, micros, page_limit};
use super::{Conn, Cursor, Page, StoreError};
use crate::log::AdminEntry;
use chrono::{DateTime, Utc};
use sqlx::types::Json;

const TABLE: &str = "admin_log";

/// An entry and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedAdminEntry {
    /// Its place in the order of appending.
    pub seq: i64,
    /// The entry.
    pub entry: AdminEntry,
}

/// Which entries a reader wants; every part given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdminFilter {
    /// From this time on.
    pub from: Option<DateTime<Utc>>,
    /// Before this time.
    pub to: Option<DateTime<Utc>>,
    /// Who did it.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// What it was done to.
    pub target: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    entry: Json<AdminEntry>,
}

impl From<Row> for LoggedAdminEntry {
    fn from(row: Row) -> Self {
        Self { seq: row.seq, entry: row.entry.0 }
    }
}

/// Appends the entry and returns its `seq`. Belongs into the transaction of the change that it tells of.
pub async fn append(conn: &mut Conn<'_>, entry: &AdminEntry) -> Result<i64, StoreError> {
    const SQL: &str = "
        INSERT INTO admin_log (time, actor, action, target, entry) VALUES ($1, $2, $3, $4, $5)
        RETURNING seq";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(micros(entry.time))
            .bind(&entry.actor)
            .bind(&entry.action)
            .bind(&entry.target)
            .bind(Json(entry))
            .fetch_one(db)
            .await
    })
    .map_err(StoreError::of(TABLE))
}

/// The entries that fit `filter`, newest first, from `after` on, at most `limit` (and [`super::PAGE_MAX`]).
pub async fn page(
    conn: &mut Conn<'_>,
    filter: &AdminFilter,
    after: Option<&Cursor<i64>>,
    limit: u32,
) -> Result<Page<LoggedAdminEntry, i64>, StoreError> {
    let limit = page_limit(limit);
    let mut sql = Pieces::default();
    sql.sql("SELECT l.seq, l.entry FROM admin_log l WHERE 1 = 1").append(conditions(filter));
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
    filter: &AdminFilter,
    after_seq: i64,
    limit: u32,
) -> Result<Vec<LoggedAdminEntry>, StoreError> {
    let mut sql = Pieces::default();
    sql.sql("SELECT l.seq, l.entry FROM admin_log l WHERE l.seq > ")
        .value(after_seq)
        .append(conditions(filter));
    sql.sql(" ORDER BY l.seq LIMIT ").value(i64::from(page_limit(limit)));
    fetch(conn, &sql).await
}

async fn fetch(conn: &mut Conn<'_>, sql: &Pieces) -> Result<Vec<LoggedAdminEntry>, StoreError> {
    let rows: Vec<Row> =
        on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    Ok(rows.into_iter().map(LoggedAdminEntry::from).collect())
}

fn conditions(filter: &AdminFilter) -> Pieces {
    let mut sql = Pieces::default();
    sql.when(" AND l.time >= ", filter.from);
    sql.when(" AND l.time < ", filter.to);
    sql.when(" AND l.actor = ", filter.actor.as_deref());
    sql.when(" AND l.action = ", filter.action.as_deref());
    sql.when(" AND l.target = ", filter.target.as_deref());
    sql
}
