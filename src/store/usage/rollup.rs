//! The sums beside the log: written with the entries, held against the log, made anew from it.

use crate::base::NanoUsd;
use crate::log::{Hour, Rollup, Sums};
use crate::store::query::micros;
use crate::store::{Conn, StoreError};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};

const HOURS: &str = "usage_hours";
const TAGS: &str = "usage_tags";
const UNROLLED: &str = "usage_unrolled";

/// The most rows that the tags of one sub-key have in one hour.
pub const TAG_ROWS_MAX: i64 = 1_000;

/// What entries of the log, as `l`, come to.
pub(super) const LOG_SUMS: &str = "
    COUNT(*) AS entries, SUM(l.count) AS requests,
    SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END) AS denied,
    SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400) THEN l.count ELSE 0 END) AS failed,
    SUM(l.input_tokens) AS input_tokens, SUM(l.cached_input_tokens) AS cached_input_tokens,
    SUM(l.cache_write_tokens) AS cache_write_tokens, SUM(l.output_tokens) AS output_tokens,
    SUM(l.cost_nano) AS cost_nano";

/// Adds what a transaction appended to the sums. Belongs into that transaction, once, after its last entry.
pub async fn add(conn: &mut Conn<'_>, rollup: &Rollup) -> Result<(), StoreError> {
    // A cost beyond what can be counted must not keep anything from being recorded: it is left out.
    const SQL: &str = "
        INSERT INTO usage_hours (hour, project, subkey_id, provider, model, entries, requests, denied, failed,
                                 input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
        ON CONFLICT (hour, project, subkey_id, provider, model) DO UPDATE SET
            entries = usage_hours.entries + excluded.entries, requests = usage_hours.requests + excluded.requests,
            denied = usage_hours.denied + excluded.denied, failed = usage_hours.failed + excluded.failed,
            input_tokens = usage_hours.input_tokens + excluded.input_tokens,
            cached_input_tokens = usage_hours.cached_input_tokens + excluded.cached_input_tokens,
            cache_write_tokens = usage_hours.cache_write_tokens + excluded.cache_write_tokens,
            output_tokens = usage_hours.output_tokens + excluded.output_tokens,
            cost_nano = CASE WHEN usage_hours.cost_nano BETWEEN -4611686018427387904 AND 4611686018427387904
                             THEN usage_hours.cost_nano + excluded.cost_nano ELSE usage_hours.cost_nano END";
    for (bucket, sums) in rollup.buckets() {
        on_db!(&mut *conn, |db| {
            sqlx::query(SQL)
                .bind(bucket.hour.to_string())
                .bind(&bucket.project)
                .bind(&bucket.subkey_id)
                .bind(&bucket.provider)
                .bind(&bucket.model)
                .bind(sums.entries)
                .bind(sums.requests)
                .bind(sums.denied)
                .bind(sums.failed)
                .bind(sums.input_tokens)
                .bind(sums.cached_input_tokens)
                .bind(sums.cache_write_tokens)
                .bind(sums.output_tokens)
                .bind(countable(sums.cost))
                .execute(db)
                .await
                .map(drop)
        })
        .map_err(StoreError::of(HOURS))?;
    }
    add_tags(conn, rollup).await
}

fn countable(cost: NanoUsd) -> i64 {
    cost.as_nano().clamp(-(1 << 62), 1 << 62)
}

async fn add_tags(conn: &mut Conn<'_>, rollup: &Rollup) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO usage_tags (hour, subkey_id, name, value, project, provider, model, entries, requests, denied,
                                failed, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        ON CONFLICT (hour, subkey_id, name, value, project, provider, model) DO UPDATE SET
            entries = usage_tags.entries + excluded.entries, requests = usage_tags.requests + excluded.requests,
            denied = usage_tags.denied + excluded.denied, failed = usage_tags.failed + excluded.failed,
            input_tokens = usage_tags.input_tokens + excluded.input_tokens,
            cached_input_tokens = usage_tags.cached_input_tokens + excluded.cached_input_tokens,
            cache_write_tokens = usage_tags.cache_write_tokens + excluded.cache_write_tokens,
            output_tokens = usage_tags.output_tokens + excluded.output_tokens,
            cost_nano = CASE WHEN usage_tags.cost_nano BETWEEN -4611686018427387904 AND 4611686018427387904
                             THEN usage_tags.cost_nano + excluded.cost_nano ELSE usage_tags.cost_nano END
        RETURNING entries";
    let (mut is_unrolled, mut grown) = (BTreeMap::new(), BTreeSet::new());
    for (bucket, (name, value), sums) in rollup.tags() {
        let key = (bucket.hour, bucket.subkey_id.as_str());
        let left_out = match is_unrolled.get(&key) {
            Some(known) => *known,
            None => is_unrolled_in(conn, key).await?,
        };
        is_unrolled.insert(key, left_out);
        if left_out {
            continue;
        }
        let entries: i64 = on_db!(&mut *conn, |db| {
            sqlx::query_scalar(SQL)
                .bind(bucket.hour.to_string())
                .bind(&bucket.subkey_id)
                .bind(name)
                .bind(value)
                .bind(&bucket.project)
                .bind(&bucket.provider)
                .bind(&bucket.model)
                .bind(sums.entries)
                .bind(sums.requests)
                .bind(sums.denied)
                .bind(sums.failed)
                .bind(sums.input_tokens)
                .bind(sums.cached_input_tokens)
                .bind(sums.cache_write_tokens)
                .bind(sums.output_tokens)
                .bind(countable(sums.cost))
                .fetch_one(db)
                .await
        })
        .map_err(StoreError::of(TAGS))?;
        if entries == sums.entries {
            // A row that was not there before.
            grown.insert(key);
        }
    }
    for key in grown {
        unroll_if_too_many(conn, key).await?;
    }
    Ok(())
}

/// Whether the key has no sums by tag for the hour.
async fn is_unrolled_in(conn: &mut Conn<'_>, (hour, subkey): (Hour, &str)) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM usage_unrolled WHERE hour = $1 AND subkey_id = $2";
    on_db!(&mut *conn, |db| {
        let found = sqlx::query(SQL).bind(hour.to_string()).bind(subkey).fetch_optional(db).await;
        found.map(|row| row.is_some())
    })
    .map_err(StoreError::of(UNROLLED))
}

/// Gives up the key's sums by tag for the hour when they are too many.
async fn unroll_if_too_many(conn: &mut Conn<'_>, (hour, subkey): (Hour, &str)) -> Result<(), StoreError> {
    const COUNT: &str = "SELECT COUNT(*) FROM usage_tags WHERE hour = $1 AND subkey_id = $2";
    const MARK: &str = "
        INSERT INTO usage_unrolled (hour, subkey_id, begins, ends) VALUES ($1, $2, $3, $4)
        ON CONFLICT (hour, subkey_id) DO NOTHING";
    const DROP: &str = "DELETE FROM usage_tags WHERE hour = $1 AND subkey_id = $2";
    let text = hour.to_string();
    let rows: i64 =
        on_db!(&mut *conn, |db| sqlx::query_scalar(COUNT).bind(&text).bind(subkey).fetch_one(db).await)
            .map_err(StoreError::of(TAGS))?;
    if rows <= TAG_ROWS_MAX {
        return Ok(());
    }
    on_db!(&mut *conn, |db| {
        let mark = sqlx::query(MARK).bind(&text).bind(subkey);
        mark.bind(micros(hour.begins())).bind(micros(hour.ends())).execute(db).await.map(drop)
    })
    .map_err(StoreError::of(UNROLLED))?;
    on_db!(&mut *conn, |db| sqlx::query(DROP).bind(&text).bind(subkey).execute(db).await.map(drop))
        .map_err(StoreError::of(TAGS))
}

/// The first hour after `after` of which the log or the sums tell anything, as it is written there: what is not one of
/// ours may be no hour. `None` after the last.
pub async fn first_hour_after(
    conn: &mut Conn<'_>,
    after: Option<&str>,
) -> Result<Option<String>, StoreError> {
    const SUMS: &str = "
        SELECT MIN(first) FROM (
            SELECT MIN(hour) AS first FROM usage_hours WHERE hour > $1
            UNION ALL SELECT MIN(hour) FROM usage_tags WHERE hour > $1
            UNION ALL SELECT MIN(hour) FROM usage_unrolled WHERE hour > $1) f";
    const LOG: &str = "SELECT MIN(time) FROM access_log WHERE time >= $1";
    let summed: Option<String> =
        on_db!(&mut *conn, |db| sqlx::query_scalar(SUMS).bind(after.unwrap_or_default()).fetch_one(db).await)
            .map_err(StoreError::of(HOURS))?;
    // Behind a text that is no hour, the log goes on with the hour that the text begins with.
    let begins = match after {
        None => DateTime::UNIX_EPOCH,
        Some(text) => match text.get(..13).and_then(Hour::parse) {
            Some(hour) => hour.ends(),
            None => return Ok(summed),
        },
    };
    let logged: Option<DateTime<Utc>> =
        on_db!(conn, |db| sqlx::query_scalar(LOG).bind(micros(begins)).fetch_one(db).await)
            .map_err(StoreError::of("access_log"))?;
    let logged = logged.map(|time| Hour::of(time).to_string());
    Ok(summed.into_iter().chain(logged).min())
}

/// Of what the log tells otherwise than its sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disagreement {
    /// The sums of hours.
    Hours,
    /// The sums by tag.
    Tags,
}

/// Holds the sums of an hour against the log. Returns what disagrees, and how many entries the hour has by its sums.
pub async fn look(conn: &mut Conn<'_>, hour: &str) -> Result<(Option<Disagreement>, i64), StoreError> {
    const ENTRIES: &str = "SELECT CAST(COALESCE(SUM(entries), 0) AS BIGINT) FROM usage_hours WHERE hour = $1";
    const BUCKETS: &str = "
        SELECT COUNT(*) FROM (
            SELECT project FROM (
                SELECT project, subkey_id, provider, model, entries, requests, denied, failed, input_tokens,
                       cached_input_tokens, cache_write_tokens, output_tokens, cost_nano
                  FROM usage_hours WHERE hour = $1
                UNION ALL
                SELECT project, subkey_id, COALESCE(provider, ''), COALESCE(model, ''), -1, -count,
                       CASE WHEN decision = 'denied' THEN -count ELSE 0 END,
                       CASE WHEN decision = 'allowed' AND (status IS NULL OR status >= 400) THEN -count ELSE 0 END,
                       -input_tokens, -cached_input_tokens, -cache_write_tokens, -output_tokens, -cost_nano
                  FROM access_log WHERE time >= $2 AND time < $3) sides
             GROUP BY project, subkey_id, provider, model
            HAVING SUM(entries) <> 0 OR SUM(requests) <> 0 OR SUM(denied) <> 0 OR SUM(failed) <> 0
                OR SUM(input_tokens) <> 0 OR SUM(cached_input_tokens) <> 0 OR SUM(cache_write_tokens) <> 0
                OR SUM(output_tokens) <> 0 OR SUM(cost_nano) <> 0 OR MAX(entries) <= 0) wrong";
    const BY_TAG: &str = "
        SELECT COUNT(*) FROM (
            SELECT name FROM (
                SELECT subkey_id, name, value, project, provider, model, entries, requests, denied, failed,
                       input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano
                  FROM usage_tags WHERE hour = $1
                UNION ALL
                SELECT l.subkey_id, t.name, t.value, l.project, COALESCE(l.provider, ''), COALESCE(l.model, ''),
                       -1, -l.count, CASE WHEN l.decision = 'denied' THEN -l.count ELSE 0 END,
                       CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400)
                            THEN -l.count ELSE 0 END,
                       -l.input_tokens, -l.cached_input_tokens, -l.cache_write_tokens, -l.output_tokens, -l.cost_nano
                  FROM access_log l JOIN access_tags t ON t.seq = l.seq
                 WHERE l.time >= $2 AND l.time < $3 AND NOT EXISTS (
                    SELECT 1 FROM usage_unrolled x WHERE x.hour = $1 AND x.subkey_id = l.subkey_id
                                                     AND x.begins = $2 AND x.ends = $3)) sides
             GROUP BY subkey_id, name, value, project, provider, model
            HAVING SUM(entries) <> 0 OR SUM(requests) <> 0 OR SUM(denied) <> 0 OR SUM(failed) <> 0
                OR SUM(input_tokens) <> 0 OR SUM(cached_input_tokens) <> 0 OR SUM(cache_write_tokens) <> 0
                OR SUM(output_tokens) <> 0 OR SUM(cost_nano) <> 0 OR MAX(entries) <= 0) wrong";
    let Some(known) = Hour::parse(hour) else { return Ok((Some(Disagreement::Hours), 0)) };
    let entries: i64 = on_db!(&mut *conn, |db| sqlx::query_scalar(ENTRIES).bind(hour).fetch_one(db).await)
        .map_err(StoreError::of(HOURS))?;
    for (sql, of) in [(BUCKETS, Disagreement::Hours), (BY_TAG, Disagreement::Tags)] {
        let wrong: i64 = on_db!(&mut *conn, |db| {
            let asked = sqlx::query_scalar(sql).bind(hour);
            asked.bind(micros(known.begins())).bind(micros(known.ends())).fetch_one(db).await
        })
        .map_err(StoreError::of(HOURS))?;
        if wrong > 0 {
            return Ok((Some(of), entries));
        }
    }
    Ok((None, entries))
}

#[derive(sqlx::FromRow)]
struct TotalRow {
    entries: i64,
    requests: i64,
    cost_nano: i64,
}

/// Makes the sums of an hour anew from the log. Returns what they came to before and after. Belongs into a transaction of
/// the one who appends, after its own sums were added.
pub async fn rebuild(conn: &mut Conn<'_>, hour: &str) -> Result<(Sums, Sums), StoreError> {
    const FORGET: [&str; 3] = [
        "DELETE FROM usage_hours WHERE hour = $1",
        "DELETE FROM usage_tags WHERE hour = $1",
        "DELETE FROM usage_unrolled WHERE hour = $1",
    ];
    const AGAIN: [&str; 3] = [
        "INSERT INTO usage_hours (hour, project, subkey_id, provider, model, entries, requests, denied, failed,
                                  input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
         SELECT CAST($1 AS TEXT), l.project, l.subkey_id, COALESCE(l.provider, ''), COALESCE(l.model, ''), COUNT(*),
                SUM(l.count), SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END),
                SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400)
                         THEN l.count ELSE 0 END),
                SUM(l.input_tokens), SUM(l.cached_input_tokens), SUM(l.cache_write_tokens), SUM(l.output_tokens),
                SUM(l.cost_nano)
           FROM access_log l WHERE l.time >= $2 AND l.time < $3
          GROUP BY l.project, l.subkey_id, COALESCE(l.provider, ''), COALESCE(l.model, '')",
        "INSERT INTO usage_unrolled (hour, subkey_id, begins, ends)
         SELECT CAST($1 AS TEXT), r.subkey_id, $2, $3 FROM (
            SELECT DISTINCT l.subkey_id, t.name, t.value, l.project, COALESCE(l.provider, '') AS provider,
                   COALESCE(l.model, '') AS model
              FROM access_log l JOIN access_tags t ON t.seq = l.seq WHERE l.time >= $2 AND l.time < $3) r
          GROUP BY r.subkey_id HAVING COUNT(*) > 1000",
        "INSERT INTO usage_tags (hour, subkey_id, name, value, project, provider, model, entries, requests, denied,
                                 failed, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens,
                                 cost_nano)
         SELECT CAST($1 AS TEXT), l.subkey_id, t.name, t.value, l.project, COALESCE(l.provider, ''),
                COALESCE(l.model, ''), COUNT(*), SUM(l.count),
                SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END),
                SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400)
                         THEN l.count ELSE 0 END),
                SUM(l.input_tokens), SUM(l.cached_input_tokens), SUM(l.cache_write_tokens), SUM(l.output_tokens),
                SUM(l.cost_nano)
           FROM access_log l JOIN access_tags t ON t.seq = l.seq
          WHERE l.time >= $2 AND l.time < $3
            AND NOT EXISTS (SELECT 1 FROM usage_unrolled x WHERE x.hour = $1 AND x.subkey_id = l.subkey_id)
          GROUP BY l.subkey_id, t.name, t.value, l.project, COALESCE(l.provider, ''), COALESCE(l.model, '')",
    ];
    let before = total(conn, hour).await?;
    for sql in FORGET {
        on_db!(&mut *conn, |db| sqlx::query(sql).bind(hour).execute(db).await.map(drop))
            .map_err(StoreError::of(HOURS))?;
    }
    if let Some(known) = Hour::parse(hour) {
        for sql in AGAIN {
            on_db!(&mut *conn, |db| {
                let asked = sqlx::query(sql).bind(hour).bind(micros(known.begins()));
                asked.bind(micros(known.ends())).execute(db).await.map(drop)
            })
            .map_err(StoreError::of(HOURS))?;
        }
    }
    Ok((before, total(conn, hour).await?))
}

async fn total(conn: &mut Conn<'_>, hour: &str) -> Result<Sums, StoreError> {
    const SQL: &str = "
        SELECT CAST(COALESCE(SUM(entries), 0) AS BIGINT) AS entries,
               CAST(COALESCE(SUM(requests), 0) AS BIGINT) AS requests,
               CAST(COALESCE(SUM(cost_nano), 0) AS BIGINT) AS cost_nano
          FROM usage_hours WHERE hour = $1";
    let row: TotalRow = on_db!(conn, |db| sqlx::query_as(SQL).bind(hour).fetch_one(db).await)
        .map_err(StoreError::of(HOURS))?;
    let TotalRow { entries, requests, cost_nano } = row;
    Ok(Sums { entries, requests, cost: NanoUsd::from_nano(cost_nano), ..Sums::default() })
}
