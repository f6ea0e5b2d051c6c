//! `restore`: a backup into a database that is not set up yet.

use super::progress::ProgressLine;
use super::{AppError, files, kek, settings};
use crate::base::{Clock, Entropy};
use crate::config::{Database, Settings};
use crate::service::KekSource;
use crate::service::backup::{Checked, RestoreError, check_backup, is_vacant, restore as write_back};
use crate::store::Store;
use std::fs::{self, DirBuilder, File};
use std::io::{BufReader, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Restores the backup `file`. Needs the KEK of the installation that it is a backup of. Writes nothing unless the file
/// is whole, unchanged and signed; then all of it or nothing.
pub async fn restore(file: PathBuf, data_dir: Option<PathBuf>) -> Result<(), AppError> {
    let settings = settings(data_dir, None)?;
    let source = kek::source(&settings)?;
    refuse_occupied(&settings).await?;
    let failed = |error| AppError::File { path: file.clone(), error };
    let mut backup = BufReader::new(File::open(&file).map_err(failed)?);
    files::make_data_dir(&settings.data_dir)?;
    let checked = check(&mut backup, &settings.data_dir, source.as_ref()).await?;
    backup.rewind().map_err(failed)?;

    let store = files::open_store(&settings).await?;
    let mut progress = ProgressLine::new("restoring");
    let mut tell = |table: &'static str, rows| progress.tell(table, rows);
    let done = write_back(&store, &checked, &mut backup, &Clock::system(), &mut tell).await;
    drop(progress);
    done.map_err(|error| occupied(error, &settings))?;
    store.close().await;
    let manifest = &checked.manifest;
    let rows: u64 = manifest.tables.values().map(|table| table.rows).sum();
    println!("restored  {}  ({rows} rows) into {}", manifest.installation, settings.database);
    println!("as of     {}; whatever was granted, revoked or spent later is not in it", manifest.created_at);
    Ok(())
}

/// A database that is set up is left alone, and one that is not there is not made.
async fn refuse_occupied(settings: &Settings) -> Result<(), AppError> {
    if let Database::Sqlite { file } = &settings.database
        && !file.exists()
    {
        return Ok(());
    }
    let store = files::open_store(settings).await?;
    let vacant = is_vacant(&store).await?;
    store.close().await;
    if vacant { Ok(()) } else { Err(AppError::Occupied(settings.database.to_string())) }
}

fn occupied(error: RestoreError, settings: &Settings) -> AppError {
    match error {
        RestoreError::AlreadyInstalled => AppError::Occupied(settings.database.to_string()),
        error => error.into(),
    }
}

async fn check(
    backup: &mut BufReader<File>,
    data_dir: &Path,
    source: &dyn KekSource,
) -> Result<Checked, AppError> {
    let scratch = Scratch::make(data_dir)?;
    let store = Store::open(&format!("sqlite://{}", scratch.0.join("vault.db").display())).await?;
    let mut progress = ProgressLine::new("checking");
    let checked = check_backup(backup, &store, source, &mut |table, rows| progress.tell(table, rows)).await;
    store.close().await;
    Ok(checked?)
}

/// A folder for what is needed while checking. Dropped, it is removed with all that is in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(data_dir: &Path) -> Result<Self, AppError> {
        let folder = data_dir.join(format!("restoring-{}", Entropy::new().base62(12)));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => Ok(Self(folder)),
            Err(error) => Err(AppError::File { path: folder, error }),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        _ = fs::remove_dir_all(&self.0);
    }
}
