//! A copy of a SQLite file, taken before its schema is changed.

use super::{Backend, Store, StoreError};
use rustix::fs::{CWD, RenameFlags};
use rustix::io::Errno;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why there is no copy.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is not enough room beside the database.
    #[error("a copy of the database needs {needed_bytes} bytes and {} has {free_bytes} free; make room first", folder.display())]
    NoRoom {
        /// Where.
        folder: PathBuf,
        /// The size of the copy at most.
        needed_bytes: u64,
        /// What is free.
        free_bytes: u64,
    },
    /// The file cannot be made.
    #[error("the copy {} cannot be made: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The copy was not finished, and is gone.
    #[error("the copy {} was not finished, so nothing was changed: {error}", path.display())]
    Unfinished {
        /// Which.
        path: PathBuf,
        /// What the database says.
        error: StoreError,
    },
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Copies a SQLite database, as it is now, to a file beside it, `<file>.before-<reason>`, that only its owner can read.
    /// Never in place of another: a number is added where there is one. The file has its name when it is whole and on
    /// disk, not before. `None` for PostgreSQL, whose copies are not ours to make. One at a time: hold a [`super::Writer`].
    pub async fn copy_aside(&self, reason: &str) -> Result<Option<PathBuf>, CopyError> {
        const SQL: &str = "VACUUM INTO $1";
        const SIZE: &str = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        let Backend::Sqlite { path, write, .. } = &self.0 else { return Ok(None) };
        let mut db = write.acquire().await.map_err(StoreError::Unavailable)?;
        let size: i64 = sqlx::query_scalar(SIZE)
            .fetch_one(&mut *db)
            .await
            .map_err(StoreError::of("pragma_page_count"))?;
        has_room(path, u64::try_from(size).unwrap_or(u64::MAX))?;
        let partial = begin(path.with_added_extension(format!("before-{reason}.partial")))?;
        let copied = sqlx::query(SQL).bind(partial.to_string_lossy()).execute(&mut *db).await;
        let done = match copied {
            Ok(_) => publish(&partial, path, reason),
            Err(error) => {
                let error = StoreError::of("copy")(error);
                Err(CopyError::Unfinished { path: partial.clone(), error })
            }
        };
        if done.is_err() {
            _ = fs::remove_file(&partial);
        }
        done.map(Some)
    }
}

fn has_room(path: &Path, needed_bytes: u64) -> Result<(), CopyError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let room = rustix::fs::statvfs(folder)
        .map_err(|error| CopyError::File { path: folder.to_owned(), error: error.into() })?;
    let free_bytes = room.f_bavail.saturating_mul(room.f_frsize);
    if free_bytes < needed_bytes {
        return Err(CopyError::NoRoom { folder: folder.to_owned(), needed_bytes, free_bytes });
    }
    Ok(())
}

/// Makes the empty file that the copy goes into: SQLite fills an empty file and no other. What a crash left there goes.
fn begin(partial: PathBuf) -> Result<PathBuf, CopyError> {
    let failed = |error| CopyError::File { path: partial.clone(), error };
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial).map_err(failed)?;
    Ok(partial)
}

/// Gives the whole copy the first name that is free, and has it on disk.
fn publish(partial: &Path, path: &Path, reason: &str) -> Result<PathBuf, CopyError> {
    const NAMES_MAX: u32 = 1_000;
    let first = path.with_added_extension(format!("before-{reason}"));
    let failed = |error| CopyError::File { path: first.clone(), error };
    File::open(partial).and_then(|file| file.sync_all()).map_err(failed)?;
    let others = (2..=NAMES_MAX).map(|number| first.with_added_extension(number.to_string()));
    for copy in std::iter::once(first.clone()).chain(others) {
        match rename_new(partial, &copy) {
            Ok(()) => {
                let folder = path.parent().unwrap_or(Path::new("/"));
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
                return Ok(copy);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Err(failed(io::ErrorKind::AlreadyExists.into()))
}

/// Renames, and never onto something.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system that cannot promise it, like some that are mounted over a network.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_does_not_fit_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bitting.db");
        has_room(&file, 1).unwrap();
        let refused = has_room(&file, u64::MAX).unwrap_err();
        assert!(refused.to_string().contains("make room first"), "{refused}");
    }
}
