//! A valid request for each row of the operation table. A new form does not compile until there is a body for it, so
//! that whatever is held against all rows is held against it, too.

use super::{DIALECTS, also};
use crate::support::server::TestServer;
use bitting::provider::operation::{Form, Hole, Parts, Row};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The model of every body here, and of every path that names one.
pub(super) const MODEL: &str = "sandbox-mini";

const BOUNDARY: &str = "a-boundary-of-its-own";

/// What the body says; `None` where the form has none.
#[derive(Clone)]
pub(super) enum Said {
    Json(Value),
    /// Fields, and files with their content.
    Parts(Vec<(&'static str, String)>, Vec<(&'static str, &'static str)>),
}

/// The least that a form is valid with.
pub(super) fn said(form: Form) -> Option<Said> {
    let contents = json!([{"role": "user", "parts": [{"text": "hello"}]}]);
    let messages = json!([{"role": "user", "content": "hello"}]);
    let name = format!("models/{MODEL}");
    let fields = match form {
        Form::Empty => return None,
        Form::Chat | Form::Messages => json!({"model": MODEL, "messages": messages, "max_tokens": 16}),
        Form::Completions => json!({"model": MODEL, "prompt": "hello", "max_tokens": 16}),
        Form::Embeddings | Form::Responses | Form::Compaction | Form::Moderations => {
            json!({"model": MODEL, "input": "hello"})
        }
        Form::Generate | Form::GeminiCount => json!({"contents": contents}),
        Form::Embed => json!({"content": contents[0]}),
        Form::EmbedBatch => json!({"requests": [{"model": name, "content": contents[0]}]}),
        Form::Images => json!({"model": MODEL, "prompt": "hello"}),
        Form::Speech => json!({"model": MODEL, "input": "hello", "voice": "alloy"}),
        Form::Parts(parts) => return Some(said_in_parts(parts)),
    };
    Some(Said::Json(fields))
}

fn said_in_parts(parts: Parts) -> Said {
    match parts {
        Parts::Upload => Said::Parts(vec![("purpose", "user_data".to_owned())], vec![("file", "content")]),
        Parts::ImageEdit => {
            let fields = vec![("model", MODEL.to_owned()), ("prompt", "hello".to_owned())];
            Said::Parts(fields, vec![("image", "content")])
        }
        Parts::ImageVariation => Said::Parts(vec![("model", MODEL.to_owned())], vec![("image", "content")]),
        Parts::Transcript => Said::Parts(vec![("model", MODEL.to_owned())], vec![("file", "content")]),
    }
}

impl Said {
    /// The same with one more field, or another value of one.
    pub(super) fn with(self, field: &'static str, value: &Value) -> Self {
        match self {
            Self::Json(mut fields) => {
                fields[field] = value.clone();
                Self::Json(fields)
            }
            Self::Parts(mut fields, files) => {
                fields.retain(|(name, _)| *name != field);
                fields.push((field, value.as_str().map_or_else(|| value.to_string(), str::to_owned)));
                Self::Parts(fields, files)
            }
        }
    }

    /// Whether it names the model.
    pub(super) fn names_model(&self) -> bool {
        match self {
            Self::Json(fields) => fields.get("model").is_some() || fields.get("requests").is_some(),
            Self::Parts(fields, _) => fields.iter().any(|(name, _)| *name == "model"),
        }
    }

    /// The output bound that it states.
    pub(super) fn bound(&self) -> Option<u64> {
        match self {
            Self::Json(fields) => fields.get("max_tokens").and_then(Value::as_u64),
            Self::Parts(..) => None,
        }
    }

    fn written(&self) -> (String, Bytes) {
        match self {
            Self::Json(fields) => ("application/json".to_owned(), fields.to_string().into()),
            Self::Parts(fields, files) => {
                let mut body = String::new();
                let mut part = |head: &str, content: &str| {
                    let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}");
                    write!(body, "{head}\r\n\r\n{content}\r\n").unwrap();
                };
                for (name, value) in fields {
                    part(&format!("name=\"{name}\""), value);
                }
                for (name, content) in files {
                    let head = format!("name=\"{name}\"; filename=\"a.txt\"\r\nContent-Type: text/plain");
                    part(&head, content);
                }
                write!(body, "--{BOUNDARY}--\r\n").unwrap();
                (format!("multipart/form-data; boundary={BOUNDARY}"), body.into())
            }
        }
    }
}

/// Whether a request of the row names a model, in its path or in its body.
pub(super) fn names_model(row: &Row) -> bool {
    let in_path = matches!(row.template.hole(), Some(Hole::Model | Hole::Deployment));
    in_path || said(row.form).is_some_and(|said| said.names_model())
}

/// The request of a row under a provider, as a client of its dialect makes it; a path that names an object names `object`.
pub(super) fn request(
    server: &TestServer,
    (row, provider): (&Row, &str),
    secret: &str,
    object: &str,
    said: Option<&Said>,
) -> Request<Full<Bytes>> {
    let named = if row.template.hole() == Some(Hole::Object) { object } else { MODEL };
    let (_, header, version) = DIALECTS.iter().find(|(name, ..)| *name == row.dialect.as_str()).unwrap();
    let key = if *header == "authorization" { format!("Bearer {secret}") } else { secret.to_owned() };
    let uri = format!("{}/p/{provider}{}", server.proxy, row.template.path(named));
    let request = Request::builder().method(row.method.clone()).uri(uri).header(*header, key);
    let (content_type, body) = said.map(Said::written).unzip();
    let request =
        content_type.into_iter().fold(request, |request, kind| request.header("content-type", kind));
    let request = request.body(Full::new(body.unwrap_or_default())).unwrap();
    let version: Vec<(&str, &str)> = version.iter().map(|name| (*name, "2023-06-01")).collect();
    also(request, &version)
}
