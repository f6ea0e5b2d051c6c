//! `bitting vault rotate` and `rewrap`: a new term of the keyring, and everything moved to it.

use super::CliError;
use super::client::{Client, path};
use super::render::{self, Form};
use clap::Args;
use serde_json::Value;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

const ASK_EVERY: Duration = Duration::from_millis(500);
/// Where nobody looks, a line each so many turns is enough.
const TURNS_BETWEEN_LINES: u32 = 10;
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
        let mut progress = Progress::of(&state);
        // What came into the old term at the last moment is moved by a second turn.
        for is_last in [false, true] {
            state = wait(state, &mut progress, client).await?;
            if left(&state) == 0 {
                break;
            }
            if is_last {
                progress.end()?;
                return Err(CliError::NotMoved { left: left(&state), is_sealed: state["sealed"] == true });
            }
            state = client.post(&path(&["vault", "rewrap"]), None).await?;
        }
        progress.end()?;
    }
    render::print_object(&state, args.form, &["terms", "rewrap"])
}

/// Asks until the server is not at it any more.
async fn wait(mut state: Value, progress: &mut Progress, client: &Client) -> Result<Value, CliError> {
    while state["rewrap"]["running"] == true {
        progress.tell(left(&state))?;
        tokio::time::sleep(ASK_EVERY).await;
        state = client.get(&path(&["vault"]), &[]).await?;
    }
    progress.tell(left(&state))?;
    Ok(state)
}

fn left(state: &Value) -> u64 {
    state["rewrap"]["left"].as_u64().unwrap_or(0)
}

/// Tells on stderr how many were moved of how many: a bar on a terminal, lines elsewhere.
struct Progress {
    total: u64,
    told: Option<u64>,
    turns: u32,
    is_terminal: bool,
}

impl Progress {
    fn of(state: &Value) -> Self {
        Self { total: left(state), told: None, turns: 0, is_terminal: std::io::stderr().is_terminal() }
    }

    fn tell(&mut self, left: u64) -> Result<(), CliError> {
        // What is made meanwhile is of the new term; should there be more, then that is the whole.
        self.total = self.total.max(left);
        let done = self.total - left;
        self.turns += 1;
        let mut screen = std::io::stderr().lock();
        if self.is_terminal {
            self.told = Some(done);
            let line = format!("\r{} {done}/{} moved ", bar(done, self.total), self.total);
            return screen.write_all(line.as_bytes()).and_then(|()| screen.flush()).map_err(CliError::output);
        }
        let is_due = self.told.is_none() || left == 0 || self.turns.is_multiple_of(TURNS_BETWEEN_LINES);
        if !is_due || self.told == Some(done) {
            return Ok(());
        }
        self.told = Some(done);
        writeln!(screen, "{done}/{} moved", self.total).map_err(CliError::output)
    }

    fn end(&self) -> Result<(), CliError> {
        if self.is_terminal && self.told.is_some() {
            return writeln!(std::io::stderr()).map_err(CliError::output);
        }
        Ok(())
    }
}

fn bar(done: u64, total: u64) -> String {
    let full = done.saturating_mul(BAR_CELLS).checked_div(total).unwrap_or(BAR_CELLS);
    let cells = (0..BAR_CELLS).map(|cell| if cell < full { '#' } else { '.' });
    format!("[{}]", cells.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_empty_first_and_full_at_the_end() {
        assert_eq!(bar(0, 3), format!("[{}]", ".".repeat(30)));
        assert_eq!(bar(1, 3), format!("[{}{}]", "#".repeat(10), ".".repeat(20)));
        for (done, total) in [(3, 3), (0, 0)] {
            assert_eq!(bar(done, total), format!("[{}]", "#".repeat(30)));
        }
    }
}
