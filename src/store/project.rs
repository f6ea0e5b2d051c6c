//! Projects as they are kept: a versioned document each. One that is deleted leaves its row: revoked keys and what was
//! spent name it.

use super::query::{Pieces, micros};
use super::{Conn, StoreError};
use crate::subkey::{Project, ProjectDefinition, ProjectState};
use chrono::{DateTime, Utc};
use sqlx::types::Json;
use std::collections::HashMap;

const TABLE: &str = "projects";

/// A project as it is kept, before it is known whether that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectRecord {
    /// Its slug.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// Whether it is stopped, in a word.
    pub status: String,
    /// The project above it.
    pub parent: Option<String>,
    /// What it sets; `None` for one that sets nothing.
    pub document: Option<serde_json::Value>,
    /// Counts the changes; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl ProjectRecord {
    /// What it says. [`StoreError::Corrupt`] where that makes no sense.
    pub fn read(&self) -> Result<Project, StoreError> {
        let document = self.document.clone();
        let definition: ProjectDefinition = match document {
            Some(document) => {
                serde_json::from_value(document).map_err(|_| StoreError::corrupt(TABLE, "document"))?
            }
            None => ProjectDefinition::named(&self.slug, Some(self.name.clone())),
        };
        let state = ProjectState::parse(&self.status).ok_or_else(|| StoreError::corrupt(TABLE, "status"))?;
        // Where copies differ, nobody knows which of them is meant.
        if definition.slug != self.slug || definition.parent != self.parent {
            return Err(StoreError::corrupt(TABLE, "parent"));
        }
        Ok(Project { definition, state, version: self.version, created_at: self.created_at })
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    slug: String,
    name: String,
    status: String,
    parent: Option<String>,
    document: Option<Json<serde_json::Value>>,
    version: i64,
    created_at: DateTime<Utc>,
}

impl From<Row> for ProjectRecord {
    fn from(row: Row) -> Self {
        let Row { slug, name, status, parent, document, version, created_at } = row;
        Self { slug, name, status, parent, document: document.map(|Json(value)| value), version, created_at }
    }
}

/// The project, if there is one, a deleted one too.
pub async fn get(conn: &mut Conn<'_>, slug: &str) -> Result<Option<ProjectRecord>, StoreError> {
    const SQL: &str =
        "SELECT slug, name, status, parent, document, version, created_at FROM projects WHERE slug = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(slug).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    Ok(row.map(ProjectRecord::from))
}

/// All projects by slug, deleted ones too.
pub async fn list(conn: &mut Conn<'_>) -> Result<Vec<ProjectRecord>, StoreError> {
    const SQL: &str =
        "SELECT slug, name, status, parent, document, version, created_at FROM projects ORDER BY slug";
    let rows: Vec<Row> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    Ok(rows.into_iter().map(ProjectRecord::from).collect())
}

/// Adds a project. [`StoreError::Conflict`] when the slug is or was another's.
pub async fn insert(conn: &mut Conn<'_>, project: &Project) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO projects (slug, name, status, parent, document, version, created_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let definition = &project.definition;
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&definition.slug)
            .bind(definition.shown_name())
            .bind(project.state.as_str())
            .bind(&definition.parent)
            .bind(Json(definition))
            .bind(project.version)
            .bind(micros(project.created_at))
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// Writes definition and state over version `expected`; returns the new version. `None`, changing nothing, when there is
/// no such project or it has moved on.
pub async fn update(
    conn: &mut Conn<'_>,
    expected: i64,
    definition: &ProjectDefinition,
    state: ProjectState,
) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "
        UPDATE projects SET name = $3, status = $4, parent = $5, document = $6, version = version + 1
         WHERE slug = $1 AND version = $2
        RETURNING version";
    on_db!(conn, |db| {
        sqlx::query_scalar(SQL)
            .bind(&definition.slug)
            .bind(expected)
            .bind(definition.shown_name())
            .bind(state.as_str())
            .bind(&definition.parent)
            .bind(Json(definition))
            .fetch_optional(db)
            .await
    })
    .map_err(StoreError::of(TABLE))
}

/// Whether keys that are not revoked belong to the project.
pub async fn has_keys(conn: &mut Conn<'_>, slug: &str) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT 1 FROM subkeys WHERE project = $1 AND state <> 'revoked' LIMIT 1";
    on_db!(conn, |db| sqlx::query(SQL).bind(slug).fetch_optional(db).await.map(|row| row.is_some()))
        .map_err(StoreError::of("subkeys"))
}

/// The version of each of these projects that is active; others are left out.
pub async fn active_versions(
    conn: &mut Conn<'_>,
    slugs: &[&str],
) -> Result<HashMap<String, i64>, StoreError> {
    /// Bound by the number of values that one statement may have.
    const SLUGS_PER_STATEMENT: usize = 1_000;
    let mut found = HashMap::with_capacity(slugs.len());
    for some in slugs.chunks(SLUGS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql("SELECT slug, version FROM projects WHERE status = 'active' AND slug IN (");
        for (index, slug) in some.iter().enumerate() {
            sql.sql(if index == 0 { "" } else { ", " }).value(*slug);
        }
        sql.sql(")");
        let rows: Vec<(String, i64)> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(false).fetch_all(db).await)
                .map_err(StoreError::of(TABLE))?;
        found.extend(rows);
    }
    Ok(found)
}
