//! Secrets in files: the provider key that comes in, and the sub-key's secret that goes out.
//!
//! A file for a new secret is made before the server is asked, new and for its owner alone, so that a secret is not
//! lost to a path that cannot be written; it is taken away again when no secret came.

use super::{CliError, UsageError, hidden_input};
use crate::base::Secret;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const KEY_BYTES_MAX: usize = 64 * 1024;

/// Reads a provider key from `file`, or from standard input; blanks around it are dropped.
pub(super) fn read_key(file: Option<&Path>) -> Result<Secret<String>, CliError> {
    match file {
        Some(path) => {
            let failed = |source| CliError::File { doing: "read", path: path.to_owned(), source };
            key_of(&read_bounded(File::open(path).map_err(failed)?).map_err(failed)?)
        }
        None if io::stdin().is_terminal() => Err(UsageError::SecretOnTerminal.into()),
        None => key_of(&read_bounded(io::stdin().lock()).map_err(CliError::Input)?),
    }
}

/// Reads a text with a secret from a file, without its line end.
pub(super) fn read_text(file: &Path) -> Result<Secret<String>, CliError> {
    let failed = |source| CliError::File { doing: "read", path: file.to_owned(), source };
    text_of(&read_bounded(File::open(file).map_err(failed)?).map_err(failed)?)
}

/// Asks for a text with a secret on the terminal, unseen, or reads it from standard input.
pub(super) fn read_text_from_stdin(prompt: &str) -> Result<Secret<String>, CliError> {
    if io::stdin().is_terminal() {
        return hidden_input::ask(prompt).map_err(CliError::Input);
    }
    text_of(&read_bounded(io::stdin().lock()).map_err(CliError::Input)?)
}

fn text_of(bytes: &Secret<Vec<u8>>) -> Result<Secret<String>, CliError> {
    if bytes.expose().len() > KEY_BYTES_MAX {
        return Err(UsageError::UnsealShape.into());
    }
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| UsageError::UnsealShape)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn read_bounded(input: impl Read) -> io::Result<Secret<Vec<u8>>> {
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut bytes = Vec::with_capacity(KEY_BYTES_MAX + 64);
    let limit = u64::try_from(KEY_BYTES_MAX + 1).unwrap_or(u64::MAX);
    let read = input.take(limit).read_to_end(&mut bytes);
    let bytes = Secret::new(bytes);
    read.map(|_| bytes)
}

fn key_of(bytes: &Secret<Vec<u8>>) -> Result<Secret<String>, CliError> {
    if bytes.expose().len() > KEY_BYTES_MAX {
        return Err(UsageError::SecretShape.into());
    }
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| UsageError::SecretShape)?.trim();
    if text.is_empty() {
        return Err(UsageError::SecretEmpty.into());
    }
    if text.contains(char::is_control) {
        return Err(UsageError::SecretShape.into());
    }
    Ok(Secret::new(text.to_owned()))
}

/// A file that waits for a secret. Dropped without one, it is taken away.
pub(super) struct SecretFile {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl SecretFile {
    /// Makes the file, readable by its owner alone. One that exists already is left as it is.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let failed = |source| CliError::File { doing: "create", path: path.to_owned(), source };
        Ok(Self { path: path.to_owned(), file: file.map_err(failed)?, kept: false })
    }

    /// Writes the secret of the sub-key `id`, and a newline.
    pub(super) fn keep(mut self, secret: &Secret<String>, id: &str) -> Result<(), CliError> {
        let written = self.file.write_all(secret.expose().as_bytes());
        let synced = written.and_then(|()| self.file.write_all(b"\n")).and_then(|()| self.file.sync_all());
        self.kept = synced.is_ok();
        synced.map_err(|error| CliError::SecretLost {
            id: id.to_owned(),
            place: self.path.display().to_string(),
            reason: error.to_string(),
        })
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if !self.kept {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn key(text: &str) -> Result<String, u8> {
        let bytes = read_bounded(text.as_bytes()).unwrap();
        key_of(&bytes).map(|key| key.expose().clone()).map_err(|error| error.exit_code())
    }

    #[test]
    fn a_key_is_one_line_of_text() {
        assert_eq!(key("sk-123\n"), Ok("sk-123".to_owned()));
        assert_eq!(key(" sk-123\r\n\n"), Ok("sk-123".to_owned()));
        for bad in ["", "\n", "a\nb", "a\u{0}b"] {
            assert_eq!(key(bad), Err(2), "{bad:?}");
        }
        assert!(key(&"k".repeat(KEY_BYTES_MAX)).is_ok());
        assert_eq!(key(&"k".repeat(KEY_BYTES_MAX + 1)), Err(2));
    }

    #[test]
    fn a_secret_goes_to_a_new_file_of_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        SecretFile::create(&path).unwrap().keep(&Secret::new("bk_x".into()), "x").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "bk_x\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let Err(again) = SecretFile::create(&path) else { panic!("the file is overwritten") };
        assert!(again.render().contains("Nothing was asked of the server"), "{}", again.render());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "bk_x\n");
    }

    #[test]
    fn a_file_that_got_no_secret_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        drop(SecretFile::create(&path).unwrap());
        assert!(!path.exists());
    }
}
