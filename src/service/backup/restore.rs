//! The way back. First the whole file is read and held to its manifest, its signature and this installation's key;
//! then everything, from the first table to the quarantine, is written in one transaction.

use super::archive::{ArchiveError, ArchiveReader, Item, Manifest};
use super::{Progress, known_schema};
use crate::base::Clock;
use crate::service::quarantine::mark_restored;
use crate::service::vault::INSTALLATION;
use crate::service::{KekSource, OpenVaultError, Opened, StoreError, is_installed, open_keyring};
use crate::store::dump::{self, Cell, Column, Table};
use crate::store::{Conn, MigrateError, SchemaState, Store, meta, migrate_within};
use crate::vault::{Keyring, verify_log};
use std::io::BufRead;
use std::sync::Arc;

/// Rows that are written by one statement: few enough for the bound on what a statement binds.
const ROWS_AT_ONCE: usize = 64;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The file.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The key-encryption key is not the backup's.
    #[error(transparent)]
    Vault(#[from] OpenVaultError),
    /// The signature is not that of the backup's installation.
    #[error(
        "the backup was changed after it was written: its signature is not by the log key of {installation}"
    )]
    Signature {
        /// Whose it should be.
        installation: String,
    },
    /// It is not the file that was checked.
    #[error("the backup was changed while it was restored; nothing was kept")]
    ChangedMeanwhile,
    /// There is an installation already.
    #[error("this database is set up already; nothing was changed")]
    AlreadyInstalled,
    /// The database is empty, and its tables are newer than the backup's.
    #[error(
        "the database is empty but has tables newer than the backup's ({0}); restore into one that has none"
    )]
    NewerTables(String),
    /// The tables could not be made.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A backup that is whole, unchanged, signed by its installation, and opened by the key that will open it.
pub struct Checked {
    /// What it says about itself.
    pub manifest: Manifest,
    keyring: Arc<Keyring>,
}

/// Whether the database has no installation, whatever its schema.
pub async fn is_vacant(store: &Store) -> Result<bool, StoreError> {
    match store.schema_state().await? {
        SchemaState::Pending(names) if names == known_schema().0 => Ok(true),
        _ => Ok(!is_installed(store).await?),
    }
}

/// Reads a whole backup and checks all that can be checked of it. `scratch` is an empty database, thrown away after: the
/// part of the backup that opens the vault is put there, and opened as a server would open it.
pub async fn check_backup(
    file: &mut (dyn BufRead + Send),
    scratch: &Store,
    source: &dyn KekSource,
    progress: Progress<'_>,
) -> Result<Checked, RestoreError> {
    let mut archive = ArchiveReader::begin(file)?;
    let mut tx = scratch.write().await?;
    migrate_within(&mut tx.conn(), Some(archive.version)).await?;
    let mut rows = 0;
    let (manifest, signed) = loop {
        match archive.next()? {
            Item::Row(table, row) => {
                rows += 1;
                progress(table.name, rows);
                if table.opens_vault {
                    let columns = table.columns_at(archive.version);
                    dump::insert(&mut tx.conn(), table, &columns, &[row]).await?;
                }
            }
            Item::End(manifest, signed) => break (*manifest, signed),
        }
    };
    migrate_within(&mut tx.conn(), None).await?;
    tx.commit().await?;
    let Opened { installation, keyring, .. } = open_keyring(scratch, source).await?;
    if installation != manifest.installation
        || !verify_log(&keyring.log_public_key(), &signed.manifest, &signed.signature)
    {
        return Err(RestoreError::Signature { installation });
    }
    Ok(Checked { manifest, keyring: Arc::new(keyring) })
}

/// Writes a checked backup into a database without an installation: all of it or nothing, quarantined. `file` is at its
/// beginning again.
pub async fn restore(
    store: &Store,
    checked: &Checked,
    file: &mut (dyn BufRead + Send),
    clock: &Clock,
    progress: Progress<'_>,
) -> Result<(), RestoreError> {
    match store.schema_state().await? {
        SchemaState::UpToDate | SchemaState::Pending(_) => {}
        state => return Err(MigrateError::Refused(state).into()),
    }
    let mut archive = ArchiveReader::begin(file)?;
    refuse_newer_tables(store, &archive.schema).await?;
    let mut tx = store.write().await?;
    dump::unhurried(&mut tx.conn()).await?;
    migrate_within(&mut tx.conn(), Some(archive.version)).await?;
    if meta::get(&mut tx.conn(), INSTALLATION).await?.is_some() {
        return Err(RestoreError::AlreadyInstalled);
    }
    dump::clear(&mut tx.conn(), archive.version).await?;
    load(&mut archive, checked, &mut tx.conn(), progress).await?;
    dump::continue_sequences(&mut tx.conn(), archive.version).await?;
    migrate_within(&mut tx.conn(), None).await?;
    Ok(mark_restored(tx, Arc::clone(&checked.keyring), &checked.manifest, clock.now()).await?)
}

/// An empty database may have tables: of the backup's schema, or an older one.
async fn refuse_newer_tables(store: &Store, schema: &[String]) -> Result<(), RestoreError> {
    let pending = match store.schema_state().await? {
        SchemaState::Pending(names) => names,
        _ => Vec::new(),
    };
    let (known, _) = known_schema();
    let newer = known.into_iter().filter(|name| !schema.contains(name) && !pending.contains(name));
    match newer.reduce(|names, name| names + ", " + &name) {
        Some(names) => Err(RestoreError::NewerTables(names)),
        None => Ok(()),
    }
}

async fn load(
    archive: &mut ArchiveReader<'_>,
    checked: &Checked,
    conn: &mut Conn<'_>,
    progress: Progress<'_>,
) -> Result<(), RestoreError> {
    let mut batch = Batch { table: &dump::TABLES[0], columns: Vec::new(), rows: Vec::new() };
    let mut rows = 0;
    loop {
        match archive.next()? {
            Item::Row(table, row) => {
                rows += 1;
                progress(table.name, rows);
                if table.name != batch.table.name || batch.rows.len() == ROWS_AT_ONCE {
                    batch.write(conn).await?;
                }
                if batch.rows.is_empty() {
                    (batch.table, batch.columns) = (table, table.columns_at(archive.version));
                }
                batch.rows.push(row);
            }
            Item::End(manifest, _) => {
                batch.write(conn).await?;
                // The manifest holds the hash of all rows, so the same manifest means the same rows.
                return if *manifest == checked.manifest {
                    Ok(())
                } else {
                    Err(RestoreError::ChangedMeanwhile)
                };
            }
        }
    }
}

/// Rows of one table that are written together.
struct Batch {
    table: &'static Table,
    columns: Vec<&'static Column>,
    rows: Vec<Vec<Cell>>,
}

impl Batch {
    async fn write(&mut self, conn: &mut Conn<'_>) -> Result<(), StoreError> {
        dump::insert(conn, self.table, &self.columns, &self.rows).await?;
        self.rows.clear();
        Ok(())
    }
}
