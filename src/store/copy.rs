//! A copy of a SQLite file, taken before its schema is changed.

use super::{Backend, Store, StoreError};
use std::fs::{self, OpenOptions};
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
    /// Never in place of another: a number is added where there is one. `None` for PostgreSQL, whose copies are not ours to make.
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
        let copy = reserve(path, reason)?;
        let copied = sqlx::query(SQL).bind(copy.to_string_lossy()).execute(&mut *db).await;
        let synced = |copy: &Path| fs::File::open(copy).and_then(|file| file.sync_all());
        let done = match copied {
            Ok(_) => synced(&copy).map_err(|error| CopyError::File { path: copy.clone(), error }),
            Err(error) => {
                let error = StoreError::of("copy")(error);
                Err(CopyError::Unfinished { path: copy.clone(), error })
            }
        };
        if done.is_err() {
            _ = fs::remove_file(&copy);
        }
        done.map(|()| Some(copy))
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

/// Makes an empty file of a name that is free. SQLite fills an empty file and no other.
fn reserve(path: &Path, reason: &str) -> Result<PathBuf, CopyError> {
    const NAMES_MAX: u32 = 1_000;
    let first = path.with_added_extension(format!("before-{reason}"));
    let mut copy = first.clone();
    let mut number = 1;
    loop {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&copy) {
            Ok(_) => return Ok(copy),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < NAMES_MAX => {
                number += 1;
                copy = first.with_added_extension(number.to_string());
            }
            Err(error) => return Err(CopyError::File { path: copy, error }),
        }
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
