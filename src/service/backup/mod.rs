//! A backup of everything, taken from one moment while the server serves, and its way back into an empty database.
//!
//! It holds what the database holds: ciphertexts and the sealed keyring, never the key that opens it. It is checked
//! whole, its signature too, before anything is written.

mod archive;
mod restore;

pub use archive::{ArchiveError, Manifest, TableSum};
pub use restore::{Checked, RestoreError, check_backup, is_vacant, restore};

use super::{KekSource, OpenVaultError, Opened, StoreError, open_keyring};
use crate::base::Clock;
use crate::store::dump::{self, Cell, DumpError, TABLES};
use crate::store::{Store, migrations};
use archive::ArchiveWriter;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Told for every row: its table, and how many rows of all tables went by.
pub type Progress<'p> = &'p mut (dyn FnMut(&'static str, u64) + Send);

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The vault does not open, so nothing can be signed.
    #[error(transparent)]
    Vault(#[from] OpenVaultError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file cannot be written.
    #[error("the backup cannot be written: {0}")]
    Write(#[from] io::Error),
}

impl From<DumpError> for BackupError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Store(error) => Self::Store(error),
            DumpError::Sink(error) => Self::Write(error),
        }
    }
}

/// Writes a backup to `out`, from one moment, and returns its manifest. The schema must be up to date. Nobody is kept
/// waiting and nothing is changed.
pub async fn back_up(
    store: &Store,
    source: &dyn KekSource,
    clock: &Clock,
    out: &mut (dyn Write + Send),
    progress: Progress<'_>,
) -> Result<Manifest, BackupError> {
    let Opened { installation, keyring, .. } = open_keyring(store, source).await?;
    let (schema, version) = known_schema();
    let created_at = clock.now();
    let mut snapshot = store.snapshot().await?;
    dump::unhurried(&mut snapshot.conn()).await?;
    let mut archive = ArchiveWriter::begin(out, &schema)?;
    let mut rows = 0;
    for table in &TABLES {
        let mut each = |row: Vec<Cell>| {
            rows += 1;
            progress(table.name, rows);
            archive.row(table, &row)
        };
        dump::each_row(&mut snapshot.conn(), table, version, &mut each).await?;
    }
    let mut last = BTreeMap::new();
    for (table, column) in [("register", "seq"), ("access_log", "seq")] {
        if let Some((_, known)) = dump::table(table) {
            last.insert(table, dump::last_seq(&mut snapshot.conn(), known, column).await?);
        }
    }
    let manifest = Manifest {
        format: String::new(),
        installation,
        created_at,
        backend: store.backend().to_owned(),
        schema,
        tables: BTreeMap::new(),
        register_seq: last.get("register").copied().unwrap_or(0),
        log_seq: last.get("access_log").copied().unwrap_or(0),
        sha256: String::new(),
    };
    Ok(archive.end(manifest, version, |bytes| keyring.sign_log(bytes))?)
}

/// The migrations of this program by name, and the version of the newest.
fn known_schema() -> (Vec<String>, i64) {
    let known = migrations();
    let version = known.last().map_or(0, |(version, _)| *version);
    (known.into_iter().map(|(_, name)| name).collect(), version)
}
