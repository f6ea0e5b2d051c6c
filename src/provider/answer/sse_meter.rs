//! Metering a stream while it passes.
//!
//! Every byte passes, at once and unchanged, with two exceptions. Where Bitting asked for the usage and the
//! client did not, the usage is taken out again, and events are held until they are whole for that. And an event by
//! which a text becomes one that must not pass is not passed, nor any after it; while a text could become one, an
//! event's bytes wait for its end. An event that has ended never waits.

use super::{
    LIMITS, anthropic, gemini,
    openai::{self, Strip},
    responses,
    sse::{Framer, Step, TooLong},
    strand::{TextWatch, hear_texts},
    wide,
};
use crate::{
    base::json::Document,
    policy::Operation,
    provider::{Dialect, Reading, operation::Row},
};
use bytes::BytesMut;

/// The longest event that is read.
pub(super) const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a stream cannot be metered any more, and must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// An event does not end.
    #[error("the provider sent an event of more than {max} bytes")]
    EventTooLong {
        /// The longest event that is read.
        max: usize,
    },
    /// By the event that follows, a text would become one that must not pass.
    #[error("the provider's stream spells out what must not pass")]
    Withheld,
}

/// Reads the usage of one stream.
pub struct SseMeter {
    framer: Framer,
    teller: Teller,
    strip_usage: bool,
    /// How much of the event in the framer was passed.
    passed: usize,
    /// The event that ended last was passed, so a late line feed of its end passes too.
    passed_last: bool,
}

impl SseMeter {
    /// A meter for one answer. With `strip_usage` the client sees the stream as if the usage had not been
    /// asked for; where usage is reported without being asked for it changes nothing.
    pub fn new(row: &Row, strip_usage: bool) -> Self {
        let reports_on_demand = row.dialect == Dialect::OpenAi
            && matches!(row.operation, Operation::Chat | Operation::Completions);
        Self {
            framer: Framer::new(EVENT_BYTES_MAX),
            teller: Teller::new(row, None),
            strip_usage: strip_usage && reports_on_demand,
            passed: 0,
            passed_last: true,
        }
    }

    /// The same meter, with every text of the stream heard by a watch.
    #[must_use]
    pub fn watched_by(mut self, watch: Box<dyn TextWatch>) -> Self {
        self.teller.watch = Some(watch);
        self
    }

    /// Whether [`SseMeter::push`] gives out other bytes than it takes in.
    pub fn strips(&self) -> bool {
        self.strip_usage
    }

    /// Reads the next bytes of the stream, and appends to `out` what the client shall see. After an error
    /// nothing more can be read; what `out` holds may be sent.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let step = self.framer.next(&mut rest);
            match step.map_err(|TooLong| MeterError::EventTooLong { max: EVENT_BYTES_MAX })? {
                Step::End => self.end_event(out)?,
                Step::LateLineFeed if self.passed_last => out.extend_from_slice(b"\n"),
                Step::LateLineFeed => {}
                Step::More if self.must_wait() => {}
                Step::More => self.pass_rest(out),
            }
        }
        Ok(())
    }

    /// Whether the bytes of an event are passed only once it has ended.
    fn must_wait(&self) -> bool {
        let unpassed = &self.framer.raw()[self.passed..];
        self.strip_usage || self.teller.must_wait(unpassed)
    }

    /// Passes what is held of the event in the framer, as it came.
    fn pass_rest(&mut self, out: &mut BytesMut) {
        let raw = self.framer.raw();
        out.extend_from_slice(&raw[self.passed..]);
        self.passed = raw.len();
    }

    /// Whether the events are those of the responses API.
    pub(super) fn is_of_responses(&self) -> bool {
        self.teller.is_responses
    }

    /// What the stream has told so far.
    pub fn reading(&self) -> &Reading {
        &self.teller.reading
    }

    /// Bytes of output that the client could see so far.
    pub fn visible_output_bytes(&self) -> u64 {
        self.teller.reading.visible_output_bytes
    }

    /// The provider has ended its stream: an event that it left without its blank line is read, and what
    /// is held of it goes to `out`. Not for a stream that broke off: half an event is worth nothing.
    pub fn flush(&mut self, out: &mut BytesMut) -> Result<(), MeterError> {
        if self.framer.raw().is_empty() { Ok(()) } else { self.end_event(out) }
    }

    /// What the stream told, the event that did not end included.
    pub fn finish(mut self) -> Reading {
        // What it holds back is not passed; what it tells counts.
        let _ = self.flush(&mut BytesMut::new());
        self.teller.reading
    }

    fn end_event(&mut self, out: &mut BytesMut) -> Result<(), MeterError> {
        let event = self.framer.event();
        let strip = match event.data() {
            Some(data) => self.teller.hear(&event.name, &data, self.strip_usage)?,
            None => Strip::Nothing,
        };
        self.passed_last = strip != Strip::Event;
        match strip {
            Strip::Event => {}
            Strip::Bytes(cut) => out.extend_from_slice(&event.without(&cut).concat()),
            Strip::Nothing => self.pass_rest(out),
        }
        self.framer.clear();
        self.passed = 0;
        Ok(())
    }
}

/// Understands events.
pub(super) struct Teller {
    dialect: Dialect,
    is_responses: bool,
    pub(super) reading: Reading,
    tally: anthropic::Tally,
    candidates: gemini::Tally,
    watch: Option<Box<dyn TextWatch>>,
}

impl Teller {
    pub(super) fn new(row: &Row, watch: Option<Box<dyn TextWatch>>) -> Self {
        let (tally, candidates) = (anthropic::Tally::default(), gemini::Tally::default());
        let (dialect, is_responses) = (row.dialect, row.operation == Operation::Responses);
        Self { dialect, is_responses, reading: Reading::default(), tally, candidates, watch }
    }

    /// Whether bytes of an event are passed only once it has ended, for what could stand in them.
    pub(super) fn must_wait(&self, unpassed: &[u8]) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_alert() || watch.could_hide_in(unpassed))
    }

    /// Notes what an event tells, and says what of it the client shall not see.
    pub(super) fn hear(&mut self, name: &str, data: &[u8], strip_usage: bool) -> Result<Strip, MeterError> {
        if self.dialect == Dialect::OpenAi && data.trim_ascii() == b"[DONE]" {
            self.reading.complete = true;
            return Ok(Strip::Nothing);
        }
        if data.trim_ascii().is_empty() {
            return Ok(Strip::Nothing);
        }
        let Ok(document) = Document::parse(data, LIMITS) else {
            let bytes = &mut self.reading.visible_output_bytes;
            *bytes = bytes.saturating_add(wide(data.len()));
            if self.watch.as_mut().is_some_and(|watch| !watch.hear_unread(data)) {
                return Err(MeterError::Withheld);
            }
            return Ok(Strip::Nothing);
        };
        let root = document.root();
        match self.dialect {
            Dialect::OpenAi if self.is_responses => responses::read_event(name, root, &mut self.reading),
            Dialect::OpenAi => {
                openai::read_chunk(root, &mut self.reading);
                self.reading.failed |= name == "error";
            }
            Dialect::Anthropic => anthropic::read_event(name, root, &mut self.tally, &mut self.reading),
            Dialect::Gemini => gemini::read_chunk(root, &mut self.candidates, &mut self.reading),
        }
        if self.watch.as_mut().is_some_and(|watch| !hear_texts(root, watch.as_mut())) {
            return Err(MeterError::Withheld);
        }
        Ok(if strip_usage { openai::strip_usage(root) } else { Strip::Nothing })
    }
}

#[cfg(test)]
mod tests;
