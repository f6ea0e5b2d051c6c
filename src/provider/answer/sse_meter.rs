//! Metering a stream while it passes.
//!
//! Every byte passes, at once and unchanged, with two exceptions. Where Bitting asked for the usage and the
//! client did not, the usage is taken out again, and events are held until they are whole for that. And an event by
//! which a text becomes one that must not pass is not passed, nor any after it; while a text could become one, an
//! event's bytes wait for its end. An event that has ended never waits. One that is too long to be held ([`Long`]) is
//! read as it passes: nothing is taken out of it, and of it only what could be the beginning of what must not pass waits.

use super::{
    LIMITS, anthropic, gemini,
    long::{Long, STRIPPED_BYTES_MAX, WHOLE_BYTES_MAX},
    media,
    openai::{self, Strip},
    responses,
    shorten::Shortener,
    sse::{Event, Framer, Lines, Step},
    strand::{TextWatch, hear_texts},
    wide,
};
use crate::{
    base::json::{Document, Value},
    policy::Operation,
    provider::{Dialect, Reading, operation::Row},
};
use bytes::BytesMut;

/// The longest event that is read.
pub(super) const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What is kept of the memory in which events are held, for the next one.
pub(super) const HELD_BYTES_MIN: usize = 64 * 1024;

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
#[expect(clippy::struct_excessive_bools, reason = "where a stream stands, each by itself")]
pub struct SseMeter {
    framer: Framer,
    teller: Teller,
    strip_usage: bool,
    /// The event under way, as it came, where it is not long.
    raw: Vec<u8>,
    long: Option<(Lines, Long)>,
    /// From which length on it is.
    whole_bytes_max: usize,
    /// How many bytes the event under way has, and how many of them were dealt with: passed, or read as they passed.
    bytes: usize,
    passed: usize,
    is_first: bool,
    /// The event that ended last was passed, so a late line feed of its end passes too.
    passed_last: bool,
    /// What the client has of the stream ends with the end of an event.
    is_between: bool,
}

impl SseMeter {
    /// A meter for one answer. With `strip_usage` the client sees the stream as if the usage had not been
    /// asked for; where usage is reported without being asked for it changes nothing.
    pub fn new(row: &Row, strip_usage: bool) -> Self {
        let reports_on_demand = row.dialect == Dialect::OpenAi
            && matches!(row.operation, Operation::Chat | Operation::Completions);
        let strip_usage = strip_usage && reports_on_demand;
        Self {
            framer: Framer::default(),
            teller: Teller::new(row, None),
            strip_usage,
            raw: Vec::new(),
            long: None,
            whole_bytes_max: if strip_usage { STRIPPED_BYTES_MAX } else { WHOLE_BYTES_MAX },
            bytes: 0,
            passed: 0,
            is_first: true,
            passed_last: true,
            is_between: true,
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
            self.push_event(&mut rest, out)?;
        }
        Ok(())
    }

    /// The same up to the next end of an event, and moves `chunk` past it.
    pub(super) fn push_event(&mut self, chunk: &mut &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        match self.framer.next(chunk) {
            Step::More(bytes) => {
                self.take(bytes, out)?;
                if self.long.is_none() && !self.must_wait() {
                    self.pass_rest(out);
                }
            }
            Step::End(bytes) => {
                self.take(bytes, out)?;
                self.end_event(out)?;
                self.is_between = true;
                if self.framer.is_within_line_end(chunk) {
                    return self.push_event(chunk, out);
                }
            }
            Step::LateLineFeed if self.passed_last => out.extend_from_slice(b"\n"),
            Step::LateLineFeed => {}
        }
        Ok(())
    }

    /// Takes in the next bytes of the event under way.
    fn take(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > EVENT_BYTES_MAX {
            return Err(MeterError::EventTooLong { max: EVENT_BYTES_MAX });
        }
        if self.long.is_none() && self.bytes <= self.whole_bytes_max {
            self.raw.extend_from_slice(bytes);
            return Ok(());
        }
        if self.long.is_none() {
            self.long = Some((Lines::new(self.is_first), Long::begin(&mut self.teller)));
            let (raw, passed) = (std::mem::take(&mut self.raw), self.passed);
            self.read_on(&raw, passed, out)?;
        }
        self.read_on(bytes, 0, out)
    }

    /// Reads the next bytes of a long event, of which the first have passed already, and passes the others.
    fn read_on(&mut self, raw: &[u8], passed: usize, out: &mut BytesMut) -> Result<(), MeterError> {
        let Some((lines, long)) = &mut self.long else { return Ok(()) };
        let (teller, mut read) = (&mut self.teller, Ok(()));
        lines.read(raw, |data| {
            if read.is_ok() {
                read = long.read(data, teller);
            }
        });
        read?;
        long.pass(&raw[passed..], out);
        self.is_between = false;
        Ok(())
    }

    /// Whether the bytes of an event are passed only once it has ended.
    fn must_wait(&self) -> bool {
        self.strip_usage || self.teller.must_wait(&self.raw[self.passed..])
    }

    /// Passes what is held of the event under way, as it came.
    fn pass_rest(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.raw[self.passed..]);
        self.passed = self.raw.len();
        self.is_between = false;
    }

    /// Whether the events are those of the responses API.
    pub(super) fn is_of_responses(&self) -> bool {
        self.teller.is_responses
    }

    /// Whether what was given out ends with the end of an event: only there can another event follow.
    pub(super) fn is_between(&self) -> bool {
        self.is_between
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
        if self.bytes > 0 {
            return self.end_event(out);
        }
        self.teller.end();
        Ok(())
    }

    /// What the stream told, the event that did not end included.
    pub fn finish(mut self) -> Reading {
        // What it holds back is not passed; what it tells counts.
        if self.bytes > 0 {
            let _ = self.end_event(&mut BytesMut::new());
        }
        self.teller.reading
    }

    fn end_event(&mut self, out: &mut BytesMut) -> Result<(), MeterError> {
        (self.bytes, self.passed_last) = (0, true);
        let is_first = std::mem::take(&mut self.is_first);
        if let Some((lines, mut long)) = self.long.take() {
            self.passed = 0;
            let mut read = Ok(());
            let name = lines.end(|data| read = long.read(data, &mut self.teller));
            read?;
            self.is_between = false;
            return long.end(&name, &mut self.teller, out);
        }
        let event = Event::read(&self.raw, is_first);
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
        self.raw.clear();
        self.raw.shrink_to(HELD_BYTES_MIN);
        self.passed = 0;
        Ok(())
    }
}

/// Understands events.
pub(super) struct Teller {
    dialect: Dialect,
    operation: Operation,
    is_responses: bool,
    /// It tells a response that is kept.
    shows_response: bool,
    pub(super) reading: Reading,
    tally: anthropic::Tally,
    choices: openai::Tally,
    candidates: gemini::Tally,
    watch: Option<Box<dyn TextWatch>>,
}

impl Teller {
    pub(super) fn new(row: &Row, watch: Option<Box<dyn TextWatch>>) -> Self {
        let (tally, choices) = (anthropic::Tally::default(), openai::Tally::default());
        let candidates = gemini::Tally::default();
        let (dialect, operation) = (row.dialect, row.operation);
        let is_responses = operation == Operation::Responses;
        let (shows_response, reading) = (row.shows_response(), Reading::default());
        Self { dialect, operation, is_responses, shows_response, reading, tally, choices, candidates, watch }
    }

    /// The provider has ended its stream, properly by what carries it.
    fn end(&mut self) {
        self.choices.end(&mut self.reading);
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
            return self.hear_unread(data, data.len()).map(|()| Strip::Nothing);
        };
        self.read(name, document.root())?;
        Ok(if strip_usage { openai::strip_usage(document.root()) } else { Strip::Nothing })
    }

    /// A long event begins.
    pub(super) fn begin_long(&mut self) {
        self.watch.iter_mut().for_each(|watch| watch.begin_long());
    }

    /// The next piece of its data is about to pass: how many bytes at its end have to wait.
    pub(super) fn hear_on(&mut self, data: &[u8]) -> Result<usize, MeterError> {
        let Some(watch) = &mut self.watch else { return Ok(0) };
        watch.hear_on(data).ok_or(MeterError::Withheld)
    }

    /// Notes what a long event tells.
    pub(super) fn hear_long(&mut self, name: &str, text: &Shortener) -> Result<(), MeterError> {
        let Some(document) = text.document() else {
            let is_whole = text.bytes() == text.kept().len();
            // Little of it is data: it is heard like that of a short event.
            return if is_whole {
                self.hear(name, text.kept(), false).map(drop)
            } else {
                self.hear_unread(text.kept(), text.bytes())
            };
        };
        self.read(name, document.root())?;
        if text.is_cut() {
            // What was not looked at may be output, and calls of tools.
            self.reading.is_cut_short = true;
            self.reading.hosted_calls = None;
            // It tells each kind of token in an array: where only the beginning of one is left, or all of the usage was told
            // before, the tokens of this event are not known.
            let is_whole = |usage: Value<'_>| usage.raw_len() == usage.raw().len();
            if self.dialect == Dialect::Gemini && !document.root().get("usageMetadata").is_some_and(is_whole)
            {
                self.reading.usage = None;
            }
        }
        Ok(())
    }

    fn read(&mut self, name: &str, root: Value<'_>) -> Result<(), MeterError> {
        match self.dialect {
            Dialect::OpenAi if self.is_responses => {
                responses::read_event(name, root, self.shows_response, &mut self.reading);
            }
            Dialect::OpenAi if media::is_of(self.operation) => {
                media::read_event(name, root, &mut self.reading);
            }
            Dialect::OpenAi => {
                openai::read_chunk(root, &mut self.choices, &mut self.reading);
                self.reading.failed |= name == "error";
            }
            Dialect::Anthropic => anthropic::read_event(name, root, &mut self.tally, &mut self.reading),
            Dialect::Gemini => gemini::read_chunk(root, &mut self.candidates, &mut self.reading),
        }
        let may_pass = self.watch.as_mut().is_none_or(|watch| hear_texts(root, watch.as_mut()));
        if may_pass { Ok(()) } else { Err(MeterError::Withheld) }
    }

    /// Data that is no JSON by our rules, of so many bytes, counts as output.
    fn hear_unread(&mut self, data: &[u8], bytes: usize) -> Result<(), MeterError> {
        let seen = &mut self.reading.visible_output_bytes;
        *seen = seen.saturating_add(wide(bytes));
        let may_pass = self.watch.as_mut().is_none_or(|watch| watch.hear_unread(data));
        if may_pass { Ok(()) } else { Err(MeterError::Withheld) }
    }
}

#[cfg(test)]
mod tests;
