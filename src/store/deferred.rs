//! What was charged in full because its work goes on behind the answer: by what its use is priced once it is told.
//!
//! Whoever takes a row books the use, so it is booked once. The row is signed: who can lower a charge can lift a cap.

use super::audit::Signature;
use super::query::{micros, page_limit};
use super::{Conn, StoreError};
use crate::provider::{ObjectId, Slug};
use chrono::{DateTime, Utc};

const TABLE: &str = "deferred_charges";

/// A charge that waits for the use that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeferredCharge {
    /// The provider that works on it.
    pub provider: Slug,
    /// The response in which the use will be told.
    pub response_id: ObjectId,
    /// The request whose entry charged it.
    pub request_id: String,
    /// What was charged, and by what the use is priced.
    pub terms: String,
    /// When it was charged.
    pub created_at: DateTime<Utc>,
    /// Over all but the time.
    pub signature: Signature,
}

#[derive(sqlx::FromRow)]
struct Row {
    provider: String,
    response_id: String,
    request_id: String,
    terms: String,
    created_at: DateTime<Utc>,
    term: i64,
    mac: Vec<u8>,
}

impl TryFrom<Row> for DeferredCharge {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            provider: row.provider.parse().map_err(|_| StoreError::corrupt(TABLE, "provider"))?,
            response_id: row.response_id.parse().map_err(|_| StoreError::corrupt(TABLE, "response_id"))?,
            request_id: row.request_id,
            terms: row.terms,
            created_at: row.created_at,
            signature: Signature { term: row.term, mac: row.mac },
        })
    }
}

/// Keeps the charge. Of a response that has one the first stays.
pub async fn insert(conn: &mut Conn<'_>, charge: &DeferredCharge) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO deferred_charges (provider, response_id, request_id, terms, created_at, term, mac)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (response_id, provider) DO NOTHING";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(charge.provider.as_str())
            .bind(charge.response_id.as_str())
            .bind(&charge.request_id)
            .bind(&charge.terms)
            .bind(micros(charge.created_at))
            .bind(charge.signature.term)
            .bind(&charge.signature.mac)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// The charge that waits for what the response tells; `None` where none does, or none any more.
pub async fn find(
    conn: &mut Conn<'_>,
    provider: &Slug,
    response_id: &ObjectId,
) -> Result<Option<DeferredCharge>, StoreError> {
    const SQL: &str = "
        SELECT provider, response_id, request_id, terms, created_at, term, mac
          FROM deferred_charges WHERE response_id = $1 AND provider = $2";
    let row: Option<Row> = on_db!(conn, |db| {
        let asked = sqlx::query_as(SQL).bind(response_id.as_str()).bind(provider.as_str());
        asked.fetch_optional(db).await
    })
    .map_err(StoreError::of(TABLE))?;
    row.map(DeferredCharge::try_from).transpose()
}

/// The charge of this request, where it waits.
pub async fn find_of(conn: &mut Conn<'_>, request_id: &str) -> Result<Option<DeferredCharge>, StoreError> {
    const SQL: &str = "
        SELECT provider, response_id, request_id, terms, created_at, term, mac
          FROM deferred_charges WHERE request_id = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(request_id).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    row.map(DeferredCharge::try_from).transpose()
}

/// Charges that were signed in a term before `term`, after the response of one in their order, at most `limit` (and
/// [`super::PAGE_MAX`]).
pub async fn signed_before(
    conn: &mut Conn<'_>,
    term: i64,
    after: Option<&DeferredCharge>,
    limit: u32,
) -> Result<Vec<DeferredCharge>, StoreError> {
    const SQL: &str = "
        SELECT provider, response_id, request_id, terms, created_at, term, mac
          FROM deferred_charges WHERE term < $1 AND (response_id, provider) > ($2, $3)
         ORDER BY response_id, provider LIMIT $4";
    let (response, provider) =
        after.map_or(("", ""), |after| (after.response_id.as_str(), after.provider.as_str()));
    let rows: Vec<Row> = on_db!(conn, |db| {
        let asked = sqlx::query_as(SQL).bind(term).bind(response).bind(provider);
        asked.bind(i64::from(page_limit(limit))).fetch_all(db).await
    })
    .map_err(StoreError::of(TABLE))?;
    rows.into_iter().map(DeferredCharge::try_from).collect()
}

/// Gives the charge another signature; one that was taken meanwhile stays away.
pub async fn sign(conn: &mut Conn<'_>, charge: &DeferredCharge) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE deferred_charges SET term = $4, mac = $5
         WHERE response_id = $1 AND provider = $2 AND request_id = $3";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(charge.response_id.as_str())
            .bind(charge.provider.as_str())
            .bind(&charge.request_id)
            .bind(charge.signature.term)
            .bind(&charge.signature.mac)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// Takes the charge of the request away. `false` where it was taken before.
pub async fn take(
    conn: &mut Conn<'_>,
    provider: &Slug,
    response_id: &ObjectId,
    request_id: &str,
) -> Result<bool, StoreError> {
    const SQL: &str =
        "DELETE FROM deferred_charges WHERE response_id = $1 AND provider = $2 AND request_id = $3";
    on_db!(conn, |db| {
        let asked = sqlx::query(SQL).bind(response_id.as_str()).bind(provider.as_str()).bind(request_id);
        asked.execute(db).await.map(|done| done.rows_affected() > 0)
    })
    .map_err(StoreError::of(TABLE))
}

/// Forgets at most `limit` of those that were made before `before`: what their responses told is gone, too.
pub async fn forget(conn: &mut Conn<'_>, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
    const SQL: &str = "
        DELETE FROM deferred_charges WHERE (response_id, provider) IN (
            SELECT response_id, provider FROM deferred_charges WHERE created_at < $1 ORDER BY created_at LIMIT $2)";
    on_db!(conn, |db| {
        let done = sqlx::query(SQL).bind(micros(before)).bind(i64::from(limit)).execute(db).await;
        done.map(|done| done.rows_affected())
    })
    .map_err(StoreError::of(TABLE))
}
