//! Google's `embedContent` and `batchEmbedContents`: input only.

use super::{Ask, AskError, Field, Role, gemini, proto};
use crate::base::json::{Kind, Value};

/// The fields of one embedding.
pub const EMBED: &[Field] = &[
    f("content", Role::Input),
    f("embedContentConfig", Role::Neutral),
    f("model", Role::Own),
    f("outputDimensionality", Role::Neutral),
    f("taskType", Role::Neutral),
    f("title", Role::Input),
];

/// The fields of several at once.
pub const EMBED_BATCH: &[Field] = &[f("model", Role::Own), f("requests", Role::Own)];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    gemini::read_model(root, ask)?;
    match proto::get(root, "content") {
        Some(content) => gemini::read_content(content, "content", ask),
        None => Ok(()),
    }
}

pub(super) fn read_batch(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    const WANTED: &str = "an array of requests, each an object";
    gemini::read_model(root, ask)?;
    let Some(requests) = proto::get(root, "requests") else { return Ok(()) };
    if requests.kind() != Kind::Array {
        return Err(AskError::expected("requests", WANTED));
    }
    for request in requests.items() {
        if request.kind() != Kind::Object {
            return Err(AskError::expected("requests", WANTED));
        }
        proto::note(EMBED, request, ask)?;
        read(request, ask)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{read, splice};
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;
    use http::Method;

    fn ask(action: &str, body: &str) -> Result<Ask, AskError> {
        let path = format!("/v1beta/models/gemini-embedding:{action}");
        read(find(&Method::POST, &path, Dialect::Gemini).unwrap().row, body.as_bytes())
    }

    #[test]
    fn each_content_is_an_input() {
        let one = r#"{"content":{"parts":[{"text":"abc"}]},"taskType":"X"}"#;
        let single = ask("embedContent", one).unwrap();
        assert_eq!((single.input.messages, single.stream), (1, false));
        let body = format!(r#"{{"requests":[{one},{one},{one}]}}"#);
        let three = ask("batchEmbedContents", &body).unwrap();
        assert_eq!(three.input.messages, 3);
        assert_eq!(three.input.text_bytes, 3 * single.input.text_bytes);
        assert!(three.unknown_fields.is_empty());
    }

    #[test]
    fn every_model_in_a_batch_is_one_more_answer_to_which() {
        let body = r#"{"requests":[{"model":"models/a","content":{}},{"model":"models/b","content":{}}]}"#;
        let two = ask("batchEmbedContents", body).unwrap();
        let names: Vec<_> = two.models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        let sent = splice(body.as_bytes(), two.model_splices("c").collect()).unwrap();
        assert_eq!(sent, body.replace("models/a", "models/c").replace("models/b", "models/c"));
    }

    #[test]
    fn forms_that_cannot_be_judged_are_refused() {
        for (action, body) in [
            ("embedContent", r#"{"content":"x"}"#),
            ("embedContent", r#"{"content":[]}"#),
            ("batchEmbedContents", r#"{"requests":{}}"#),
            ("batchEmbedContents", r#"{"requests":[1]}"#),
            ("batchEmbedContents", r#"{"requests":[{"Content":{}}]}"#),
        ] {
            assert!(ask(action, body).is_err(), "{body}");
        }
    }
}
