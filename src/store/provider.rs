//! Providers as they are kept: a versioned document each.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};
use sqlx::types::Json;

const TABLE: &str = "providers";

/// A provider as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderRecord {
    /// Its slug.
    pub slug: String,
    /// Counts the changes; 1 at first.
    pub version: i64,
    /// The provider as the contract has it, without slug.
    pub document: serde_json::Value,
    /// Whether it may be used.
    pub status: ProviderStatus,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
}

/// Whether a provider may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderStatus {
    /// It may.
    Active,
    /// An operator stopped it.
    Suspended,
}

impl ProviderStatus {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
        }
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    slug: String,
    version: i64,
    document: Json<serde_json::Value>,
    status: String,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for ProviderRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let known = [ProviderStatus::Active, ProviderStatus::Suspended];
        let status = known.into_iter().find(|status| status.as_str() == row.status);
        Ok(Self {
            slug: row.slug,
            version: row.version,
            document: row.document.0,
            status: status.ok_or_else(|| StoreError::corrupt(TABLE, "status"))?,
            created_at: row.created_at,
        })
    }
}

/// Adds a provider unless the slug is taken; `false`, changing nothing, if it is.
pub async fn insert_if_absent(conn: &mut Conn<'_>, provider: &ProviderRecord) -> Result<bool, StoreError> {
    const SQL: &str = "
        INSERT INTO providers (slug, version, document, status, created_at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (slug) DO NOTHING";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&provider.slug)
            .bind(provider.version)
            .bind(Json(&provider.document))
            .bind(provider.status.as_str())
            .bind(micros(provider.created_at))
            .execute(db)
            .await
            .map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}

/// The provider, if there is one.
pub async fn get(conn: &mut Conn<'_>, slug: &str) -> Result<Option<ProviderRecord>, StoreError> {
    const SQL: &str = "SELECT slug, version, document, status, created_at FROM providers WHERE slug = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(slug).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    row.map(ProviderRecord::try_from).transpose()
}

/// All providers, by slug.
pub async fn list(conn: &mut Conn<'_>) -> Result<Vec<ProviderRecord>, StoreError> {
    const SQL: &str = "SELECT slug, version, document, status, created_at FROM providers ORDER BY slug";
    let rows: Vec<Row> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    rows.into_iter().map(ProviderRecord::try_from).collect()
}

/// Writes document and status over version `expected`; returns the new version. `None`, changing nothing, when there
/// is no such provider or it has moved on.
pub async fn update(
    conn: &mut Conn<'_>,
    slug: &str,
    expected: i64,
    document: &serde_json::Value,
    status: ProviderStatus,
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE providers SET document = $3, status = $4, version = version + 1
         WHERE slug = $1 AND version = $2
        RETURNING version";
    on_db!(conn, |db| {
        let update =
            sqlx::query_scalar(SQL).bind(slug).bind(expected).bind(Json(document)).bind(status.as_str());
        update.fetch_optional(db).await
    })
    .map_err(StoreError::of(TABLE))
}

/// Removes version `expected` of a provider; `false` when it has moved on. [`StoreError::Reference`] while it has
/// credentials.
pub async fn delete(conn: &mut Conn<'_>, slug: &str, expected: i64) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM providers WHERE slug = $1 AND version = $2";
    on_db!(conn, |db| {
        sqlx::query(SQL).bind(slug).bind(expected).execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}
