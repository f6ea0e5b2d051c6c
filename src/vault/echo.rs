//! The echo guard: looks for the live key in what a provider sends back.
//!
//! It holds back only a suffix that could be the key's beginning, so events are not delayed, and it
//! finds the key across any chunk borders. [`TextGuard`] finds it where no bytes side by side are the key and yet a
//! client has it: in a text that comes in the pieces of several events, or written with JSON's escapes.

use super::ProviderKey;
use memchr::memmem;
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hasher};
use zeroize::{Zeroize, Zeroizing};

/// Scans one answer for one key.
pub struct EchoGuard {
    finder: memmem::Finder<'static>,
    needle: Zeroizing<Vec<u8>>,
    held: Vec<u8>,
}

/// The provider sent our key back. The answer must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer contains the credential")]
pub struct Echoed;

impl EchoGuard {
    /// A guard for this key.
    pub fn new(key: &ProviderKey) -> Self {
        let needle = Zeroizing::new(key.expose().as_bytes().to_vec());
        Self { finder: memmem::Finder::new(&*needle).into_owned(), needle, held: Vec::new() }
    }

    /// Whether a whole text (a header's value) contains the key.
    pub fn is_in(&self, text: &[u8]) -> bool {
        !self.needle.is_empty() && self.finder.find(text).is_some()
    }

    /// Passes a chunk: appends to `out` all that cannot be part of the key.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Echoed> {
        self.held.extend_from_slice(chunk);
        if self.is_in(&self.held) {
            self.held.zeroize();
            return Err(Echoed);
        }
        let keep = self.key_prefix_at_end();
        let pass = self.held.len() - keep;
        out.extend_from_slice(&self.held[..pass]);
        self.held.drain(..pass);
        Ok(())
    }

    /// The end of the answer: what was held back is not the key after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// Whether the key stands in JSON, whole, with some of its characters escaped. As it is, [`EchoGuard::push`] finds it.
    pub fn is_escaped_in(&self, json: &[u8]) -> bool {
        could_hide(&self.needle, json) && self.is_in(&Zeroizing::new(without_escapes(json)))
    }

    /// A guard for the same key in the texts of the same answer.
    pub fn for_texts(&self) -> TextGuard {
        TextGuard {
            finder: self.finder.clone(),
            needle: self.needle.clone(),
            begun: HashMap::new(),
            long: LongData::default(),
        }
    }

    fn key_prefix_at_end(&self) -> usize {
        prefix_at_end(&self.needle, &self.held)
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

/// Texts at once in which the key could have begun; of more, some are forgotten.
const BEGUN_MAX: usize = 256;

/// Scans the texts of one stream, each in pieces, for one key.
pub struct TextGuard {
    finder: memmem::Finder<'static>,
    needle: Zeroizing<Vec<u8>>,
    /// By strand, how many bytes of the key its text ends with; strands that end with none are not here.
    begun: HashMap<u64, usize>,
    long: LongData,
}

/// Where the search in the data of a long event stands.
#[derive(Default)]
struct LongData {
    /// What the key would go on with, in a text that ended with its beginning before; the quote before it included.
    rests: Vec<Zeroizing<Vec<u8>>>,
    /// The end of what was heard, unescaped: as much as could matter.
    tail: Zeroizing<Vec<u8>>,
    /// The beginning of an escape that stood at the very end.
    escape: Vec<u8>,
}

impl TextGuard {
    /// Hears the next piece of a text, unescaped. After an error the piece must not reach the client.
    pub fn hear(&mut self, strand: u64, piece: &[u8]) -> Result<(), Echoed> {
        if self.needle.is_empty() || piece.is_empty() {
            return Ok(());
        }
        let begun = if self.begun.is_empty() { 0 } else { self.begun.remove(&strand).unwrap_or(0) };
        let ends_with = if begun == 0 {
            self.search(piece)?
        } else {
            // The key could begin again within its beginning, so the search starts over from there.
            let joined = Zeroizing::new([&self.needle[..begun], piece].concat());
            self.search(&joined)?
        };
        if ends_with > 0 {
            if self.begun.len() >= BEGUN_MAX {
                self.begun.clear();
            }
            self.begun.insert(strand, ends_with);
        }
        Ok(())
    }

    /// Hears a text that stands by itself, unescaped. After an error it must not reach the client.
    pub fn hear_name(&self, name: &[u8]) -> Result<(), Echoed> {
        if self.needle.is_empty() || self.finder.find(name).is_none() { Ok(()) } else { Err(Echoed) }
    }

    /// Hears data that should be JSON and is none: two members of one name, a number that is none, a text that does not
    /// end. A looser reader than ours may make texts of it, so what stands in quotes is taken for texts as it is, each
    /// one the next piece of those behind the same name; and data without quotes is a piece by itself.
    pub fn hear_unread(&mut self, data: &[u8]) -> Result<(), Echoed> {
        let plain = Zeroizing::new(without_escapes(data));
        self.search(&plain)?;
        let mut before: &[u8] = &[];
        for text in quoted(data) {
            self.hear(strand(before), &Zeroizing::new(without_escapes(text)))?;
            before = text;
        }
        if memchr::memchr(b'"', data).is_none() {
            self.hear(strand(&[]), &plain)?;
        }
        Ok(())
    }

    /// Begins data that passes before all of it is there: what [`TextGuard::hear_on`] hears next.
    pub fn begin_long(&mut self) {
        // Nobody knows yet which texts these will be, so each could go on with each.
        let lengths: BTreeSet<usize> = self.begun.values().copied().collect();
        let rest = |begun| Zeroizing::new([b"\"", &self.needle[begun..]].concat());
        let rests = lengths.into_iter().map(rest).collect();
        // Data without quotes is a text by itself.
        self.long = LongData { rests, tail: Zeroizing::new(b"\"".to_vec()), escape: Vec::new() };
    }

    /// Hears the next of such data, as it is. After an error it must not reach the client; otherwise as many bytes at the
    /// end of what was heard as are returned have to wait for what follows.
    pub fn hear_on(&mut self, data: &[u8]) -> Result<usize, Echoed> {
        if self.needle.is_empty() {
            return Ok(0);
        }
        let LongData { rests, tail, escape } = &mut self.long;
        let raw = Zeroizing::new([escape.as_slice(), data].concat());
        let cut = unfinished_escape(&raw);
        let heard = Zeroizing::new([tail.as_slice(), &Zeroizing::new(without_escapes(&raw[..cut]))].concat());
        let is_rest_in = |rest: &Zeroizing<Vec<u8>>| memmem::find(&heard, rest).is_some();
        if self.finder.find(&heard).is_some() || rests.iter().any(is_rest_in) {
            return Err(Echoed);
        }
        let begun = |key: &Zeroizing<Vec<u8>>| prefix_at_end(key, &heard);
        let begun = rests.iter().map(begun).chain([begun(&self.needle)]).max().unwrap_or(0);
        *escape = raw[cut..].to_vec();
        *tail = Zeroizing::new(heard[heard.len().saturating_sub(self.needle.len())..].to_vec());
        Ok(begun * ESCAPE_BYTES_MAX + escape.len())
    }

    /// Whether a text ends with the beginning of the key.
    pub fn is_alert(&self) -> bool {
        !self.begun.is_empty()
    }

    /// Whether the key could stand in this part of a JSON text with some of its characters escaped.
    pub fn could_hide_in(&self, json: &[u8]) -> bool {
        could_hide(&self.needle, json)
    }

    /// How many bytes of the key the text ends with, if the key is not in it.
    fn search(&self, text: &[u8]) -> Result<usize, Echoed> {
        if self.finder.find(text).is_some() { Err(Echoed) } else { Ok(prefix_at_end(&self.needle, text)) }
    }
}

/// What stands between two quotes, escapes unresolved; a text that is not ended goes to the end.
fn quoted(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let start = memchr::memchr(b'"', rest)? + 1;
        let mut end = start;
        while end < rest.len() && rest[end] != b'"' {
            end += if rest[end] == b'\\' { 2 } else { 1 };
        }
        let text = &rest[start..end.min(rest.len())];
        rest = rest.get(end + 1..).unwrap_or_default();
        Some(text)
    })
}

/// The texts behind one name are one text.
fn strand(name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(name);
    hasher.finish()
}

/// The length of the longest end of `text` that the key begins with, the whole key excepted.
fn prefix_at_end(needle: &[u8], text: &[u8]) -> usize {
    let longest = needle.len().saturating_sub(1).min(text.len());
    let Some(first) = needle.first() else { return 0 };
    let end = &text[text.len() - longest..];
    let starts = memchr::memchr_iter(*first, end).map(|at| &end[at..]);
    starts.filter(|rest| needle.starts_with(rest)).map(<[u8]>::len).next().unwrap_or(0)
}

/// Whether there is an escape that could stand for one of the key's characters, which are visible ASCII; or the
/// beginning of one at the very end.
fn could_hide(needle: &[u8], json: &[u8]) -> bool {
    memchr::memchr_iter(b'\\', json).any(|at| match &json[at + 1..] {
        [] => true,
        [b'u', digits @ ..] => {
            let digits = &digits[..digits.len().min(4)];
            digits.iter().zip(b"00").all(|(digit, zero)| digit == zero)
                && digits.get(2).is_none_or(|digit| (b'2'..=b'7').contains(digit))
        }
        [escaped, ..] => matches!(escaped, b'/' | b'"' | b'\\') && needle.contains(escaped),
    })
}

/// The same bytes with every escape that stands for one ASCII character resolved.
fn without_escapes(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..at]);
        let (byte, len) = match &rest[at + 1..] {
            [b'u', digits @ ..] if digits.len() >= 4 => (ascii(&digits[..4]), 6),
            [escaped, ..] => (Some(*escaped), 2),
            [] => (None, 1),
        };
        // What is no part of a key only has to stand between what comes before and after it.
        out.push(byte.unwrap_or(b'\\'));
        rest = &rest[at + len..];
    }
    out.extend_from_slice(rest);
    out
}

/// What one of the key's characters takes up at the most: `\u0041`.
const ESCAPE_BYTES_MAX: usize = 6;

/// Where an escape begins that the text ends within; the text's length if there is none.
fn unfinished_escape(json: &[u8]) -> usize {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\\', &json[from..]) {
        let escape = from + at;
        from = escape + if json.get(escape + 1) == Some(&b'u') { ESCAPE_BYTES_MAX } else { 2 };
        if from > json.len() {
            return escape;
        }
    }
    json.len()
}

fn ascii(digits: &[u8]) -> Option<u8> {
    let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    u8::try_from(code).ok().filter(u8::is_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard(key: &str) -> EchoGuard {
        EchoGuard::new(&ProviderKey::for_test(key))
    }

    #[test]
    fn an_events_end_is_never_held_back() {
        let mut out = vec![];
        let mut guard = guard("sk-canary");
        guard.push(b"data: {\"x\":\"sk-can\"}\n\n", &mut out).unwrap();
        assert!(out.ends_with(b"\n\n"));
        guard.push(b"data: sk-", &mut out).unwrap();
        assert!(out.ends_with(b"data: "), "only what could be the key's beginning waits");
    }

    fn texts(key: &str) -> TextGuard {
        guard(key).for_texts()
    }

    #[test]
    fn the_pieces_of_one_text_are_one_text_and_those_of_two_are_not() {
        let mut guard = texts("sk-canary");
        assert_eq!(guard.hear(1, b"here: sk-"), Ok(()));
        assert!(guard.is_alert());
        assert_eq!(guard.hear(2, b"canary"), Ok(()));
        assert_eq!(guard.hear(1, b"can"), Ok(()));
        assert_eq!(guard.hear(1, b""), Ok(()));
        assert_eq!(guard.hear(1, b"ary"), Err(Echoed));
        let mut guard = texts("sk-canary");
        assert_eq!((guard.hear(1, b"sk-can"), guard.hear(1, b"dy")), (Ok(()), Ok(())));
        assert!(!guard.is_alert());
        assert_eq!(guard.hear(1, b"ary"), Ok(()));
    }

    #[test]
    fn escapes_hide_nothing() {
        let one = guard("sk/ca\"na");
        for json in [r#"{"a":"sk\/ca\"na"}"#, r#"["\u0073\u006b\/ca\u0022na"]"#, r#""sk/ca\"na""#] {
            assert!(one.is_escaped_in(json.as_bytes()), "{json}");
        }
        for json in [r#"{"a":"sk\\/ca\"na"}"#, r#""sk\u00e4/ca\"na""#, r#""sk\n/ca\"na""#, r#""sk\/ca\"n"#] {
            assert!(!one.is_escaped_in(json.as_bytes()), "{json}");
        }
        let plain = guard("sk-canary").for_texts();
        let hides = |json: &str| plain.could_hide_in(json.as_bytes());
        assert!(
            hides(r"a\u0073k") && hides(r"a\u00") && hides(r"a\"),
            "an escape that is, or could become, the key's"
        );
        assert!(
            !hides(r#"line\nline \"quoted\" \u00e4 \u2014 \/"#),
            "these never stand for a key's character"
        );
    }

    #[test]
    fn what_is_no_json_hides_nothing_either() {
        let found = |events: &[&str]| {
            let mut guard = texts("sk-canary");
            events.iter().any(|event| guard.hear_unread(event.as_bytes()).is_err())
        };
        for events in [
            &[r#"{"a":1,"a":"\u0073k-c\u0061nary"}"#][..],
            &[r#"{"a": "\u0073k-canary"#],
            &[r"oops \u0073\u006b-canary"],
            &[r#"{"x":NaN,"content":"sk-"}"#, r#"{"x":NaN,"content":"can\u0061ry"}"#],
            &[r#"{"x":NaN,"a":"one \"","content":"sk-c"}"#, r#"{"content":"anary","x":NaN}"#],
            &["sk-", "canary"],
        ] {
            assert!(found(events), "{events:?}");
        }
        for events in [
            &[r#"{"x":NaN,"content":"sk-"}"#, r#"{"x":NaN,"other":"canary"}"#][..],
            &[r#"{"a":"\\u0073k-canary"}"#],
            &["[DONE", "\"", "\\", "\"\\", "\"\\\""],
        ] {
            assert!(!found(events), "{events:?}");
        }
    }

    #[test]
    fn a_long_event_hides_nothing_before_it_has_ended() {
        let passed = |before: &[&str], pieces: &[&str]| {
            let mut guard = texts("sk-canary");
            before.iter().enumerate().for_each(|(strand, piece)| {
                guard.hear(u64::try_from(strand).unwrap(), piece.as_bytes()).unwrap();
            });
            guard.begin_long();
            let (mut passed, mut held) = (String::new(), String::new());
            for piece in pieces {
                let Ok(wait) = guard.hear_on(piece.as_bytes()) else { return Err(passed) };
                held.push_str(piece);
                let goes = held.len() - wait.min(held.len());
                passed.extend(held.drain(..goes));
            }
            Ok(passed)
        };
        for pieces in [&[r#"{"a":"sk-canary"#][..], &[r#"{"a":"\u0073\u006b"#, r"-can\", "u0061r", "y"]] {
            let cut = passed(&[], pieces).unwrap_err();
            assert!(cut.len() <= r#"{"a":""#.len(), "{cut}");
        }
        assert!(passed(&["sk-c"], &[r#"{"a":"one","b":"#, r#""an\u0061r"#, "y"]).is_err(), "begun before");
        assert!(passed(&["sk-c", "sk-"], &[r#"{"b":"canary"#]).is_err());
        assert!(passed(&["sk-"], &["can", "ary"]).is_err(), "data that is no JSON");
        for fine in [
            &[r#"{"a":"sk-candy","#, r#""b":1}"#][..],
            &["{\"a\":\"\\\\u0073k-canary\"}"],
            &["canary"],
            &["\\"],
        ] {
            let all = fine.concat();
            let passed = passed(&["x"], fine).unwrap();
            assert!(all.starts_with(&passed) && all.len() - passed.len() <= 6, "{passed} of {all}");
        }
        let words = ["sk-can\\u0061", "dy"];
        assert_eq!(passed(&[], &words).unwrap(), words.concat(), "what was no key after all passes");
    }

    proptest! {
        /// In data that passes before it is whole, the key is found wherever it is, and nothing of it has passed.
        #[test]
        fn any_pieces_of_long_data_are_the_data(
            text in "[abc\\\\u062-]{0,40}", echo in any::<bool>(), cuts in prop::collection::vec(0..90_usize, 0..8),
        ) {
            let key = "abcab-abcac";
            let escaped: String = key.chars().enumerate()
                .map(|(at, ch)| if at % 2 == 0 { format!("\\u{:04x}", u32::from(ch)) } else { ch.into() }).collect();
            let all = if echo { format!("{text} {escaped}{text}") } else { text.clone() };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(all.len())).collect();
            cuts.extend([0, all.len()]);
            cuts.sort_unstable();
            let mut guard = texts(key);
            guard.begin_long();
            let (mut passed, mut found) = (0, false);
            for pair in cuts.windows(2) {
                let Ok(wait) = guard.hear_on(&all.as_bytes()[pair[0]..pair[1]]) else {
                    found = true;
                    break;
                };
                passed = pair[1].saturating_sub(wait);
            }
            let plain = without_escapes(all.as_bytes());
            prop_assert_eq!(found, plain.windows(key.len()).any(|part| part == key.as_bytes()));
            prop_assert!(!found || passed <= text.len() + 1);
        }

        /// However a text is cut into pieces, the key is found in it exactly where it is in it.
        #[test]
        fn any_pieces_of_a_text_are_the_text(
            text in "[abc-]{0,40}", echo in any::<bool>(), cuts in prop::collection::vec(0..50_usize, 0..8),
        ) {
            let key = "abcab-abcac";
            let text = if echo { format!("{text}{key}{text}") } else { text };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let mut guard = texts(key);
            let found = cuts.windows(2).any(|pair| guard.hear(7, &text.as_bytes()[pair[0]..pair[1]]).is_err());
            prop_assert_eq!(found, text.contains(key));
        }

        /// However an answer is cut into chunks: without the key it passes whole, with it nothing of it passes.
        #[test]
        fn any_chunking_gives_the_same(
            before in "[a-c]{0,12}", after in "[a-c]{0,12}", echo in any::<bool>(), cuts in prop::collection::vec(0..30_usize, 0..6),
        ) {
            let key = "abcab-abcac";
            let text = if echo { format!("{before}{key}{after}") } else { format!("{before}{after}") };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut guard, mut out) = (guard(key), vec![]);
            let found = cuts.windows(2).any(|pair| guard.push(&text.as_bytes()[pair[0]..pair[1]], &mut out).is_err());
            prop_assert_eq!(found, echo);
            if echo {
                prop_assert!(out.len() <= before.len() && before.as_bytes().starts_with(&out));
            } else {
                guard.finish(&mut out);
                prop_assert_eq!(out, text.as_bytes());
            }
        }
    }
}
