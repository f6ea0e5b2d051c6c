//! JSON as nobody would write it and everybody may: odd spaces, orders, escapes and numbers, with names and values that
//! no reader knows.

use super::random::Random;
use std::ops::Range;

const SPACES: [&str; 12] = ["", "", "", "", "", "", " ", " ", "\n", "\t", "  ", "\n  "];
const NUMBERS: [&str; 14] = [
    "0",
    "-0",
    "1.0",
    "1e2",
    "1E+2",
    "-0.0",
    "0.70",
    "1e-7",
    "12345678901234567890",
    "-17",
    "-1.5e3",
    "9007199254740993",
    "0e0",
    "3.141592653589793238462643383279",
];
/// The provider's key in these tests.
pub(super) const SECRET: &str = "fuzz-canary-3a91c07b5d2e4f68";

/// Among them what begins like the key and is not: while a text could become it, events wait.
const TEXTS: [&str; 24] = [
    "hello",
    " ",
    "Grüße",
    "😀",
    "👩‍👩‍👧",
    "日本語",
    "\u{301}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\"",
    "\\",
    "/",
    "\n",
    "\r\n",
    "\t",
    "\u{1}",
    "\u{7f}",
    "data: ",
    "[DONE]",
    "\u{10ffff}",
    "}",
    "fuzz-can",
    "fuzz-canary-3a91c07b5d2e4f6",
];

/// One member of an object, as it is written.
#[derive(Clone)]
pub(super) struct Member {
    /// What its key says.
    pub(super) name: String,
    key: String,
    /// Its value, as it is written.
    pub(super) value: String,
    /// What stands before the key, after it, before the value, and after that.
    gaps: [&'static str; 4],
}

/// An object, as it is written.
#[derive(Clone, Default)]
pub(super) struct Object {
    pub(super) before: &'static str,
    pub(super) members: Vec<Member>,
    pub(super) after: &'static str,
}

/// Where a member stands in the text of its object.
struct Place {
    key_start: usize,
    value_end: usize,
}

impl Object {
    /// The text.
    pub(super) fn text(&self) -> String {
        self.laid_out().0
    }

    /// Just after its `{`.
    pub(super) fn inside(&self) -> usize {
        self.before.len() + 1
    }

    /// The same object with another text for a member's value.
    pub(super) fn with(mut self, name: &str, value: String) -> Self {
        self.members.iter_mut().find(|member| member.name == name).unwrap().value = value;
        self
    }

    /// What of the text goes with a member: the member and one comma, that before it if there is one.
    pub(super) fn cut(&self, name: &str) -> Option<Range<usize>> {
        let at = self.members.iter().position(|member| member.name == name)?;
        let places = self.laid_out().1;
        Some(match at.checked_sub(1) {
            Some(before) => places[before].value_end..places[at].value_end,
            None if places.len() > 1 => places[0].key_start..places[1].key_start,
            None => places[0].key_start..places[0].value_end,
        })
    }

    fn laid_out(&self) -> (String, Vec<Place>) {
        let (mut text, mut places) = (format!("{}{{", self.before), Vec::new());
        for (at, Member { key, value, gaps, .. }) in self.members.iter().enumerate() {
            text.push_str(if at == 0 { "" } else { "," });
            text.push_str(gaps[0]);
            let key_start = text.len();
            text.extend([key.as_str(), gaps[1], ":", gaps[2], value.as_str()]);
            places.push(Place { key_start, value_end: text.len() });
            text.push_str(gaps[3]);
        }
        text.push('}');
        text.push_str(self.after);
        (text, places)
    }
}

impl Random {
    pub(super) fn space(&mut self) -> &'static str {
        self.pick(&SPACES)
    }

    pub(super) fn number(&mut self) -> String {
        self.pick(&NUMBERS).to_owned()
    }

    /// A text of up to so many scraps.
    pub(super) fn text(&mut self, scraps_max: usize) -> String {
        (0..self.below(scraps_max + 1)).map(|_| self.pick(&TEXTS)).collect()
    }

    /// A text as a string, each character raw or escaped in any way that it may be.
    pub(super) fn quoted(&mut self, text: &str) -> String {
        let escapes = self.pick(&[0, 0, 10, 100]);
        let mut out = String::from('"');
        for ch in text.chars() {
            let must = matches!(ch, '"' | '\\') || u32::from(ch) < 0x20;
            if !must && self.below(100) >= escapes {
                out.push(ch);
                continue;
            }
            let short = match ch {
                '"' | '\\' | '/' => Some(ch),
                '\n' => Some('n'),
                '\r' => Some('r'),
                '\t' => Some('t'),
                _ => None,
            };
            match short {
                Some(letter) if !self.one_in(3) => out.extend(['\\', letter]),
                _ => {
                    for unit in ch.encode_utf16(&mut [0; 2]) {
                        let is_upper = self.one_in(2);
                        let digits = format!("{unit:04x}");
                        out.push_str("\\u");
                        out.push_str(&if is_upper { digits.to_ascii_uppercase() } else { digits });
                    }
                }
            }
        }
        out.push('"');
        out
    }

    /// Any value, nested up to so deep.
    pub(super) fn value(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 5 } else { 8 }) {
            0 => self.pick(&["null", "true", "false"]).to_owned(),
            1 | 2 => self.number(),
            3 | 4 => {
                let text = self.text(4);
                self.quoted(&text)
            }
            5 => {
                let count = self.below(4);
                let items = (0..count).map(|_| self.value(depth - 1)).collect();
                self.array(items)
            }
            _ => {
                let members = self.unknown(3, depth - 1);
                self.object(members).text()
            }
        }
    }

    /// An array of these.
    pub(super) fn array(&mut self, items: Vec<String>) -> String {
        let spaced: Vec<String> =
            items.into_iter().map(|item| format!("{}{item}{}", self.space(), self.space())).collect();
        format!("[{}]", spaced.join(","))
    }

    /// Something that is named so and has this value.
    pub(super) fn member(&mut self, name: &str, value: impl Into<String>) -> Member {
        let key = self.quoted(name);
        let gaps = [(); 4].map(|()| self.space());
        Member { name: name.to_owned(), key, value: value.into(), gaps }
    }

    /// Up to so many members that nobody knows.
    pub(super) fn unknown(&mut self, count_max: usize, depth: usize) -> Vec<Member> {
        (0..self.below(count_max + 1))
            .map(|at| {
                let name = format!("zz{at}{}", self.text(2));
                let value = self.value(depth);
                self.member(&name, value)
            })
            .collect()
    }

    /// An object of these, in any order.
    pub(super) fn object(&mut self, mut members: Vec<Member>) -> Object {
        self.shuffle(&mut members);
        Object { members, ..Object::default() }
    }

    /// The same, with more that nobody knows.
    pub(super) fn padded(&mut self, mut members: Vec<Member>) -> Object {
        let more = self.pick(&[0, 0, 1, 3]);
        members.extend(self.unknown(more, 3));
        self.object(members)
    }
}
