//! The sources of the key-encryption key, one file each. Which one is used is the configuration's to say.
//!
//! A new one (a cloud's key service) is a file here, a variant of [`KekSettings`], and a line in [`from_settings`].

mod credential;
mod file;
mod passphrase;
mod transit;

pub use credential::CredentialKek;
pub use file::FileKek;
pub use passphrase::PassphraseKek;
pub use transit::TransitKek;

use super::AppError;
use crate::app::secret_file::{self, Readers, SecretFileError};
use crate::base::Secret;
use crate::config::{KekSettings, Settings};
use crate::service::{KekSource, KekSourceError};
use std::path::Path;
use std::sync::Arc;

/// The configured source. Nothing of it is read or called yet, but for the authority of a transit engine.
pub fn source(settings: &Settings) -> Result<Arc<dyn KekSource>, AppError> {
    from_settings(&settings.kek)
}

/// The source that these settings name: also one that is moved to.
pub fn from_settings(settings: &KekSettings) -> Result<Arc<dyn KekSource>, AppError> {
    Ok(match settings {
        KekSettings::File { path } => Arc::new(FileKek::new(path.clone())),
        KekSettings::Passphrase { path } => Arc::new(PassphraseKek::new(path.clone())),
        KekSettings::Credential { name, path } => Arc::new(CredentialKek::new(name.clone(), path.clone())),
        KekSettings::Transit(transit) => Arc::new(TransitKek::new(transit.clone())?),
    })
}

/// Reads a file of a source, which `source_is` names in errors.
async fn read_secret(
    path: &Path,
    readers: Readers,
    source_is: String,
) -> Result<Secret<String>, KekSourceError> {
    secret_file::read(path, readers).await.map_err(|error| {
        let reason = error.to_string();
        match error {
            SecretFileError::Read { .. } => KekSourceError::Unavailable { source_is, reason },
            SecretFileError::Open { .. } | SecretFileError::NoText { .. } => {
                KekSourceError::Refused { source_is, reason }
            }
        }
    })
}

/// Whether a source of this kind holds the key itself: a key that moves from one to another is the same key.
fn holds_the_key(kind: &str) -> bool {
    matches!(kind, "file" | "credential")
}
