//! The schema: embedded migrations, and what they find in a database.
//!
//! A migration runs in a transaction together with its own record, so a half-migrated database means that someone
//! or something else wrote there.

use super::{Backend, Conn, Store, StoreError};
use sqlx::Connection;
use sqlx::migrate::{Migration, Migrator};

static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

const TABLE: &str = "_sqlx_migrations";

/// How a database's schema stands to this program. The lists name migrations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// All migrations are in.
    UpToDate,
    /// These are still to be applied, in this order.
    Pending(Vec<String>),
    /// A newer program has applied these; this one must not touch the database.
    Newer(Vec<String>),
    /// These were begun and not finished.
    HalfMigrated(Vec<String>),
    /// These were applied with another text than this program has.
    Changed(Vec<String>),
}

/// Why the schema was not brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The schema is newer than this program, half-migrated, or changed.
    #[error("the schema cannot be migrated by this version: {0:?}")]
    Refused(SchemaState),
    /// A migration failed and was taken back whole.
    #[error("a migration failed and was taken back: {0}")]
    Failed(sqlx::migrate::MigrateError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(sqlx::FromRow)]
struct AppliedRow {
    version: i64,
    description: String,
    success: bool,
    checksum: Vec<u8>,
}

impl Store {
    /// Compares the database's schema with this program's; changes nothing.
    pub async fn schema_state(&self) -> Result<SchemaState, StoreError> {
        let mut read = self.read().await?;
        let mut conn = read.conn();
        let known = match conn {
            Conn::Sqlite(_) => &SQLITE,
            Conn::Postgres(_) => &POSTGRES,
        };
        Ok(judge(known, &applied(&mut conn).await?))
    }

    /// The SQL of a migration that this program has for this kind of database, by its name.
    pub fn migration_sql(&self, name_of_it: &str) -> Option<&'static str> {
        let known = match &self.0 {
            Backend::Sqlite { .. } => &SQLITE,
            Backend::Postgres { .. } => &POSTGRES,
        };
        let found = known.iter().find(|one| name(one.version, &one.description) == name_of_it);
        found.map(|one| one.sql.as_str())
    }

    /// Applies what is pending and returns its names. Servers that do so at once wait for each other.
    pub async fn migrate(&self) -> Result<Vec<String>, MigrateError> {
        let pending = match self.schema_state().await? {
            SchemaState::UpToDate => return Ok(Vec::new()),
            SchemaState::Pending(names) => names,
            state => return Err(MigrateError::Refused(state)),
        };
        match &self.0 {
            Backend::Sqlite { write, .. } => SQLITE.run(write).await.map_err(MigrateError::Failed)?,
            Backend::Postgres { options, .. } => {
                // A connection of its own: a migration may take longer than a statement may.
                let options = options.as_ref().clone().options([("statement_timeout", "0")]);
                let mut db =
                    sqlx::PgConnection::connect_with(&options).await.map_err(StoreError::Unavailable)?;
                POSTGRES.run(&mut db).await.map_err(MigrateError::Failed)?;
                db.close().await.map_err(StoreError::Unavailable)?;
            }
        }
        Ok(pending)
    }
}

/// The migrations that this program has, by version and name.
pub fn migrations() -> Vec<(i64, String)> {
    SQLITE.iter().map(|one| (one.version, name(one.version, &one.description))).collect()
}

/// Applies what is pending up to the migration `through`, or all of it, inside the transaction that `conn` is in: taken
/// back with it, too. Nobody else may migrate meanwhile.
pub async fn migrate_within(conn: &mut Conn<'_>, through: Option<i64>) -> Result<(), MigrateError> {
    let done = match conn {
        Conn::Sqlite(db) => unlocked(&SQLITE).run_direct(through, &mut **db, false).await,
        Conn::Postgres(db) => unlocked(&POSTGRES).run_direct(through, &mut **db, false).await,
    };
    done.map_err(MigrateError::Failed)
}

/// Without the lock on migrating, which would outlive the transaction.
fn unlocked(migrator: &Migrator) -> Migrator {
    let mut unlocked = Migrator::with_migrations(migrator.iter().cloned().collect());
    unlocked.set_locking(false);
    unlocked
}

/// What has been applied; nothing when nothing ever was.
async fn applied(conn: &mut Conn<'_>) -> Result<Vec<AppliedRow>, StoreError> {
    const SQL: &str = "SELECT version, description, success, checksum FROM _sqlx_migrations ORDER BY version";
    const EXISTS_SQLITE: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE type = 'table' AND name = $1";
    const EXISTS_POSTGRES: &str = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = $1";
    let tables: i64 = match conn {
        Conn::Sqlite(db) => sqlx::query_scalar(EXISTS_SQLITE).bind(TABLE).fetch_one(&mut **db).await,
        Conn::Postgres(db) => sqlx::query_scalar(EXISTS_POSTGRES).bind(TABLE).fetch_one(&mut **db).await,
    }
    .map_err(StoreError::of(TABLE))?;
    if tables == 0 {
        return Ok(Vec::new());
    }
    on_db!(conn, |db| sqlx::query_as(SQL).fetch_all(db).await).map_err(StoreError::of(TABLE))
}

fn judge(known: &Migrator, applied: &[AppliedRow]) -> SchemaState {
    let matching = |migration: &Migration| applied.iter().find(|row| row.version == migration.version);
    let names_of_rows = |pick: &dyn Fn(&AppliedRow) -> bool| -> Vec<String> {
        applied.iter().filter(|row| pick(row)).map(|row| name(row.version, &row.description)).collect()
    };
    let names_of_known = |pick: &dyn Fn(&Migration) -> bool| -> Vec<String> {
        known.iter().filter(|one| pick(one)).map(|one| name(one.version, &one.description)).collect()
    };
    let half = names_of_rows(&|row| !row.success);
    let newer = names_of_rows(&|row| !known.version_exists(row.version));
    let changed = names_of_known(&|one| matching(one).is_some_and(|row| row.checksum != *one.checksum));
    let pending = names_of_known(&|one| matching(one).is_none());
    match (half.is_empty(), newer.is_empty(), changed.is_empty(), pending.is_empty()) {
        (false, ..) => SchemaState::HalfMigrated(half),
        (_, false, ..) => SchemaState::Newer(newer),
        (_, _, false, _) => SchemaState::Changed(changed),
        (.., false) => SchemaState::Pending(pending),
        (true, true, true, true) => SchemaState::UpToDate,
    }
}

/// The file's name without its ending.
fn name(version: i64, description: &str) -> String {
    format!("{version:04}_{}", description.replace(' ', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn files(folder: &str) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
        let mut names: Vec<_> = folder
            .read_dir()
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn both_databases_have_the_same_migrations_and_all_are_embedded() {
        let embedded = |migrator: &Migrator| -> Vec<String> {
            migrator.iter().map(|one| name(one.version, &one.description) + ".sql").collect()
        };
        assert_eq!(files("sqlite"), files("postgres"));
        assert_eq!(embedded(&SQLITE), files("sqlite"));
        assert_eq!(embedded(&POSTGRES), files("postgres"));
        assert!(SQLITE.iter().chain(POSTGRES.iter()).all(|one| !one.no_tx), "a migration is all or nothing");
    }
}
