//! The admin plane's JSON bodies: read whole, refused when they can be read in two ways, and answered with
//! the JSON pointer of what is wrong.

use crate::http::{BodyBound, Problem, read_body};
use axum::body::Body;
use axum::extract::{FromRef, FromRequest};
use http::Request;
use http::header::CONTENT_TYPE;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_path_to_error::{Path, Segment};
use std::collections::HashSet;
use std::fmt;

/// A body of `application/json` that is a `T` and nothing else. Types refuse what they do not know by
/// `#[serde(deny_unknown_fields)]`.
///
/// The state says how large a body may be and how long it may take.
pub struct StrictJson<T>(pub T);

impl<S, T> FromRequest<S> for StrictJson<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
    BodyBound: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let content_type =
            parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        if !is_json(content_type) {
            let detail = "send the body as JSON, with Content-Type: application/json";
            return Err(Problem::unsupported_media_type("unsupported_media_type", detail));
        }
        let bytes = read_body(&parts.headers, body, BodyBound::from_ref(state)).await?;
        parse_strict(&bytes).map(Self)
    }
}

fn is_json(content_type: &str) -> bool {
    let (kind, parameters) = content_type.split_once(';').unwrap_or((content_type, ""));
    let utf8 = |parameter: &str| match parameter.trim().split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("charset") => {
            value.trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    };
    kind.trim().eq_ignore_ascii_case("application/json") && parameters.split(';').all(utf8)
}

/// Reads one JSON text as a `T`. The problem names the field, and never repeats the value that was sent: it may be a
/// secret in the wrong place.
pub fn parse_strict<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    refuse_duplicates(bytes)?;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let pointer = pointer(error.path());
        wrong_field(pointer, error.inner())
    })?;
    reader.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    let detail = format!("the body is not JSON (line {line}, column {column})");
    Problem::bad_request("invalid_body", detail)
}

fn wrong_field(pointer: String, error: &serde_json::Error) -> Problem {
    if !error.is_data() {
        return not_json(error);
    }
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _position)| text);
    if let Some(expected) = text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')) {
        let known = expected.1.trim_start_matches(", ");
        let detail = format!("there is no field {pointer}");
        return Problem::bad_request("unknown_field", detail)
            .with_field(pointer, format!("unknown; {known}"));
    }
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let pointer = format!("{pointer}/{}", escape(name));
        let detail = format!("{pointer} is required");
        return Problem::bad_request("missing_field", detail).with_field(pointer, "required");
    }
    let why = match text.split_once("expected ") {
        Some((standard, expected)) if STANDARD.iter().any(|start| standard.starts_with(start)) => {
            format!("expected {expected}")
        }
        _ => text.to_owned(),
    };
    let place = if pointer.is_empty() { "the body" } else { &pointer };
    Problem::bad_request("invalid_field", format!("{place}: {why}")).with_field(pointer, why)
}

/// How serde's own messages begin, in which what was sent comes before what was expected.
const STANDARD: [&str; 4] = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];

/// RFC 6901.
fn pointer(path: &Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", escape(key)),
        // A variant's name is no part of an internally tagged object, which ours are.
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

fn escape(key: &str) -> String {
    let shown = if key.len() > KEY_SHOWN_BYTES { KEY_BEGINNING_BYTES } else { KEY_SHOWN_BYTES };
    crate::base::clip(key, shown).replace('~', "~0").replace('/', "~1")
}

/// The longest key that is repeated whole. Ours are shorter; a secret that was sent for a key by mistake is longer.
const KEY_SHOWN_BYTES: usize = 28;
/// How much of a longer one is repeated.
const KEY_BEGINNING_BYTES: usize = 12;

/// Refuses an object that names a key twice (after unescaping), and what is not JSON at all.
fn refuse_duplicates(bytes: &[u8]) -> Result<(), Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    match (Once { pointer: String::new() }).deserialize(&mut reader).and_then(|()| reader.end()) {
        Ok(()) => Ok(()),
        Err(error) if error.is_data() => {
            let text = error.to_string();
            let twice = text.rsplit_once(" at line ").map_or(text.as_str(), |(pointer, _position)| pointer);
            let problem = Problem::bad_request("invalid_body", format!("{twice} is given twice"));
            Err(problem.with_field(twice, "given twice"))
        }
        Err(error) => Err(not_json(&error)),
    }
}

/// Walks a value; its only error of its own is the pointer of a key that is there already.
struct Once {
    pointer: String,
}

impl<'de> DeserializeSeed<'de> for Once {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut index = 0_usize;
        while items.next_element_seed(Self { pointer: format!("{}/{index}", self.pointer) })?.is_some() {
            index += 1;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            let pointer = format!("{}/{}", self.pointer, escape(&key));
            if !seen.insert(key) {
                return Err(serde::de::Error::custom(pointer));
            }
            entries.next_value_seed(Self { pointer })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::time::Duration;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Mint {
        name: String,
        #[serde(default)]
        budgets: Vec<Budget>,
        ip_allow: Option<crate::base::CidrSet>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Budget {
        limit_usd: crate::base::NanoUsd,
        window: Window,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Window {
        Day,
        Month,
    }

    fn refusal(text: &str) -> (&'static str, String, String) {
        let problem = parse_strict::<Mint>(text.as_bytes()).unwrap_err();
        assert_eq!(problem.status(), 400);
        let (field, detail) = match problem.errors() {
            [error] => (error.field.clone(), error.detail.clone()),
            _ => (String::new(), problem.detail().to_owned()),
        };
        (problem.code(), field, detail)
    }

    #[test]
    fn what_is_wrong_is_named_by_pointer() {
        let cases = [
            (r#"{"name": "a", "modles": []}"#, "unknown_field", "/modles"),
            (r#"{"name": "a", "a/b~c": 1}"#, "unknown_field", "/a~1b~0c"),
            (
                r#"{"name": "a", "budgets": [{"limit_usd": "1", "window": "day", "x": 1}]}"#,
                "unknown_field",
                "/budgets/0/x",
            ),
            (r#"{"budgets": []}"#, "missing_field", "/name"),
            (r#"{"name": "a", "budgets": [{"limit_usd": "1"}]}"#, "missing_field", "/budgets/0/window"),
            (r#"{"name": 5}"#, "invalid_field", "/name"),
            (
                r#"{"name": "a", "budgets": [{"limit_usd": "1,5", "window": "day"}]}"#,
                "invalid_field",
                "/budgets/0/limit_usd",
            ),
            (
                r#"{"name": "a", "budgets": [{"limit_usd": "1", "window": "never"}]}"#,
                "invalid_field",
                "/budgets/0/window",
            ),
            (r#"{"name": "a", "ip_allow": ["10.0.0.1/8", "::/0"]}"#, "invalid_field", "/ip_allow/0"),
            (r#"{"name": "a", "name": "b"}"#, "invalid_body", "/name"),
            (r#"{"name": "a", "na\u006de": "b"}"#, "invalid_body", "/name"),
            (
                r#"{"name": "a", "budgets": [{"window": "day", "window": "day"}]}"#,
                "invalid_body",
                "/budgets/0/window",
            ),
            (r#"{"name": "a"} {"#, "invalid_body", ""),
            ("\u{feff}{\"name\": \"a\"}", "invalid_body", ""),
            (r#"{"name": "a",}"#, "invalid_body", ""),
            ("", "invalid_body", ""),
            ("[]", "invalid_field", ""),
        ];
        for (text, code, field) in cases {
            let (got, at, _) = refusal(text);
            assert_eq!((got, at.as_str()), (code, field), "{text}");
        }
        let deep = "[".repeat(1000);
        assert_eq!(refusal(&deep).0, "invalid_body");
        assert!(
            parse_strict::<Mint>(br#"{"name": "a", "budgets": [{"limit_usd": "1", "window": "month"}]}"#)
                .is_ok()
        );
    }

    #[test]
    fn a_detail_says_what_to_write_and_not_what_was_written() {
        for text in [
            r#"{"name": ["sk-live-canary"]}"#,
            r#"{"name": "a", "budgets": "sk-live-canary"}"#,
            r#"{"name": "a", "budgets": [{"limit_usd": "1", "window": "sk-live-canary"}]}"#,
        ] {
            let problem = parse_strict::<Mint>(text.as_bytes()).unwrap_err();
            assert!(!format!("{problem:?}").contains("canary"), "{problem:?}");
            assert!(problem.detail().contains("expected "), "{problem:?}");
        }
    }

    #[derive(Clone)]
    struct State;

    impl FromRef<State> for BodyBound {
        fn from_ref(_: &State) -> Self {
            let room = crate::http::BodyRoom::new(1 << 20);
            Self { bytes_max: 32, read_timeout: Duration::from_secs(5), room }
        }
    }

    #[tokio::test]
    async fn only_json_of_a_bounded_size_is_read() {
        let read = async |content_type: &str, body: &str| {
            let request = Request::post("/")
                .header(CONTENT_TYPE, content_type)
                .body(Body::from(body.to_owned()))
                .unwrap();
            match StrictJson::<Mint>::from_request(request, &State).await {
                Ok(StrictJson(mint)) => (200, mint.name),
                Err(problem) => (problem.status().as_u16(), problem.code().to_owned()),
            }
        };
        let body = r#"{"name": "a"}"#;
        for kind in
            ["application/json", "Application/JSON; charset=UTF-8", "application/json;charset=\"utf-8\""]
        {
            assert_eq!(read(kind, body).await, (200, "a".to_owned()), "{kind}");
        }
        for kind in
            ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
        {
            assert_eq!(read(kind, body).await.0, 415, "{kind}");
        }
        assert_eq!(read("application/json", &" ".repeat(33)).await, (413, "body_too_large".to_owned()));
    }
}
