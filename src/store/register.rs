//! The register and the MACs of the rows that grant power. The store does not know whether they hold.

use super::query::Pieces;
use super::{Conn, StoreError};
use crate::vault::{Register, RegisterState};
use sqlx::types::Json;

const TABLE: &str = "register";
const MACS: &str = "row_macs";
const ONLY: i64 = 1;

/// The register as it is kept, with its MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRegister {
    /// What it says.
    pub register: Register,
    /// Over [`Register::canonical`].
    pub mac: Vec<u8>,
    /// The keyring term of the MAC.
    pub term: i64,
}

/// The MAC of one row.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct RowMac {
    /// The row's table.
    pub tbl: String,
    /// The row's id within it.
    pub id: String,
    /// The keyring term of the MAC.
    pub term: i64,
    /// The MAC.
    pub mac: Vec<u8>,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    digest: Vec<u8>,
    epoch: i64,
    state: Json<RegisterState>,
    term: i64,
    mac: Vec<u8>,
}

impl TryFrom<Row> for SignedRegister {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let digest = row.digest.as_slice().try_into().map_err(|_| StoreError::corrupt(TABLE, "digest"))?;
        let register = Register { seq: row.seq, digest, epoch: row.epoch, state: row.state.0 };
        Ok(Self { register, mac: row.mac, term: row.term })
    }
}

/// The register, once there is one.
pub async fn get(conn: &mut Conn<'_>) -> Result<Option<SignedRegister>, StoreError> {
    const SQL: &str = "SELECT seq, digest, epoch, state, term, mac FROM register WHERE id = $1";
    let row: Option<Row> = on_db!(conn, |db| sqlx::query_as(SQL).bind(ONLY).fetch_optional(db).await)
        .map_err(StoreError::of(TABLE))?;
    row.map(SignedRegister::try_from).transpose()
}

/// Puts the register in place of the one at `expected` (`None`: of none at all); `false`, changing nothing, when that is
/// not the one in the database.
pub async fn replace(
    conn: &mut Conn<'_>,
    expected: Option<i64>,
    signed: &SignedRegister,
) -> Result<bool, StoreError> {
    const INSERT: &str = "
        INSERT INTO register (id, seq, digest, epoch, state, term, mac) VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (id) DO NOTHING";
    const UPDATE: &str = "
        UPDATE register SET seq = $2, digest = $3, epoch = $4, state = $5, term = $6, mac = $7
         WHERE id = $1 AND seq = $8";
    let sql = if expected.is_some() { UPDATE } else { INSERT };
    on_db!(conn, |db| {
        let register = &signed.register;
        let mut query = sqlx::query(sql).bind(ONLY).bind(register.seq).bind(&register.digest[..]);
        query = query.bind(register.epoch).bind(Json(&register.state)).bind(signed.term).bind(&signed.mac);
        if let Some(expected) = expected {
            query = query.bind(expected);
        }
        query.execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(TABLE))
}

/// Writes down the MAC of a row, in place of an earlier one.
pub async fn put_mac(conn: &mut Conn<'_>, row: &RowMac) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO row_macs (tbl, id, term, mac) VALUES ($1, $2, $3, $4)
        ON CONFLICT (tbl, id) DO UPDATE SET term = excluded.term, mac = excluded.mac";
    on_db!(conn, |db| {
        sqlx::query(SQL)
            .bind(&row.tbl)
            .bind(&row.id)
            .bind(row.term)
            .bind(&row.mac)
            .execute(db)
            .await
            .map(drop)
    })
    .map_err(StoreError::of(MACS))
}

/// Forgets the MAC of a row that is gone; `false` when there was none.
pub async fn delete_mac(conn: &mut Conn<'_>, table: &str, id: &str) -> Result<bool, StoreError> {
    const SQL: &str = "DELETE FROM row_macs WHERE tbl = $1 AND id = $2";
    on_db!(conn, |db| {
        sqlx::query(SQL).bind(table).bind(id).execute(db).await.map(|done| done.rows_affected() == 1)
    })
    .map_err(StoreError::of(MACS))
}

/// Forgets every MAC, for those that hold to be written anew.
pub async fn delete_macs(conn: &mut Conn<'_>) -> Result<(), StoreError> {
    const SQL: &str = "DELETE FROM row_macs";
    on_db!(conn, |db| sqlx::query(SQL).execute(db).await.map(drop)).map_err(StoreError::of(MACS))
}

/// MACs after `after` (table and id) in their order, at most `limit`; with `below`, only those of earlier terms.
pub async fn macs(
    conn: &mut Conn<'_>,
    after: Option<(&str, &str)>,
    below: Option<i64>,
    limit: u32,
) -> Result<Vec<RowMac>, StoreError> {
    let mut sql = Pieces::default();
    sql.sql("SELECT tbl, id, term, mac FROM row_macs WHERE 1 = 1").when(" AND term < ", below);
    if let Some((table, id)) = after {
        sql.sql(" AND (tbl, id) > (").value(table).sql(", ").value(id).sql(")");
    }
    sql.sql(" ORDER BY tbl, id LIMIT ").value(i64::from(limit));
    on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(MACS))
}

/// How many MACs there are of each term, oldest term first.
pub async fn count_by_term(conn: &mut Conn<'_>) -> Result<Vec<(i64, i64)>, StoreError> {
    const SQL: &str = "SELECT term, COUNT(*) FROM row_macs GROUP BY term ORDER BY term";
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(MACS))
}
