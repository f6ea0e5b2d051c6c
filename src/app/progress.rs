//! A line on a terminal that says how far a long piece of work is.

use std::io::{self, IsTerminal, Write};

/// Rows between two changes of the line.
const ROWS_BETWEEN: u64 = 1_000;

/// Tells on stderr how many rows went by; says nothing where stderr is not a terminal.
pub(super) struct ProgressLine {
    doing: &'static str,
    shown: bool,
    is_terminal: bool,
}

impl ProgressLine {
    pub(super) fn new(doing: &'static str) -> Self {
        Self { doing, shown: false, is_terminal: io::stderr().is_terminal() }
    }

    /// `rows` of all tables went by; the last was of `table`.
    pub(super) fn tell(&mut self, table: &str, rows: u64) {
        if self.is_terminal && rows.is_multiple_of(ROWS_BETWEEN) {
            // A terminal that is gone is no reason to stop.
            _ = write!(io::stderr(), "\r\x1b[K{} {table}, {rows} rows", self.doing);
            self.shown = true;
        }
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.shown {
            _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
