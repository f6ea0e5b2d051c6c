//! The strict JSON reader against serde_json: it accepts what that one accepts, less what readers are known to differ on,
//! and says of it the same. Then the ask readers of every row, over the same bytes: where they accept, what they would
//! change of the body is what they say and nothing else.

#![no_main]

use bitting::base::json::{Document, JsonError, Kind, Limits, Value};
use bitting::policy::Operation;
use bitting::provider::Dialect;
use bitting::provider::ask::{self, Ask, Splice};
use bitting::provider::operation::{Form, ROWS, Row};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// JSON as serde_json reads it, with every member that is there.
#[derive(Debug, PartialEq)]
enum Tree {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Array(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Tree;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_unit<E>(self) -> Result<Tree, E> {
                Ok(Tree::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
                Ok(Tree::Bool(value))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
                Ok(Tree::Number(value as f64))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
                Ok(Tree::Number(value))
            }
            fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
                Ok(Tree::Text(value.to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(Tree::Array(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Tree, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = from.next_entry()? {
                    members.push(member);
                }
                Ok(Tree::Object(members))
            }
        }
        from.deserialize_any(Reader)
    }
}

impl Tree {
    fn has_twin_keys(&self) -> bool {
        match self {
            Self::Array(items) => items.iter().any(Self::has_twin_keys),
            Self::Object(members) => members.iter().enumerate().any(|(at, (key, value))| {
                value.has_twin_keys() || members[..at].iter().any(|(other, _)| other == key)
            }),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => false,
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Self::Object(members) => 1 + members.iter().map(|member| member.1.depth()).max().unwrap_or(0),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Text(_) => 0,
        }
    }
}

/// Holds one value against what serde_json says it is, and its places against one another.
fn compare(value: Value<'_>, theirs: &Tree, body: &[u8]) {
    let span = value.span();
    assert_eq!(&body[span.clone()], value.raw().as_bytes());
    match (value.kind(), theirs) {
        (Kind::Null, Tree::Null) => assert!(value.is_null()),
        (Kind::Bool, Tree::Bool(theirs)) => assert_eq!(value.as_bool(), Some(*theirs)),
        (Kind::Number, Tree::Number(theirs)) => {
            // It rounds the last bit as it comes, for speed.
            let apart = (value.raw().parse::<f64>().expect("it is a number") - theirs).abs();
            assert!(apart <= theirs.abs() * 1e-14 || apart < f64::MIN_POSITIVE);
            let is_plain = value.raw().bytes().all(|byte| byte.is_ascii_digit());
            assert_eq!(value.as_u64(), value.raw().parse().ok().filter(|_| is_plain));
        }
        (Kind::String, Tree::Text(theirs)) => {
            assert_eq!(value.as_str().unwrap(), *theirs);
            assert_eq!(value.text_len(), Some(theirs.len()));
            assert!(value.is_str(theirs) && !value.is_str(&format!("{theirs}.")));
        }
        (Kind::Array, Tree::Array(theirs)) => {
            assert_eq!(value.items().count(), theirs.len());
            assert_eq!(value.is_empty(), theirs.is_empty());
            let mut after = span.start + 1;
            for (item, theirs) in value.items().zip(theirs) {
                assert!(after <= item.span().start && item.span().end < span.end);
                after = item.span().end;
                compare(item, theirs, body);
            }
        }
        (Kind::Object, Tree::Object(theirs)) => {
            assert_eq!(value.members().count(), theirs.len());
            assert_eq!(value.is_empty(), theirs.is_empty());
            let mut after = span.start + 1;
            for (member, (key, theirs)) in value.members().zip(theirs) {
                assert_eq!(member.name(), *key);
                assert!(
                    after <= member.key.span().start && member.key.span().end < member.value.span().start
                );
                assert!(member.value.span().end < span.end);
                after = member.value.span().end;
                assert_eq!(value.get(key).unwrap().span(), member.value.span());
                compare(member.value, theirs, body);
            }
        }
        (kind, theirs) => panic!("{kind:?} is {theirs:?}"),
    }
}

/// Takes each member out of the root by its cut: the rest is the same object without it.
fn cut_each(root: Value<'_>, theirs: &Tree, body: &[u8]) {
    let Tree::Object(members) = theirs else { return };
    for (at, member) in root.members().enumerate() {
        let left = [&body[..member.cut.start], &body[member.cut.end..]].concat();
        let left: Tree = serde_json::from_slice(&left).expect("what is left is JSON");
        let Tree::Object(left) = left else { panic!("what is left is an object") };
        assert_eq!(left.len(), members.len() - 1);
        let rest = members[..at].iter().chain(&members[at + 1..]);
        assert!(rest.zip(&left).all(|(one, other)| one == other));
    }
}

fn read(body: &[u8]) {
    let theirs = serde_json::from_slice::<Tree>(body);
    match (Document::parse(body, Limits::REQUEST), theirs) {
        (Ok(document), Ok(theirs)) => {
            assert!(!theirs.has_twin_keys() && theirs.depth() <= Limits::REQUEST.depth);
            compare(document.root(), &theirs, body);
            cut_each(document.root(), &theirs, body);
        }
        // It keeps numbers that do not fit a double; nobody computes with them here.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("number out of range"), "{error}"),
        (Err(error), Ok(theirs)) => match error {
            JsonError::DuplicateKey { .. } => assert!(theirs.has_twin_keys()),
            JsonError::TooDeep { .. } => assert!(theirs.depth() > Limits::REQUEST.depth),
            other => panic!("refused what serde_json reads: {other}"),
        },
        (Err(error), Err(_)) => assert!(error.at().is_none_or(|at| at <= body.len())),
    }
}

/// Everything that can be changed of an ask, changed at once.
fn changes(row: &Row, ask: &Ask) -> Vec<Splice> {
    // Google's paths name the model, and nothing is put into a body that names none.
    let is_in_path = row.dialect == Dialect::Gemini && ask.models.is_empty();
    let mut changes: Vec<Splice> =
        if is_in_path { Vec::new() } else { ask.model_splices("other/model").collect() };
    if row.takes_bound() && ask.output.bounds.is_empty() {
        let is_response = row.operation == Operation::Responses;
        changes.push(ask.bound_splice(if is_response { "max_output_tokens" } else { "max_tokens" }, 7));
    } else {
        changes.extend(ask.output.bounds.iter().map(|bound| bound.splice(7)));
    }
    changes.extend(ask.report_usage.clone());
    ask.part_insertions(&mut changes);
    changes
}

/// Where a row accepts the body, its changes leave every other byte, and a second reading finds them made.
fn ask(body: &[u8]) {
    let mut forms: Vec<Form> = Vec::new();
    for row in &ROWS {
        if row.form == Form::Empty || forms.contains(&row.form) {
            continue;
        }
        forms.push(row.form);
        let Ok(asked) = ask::read(row, body) else { continue };
        assert!(Document::parse(body, Limits::REQUEST).is_ok(), "an ask is read from strict JSON");
        let mut changes = changes(row, &asked);
        let pieces = ask::pieces(&Bytes::copy_from_slice(body), changes.clone());
        let changed = pieces.expect("changes fit the body and do not overlap").concat();
        let again = ask::read(row, &changed).expect("what was changed is still an ask");
        assert!(again.models.iter().all(|model| model.name == "other/model"));
        assert!(row.takes_bound() <= again.output.bounds.iter().all(|bound| bound.tokens == 7));
        assert!(row.takes_bound() <= !again.output.bounds.is_empty());
        assert!(again.report_usage.is_none());
        assert_eq!(again.stream, asked.stream);
        assert_eq!(again.unknown_fields, asked.unknown_fields);
        // Undone from the end, they give the body back: nothing else was touched.
        changes.sort_by_key(|change| (change.span.start, change.span.end));
        let mut at = changed.len();
        let mut tail = body.len();
        let mut undone = Vec::new();
        for change in changes.iter().rev() {
            let kept = tail - change.span.end;
            undone.push(changed[at - kept..at].to_vec());
            at -= kept;
            assert!(changed[..at].ends_with(change.with.as_bytes()));
            at -= change.with.len();
            undone.push(body[change.span.clone()].to_vec());
            tail = change.span.start;
        }
        undone.push(changed[..at].to_vec());
        undone.reverse();
        assert_eq!(undone.concat(), body);
    }
}

fuzz_target!(|body: &[u8]| {
    read(body);
    ask(body);
});
