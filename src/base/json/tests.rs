//! Refusals one by one, and agreement with another parser on everything else.

use super::{Document, JsonError, Kind, Limits, Value};
use proptest::prelude::*;

fn parse(text: &str) -> Result<Document<'_>, JsonError> {
    Document::parse(text.as_bytes(), Limits::REQUEST)
}

fn refusal(bytes: &[u8]) -> JsonError {
    Document::parse(bytes, Limits::REQUEST).expect_err("must be refused")
}

#[test]
fn what_parsers_differ_on_is_refused() {
    use JsonError as E;
    let cases: [(&[u8], E); 12] = [
        (b"\xef\xbb\xbf{}", E::ByteOrderMark),
        (b" \n", E::Empty),
        (b"{\"a\":\"\xff\"}", E::InvalidUtf8 { at: 6 }),
        (b"{} {}", E::TrailingData { at: 3 }),
        (b"{}\0", E::TrailingData { at: 2 }),
        (br#"["\ud800"]"#, E::LoneSurrogate { at: 2 }),
        (br#"["\udc00\ud800"]"#, E::LoneSurrogate { at: 2 }),
        (br#"["\ud800\u0041"]"#, E::LoneSurrogate { at: 2 }),
        (b"[\"a\nb\"]", E::ControlCharacter { at: 3 }),
        (br#"["\x41"]"#, E::InvalidEscape { at: 2 }),
        (br#"["\u00g1"]"#, E::InvalidEscape { at: 2 }),
        (b"[1", E::UnexpectedEnd { at: 2 }),
    ];
    for (bytes, wanted) in cases {
        assert_eq!(refusal(bytes), wanted, "{}", String::from_utf8_lossy(bytes));
    }
    for number in ["01", "-", "-01", "1.", "1.e3", "1e", "1e+", "00"] {
        assert!(matches!(refusal(number.as_bytes()), E::InvalidNumber { at: 0 }), "{number}");
    }
    for text in
        ["NaN", "Infinity", "-Infinity", "+1", ".5", "[1,]", "[,1]", r#"{"a":1,}"#, "{a:1}", "{'a':1}"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    for text in [r#"{"a"}"#, r#"{"a" 1}"#, "nul", "tru ", "[1 2]", "// c\n1", "[1]]", "\u{a0}1", "\u{c}1"] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn a_key_given_twice_is_refused_however_it_is_written() {
    for text in [r#"{"model":1,"model":2}"#, r#"{"model":1,"mod\u0065l":2}"#, r#"[{"a":{"b":1,"\u0062":1}}]"#]
    {
        assert!(matches!(parse(text), Err(JsonError::DuplicateKey { .. })), "{text}");
    }
    assert!(parse(r#"{"model":1,"Model":2,"a":{"model":1}}"#).is_ok());
    for twice in [0, 15, 16, 17, 499] {
        let mut members: Vec<String> = (0..500).map(|n| format!("\"k{n}\":[{n}]")).collect();
        assert!(parse(&format!("{{{}}}", members.join(","))).is_ok());
        members.push(format!("\"\\u006b{twice}\":0"));
        let error = parse(&format!("{{{}}}", members.join(","))).unwrap_err();
        assert!(matches!(error, JsonError::DuplicateKey { key, .. } if key == format!("k{twice}")));
    }
}

#[test]
fn depth_and_number_of_values_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(64)).is_ok());
    assert!(matches!(parse(&nested(65)), Err(JsonError::TooDeep { at: 64, limit: 64 })));
    assert!(parse(&"[".repeat(1_000_000)).is_err());
    let array = |items: usize| format!("[{}1]", "1,".repeat(items - 1));
    assert!(parse(&array(199_999)).is_ok());
    assert!(matches!(parse(&array(200_000)), Err(JsonError::TooManyNodes { limit: 200_000 })));
    assert!(parse(&array(1_000_000)).is_err());
}

#[test]
fn only_plain_digits_are_an_integer() {
    let read = |text: &str| parse(text).unwrap().root().as_u64();
    assert_eq!(read("0"), Some(0));
    assert_eq!(read("18446744073709551615"), Some(u64::MAX));
    for text in ["18446744073709551616", "-0", "-1", "1.0", "1e3", "1E0", "\"1\"", "true", "null"] {
        assert_eq!(read(text), None, "{text}");
    }
}

#[test]
fn values_say_what_they_are_and_where() {
    let text = r#" { "a" : [1, "\u00e4\n\ud83d\ude00\/", true, null] , "b":{} } "#;
    let document = parse(text).unwrap();
    let root = document.root();
    assert_eq!(root.span(), 1..text.len() - 1);
    let items: Vec<_> = root.get("a").unwrap().items().collect();
    assert_eq!(items[1].as_str().unwrap(), "ä\n😀/");
    assert_eq!(items[1].text_len(), Some(8));
    assert_eq!(items[2].as_bool(), Some(true));
    assert!(items[3].is_null());
    assert!(root.get("b").unwrap().is_empty());
    assert!(!root.is_empty());
    assert!(root.get("c").is_none());
    assert_eq!(root.walk().count(), 9);
    assert_eq!(root.walk().filter(|value| value.is_key()).count(), 2);
}

#[test]
fn pruned_members_are_checked_and_read_as_empty() {
    let limits = Limits { depth: 8, nodes: 20, prune: &["vectors"] };
    let text = format!(r#"{{"vectors":[{{"v":[{}1]}},[[2]]],"usage":{{"n":1}}}}"#, "0,".repeat(15));
    let read = |text: &str| Document::parse(text.as_bytes(), limits).map(|document| document.nodes.len());
    assert_eq!(read(&text), Ok(7));
    let many = text.replace("[[2]]", &["[1,2,3]"; 500].join(","));
    assert_eq!(read(&many), Ok(7));
    assert!(matches!(read(&text.replace("[2]", r#"{"a":1,"a":2}"#)), Err(JsonError::DuplicateKey { .. })));
    assert!(matches!(read(&text.replace("usage", "v\\u0065ctors")), Err(JsonError::DuplicateKey { .. })));
}

#[test]
fn errors_say_what_to_do_and_show_no_control_characters() {
    let error = parse("{\"a\\u001b\":1,\"a\\u001b\":1}").unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"the key "a\\u{1b}" at byte 13 stands twice in one object: send it once"#
    );
}

/// Our reading of a value as the other parser's type.
fn foreign(value: Value<'_>) -> serde_json::Value {
    match value.kind() {
        Kind::Array => value.items().map(foreign).collect(),
        Kind::Object => {
            value.members().map(|member| (member.name().into_owned(), foreign(member.value))).collect()
        }
        Kind::String => value.as_str().unwrap().into(),
        Kind::Null | Kind::Bool | Kind::Number => serde_json::from_str(value.raw()).unwrap(),
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        any::<String>().prop_map(Into::into),
        "[a-z\"\\\\\n]{0,40}".prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::hash_map("[a-zA-Zäß\"\\\\]{0,6}", inner, 0..20)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Escapes every character that is not plain.
fn escaped(text: &str) -> String {
    let mut units = [0; 2];
    text.chars().fold(String::new(), |mut out, ch| {
        if ch.is_ascii() {
            out.push(ch);
        } else {
            out.extend(ch.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04X}")));
        }
        out
    })
}

proptest! {
    #[test]
    fn whatever_another_parser_writes_reads_the_same(wanted in any_json(), pretty: bool, ascii: bool) {
        let text = if pretty { serde_json::to_string_pretty(&wanted) } else { serde_json::to_string(&wanted) };
        let text = if ascii { escaped(&text.unwrap()) } else { text.unwrap() };
        let again: serde_json::Value = serde_json::from_str(&text).unwrap();
        let document = parse(&text).unwrap();
        prop_assert_eq!(foreign(document.root()), again);
        for value in document.root().walk() {
            let alone: serde_json::Value = serde_json::from_str(value.raw()).unwrap();
            prop_assert_eq!(foreign(value), alone);
            prop_assert_eq!(value.text_len(), value.as_str().map(|text| text.len()));
        }
    }

    #[test]
    fn a_cut_member_leaves_the_other_members(wanted in any_json(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&wanted) } else { serde_json::to_string(&wanted) };
        let text = text.unwrap();
        let document = parse(&text).unwrap();
        for object in document.root().walk().filter(|value| value.kind() == Kind::Object) {
            for member in object.members() {
                let mut rest = foreign(object);
                rest.as_object_mut().unwrap().remove(&*member.name());
                let mut cut = text.clone();
                cut.replace_range(member.cut.clone(), "");
                let span = object.span();
                let cut = &cut[span.start..span.end - member.cut.len()];
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(cut).unwrap(), rest);
            }
        }
    }

    /// Damaged JSON: accepted only if the other parser accepts it too, refused only if the other one
    /// refuses it or for what we refuse on purpose.
    #[test]
    fn damage_is_judged_as_another_parser_judges_it(
        wanted in any_json(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..3),
    ) {
        let mut bytes = serde_json::to_vec(&wanted).unwrap();
        for (index, byte, way) in damage {
            if bytes.is_empty() { break }
            let at = index.index(bytes.len());
            let byte = if byte < 128 { b"\"\\{}[]:,0-.eu "[usize::from(byte) % 14] } else { byte };
            match way {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => { bytes.remove(at); }
            }
        }
        let theirs = serde_json::from_slice::<serde_json::Value>(&bytes);
        match Document::parse(&bytes, Limits::REQUEST) {
            Ok(document) => match theirs {
                Ok(theirs) => prop_assert_eq!(foreign(document.root()), theirs),
                Err(error) => prop_assert!(error.to_string().contains("number out of range"), "{}", error),
            },
            Err(JsonError::DuplicateKey { .. }) => {}
            Err(error) => prop_assert!(theirs.is_err(), "{}", error),
        }
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::parse(&bytes, Limits::REQUEST);
    }
}
