//! Server-sent events: where one ends, and what it says.
//!
//! Only the framing that both sides agree on is read; comments and odd line ends are bytes of an event like all others.
//! An event is read when it is whole ([`Event`]), or, where it is too long to be held, line by line as it comes
//! ([`Lines`]): both read the same.

use std::{borrow::Cow, ops::Range};

/// Data lines of an event that are read; no provider sends more than a few.
const DATA_LINES_MAX: usize = 65_536;
/// What is read of an event's name, where it is not held.
const NAME_BYTES_MAX: usize = 256;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Cuts a stream into events, however it is chunked. It holds nothing.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// Something of an event was read.
    has_begun: bool,
    line_has_bytes: bool,
    /// The last byte was a carriage return: a line feed next belongs to it.
    after_cr: bool,
}

/// What [`Framer::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step<'c> {
    /// The chunk is used up; the event goes on after these bytes.
    More(&'c [u8]),
    /// The event ends with these bytes.
    End(&'c [u8]),
    /// A line feed that belongs to the end of the event before.
    LateLineFeed,
}

impl Framer {
    /// Reads from the start of `chunk` up to the next end of an event, and moves `chunk` past it.
    pub(super) fn next<'c>(&mut self, chunk: &mut &'c [u8]) -> Step<'c> {
        let all = *chunk;
        let mut at = 0;
        while let Some(&byte) = all.get(at) {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                at += 1;
                if !self.has_begun {
                    *chunk = &all[at..];
                    return Step::LateLineFeed;
                }
                continue;
            }
            self.has_begun = true;
            let Some(length) = memchr::memchr2(b'\n', b'\r', &all[at..]) else {
                self.line_has_bytes = true;
                break;
            };
            let is_blank = length == 0 && !self.line_has_bytes;
            at += length + 1;
            self.after_cr = all[at - 1] == b'\r';
            self.line_has_bytes = false;
            if is_blank {
                self.has_begun = false;
                *chunk = &all[at..];
                return Step::End(&all[..at]);
            }
        }
        *chunk = &[];
        Step::More(all)
    }

    /// Whether what follows belongs to the line end that was read last.
    pub(super) fn is_within_line_end(&self, rest: &[u8]) -> bool {
        self.after_cr && rest.first() == Some(&b'\n')
    }
}

/// What one event says.
#[derive(Debug)]
pub(super) struct Event<'e> {
    raw: &'e [u8],
    /// The last `event:` line; empty where there is none.
    pub(super) name: Cow<'e, str>,
    /// Where the values of its `data:` lines stand in `raw`.
    data: Vec<Range<usize>>,
}

impl<'e> Event<'e> {
    /// Reads a whole event; the first of a stream may begin with a byte order mark.
    pub(super) fn read(raw: &'e [u8], is_first: bool) -> Self {
        let mut event = Event { raw, name: Cow::Borrowed(""), data: Vec::new() };
        let has_mark = is_first && raw.starts_with(BYTE_ORDER_MARK);
        let mut start = if has_mark { BYTE_ORDER_MARK.len() } else { 0 };
        while start < raw.len() {
            let end = memchr::memchr2(b'\n', b'\r', &raw[start..]).map_or(raw.len(), |at| start + at);
            event.read_line(start..end);
            start = end + 1;
        }
        event
    }

    fn read_line(&mut self, line: Range<usize>) {
        let bytes = &self.raw[line.clone()];
        let colon = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        let is_spaced = bytes.get(colon + 1) == Some(&b' ');
        let value = (line.start + colon + 1 + usize::from(is_spaced)).min(line.end)..line.end;
        match &bytes[..colon] {
            b"data" if self.data.len() < DATA_LINES_MAX => self.data.push(value),
            b"event" => self.name = String::from_utf8_lossy(&self.raw[value]),
            _ => {}
        }
    }

    /// The data, its lines joined by line feeds; `None` where there is none.
    pub(super) fn data(&self) -> Option<Cow<'e, [u8]>> {
        match self.data.as_slice() {
            [] => None,
            [line] => Some(Cow::Borrowed(&self.raw[line.clone()])),
            lines => {
                let lines: Vec<&[u8]> = lines.iter().map(|line| &self.raw[line.clone()]).collect();
                Some(Cow::Owned(lines.join(&b'\n')))
            }
        }
    }

    /// The pieces of `raw` that are left when `cut`, a range of the data, is taken out of it.
    pub(super) fn without(&self, cut: &Range<usize>) -> Vec<&'e [u8]> {
        let (mut pieces, mut kept, mut line_start) = (Vec::new(), 0, 0);
        for line in &self.data {
            let line_end = line_start + line.len();
            let (from, to) = (cut.start.max(line_start), cut.end.min(line_end));
            if from < to {
                pieces.push(&self.raw[kept..line.start + from - line_start]);
                kept = line.start + to - line_start;
            }
            line_start = line_end + 1;
        }
        pieces.push(&self.raw[kept..]);
        pieces
    }
}

/// Reads an event line by line as it comes, and holds nothing of it but its name.
#[derive(Debug)]
pub(super) struct Lines {
    place: InLine,
    /// The field's name, as far as it could be one that is known.
    field: Vec<u8>,
    name: Vec<u8>,
    count: usize,
    may_be_marked: bool,
}

#[derive(Clone, Copy, Debug)]
enum InLine {
    Field,
    /// After the colon, where one space may stand.
    Space(Field),
    Value(Field),
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Data,
    Name,
    Other,
}

impl Lines {
    /// The lines of one event; the first of a stream may begin with a byte order mark.
    pub(super) fn new(is_first: bool) -> Self {
        let (field, name) = (Vec::new(), Vec::new());
        Self { place: InLine::Field, field, name, count: 0, may_be_marked: is_first }
    }

    /// Reads the next bytes, and gives out the data that is in them.
    pub(super) fn read(&mut self, raw: &[u8], mut data: impl FnMut(&[u8])) {
        let mut rest = raw;
        while let Some(&byte) = rest.first() {
            let is_end = matches!(byte, b'\n' | b'\r');
            let taken = match self.place {
                InLine::Field if is_end => {
                    self.begin_value(&mut data);
                    1
                }
                InLine::Field if byte == b':' => {
                    self.place = InLine::Space(self.begin_value(&mut data));
                    1
                }
                InLine::Field => {
                    if self.field.len() <= BYTE_ORDER_MARK.len() + b"event".len() {
                        self.field.push(byte);
                    }
                    1
                }
                InLine::Space(field) => {
                    self.place = InLine::Value(field);
                    usize::from(byte == b' ')
                }
                InLine::Value(_) if is_end => {
                    self.place = InLine::Field;
                    1
                }
                InLine::Value(field) => {
                    let length = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
                    self.read_value(field, &rest[..length], &mut data);
                    length
                }
            };
            rest = &rest[taken..];
        }
    }

    /// The event has ended: what it is called. A last line that has no end is a line.
    pub(super) fn end(mut self, mut data: impl FnMut(&[u8])) -> String {
        if matches!(self.place, InLine::Field) {
            self.begin_value(&mut data);
        }
        String::from_utf8_lossy(&self.name).into_owned()
    }

    fn begin_value(&mut self, data: &mut impl FnMut(&[u8])) -> Field {
        let field = std::mem::take(&mut self.field);
        let is_marked = std::mem::take(&mut self.may_be_marked) && field.starts_with(BYTE_ORDER_MARK);
        match &field[if is_marked { BYTE_ORDER_MARK.len() } else { 0 }..] {
            b"data" if self.count < DATA_LINES_MAX => {
                if self.count > 0 {
                    data(b"\n");
                }
                self.count += 1;
                Field::Data
            }
            b"event" => {
                self.name.clear();
                Field::Name
            }
            _ => Field::Other,
        }
    }

    fn read_value(&mut self, field: Field, value: &[u8], data: &mut impl FnMut(&[u8])) {
        match field {
            Field::Data => data(value),
            Field::Name => {
                let room = NAME_BYTES_MAX - self.name.len();
                self.name.extend_from_slice(&value[..value.len().min(room)]);
            }
            Field::Other => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What one event has: its bytes, its name, its data.
    type Read = (Vec<u8>, String, Option<Vec<u8>>);

    fn events(stream: &[u8], sizes: &[usize]) -> Vec<Read> {
        let (mut framer, mut events, mut rest, mut turn) = (Framer::default(), Vec::new(), stream, 0);
        let (mut raw, mut is_first) = (Vec::new(), true);
        let (mut lines, mut data) = (Lines::new(true), Vec::new());
        while !rest.is_empty() {
            let size =
                sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
            turn += 1;
            let (mut chunk, after) = rest.split_at(size);
            rest = after;
            while !chunk.is_empty() {
                let (bytes, is_end) = match framer.next(&mut chunk) {
                    Step::LateLineFeed => continue,
                    Step::More(bytes) => (bytes, false),
                    Step::End(bytes) => (bytes, true),
                };
                raw.extend_from_slice(bytes);
                lines.read(bytes, |piece| data.extend_from_slice(piece));
                if is_end {
                    let event = Event::read(&raw, is_first);
                    let whole = (raw.clone(), event.name.to_string(), event.data().map(Cow::into_owned));
                    let by_line = std::mem::replace(&mut lines, Lines::new(false)).end(|_| {});
                    let read = (&by_line, std::mem::take(&mut data));
                    assert_eq!(read, (&whole.1, whole.2.clone().unwrap_or_default()), "as it came");
                    events.push(whole);
                    (raw, is_first) = (Vec::new(), false);
                }
            }
        }
        events
    }

    #[test]
    fn every_line_end_and_form_of_line_is_read() {
        let said = |stream: &str| {
            let events = events(stream.as_bytes(), &[]);
            events
                .into_iter()
                .map(|(_, name, data)| (name, data.map(|data| String::from_utf8(data).unwrap())))
                .collect::<Vec<_>>()
        };
        let one = |name: &str, data: &str| vec![(name.to_owned(), Some(data.to_owned()))];
        assert_eq!(said("data: a\n\n"), one("", "a"));
        assert_eq!(said("data:a\r\n\r\n"), one("", "a"));
        assert_eq!(said("data:  a\r\r"), one("", " a"));
        assert_eq!(said(": c\nevent: x\ndata: a\ndata:b\ndata\nid: 1\n\n"), one("x", "a\nb\n"));
        assert_eq!(said("\u{feff}data: a\n\n"), one("", "a"));
        assert_eq!(said(": keep-alive\n\n"), [(String::new(), None)]);
        assert_eq!(said("datax: a\nDATA: b\n data: c\n\n"), [(String::new(), None)]);
        assert_eq!(said("data: unfinished\n"), []);
        assert_eq!(said("data: a\n\u{feff}data: b\n\n"), one("", "a"));
    }

    #[test]
    fn cuts_reach_over_lines() {
        let raw = b"data: {\"a\":1,\ndata:\"b\":2}\n\n";
        let event = Event::read(raw, false);
        assert_eq!(event.data().unwrap().as_ref(), b"{\"a\":1,\n\"b\":2}");
        assert_eq!(event.without(&(6..13)).concat(), b"data: {\"a\":1\ndata:}\n\n");
        assert_eq!(event.without(&(0..0)).concat(), raw);
    }

    #[test]
    fn a_last_line_without_end_is_a_line() {
        for raw in ["data", "data:", "event: x\ndata: {}", "data: a\ndata", "event", "da", "data: a\n"] {
            let mut data = Vec::new();
            let mut lines = Lines::new(false);
            lines.read(raw.as_bytes(), |piece| data.extend_from_slice(piece));
            let name = lines.end(|piece| data.extend_from_slice(piece));
            let event = Event::read(raw.as_bytes(), false);
            assert_eq!(
                (name.as_str(), data),
                (&*event.name, event.data().unwrap_or_default().into_owned()),
                "{raw}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_events(
            lines in prop::collection::vec(prop::sample::select(vec![
                "data: a", "data:b", "", "", ": c", "event: x", "d", "data", "\u{feff}", "data: ä",
            ]), 0..12),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 12),
            sizes in prop::collection::vec(1..7_usize, 1..20),
        ) {
            let stream: String = lines.iter().zip(&ends).flat_map(|(line, end)| [*line, *end]).collect();
            prop_assert_eq!(events(stream.as_bytes(), &sizes), events(stream.as_bytes(), &[]));
        }
    }
}
