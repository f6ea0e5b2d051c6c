//! Optional filters and pages: SQL pieces that are constants, values that are bound.

use chrono::{DateTime, SubsecRound, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};
use std::fmt;
use std::str::FromStr;

/// The most items of one page.
pub const PAGE_MAX: u32 = 1_000;

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, K> {
    /// At most as many as were asked for.
    pub items: Vec<T>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Cursor<K>>,
}

/// A place in a list: after the item with this time and key. Prints as a text that reads back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor<K> {
    /// The item's time.
    pub at: DateTime<Utc>,
    /// Its key, which orders items of the same time.
    pub key: K,
}

/// A text that no list gave out as a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list; take next_cursor as it was given")]
pub struct CursorError;

impl<K: fmt::Display> fmt::Display for Cursor<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at.timestamp_micros(), self.key)
    }
}

impl<K: FromStr> FromStr for Cursor<K> {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (micros, key) = text.split_once('.').ok_or(CursorError)?;
        let micros = micros.parse().map_err(|_| CursorError)?;
        let at = DateTime::from_timestamp_micros(micros).ok_or(CursorError)?;
        Ok(Self { at, key: key.parse().map_err(|_| CursorError)? })
    }
}

impl<T, K> Page<T, K> {
    /// Makes a page of `limit` items out of up to one more, which tells that there is a next page.
    pub(super) fn of(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> Cursor<K>) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = if more { items.last().map(cursor) } else { None };
        Self { items, next }
    }
}

/// How many items a page may have.
pub(super) fn page_limit(asked: u32) -> u32 {
    asked.clamp(1, PAGE_MAX)
}

/// A time as both databases keep it: in whole microseconds.
pub(super) fn micros(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}

/// A value to bind.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Time(DateTime<Utc>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<DateTime<Utc>> for Value {
    fn from(time: DateTime<Utc>) -> Self {
        Self::Time(micros(time))
    }
}

/// SQL in pieces. Only constants and counted numbers become SQL; everything else is bound.
#[derive(Clone, Debug, Default)]
pub(super) struct Pieces(Vec<Piece>);

#[derive(Clone, Debug)]
enum Piece {
    Sql(&'static str),
    Number(usize),
    Value(Value),
}

impl Pieces {
    pub(super) fn sql(&mut self, sql: &'static str) -> &mut Self {
        self.0.push(Piece::Sql(sql));
        self
    }

    pub(super) fn number(&mut self, number: usize) -> &mut Self {
        self.0.push(Piece::Number(number));
        self
    }

    pub(super) fn value(&mut self, value: impl Into<Value>) -> &mut Self {
        self.0.push(Piece::Value(value.into()));
        self
    }

    /// Adds the value, or NULL.
    pub(super) fn value_or_null(&mut self, value: Option<impl Into<Value>>) -> &mut Self {
        match value {
            Some(value) => self.value(value),
            None => self.sql("NULL"),
        }
    }

    pub(super) fn append(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    /// Adds `sql` and the value, if there is one.
    pub(super) fn when(&mut self, sql: &'static str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.sql(sql).value(value);
        }
        self
    }

    /// Adds `column` and that it is one of the values, if there are any to be among; an empty list holds none.
    pub(super) fn among(&mut self, column: &'static str, values: Option<&[String]>) -> &mut Self {
        if let Some(values) = values {
            self.sql(column).sql(" IN (NULL");
            for value in values {
                self.sql(", ").value(value.as_str());
            }
            self.sql(")");
        }
        self
    }

    /// The statement, for the database at hand.
    pub(super) fn build<DB: Database>(&self) -> QueryBuilder<DB>
    where
        for<'q> String: Encode<'q, DB> + Type<DB>,
        for<'q> i64: Encode<'q, DB> + Type<DB>,
        for<'q> DateTime<Utc>: Encode<'q, DB> + Type<DB>,
    {
        let mut query = QueryBuilder::new("");
        for piece in &self.0 {
            match piece {
                Piece::Sql(sql) => query.push(sql),
                Piece::Number(number) => query.push(number),
                Piece::Value(Value::Text(text)) => query.push_bind(text.clone()),
                Piece::Value(Value::Int(number)) => query.push_bind(*number),
                Piece::Value(Value::Time(time)) => query.push_bind(*time),
            };
        }
        query
    }
}

/// A pattern for `lower(x) LIKE .. ESCAPE '!'` that finds `text` anywhere, whatever its ASCII case.
pub(super) fn contains_pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for ch in text.chars() {
        if matches!(ch, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(ch.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_junk_is_refused() {
        let cursor = Cursor { at: "2026-11-22T16:07:01.000250Z".parse().unwrap(), key: "a.b".to_owned() };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for junk in ["", "1", "x.1", "1.x", "9223372036854775807.1"] {
            assert_eq!(junk.parse::<Cursor<i64>>(), Err(CursorError), "{junk}");
        }
    }

    #[test]
    fn a_pattern_matches_its_text_literally() {
        assert_eq!(contains_pattern("50%_A!"), "%50!%!_a!!%");
    }
}
