//! Operators and their tokens. A token is kept as its SHA-256 only.

use super::query::micros;
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};
use sqlx::types::Json;

const TABLE: &str = "operators";
const TOKENS: &str = "operator_tokens";

/// An operator as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperatorRecord {
    /// Its id.
    pub id: String,
    /// Unique.
    pub name: String,
    /// What it may do.
    pub roles: Vec<String>,
    /// The projects its roles reach; `None` is all.
    pub projects: Option<Vec<String>>,
    /// Counts the changes; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Who made it.
    pub created_by: String,
}

/// A token as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRecord {
    /// Names the token.
    pub id: String,
    /// Whose it is.
    pub operator_id: String,
    /// The SHA-256 of the whole token.
    pub sha256: [u8; 32],
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it dies.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An operator, and the token that it presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenHolder {
    /// The operator.
    pub operator: OperatorRecord,
    /// Names the token.
    pub token_id: String,
    /// When the token dies; the caller compares.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last seen.
    pub last_used_at: Option<DateTime<Utc>>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    name: String,
    roles: Json<Vec<String>>,
    projects: Option<Json<Vec<String>>>,
    version: i64,
    created_at: DateTime<Utc>,
    created_by: String,
}

#[derive(sqlx::FromRow)]
struct HolderRow {
    #[sqlx(flatten)]
    operator: Row,
    token_id: String,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl From<Row> for OperatorRecord {
    fn from(row: Row) -> Self {
        let Row { id, name, roles, projects, version, created_at, created_by } = row;
        Self {
            id,
            name,
            roles: roles.0,
            projects: projects.map(|projects| projects.0),
            version,
            created_at,
            created_by,
        }
    }
}

/// Adds an operator. [`StoreError::Conflict`] when the name is taken.
pub async fn insert(conn: &mut Conn<'_>, operator: &OperatorRecord) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO operators (id, name, roles, projects, version, created_at, created_by)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&operator.id)
            .bind(&operator.name)
            .bind(Json(&operator.roles))
            .bind(operator.projects.as_ref().map(Json))
            .bind(operator.version)
            .bind(micros(operator.created_at))
            .bind(&operator.created_by)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// The operator of that name, if there is one.
pub async fn find_by_name(conn: &mut Conn<'_>, name: &str) -> Result<Option<OperatorRecord>, StoreError> {
    const SQL: &str =
        "SELECT id, name, roles, projects, version, created_at, created_by FROM operators WHERE name = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(name).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    Ok(row.map(OperatorRecord::from))
}

/// All operators, by name.
pub async fn list(conn: &mut Conn<'_>) -> Result<Vec<OperatorRecord>, StoreError> {
    const SQL: &str =
        "SELECT id, name, roles, projects, version, created_at, created_by FROM operators ORDER BY name";
    let rows: Vec<Row> =
        on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    Ok(rows.into_iter().map(OperatorRecord::from).collect())
}

/// Removes an operator and its tokens; `false` when there is none.
pub async fn delete(conn: &mut Conn<'_>, id: &str) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM operators WHERE id = $1";
    on_db!(conn, |db| sqlx::query(SQL).bind(id).execute(db).await.map(|done| done.rows_affected() == 1))
        .map_err(StoreError::of(TABLE))
}

/// Adds a token of an operator.
pub async fn insert_token(conn: &mut Conn<'_>, token: &TokenRecord) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO operator_tokens (id, operator_id, sha256, created_at, expires_at) VALUES ($1, $2, $3, $4, $5)";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&token.id)
            .bind(&token.operator_id)
            .bind(&token.sha256[..])
            .bind(micros(token.created_at))
            .bind(token.expires_at.map(micros))
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TOKENS))
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    id: String,
    operator_id: String,
    sha256: Vec<u8>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
}

/// The tokens of an operator, by id.
pub async fn tokens_of(conn: &mut Conn<'_>, operator_id: &str) -> Result<Vec<TokenRecord>, StoreError> {
    const SQL: &str = "
        SELECT id, operator_id, sha256, created_at, expires_at FROM operator_tokens
         WHERE operator_id = $1 ORDER BY id";
    let rows: Vec<TokenRow> = on_db!(conn, |db| sqlx::query_as(SQL).bind(operator_id).fetch_all(db).await)
        .map_err(StoreError::of(TOKENS))?;
    let token = |row: TokenRow| {
        let TokenRow { id, operator_id, sha256, created_at, expires_at } = row;
        let sha256 = sha256.as_slice().try_into().map_err(|_| StoreError::corrupt(TOKENS, "sha256"))?;
        Ok(TokenRecord { id, operator_id, sha256, created_at, expires_at })
    };
    rows.into_iter().map(token).collect()
}

/// Whose token has this SHA-256. Expired ones are found, too: the caller looks at the time.
pub async fn find_by_token(
    conn: &mut Conn<'_>,
    sha256: &[u8; 32],
) -> Result<Option<TokenHolder>, StoreError> {
    const SQL: &str = "
        SELECT o.id, o.name, o.roles, o.projects, o.version, o.created_at, o.created_by,
               t.id AS token_id, t.expires_at, t.last_used_at
          FROM operator_tokens t JOIN operators o ON o.id = t.operator_id
         WHERE t.sha256 = $1";
    let row: Option<HolderRow> =
        on_db!(conn, |db| sqlx::query_as(SQL).bind(&sha256[..]).fetch_optional(db).await)
            .map_err(StoreError::of(TABLE))?;
    Ok(row.map(|HolderRow { operator, token_id, expires_at, last_used_at }| TokenHolder {
        operator: operator.into(),
        token_id,
        expires_at,
        last_used_at,
    }))
}

/// Notes that a token was seen; an earlier time than is noted changes nothing.
pub async fn touch_token(conn: &mut Conn<'_>, token_id: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE operator_tokens SET last_used_at = $2
         WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2)";
    on_db!(conn, |db| sqlx::query(SQL).bind(token_id).bind(micros(at)).execute(db).await.map(drop))
        .map_err(StoreError::of(TOKENS))
}

/// Removes a token; `false` when there is none.
pub async fn delete_token(conn: &mut Conn<'_>, token_id: &str) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM operator_tokens WHERE id = $1";
    on_db!(conn, |db| sqlx::query(SQL).bind(token_id).execute(db).await.map(|done| done.rows_affected() == 1))
        .map_err(StoreError::of(TOKENS))
}
