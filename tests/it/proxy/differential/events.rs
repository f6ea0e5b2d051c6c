//! Events as a stream may write them: any line ends, comments, several data lines, fields in any order, a byte order
//! mark, an end without its blank line.

use super::json::Object;
use super::random::Random;
use std::ops::Range;

/// One event before it is written.
pub(super) struct Event {
    pub(super) name: Option<&'static str>,
    pub(super) said: Said,
    /// The member that the client shall not see.
    pub(super) strips: Option<&'static str>,
    /// The client shall not see the event at all.
    pub(super) is_of_usage: bool,
    /// It tells why the output ended, in a dialect where a stream may end with that.
    pub(super) tells_end: bool,
}

/// The data of an event.
pub(super) enum Said {
    Object(Object),
    Text(String),
}

impl Event {
    pub(super) fn of(said: Said) -> Self {
        Self { name: None, said, strips: None, is_of_usage: false, tells_end: false }
    }
}

/// A stream.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    /// What of it the client gets.
    pub(super) passes: Vec<u8>,
    /// The last event lacks its blank line.
    pub(super) ends_inside: bool,
}

pub(super) fn written(random: &mut Random, events: &[Event], strips: bool) -> Written {
    let ends: &[&str] = match random.below(5) {
        0 | 1 => &["\n"],
        2 => &["\r\n"],
        3 => &["\r"],
        _ => &["\n", "\r\n", "\r"],
    };
    let mut writer = Writer { random, ends, is_after_cr: false, stream: Vec::new(), passes: Vec::new() };
    let begins_unseen = strips && events.first().is_some_and(|event| event.is_of_usage);
    if !begins_unseen && writer.random.one_in(12) {
        writer.put("\u{feff}", true);
    }
    let may_be_unended = !events.is_empty() && writer.random.one_in(10);
    for (at, event) in events.iter().enumerate() {
        writer.between();
        writer.event(event, strips);
        if may_be_unended && at + 1 == events.len() {
            if writer.random.one_in(2) {
                // Nor does the last line end.
                let passes = !(strips && event.is_of_usage);
                writer.unend(passes);
            }
            return Written { bytes: writer.stream, passes: writer.passes, ends_inside: true };
        }
        let passes = !(strips && event.is_of_usage);
        writer.line("", passes);
    }
    writer.between();
    Written { bytes: writer.stream, passes: writer.passes, ends_inside: false }
}

struct Writer<'r> {
    random: &'r mut Random,
    ends: &'static [&'static str],
    /// The line before ended in a carriage return alone, so a line feed next would belong to it.
    is_after_cr: bool,
    stream: Vec<u8>,
    passes: Vec<u8>,
}

impl Writer<'_> {
    fn put(&mut self, text: &str, passes: bool) {
        self.stream.extend_from_slice(text.as_bytes());
        if passes {
            self.passes.extend_from_slice(text.as_bytes());
        }
    }

    fn line(&mut self, text: &str, passes: bool) {
        let mut end = self.random.pick(self.ends);
        if text.is_empty() && self.is_after_cr && end == "\n" {
            end = "\r";
        }
        self.is_after_cr = end == "\r";
        self.put(text, passes);
        self.put(end, passes);
    }

    /// Takes the last line's end back.
    fn unend(&mut self, passes: bool) {
        while self.stream.pop_if(|byte| matches!(*byte, b'\n' | b'\r')).is_some() {
            if passes {
                self.passes.pop();
            }
        }
    }

    /// What may stand between events: pings in comments, blank lines.
    fn between(&mut self) {
        for _ in 0..self.random.pick(&[0, 0, 0, 1, 2]) {
            let comment = self.random.pick(&[": ping", ":", ": data: {}", ""]);
            self.line(comment, true);
            if !comment.is_empty() {
                self.line("", true);
            }
        }
    }

    /// All lines of an event but the blank one.
    fn event(&mut self, event: &Event, strips: bool) {
        let passes = !(strips && event.is_of_usage);
        let (text, cut) = match &event.said {
            Said::Text(text) => (text.clone(), None),
            Said::Object(object) => {
                (object.text(), event.strips.filter(|_| strips).and_then(|name| object.cut(name)))
            }
        };
        let mut fields: Vec<String> = event.name.map(|name| format!("event: {name}")).into_iter().collect();
        for odd in ["id: 7", "retry: 100", ": comment", "zz", "datum: x", "data_: y"] {
            if self.random.one_in(15) {
                fields.push(odd.to_owned());
            }
        }
        self.random.shuffle(&mut fields);
        let (before, after) = fields.split_at(self.random.below(fields.len() + 1));
        for field in before {
            self.line(field, passes);
        }
        self.data(&text, cut, passes);
        for field in after {
            self.line(field, passes);
        }
    }

    /// The data, a line for each of its own; the client does not get what is cut.
    fn data(&mut self, text: &str, cut: Option<Range<usize>>, passes: bool) {
        let cut = cut.unwrap_or(0..0);
        let mut at = 0;
        for line in text.split('\n') {
            let space = if line.starts_with(' ') || self.random.one_in(2) { " " } else { "" };
            self.put("data:", passes);
            self.put(space, passes);
            let end = at + line.len();
            let (from, to) = (cut.start.clamp(at, end) - at, cut.end.clamp(at, end) - at);
            self.put(&line[..from], passes);
            self.put(&line[from..to], false);
            self.put(&line[to..], passes);
            self.is_after_cr = false;
            self.line_end(passes);
            at = end + 1;
        }
    }

    fn line_end(&mut self, passes: bool) {
        let end = self.random.pick(self.ends);
        self.is_after_cr = end == "\r";
        self.put(end, passes);
    }
}
