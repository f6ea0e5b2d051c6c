//! The key-encryption key as a credential of systemd: the same line as in a KEK file, handed to this service alone.

use super::read_secret;
use crate::app::secret_file::Readers;
use crate::base::{Entropy, Secret};
use crate::service::{KekSource, KekSourceError};
use crate::vault::Kek;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A credential of systemd that holds the key.
#[derive(Clone, Debug)]
pub struct CredentialKek {
    name: String,
    path: PathBuf,
}

impl CredentialKek {
    /// The credential of this name, which systemd has put there.
    pub fn new(name: String, path: PathBuf) -> Self {
        Self { name, path }
    }

    async fn read(&self) -> Result<Kek, KekSourceError> {
        let text: Secret<String> = read_secret(&self.path, Readers::OwnerAndListed, self.describe()).await?;
        Kek::parse(&text).map_err(|error| KekSourceError::Refused {
            source_is: self.describe(),
            reason: format!("it is no key: {error}"),
        })
    }
}

impl KekSource for CredentialKek {
    fn kind(&self) -> &'static str {
        "credential"
    }

    fn describe(&self) -> String {
        format!("the systemd credential {}", self.name)
    }

    fn fits(&self, kind: &str) -> bool {
        super::holds_the_key(kind)
    }

    fn create<'a>(
        &'a self,
        _entropy: &'a Entropy,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        Box::pin(async { Ok((self.read().await?, json!({}))) })
    }

    fn open<'a>(
        &'a self,
        _kept: &'a Value,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(self.read())
    }
}
