//! The one pass: grammar, limits and the tape. Linear in the bytes whatever they are.

use super::text::hex4;
use super::{JsonError, Kind, Limits, Node, Value, duplicate, wide};
use std::{borrow::Cow, collections::HashSet};

/// Above this many members a set finds duplicate keys; below, comparing each with each is cheaper.
const PAIRWISE_MEMBERS_MAX: usize = 16;

/// The tape of `text`: never empty, its first node the whole value.
pub(super) fn nodes(text: &str, limits: Limits) -> Result<Vec<Node>, JsonError> {
    if u32::try_from(text.len()).is_err() {
        return Err(JsonError::TooLong { max: u32::MAX });
    }
    let mut parser =
        Parser { text, bytes: text.as_bytes(), at: 0, nodes: Vec::new(), values: 0, limits, keep: true };
    parser.skip_space();
    if parser.at == text.len() {
        return Err(JsonError::Empty);
    }
    parser.value(0)?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(JsonError::TrailingData { at: parser.at });
    }
    Ok(parser.nodes)
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
    /// Values on the tape: its nodes without the keys.
    values: usize,
    limits: Limits,
    /// False inside a pruned member.
    keep: bool,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        self.values += 1;
        if self.values > self.limits.nodes {
            return Err(JsonError::TooManyNodes { limit: self.limits.nodes });
        }
        match self.peek() {
            Some(b'"') => self.string(false),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b't') => self.literal("true", Kind::Bool),
            Some(b'f') => self.literal("false", Kind::Bool),
            Some(b'n') => self.literal("null", Kind::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.unexpected("a JSON value")),
            None => Err(self.end()),
        }
    }

    fn object(&mut self, depth: usize) -> Result<(), JsonError> {
        let (open, values) = self.open(Kind::Object, depth)?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
        } else {
            self.members(depth)?;
            self.refuse_duplicate_keys(open)?;
        }
        self.close(open, values);
        Ok(())
    }

    fn members(&mut self, depth: usize) -> Result<(), JsonError> {
        loop {
            match self.peek() {
                Some(b'"') => self.string(true)?,
                Some(_) => return Err(self.unexpected("a key in double quotes")),
                None => return Err(self.end()),
            }
            let prunes = self.keep && self.is_pruned_key();
            self.skip_space();
            match self.peek() {
                Some(b':') => self.at += 1,
                Some(_) => return Err(self.unexpected("`:`")),
                None => return Err(self.end()),
            }
            self.skip_space();
            if prunes {
                self.keep = false;
                self.value(depth)?;
                self.keep = true;
            } else {
                self.value(depth)?;
            }
            if self.is_last(b'}', "`,` or `}`")? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Result<(), JsonError> {
        let (open, values) = self.open(Kind::Array, depth)?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.at += 1;
        } else {
            loop {
                self.value(depth)?;
                if !self.keep {
                    self.nodes.truncate(open + 1);
                    self.values = values;
                }
                if self.is_last(b']', "`,` or `]`")? {
                    break;
                }
            }
        }
        self.close(open, values);
        Ok(())
    }

    /// After an element: past its comma (false), or past the end of its container (true).
    fn is_last(&mut self, end: u8, expected: &'static str) -> Result<bool, JsonError> {
        self.skip_space();
        let is_last = match self.peek() {
            Some(b',') => false,
            Some(byte) if byte == end => true,
            Some(_) => return Err(self.unexpected(expected)),
            None => return Err(self.end()),
        };
        self.at += 1;
        if !is_last {
            self.skip_space();
        }
        Ok(is_last)
    }

    fn open(&mut self, kind: Kind, depth: usize) -> Result<(usize, usize), JsonError> {
        if depth > self.limits.depth {
            return Err(JsonError::TooDeep { at: self.at, limit: self.limits.depth });
        }
        let open = self.nodes.len();
        self.push(kind, self.at, false, false);
        self.at += 1;
        Ok((open, self.values))
    }

    fn close(&mut self, open: usize, values: usize) {
        if !self.keep {
            self.nodes.truncate(open + 1);
            self.values = values;
        }
        let (end, next) = (narrow(self.at), narrow(self.nodes.len()));
        let node = &mut self.nodes[open];
        (node.end, node.next) = (end, next);
    }

    fn push(&mut self, kind: Kind, start: usize, escaped: bool, is_key: bool) {
        let next = narrow(self.nodes.len() + 1);
        self.nodes.push(Node { start: narrow(start), end: narrow(self.at), next, kind, escaped, is_key });
    }

    fn string(&mut self, is_key: bool) -> Result<(), JsonError> {
        let (start, mut escaped) = (self.at, false);
        self.at += 1;
        loop {
            let rest = &self.bytes[self.at..];
            let len = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            if let Some(offset) = control_character(&rest[..len]) {
                return Err(JsonError::ControlCharacter { at: self.at + offset });
            }
            self.at += len;
            match self.peek() {
                Some(b'"') => break,
                Some(_) => self.escape()?,
                None => return Err(self.end()),
            }
            escaped = true;
        }
        self.at += 1;
        self.push(Kind::String, start, escaped, is_key);
        Ok(())
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let at = self.at;
        match self.bytes.get(at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let unit = hex4(self.bytes, at + 2).ok_or(JsonError::InvalidEscape { at })?;
                let low = || {
                    let is_escape = self.bytes.get(at + 6..at + 8) == Some(br"\u");
                    is_escape.then(|| hex4(self.bytes, at + 8)).flatten()
                };
                self.at += match unit {
                    0xd800..=0xdbff if matches!(low(), Some(0xdc00..=0xdfff)) => 12,
                    0xd800..=0xdfff => return Err(JsonError::LoneSurrogate { at }),
                    _ => 6,
                };
            }
            Some(_) => return Err(JsonError::InvalidEscape { at }),
            None => return Err(JsonError::UnexpectedEnd { at: self.bytes.len() }),
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        let invalid = JsonError::InvalidNumber { at: start };
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.at;
        let whole_digits = self.digits();
        if whole_digits == 0 || (whole_digits > 1 && self.bytes[whole] == b'0') {
            return Err(invalid);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(invalid);
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(invalid);
            }
        }
        self.push(Kind::Number, start, false, false);
        Ok(())
    }

    fn digits(&mut self) -> usize {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        self.at - start
    }

    fn literal(&mut self, word: &'static str, kind: Kind) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("`true`, `false` or `null`"));
        }
        let start = self.at;
        self.at += word.len();
        self.push(kind, start, false, false);
        Ok(())
    }

    fn is_pruned_key(&self) -> bool {
        let Some(at) = self.nodes.len().checked_sub(1) else { return false };
        self.limits.prune.iter().any(|name| self.key(at).is_str(name))
    }

    fn refuse_duplicate_keys(&self, open: usize) -> Result<(), JsonError> {
        let mut first = [0; PAIRWISE_MEMBERS_MAX];
        let mut all: HashSet<Cow<'_, str>> = HashSet::new();
        let (mut at, mut count) = (open + 1, 0);
        while at < self.nodes.len() {
            let key = self.key(at);
            let is_new = if count < PAIRWISE_MEMBERS_MAX {
                let is_new = !first[..count].iter().any(|earlier| key.is_same_str(self.key(*earlier)));
                first[count] = at;
                is_new
            } else {
                if count == PAIRWISE_MEMBERS_MAX {
                    all.extend(first.iter().filter_map(|earlier| self.key(*earlier).as_str()));
                }
                key.as_str().is_some_and(|name| all.insert(name))
            };
            if !is_new {
                return Err(duplicate(key));
            }
            count += 1;
            at = wide(self.nodes[at + 1].next);
        }
        Ok(())
    }

    fn key(&self, at: usize) -> Value<'_> {
        Value { text: self.text, nodes: &self.nodes, left_out: &[], at }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn unexpected(&self, expected: &'static str) -> JsonError {
        JsonError::Unexpected { at: self.at, expected }
    }

    fn end(&self) -> JsonError {
        JsonError::UnexpectedEnd { at: self.at }
    }
}

/// Where the first control character stands. Whole blocks first, without a branch per byte.
fn control_character(bytes: &[u8]) -> Option<usize> {
    let is_control = |byte: &u8| *byte < 0x20;
    let block =
        bytes.chunks(64).position(|block| block.iter().fold(false, |any, byte| any | is_control(byte)))?;
    let start = block * 64;
    bytes[start..].iter().position(is_control).map(|offset| start + offset)
}

/// Offsets and node counts fit: the text was measured first, and no text has more nodes than bytes.
fn narrow(large: usize) -> u32 {
    u32::try_from(large).unwrap_or(u32::MAX)
}
