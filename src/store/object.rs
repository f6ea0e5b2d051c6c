//! Objects: whose what a provider keeps under an id is. A row stays as it was claimed first; it is forgotten long after
//! the object is gone.
//!
//! Nothing that a provider answers may keep a settlement from being written, so nothing here is refused for what it says:
//! ids and documents are parsed before, and moments that a database cannot hold are moved into its range.

use super::query::{Pieces, micros, page_limit};
use super::{Conn, Cursor, Page, StoreError};
use crate::provider::{ObjectDocument, ObjectId, ObjectKind, ObjectOrder, Slug};
use crate::subkey::{Belonging, Holder, SubKeyId};
use chrono::{DateTime, Utc};
use std::collections::HashSet;

const TABLE: &str = "objects";

/// Bound by the number of values that one statement may have.
const ROWS_PER_STATEMENT: usize = 100;
const IDS_PER_STATEMENT: usize = 500;

/// An object that a provider has made, as it is put on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewObject {
    /// The provider that keeps it.
    pub provider: Slug,
    /// The id that the provider gave it.
    pub id: ObjectId,
    /// What it is.
    pub kind: ObjectKind,
    /// Whom it belongs to.
    pub belongs: Belonging,
    /// The credential that it was made with: the provider shows it to no other account.
    pub credential_id: String,
    /// The model that made it, as it was sent.
    pub model: Option<String>,
    /// What it is a part of: deleted with that, it is deleted, too.
    pub parent: Option<ObjectId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When the provider forgets it.
    pub expires_at: Option<DateTime<Utc>>,
    /// What a list shows of it.
    pub document: Option<ObjectDocument>,
}

/// An object as it is kept. Whether it is still there is for the reader to judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// What was put on record.
    pub object: NewObject,
    /// When it was deleted.
    pub deleted_at: Option<DateTime<Utc>>,
}

impl ObjectRecord {
    /// Whether the provider still has it at `now`, by what is known.
    pub fn is_there(&self, now: DateTime<Utc>) -> bool {
        self.deleted_at.is_none() && self.object.expires_at.is_none_or(|end| now < end)
    }
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The provider that keeps it.
    pub provider: Slug,
    /// Its id there.
    pub id: ObjectId,
}

/// Which objects a list has: those that the holder may use and that are still there.
#[derive(Clone, Copy, Debug)]
pub struct ObjectFilter<'f> {
    /// Who asks.
    pub holder: &'f Holder,
    /// Kept by this provider.
    pub provider: &'f Slug,
    /// Of this kind.
    pub kind: ObjectKind,
    /// Those that expire are gone by then.
    pub now: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    provider: String,
    id: String,
    kind: String,
    subkey_id: String,
    project: Option<String>,
    credential_id: String,
    model: Option<String>,
    parent: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    document: Option<String>,
    deleted_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for ObjectRecord {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let corrupt = |column| move || StoreError::corrupt(TABLE, column);
        let parent = row.parent.map(|parent| parent.parse()).transpose();
        let object = NewObject {
            provider: row.provider.parse().map_err(|_| corrupt("provider")())?,
            id: row.id.parse().map_err(|_| corrupt("id")())?,
            kind: ObjectKind::parse(&row.kind).ok_or_else(corrupt("kind"))?,
            belongs: Belonging {
                subkey: SubKeyId::parse(&row.subkey_id).ok_or_else(corrupt("subkey_id"))?,
                project: row.project,
            },
            credential_id: row.credential_id,
            model: row.model,
            parent: parent.map_err(|_| corrupt("parent")())?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            document: row.document.and_then(|document| ObjectDocument::parse(&document)),
        };
        Ok(Self { object, deleted_at: row.deleted_at })
    }
}

const SELECT: &str = "
    SELECT provider, id, kind, subkey_id, project, credential_id, model, parent, created_at, expires_at, document,
           deleted_at
      FROM objects";

/// Puts objects on record. One that is there already stays whose it is: told again by the same sub-key, or by one of the
/// project that it belongs to, what is told of it is brought up to date, and it is no longer deleted. Returns those that
/// are another's, of which nothing is changed.
pub async fn insert(conn: &mut Conn<'_>, objects: &[NewObject]) -> Result<Vec<ObjectKey>, StoreError> {
    // PostgreSQL refuses to touch a row twice in one statement. The first one counts.
    let mut told: HashSet<(&str, &str)> = HashSet::with_capacity(objects.len());
    let objects: Vec<&NewObject> =
        objects.iter().filter(|one| told.insert((one.provider.as_str(), one.id.as_str()))).collect();
    let mut taken = Vec::new();
    for some in objects.chunks(ROWS_PER_STATEMENT) {
        let mut sql = inserting(some);
        sql.sql(RETOLD);
        // Statements for one object are few, and kept prepared.
        let is_kept = some.len() == 1;
        let rows: Vec<(String, String)> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(is_kept).fetch_all(db).await)
                .map_err(StoreError::of(TABLE))?;
        let written: HashSet<(&str, &str)> =
            rows.iter().map(|(provider, id)| (provider.as_str(), id.as_str())).collect();
        let others = some.iter().filter(|one| !written.contains(&(one.provider.as_str(), one.id.as_str())));
        taken.extend(others.map(|one| ObjectKey { provider: one.provider.clone(), id: one.id.clone() }));
    }
    Ok(taken)
}

/// Puts on record what nobody has, and leaves the rest as it is.
pub async fn insert_unknown(conn: &mut Conn<'_>, objects: &[NewObject]) -> Result<(), StoreError> {
    let objects: Vec<&NewObject> = objects.iter().collect();
    for some in objects.chunks(ROWS_PER_STATEMENT) {
        let mut sql = inserting(some);
        sql.sql(" ON CONFLICT (id, provider) DO NOTHING");
        let is_kept = some.len() == 1;
        on_db!(&mut *conn, |db| sql.build().build().persistent(is_kept).execute(db).await.map(drop))
            .map_err(StoreError::of(TABLE))?;
    }
    Ok(())
}

fn inserting(objects: &[&NewObject]) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql(
        "INSERT INTO objects (provider, id, kind, subkey_id, project, credential_id, model, parent, created_at,
                              expires_at, document)
         VALUES ",
    );
    for (index, one) in objects.iter().enumerate() {
        sql.sql(if index == 0 { "(" } else { ", (" }).value(one.provider.as_str());
        sql.sql(", ").value(one.id.as_str());
        sql.sql(", ").value(one.kind.as_str());
        sql.sql(", ").value(one.belongs.subkey.as_str());
        sql.sql(", ").value_or_null(one.belongs.project.as_deref());
        sql.sql(", ").value(one.credential_id.as_str());
        // PostgreSQL keeps no NUL; a model's name has none.
        sql.sql(", ").value_or_null(one.model.as_deref().filter(|model| !model.contains('\0')));
        sql.sql(", ").value_or_null(one.parent.as_ref().map(ObjectId::as_str));
        sql.sql(", ").value(within_range(one.created_at));
        sql.sql(", ").value_or_null(one.expires_at.map(within_range));
        sql.sql(", ").value_or_null(one.document.as_ref().map(ObjectDocument::as_str)).sql(")");
    }
    sql
}

/// An id that was deleted and is given anew is another object of the same holder.
const RETOLD: &str = "
        ON CONFLICT (id, provider) DO UPDATE SET
            kind = CASE WHEN objects.deleted_at IS NULL THEN objects.kind ELSE excluded.kind END,
            credential_id = CASE WHEN objects.deleted_at IS NULL THEN objects.credential_id
                                 ELSE excluded.credential_id END,
            model = CASE WHEN objects.deleted_at IS NULL THEN objects.model ELSE excluded.model END,
            parent = CASE WHEN objects.deleted_at IS NULL THEN objects.parent ELSE excluded.parent END,
            created_at = CASE WHEN objects.deleted_at IS NULL THEN objects.created_at ELSE excluded.created_at END,
            expires_at = CASE WHEN objects.deleted_at IS NULL THEN COALESCE(excluded.expires_at, objects.expires_at)
                              ELSE excluded.expires_at END,
            document = CASE WHEN objects.deleted_at IS NULL THEN COALESCE(excluded.document, objects.document)
                            ELSE excluded.document END,
            deleted_at = NULL
         WHERE objects.subkey_id = excluded.subkey_id OR objects.project = excluded.project
        RETURNING provider, id";

/// A moment that both databases hold, and order as text, too.
fn within_range(time: DateTime<Utc>) -> DateTime<Utc> {
    /// The end of the year 9999.
    const LAST: i64 = 253_402_300_799;
    let seconds = time.timestamp();
    if (0..=LAST).contains(&seconds) {
        return time;
    }
    DateTime::from_timestamp(seconds.clamp(0, LAST), 0).unwrap_or_default()
}

/// What is on record of these ids, with any provider where none is named; gone ones, too.
pub async fn find(
    conn: &mut Conn<'_>,
    providers: &[&Slug],
    ids: &[&ObjectId],
) -> Result<Vec<ObjectRecord>, StoreError> {
    let mut found = Vec::new();
    for some in ids.chunks(IDS_PER_STATEMENT) {
        let mut sql = Pieces::default();
        sql.sql(SELECT).sql(" WHERE id IN (");
        for (index, id) in some.iter().enumerate() {
            sql.sql(if index == 0 { "" } else { ", " }).value(id.as_str());
        }
        sql.sql(")");
        for (index, slug) in providers.iter().enumerate() {
            sql.sql(if index == 0 { " AND provider IN (" } else { ", " }).value(slug.as_str());
        }
        sql.sql(if providers.is_empty() { "" } else { ")" });
        let is_kept = some.len() == 1;
        let rows: Vec<Row> =
            on_db!(&mut *conn, |db| sql.build().build_query_as().persistent(is_kept).fetch_all(db).await)
                .map_err(StoreError::of(TABLE))?;
        for row in rows {
            found.push(ObjectRecord::try_from(row)?);
        }
    }
    Ok(found)
}

/// The objects that fit `filter`, from `after` on, at most `limit` (and [`super::PAGE_MAX`]).
pub async fn page(
    conn: &mut Conn<'_>,
    filter: ObjectFilter<'_>,
    after: Option<&Cursor<String>>,
    (order, limit): (ObjectOrder, u32),
) -> Result<Page<ObjectRecord, String>, StoreError> {
    let limit = page_limit(limit);
    let sql = paging(filter, after, (order, limit));
    let rows: Vec<Row> =
        on_db!(conn, |db| sql.build().build_query_as().fetch_all(db).await).map_err(StoreError::of(TABLE))?;
    let objects = rows.into_iter().map(ObjectRecord::try_from).collect::<Result<_, _>>()?;
    Ok(Page::of(objects, limit, ObjectRecord::place))
}

/// How the database goes about a page, step by step in its own words: an index that does not fit it any more shows here,
/// long before anybody waits for it.
pub async fn page_plan(
    conn: &mut Conn<'_>,
    filter: ObjectFilter<'_>,
    after: Option<&Cursor<String>>,
    (order, limit): (ObjectOrder, u32),
) -> Result<Vec<String>, StoreError> {
    let mut sql = Pieces::default();
    let page = paging(filter, after, (order, page_limit(limit)));
    match conn {
        Conn::Sqlite(db) => {
            sql.sql("EXPLAIN QUERY PLAN ").append(page);
            let steps = sql.build().build_query_as().fetch_all(&mut **db).await;
            steps
                .map(|steps| steps.into_iter().map(|(_, _, _, step): (i64, i64, i64, String)| step).collect())
        }
        Conn::Postgres(db) => {
            sql.sql("EXPLAIN ").append(page);
            let steps = sql.build().build_query_as().fetch_all(&mut **db).await;
            steps.map(|steps| steps.into_iter().map(|(step,): (String,)| step).collect())
        }
    }
    .map_err(StoreError::of(TABLE))
}

/// A page in two halves that have nothing in common, each in the order of an index that has nothing else: what the holder
/// made alone, and what is shared in its project, by anybody or, where it does not share, by itself.
fn paging(
    filter: ObjectFilter<'_>,
    after: Option<&Cursor<String>>,
    (order, limit): (ObjectOrder, u32),
) -> Pieces {
    let (subkey, project) = (filter.holder.subkey.as_str(), filter.holder.project.as_str());
    let mut sql = Pieces::default();
    sql.sql("SELECT * FROM (SELECT * FROM (").sql(SELECT).sql(" WHERE subkey_id = ").value(subkey);
    sql.sql(" AND project IS NULL").append(rest_of_half(filter, after, (order, limit)));
    sql.sql(") AS alone UNION ALL SELECT * FROM (").sql(SELECT).sql(" WHERE project = ").value(project);
    if !filter.holder.shares {
        sql.sql(" AND subkey_id = ").value(subkey);
    }
    sql.append(rest_of_half(filter, after, (order, limit)));
    sql.sql(") AS shared) AS listed").append(ordered(order, limit));
    sql
}

impl ObjectRecord {
    /// Its place in lists.
    pub fn place(&self) -> Cursor<String> {
        Cursor { at: self.object.created_at, key: self.object.id.to_string() }
    }
}

fn rest_of_half(
    filter: ObjectFilter<'_>,
    after: Option<&Cursor<String>>,
    (order, limit): (ObjectOrder, u32),
) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql(" AND kind = ").value(filter.kind.as_str());
    sql.sql(" AND provider = ").value(filter.provider.as_str());
    sql.sql(" AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > ").value(filter.now).sql(")");
    if let Some(after) = after {
        sql.sql(match order {
            ObjectOrder::NewestFirst => " AND (created_at, id) < (",
            ObjectOrder::OldestFirst => " AND (created_at, id) > (",
        });
        sql.value(after.at).sql(", ").value(after.key.as_str()).sql(")");
    }
    sql.append(ordered(order, limit));
    sql
}

fn ordered(order: ObjectOrder, limit: u32) -> Pieces {
    let mut sql = Pieces::default();
    sql.sql(match order {
        ObjectOrder::NewestFirst => " ORDER BY created_at DESC, id DESC LIMIT ",
        ObjectOrder::OldestFirst => " ORDER BY created_at, id LIMIT ",
    });
    sql.value(i64::from(limit) + 1);
    sql
}

/// Marks the object deleted, and what is a part of it; what is deleted already, or unknown, stays as it is.
pub async fn mark_deleted(
    conn: &mut Conn<'_>,
    object: &ObjectKey,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE objects SET deleted_at = $3
         WHERE provider = $1 AND (id = $2 OR parent = $2) AND deleted_at IS NULL";
    on_db!(conn, |db| {
        let bound = sqlx::query(SQL).bind(object.provider.as_str()).bind(object.id.as_str());
        bound.bind(micros(now)).execute(db).await.map(drop)
    })
    .map_err(StoreError::of(TABLE))
}

/// Forgets at most `limit` of those that were gone before `before`, and as many of those that were deleted; returns how
/// many that were.
pub async fn forget(conn: &mut Conn<'_>, before: DateTime<Utc>, limit: u32) -> Result<u64, StoreError> {
    const EXPIRED: &str = "
        DELETE FROM objects WHERE (id, provider) IN (
            SELECT id, provider FROM objects WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)";
    const DELETED: &str = "
        DELETE FROM objects WHERE (id, provider) IN (
            SELECT id, provider FROM objects WHERE deleted_at < $1 ORDER BY deleted_at LIMIT $2)";
    let mut forgotten = 0;
    for sql in [EXPIRED, DELETED] {
        forgotten += on_db!(&mut *conn, |db| {
            let done = sqlx::query(sql).bind(micros(before)).bind(i64::from(limit)).execute(db).await;
            done.map(|done| done.rows_affected())
        })
        .map_err(StoreError::of(TABLE))?;
    }
    Ok(forgotten)
}
