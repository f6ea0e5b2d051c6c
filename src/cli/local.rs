//! The commands that do their work here, beside the data: their arguments, and the one place that calls `app`.

use super::CliError;
use crate::app::{self, KekStep, QuickstartOptions};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The local commands.
#[derive(Debug, Subcommand)]
pub enum Local {
    /// Set up and serve: the main job in one command
    Quickstart(QuickstartArgs),
    /// Set up only: prints the first operator token and the log's key fingerprint, once
    Init(InitArgs),
    /// Serve applications and operators until stopped
    Serve(ServeArgs),
    /// Serve the simulated provider, for trying out and for tests
    Sandbox(SandboxArgs),
    /// Apply changes of the database schema, or show them
    Migrate(MigrateArgs),
    /// Write everything into one file, while the server serves or not; the key-encryption key is never in it
    Backup(BackupArgs),
    /// Restore a backup into a database that is not set up yet; needs the key-encryption key
    Restore(RestoreArgs),
    /// Check configuration, store, vault, clock and providers, and say what to do
    Doctor(DoctorArgs),
    /// Operators
    #[command(subcommand)]
    Operator(OperatorCommand),
    /// `vault change-kek`, which stands with the other commands about the vault.
    #[command(skip)]
    ChangeKek(ChangeKekArgs),
}

/// Arguments of `quickstart`.
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Where the data is kept [default: bitting-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Register the simulated provider instead of real ones
    #[arg(long)]
    pub sandbox: bool,
    /// Do not take provider keys from the environment
    #[arg(long)]
    pub no_import: bool,
}

/// Arguments of `init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// Where the data is kept [default: bitting-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// A TOML file; the environment wins over it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the data is kept [default: bitting-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Arguments of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// The address to listen on; port 0 picks a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8402")]
    pub listen: SocketAddr,
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// Show what would change and change nothing
    #[arg(long)]
    pub plan: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not exist
    pub file: PathBuf,
    /// Where the data is kept [default: bitting-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup
    pub file: PathBuf,
    /// Where the data is to be kept [default: bitting-data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

/// What can be done about operators.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Make a new owner token, here, with the key-encryption key; the admin log gets an entry
    Recover(RecoverArgs),
}

/// Arguments of `operator recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// Where the data is kept
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// Arguments of `vault change-kek`.
#[derive(Debug, Args)]
#[command(after_help = "Both keys open the vault until it is confirmed by the configuration of the new one.")]
pub struct ChangeKekArgs {
    #[command(flatten)]
    step: KekStepArgs,
    /// Where the data is kept [default: bitting-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// What `vault change-kek` is to do.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct KekStepArgs {
    /// Move to a key file; it is made where it is missing
    #[arg(long, value_name = "PATH")]
    to_file: Option<PathBuf>,
    /// Move to a passphrase in a file, which has to be there
    #[arg(long, value_name = "PATH")]
    to_passphrase_file: Option<PathBuf>,
    /// Drop the old key; run with the configuration of the new one
    #[arg(long)]
    confirm: bool,
}

impl KekStepArgs {
    fn step(self) -> KekStep {
        match (self.to_file, self.to_passphrase_file) {
            (Some(path), _) => KekStep::ToFile(path),
            (None, Some(path)) => KekStep::ToPassphraseFile(path),
            (None, None) => KekStep::Confirm,
        }
    }
}

/// Does a local command. `environment` reads one variable.
pub fn run_local(command: Local, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), CliError> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    let done = runtime.block_on(async {
        match command {
            Local::Quickstart(QuickstartArgs { data, sandbox, no_import }) => {
                let options = QuickstartOptions { data_dir: data, sandbox, no_import };
                app::quickstart(options, environment).await
            }
            Local::Init(InitArgs { data, json }) => app::init(data, json).await,
            Local::Serve(ServeArgs { config, data }) => app::serve(config, data).await,
            Local::Sandbox(SandboxArgs { listen }) => app::sandbox(listen).await,
            Local::Migrate(MigrateArgs { plan }) => app::migrate(plan).await,
            Local::Backup(BackupArgs { file, data }) => app::backup(file, data).await,
            Local::Restore(RestoreArgs { file, data }) => app::restore(file, data).await,
            Local::Doctor(DoctorArgs {}) => app::doctor().await,
            Local::ChangeKek(ChangeKekArgs { step, data }) => app::change_kek(data, step.step()).await,
            Local::Operator(OperatorCommand::Recover(RecoverArgs { data })) => app::recover(data).await,
        }
    });
    Ok(done?)
}
