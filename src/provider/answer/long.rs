//! An event that is too long to be held: read while it passes.
//!
//! What it says is kept short ([`Shortener`]); its bytes pass at once, but for a few at their end by which something
//! that must not pass could have begun. How much memory one has does not go by its length.

use super::shorten::Shortener;
use super::sse_meter::{MeterError, Teller};
use bytes::BytesMut;

/// The longest event that is held whole: most are a thousand times shorter.
pub(super) const WHOLE_BYTES_MAX: usize = 256 * 1024;
/// The same, where an event has to be held for something in it to be taken out. A longer one passes as it is.
pub(super) const STRIPPED_BYTES_MAX: usize = 1024 * 1024;

/// One such event.
pub(super) struct Long {
    text: Shortener,
    /// What waits of it.
    held: Vec<u8>,
    /// How many bytes at the end of what came have to wait.
    wait: usize,
}

impl Long {
    /// Begins one.
    pub(super) fn begin(teller: &mut Teller) -> Self {
        teller.begin_long();
        Self { text: Shortener::default(), held: Vec::new(), wait: 0 }
    }

    /// Reads the next piece of its data.
    pub(super) fn read(&mut self, data: &[u8], teller: &mut Teller) -> Result<(), MeterError> {
        self.text.push(data);
        self.wait = teller.hear_on(data)?;
        Ok(())
    }

    /// Passes the next of its bytes, of which the data was read.
    pub(super) fn pass(&mut self, raw: &[u8], out: &mut BytesMut) {
        let bytes = self.held.len() + raw.len();
        let goes = bytes - self.wait.min(bytes);
        let of_held = goes.min(self.held.len());
        out.extend_from_slice(&self.held[..of_held]);
        self.held.drain(..of_held);
        out.extend_from_slice(&raw[..goes - of_held]);
        self.held.extend_from_slice(&raw[goes - of_held..]);
    }

    /// It has ended: its bytes pass if what it says may.
    pub(super) fn end(self, name: &str, teller: &mut Teller, out: &mut BytesMut) -> Result<(), MeterError> {
        if self.text.bytes() > 0 {
            teller.hear_long(name, &self.text)?;
        }
        out.extend_from_slice(&self.held);
        Ok(())
    }
}
