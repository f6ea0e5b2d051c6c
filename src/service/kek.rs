//! Where the key-encryption key comes from: the whole interface that a source has to fill.

use crate::base::{Entropy, Secret};
use crate::vault::Kek;
use futures_util::future::BoxFuture;
use serde_json::Value;

/// A source of the key-encryption key. A new one (a cloud's key service) is one file beside the others, and a line in
/// the configuration.
///
/// A source gives a key together with what has to be kept to get that very key again: nothing for a file, salt and
/// parameters for a passphrase, the wrapped key for a key service. What is kept lies in the database in clear.
pub trait KekSource: Send + Sync {
    /// The word for it: `file`, `passphrase`, `credential`, `transit`.
    fn kind(&self) -> &'static str;

    /// What and where it is, for people; without secrets.
    fn describe(&self) -> String;

    /// A key for a new wrapping, and what to keep.
    fn create<'a>(
        &'a self,
        entropy: &'a Entropy,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<(Kek, Value), KekSourceError>>;

    /// The key of the wrapping that `kept` was kept for.
    fn open<'a>(
        &'a self,
        kept: &'a Value,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>>;

    /// Whether others hold the key and may take it back. Then a refusal may pass by itself, and the key is asked for
    /// again while the vault is open.
    fn is_a_service(&self) -> bool {
        false
    }

    /// Whether a wrapping by a source of this kind can be under a key of this one.
    fn fits(&self, kind: &str) -> bool {
        kind == self.kind()
    }

    /// The key of the wrapping that `kept` was kept for, by a passphrase that an operator presents in place of the
    /// source's own. A source that is no passphrase refuses.
    fn open_by_passphrase<'a>(
        &'a self,
        passphrase: &'a Secret<String>,
        kept: &'a Value,
        installation: &'a str,
    ) -> BoxFuture<'a, Result<Kek, KekSourceError>> {
        let _ = (passphrase, kept, installation);
        let (source_is, reason) = (self.describe(), "it is not opened by a passphrase".to_owned());
        Box::pin(std::future::ready(Err(KekSourceError::Refused { source_is, reason })))
    }

    /// Whether a new wrapping would be stronger than the one that `kept` was kept for.
    fn is_outdated(&self, kept: &Value) -> bool {
        let _ = kept;
        false
    }
}

/// Why a source gave no key. The texts hold no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekSourceError {
    /// It cannot be reached or read now; later it may.
    #[error("{source_is} does not answer: {reason}")]
    Unavailable {
        /// The source, as it describes itself.
        source_is: String,
        /// What happened.
        reason: String,
    },
    /// It answered, and what it holds is not the key, or it does not let us have it.
    #[error("{source_is}: {reason}")]
    Refused {
        /// The source, as it describes itself.
        source_is: String,
        /// What is wrong, and what to do.
        reason: String,
    },
}
