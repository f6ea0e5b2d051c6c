//! A line from the terminal that is not shown while it is typed.

use crate::base::Secret;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{self, BufRead as _, Write as _};

/// Asks on standard error and reads a line from standard input, which is a terminal.
pub(super) fn ask(prompt: &str) -> io::Result<Secret<String>> {
    let stdin = io::stdin();
    let shown = tcgetattr(&stdin)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ECHONL);
    let _restored = Restored(shown);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden)?;
    let mut err = io::stderr();
    err.write_all(prompt.as_bytes()).and_then(|()| err.flush())?;
    // Room for all of it at once: a string that grows leaves copies behind.
    let mut line = String::with_capacity(4096);
    let read = stdin.lock().read_line(&mut line);
    let line = Secret::new(line);
    read.map(|_| line)
}

/// Puts the terminal back as it was.
struct Restored(Termios);

impl Drop for Restored {
    fn drop(&mut self) {
        // There is nothing to do for a terminal that went away.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}
