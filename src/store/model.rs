//! What operators say about models: their facts and prices, over those of the catalog.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};
use sqlx::types::Json;

const TABLE: &str = "models";

/// What an operator said about a model from a moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRecord {
    /// The provider's slug.
    pub provider: String,
    /// The provider's name for the model.
    pub name: String,
    /// From when on it holds.
    pub effective_from: DateTime<Utc>,
    /// Counts the changes of the model, whatever moments they are for: what has the highest was said last.
    pub version: i64,
    /// The model as the contract has it.
    pub document: serde_json::Value,
    /// When it was first said.
    pub created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    provider: String,
    name: String,
    effective_from: DateTime<Utc>,
    version: i64,
    document: Json<serde_json::Value>,
    created_at: DateTime<Utc>,
}

impl From<Row> for ModelRecord {
    fn from(row: Row) -> Self {
        let Row { provider, name, effective_from, version, document, created_at } = row;
        Self { provider, name, effective_from, version, document: document.0, created_at }
    }
}

/// Keeps what is said about the model from `effective_from` on, in place of what was said for the same moment; returns
/// the new version. `version` of the record is not looked at.
pub async fn put(conn: &mut Conn<'_>, model: &ModelRecord) -> Result<i64, StoreError> {
    const SQL: &str = "
        INSERT INTO models (provider, name, effective_from, version, document, created_at)
        VALUES ($1, $2, $3, (SELECT COALESCE(MAX(version), 0) + 1 FROM models WHERE provider = $1 AND name = $2),
                $4, $5)
        ON CONFLICT (provider, name, effective_from)
        DO UPDATE SET document = excluded.document, version = excluded.version
        RETURNING version";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(&model.provider)
            .bind(&model.name)
            .bind(micros(model.effective_from))
            .bind(Json(&model.document))
            .bind(micros(model.created_at))
            .fetch_one(db)
            .await
    })
    .map_err(StoreError::of(TABLE))
}

/// Everything said about models, by provider, name and moment.
pub async fn list(conn: &mut Conn<'_>) -> Result<Vec<ModelRecord>, StoreError> {
    const SQL: &str = "
        SELECT provider, name, effective_from, version, document, created_at
          FROM models ORDER BY provider, name, effective_from";
    let rows: Vec<Row> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    Ok(rows.into_iter().map(ModelRecord::from).collect())
}
