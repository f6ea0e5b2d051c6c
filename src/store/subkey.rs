//! Sub-keys: the key, its labels and its secrets' MACs are one thing; when it was last used is kept apart.

use super::query::{Pieces, contains_pattern, micros, page_limit};
use super::{Conn, Cursor, Page, StoreError};
use crate::subkey::{Definition, SecretRecord, State, SubKey, SubKeyId};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use std::collections::BTreeMap;

const TABLE: &str = "subkeys";
const SECRETS: &str = "subkey_secrets";

/// Which sub-keys a list holds; every part given must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubKeyFilter {
    /// Of this project.
    pub project: Option<String>,
    /// Of one of these projects.
    pub within: Option<Vec<String>>,
    /// Minted by this operator.
    pub created_by: Option<String>,
    /// In this state.
    pub status: Option<Status>,
    /// With this label; `None` as value is any value.
    pub label: Option<(String, Option<String>)>,
    /// With this text in the name, whatever its ASCII case, or with exactly this id.
    pub q: Option<String>,
    /// Last used before this time; never used and minted before it, too.
    pub unused_since: Option<DateTime<Utc>>,
    /// With an expiry before this time.
    pub expires_before: Option<DateTime<Utc>>,
}

/// What people call the state of a sub-key, at a moment where it depends on one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Usable.
    Active {
        /// At this moment.
        now: DateTime<Utc>,
    },
    /// Would be usable, had it not expired.
    Expired {
        /// At this moment.
        now: DateTime<Utc>,
    },
    /// Stopped.
    Suspended,
    /// Stopped for ever.
    Revoked,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    version: i64,
    state: String,
    definition: Json<Definition>,
    created_at: DateTime<Utc>,
    created_by: String,
    last_used_at: Option<DateTime<Utc>>,
    secret_id: Option<String>,
    secret_mac: Option<Vec<u8>>,
    secret_mac_term: Option<i64>,
    secret_created_at: Option<DateTime<Utc>>,
    secret_expires_at: Option<DateTime<Utc>>,
    secret_last_used_at: Option<DateTime<Utc>>,
}

impl Row {
    fn secret(&mut self) -> Option<SecretRecord> {
        Some(SecretRecord {
            id: self.secret_id.take()?,
            mac: self.secret_mac.take()?,
            mac_term: self.secret_mac_term?,
            created_at: self.secret_created_at?,
            expires_at: self.secret_expires_at,
            last_used_at: self.secret_last_used_at,
        })
    }
}

impl TryFrom<Row> for SubKey {
    type Error = StoreError;

    fn try_from(mut row: Row) -> Result<Self, StoreError> {
        let secrets = row.secret().into_iter().collect();
        Ok(Self {
            id: SubKeyId::parse(&row.id).ok_or_else(|| StoreError::corrupt(TABLE, "id"))?,
            version: row.version,
            definition: row.definition.0,
            state: State::parse(&row.state).ok_or_else(|| StoreError::corrupt(TABLE, "state"))?,
            secrets,
            created_at: row.created_at,
            created_by: row.created_by,
            last_used_at: row.last_used_at,
        })
    }
}

/// Adds a sub-key with its labels and secrets. [`StoreError::Conflict`] when a key of the project that is not revoked has
/// its name, [`StoreError::Reference`] when there is no such project.
pub async fn insert(conn: &mut Conn<'_>, key: &SubKey) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO subkeys (id, project, name, version, state, definition, expires_at, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    on_db!(&mut *conn, |db| {
        sqlx::query(SQL)
            .bind(key.id.as_str())
            .bind(&key.definition.project)
            .bind(&key.definition.name)
            .bind(key.version)
            .bind(key.state.as_str())
            .bind(Json(&key.definition))
            .bind(key.definition.expires_at.map(micros))
            .bind(micros(key.created_at))
            .bind(&key.created_by)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))?;
    insert_labels(conn, &key.id, &key.definition.labels).await?;
    for secret in &key.secrets {
        add_secret(conn, &key.id, secret).await?;
    }
    Ok(())
}

/// The sub-key with its secrets, if there is one.
pub async fn get(conn: &mut Conn<'_>, id: &SubKeyId) -> Result<Option<SubKey>, StoreError> {
    let mut condition = Pieces::default();
    condition.sql(" AND k.id = ").value(id.as_str());
    Ok(select(conn, condition, 1).await?.pop())
}

/// The sub-keys of these ids with their secrets, newest first; ids that are nobody's are left out.
pub async fn get_many(conn: &mut Conn<'_>, ids: &[SubKeyId]) -> Result<Vec<SubKey>, StoreError> {
    /// Bound by the number of values that one statement may have.
    const IDS_PER_STATEMENT: usize = 1_000;
    let mut found = Vec::with_capacity(ids.len());
    for some in ids.chunks(IDS_PER_STATEMENT) {
        let mut condition = Pieces::default();
        condition.sql(" AND k.id IN (");
        for (index, id) in some.iter().enumerate() {
            condition.sql(if index == 0 { "" } else { ", " }).value(id.as_str());
        }
        condition.sql(")");
        let limit = i64::try_from(some.len()).unwrap_or(i64::MAX);
        found.extend(select(conn, condition, limit).await?);
    }
    Ok(found)
}

/// The id of the project's key of that name; revoked keys have given their names back.
pub async fn find_by_name(
    conn: &mut Conn<'_>,
    project: &str,
    name: &str,
) -> Result<Option<SubKeyId>, StoreError> {
    const SQL: &str = "SELECT id FROM subkeys WHERE project = $1 AND name = $2 AND state <> 'revoked'";
    let id: Option<String> =
        on_db!(conn, |db| sqlx::query_scalar(SQL).bind(project).bind(name).fetch_optional(db).await)
            .map_err(StoreError::of(TABLE))?;
    id.map(|id| SubKeyId::parse(&id).ok_or_else(|| StoreError::corrupt(TABLE, "id"))).transpose()
}

/// The sub-keys that fit `filter`, newest first, from `after` on, at most `limit` (and [`super::PAGE_MAX`]).
///
/// Following the cursors shows every key that was there from the first page to the last exactly once.
pub async fn list(
    conn: &mut Conn<'_>,
    filter: &SubKeyFilter,
    after: Option<&Cursor<String>>,
    limit: u32,
) -> Result<Page<SubKey, String>, StoreError> {
    let limit = page_limit(limit);
    let mut conditions = conditions(filter);
    if let Some(after) = after {
        conditions
            .sql(" AND (k.created_at, k.id) < (")
            .value(after.at)
            .sql(", ")
            .value(after.key.as_str())
            .sql(")");
    }
    let keys = select(conn, conditions, i64::from(limit) + 1).await?;
    Ok(Page::of(keys, limit, |key| Cursor { at: key.created_at, key: key.id.as_str().to_owned() }))
}

fn conditions(filter: &SubKeyFilter) -> Pieces {
    let mut sql = Pieces::default();
    sql.when(" AND k.project = ", filter.project.as_deref());
    sql.among(" AND k.project", filter.within.as_deref());
    sql.when(" AND k.created_by = ", filter.created_by.as_deref());
    sql.when(" AND k.expires_at < ", filter.expires_before);
    match filter.status {
        Some(Status::Active { now }) => sql
            .sql(" AND k.state = 'active' AND (k.expires_at IS NULL OR k.expires_at > ")
            .value(now)
            .sql(")"),
        Some(Status::Expired { now }) => sql.sql(" AND k.state = 'active' AND k.expires_at <= ").value(now),
        Some(Status::Suspended) => sql.sql(" AND k.state = 'suspended'"),
        Some(Status::Revoked) => sql.sql(" AND k.state = 'revoked'"),
        None => &mut sql,
    };
    if let Some((key, value)) = &filter.label {
        sql.sql(" AND EXISTS (SELECT 1 FROM subkey_labels l WHERE l.subkey_id = k.id AND l.key = ")
            .value(key.as_str());
        sql.when(" AND l.value = ", value.as_deref()).sql(")");
    }
    if let Some(q) = &filter.q {
        sql.sql(" AND (k.id = ").value(q.as_str());
        sql.sql(" OR lower(k.name) LIKE ").value(contains_pattern(q).as_str()).sql(" ESCAPE '!')");
    }
    if let Some(since) = filter.unused_since {
        sql.sql(" AND COALESCE((SELECT MAX(u.last_used_at) FROM secret_use u WHERE u.subkey_id = k.id), k.created_at) < ");
        sql.value(since);
    }
    sql
}

/// The newest keys that meet the conditions, each with its secrets, by one statement: a key never comes with the secrets
/// of another moment.
async fn select(conn: &mut Conn<'_>, conditions: Pieces, limit: i64) -> Result<Vec<SubKey>, StoreError> {
    let mut sql = Pieces::default();
    sql.sql(
        "SELECT k.id, k.version, k.state, k.definition, k.created_at, k.created_by,
                (SELECT MAX(u.last_used_at) FROM secret_use u WHERE u.subkey_id = k.id) AS last_used_at,
                s.id AS secret_id, s.mac AS secret_mac, s.mac_term AS secret_mac_term,
                s.created_at AS secret_created_at, s.expires_at AS secret_expires_at,
                v.last_used_at AS secret_last_used_at
           FROM (SELECT * FROM subkeys k WHERE 1 = 1",
    );
    sql.append(conditions);
    sql.sql(" ORDER BY k.created_at DESC, k.id DESC LIMIT ").value(limit);
    sql.sql(
        ") k
           LEFT JOIN subkey_secrets s ON s.subkey_id = k.id
           LEFT JOIN secret_use v ON v.secret_id = s.id
          ORDER BY k.created_at DESC, k.id DESC, s.created_at, s.id",
    );
    let rows: Vec<Row> =
        on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    let mut keys: Vec<SubKey> = Vec::new();
    for mut row in rows {
        match keys.last_mut().filter(|key| key.id.as_str() == row.id) {
            Some(key) => key.secrets.extend(row.secret()),
            None => keys.push(row.try_into()?),
        }
    }
    Ok(keys)
}

/// Writes definition and state over version `expected`; returns the new version. `None`, changing nothing, when there is
/// no such key or it has moved on. [`StoreError::Conflict`] when the new name is taken.
pub async fn update(
    conn: &mut Conn<'_>,
    id: &SubKeyId,
    expected: i64,
    definition: &Definition,
    state: State,
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE subkeys
           SET project = $3, name = $4, state = $5, definition = $6, expires_at = $7, version = version + 1
         WHERE id = $1 AND version = $2
        RETURNING version";
    const CLEAR: &str = "DELETE FROM subkey_labels WHERE subkey_id = $1";
    let version: Option<i64> = on_db!(&mut *conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(id.as_str())
            .bind(expected)
            .bind(&definition.project)
            .bind(&definition.name)
            .bind(state.as_str())
            .bind(Json(definition))
            .bind(definition.expires_at.map(micros))
            .fetch_optional(db)
            .await
    })
    .map_err(StoreError::of(TABLE))?;
    if version.is_some() {
        on_db!(&mut *conn, |db| sqlx::query(CLEAR).bind(id.as_str()).execute(db).await.map(drop))
            .map_err(StoreError::of("subkey_labels"))?;
        insert_labels(conn, id, &definition.labels).await?;
    }
    Ok(version)
}

/// Labels are in the definition; this copy of them is for filters.
async fn insert_labels(
    conn: &mut Conn<'_>,
    id: &SubKeyId,
    labels: &BTreeMap<String, String>,
) -> Result<(), StoreError> {
    const SQL: &str = "INSERT INTO subkey_labels (subkey_id, key, value) VALUES ($1, $2, $3)";
    for (key, value) in labels {
        on_db!(&mut *conn, |db| {
            sqlx::query(SQL).bind(id.as_str()).bind(key).bind(value).execute(db).await.map(drop)
        })
        .map_err(StoreError::of("subkey_labels"))?;
    }
    Ok(())
}

/// Adds a secret to a sub-key. `last_used_at` of the record is not looked at.
pub async fn add_secret(conn: &mut Conn<'_>, id: &SubKeyId, secret: &SecretRecord) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO subkey_secrets (id, subkey_id, mac, mac_term, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&secret.id)
            .bind(id.as_str())
            .bind(&secret.mac)
            .bind(secret.mac_term)
            .bind(micros(secret.created_at))
            .bind(secret.expires_at.map(micros))
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(SECRETS))
}

/// Lets a secret die at `at`; one that dies earlier still does. `false` when there is no such secret.
pub async fn expire_secret(
    conn: &mut Conn<'_>,
    secret_id: &str,
    at: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE subkey_secrets
           SET expires_at = CASE WHEN expires_at < $2 THEN expires_at ELSE $2 END
         WHERE id = $1";
    on_db!(conn, |db| {
        let update = sqlx::query(SQL).bind(secret_id).bind(micros(at));
        update.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(SECRETS))
}

/// Removes a secret; `false` when there is none. When it was last used is not forgotten.
pub async fn delete_secret(conn: &mut Conn<'_>, secret_id: &str) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM subkey_secrets WHERE id = $1";
    on_db!(conn, |db| sqlx::query(SQL)
        .bind(secret_id)
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1))
    .map_err(StoreError::of(SECRETS))
}

/// One use of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The secret.
    pub secret_id: String,
    /// Its sub-key.
    pub subkey_id: SubKeyId,
    /// When.
    pub at: DateTime<Utc>,
}

/// Notes when secrets were last used, in bulk; an earlier time than is noted changes nothing.
pub async fn touch(conn: &mut Conn<'_>, uses: &[SecretUse]) -> Result<(), StoreError> {
    /// Bound by the number of values that one statement may have.
    const ROWS_PER_STATEMENT: usize = 1_000;
    // One row for each secret: PostgreSQL changes none twice in one statement. In order, so that no two batches deadlock.
    let mut latest: BTreeMap<&str, &SecretUse> = BTreeMap::new();
    for one in uses {
        let kept = latest.entry(&one.secret_id).or_insert(one);
        if kept.at < one.at {
            *kept = one;
        }
    }
    let latest: Vec<&SecretUse> = latest.into_values().collect();
    for some in latest.chunks(ROWS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql("INSERT INTO secret_use (secret_id, subkey_id, last_used_at) VALUES ");
        for (index, one) in some.iter().enumerate() {
            sql.sql(if index == 0 { "(" } else { ", (" }).value(one.secret_id.as_str());
            sql.sql(", ").value(one.subkey_id.as_str()).sql(", ").value(one.at).sql(")");
        }
        sql.sql(
            " ON CONFLICT (secret_id) DO UPDATE SET last_used_at = excluded.last_used_at
               WHERE secret_use.last_used_at < excluded.last_used_at",
        );
        on_db!(&mut *conn, |db| sql.build().build().persistent(false).execute(db).await.map(drop))
            .map_err(StoreError::of("secret_use"))?;
    }
    Ok(())
}
