//! The answer to an upload: the file as the provider describes it, in either dialect.

use crate::base::json::{Kind, Value};
use crate::provider::{Made, ObjectKind, Reading};
use chrono::{DateTime, TimeDelta, Utc};

/// Notes the file that was made. An answer that names none made none that could be named later.
pub(super) fn read_body(root: Value<'_>, reading: &mut Reading) {
    let Some(id) = root.get("id").and_then(Value::as_str) else { return };
    if reading.failed || root.get("type").is_some_and(|kind| kind.is_str("error")) {
        return;
    }
    let file = Made::new(ObjectKind::File, id.into_owned());
    reading.make(Made { expires_after: lifetime(root), document: Some(root.raw().to_owned()), ..file });
}

/// How long the provider keeps it, by the provider's own clock on both ends.
fn lifetime(file: Value<'_>) -> Option<TimeDelta> {
    let lasts = moment(file.get("expires_at")?)? - moment(file.get("created_at")?)?;
    (lasts >= TimeDelta::zero()).then_some(lasts)
}

/// Seconds since 1970 as `OpenAI` tells them, or Anthropic's RFC 3339.
fn moment(value: Value<'_>) -> Option<DateTime<Utc>> {
    match value.kind() {
        Kind::Number => DateTime::from_timestamp(i64::try_from(value.as_u64()?).ok()?, 0),
        Kind::String => Some(DateTime::parse_from_rfc3339(&value.as_str()?).ok()?.to_utc()),
        Kind::Null | Kind::Bool | Kind::Array | Kind::Object => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_json;
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;
    use http::Method;

    fn made(dialect: Dialect, body: &str) -> Vec<Made> {
        let row = find(&Method::POST, "/v1/files", dialect).unwrap().row;
        read_json(row, body.as_bytes()).made
    }

    #[test]
    fn an_uploaded_file_is_noted_with_its_description_and_its_end() {
        let body =
            r#"{"id":"file-1","object":"file","created_at":100,"expires_at":3700, "purpose":"vision"}"#;
        let file = made(Dialect::OpenAi, &format!("{body}\n")).remove(0);
        assert_eq!((file.kind, file.id.as_str()), (ObjectKind::File, "file-1"));
        assert_eq!((file.document.as_deref(), file.expires_after), (Some(body), Some(TimeDelta::hours(1))));
        let body = r#"{"id":"file_1","type":"file","created_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-02T00:00:00.5Z"}"#;
        let file = made(Dialect::Anthropic, body).remove(0);
        assert_eq!(file.expires_after, Some(TimeDelta::days(1) + TimeDelta::milliseconds(500)));
        for body in [
            r#"{"id":"f","created_at":1,"expires_at":null}"#,
            r#"{"id":"f","created_at":1}"#,
            r#"{"id":"f","expires_at":1}"#,
            r#"{"id":"f","created_at":9,"expires_at":1}"#,
            r#"{"id":"f","created_at":"soon","expires_at":1e9}"#,
        ] {
            assert_eq!(made(Dialect::OpenAi, body).remove(0).expires_after, None, "{body}");
        }
    }

    #[test]
    fn an_answer_without_an_id_made_nothing() {
        for body in [
            "",
            "{}",
            "[]",
            r#"{"id":1}"#,
            r#"{"id":"x","error":{"message":"no"}}"#,
            r#"{"type":"error","id":"x"}"#,
        ] {
            assert!(
                made(Dialect::OpenAi, body).is_empty() && made(Dialect::Anthropic, body).is_empty(),
                "{body}"
            );
        }
        let shown = find(&Method::GET, "/v1/files/file-1", Dialect::OpenAi).unwrap().row;
        assert!(read_json(shown, br#"{"id":"file-1"}"#).made.is_empty(), "what is only shown is not made");
    }
}
