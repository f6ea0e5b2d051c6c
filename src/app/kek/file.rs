//! A key file: one line of base64, readable by its owner only.

use crate::base::{Entropy, Secret};
use crate::service::{KekSource, KekSourceError};
use crate::vault::Kek;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// A key file.
#[derive(Clone, Debug)]
pub struct FileKek {
    path: PathBuf,
}

impl FileKek {
    /// The file at `path`; it may not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Reads the key, or makes one where the file is missing.
    fn read_or_make(&self, entropy: &Entropy) -> Result<Kek, KekSourceError> {
        let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path);
        let mut file = match created {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return self.read(),
            Err(error) => return Err(self.unavailable(&error)),
        };
        let kek = Kek::generate(entropy);
        let written = file.write_all(kek.to_line().expose().as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|error| self.unavailable(&error))?;
        Ok(kek)
    }

    /// Reads the key. Others than its owner may not be able to.
    fn read(&self) -> Result<Kek, KekSourceError> {
        let mode = fs::metadata(&self.path).map_err(|error| self.unavailable(&error))?.permissions().mode();
        if mode & 0o077 != 0 {
            let path = self.path.display();
            return Err(self.refused(format!(
                "others than its owner can read it (mode {:o}); run: chmod 600 {path}",
                mode & 0o777
            )));
        }
        let text = Secret::new(fs::read_to_string(&self.path).map_err(|error| self.unavailable(&error))?);
        Kek::parse(&text).map_err(|error| {
            self.refused(format!("{error}; put the file back that belongs to this database"))
        })
    }

    fn unavailable(&self, error: &io::Error) -> KekSourceError {
        KekSourceError::Unavailable { source_is: self.describe(), reason: error.to_string() }
    }

    fn refused(&self, reason: String) -> KekSourceError {
        KekSourceError::Refused { source_is: self.describe(), reason }
    }
}

impl KekSource for FileKek {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn describe(&self) -> String {
        format!("the KEK file {}", self.path.display())
    }

    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        ready(self.read_or_make(entropy).map(|kek| (kek, json!({})))).boxed()
    }

    fn open<'a>(
        &'a self,
        _kept: &'a Value,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        ready(self.read()).boxed()
    }
}
