//! What belongs to which term of the keyring, across the tables, and how it moves to a newer one.

use super::query::{Pieces, micros};
use super::{Conn, StoreError};
use chrono::{DateTime, Utc};

const VERSIONS: &str = "credential_versions";
const SECRETS: &str = "subkey_secrets";
const USES: &str = "wrap_terms";

/// How many rows there are of a term: the term, then the number.
pub type OfTerm = (i64, i64);

/// How many data keys are wrapped in each term.
pub async fn wraps(conn: &mut Conn<'_>) -> Result<Vec<OfTerm>, StoreError> {
    const SQL: &str = "SELECT term, COUNT(*) FROM credential_versions GROUP BY term";
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(VERSIONS))
}

/// How many signatures there are of each term: of rows, of the register, of the sums of the log, and
/// of charges that wait for their use.
pub async fn signatures(conn: &mut Conn<'_>) -> Result<Vec<OfTerm>, StoreError> {
    const SQL: &str = "
        SELECT term, CAST(SUM(n) AS BIGINT) FROM (
            SELECT term, COUNT(*) AS n FROM row_macs GROUP BY term
            UNION ALL SELECT term, COUNT(*) AS n FROM register GROUP BY term
            UNION ALL SELECT term, COUNT(*) AS n FROM window_audits GROUP BY term
            UNION ALL SELECT term, COUNT(*) AS n FROM audit_progress GROUP BY term
            UNION ALL SELECT term, COUNT(*) AS n FROM deferred_charges GROUP BY term
        ) signed GROUP BY term";
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of("row_macs"))
}

/// How many secrets that may be presented yet have a MAC of each term. Those of revoked keys and those that died may not.
pub async fn secrets(conn: &mut Conn<'_>, now: DateTime<Utc>) -> Result<Vec<OfTerm>, StoreError> {
    const SQL: &str = "
        SELECT s.mac_term, COUNT(*) FROM subkey_secrets s JOIN subkeys k ON k.id = s.subkey_id
         WHERE k.state <> 'revoked' AND (s.expires_at IS NULL OR s.expires_at > $1)
         GROUP BY s.mac_term";
    on_db!(conn, |db| sqlx::query_as(SQL).bind(micros(now)).fetch_all(db).await)
        .map_err(StoreError::of(SECRETS))
}

/// How often a term's wrap key was used, and since when it is counted.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Uses {
    /// The term.
    pub term: i64,
    /// How often.
    pub uses: i64,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// The uses of every term.
pub async fn uses(conn: &mut Conn<'_>) -> Result<Vec<Uses>, StoreError> {
    const SQL: &str = "SELECT term, uses, created_at FROM wrap_terms ORDER BY term";
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(USES))
}

/// Counts uses of a term's wrap key; belongs into the transaction that keeps what was wrapped. The first one begins the
/// term's age.
pub async fn count_uses(
    conn: &mut Conn<'_>,
    term: i64,
    more: i64,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO wrap_terms (term, uses, created_at) VALUES ($1, $2, $3)
        ON CONFLICT (term) DO UPDATE SET uses = wrap_terms.uses + excluded.uses";
    on_db!(conn, |db| sqlx::query(SQL).bind(term).bind(more).bind(micros(now)).execute(db).await.map(drop))
        .map_err(StoreError::of(USES))
}

/// A version of a credential, as it is wrapped.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Wrapped {
    /// The credential.
    pub credential_id: String,
    /// The provider's slug.
    pub provider: String,
    /// The version.
    pub secret_version: i64,
    /// The term of the wrap.
    pub term: i64,
    /// The data key under the wrap key.
    pub wrapped_dek: Vec<u8>,
    /// The provider's key under the data key.
    pub sealed: Vec<u8>,
}

/// Versions that are wrapped in a term before `term`, after one (credential and version) in their order.
pub async fn wraps_before(
    conn: &mut Conn<'_>,
    term: i64,
    after: Option<(&str, i64)>,
    limit: u32,
) -> Result<Vec<Wrapped>, StoreError> {
    let mut sql = Pieces::default();
    sql.sql(
        "SELECT v.credential_id, c.provider, v.secret_version, v.term, v.wrapped_dek, v.sealed
           FROM credential_versions v JOIN credentials c ON c.id = v.credential_id
          WHERE v.term < ",
    );
    sql.value(term);
    if let Some((credential, version)) = after {
        sql.sql(" AND (v.credential_id, v.secret_version) > (").value(credential);
        sql.sql(", ").value(version).sql(")");
    }
    sql.sql(" ORDER BY v.credential_id, v.secret_version LIMIT ").value(i64::from(limit));
    on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(VERSIONS))
}

/// Wraps a version's data key anew. `false`, changing nothing, when the wrap is not the one in `old` any more.
pub async fn rewrap(
    conn: &mut Conn<'_>,
    old: &Wrapped,
    wrapped_dek: &[u8],
    term: i64,
) -> Result<bool, StoreError> {
    const SQL: &str = "
        UPDATE credential_versions SET wrapped_dek = $4, term = $5
         WHERE credential_id = $1 AND secret_version = $2 AND wrapped_dek = $3";
    on_db!(conn, |db| {
        let update = sqlx::query(SQL).bind(&old.credential_id).bind(old.secret_version);
        let update = update.bind(&old.wrapped_dek).bind(wrapped_dek).bind(term);
        update.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(VERSIONS))
}

/// The MAC of a secret in a newer term, in place of the one it was recognised by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMac {
    /// The secret.
    pub secret_id: String,
    /// Its MAC so far.
    pub old: Vec<u8>,
    /// The new one.
    pub mac: Vec<u8>,
    /// The term of the new one.
    pub term: i64,
}

/// Writes a secret's new MAC down. `false`, changing nothing, when its MAC is not the old one any more.
pub async fn remake_mac(conn: &mut Conn<'_>, new: &NewMac) -> Result<bool, StoreError> {
    const SQL: &str = "UPDATE subkey_secrets SET mac = $3, mac_term = $4 WHERE id = $1 AND mac = $2";
    on_db!(conn, |db| {
        let update = sqlx::query(SQL).bind(&new.secret_id).bind(&new.old).bind(&new.mac).bind(new.term);
        update.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(SECRETS))
}
