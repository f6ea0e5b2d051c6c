//! A key file: one line of base64, readable by its owner only.

use super::read_secret;
use crate::app::secret_file::Readers;
use crate::base::{Entropy, Secret};
use crate::service::{KekSource, KekSourceError};
use crate::vault::Kek;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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
    async fn read_or_make(&self, entropy: &Entropy) -> Result<Kek, KekSourceError> {
        match self.make(entropy) {
            Ok(kek) => Ok(kek),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.read().await,
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    /// A file with a fresh key, which a loss of power does not take away any more.
    fn make(&self, entropy: &Entropy) -> io::Result<Kek> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path)?;
        let kek = Kek::generate(entropy);
        file.write_all(kek.to_line().expose().as_bytes())?;
        file.sync_all()?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(kek)
    }

    /// Reads the key. Others than its owner may not be able to.
    async fn read(&self) -> Result<Kek, KekSourceError> {
        let text: Secret<String> = read_secret(&self.path, Readers::Owner, self.describe()).await?;
        if text.expose().is_empty() {
            let reason = "it is empty, as one whose making broke off; remove it, unless its key was in use";
            return Err(self.refused(reason.to_owned()));
        }
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

    fn fits(&self, kind: &str) -> bool {
        super::holds_the_key(kind)
    }

    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        Box::pin(async { Ok((self.read_or_make(entropy).await?, json!({}))) })
    }

    fn open<'a>(
        &'a self,
        _kept: &'a Value,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(self.read())
    }
}
