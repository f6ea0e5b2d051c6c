//! An answer that is nothing to be read: sound, a file. Its bytes pass as they come.

use super::wide;
use crate::provider::Reading;
use bytes::BytesMut;

/// Counts the bytes of one answer.
#[derive(Debug, Default)]
pub struct OpaqueMeter {
    reading: Reading,
}

impl OpaqueMeter {
    /// Passes the next bytes.
    pub(super) fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        out.extend_from_slice(chunk);
        let passed = &mut self.reading.visible_output_bytes;
        *passed = passed.saturating_add(wide(chunk.len()));
    }

    /// The answer has ended as it was announced.
    pub(super) fn flush(&mut self) {
        self.reading.complete = true;
    }

    pub(super) fn reading(&self) -> &Reading {
        &self.reading
    }
}
