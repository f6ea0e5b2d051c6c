//! Projects as they are kept.

use super::{Conn, StoreError};
use chrono::{DateTime, Utc};

const TABLE: &str = "projects";

/// A project as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct ProjectRecord {
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Counts the changes; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// The project, if there is one.
pub async fn get(conn: &mut Conn<'_>, slug: &str) -> Result<Option<ProjectRecord>, StoreError> {
    const SQL: &str = "SELECT slug, name, version, created_at FROM projects WHERE slug = $1";
    on_db!(conn, |db| sqlx::query_as(SQL).bind(slug).fetch_optional(db).await).map_err(StoreError::of(TABLE))
}

/// All projects, by slug.
pub async fn list(conn: &mut Conn<'_>) -> Result<Vec<ProjectRecord>, StoreError> {
    const SQL: &str = "SELECT slug, name, version, created_at FROM projects ORDER BY slug";
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))
}
