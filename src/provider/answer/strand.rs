//! The texts of a stream: which pieces belong together.
//!
//! A client puts the pieces of one text together, so what must not pass may stand in no event and yet in the text. Each
//! place in an event (its path, with the `index` of what is counted) is a strand of its own, in any dialect.

use crate::base::json::{Kind, Value};

/// Watches the texts that a stream spells out piece by piece.
pub trait TextWatch: Send {
    /// Hears the next piece of one text. `false`: the event that holds it must not pass.
    fn hear(&mut self, strand: u64, piece: &str) -> bool;

    /// Hears a text that nobody puts together with others: a name. `false`: the event that holds it must not pass.
    fn hear_name(&mut self, name: &str) -> bool;

    /// Whether some text could be on the way to what must not pass. Then an event is passed only once it is whole.
    fn is_alert(&self) -> bool;

    /// Whether what must not pass could stand in this part of an event, written with escapes.
    fn could_hide_in(&self, raw: &[u8]) -> bool;

    /// Hears an event that is no JSON by our rules; a reader with looser ones may find texts in it. `false`: it must not
    /// pass.
    fn hear_unread(&mut self, data: &[u8]) -> bool;

    /// An event begins to pass before it is whole, because it is long.
    fn begin_long(&mut self);

    /// Hears the next of its data, as it is, before that passes. `None`: it must not pass. Otherwise how many bytes at its
    /// end could be the beginning of what must not pass, and have to wait for what follows. The texts of the event are
    /// heard once more when it has ended.
    fn hear_on(&mut self, data: &[u8]) -> Option<usize>;
}

/// Members that say which of several texts an event goes on with.
const COUNTED_BY: [&str; 3] = ["index", "output_index", "content_index"];
const ROOT: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// Has every text of an event heard. `false`: the event must not pass.
pub(super) fn hear_texts(root: Value<'_>, watch: &mut dyn TextWatch) -> bool {
    hear(root, ROOT, watch)
}

fn hear(value: Value<'_>, strand: u64, watch: &mut dyn TextWatch) -> bool {
    match value.kind() {
        Kind::String => value.as_str().is_none_or(|piece| watch.hear(strand, &piece)),
        Kind::Array => value.items().enumerate().all(|(at, item)| {
            // An item that says its index is that one, wherever it stands.
            let place = if item.get("index").is_some() { 0 } else { super::wide(at) };
            hear(item, mix(strand, &place.to_le_bytes()), watch)
        }),
        Kind::Object => {
            let counters = COUNTED_BY.into_iter().filter_map(|name| value.get(name));
            let inside = counters.fold(strand, |strand, counter| mix(strand, counter.raw().as_bytes()));
            value.members().all(|member| {
                let key = member.key.raw().as_bytes();
                watch.hear_name(&member.name()) && hear(member.value, mix(inside, key), watch)
            })
        }
        Kind::Null | Kind::Bool | Kind::Number => true,
    }
}

/// FNV-1a: two strands that fall together cost a false alarm of a text that is the key, which there is none of.
fn mix(strand: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(strand ^ 0xff, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json::Document;
    use std::collections::BTreeMap;

    #[derive(Default)]
    struct Texts(BTreeMap<u64, String>);

    impl TextWatch for Texts {
        fn hear(&mut self, strand: u64, piece: &str) -> bool {
            self.0.entry(strand).or_default().push_str(piece);
            true
        }

        fn hear_name(&mut self, name: &str) -> bool {
            name != "forbidden"
        }

        fn is_alert(&self) -> bool {
            false
        }

        fn could_hide_in(&self, _raw: &[u8]) -> bool {
            false
        }

        fn hear_unread(&mut self, _data: &[u8]) -> bool {
            true
        }

        fn begin_long(&mut self) {}

        fn hear_on(&mut self, _data: &[u8]) -> Option<usize> {
            Some(0)
        }
    }

    fn texts(events: &[&str]) -> Vec<String> {
        let mut texts = Texts::default();
        for event in events {
            let document = Document::parse(event.as_bytes(), super::super::LIMITS).unwrap();
            assert!(hear_texts(document.root(), &mut texts));
        }
        texts.0.into_values().collect()
    }

    #[test]
    fn names_are_heard_wherever_they_stand() {
        for (event, may_pass) in [
            (r#"{"a":[{"b":{"allowed":1}}]}"#, true),
            (r#"{"a":[{"b":{"forbidden":1}}]}"#, false),
            (r#"{"a":[{"b":{"\u0066orbidden":null}}]}"#, false),
        ] {
            let document = Document::parse(event.as_bytes(), super::super::LIMITS).unwrap();
            assert_eq!(hear_texts(document.root(), &mut Texts::default()), may_pass, "{event}");
        }
    }

    #[test]
    fn pieces_of_one_text_come_together_in_every_dialect() {
        let openai = [
            r#"{"choices":[{"index":1,"delta":{"content":"a"}},{"index":0,"delta":{"content":"X"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"\u0059"}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"content":"b","tool_calls":[{"index":2,"function":{"arguments":"{"}}]}}]}"#,
            r#"{"choices":[{"index":1,"delta":{"tool_calls":[{"index":2,"function":{"arguments":"}"}}]}}]}"#,
        ];
        let found = texts(&openai);
        assert!(["ab", "XY", "{}"].iter().all(|text| found.iter().any(|one| one == text)), "{found:?}");
        let anthropic = [
            r#"{"type":"t","index":0,"delta":{"text":"a"}}"#,
            r#"{"type":"t","index":1,"delta":{"partial_json":"{"}}"#,
            r#"{"type":"t","index":0,"delta":{"text":"b"}}"#,
            r#"{"type":"t","index":1,"delta":{"partial_json":"}"}}"#,
        ];
        let found = texts(&anthropic);
        assert!(["ab", "{}"].iter().all(|text| found.iter().any(|one| one == text)), "{found:?}");
        let responses = [
            r#"{"output_index":0,"content_index":0,"delta":"a"}"#,
            r#"{"output_index":0,"content_index":1,"delta":"c"}"#,
            r#"{"output_index":0,"content_index":0,"delta":"b"}"#,
        ];
        assert!(texts(&responses).iter().any(|text| text == "ab"));
        let gemini = [
            r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#,
            r#"{"candidates":[{"content":{"parts":[{"text":"b"}]}}]}"#,
        ];
        assert!(texts(&gemini).iter().any(|text| text == "ab"));
    }
}
