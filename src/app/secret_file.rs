//! A file with a secret in it: read whole, wiped after use, and refused where others can read it too.

use crate::base::Secret;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Longer than any key, passphrase or token.
const BYTES_MAX: usize = 16 << 10;

/// Who may be able to read a file that holds a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Its owner.
    Owner,
    /// Its owner, and whom an access-control list names: that list's mask shows as the group's bits. It is how
    /// systemd hands credentials to a service that is not root.
    OwnerAndListed,
}

/// Reads a secret text. Errors never hold what was read.
pub(super) async fn read(path: &Path, readers: Readers) -> Result<Secret<String>, SecretFileError> {
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_now(&owned, readers));
    let failure = match reading.await {
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(failure)) => failure,
        Err(_panicked) => Failure::Read(io::ErrorKind::Other.into()),
    };
    let path = path.to_owned();
    Err(match failure {
        Failure::Read(error) => SecretFileError::Read { path, error },
        Failure::Open { mode } => SecretFileError::Open { path, mode },
        Failure::NoText => SecretFileError::NoText { path },
    })
}

/// Why there is no secret to be had from a file.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretFileError {
    #[error("cannot read {}: {error}", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("others can read {0} (mode {mode:o}); run: chmod 600 {0}", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} is not a short text in UTF-8", path.display())]
    NoText { path: PathBuf },
}

enum Failure {
    Read(io::Error),
    Open { mode: u32 },
    NoText,
}

fn read_now(path: &PathBuf, readers: Readers) -> Result<Secret<String>, Failure> {
    // A pipe would block the opening, and has nothing to check.
    if !std::fs::metadata(path).map_err(Failure::Read)?.is_file() {
        return Err(Failure::NoText);
    }
    let file = File::open(path).map_err(Failure::Read)?;
    // Of the opened file, not of what the path names by now.
    let mode = file.metadata().map_err(Failure::Read)?.permissions().mode() & 0o777;
    let too_many = match readers {
        Readers::Owner => 0o077,
        Readers::OwnerAndListed => 0o007,
    };
    if mode & too_many != 0 {
        return Err(Failure::Open { mode });
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(BYTES_MAX + 1));
    file.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(Failure::Read)?;
    if bytes.len() > BYTES_MAX {
        return Err(Failure::NoText);
    }
    String::from_utf8(std::mem::take(&mut *bytes)).map(Secret::new).map_err(|error| {
        drop(Secret::new(error.into_bytes()));
        Failure::NoText
    })
}

/// The text without its line end.
pub(super) fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}
