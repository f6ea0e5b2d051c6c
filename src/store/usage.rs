//! Usage: what the entries of the access log come to, by group.
//!
//! Whole hours are summed up beside the log ([`add`], in the transaction that appends), by project, sub-key, provider and
//! model, and the same for each tag. A report takes those sums for the whole hours of its time and the log itself for what
//! is left at both ends, in one statement: it is what a scan of the log would come to, at any moment. By two tags at once,
//! or by what is not summed up, the log is scanned.
//!
//! Tags are the clients' own. A key whose tags make more rows in an hour than [`TAG_ROWS_MAX`] has no sums by tag for that
//! hour, and its entries of the hour are read from the log: nobody fills the disk with sums faster than with the log.

mod rollup;

pub use rollup::{Disagreement, TAG_ROWS_MAX, add, first_hour_after, look, rebuild};

use super::access_log::conditions;
use super::query::Pieces;
use super::{Conn, StoreError};
use crate::base::NanoUsd;
use crate::log::{Filter, Hour, Sums};
use chrono::{DateTime, Datelike, Utc};
use sqlx::Row as _;

const TABLE: &str = "usage_hours";

/// How many sums a row of a report begins with.
const SUMS: usize = 9;

/// The most rows of one report.
const ROWS_MAX: usize = 100_000;

/// What usage is summed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// The provider.
    Provider,
    /// The model as sent.
    Model,
    /// The project.
    Project,
    /// The sub-key's id.
    Subkey,
    /// The day in UTC, like `2026-11-22`.
    Day,
    /// The value of a tag of this name.
    Tag(String),
}

/// What the requests of one group came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageRow {
    /// The group's value for each thing grouped by, in the order asked for; `None` where entries have none.
    pub group: Vec<Option<String>>,
    /// What they came to.
    pub sums: Sums,
}

/// Sums the entries that fit `filter`, by group, groups in order. Without groups there is one row.
pub async fn report(
    conn: &mut Conn<'_>,
    filter: &Filter,
    group_by: &[GroupBy],
) -> Result<Vec<UsageRow>, StoreError> {
    fetch(conn, &parts(filter, group_by), group_by.len()).await
}

/// The same by a scan of the log: slow, and what [`report`] has to equal.
pub async fn scan(
    conn: &mut Conn<'_>,
    filter: &Filter,
    group_by: &[GroupBy],
) -> Result<Vec<UsageRow>, StoreError> {
    fetch(conn, &[of_log(filter, group_by)], group_by.len()).await
}

async fn fetch(conn: &mut Conn<'_>, parts: &[Pieces], groups: usize) -> Result<Vec<UsageRow>, StoreError> {
    let sql = whole(parts, groups);
    let mut rows = on_db!(conn, |db| {
        let fetched = sql.build().build().persistent(false).fetch_all(db).await;
        fetched.and_then(|rows| {
            let read = rows.iter().map(|row| {
                let sums = Sums {
                    entries: row.try_get(0)?,
                    requests: row.try_get(1)?,
                    denied: row.try_get(2)?,
                    failed: row.try_get(3)?,
                    input_tokens: row.try_get(4)?,
                    cached_input_tokens: row.try_get(5)?,
                    cache_write_tokens: row.try_get(6)?,
                    output_tokens: row.try_get(7)?,
                    cost: NanoUsd::from_nano(row.try_get(8)?),
                };
                let group = (0..groups).map(|index| row.try_get(SUMS + index)).collect::<Result<_, _>>()?;
                Ok(UsageRow { group, sums })
            });
            read.collect::<Result<Vec<_>, sqlx::Error>>()
        })
    })
    .map_err(StoreError::of(TABLE))?;
    if rows.len() > ROWS_MAX {
        return Err(StoreError::TooManyRows { rows_max: ROWS_MAX });
    }
    rows.sort_by(|left, right| left.group.cmp(&right.group));
    Ok(rows)
}

/// The statement that adds the parts up.
fn whole(parts: &[Pieces], groups: usize) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql(
        "SELECT CAST(COALESCE(SUM(u.entries), 0) AS BIGINT), CAST(COALESCE(SUM(u.requests), 0) AS BIGINT),
                CAST(COALESCE(SUM(u.denied), 0) AS BIGINT), CAST(COALESCE(SUM(u.failed), 0) AS BIGINT),
                CAST(COALESCE(SUM(u.input_tokens), 0) AS BIGINT),
                CAST(COALESCE(SUM(u.cached_input_tokens), 0) AS BIGINT),
                CAST(COALESCE(SUM(u.cache_write_tokens), 0) AS BIGINT),
                CAST(COALESCE(SUM(u.output_tokens), 0) AS BIGINT), CAST(COALESCE(SUM(u.cost_nano), 0) AS BIGINT)",
    );
    for index in 0..groups {
        sql.sql(", u.g").number(index);
    }
    for (index, part) in parts.iter().enumerate() {
        sql.sql(if index == 0 { " FROM (" } else { " UNION ALL " }).append(part.clone());
    }
    sql.sql(") u");
    for index in 0..groups {
        sql.sql(if index == 0 { " GROUP BY " } else { ", " }).sql("u.g").number(index);
    }
    if groups > 0 {
        // What is taken from one group for another may leave nothing.
        sql.sql(" HAVING SUM(u.entries) > 0");
    }
    sql.sql(" LIMIT ").number(ROWS_MAX + 1);
    sql
}

/// The whole hours of a time, and what is left of it before and after.
struct Split {
    from: Option<Hour>,
    to: Option<Hour>,
    ragged: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

/// `None` when there is no whole hour in it.
fn split(filter: &Filter) -> Option<Split> {
    // Texts of other years do not stand in the order of time.
    let is_sortable = |time: DateTime<Utc>| (0..=9_999).contains(&time.year());
    if ![filter.from, filter.to].into_iter().flatten().all(is_sortable) {
        return None;
    }
    let from = filter.from.map(|from| {
        let hour = Hour::of(from);
        if hour.begins() < from { Hour::of(hour.ends()) } else { hour }
    });
    let to = filter.to.map(Hour::of);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return None;
    }
    let before = filter.from.zip(from).map(|(begins, hour)| (begins, hour.begins()));
    let after = to.zip(filter.to).map(|(hour, ends)| (hour.begins(), ends));
    let ragged = before.into_iter().chain(after).filter(|(begins, ends)| begins < ends).collect();
    Some(Split { from, to, ragged })
}

/// Whether the sums beside the log tell what is filtered by.
fn is_summed_up(filter: &Filter) -> bool {
    let Filter {
        from: _,
        to: _,
        project: _,
        within: _,
        subkey: _,
        provider: _,
        model: _,
        decision,
        status,
        request_id,
        client_ip,
    } = filter;
    decision.is_none() && status.is_none() && request_id.is_none() && client_ip.is_none()
}

fn parts(filter: &Filter, group_by: &[GroupBy]) -> Vec<Pieces> {
    let mut tags = group_by.iter().filter_map(|group| match group {
        GroupBy::Tag(name) => Some(name.as_str()),
        GroupBy::Provider | GroupBy::Model | GroupBy::Project | GroupBy::Subkey | GroupBy::Day => None,
    });
    let (tag, second_tag) = (tags.next(), tags.next());
    let split = split(filter).filter(|_| second_tag.is_none() && is_summed_up(filter));
    let Some(split) = split else { return vec![of_log(filter, group_by)] };
    let mut parts = match tag {
        None => vec![of_hours(&split, filter, group_by)],
        Some(name) => vec![
            of_tags(&split, filter, group_by, name, Sign::Plus),
            // What has no such tag is what is left of all.
            of_hours(&split, filter, group_by),
            of_tags(&split, filter, group_by, name, Sign::Minus),
            of_unrolled(&split, filter, group_by),
        ],
    };
    for (begins, ends) in &split.ragged {
        let filter = Filter { from: Some(*begins), to: Some(*ends), ..filter.clone() };
        parts.push(of_log(&filter, group_by));
    }
    parts
}

#[derive(Clone, Copy)]
enum Sign {
    Plus,
    Minus,
}

/// Sums of entries, from the log itself.
fn of_log(filter: &Filter, group_by: &[GroupBy]) -> Pieces {
    let mut sql = groups_of_log(group_by);
    sql.sql(" FROM access_log l WHERE 1 = 1").append(conditions(filter)).append(not_empty(filter));
    grouped(sql, group_by)
}

/// Sums of the entries of keys and hours that have no sums by tag, from the log.
fn of_unrolled(split: &Split, filter: &Filter, group_by: &[GroupBy]) -> Pieces {
    let mut sql = groups_of_log(group_by);
    sql.sql(
        " FROM usage_unrolled r
          JOIN access_log l ON l.subkey_id = r.subkey_id AND l.time >= r.begins AND l.time < r.ends
         WHERE 1 = 1",
    );
    let filter = Filter { from: None, to: None, ..filter.clone() };
    sql.append(hours(split)).append(conditions(&filter)).append(not_empty(&filter));
    grouped(sql, group_by)
}

fn groups_of_log(group_by: &[GroupBy]) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql("SELECT ");
    for (index, group) in group_by.iter().enumerate() {
        match group {
            GroupBy::Provider => sql.sql("NULLIF(l.provider, '')"),
            GroupBy::Model => sql.sql("NULLIF(l.model, '')"),
            GroupBy::Project => sql.sql("l.project"),
            GroupBy::Subkey => sql.sql("l.subkey_id"),
            GroupBy::Day => sql.sql("l.day"),
            GroupBy::Tag(name) => {
                sql.sql("(SELECT t.value FROM access_tags t WHERE t.seq = l.seq AND t.name = ");
                sql.value(name.as_str()).sql(")")
            }
        };
        sql.sql(" AS g").number(index).sql(", ");
    }
    sql.sql(rollup::LOG_SUMS);
    sql
}

/// Sums of whole hours. By a tag, those of what has no such tag together with those of what has one.
fn of_hours(split: &Split, filter: &Filter, group_by: &[GroupBy]) -> Pieces {
    let is_by_tag = group_by.iter().any(|group| matches!(group, GroupBy::Tag(_)));
    let mut sql = groups_of_sums(group_by, "CAST(NULL AS TEXT)", Sign::Plus);
    sql.sql(" FROM usage_hours r WHERE 1 = 1").append(hours(split)).append(conditions_on_sums(filter));
    if is_by_tag {
        sql.sql(
            " AND NOT EXISTS (
                SELECT 1 FROM usage_unrolled x WHERE x.hour = r.hour AND x.subkey_id = r.subkey_id)",
        );
    }
    grouped(sql, group_by)
}

/// Sums of what has the tag, in whole hours; or the same to be taken away from what has none.
fn of_tags(split: &Split, filter: &Filter, group_by: &[GroupBy], name: &str, sign: Sign) -> Pieces {
    let value = match sign {
        Sign::Plus => "r.value",
        Sign::Minus => "CAST(NULL AS TEXT)",
    };
    let mut sql = groups_of_sums(group_by, value, sign);
    sql.sql(" FROM usage_tags r WHERE r.name = ").value(name);
    sql.append(hours(split)).append(conditions_on_sums(filter));
    grouped(sql, group_by)
}

fn groups_of_sums(group_by: &[GroupBy], value_of_tag: &'static str, sign: Sign) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql("SELECT ");
    for (index, group) in group_by.iter().enumerate() {
        sql.sql(match group {
            GroupBy::Provider => "NULLIF(r.provider, '')",
            GroupBy::Model => "NULLIF(r.model, '')",
            GroupBy::Project => "r.project",
            GroupBy::Subkey => "r.subkey_id",
            GroupBy::Day => "substr(r.hour, 1, 10)",
            GroupBy::Tag(_) => value_of_tag,
        });
        sql.sql(" AS g").number(index).sql(", ");
    }
    sql.sql(match sign {
        Sign::Plus => {
            "SUM(r.entries) AS entries, SUM(r.requests) AS requests, SUM(r.denied) AS denied,
             SUM(r.failed) AS failed, SUM(r.input_tokens) AS input_tokens,
             SUM(r.cached_input_tokens) AS cached_input_tokens,
             SUM(r.cache_write_tokens) AS cache_write_tokens, SUM(r.output_tokens) AS output_tokens,
             SUM(r.cost_nano) AS cost_nano"
        }
        Sign::Minus => {
            "-SUM(r.entries) AS entries, -SUM(r.requests) AS requests, -SUM(r.denied) AS denied,
             -SUM(r.failed) AS failed, -SUM(r.input_tokens) AS input_tokens,
             -SUM(r.cached_input_tokens) AS cached_input_tokens,
             -SUM(r.cache_write_tokens) AS cache_write_tokens, -SUM(r.output_tokens) AS output_tokens,
             -SUM(r.cost_nano) AS cost_nano"
        }
    });
    sql
}

fn hours(split: &Split) -> Pieces {
    let mut sql = Pieces::default();
    sql.when(" AND r.hour >= ", split.from.map(|hour| hour.to_string()).as_deref());
    sql.when(" AND r.hour < ", split.to.map(|hour| hour.to_string()).as_deref());
    sql
}

fn conditions_on_sums(filter: &Filter) -> Pieces {
    let mut sql = Pieces::default();
    sql.when(" AND r.project = ", filter.project.as_deref());
    sql.among(" AND r.project", filter.within.as_deref());
    sql.when(" AND r.subkey_id = ", filter.subkey.as_deref());
    sql.when(" AND r.provider <> '' AND r.provider = ", filter.provider.as_deref());
    sql.when(" AND r.model <> '' AND r.model = ", filter.model.as_deref());
    sql
}

/// An empty name is the same as none, here as in the sums.
fn not_empty(filter: &Filter) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql(if filter.provider.is_some() { " AND l.provider <> ''" } else { "" });
    sql.sql(if filter.model.is_some() { " AND l.model <> ''" } else { "" });
    sql
}

fn grouped(mut sql: Pieces, group_by: &[GroupBy]) -> Pieces {
    for index in 0..group_by.len() {
        sql.sql(if index == 0 { " GROUP BY " } else { ", " }).number(index + 1);
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_cut_into_whole_hours_and_what_is_left() {
        let cut = |from: &str, to: &str| {
            let time = |text: &str| (!text.is_empty()).then(|| at(text));
            let split = split(&Filter { from: time(from), to: time(to), ..Filter::default() })?;
            let hour = |hour: Option<Hour>| hour.map(|hour| hour.to_string()).unwrap_or_default();
            Some((hour(split.from), hour(split.to), split.ragged.len()))
        };
        let is = |from: &str, to: &str, ragged| Some((from.to_owned(), to.to_owned(), ragged));
        assert_eq!(cut("", ""), is("", "", 0));
        assert_eq!(
            cut("2026-01-01T10:00:00Z", "2026-01-01T12:00:00Z"),
            is("2026-01-01T10", "2026-01-01T12", 0)
        );
        assert_eq!(
            cut("2026-01-01T10:00:00.000001Z", "2026-01-01T12:00:01Z"),
            is("2026-01-01T11", "2026-01-01T12", 2)
        );
        assert_eq!(cut("2026-01-01T23:30:00Z", ""), is("2026-01-02T00", "", 1));
        assert_eq!(cut("", "2026-01-01T23:30:00Z"), is("", "2026-01-01T23", 1));
        assert_eq!(cut("2026-01-01T10:10:00Z", "2026-01-01T11:50:00Z"), None, "no whole hour");
        assert_eq!(cut("2026-01-01T12:00:00Z", "2026-01-01T10:00:00Z"), None, "nothing at all");
    }
}
