//! `vault change-kek`: from one source of the key-encryption key to another, from beside the data.

use super::kek::{FileKek, PassphraseKek};
use super::{AppError, files, kek, settings};
use crate::base::{Clock, Entropy};
use crate::service::{self, Added, Confirmed, KekSource};
use crate::store::Store;
use std::path::PathBuf;

/// What `vault change-kek` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekStep {
    /// Wrap the keyring for a key file as well, made where it is missing.
    ToFile(PathBuf),
    /// Wrap the keyring for a passphrase in a file as well.
    ToPassphraseFile(PathBuf),
    /// Drop every wrapping but that of the configured source, which is the new one.
    Confirm,
}

/// Does one step, and says what comes next. The server may be running.
pub async fn change_kek(data_dir: Option<PathBuf>, step: KekStep) -> Result<(), AppError> {
    let settings = settings(data_dir, None)?;
    let configured = kek::source(&settings)?;
    let store = files::open_current_store(&settings).await?;
    match step {
        KekStep::ToFile(path) => {
            let set = format!("BITTING_KEK_FILE={}", path.display());
            add(&store, configured.as_ref(), &FileKek::new(path), &set).await?;
        }
        KekStep::ToPassphraseFile(path) => {
            let set = format!("BITTING_KEK_PASSPHRASE_FILE={}", path.display());
            add(&store, configured.as_ref(), &PassphraseKek::new(path), &set).await?;
        }
        KekStep::Confirm => {
            let Confirmed { source_is, dropped } =
                service::confirm_kek(&store, configured.as_ref(), (&Clock::system(), &Entropy::new()))
                    .await?;
            println!(
                "the keyring has a new root key and opens by {source_is} alone; wrappings dropped: {dropped}"
            );
            println!("next  backups from before need the old key: destroy it when you need them no more");
        }
    }
    store.close().await;
    Ok(())
}

/// Adds a source, and says what to set in the configuration.
async fn add(store: &Store, from: &dyn KekSource, to: &dyn KekSource, set: &str) -> Result<(), AppError> {
    let Added { from, to } = service::add_kek(store, (from, to), (&Clock::system(), &Entropy::new())).await?;
    println!("the keyring opens by {from} and by {to} now");
    println!("next  keep a copy of the new key apart from the database");
    println!("      set {set} in place of the old source, and start the server anew");
    println!("      then, with the same setting: bitting vault change-kek --confirm");
    Ok(())
}
