//! The command line: what can be typed, and for the noun commands the conversation with the admin API.
//!
//! The local commands (`quickstart`, `serve`, ...) only have their arguments here; `app` does the work. The noun
//! commands hold no rules of their own: they turn flags into REST calls and answers into tables. No secret comes in
//! as an argument or leaves in an error. A closed pipe on standard output is the reader's choice, not a failure.

mod alarm;
mod client;
mod credential;
mod definition;
mod error;
mod hidden_input;
mod import;
mod listing;
mod local;
mod log;
mod mint;
mod model;
mod project;
mod provider;
mod render;
mod secret_file;
mod settings;
mod subkey;
mod usage;
mod usage_reconcile;
mod values;
mod vault;
mod vault_release;
mod vault_rotate;

pub use error::{CliError, FieldProblem, Refusal, UsageError};
pub use local::{
    BackupArgs, ChangeKekArgs, DoctorArgs, InitArgs, Local, MigrateArgs, OperatorCommand, QuickstartArgs,
    RecoverArgs, RestoreArgs, SandboxArgs, ServeArgs, run_local,
};
pub use settings::{ClientSettings, DEFAULT_URL};
pub use vault::{VaultCommand, VaultRemote};

use crate::base::{Clock, Entropy};
use clap::{CommandFactory, Parser, Subcommand};
use client::Client;

/// Keeps the real keys of LLM providers and cuts sub-keys from them
#[derive(Debug, Parser)]
#[command(
    name = "bitting",
    version,
    after_help = "The commands subkey, project, provider, credential, model, usage, log, vault and alarm ask the admin API of a running \
        server:\n  BITTING_URL    where it listens [default: http://127.0.0.1:8401]\n  BITTING_TOKEN  the token of the \
        operator who asks (bo_...)\n\nExit codes: 0 done, 1 refused or failed, 2 wrong usage."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands, by where their work is done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Done here, beside the data.
    #[command(flatten)]
    Local(Local),
    /// Done by a running server.
    #[command(flatten)]
    Remote(Remote),
    /// The vault: seal and unseal it, and change the key that opens it
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Print the completion script for a shell
    Completions {
        /// The shell it is for
        shell: clap_complete::Shell,
    },
}

/// The commands that ask the admin API.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Mint sub-keys, and change, stop or explain them
    #[command(subcommand)]
    Subkey(subkey::SubkeyCommand),
    /// The tree of projects that own sub-keys
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// The upstream APIs
    #[command(subcommand)]
    Provider(provider::ProviderCommand),
    /// The real keys of providers: they go in and never come out
    #[command(subcommand)]
    Credential(credential::CredentialCommand),
    /// The catalog of models and their prices
    #[command(subcommand)]
    Model(model::ModelCommand),
    /// What was used and what it cost
    Usage(usage::UsageArgs),
    /// The access log, and with --admin the admin log
    #[command(subcommand)]
    Log(log::LogCommand),
    /// What an operator has to look at
    #[command(subcommand)]
    Alarm(alarm::AlarmCommand),
    /// What a server does about its vault; typed as [`VaultCommand`].
    #[command(skip)]
    Vault(VaultRemote),
}

/// What the commands need of the world; tests bring their own.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Resolves durations like `90d`.
    pub clock: Clock,
    /// Makes idempotency keys.
    pub entropy: Entropy,
}

/// Asks the server and prints its answer.
///
/// Needs a tokio runtime with time and I/O. Cancelling it leaves a request that was already sent to the server.
pub async fn run_remote(
    command: Remote,
    settings: ClientSettings,
    surroundings: Surroundings,
) -> Result<(), CliError> {
    let client = Client::new(settings, surroundings.entropy)?;
    let now = surroundings.clock.now();
    match command {
        Remote::Subkey(command) => subkey::run(command, &client, now).await,
        Remote::Project(command) => project::run(command, &client).await,
        Remote::Provider(command) => provider::run(command, &client).await,
        Remote::Credential(command) => credential::run(command, &client).await,
        Remote::Model(command) => model::run(command, &client, now).await,
        Remote::Usage(args) => usage::run(args, &client, now).await,
        Remote::Vault(command) => vault::run(command, &client).await,
        Remote::Log(command) => log::run(command, &client, now).await,
        Remote::Alarm(command) => alarm::run(command, &client).await,
    }
}

/// Prints the completion script for `shell`.
pub fn completions(shell: clap_complete::Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "bitting", &mut script);
    render::print_bytes(&script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_valid() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_commands_of_the_contract_are_read() {
        for line in [
            "quickstart --data d --sandbox --no-import",
            "init --data d --json",
            "serve --config f --data d",
            "sandbox --listen 127.0.0.1:0",
            "migrate --plan",
            "doctor",
            "backup f --data d",
            "restore f --data d",
            "operator recover --data d",
            "completions bash",
            "subkey mint --name ci --project p --model openai/* --operation chat --ip 10.0.0.0/8 --cap 25/month \
             --expires 90d --label team=search --json",
            "subkey mint --name ci --model a/b c/d --secret-file key",
            "subkey mint --name ci --project p",
            "subkey list --status active --label team=search --unused-for 30d --all --json",
            "subkey show x",
            "subkey update x --if-match 3 --cap 5/day --set owner=null",
            "subkey rotate x --overlap 1h",
            "subkey suspend x",
            "subkey resume x",
            "subkey revoke x",
            "subkey explain x --operation chat --model openai/gpt-4o --client-ip 10.0.0.1",
            "project list --all --json",
            "project show search",
            "project create search --parent products --cap 25/month --rate concurrent:8 --max-subkey-ttl 90d \
             --ceiling-file c --defaults-file d",
            "project create search --file -",
            "project update search --if-match 3 --owner ana",
            "project suspend search",
            "project resume search",
            "project delete search",
            "provider list",
            "provider show openai",
            "provider create local --openai http://127.0.0.1:9000/v1",
            "provider update local --on-client-gone drain",
            "provider delete local",
            "provider suspend local",
            "provider resume local",
            "credential list openai",
            "credential add openai --name main --secret-file key",
            "credential rotate openai cred_1",
            "credential update openai cred_1 --rate 500/minute",
            "credential disable openai cred_1",
            "model list --provider openai",
            "model set openai/gpt-4o-mini --input 0.15 --output 0.60",
            "usage --by model,tag:team --from 2026-11-01 --to 2026-12-01",
            "usage --project p --subkey k --provider openai --model m --json",
            "usage release crash-1-x --reason unbilled --amount 0.5 --json",
            "usage reconcile f.json --provider openai --from 7d --to 2026-12-01 --tolerance 0.5% --json",
            "vault rotate --wait",
            "vault rewrap --json",
            "log list --decision denied --limit 5",
            "vault status --json",
            "vault seal",
            "vault unseal",
            "vault unseal --code-file f",
            "vault unseal --kek-file f --json",
            "vault unseal --passphrase-file f",
            "vault change-kek --to-file f --data d",
            "vault change-kek --confirm",
            "vault change-kek --to-passphrase-file f",
            "vault change-kek --to-credential kek",
            "vault change-kek --to-transit https://v:8200 --transit-key k --transit-token-file t --data d",
            "vault change-kek --to-transit https://v:8200 --transit-key k --transit-token-file t --transit-mount m \
             --transit-namespace n --transit-ca-file c",
            "log export --format jsonl --admin --output f",
            "alarm list --open --json",
            "alarm close alarm_1 --reason repaired",
            "vault release --access-log f --admin-log g --dry-run --yes",
        ] {
            let words = std::iter::once("bitting").chain(line.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_usage_is_refused_before_anything_is_asked() {
        for line in [
            "subkey mint --model openai/*",
            "subkey mint --name ci --model * --cap 25",
            "subkey mint --name ci --model * --json --secret-file f",
            "subkey list --all --limit 5",
            "subkey list --limit 0",
            "credential add openai --name main --secret sk-123",
            "model set gpt-4o",
            "log export --format xml",
            "alarm close alarm_1",
            "usage --token bo_x",
            "usage release crash-1-x",
            "usage release --reason unbilled",
            "usage --by model release crash-1-x --reason unbilled",
            "usage reconcile f.json",
            "usage reconcile f.json --provider openai --tolerance 1",
            "vault unseal --code abc",
            "vault unseal --code-file f --kek-file f",
            "vault change-kek",
            "vault change-kek --confirm --to-file f",
            "vault change-kek --to-credential c --to-file f",
            "vault change-kek --to-transit https://v:8200 --transit-key k",
            "vault change-kek --to-transit https://v:8200 --transit-token-file t",
            "vault change-kek --to-file f --transit-key k",
            "vault change-kek --confirm --transit-token-file t",
        ] {
            let words = std::iter::once("bitting").chain(line.split_whitespace());
            let error = Cli::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
