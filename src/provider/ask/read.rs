//! Reading a body: strict JSON, then every top-level field by the row's list, then what the form has of
//! its own. Also what all forms share.

use super::{Ask, AskError, Bound, Field, FieldProblem, ModelField, NullBound, Splice};
use super::{
    chat, completions, embeddings, escaped, field, form, gemini, gemini_embeddings, messages, moderations,
    multipart, proto, responses,
};
use super::{images, speech};
use crate::{
    base::json::{Document, Kind, Limits, Value},
    policy::Feature,
    provider::{
        Dialect,
        operation::{Answer, Effect, Form, Hole, Parts, Row},
    },
};

const JSON_TYPE: &str = "application/json";
const FORM_TYPE: &str = "multipart/form-data";
const ESCAPED_TYPE: &str = "application/x-www-form-urlencoded";
const MODEL_NAME_BYTES_MAX: usize = 256;
/// The most answers to one prompt that a provider documents.
pub(super) const CANDIDATES_MAX: u64 = 128;

/// Whether a content type is that of a form in parts, which may bring files.
pub fn is_in_parts(content_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case(FORM_TYPE)
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// Reads the body of a request that matched `row`, in the form that the row has. A row without a body asks for nothing;
/// a JSON body may come without a content type, a form cannot.
pub fn read_body(row: &Row, content_type: Option<&str>, body: &[u8]) -> Result<Ask, AskError> {
    let is = |wanted: &str| content_type.is_some_and(|value| essence(value).eq_ignore_ascii_case(wanted));
    match (row.form, content_type) {
        (Form::Empty, _) if body.is_empty() => Ok(Ask::default()),
        (Form::Empty, _) => Err(AskError::NoBody),
        (Form::Parts(parts), Some(content_type)) if is(FORM_TYPE) => {
            form::read(row, parts, content_type, body)
        }
        // What has no file needs no parts.
        (Form::Parts(Parts::Transcript), Some(content_type))
            if is(ESCAPED_TYPE) && multipart::is_utf8(content_type) =>
        {
            escaped::read(row, Parts::Transcript, body)
        }
        (Form::Parts(Parts::ImageEdit), Some(content_type))
            if is(JSON_TYPE) && multipart::is_utf8(content_type) =>
        {
            read_json(row, images::IMAGES, images::read_edit, body)
        }
        (Form::Parts(_), _) => Err(AskError::ContentType(FORM_TYPE)),
        (_, Some(content_type))
            if !body.is_empty() && (!is(JSON_TYPE) || !multipart::is_utf8(content_type)) =>
        {
            Err(AskError::ContentType(JSON_TYPE))
        }
        _ => read(row, body),
    }
}

/// Reads a JSON body of a request that matched `row`.
pub fn read(row: &Row, body: &[u8]) -> Result<Ask, AskError> {
    let form: ReadForm = match row.form {
        Form::Empty | Form::Parts(_) => return Err(AskError::NotAnObject),
        Form::Chat => chat::read,
        Form::Completions => completions::read,
        Form::Embeddings => embeddings::read,
        Form::Messages => messages::read,
        Form::Moderations => moderations::read,
        Form::Responses => responses::read,
        Form::Compaction => responses::read_compact,
        Form::Generate => gemini::read,
        Form::GeminiCount => gemini::read_count,
        Form::Embed => gemini_embeddings::read,
        Form::EmbedBatch => gemini_embeddings::read_batch,
        Form::Images => images::read,
        Form::Speech => speech::read,
    };
    read_json(row, row.fields, form, body)
}

/// Reads what a form of JSON has of its own.
type ReadForm = fn(Value<'_>, &mut Ask) -> Result<(), AskError>;

fn read_json(row: &Row, fields: &'static [Field], form: ReadForm, body: &[u8]) -> Result<Ask, AskError> {
    let document = Document::parse(body, Limits::REQUEST)?;
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(AskError::NotAnObject);
    }
    let mut ask =
        Ask { insert_at: root.span().start + 1, is_empty_object: root.is_empty(), ..Ask::default() };
    if row.dialect == Dialect::Gemini {
        proto::note(fields, root, &mut ask)?;
    } else {
        for member in root.members() {
            field::note(fields, &member, &mut ask)?;
        }
        read_model(root, &mut ask)?;
    }
    if row.answer == Answer::Array {
        ask.stream = true;
        ask.features.insert(Feature::Streaming);
    }
    form(root, &mut ask)?;
    if row.effect == Effect::Counts && present(root, "store").is_none() {
        // What is counted is not kept.
        ask.features.remove(Feature::Store);
    }
    let is_in_path = matches!(row.template.hole(), Some(Hole::Model | Hole::Deployment));
    if ask.models.is_empty() && !is_in_path && row.form.needs_model() {
        return Err(AskError::ModelRequired);
    }
    Ok(ask)
}

/// Whether a model can have this name: not empty, at most 256 bytes, no control characters, no URL.
pub fn is_model_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MODEL_NAME_BYTES_MAX
        && !name.contains(char::is_control)
        && !name.contains("://")
}

/// Notes the model that the body names, or where it leaves it open.
fn read_model(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(value) = root.get("model") else { return Ok(()) };
    if value.is_null() || value.is_str("") {
        ask.open_model = Some(value.span());
        return Ok(());
    }
    let name = value.as_str().ok_or_else(|| AskError::expected("model", "a string"))?;
    if !is_model_name(&name) {
        return Err(AskError::field("model", FieldProblem::NotAModelName));
    }
    ask.models.push(ModelField { name: name.into_owned(), prefix: "", span: value.span(), is_json: true });
    Ok(())
}

impl Ask {
    /// Reads `stream`.
    pub(super) fn read_stream(&mut self, root: Value<'_>) -> Result<(), AskError> {
        self.stream = flag(root, "stream")?;
        if self.stream {
            self.features.insert(Feature::Streaming);
        }
        Ok(())
    }

    /// Reads `service_tier`.
    pub(super) fn read_service_tier(&mut self, root: Value<'_>) -> Result<(), AskError> {
        self.service_tier = word(root, "service_tier")?;
        Ok(())
    }

    /// Reads one output bound.
    pub(super) fn read_bound(&mut self, root: Value<'_>, field: &'static str) -> Result<(), AskError> {
        let Some(value) = root.get(field) else { return Ok(()) };
        let span = value.span();
        if value.is_null() {
            self.null_bounds.push(NullBound { field, span });
        } else {
            self.output.bounds.push(Bound { field, tokens: count(value, field)?, span });
        }
        Ok(())
    }

    /// Reads `n` and `best_of`; each of `prompts` is answered so many times.
    pub(super) fn read_candidates(&mut self, root: Value<'_>, prompts: u64) -> Result<(), AskError> {
        let (mut candidates, mut given) = (1, 1);
        for field in ["n", "best_of"] {
            if let Some(value) = present(root, field) {
                let wanted = value.as_u64().filter(|count| (1..=CANDIDATES_MAX).contains(count));
                let wanted =
                    wanted.ok_or_else(|| AskError::expected(field, "a whole number from 1 to 128"))?;
                candidates = candidates.max(wanted);
                given = if field == "n" { wanted } else { given };
            }
        }
        self.output.is_withheld = candidates > given;
        self.output.candidates = candidates.saturating_mul(prompts.max(1));
        Ok(())
    }

    /// Reads a text, several texts, tokens, or several lists of tokens, and says how many inputs they are.
    /// Something else among several is an input that is not all in the body.
    pub(super) fn read_prompts(&mut self, value: Value<'_>, field: &str) -> Result<u64, AskError> {
        const WANTED: &str = "a string, an array of strings, or an array of tokens";
        let is_token = |value: &Value<'_>| value.kind() == Kind::Number;
        match value.kind() {
            Kind::Null => return Ok(1),
            Kind::String => self.input.add_text(value),
            Kind::Array if value.items().next().is_some_and(|first| is_token(&first)) => {
                self.read_tokens(value, field)?;
            }
            Kind::Array => {
                let mut prompts = 0;
                for item in value.items() {
                    match item.kind() {
                        Kind::String => self.input.add_text(item),
                        Kind::Array => self.read_tokens(item, field)?,
                        Kind::Object => {
                            self.input.add_rewritten(item);
                            self.input.beyond_body = true;
                            self.add_unknown(field);
                        }
                        Kind::Null | Kind::Bool | Kind::Number => {
                            return Err(AskError::expected(field, WANTED));
                        }
                    }
                    prompts += 1;
                }
                return Ok(prompts);
            }
            Kind::Bool | Kind::Number | Kind::Object => return Err(AskError::expected(field, WANTED)),
        }
        Ok(1)
    }

    fn read_tokens(&mut self, tokens: Value<'_>, field: &str) -> Result<(), AskError> {
        for token in tokens.items() {
            token
                .as_u64()
                .ok_or_else(|| AskError::expected(field, "an array of tokens, each a plain integer"))?;
            self.input.text_bytes = self.input.text_bytes.saturating_add(1);
        }
        Ok(())
    }

    /// Notes what must be put in so that a stream of the `OpenAI` dialect reports its usage.
    pub(super) fn read_stream_options(&mut self, root: Value<'_>) -> Result<(), AskError> {
        const FIELD: &str = "stream_options.include_usage";
        const MEMBER: &str = r#""include_usage":true"#;
        let reports_anyway = root
            .get("usage")
            .and_then(|usage| usage.get("include"))
            .is_some_and(|include| include.as_bool() == Some(true));
        let change = |span, with: String| Some(Splice { field: FIELD, span, with });
        let wanted = match root.get("stream_options") {
            None => Some(self.insertion(FIELD, &format!(r#""stream_options":{{{MEMBER}}}"#))),
            Some(options) if options.is_null() => change(options.span(), format!("{{{MEMBER}}}")),
            Some(options) if options.kind() == Kind::Object => match options.get("include_usage") {
                None => {
                    let at = options.span().start + 1;
                    let comma = if options.is_empty() { "" } else { "," };
                    change(at..at, format!("{MEMBER}{comma}"))
                }
                Some(_) if flag(options, "include_usage")? => None,
                Some(off) => change(off.span(), "true".into()),
            },
            Some(_) => return Err(AskError::expected("stream_options", "an object")),
        };
        self.report_usage = wanted.filter(|_| self.stream && !reports_anyway);
        Ok(())
    }
}

/// The member, unless it is absent or null.
pub(super) fn present<'d>(object: Value<'d>, field: &str) -> Option<Value<'d>> {
    object.get(field).filter(|value| !value.is_null())
}

/// A boolean member; absent and null are false.
pub(super) fn flag(object: Value<'_>, field: &'static str) -> Result<bool, AskError> {
    present(object, field)
        .map_or(Some(false), Value::as_bool)
        .ok_or_else(|| AskError::expected(field, "true or false"))
}

/// A member that is one word of the provider's; absent and null are none.
pub(super) fn word(object: Value<'_>, field: &str) -> Result<Option<String>, AskError> {
    let text = |value: Value<'_>| {
        let text = value.as_str().ok_or_else(|| AskError::expected(field, "a string"))?;
        Ok(crate::base::clip(&text, 64))
    };
    present(object, field).map(text).transpose()
}

pub(super) fn count(value: Value<'_>, field: &str) -> Result<u64, AskError> {
    value.as_u64().ok_or_else(|| AskError::expected(field, "a plain non-negative integer"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_body_in_another_character_set_is_refused() {
        let body = br#"{"model":"m","messages":[]}"#;
        let row = &crate::provider::operation::ROWS[0];
        for good in [None, Some("application/json"), Some("Application/JSON; charset=\"UTF-8\"")] {
            assert!(super::read_body(row, good, body).is_ok(), "{good:?}");
        }
        for bad in ["utf-7", "utf-16", "unicode_escape", "utf-8; charset=utf-7", "iso-8859-1"] {
            let content_type = format!("application/json; charset={bad}");
            assert!(super::read_body(row, Some(&content_type), body).is_err(), "{bad}");
        }
    }

    use super::super::splice;
    use super::*;
    use crate::{base::json::JsonError, provider::operation::ROWS};

    fn chat(body: &str) -> Result<Ask, AskError> {
        read(&ROWS[0], body.as_bytes())
    }

    #[test]
    fn a_body_without_a_usable_model_is_refused() {
        assert_eq!(chat("[]"), Err(AskError::NotAnObject));
        assert_eq!(chat(""), Err(AskError::Json(JsonError::Empty)));
        for body in ["{}", r#"{"model":null}"#, r#"{"model":""}"#] {
            assert_eq!(chat(body), Err(AskError::ModelRequired), "{body}");
            assert_eq!(chat(body).unwrap_err().param(), Some("model"));
        }
        let long = "m".repeat(257);
        for model in ["1", r#"["m"]"#, r#""a\nb""#, r#""a\u0000""#, r#""http://evil""#, &format!("{long:?}")]
        {
            let error = chat(&format!(r#"{{"model":{model}}}"#)).unwrap_err();
            assert!(matches!(error, AskError::Field { .. }), "{model}");
        }
        let twice = r#"{"model":"cheap","mod\u0065l":"dear"}"#;
        assert!(matches!(chat(twice), Err(AskError::Json(JsonError::DuplicateKey { .. }))));
    }

    #[test]
    fn the_model_is_as_written_and_where_it_stands() {
        let body = r#"{"messages":[],"model" : "openai\/gpt-4o "}"#;
        let model = chat(body).unwrap().models.remove(0);
        assert_eq!(model.name, "openai/gpt-4o ");
        assert_eq!(&body[model.span], r#""openai\/gpt-4o ""#);
    }

    #[test]
    fn bounds_and_switches_must_be_plain() {
        for member in [
            r#""max_tokens":1.0"#,
            r#""max_tokens":1e9"#,
            r#""max_tokens":-1"#,
            r#""max_tokens":-0"#,
            r#""max_tokens":"5""#,
            r#""max_completion_tokens":99999999999999999999"#,
            r#""n":1.5"#,
            r#""n":0"#,
            r#""n":-1"#,
            r#""n":1000"#,
            r#""best_of":129"#,
            r#""n":"2""#,
            r#""stream":1"#,
            r#""stream":"true""#,
            r#""service_tier":1"#,
            r#""stream_options":[]"#,
            r#""stream_options":{"include_usage":1}"#,
        ] {
            let error = chat(&format!(r#"{{"model":"m",{member}}}"#)).unwrap_err();
            assert!(matches!(error, AskError::Field { .. }), "{member}");
        }
        let ask =
            chat(r#"{"model":"m","max_tokens":null,"n":null,"stream":null,"service_tier":null}"#).unwrap();
        assert!(ask.output.bounds.is_empty() && !ask.stream && ask.service_tier.is_none());
        assert_eq!(ask.output.candidates, 1);
    }

    #[test]
    fn a_stream_is_made_to_report_its_usage() {
        let spliced = |body: &str| {
            let ask = chat(body).unwrap();
            ask.report_usage.map(|change| splice(body.as_bytes(), vec![change]).unwrap())
        };
        for (options, wanted) in [
            ("", r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
            (
                r#","stream_options":null"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#","stream_options":{}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#","stream_options":{"a":1}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true,"a":1}}"#,
            ),
            (
                r#","stream_options":{"include_usage": false}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage": true}}"#,
            ),
            (
                r#","stream_options":{"include_usage":null}"#,
                r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            ),
        ] {
            let body = format!(r#"{{"model":"m","stream":true{options}}}"#);
            assert_eq!(spliced(&body).as_deref(), Some(wanted.as_bytes()), "{options}");
        }
        assert_eq!(spliced(r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#), None);
        assert_eq!(spliced(r#"{"model":"m","stream":true,"usage":{"include":true}}"#), None);
        assert_eq!(spliced(r#"{"model":"m","stream":false}"#), None);
    }
}
