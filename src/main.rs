//! The `bitting` binary: reads the command line, hands over, and answers with an exit code.

use bitting::base::{Clock, Entropy};
use bitting::cli::{self, Cli, CliError, Command, Local, Remote, Surroundings, VaultCommand};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    #[expect(clippy::disallowed_methods, reason = "handed on as an argument: nothing else here reads it")]
    let environment = |name: &str| std::env::var(name).ok();
    let done = match Cli::parse().command {
        Command::Local(command) => cli::run_local(command, &environment),
        Command::Remote(command) => remote(command, &environment),
        Command::Vault(VaultCommand::Remote(command)) => remote(Remote::Vault(command), &environment),
        Command::Vault(VaultCommand::ChangeKek(args)) => cli::run_local(Local::ChangeKek(args), &environment),
        Command::Completions { shell } => cli::completions(shell),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("{}", error.render());
            ExitCode::from(error.exit_code())
        }
    }
}

fn remote(command: Remote, environment: &dyn Fn(&str) -> Option<String>) -> Result<(), CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    let surroundings = Surroundings { clock: Clock::system(), entropy: Entropy::new() };
    let settings = cli::ClientSettings::read(environment)?;
    runtime.block_on(cli::run_remote(command, settings, surroundings))
}
