//! What is left of a long document tells what the whole tells.

use super::*;
use crate::base::json::{Kind, Value};
use proptest::prelude::*;

/// The inside of a JSON string, with characters and escapes of all lengths, often long enough for its middle to be left
/// out, and now and then with something in it that belongs in no string.
pub(crate) fn long_text() -> impl Strategy<Value = String> {
    let unit = prop::sample::select(vec![
        "a",
        "ä",
        "€",
        "😀",
        "AAAA",
        r"\n",
        r#"\""#,
        r"\\",
        r"\/",
        r"\u00e9",
        r"\ud83d\ude00",
        "}",
        "],",
        "\"",
        "\u{1}",
        r"\ud83d",
        r"\x",
    ]);
    let weighted =
        unit.prop_map(|unit| if unit.len() == 1 && unit != "a" && unit != "}" { "aaa" } else { unit });
    prop::collection::vec((weighted, 0..900_usize), 0..9)
        .prop_map(|runs| runs.into_iter().map(|(unit, times)| unit.repeat(times)).collect())
}

fn shorten(data: &[u8], sizes: &[usize]) -> Shortener {
    let (mut shortener, mut rest, mut turn) = (Shortener::default(), data, 0);
    while !rest.is_empty() {
        let size = sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
        turn += 1;
        shortener.push(&rest[..size]);
        rest = &rest[size..];
    }
    shortener
}

/// All that readers ask of a value.
fn told(value: Value<'_>) -> Vec<(Kind, Option<usize>, usize, String)> {
    value
        .walk()
        .map(|value| {
            let beginning = value.as_str().map_or(String::new(), |text| crate::base::clip(&text, 256));
            let plain = if value.kind() == Kind::Number { value.raw().to_owned() } else { beginning };
            (value.kind(), value.text_len(), value.raw_len(), plain)
        })
        .collect()
}

#[test]
fn long_texts_lose_their_middle_and_short_ones_nothing() {
    let text = |bytes: usize| format!(r#"{{"id":"{}","usage":{{"tokens":7}}}}"#, "x".repeat(bytes));
    for bytes in [0, 1, HEAD_BYTES + TAIL_BYTES] {
        assert_eq!(shorten(text(bytes).as_bytes(), &[]).kept(), text(bytes).as_bytes());
    }
    for bytes in [HEAD_BYTES + TAIL_BYTES + 1, 5 << 20] {
        let short = shorten(text(bytes).as_bytes(), &[9_000, 3]);
        assert_eq!(short.kept(), text(HEAD_BYTES + TAIL_BYTES).as_bytes(), "{bytes}");
        assert!(short.kept.capacity() < 1 << 16, "{} bytes for {bytes}", short.kept.capacity());
        let document = short.document().unwrap();
        assert_eq!(document.root().get("id").unwrap().text_len(), Some(bytes));
        assert_eq!((document.root().raw_len(), short.bytes()), (text(bytes).len(), text(bytes).len()));
        assert!(!short.is_cut());
    }
}

#[test]
fn what_says_nothing_is_not_kept() {
    let json = format!(
        r#"{{"embedding":[{}],"logprobs" : {{"content":[{{"token":"]}}"}}]}},"b64_json":"{}","data":[1],"logprob":[2]}}"#,
        "0.25,".repeat(100_000) + "1",
        "A".repeat(9_000)
    );
    let short = shorten(json.as_bytes(), &[777]);
    assert!(short.kept().len() < 5_000 && !short.is_cut());
    let document = short.document().unwrap();
    assert!(document.root().get("embedding").unwrap().is_empty());
    assert_eq!(document.root().get("b64_json").unwrap().text_len(), Some(9_000));
    assert_eq!(document.root().get("data").unwrap().items().count(), 1);
    assert_eq!(document.root().raw_len(), json.len());
}

#[test]
fn what_is_too_much_is_cut_and_what_stands_outside_of_arrays_is_read() {
    let item = r#"{"type":"function_call","id":"fc_0123456789","arguments":"{}"}"#;
    let many = vec![item; 100_000].join(",");
    let json = format!(r#"{{"response":{{"id":"r","output":[{many}],"usage":{{"output_tokens":7}}}}}}"#);
    let short = shorten(json.as_bytes(), &[20_000]);
    assert!(short.is_cut() && short.kept().len() < KEPT_BYTES_END, "{}", short.kept().len());
    assert_eq!(short.kept(), shorten(json.as_bytes(), &[61, 1]).kept(), "wherever it was chunked");
    let document = short.document().unwrap();
    let response = document.root().get("response").unwrap();
    assert!(response.get("output").unwrap().items().count() > 10_000);
    assert_eq!(response.get("usage").unwrap().get("output_tokens").unwrap().as_u64(), Some(7));
    assert_eq!(document.root().raw_len(), json.len() + short.kept().len() - left_of(&short));
    // Too much in one object, one number, one key, one run of spaces: it is no JSON that anybody sends.
    let members: Vec<String> = (0..200_000).map(|number| format!(r#""{number}":1,"#)).collect();
    let members = members.concat();
    for odd in [
        format!("{{{members}\"usage\":1}}"),
        format!("[{}]", "1".repeat(2 << 20)),
        format!(r#"{{"{}":1}}"#, "k".repeat(2 << 20)),
        " ".repeat(2 << 20),
        "[".repeat(2 << 20),
    ] {
        let short = shorten(odd.as_bytes(), &[20_000]);
        assert!(short.document().is_none() && short.kept.capacity() < 4 << 20);
        assert!(short.open.capacity() <= 2 * LIMITS.depth, "{} levels kept", short.open.capacity());
        assert_eq!(short.bytes(), odd.len());
    }
}

#[test]
fn what_follows_a_cut_is_kept_while_it_is_short() {
    let part = r#"{"text":"0123456789"}"#;
    let parts = vec![part; 100_000].join(",");
    let shortened = |details: usize| {
        let details = vec![r#"{"modality":"AUDIO","tokenCount":7}"#; details].join(",");
        let json = format!(
            r#"{{"candidates":[{{"parts":[{parts}]}}],"usageMetadata":{{"details":[{details}],"n":1}}}}"#
        );
        let short = shorten(json.as_bytes(), &[20_000]);
        assert!(short.is_cut() && short.kept().len() < KEPT_BYTES_END);
        let document = short.document().unwrap();
        let usage = document.root().get("usageMetadata").unwrap();
        assert_eq!(usage.get("n").unwrap().as_u64(), Some(1));
        (usage.get("details").unwrap().items().count(), usage.raw_len() == usage.raw().len())
    };
    assert_eq!(shortened(5), (5, true));
    let (left, is_whole) = shortened(5_000);
    assert!(left < 1_000 && !is_whole, "{left}");
}

/// What was kept of the whole, closing brackets of a cut excepted.
fn left_of(short: &Shortener) -> usize {
    short.bytes() - short.left_out.iter().map(|left_out| left_out.raw_bytes).sum::<usize>()
}

proptest! {
    #[test]
    fn what_is_left_tells_what_the_whole_tells(
        texts in prop::collection::vec(long_text(), 1..4), prunes: bool, sizes in prop::collection::vec(1..20_000_usize, 1..9),
    ) {
        let inside = texts.iter().map(|text| format!(r#"{{"a\"b":"{text}","n":[-1.5e3,null,true,[]]}}"#));
        let inside = inside.collect::<Vec<_>>().join(" , ");
        let name = if prunes { "logprobs" } else { "choices" };
        let json = format!(r#" {{"{name}":[{inside}],"model":"{}","usage":{{"total_tokens":12}} }}"#, texts[0]);
        let short = shorten(json.as_bytes(), &sizes);
        let once = shorten(json.as_bytes(), &[]);
        prop_assert_eq!((short.kept(), &short.left_out), (once.kept(), &once.left_out));
        let whole = Document::parse(json.as_bytes(), LIMITS);
        let left = short.document();
        // Inside of what says nothing, only brackets and quotes are looked at.
        let is_looked_at = !prunes || texts[1..].is_empty();
        if let Ok(whole) = &whole {
            let left = left.as_ref().unwrap();
            prop_assert_eq!(told(left.root()), told(whole.root()));
        } else if is_looked_at {
            prop_assert!(left.is_none());
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1..9_usize, 1..9)) {
        let short = shorten(&bytes, &sizes);
        let _ = short.document();
    }
}
