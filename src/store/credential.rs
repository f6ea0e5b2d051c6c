//! Credentials of providers: what is known about each, and its sealed versions. Nothing here can be opened here.

use super::query::micros;
use super::{Conn, StoreError};
use crate::budget::RateLimit;
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use std::collections::HashMap;

const TABLE: &str = "credentials";
const VERSIONS: &str = "credential_versions";

/// A credential as it is kept, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRecord {
    /// Its id.
    pub id: String,
    /// The provider's slug.
    pub provider: String,
    /// Unique among the provider's.
    pub name: String,
    /// Its share of the provider's traffic.
    pub weight: i64,
    /// The projects that may use it; `None` is all.
    pub projects: Option<Vec<String>>,
    /// The organisation named to the provider.
    pub organization: Option<String>,
    /// The provider's project named to it.
    pub openai_project: Option<String>,
    /// What may be sent with it, whoever sends it.
    pub rate_limits: Vec<RateLimit>,
    /// Whether it may be used.
    pub status: CredentialStatus,
    /// Which of its sealed versions is in use.
    pub secret_version: i64,
    /// The version before it, while that still may be used. Read here, written by [`drain_secret`].
    pub draining: Option<Draining>,
    /// Why an operator should rotate it. Written by [`set_rotation_due`], cleared by [`rotate`].
    pub rotation_due: Option<String>,
    /// Counts the changes; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
}

impl CredentialRecord {
    /// The versions of its secret that are kept: the one in use, and the one before while it drains.
    pub fn kept_versions(&self) -> impl Iterator<Item = i64> + use<> {
        std::iter::once(self.secret_version).chain(self.draining.map(|draining| draining.secret_version))
    }
}

/// A sealed version that gives way to a newer one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// Which version.
    pub secret_version: i64,
    /// From then on it is not used.
    pub until: DateTime<Utc>,
}

/// Whether a credential may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialStatus {
    /// It may.
    Active,
    /// An operator stopped it.
    Disabled,
}

impl CredentialStatus {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }
}

/// One version of a credential's secret, sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    /// The keyring term that wraps the data key.
    pub term: i64,
    /// The data key, wrapped.
    pub wrapped_dek: Vec<u8>,
    /// The provider's key, sealed with the data key.
    pub sealed: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    provider: String,
    name: String,
    weight: i64,
    projects: Option<Json<Vec<String>>>,
    organization: Option<String>,
    openai_project: Option<String>,
    rate_limits: Option<Json<Vec<RateLimit>>>,
    status: String,
    secret_version: i64,
    draining_version: Option<i64>,
    drain_until: Option<DateTime<Utc>>,
    rotation_due: Option<String>,
    version: i64,
    created_at: DateTime<Utc>,
    created_by: String,
}

#[derive(sqlx::FromRow)]
struct SealedRow {
    term: i64,
    wrapped_dek: Vec<u8>,
    sealed: Vec<u8>,
}

impl TryFrom<Row> for CredentialRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let known = [CredentialStatus::Active, CredentialStatus::Disabled];
        let status = known.into_iter().find(|status| status.as_str() == row.status);
        let draining = match (row.draining_version, row.drain_until) {
            (Some(secret_version), Some(until)) => Some(Draining { secret_version, until }),
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => return Err(StoreError::corrupt(VERSIONS, "drain_until")),
        };
        Ok(Self {
            id: row.id,
            provider: row.provider,
            name: row.name,
            weight: row.weight,
            projects: row.projects.map(|projects| projects.0),
            organization: row.organization,
            openai_project: row.openai_project,
            rate_limits: row.rate_limits.map(|limits| limits.0).unwrap_or_default(),
            status: status.ok_or_else(|| StoreError::corrupt(TABLE, "status"))?,
            secret_version: row.secret_version,
            draining,
            rotation_due: row.rotation_due,
            version: row.version,
            created_at: row.created_at,
            created_by: row.created_by,
        })
    }
}

/// Adds a credential; its sealed secret follows by [`insert_secret`]. [`StoreError::Conflict`] when the provider has
/// one of that name, [`StoreError::Reference`] when there is no such provider.
pub async fn insert(conn: &mut Conn<'_>, credential: &CredentialRecord) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO credentials (id, provider, name, weight, projects, organization, openai_project, status,
                                 secret_version, version, created_at, created_by, rate_limits)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&credential.id)
            .bind(&credential.provider)
            .bind(&credential.name)
            .bind(credential.weight)
            .bind(credential.projects.as_ref().map(Json))
            .bind(&credential.organization)
            .bind(&credential.openai_project)
            .bind(credential.status.as_str())
            .bind(credential.secret_version)
            .bind(credential.version)
            .bind(micros(credential.created_at))
            .bind(&credential.created_by)
            .bind(kept(&credential.rate_limits))
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// Keeps one sealed version of a credential's secret. A version is written once.
pub async fn insert_secret(
    conn: &mut Conn<'_>,
    credential_id: &str,
    secret_version: i64,
    secret: &SealedSecret,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO credential_versions (credential_id, secret_version, term, wrapped_dek, sealed, created_at)
        VALUES ($1, $2, $3, $4, $5, $6)";
    on_db!(conn, |db| {
        let insert = sqlx::query(SQL).bind(credential_id).bind(secret_version).bind(secret.term);
        insert.bind(&secret.wrapped_dek).bind(&secret.sealed).bind(micros(now)).execute(db).await.map(drop)
    })
    .map_err(StoreError::of(VERSIONS))
}

/// One sealed version of a credential's secret, if it is kept.
pub async fn secret(
    conn: &mut Conn<'_>,
    credential_id: &str,
    secret_version: i64,
) -> Result<Option<SealedSecret>, StoreError> {
    const SQL: &str = "
        SELECT term, wrapped_dek, sealed FROM credential_versions
         WHERE credential_id = $1 AND secret_version = $2";
    let row: Option<SealedRow> = on_db!(conn, |db| {
        sqlx::query_as(SQL).bind(credential_id).bind(secret_version).fetch_optional(db).await
    })
    .map_err(StoreError::of(VERSIONS))?;
    Ok(row.map(|SealedRow { term, wrapped_dek, sealed }| SealedSecret { term, wrapped_dek, sealed }))
}

/// The kept versions of a credential's secret, each as a text of its number, state and end.
pub async fn versions_of(conn: &mut Conn<'_>, credential_id: &str) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "
        SELECT secret_version, status, drain_until FROM credential_versions
         WHERE credential_id = $1 ORDER BY secret_version";
    let rows: Vec<(i64, String, Option<DateTime<Utc>>)> =
        on_db!(conn, |db| sqlx::query_as(SQL).bind(credential_id).fetch_all(db).await)
            .map_err(StoreError::of(VERSIONS))?;
    Ok(rows.into_iter().map(|(version, status, until)| told(version, &status, until)).collect())
}

/// As [`versions_of`], of every credential, by its id.
pub async fn versions_of_all(conn: &mut Conn<'_>) -> Result<HashMap<String, Vec<String>>, StoreError> {
    const SQL: &str = "
        SELECT credential_id, secret_version, status, drain_until FROM credential_versions
         ORDER BY credential_id, secret_version";
    let rows: Vec<(String, i64, String, Option<DateTime<Utc>>)> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(VERSIONS))?;
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for (credential, version, status, until) in rows {
        all.entry(credential).or_default().push(told(version, &status, until));
    }
    Ok(all)
}

fn told(version: i64, status: &str, until: Option<DateTime<Utc>>) -> String {
    format!("{version} {status} {}", until.map_or(0, |until| until.timestamp_micros()))
}

/// Puts another seal in the place of a version's, which stays what it was otherwise. `false`, changing nothing, when
/// the version is not kept.
pub async fn reseal_secret(
    conn: &mut Conn<'_>,
    credential_id: &str,
    secret_version: i64,
    secret: &SealedSecret,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE credential_versions SET term = $3, wrapped_dek = $4, sealed = $5
         WHERE credential_id = $1 AND secret_version = $2";
    on_db!(conn, |db| {
        let update = sqlx::query(SQL).bind(credential_id).bind(secret_version).bind(secret.term);
        let update = update.bind(&secret.wrapped_dek).bind(&secret.sealed);
        update.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(VERSIONS))
}

/// Lets a version be used until then and no longer. `false`, changing nothing, when the version is not kept.
pub async fn drain_secret(
    conn: &mut Conn<'_>,
    credential_id: &str,
    secret_version: i64,
    until: DateTime<Utc>,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE credential_versions SET status = 'draining', drain_until = $3
         WHERE credential_id = $1 AND secret_version = $2";
    on_db!(conn, |db| {
        let update = sqlx::query(SQL).bind(credential_id).bind(secret_version).bind(micros(until));
        update.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(VERSIONS))
}

/// The versions whose time to drain is over, as credential and version, the one that is over longest first.
pub async fn drained_secrets(
    conn: &mut Conn<'_>,
    now: DateTime<Utc>,
) -> Result<Vec<(String, i64)>, StoreError> {
    const SQL: &str = "
        SELECT credential_id, secret_version FROM credential_versions
         WHERE status = 'draining' AND drain_until <= $1 ORDER BY drain_until, credential_id";
    on_db!(conn, |db| sqlx::query_as(SQL).bind(micros(now)).fetch_all(db).await)
        .map_err(StoreError::of(VERSIONS))
}

/// Removes a sealed version with its data key: what it sealed is gone. `false` when it was not kept.
pub async fn delete_secret(
    conn: &mut Conn<'_>,
    credential_id: &str,
    secret_version: i64,
) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM credential_versions WHERE credential_id = $1 AND secret_version = $2";
    on_db!(conn, |db| {
        let delete = sqlx::query(SQL).bind(credential_id).bind(secret_version);
        delete.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(VERSIONS))
}

/// The credential, if there is one.
pub async fn get(conn: &mut Conn<'_>, id: &str) -> Result<Option<CredentialRecord>, StoreError> {
    const SQL: &str = "
        SELECT c.id, c.provider, c.name, c.weight, c.projects, c.organization, c.openai_project, c.rate_limits, c.status,
               c.secret_version, d.secret_version AS draining_version, d.drain_until, c.rotation_due,
               c.version, c.created_at, c.created_by
          FROM credentials c
          LEFT JOIN credential_versions d ON d.credential_id = c.id AND d.status = 'draining'
         WHERE c.id = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(id).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    row.map(CredentialRecord::try_from).transpose()
}

/// All credentials of all providers, by provider and name.
pub async fn list(conn: &mut Conn<'_>) -> Result<Vec<CredentialRecord>, StoreError> {
    const SQL: &str = "
        SELECT c.id, c.provider, c.name, c.weight, c.projects, c.organization, c.openai_project, c.rate_limits, c.status,
               c.secret_version, d.secret_version AS draining_version, d.drain_until, c.rotation_due,
               c.version, c.created_at, c.created_by
          FROM credentials c
          LEFT JOIN credential_versions d ON d.credential_id = c.id AND d.status = 'draining'
         ORDER BY c.provider, c.name";
    let rows: Vec<Row> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    rows.into_iter().map(CredentialRecord::try_from).collect()
}

/// A provider's credentials that may be used, by name.
pub async fn active_of(conn: &mut Conn<'_>, provider: &str) -> Result<Vec<CredentialRecord>, StoreError> {
    const SQL: &str = "
        SELECT c.id, c.provider, c.name, c.weight, c.projects, c.organization, c.openai_project, c.rate_limits, c.status,
               c.secret_version, d.secret_version AS draining_version, d.drain_until, c.rotation_due,
               c.version, c.created_at, c.created_by
          FROM credentials c
          LEFT JOIN credential_versions d ON d.credential_id = c.id AND d.status = 'draining'
         WHERE c.provider = $1 AND c.status = 'active' ORDER BY c.name";
    let rows: Vec<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(provider).fetch_all(db).await)
        .map_err(StoreError::of(TABLE))?;
    rows.into_iter().map(CredentialRecord::try_from).collect()
}

/// Puts another sealed version in use, over version `expected` of the credential, which then is not due any more;
/// returns the new version of the credential. `None`, changing nothing, when there is no such credential or it has moved on.
pub async fn rotate(
    conn: &mut Conn<'_>,
    id: &str,
    expected: i64,
    secret_version: i64,
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE credentials SET secret_version = $3, rotation_due = NULL, version = version + 1
         WHERE id = $1 AND version = $2
        RETURNING version";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL).bind(id).bind(expected).bind(secret_version).fetch_optional(db).await
    })
    .map_err(StoreError::of(TABLE))
}

/// Writes other rate limits over version `expected`; returns the new version. `None`, changing nothing, when there is no
/// such credential or it has moved on.
pub async fn set_rate_limits(
    conn: &mut Conn<'_>,
    id: &str,
    expected: i64,
    limits: &[RateLimit],
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE credentials SET rate_limits = $3, version = version + 1
         WHERE id = $1 AND version = $2
        RETURNING version";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL).bind(id).bind(expected).bind(kept(limits)).fetch_optional(db).await
    })
    .map_err(StoreError::of(TABLE))
}

/// No limits are no value: what a row was before there were any.
fn kept(limits: &[RateLimit]) -> Option<Json<&[RateLimit]>> {
    (!limits.is_empty()).then_some(Json(limits))
}

/// Stops a credential or lets it be used again, over version `expected`; returns the new version. `None`, changing
/// nothing, when there is no such credential or it has moved on.
pub async fn set_status(
    conn: &mut Conn<'_>,
    id: &str,
    expected: i64,
    status: CredentialStatus,
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE credentials SET status = $3, version = version + 1
         WHERE id = $1 AND version = $2
        RETURNING version";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL).bind(id).bind(expected).bind(status.as_str()).fetch_optional(db).await
    })
    .map_err(StoreError::of(TABLE))
}

/// Notes why an operator should rotate the credential, if this version of its secret still is the one in use. It is no
/// change of the credential, so its version stays. `false`, changing nothing, when there is a reason already, or the
/// secret is not in use any more.
pub async fn set_rotation_due(
    conn: &mut Conn<'_>,
    id: &str,
    secret_version: i64,
    reason: &str,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE credentials SET rotation_due = $3
         WHERE id = $1 AND secret_version = $2 AND rotation_due IS NULL";
    on_db!(conn, |db| {
        let update = sqlx::query(SQL).bind(id).bind(secret_version).bind(reason);
        update.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}
