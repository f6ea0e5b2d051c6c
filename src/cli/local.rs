//! The commands that do their work here, beside the data: their arguments, and the one place that calls `app`.

use super::CliError;
use crate::app::{self, KekStep, QuickstartOptions, ToTransit};
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

const CHANGE_KEK_NOTES: &str = "\
The present key is that of the configuration; run it first with the flag of the new one, then as it says. Both keys open the
vault until it is confirmed by the configuration of the new one: whatever breaks off in between can be done again.

A new line for a credential: head -c 32 /dev/urandom | base64 | systemd-creds encrypt --name=kek - kek.cred";

/// Arguments of `vault change-kek`.
#[derive(Debug, Args)]
#[command(after_help = CHANGE_KEK_NOTES)]
pub struct ChangeKekArgs {
    #[command(flatten)]
    step: KekStepArgs,
    #[command(flatten)]
    transit: TransitArgs,
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
    /// Move to a credential of systemd, which hands it to this command
    #[arg(long, value_name = "NAME")]
    to_credential: Option<String>,
    /// Move to the transit engine of this server
    #[arg(long, value_name = "URL", requires_all = ["key", "token_file"])]
    to_transit: Option<String>,
    /// Drop the old key; run with the configuration of the new one
    #[arg(long)]
    confirm: bool,
}

/// What goes with `--to-transit`.
#[derive(Debug, Args)]
#[group(multiple = true)]
struct TransitArgs {
    /// The name of the engine's key
    #[arg(long = "transit-key", value_name = "NAME", requires = "to_transit")]
    key: Option<String>,
    /// The file that holds the token
    #[arg(long = "transit-token-file", value_name = "PATH", requires = "to_transit")]
    token_file: Option<PathBuf>,
    /// Where the engine is mounted [default: transit]
    #[arg(long = "transit-mount", value_name = "PATH", requires = "to_transit")]
    mount: Option<String>,
    /// The namespace, where there are any
    #[arg(long = "transit-namespace", value_name = "NAME", requires = "to_transit")]
    namespace: Option<String>,
    /// The authorities to trust instead of the roots of the web
    #[arg(long = "transit-ca-file", value_name = "PATH", requires = "to_transit")]
    ca_file: Option<PathBuf>,
}

impl ChangeKekArgs {
    /// The one step that was asked for, and the data directory.
    fn into_parts(self) -> (KekStep, Option<PathBuf>) {
        let KekStepArgs { to_file, to_passphrase_file, to_credential, to_transit, confirm: _ } = self.step;
        let TransitArgs { key, token_file, mount, namespace, ca_file } = self.transit;
        let transit = match (to_transit, key, token_file) {
            (Some(url), Some(key), Some(token_file)) => {
                Some(ToTransit { url, key, token_file, mount, namespace, ca_file })
            }
            _ => None,
        };
        let step = to_file.map(KekStep::ToFile);
        let step = step.or(to_passphrase_file.map(KekStep::ToPassphraseFile));
        let step = step.or(to_credential.map(KekStep::ToCredential));
        let step = step.or(transit.map(KekStep::ToTransit));
        (step.unwrap_or(KekStep::Confirm), self.data)
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
            Local::ChangeKek(args) => {
                let (step, data) = args.into_parts();
                app::change_kek(data, step).await
            }
            Local::Operator(OperatorCommand::Recover(RecoverArgs { data })) => app::recover(data).await,
        }
    });
    Ok(done?)
}
