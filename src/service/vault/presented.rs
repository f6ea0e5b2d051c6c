//! What an operator presents to unseal: the code, or what opens the source of the key-encryption key.

use crate::base::{Entropy, Secret};
use crate::service::{KekSource, KekSourceError};
use crate::vault::{Kek, KekError};
use futures_util::future::{BoxFuture, ready};
use serde_json::{Value, json};

/// What an operator presents to unseal.
pub enum Presented {
    /// The one-time code that the seal gave out.
    Code(Secret<String>),
    /// What a KEK file holds.
    Kek(Secret<String>),
    /// The passphrase.
    Passphrase(Secret<String>),
    /// Nothing: the configured source is asked again.
    Nothing,
}

impl Presented {
    /// The word for it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Code(_) => "code",
            Self::Kek(_) => "kek",
            Self::Passphrase(_) => "passphrase",
            Self::Nothing => "source",
        }
    }
}

/// A key that was presented, as a source. It opens what a file or a systemd credential wraps: both hold the key itself.
pub(super) struct PresentedKek(Kek);

impl PresentedKek {
    pub(super) fn parse(text: &Secret<String>) -> Result<Self, KekError> {
        Kek::parse(text).map(Self)
    }

    fn kek(&self) -> Kek {
        Kek::from_bytes(*self.0.expose())
    }
}

impl KekSource for PresentedKek {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn describe(&self) -> String {
        "the key that was presented".to_owned()
    }

    fn fits(&self, kind: &str) -> bool {
        matches!(kind, "file" | "credential")
    }

    fn create<'a>(
        &'a self,
        _entropy: &'a Entropy,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        Box::pin(ready(Ok((self.kek(), json!({})))))
    }

    fn open<'a>(
        &'a self,
        _kept: &'a Value,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        Box::pin(ready(Ok(self.kek())))
    }
}

/// A passphrase that was presented, as a source: the configured one, with this passphrase in place of its own.
pub(super) struct PresentedPassphrase<'s> {
    pub(super) source: &'s dyn KekSource,
    pub(super) passphrase: &'s Secret<String>,
}

impl KekSource for PresentedPassphrase<'_> {
    fn kind(&self) -> &'static str {
        self.source.kind()
    }

    fn describe(&self) -> String {
        "the passphrase that was presented".to_owned()
    }

    fn create<'a>(
        &'a self,
        _entropy: &'a Entropy,
        _installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>> {
        let (source_is, reason) = (self.describe(), "it opens, and wraps nothing anew".to_owned());
        Box::pin(ready(Err(KekSourceError::Refused { source_is, reason })))
    }

    fn open<'a>(
        &'a self,
        kept: &'a Value,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        self.source.open_by_passphrase(self.passphrase, kept, installation)
    }
}
