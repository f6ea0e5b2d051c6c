//! Server-sent events: where one ends, and what it says.
//!
//! Only the framing that both sides agree on is read; every byte of an event, comments and odd line ends
//! too, stays in [`Event::raw`].

use std::{borrow::Cow, ops::Range};

/// Data lines of an event that are read; no provider sends more than a few.
const DATA_LINES_MAX: usize = 65_536;

/// Cuts a stream into events, however it is chunked.
#[derive(Debug, Default)]
pub(super) struct Framer {
    /// The event begun, with its line ends.
    raw: Vec<u8>,
    line_has_bytes: bool,
    /// The last byte was a carriage return: a line feed next belongs to it.
    after_cr: bool,
    /// The byte that follows would begin an event (or be the line feed of the last one's end).
    is_first: bool,
    bytes_max: usize,
}

/// What [`Framer::next`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The chunk is used up; the event goes on.
    More,
    /// The event in [`Framer::raw`] is whole.
    End,
    /// A line feed that belongs to the end of the event before.
    LateLineFeed,
}

/// An event is longer than may be held.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Framer {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { is_first: true, bytes_max, ..Self::default() }
    }

    /// Reads from the start of `chunk` up to the next end of an event, and moves `chunk` past it.
    pub(super) fn next(&mut self, chunk: &mut &[u8]) -> Result<Step, TooLong> {
        while let Some(&byte) = chunk.first() {
            if std::mem::take(&mut self.after_cr) && byte == b'\n' {
                *chunk = &chunk[1..];
                if self.raw.is_empty() {
                    return Ok(Step::LateLineFeed);
                }
                self.hold(b"\n")?;
                continue;
            }
            let Some(at) = memchr::memchr2(b'\n', b'\r', chunk) else {
                self.line_has_bytes = true;
                self.hold(chunk)?;
                *chunk = &[];
                break;
            };
            let is_blank = at == 0 && !self.line_has_bytes;
            self.after_cr = chunk[at] == b'\r';
            self.line_has_bytes = false;
            self.hold(&chunk[..=at])?;
            *chunk = &chunk[at + 1..];
            if is_blank {
                return Ok(Step::End);
            }
        }
        Ok(Step::More)
    }

    /// The event begun or ended, as it came.
    pub(super) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Begins the next event. A large one's memory is given back.
    pub(super) fn clear(&mut self) {
        self.raw.clear();
        self.raw.shrink_to(64 * 1024);
        self.is_first = false;
    }

    /// The event in [`Framer::raw`].
    pub(super) fn event(&self) -> Event<'_> {
        Event::read(&self.raw, self.is_first)
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.raw.len() + bytes.len() > self.bytes_max {
            return Err(TooLong);
        }
        self.raw.extend_from_slice(bytes);
        Ok(())
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
    fn read(raw: &'e [u8], is_first: bool) -> Self {
        let mut event = Event { raw, name: Cow::Borrowed(""), data: Vec::new() };
        // A stream may begin with a byte order mark.
        let mut start = if is_first && raw.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(stream: &[u8], sizes: &[usize]) -> Vec<(Vec<u8>, String, Option<Vec<u8>>)> {
        let (mut framer, mut events, mut rest, mut turn) = (Framer::new(1000), Vec::new(), stream, 0);
        while !rest.is_empty() {
            let size =
                sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
            turn += 1;
            let (mut chunk, after) = rest.split_at(size);
            rest = after;
            while !chunk.is_empty() {
                if framer.next(&mut chunk).unwrap() == Step::End {
                    let event = framer.event();
                    events.push((
                        framer.raw().to_vec(),
                        event.name.to_string(),
                        event.data().map(Cow::into_owned),
                    ));
                    framer.clear();
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
    fn an_event_without_end_is_refused_at_the_limit() {
        let mut framer = Framer::new(10);
        assert_eq!(framer.next(&mut &b"data: 1234"[..]), Ok(Step::More));
        assert_eq!(framer.next(&mut &b"5"[..]), Err(TooLong));
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
