//! A file with a secret in it: read whole, wiped after use, and refused where others can read it too.

use crate::base::Secret;
use crate::service::KekSourceError;
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

/// Reads a secret text. `source_is` names the source in errors, which never hold what was read.
pub(super) async fn read(
    path: &Path,
    readers: Readers,
    source_is: &str,
) -> Result<Secret<String>, KekSourceError> {
    let owned = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read_now(&owned, readers));
    let failure = match reading.await {
        Ok(Ok(text)) => return Ok(text),
        Ok(Err(failure)) => failure,
        Err(_panicked) => Failure::Read(io::ErrorKind::Other.into()),
    };
    let source_is = source_is.to_owned();
    let path = path.display();
    Err(match failure {
        Failure::Read(error) => {
            KekSourceError::Unavailable { source_is, reason: format!("cannot read {path}: {error}") }
        }
        Failure::Open { mode } => {
            let reason = format!("others can read {path} (mode {mode:o}); run: chmod 600 {path}");
            KekSourceError::Refused { source_is, reason }
        }
        Failure::NoText => {
            let reason = format!("{path} is not a short text in UTF-8");
            KekSourceError::Refused { source_is, reason }
        }
    })
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
