//! `bitting vault rotate` and `rewrap`: a new term of the keyring, and everything moved to it.

use super::CliError;
use super::client::{Client, path};
use super::render::{self, Form};
use clap::Args;
use serde_json::Value;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

const ASK_EVERY: Duration = Duration::from_millis(500);
const BAR_CELLS: u64 = 30;

/// Arguments of both.
#[derive(Debug, Args)]
pub struct MoveArgs {
    /// Wait until everything that can be moved is
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(verb: &str, args: MoveArgs, client: &Client) -> Result<(), CliError> {
    let mut state = client.post(&path(&["vault", verb]), None).await?;
    if args.wait {
        let first = state["rewrap"]["left"].as_u64().unwrap_or(0);
        while state["rewrap"]["running"] == true {
            show_progress(first, &state)?;
            tokio::time::sleep(ASK_EVERY).await;
            state = client.get(&path(&["vault"]), &[]).await?;
        }
        end_progress()?;
    }
    render::print_object(&state, args.form, &["terms", "rewrap"])
}

/// A bar, where somebody looks.
fn show_progress(first: u64, state: &Value) -> Result<(), CliError> {
    let mut screen = std::io::stderr().lock();
    if !screen.is_terminal() {
        return Ok(());
    }
    let left = state["rewrap"]["left"].as_u64().unwrap_or(0).min(first);
    let full = (first - left).saturating_mul(BAR_CELLS).checked_div(first).unwrap_or(BAR_CELLS);
    let bar: String = (0..BAR_CELLS).map(|cell| if cell < full { '#' } else { '.' }).collect();
    write!(screen, "\r[{bar}] {left} left ").and_then(|()| screen.flush()).map_err(CliError::output)
}

fn end_progress() -> Result<(), CliError> {
    let mut screen = std::io::stderr().lock();
    if screen.is_terminal() { writeln!(screen).map_err(CliError::output) } else { Ok(()) }
}
