//! Rows of any table of the list, read out as they are and written in as they were.
//!
//! The SQL is put together from the static list alone; values are bound. Reading streams: a table is never in memory.

use super::{Column, Kind, TABLES, Table};
use crate::store::{Conn, StoreError};
use chrono::{DateTime, SubsecRound, Utc};
use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use sqlx::{AssertSqlSafe, ColumnIndex, Database, Decode, Encode, QueryBuilder, Row, Type};
use std::fmt::Write as _;
use std::io;

/// A value of a row.
#[derive(Clone, Debug)]
pub enum Cell {
    /// NULL.
    Null,
    /// Text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// Yes or no.
    Bool(bool),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A moment.
    Time(DateTime<Utc>),
    /// A JSON document as the database writes it, on one line.
    Json(Box<RawValue>),
}

/// Why rows were not read out to the end.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The database failed, or a row makes no sense.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Whoever takes the rows failed.
    #[error(transparent)]
    Sink(#[from] io::Error),
}

/// Lifts the bound on how long a statement may take, for the transaction that `conn` is in.
pub async fn unhurried(conn: &mut Conn<'_>) -> Result<(), StoreError> {
    const SQL: &str = "SET LOCAL statement_timeout = 0";
    match conn {
        Conn::Sqlite(_) => Ok(()),
        Conn::Postgres(db) => {
            sqlx::query(SQL).execute(&mut **db).await.map(drop).map_err(StoreError::of("settings"))
        }
    }
}

/// Hands every row of `table` to `each`, in the order of its key, with the columns of the migration `schema`.
pub async fn each_row(
    conn: &mut Conn<'_>,
    table: &Table,
    schema: i64,
    each: &mut (dyn FnMut(Vec<Cell>) -> io::Result<()> + Send),
) -> Result<(), DumpError> {
    let columns = table.columns_at(schema);
    if columns.is_empty() {
        return Ok(());
    }
    let sql = select(table, &columns);
    on_db!(conn, |db| {
        let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(db);
        while let Some(row) = rows.try_next().await.map_err(StoreError::of(table.name))? {
            let cells = columns.iter().enumerate().map(|(at, column)| cell(&row, at, table, column));
            each(cells.collect::<Result<_, _>>()?)?;
        }
    });
    Ok(())
}

fn select(table: &Table, columns: &[&Column]) -> String {
    let mut sql = String::from("SELECT ");
    for (at, column) in columns.iter().enumerate() {
        let comma = if at == 0 { "" } else { ", " };
        _ = match column.kind {
            Kind::Json => write!(sql, "{comma}CAST({} AS TEXT)", quoted(column.name)),
            Kind::Text | Kind::Int | Kind::Bool | Kind::Bytes | Kind::Time => {
                write!(sql, "{comma}{}", quoted(column.name))
            }
        };
    }
    let key: Vec<_> = table.key.iter().map(|column| quoted(column)).collect();
    _ = write!(sql, " FROM {} ORDER BY {}", quoted(table.name), key.join(", "));
    sql
}

fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn cell<'r, R>(row: &'r R, at: usize, table: &Table, column: &Column) -> Result<Cell, StoreError>
where
    R: Row,
    usize: ColumnIndex<R>,
    String: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    bool: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
    DateTime<Utc>: Decode<'r, R::Database> + Type<R::Database>,
{
    let cell = match column.kind {
        Kind::Text => row.try_get::<Option<String>, _>(at).map(|value| value.map(Cell::Text)),
        Kind::Int => row.try_get::<Option<i64>, _>(at).map(|value| value.map(Cell::Int)),
        Kind::Bool => row.try_get::<Option<bool>, _>(at).map(|value| value.map(Cell::Bool)),
        Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at).map(|value| value.map(Cell::Bytes)),
        Kind::Time => row
            .try_get::<Option<DateTime<Utc>>, _>(at)
            .map(|value| value.map(|time| Cell::Time(time.trunc_subsecs(6)))),
        Kind::Json => match row.try_get::<Option<String>, _>(at) {
            // Outside of its strings JSON may be broken into lines, inside it cannot be.
            Ok(Some(text)) => match RawValue::from_string(text.replace(['\n', '\r'], " ")) {
                Ok(json) => Ok(Some(Cell::Json(json))),
                Err(_) => return Err(StoreError::corrupt(table.name, column.name)),
            },
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        },
    };
    match cell {
        Ok(cell) => Ok(cell.unwrap_or(Cell::Null)),
        Err(sqlx::Error::ColumnDecode { .. }) => Err(StoreError::corrupt(table.name, column.name)),
        Err(error) => Err(StoreError::Unavailable(error)),
    }
}

/// Writes `rows` into `table`. Each has a cell for each of `columns`, of its kind or NULL.
pub async fn insert(
    conn: &mut Conn<'_>,
    table: &Table,
    columns: &[&Column],
    rows: &[Vec<Cell>],
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = match conn {
        Conn::Sqlite(db) => {
            insertion(table, columns, rows, ("", "")).build().execute(&mut **db).await.map(drop)
        }
        Conn::Postgres(db) => {
            let json = ("CAST(", " AS JSONB)");
            insertion(table, columns, rows, json).build().execute(&mut **db).await.map(drop)
        }
    };
    done.map_err(StoreError::of(table.name))
}

/// One INSERT for all rows; `json` goes around what is bound for a JSON document.
fn insertion<DB: Database>(
    table: &Table,
    columns: &[&Column],
    rows: &[Vec<Cell>],
    json: (&str, &str),
) -> QueryBuilder<DB>
where
    for<'q> Option<String>: Encode<'q, DB> + Type<DB>,
    for<'q> Option<i64>: Encode<'q, DB> + Type<DB>,
    for<'q> Option<bool>: Encode<'q, DB> + Type<DB>,
    for<'q> Option<Vec<u8>>: Encode<'q, DB> + Type<DB>,
    for<'q> Option<DateTime<Utc>>: Encode<'q, DB> + Type<DB>,
{
    let names: Vec<_> = columns.iter().map(|column| quoted(column.name)).collect();
    let mut sql = QueryBuilder::new(format!("INSERT INTO {} ({})", quoted(table.name), names.join(", ")));
    // What the database numbers is given here; SQLite has no word for that and needs none.
    if table.numbered.is_some() && !json.0.is_empty() {
        sql.push(" OVERRIDING SYSTEM VALUE");
    }
    sql.push(" VALUES ");
    for (number, row) in rows.iter().enumerate() {
        sql.push(if number == 0 { "(" } else { ", (" });
        for (at, (column, cell)) in columns.iter().zip(row).enumerate() {
            if at > 0 {
                sql.push(", ");
            }
            match (column.kind, cell) {
                (Kind::Json, Cell::Json(value)) => {
                    sql.push(json.0).push_bind(Some(value.get().to_owned())).push(json.1);
                }
                (Kind::Json, _) => {
                    sql.push(json.0).push_bind(None::<String>).push(json.1);
                }
                (Kind::Text, cell) => {
                    sql.push_bind(if let Cell::Text(text) = cell { Some(text.clone()) } else { None });
                }
                (Kind::Int, cell) => {
                    sql.push_bind(if let Cell::Int(number) = cell { Some(*number) } else { None });
                }
                (Kind::Bool, cell) => {
                    sql.push_bind(if let Cell::Bool(yes) = cell { Some(*yes) } else { None });
                }
                (Kind::Bytes, cell) => {
                    sql.push_bind(if let Cell::Bytes(bytes) = cell { Some(bytes.clone()) } else { None });
                }
                (Kind::Time, cell) => {
                    sql.push_bind(if let Cell::Time(time) = cell { Some(*time) } else { None });
                }
            }
        }
        sql.push(")");
    }
    sql
}

/// Empties every table that there is after the migration `schema`: what a migration puts in comes with the backup.
pub async fn clear(conn: &mut Conn<'_>, schema: i64) -> Result<(), StoreError> {
    for table in TABLES.iter().rev().filter(|table| !table.columns_at(schema).is_empty()) {
        let sql = format!("DELETE FROM {}", quoted(table.name));
        on_db!(conn, |db| sqlx::query(AssertSqlSafe(sql)).execute(db).await.map(drop))
            .map_err(StoreError::of(table.name))?;
    }
    Ok(())
}

/// The highest number that the database gave out in `table` and that is still there; 0 when there is none.
pub async fn last_seq(conn: &mut Conn<'_>, table: &Table, column: &str) -> Result<i64, StoreError> {
    let sql = format!("SELECT COALESCE(MAX({}), 0) FROM {}", quoted(column), quoted(table.name));
    on_db!(conn, |db| sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(db).await)
        .map_err(StoreError::of(table.name))
}

/// Has the database number new rows from behind the restored ones. SQLite sees to it by itself.
pub async fn continue_sequences(conn: &mut Conn<'_>, schema: i64) -> Result<(), StoreError> {
    const SQL: &str = "SELECT setval(pg_get_serial_sequence($1, $2), $3)";
    for table in TABLES.iter().filter(|table| !table.columns_at(schema).is_empty()) {
        let Some(column) = table.numbered else { continue };
        let last = last_seq(conn, table, column).await?;
        if let (Conn::Postgres(db), 1..) = (&mut *conn, last) {
            let set = sqlx::query(SQL).bind(table.name).bind(column).bind(last);
            set.execute(&mut **db).await.map_err(StoreError::of(table.name))?;
        }
    }
    Ok(())
}
