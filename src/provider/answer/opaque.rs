//! An answer that is nothing to be read: sound, a file. Its bytes pass as they come, and say nothing of its tokens.

use crate::provider::Reading;

/// Notes whether one answer came to its end.
#[derive(Debug, Default)]
pub struct OpaqueMeter {
    reading: Reading,
}

impl OpaqueMeter {
    /// The answer has ended as it was announced.
    pub(super) fn flush(&mut self) {
        self.reading.complete = true;
    }

    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }
}
