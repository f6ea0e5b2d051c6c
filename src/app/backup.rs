//! `backup`: everything into one file, from one moment, beside a server or without one.
//!
//! The file appears under its name whole and on disk, or not at all.

use super::progress::ProgressLine;
use super::{AppError, files, kek, settings};
use crate::base::Clock;
use crate::service::KekSource;
use crate::service::backup::{BackupError, Manifest, back_up};
use crate::store::Store;
use rustix::fs::{CWD, RenameFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes a backup to `file`, which must not exist. Needs the KEK, to sign it. The server may be running.
pub async fn backup(file: PathBuf, data_dir: Option<PathBuf>) -> Result<(), AppError> {
    let settings = settings(data_dir, None)?;
    refuse_existing(&file)?;
    let source = kek::source(&settings)?;
    let store = files::open_current_store(&settings).await?;
    let manifest = write(&file, &store, source.as_ref()).await?;
    store.close().await;
    let rows: u64 = manifest.tables.values().map(|table| table.rows).sum();
    println!("backup   {}  ({rows} rows, of {})", file.display(), manifest.created_at);
    println!("sha256   {}", manifest.sha256);
    println!(
        "to use   bitting restore, with the KEK of this installation; it is not in the file: keep both, apart"
    );
    Ok(())
}

async fn write(file: &Path, store: &Store, source: &dyn KekSource) -> Result<Manifest, AppError> {
    let partial = Partial::create(file.with_added_extension("partial"))?;
    let failed = |error| AppError::File { path: partial.path.clone(), error };
    let mut progress = ProgressLine::new("backing up");
    let mut out = BufWriter::new(&partial.file);
    let done =
        back_up(store, source, &Clock::system(), &mut out, &mut |table, rows| progress.tell(table, rows))
            .await;
    drop(progress);
    let manifest = match done {
        Err(BackupError::Write(error)) => return Err(failed(error)),
        done => done?,
    };
    // Written out by the backup itself; what is left in there is nothing.
    drop(out);
    partial.file.sync_all().map_err(failed)?;
    partial.publish(file)?;
    Ok(manifest)
}

fn refuse_existing(file: &Path) -> Result<(), AppError> {
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(AppError::File { path: file.to_owned(), error }),
        Ok(_) => Err(AppError::Exists(file.to_owned())),
    }
}

/// A file that is not whole yet. Dropped before it is published, it is removed.
struct Partial {
    path: PathBuf,
    file: File,
    published: bool,
}

impl Partial {
    fn create(path: PathBuf) -> Result<Self, AppError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => Ok(Self { path, file, published: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(AppError::Exists(path)),
            Err(error) => Err(AppError::File { path, error }),
        }
    }

    /// Gives it its name, unless something has that name by now.
    fn publish(mut self, file: &Path) -> Result<(), AppError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AlreadyExists => AppError::Exists(file.to_owned()),
            _ => AppError::File { path: file.to_owned(), error },
        };
        match rustix::fs::renameat_with(CWD, &self.path, CWD, file, RenameFlags::NOREPLACE) {
            // A file system that cannot promise it, like some that are mounted over a network.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                refuse_existing(file)?;
                fs::rename(&self.path, file).map_err(failed)?;
            }
            renamed => renamed.map_err(|errno| failed(errno.into()))?,
        }
        self.published = true;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            _ = fs::remove_file(&self.path);
        }
    }
}
