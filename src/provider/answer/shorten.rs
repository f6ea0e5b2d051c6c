//! JSON that is too long to be kept, made shorter while it comes, so that it tells the same.
//!
//! Of a long text its beginning and its end are kept, of what says nothing here (see `prune` in [`LIMITS`]) only that
//! it is there, and all else as it is. What was left out is counted, so lengths are those of the whole. Invariant: at
//! most [`KEPT_BYTES_MAX`] and a little more is kept, whatever comes; what cannot be made that short is cut
//! ([`Shortener::is_cut`]), or is not read.

use super::LIMITS;
use crate::base::json::{Document, LeftOut};

/// What is kept of the beginning of a text: ids, names and whatever else is looked at is shorter.
const HEAD_BYTES: usize = 2 * 1024;
/// What is kept of its end: a provider's key that goes on in the next event is shorter.
const TAIL_BYTES: usize = 2 * 1024;
/// Above this much, what is left of the outermost array is left out.
const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// What is kept of what follows the first array of which some was left out: what matters there is shorter.
const AFTER_CUT_BYTES: usize = 16 * 1024;
/// Above this much, it is no JSON that anybody sends.
const KEPT_BYTES_END: usize = KEPT_BYTES_MAX + 64 * 1024;
/// What is taken in before a text is looked at again.
const PART_BYTES: usize = 16 * 1024;

/// Makes one value of JSON shorter, however it is chunked.
#[expect(clippy::struct_excessive_bools, reason = "where a reader stands, each by itself")]
#[derive(Debug, Default)]
pub(super) struct Shortener {
    kept: Vec<u8>,
    left_out: Vec<LeftOut>,
    /// Of each container that is open, whether it is an array.
    open: Vec<bool>,
    place: Place,
    /// Where a text would begin now, it is a key.
    wants_key: bool,
    is_key: bool,
    /// The value that follows says nothing here.
    prunes: bool,
    /// Where the text under way begins in `kept`, and whether some of it was left out.
    text_start: usize,
    has_gap: bool,
    /// At this depth stands the container of which no more is kept.
    passed_over: Option<usize>,
    bytes: usize,
    /// Above this much, more is cut; `None` where nothing was.
    cut_above: Option<usize>,
    is_damaged: bool,
}

/// Where the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Between,
    Text,
    /// After a backslash.
    Escaped,
}

impl Shortener {
    /// Takes in the next bytes.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.bytes = self.bytes.saturating_add(data.len());
        for part in data.chunks(PART_BYTES) {
            self.read(part);
            if self.place != Place::Between && self.text_bytes() > HEAD_BYTES + 2 * TAIL_BYTES {
                self.leave_out_middle();
            }
        }
    }

    /// What is left of it; `None` where it is no JSON.
    pub(super) fn document(&self) -> Option<Document<'_>> {
        let read = || Document::parse_shortened(&self.kept, LIMITS, &self.left_out).ok();
        if self.is_damaged { None } else { read() }
    }

    /// The bytes that are left.
    pub(super) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// How many bytes the whole had.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether things are missing of it that are not counted.
    pub(super) fn is_cut(&self) -> bool {
        self.cut_above.is_some()
    }

    fn read(&mut self, part: &[u8]) {
        let mut rest = part;
        while let Some(&byte) = rest.first() {
            let mut taken = 1;
            match (self.place, byte) {
                (Place::Between, _) => self.read_between(byte),
                (Place::Text, b'"') => self.end_text(),
                (Place::Text, b'\\') => {
                    self.place = Place::Escaped;
                    self.keep(b"\\");
                }
                (Place::Text, _) => {
                    taken = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                    self.keep(&rest[..taken]);
                }
                (Place::Escaped, _) => {
                    self.place = Place::Text;
                    self.keep(&rest[..1]);
                }
            }
            rest = &rest[taken..];
        }
    }

    fn read_between(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.keep(b"\"");
                (self.place, self.is_key) = (Place::Text, self.wants_key);
                (self.text_start, self.has_gap) = (self.kept.len(), false);
                self.prunes = false;
                return;
            }
            b'{' | b'[' if self.is_damaged => return,
            b'{' | b'[' => {
                self.keep(&[byte]);
                self.open.push(byte == b'[');
                if self.open.len() > LIMITS.depth {
                    self.damage();
                }
                if std::mem::take(&mut self.prunes) {
                    self.pass_over(self.open.len());
                }
                self.wants_key = byte == b'{';
                return;
            }
            b'}' | b']' => {
                self.passed_over = self.passed_over.filter(|depth| *depth != self.open.len());
                self.open.pop();
                self.wants_key = false;
            }
            b',' => {
                self.wants_key = self.open.last() == Some(&false);
                if self.kept.len() > self.cut_above.unwrap_or(KEPT_BYTES_MAX) {
                    self.cut();
                }
            }
            b':' => self.wants_key = false,
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => self.prunes = false,
        }
        self.keep(&[byte]);
    }

    fn end_text(&mut self) {
        if self.has_gap || self.text_bytes() > HEAD_BYTES + TAIL_BYTES {
            self.leave_out_middle();
        }
        let key = self.kept.get(self.text_start..).unwrap_or_default();
        self.prunes = self.is_key && LIMITS.prune.iter().any(|name| name.as_bytes() == key);
        self.place = Place::Between;
        self.keep(b"\"");
    }

    fn keep(&mut self, bytes: &[u8]) {
        match self.left_out.last_mut().filter(|_| self.passed_over.is_some()) {
            Some(left_out) => left_out.raw_bytes = left_out.raw_bytes.saturating_add(bytes.len()),
            None if self.is_damaged => {}
            None => self.kept.extend_from_slice(bytes),
        }
        // A text under way is about to be made shorter.
        if self.kept.len() > KEPT_BYTES_END {
            self.damage();
        }
    }

    /// Keeps no more of the container at this depth, which is open, than its end.
    fn pass_over(&mut self, depth: usize) {
        if self.passed_over.is_none() && !self.is_damaged {
            self.left_out.push(LeftOut { at: self.kept.len(), raw_bytes: 0, text_bytes: 0 });
            self.passed_over = Some(depth);
        }
    }

    /// After a value: ends everything inside the outermost array, and keeps no more of that. What is outside of arrays
    /// is as good as all that is looked at.
    fn cut(&mut self) {
        let Some(outermost) = self.open.iter().position(|is_array| *is_array) else { return };
        if self.passed_over.is_some() || self.is_damaged {
            return;
        }
        self.cut_above.get_or_insert(self.kept.len() + AFTER_CUT_BYTES);
        let inside = self.open[outermost + 1..].iter().rev();
        self.kept.extend(inside.map(|is_array| if *is_array { b']' } else { b'}' }));
        self.pass_over(outermost + 1);
    }

    /// What is kept of the text under way.
    fn text_bytes(&self) -> usize {
        self.kept.len().saturating_sub(self.text_start)
    }

    /// Leaves out of the text under way what is neither its head nor its tail. Keys stay as they are.
    fn leave_out_middle(&mut self) {
        if self.is_key || self.is_damaged || self.passed_over.is_some() {
            return;
        }
        let from = match self.left_out.last().filter(|_| self.has_gap) {
            Some(gap) => gap.at,
            None => boundary(&self.kept, self.text_start, self.text_start + HEAD_BYTES),
        };
        let to = boundary(&self.kept, from, self.kept.len() - TAIL_BYTES);
        if to <= from {
            return;
        }
        let middle = [b"\"", &self.kept[from..to], b"\""].concat();
        let Some(text_bytes) = Document::parse(&middle, LIMITS).ok().and_then(|text| text.root().text_len())
        else {
            return self.damage();
        };
        self.kept.drain(from..to);
        if !std::mem::replace(&mut self.has_gap, true) {
            self.left_out.push(LeftOut { at: from, raw_bytes: 0, text_bytes: 0 });
        }
        if let Some(gap) = self.left_out.last_mut() {
            gap.raw_bytes = gap.raw_bytes.saturating_add(to - from);
            gap.text_bytes = gap.text_bytes.saturating_add(text_bytes);
        }
    }

    /// It is no JSON: only its bytes are counted.
    fn damage(&mut self) {
        self.is_damaged = true;
        (self.kept, self.left_out, self.passed_over) = (Vec::new(), Vec::new(), None);
    }
}

/// The last place up to `at` where a text can be cut, between two characters or escapes. `from` is such a place.
fn boundary(text: &[u8], from: usize, at: usize) -> usize {
    let (mut from, at) = (from, at.max(from));
    while let Some(escape) = memchr::memchr(b'\\', &text[from..at]) {
        let escape = from + escape;
        let end = escape + escape_bytes(&text[escape..]);
        if end > at {
            return escape;
        }
        from = end;
    }
    let is_inside = |at: &usize| text.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    // A character has no more than three bytes that go on with it.
    (from..=at).rev().take(4).find(|at| !is_inside(at)).unwrap_or(at)
}

/// The length of the escape at the start of `text`; the two halves of a surrogate pair are one.
fn escape_bytes(text: &[u8]) -> usize {
    match text {
        [_, b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..] => 12,
        [_, b'u', ..] => 6,
        _ => 2,
    }
}

#[cfg(test)]
pub(super) mod tests;
