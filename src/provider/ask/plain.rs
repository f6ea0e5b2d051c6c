//! The plainest request of a row: what a client sends that wants the operation and nothing more. Who asks what would become
//! of a request gets the answer for this one, read as any other is.

use super::{Ask, AskError, Multipart, read_body};
use crate::provider::operation::{Form, Parts, Row};
use serde_json::{Value, json};

/// What is said of a plain request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain<'p> {
    /// The model as its body names it, where bodies of the row do.
    pub model: Option<&'p str>,
    /// Bytes of its text.
    pub text_bytes: u64,
    /// The output bound that it states.
    pub max_output_tokens: Option<u64>,
}

const BOUNDARY: &str = "plain";

impl Ask {
    /// The ask of a plain request that matches `row`.
    ///
    /// # Errors
    /// As of any body: the row needs a model, or this can be none.
    pub fn plain(row: &Row, of: Plain<'_>) -> Result<Self, AskError> {
        let mut ask = match (body(row.form), row.form) {
            (Some(mut body), _) => {
                if let Some(model) = of.model.filter(|_| names_model(row.form)) {
                    body["model"] = json!(model);
                }
                if let Some((field, bound)) = bound_field(row).zip(of.max_output_tokens) {
                    match field {
                        "maxOutputTokens" => body["generationConfig"] = json!({field: bound}),
                        _ => body[field] = json!(bound),
                    }
                }
                read_body(row, None, body.to_string().as_bytes())?
            }
            (None, Form::Parts(parts)) => {
                let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
                read_body(row, Some(&content_type), form(row, parts, of.model).as_bytes())?
            }
            (None, _) => return read_body(row, None, &[]),
        };
        ask.input.text_bytes = of.text_bytes;
        Ok(ask)
    }
}

/// The body of a JSON form, but for model and bound.
fn body(form: Form) -> Option<Value> {
    let text = json!({"role": "user", "content": ""});
    let content = json!({"role": "user", "parts": [{"text": ""}]});
    Some(match form {
        Form::Empty | Form::Parts(_) => return None,
        Form::Chat | Form::Messages => json!({"messages": [text]}),
        Form::Completions | Form::Images => json!({"prompt": ""}),
        Form::Embeddings | Form::Moderations | Form::Responses | Form::Compaction | Form::Speech => {
            json!({"input": ""})
        }
        Form::Generate | Form::GeminiCount => json!({"contents": [content]}),
        Form::Embed => json!({"content": content}),
        Form::EmbedBatch => json!({"requests": [{"content": content}]}),
    })
}

fn names_model(form: Form) -> bool {
    match form {
        Form::Chat
        | Form::Completions
        | Form::Embeddings
        | Form::Moderations
        | Form::Messages
        | Form::Responses
        | Form::Compaction
        | Form::Images
        | Form::Speech => true,
        Form::Empty
        | Form::Parts(_)
        | Form::Generate
        | Form::GeminiCount
        | Form::Embed
        | Form::EmbedBatch => false,
    }
}

/// Where a request of the row states its output bound.
fn bound_field(row: &Row) -> Option<&'static str> {
    if !row.takes_bound() {
        return None;
    }
    match row.form {
        Form::Chat => Some("max_completion_tokens"),
        Form::Completions | Form::Messages => Some("max_tokens"),
        Form::Responses => Some("max_output_tokens"),
        Form::Generate => Some("maxOutputTokens"),
        Form::Empty
        | Form::Embeddings
        | Form::Moderations
        | Form::Compaction
        | Form::GeminiCount
        | Form::Embed
        | Form::EmbedBatch
        | Form::Images
        | Form::Speech
        | Form::Parts(_) => None,
    }
}

fn form(row: &Row, parts: Parts, model: Option<&str>) -> String {
    let field = |name, value: &str| Multipart::written(BOUNDARY, name, value);
    let named = || model.map(|model| field("model", model)).unwrap_or_default();
    let (fields, file) = match parts {
        Parts::Upload if row.fields.iter().any(|field| field.name == "purpose") => {
            (field("purpose", "user_data"), "file")
        }
        Parts::Upload => (String::new(), "file"),
        Parts::ImageEdit => (named() + &field("prompt", ""), "image"),
        Parts::ImageVariation => (named(), "image"),
        Parts::Transcript => (named(), "file"),
    };
    let head = format!("Content-Disposition: form-data; name=\"{file}\"; filename=\"a\"");
    format!("{fields}--{BOUNDARY}\r\n{head}\r\n\r\n\r\n--{BOUNDARY}--\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::operation::ROWS;

    #[test]
    fn every_row_has_a_plain_request_that_states_what_is_said_of_it() {
        for row in &ROWS {
            let of = Plain { model: Some("m"), text_bytes: 7, max_output_tokens: Some(9) };
            let ask = Ask::plain(row, of).unwrap_or_else(|error| panic!("{}: {error}", row.template));
            assert!(ask.unknown_fields.is_empty(), "{}: {:?}", row.template, ask.unknown_fields);
            assert!(
                ask.unbounded_prices.is_empty() && ask.objects.is_empty() && !ask.input.uncounted_pictures
            );
            let bounds: Vec<u64> = ask.output.bounds.iter().map(|bound| bound.tokens).collect();
            assert_eq!(bounds, if row.takes_bound() { vec![9] } else { vec![] }, "{}", row.template);
            if row.form.needs_model() && row.template.hole().is_none() && row.form != Form::Empty {
                assert_eq!(ask.models[0].name, "m", "{}", row.template);
                assert_eq!(Ask::plain(row, Plain::default()), Err(AskError::ModelRequired));
            }
        }
    }
}
