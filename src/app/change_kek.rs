//! `vault change-kek`: from one source of the key-encryption key to another, from beside the data.
//!
//! The present source is the configured one; the new one is what the flags say, and what they say is what the
//! configuration is to say next. So the new one can be of the same kind as the present one.

use super::{AppError, files, kek, settings};
use crate::base::{Clock, Entropy};
use crate::config::{self, KekSettings};
use crate::service::{self, Added, Confirmed, KekSource};
use crate::store::Store;
use std::path::{Path, PathBuf, absolute};

/// What `vault change-kek` is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekStep {
    /// Wrap the keyring for a key file as well, made where it is missing.
    ToFile(PathBuf),
    /// Wrap the keyring for a passphrase in a file as well.
    ToPassphraseFile(PathBuf),
    /// Wrap the keyring for a credential of systemd as well: its name.
    ToCredential(String),
    /// Have a transit engine wrap the keyring as well.
    ToTransit(ToTransit),
    /// Drop every wrapping but that of the configured source, which is the new one.
    Confirm,
}

/// A transit engine, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToTransit {
    /// `--to-transit`: the server.
    pub url: String,
    /// `--transit-key`: the name of the key.
    pub key: String,
    /// `--transit-token-file`: the file with the token.
    pub token_file: PathBuf,
    /// `--transit-mount`: where the engine is mounted.
    pub mount: Option<String>,
    /// `--transit-namespace`: the namespace.
    pub namespace: Option<String>,
    /// `--transit-ca-file`: the authorities to trust.
    pub ca_file: Option<PathBuf>,
}

/// Does one step, and says what comes next. The server may be running.
pub async fn change_kek(data_dir: Option<PathBuf>, step: KekStep) -> Result<(), AppError> {
    let settings = settings(data_dir, None)?;
    let configured = kek::source(&settings)?;
    let to = new_source(step)?;
    let store = files::open_current_store(&settings).await?;
    match to {
        Some(to) => add(&store, configured.as_ref(), &to).await?,
        None => confirm(&store, configured.as_ref()).await?,
    }
    store.close().await;
    Ok(())
}

/// The source that is moved to; `None` to confirm the configured one.
fn new_source(step: KekStep) -> Result<Option<KekSettings>, AppError> {
    Ok(Some(match step {
        KekStep::ToFile(path) => KekSettings::File { path: whole(&path)? },
        KekStep::ToPassphraseFile(path) => KekSettings::Passphrase { path: whole(&path)? },
        KekStep::ToCredential(name) => {
            KekSettings::credential_by_flag("--to-credential", name, &config::environment()?)?
        }
        KekStep::ToTransit(transit) => transit.settings()?,
        KekStep::Confirm => return Ok(None),
    }))
}

/// The path from the root: the server may be started elsewhere.
fn whole(path: &Path) -> Result<PathBuf, AppError> {
    absolute(path).map_err(|error| AppError::File { path: path.to_owned(), error })
}

impl ToTransit {
    fn settings(self) -> Result<KekSettings, AppError> {
        let Self { url, key, token_file, mount, namespace, ca_file } = self;
        Ok(KekSettings::transit_by_flags(
            [
                ("kek_transit_url", "--to-transit", Some(url)),
                ("kek_transit_key", "--transit-key", Some(key)),
                ("kek_transit_mount", "--transit-mount", mount),
                ("kek_transit_namespace", "--transit-namespace", namespace),
            ]
            .into_iter()
            .filter_map(|(key, flag, text)| Some((key, flag, text?))),
            whole(&token_file)?,
            ca_file.as_deref().map(whole).transpose()?,
        )?)
    }
}

/// Adds a source, and says what to set in the configuration.
async fn add(store: &Store, from: &dyn KekSource, to: &KekSettings) -> Result<(), AppError> {
    let source = kek::from_settings(to)?;
    let by = (&Clock::system(), &Entropy::new());
    let Added { from, to: added } = service::add_kek(store, (from, source.as_ref()), by).await?;
    println!("the keyring opens by {from} and by {added} now");
    println!("next  {}", keep(to));
    println!("      set this in place of the old source, and start the server anew:");
    for (name, value) in to.variables() {
        println!("        {name}={value}");
    }
    println!("      then, with the same setting: bitting vault change-kek --confirm");
    Ok(())
}

/// What the new source asks for: without it the database opens no more once the change is confirmed.
fn keep(to: &KekSettings) -> &'static str {
    match to {
        KekSettings::File { .. } | KekSettings::Passphrase { .. } | KekSettings::Credential { .. } => {
            "keep a copy of the new key apart from the database"
        }
        KekSettings::Transit(_) => {
            "have the engine and its key backed up: lost there, the key is lost; and keep its token renewed"
        }
    }
}

async fn confirm(store: &Store, source: &dyn KekSource) -> Result<(), AppError> {
    let by = (&Clock::system(), &Entropy::new());
    let Confirmed { source_is, dropped } = service::confirm_kek(store, source, by).await?;
    println!("the keyring has a new root key and opens by {source_is} alone; wrappings dropped: {dropped}");
    println!("next  backups from before need the old key: destroy it when you need them no more");
    Ok(())
}
