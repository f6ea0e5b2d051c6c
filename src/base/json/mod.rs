//! Strict JSON: one pass says whether bytes are JSON that everybody reads the same way, and where
//! each value stands.
//!
//! Two readers that disagree about a body are how a policy is passed: the one that decides reads one
//! `model`, the provider reads the other. So whatever parsers are known to differ on is refused: a key
//! given twice (compared after unescaping), a byte order mark, invalid UTF-8, half a surrogate pair,
//! data after the value. What is accepted is forwarded as the bytes it came in; [`Value::span`] says
//! where to cut. Nothing is allocated per value beyond 16 bytes of tape.

mod parse;
mod text;

use crate::base::clip;
use std::{borrow::Cow, ops::Range};

/// How much a document may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Objects and arrays inside one another. Parsing recurses, so keep it below a few hundred.
    pub depth: usize,
    /// Values kept at a time.
    pub nodes: usize,
    /// Members of these names are checked like all others, but what is inside them is not kept: they
    /// read as empty, and do not count against `nodes`.
    pub prune: &'static [&'static str],
}

impl Limits {
    /// What a request may hold.
    pub const REQUEST: Self = Self { depth: 64, nodes: 200_000, prune: &[] };
}

/// Why bytes are not accepted as JSON. `at` counts bytes from the start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Nothing but white space.
    #[error("the body is empty: send one JSON value")]
    Empty,
    /// More bytes than the tape can name.
    #[error("the body is too long: at most {max} bytes can be read")]
    TooLong {
        /// The most bytes that can be read.
        max: u32,
    },
    /// A byte order mark stands first.
    #[error("the body begins with a byte order mark: send plain UTF-8 without one")]
    ByteOrderMark,
    /// Not UTF-8.
    #[error("the body is not UTF-8 at byte {at}: encode it as UTF-8")]
    InvalidUtf8 {
        /// Where.
        at: usize,
    },
    /// The bytes end inside a value.
    #[error("the JSON ends too early, at byte {at}: send the whole value")]
    UnexpectedEnd {
        /// Where.
        at: usize,
    },
    /// Something else stands where the grammar wants `expected`.
    #[error("not JSON at byte {at}: write {expected} there")]
    Unexpected {
        /// Where.
        at: usize,
        /// What the grammar wants.
        expected: &'static str,
    },
    /// A raw control character in a string.
    #[error("a control character stands raw in a string at byte {at}: escape it as \\u00XX")]
    ControlCharacter {
        /// Where.
        at: usize,
    },
    /// A backslash with something that JSON does not know.
    #[error(
        "an unknown escape in a string at byte {at}: JSON knows \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX"
    )]
    InvalidEscape {
        /// Where.
        at: usize,
    },
    /// Half a surrogate pair.
    #[error("half a surrogate pair in a string at byte {at}: write both halves, or the character itself")]
    LoneSurrogate {
        /// Where.
        at: usize,
    },
    /// A number that JSON does not allow.
    #[error("not a JSON number at byte {at}: no leading zeros or signs, digits on both sides of the point")]
    InvalidNumber {
        /// Where.
        at: usize,
    },
    /// A key stands twice in one object.
    #[error("the key {key:?} at byte {at} stands twice in one object: send it once")]
    DuplicateKey {
        /// Where the second one stands.
        at: usize,
        /// The key, clipped.
        key: String,
    },
    /// Something follows the value.
    #[error("something follows the JSON value at byte {at}: send one value only")]
    TrailingData {
        /// Where.
        at: usize,
    },
    /// Too many objects and arrays inside one another.
    #[error("the JSON is nested deeper than {limit} levels at byte {at}: flatten it")]
    TooDeep {
        /// Where.
        at: usize,
        /// The most levels.
        limit: usize,
    },
    /// Too many values.
    #[error("the JSON holds more than {limit} values: send less in one request")]
    TooManyNodes {
        /// The most values.
        limit: usize,
    },
}

impl JsonError {
    /// Where, in bytes from the start.
    pub fn at(&self) -> Option<usize> {
        match self {
            Self::Empty | Self::TooLong { .. } | Self::ByteOrderMark | Self::TooManyNodes { .. } => None,
            Self::InvalidUtf8 { at }
            | Self::UnexpectedEnd { at }
            | Self::Unexpected { at, .. }
            | Self::ControlCharacter { at }
            | Self::InvalidEscape { at }
            | Self::LoneSurrogate { at }
            | Self::InvalidNumber { at }
            | Self::DuplicateKey { at, .. }
            | Self::TrailingData { at }
            | Self::TooDeep { at, .. } => Some(*at),
        }
    }
}

/// Something that was left out of a document before it was read, because it is long and says nothing: the middle of a
/// text, or what is inside of an array or object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Where it stood in what is left: between the quotes or brackets.
    pub at: usize,
    /// How many bytes it had as written.
    pub raw_bytes: usize,
    /// How many bytes of text those were, unescaped; none in an array or object.
    pub text_bytes: usize,
}

/// Checked JSON, and where its values stand.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    /// In document order; an object's members are key, value, key, value. Never empty.
    nodes: Vec<Node>,
    /// By place.
    left_out: &'a [LeftOut],
}

impl<'a> Document<'a> {
    /// Checks all of `bytes`.
    pub fn parse(bytes: &'a [u8], limits: Limits) -> Result<Self, JsonError> {
        Self::parse_shortened(bytes, limits, &[])
    }

    /// Checks what is left of a longer document. [`Value::text_len`] and [`Value::raw_len`] are of the whole, all else
    /// is of what is left. `left_out` is sorted by place.
    pub fn parse_shortened(
        bytes: &'a [u8],
        limits: Limits,
        left_out: &'a [LeftOut],
    ) -> Result<Self, JsonError> {
        if bytes.starts_with(b"\xef\xbb\xbf") {
            return Err(JsonError::ByteOrderMark);
        }
        let text =
            std::str::from_utf8(bytes).map_err(|error| JsonError::InvalidUtf8 { at: error.valid_up_to() })?;
        Ok(Self { text, nodes: parse::nodes(text, limits)?, left_out })
    }

    /// The whole value.
    pub fn root(&self) -> Value<'_> {
        Value { text: self.text, nodes: &self.nodes, left_out: self.left_out, at: 0 }
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string; keys are strings too.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    start: u32,
    end: u32,
    /// The index of the first node after this one and all inside it.
    next: u32,
    kind: Kind,
    escaped: bool,
    is_key: bool,
}

impl Node {
    fn span(self) -> Range<usize> {
        wide(self.start)..wide(self.end)
    }
}

/// One value of a [`Document`]; a cheap cursor.
#[derive(Clone, Copy, Debug)]
pub struct Value<'d> {
    text: &'d str,
    nodes: &'d [Node],
    left_out: &'d [LeftOut],
    at: usize,
}

impl<'d> Value<'d> {
    /// What the value is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Where the value stands, quotes and brackets included.
    pub fn span(self) -> Range<usize> {
        self.node().span()
    }

    /// The value as written.
    pub fn raw(self) -> &'d str {
        &self.text[self.span()]
    }

    /// The value is `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// The value is a key, not a value; only [`Value::walk`] shows keys as values.
    pub fn is_key(self) -> bool {
        self.node().is_key
    }

    /// The boolean, if it is one.
    pub fn as_bool(self) -> Option<bool> {
        (self.kind() == Kind::Bool).then(|| self.raw() == "true")
    }

    /// The text of a string, unescaped.
    pub fn as_str(self) -> Option<Cow<'d, str>> {
        let raw = self.quoted()?;
        Some(if self.node().escaped { Cow::Owned(text::unescape(raw)) } else { Cow::Borrowed(raw) })
    }

    /// Whether the value is a string of this text.
    pub fn is_str(self, wanted: &str) -> bool {
        match self.quoted() {
            None => false,
            Some(raw) if self.node().escaped => text::unescape(raw) == wanted,
            Some(raw) => raw == wanted,
        }
    }

    /// How many bytes the text of a string has, unescaped; `None` for what is not a string.
    pub fn text_len(self) -> Option<usize> {
        let raw = self.quoted()?;
        let here = if self.node().escaped { text::unescaped_len(raw) } else { raw.len() };
        Some(self.left_out().map(|left_out| left_out.text_bytes).fold(here, usize::saturating_add))
    }

    /// How many bytes the value has as written.
    pub fn raw_len(self) -> usize {
        self.left_out().map(|left_out| left_out.raw_bytes).fold(self.span().len(), usize::saturating_add)
    }

    fn left_out(self) -> impl Iterator<Item = &'d LeftOut> {
        let Range { start, end } = self.span();
        let from = self.left_out.partition_point(|left_out| left_out.at <= start);
        self.left_out[from..].iter().take_while(move |left_out| left_out.at < end)
    }

    /// A plain non-negative integer: digits only (`1.0`, `1e3` and `-0` are not), up to `u64::MAX`.
    pub fn as_u64(self) -> Option<u64> {
        let raw = self.raw();
        (self.kind() == Kind::Number && raw.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| raw.parse().ok())
            .flatten()
    }

    /// The member's value, if this is an object that has it. Keys are compared after unescaping.
    pub fn get(self, key: &str) -> Option<Value<'d>> {
        self.members().find(|member| member.key.is_str(key)).map(|member| member.value)
    }

    /// The members of an object; none of anything else.
    pub fn members(self) -> Members<'d> {
        let inside = self.inside(Kind::Object);
        Members { object: self, at: inside.start, end: inside.end, previous_end: None }
    }

    /// The items of an array; none of anything else.
    pub fn items(self) -> Items<'d> {
        let inside = self.inside(Kind::Array);
        Items { array: self, at: inside.start, end: inside.end }
    }

    /// Whether this is an array or object with nothing in it.
    pub fn is_empty(self) -> bool {
        matches!(self.kind(), Kind::Array | Kind::Object) && wide(self.node().next) == self.at + 1
    }

    /// This value, then everything inside it in document order, keys too.
    pub fn walk(self) -> impl Iterator<Item = Value<'d>> {
        (self.at..wide(self.node().next)).map(move |at| Value { at, ..self })
    }

    /// Key and value of every member anywhere inside, in document order.
    pub fn walk_members(self) -> impl Iterator<Item = (Value<'d>, Value<'d>)> {
        self.walk().filter(|value| value.is_key()).map(|key| (key, Value { at: key.at + 1, ..key }))
    }

    fn is_same_str(self, other: Value<'_>) -> bool {
        if self.node().escaped || other.node().escaped {
            self.as_str() == other.as_str()
        } else {
            self.raw() == other.raw()
        }
    }

    fn node(self) -> Node {
        self.nodes[self.at]
    }

    fn inside(self, kind: Kind) -> Range<usize> {
        if self.kind() == kind { self.at + 1..wide(self.node().next) } else { 0..0 }
    }

    fn quoted(self) -> Option<&'d str> {
        let Range { start, end } = self.span();
        (self.kind() == Kind::String).then(|| &self.text[start + 1..end - 1])
    }
}

/// One member of an object.
#[derive(Clone, Debug)]
pub struct Member<'d> {
    /// The key, a string.
    pub key: Value<'d>,
    /// The value.
    pub value: Value<'d>,
    /// What to cut so that the member is gone and the rest is still an object: the member and one
    /// comma. Holds for one cut per object.
    pub cut: Range<usize>,
}

impl<'d> Member<'d> {
    /// The key's text.
    pub fn name(&self) -> Cow<'d, str> {
        self.key.as_str().unwrap_or_default()
    }
}

/// The members of an object, in order.
#[derive(Clone, Debug)]
pub struct Members<'d> {
    object: Value<'d>,
    at: usize,
    end: usize,
    previous_end: Option<usize>,
}

impl<'d> Iterator for Members<'d> {
    type Item = Member<'d>;

    fn next(&mut self) -> Option<Member<'d>> {
        if self.at >= self.end {
            return None;
        }
        let key = Value { at: self.at, ..self.object };
        let value = Value { at: self.at + 1, ..self.object };
        self.at = wide(value.node().next);
        let end = value.span().end;
        let cut = match self.previous_end.replace(end) {
            Some(previous_end) => previous_end..end,
            None if self.at < self.end => key.span().start..wide(self.object.nodes[self.at].start),
            None => key.span().start..end,
        };
        Some(Member { key, value, cut })
    }
}

/// The items of an array, in order.
#[derive(Clone, Debug)]
pub struct Items<'d> {
    array: Value<'d>,
    at: usize,
    end: usize,
}

impl<'d> Iterator for Items<'d> {
    type Item = Value<'d>;

    fn next(&mut self) -> Option<Value<'d>> {
        if self.at >= self.end {
            return None;
        }
        let item = Value { at: self.at, ..self.array };
        self.at = wide(item.node().next);
        Some(item)
    }
}

fn wide(small: u32) -> usize {
    small as usize
}

fn duplicate(key: Value<'_>) -> JsonError {
    JsonError::DuplicateKey { at: key.span().start, key: clip(&key.as_str().unwrap_or_default(), 64) }
}

#[cfg(test)]
mod tests;
