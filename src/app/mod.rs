//! Puts the floors together: what each local command does, with the real clock and the real files.

mod backup;
mod change_kek;
mod doctor;
mod files;
mod install;
pub mod kek;
mod logging;
mod migrate;
mod probe;
mod progress;
mod quickstart;
mod recover;
mod restore;
mod secret_file;
pub mod server;
mod webhook;

pub use backup::backup;
pub use change_kek::{KekStep, ToTransit, change_kek};
pub use doctor::doctor;
pub use install::init;
pub use logging::harden;
pub use migrate::migrate;
pub use quickstart::{QuickstartOptions, quickstart};
pub use recover::recover;
pub use restore::restore;
pub use server::{sandbox, serve};

use crate::config::{ConfigError, Overrides, Settings};
use crate::service::backup::{BackupError, RestoreError};
use crate::service::{ChangeKekError, InstallError, RecoverError, StartError, StoreError};
use crate::store::{CopyError, MigrateError, OpenError};
use std::io;
use std::path::PathBuf;

/// Why a local command did not do its work. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file beside the data.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database's schema is not this program's.
    #[error("{0}")]
    Schema(String),
    /// A server uses the database whose schema is to be changed.
    #[error(
        "a server is using the database and would go on by the schema that it knows; stop it, then run: bitting migrate"
    )]
    InUse,
    /// The schema cannot be brought up to date.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Setting up failed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// No owner was made.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The key-encryption key was not changed.
    #[error(transparent)]
    ChangeKek(#[from] ChangeKekError),
    /// The services did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// There is a file of the name already.
    #[error("{} exists already and is left as it is; name another file, or remove it if it is of no use", .0.display())]
    Exists(PathBuf),
    /// The database is set up already.
    #[error(
        "the database {0} is set up already; nothing was changed. Restore into one that is not: with --data DIR, or BITTING_DATABASE_URL"
    )]
    Occupied(String),
    /// The database was not copied before a change of its schema.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// There is no backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Nothing was restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// A listener cannot listen.
    #[error("cannot listen on {address} ({plane}): {error}; choose another address with {variable}")]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// For what.
        plane: &'static str,
        /// Why not.
        error: io::Error,
        /// The setting that moves it.
        variable: &'static str,
    },
    /// Something that the program needs at its start failed.
    #[error("{what}: {reason}")]
    Setup {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// A check of `doctor` failed; the report says which.
    #[error("{0} of the checks failed; what to do stands beside each")]
    Unhealthy(usize),
}

impl AppError {
    fn setup(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Setup { what, reason: reason.to_string() }
    }
}

/// The settings of a command that takes a data directory.
fn settings(data_dir: Option<PathBuf>, config: Option<PathBuf>) -> Result<Settings, AppError> {
    Ok(Settings::load(&Overrides { config, data_dir })?)
}

/// Where the checkpoint is kept, outside of the database.
fn checkpoint(settings: &Settings) -> PathBuf {
    settings.data_dir.join("checkpoint")
}
