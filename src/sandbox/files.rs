//! `/v1/files`, as `OpenAI` and Anthropic have it: uploads that stay, and come back byte for byte.

use super::account::Shelf;
use super::call::{Answer, Call, Work};
use super::page::Page;
use super::refusal::{Dialect, Refusal};
use super::tokens::tokens;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};

const FILES_MAX: usize = 256;
const BYTES_MAX: usize = 128 * 1024 * 1024;
const PURPOSES: &[&str] = &["assistants", "batch", "evals", "fine-tune", "user_data", "vision"];

/// A file as its account left it. Clones share the bytes.
#[derive(Clone, Debug)]
pub(super) struct File {
    id: String,
    dialect: Dialect,
    filename: String,
    content_type: String,
    purpose: String,
    created: i64,
    expires: Option<i64>,
    bytes: Bytes,
}

/// What is done with files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    List,
    Show(String),
    Delete(String),
    Content(String),
}

impl Action {
    /// Reads a method and what follows `files` in the path.
    pub(super) fn parse(method: &str, rest: &[&str]) -> Option<Self> {
        match (method, rest) {
            ("POST", []) => Some(Self::Create),
            ("GET", []) => Some(Self::List),
            ("GET", [id]) => Some(Self::Show((*id).to_owned())),
            ("DELETE", [id]) => Some(Self::Delete((*id).to_owned())),
            ("GET", [id, "content"]) => Some(Self::Content((*id).to_owned())),
            _ => None,
        }
    }
}

/// Where files are kept.
pub(super) fn shelf() -> Shelf<File> {
    Shelf::new(FILES_MAX, BYTES_MAX)
}

/// Does it. Files are free.
pub(super) fn work(call: &Call, action: &Action) -> Result<Work, Refusal> {
    let files = call.sandbox.files();
    let answer = match action {
        Action::Create => create(call)?,
        Action::List => list(call)?,
        Action::Show(id) => call.answer(find(call, id)?.describe()),
        Action::Delete(id) => {
            find(call, id)?;
            files.take(&call.key, id);
            call.answer(match call.dialect {
                Dialect::Anthropic => json!({"id": id, "type": "file_deleted"}),
                Dialect::OpenAi | Dialect::Azure | Dialect::Gemini => {
                    json!({"id": id, "object": "file", "deleted": true})
                }
            })
        }
        Action::Content(id) => {
            let file = find(call, id)?;
            Answer::Bytes { content_type: file.content_type, bytes: file.bytes }
        }
    };
    Ok(Work::free(answer))
}

fn create(call: &Call) -> Result<Answer, Refusal> {
    let is_anthropic = call.dialect == Dialect::Anthropic;
    let mut parts = call.form.files("file");
    let (Some(part), None) = (parts.next(), parts.next()) else {
        let told = if is_anthropic { "file: Field required" } else { "'file' is a required property" };
        return Err(Refusal::param("file", told));
    };
    let purpose = call.body["purpose"].as_str();
    if !is_anthropic && purpose.is_none_or(|purpose| !PURPOSES.contains(&purpose)) {
        let told = purpose.map_or_else(
            || "'purpose' is a required property".to_owned(),
            |given| format!("'{given}' is not one of {PURPOSES:?} - 'purpose'"),
        );
        return Err(Refusal::param("purpose", told));
    }
    let lasts = lifetime(call)?;
    let id = call.id("file");
    let file = File {
        id: if is_anthropic { id } else { id.replacen('_', "-", 1) },
        dialect: call.dialect,
        filename: part.filename.clone().unwrap_or_default(),
        content_type: part.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned()),
        purpose: purpose.unwrap_or_default().to_owned(),
        created: call.created,
        expires: lasts.and_then(|seconds| call.created.checked_add(seconds)),
        // The part is a piece of the whole request, which is not to be kept for it.
        bytes: Bytes::copy_from_slice(&part.bytes),
    };
    let answer = call.answer(file.describe());
    call.sandbox.files().keep(&call.key, &file.id.clone(), file.bytes.len(), file);
    Ok(answer)
}

/// How long the file is to be kept, in seconds.
fn lifetime(call: &Call) -> Result<Option<i64>, Refusal> {
    let (field, range) = match call.dialect {
        Dialect::Anthropic => ("expires_in_seconds", 3_600..=7_776_000),
        Dialect::OpenAi | Dialect::Azure | Dialect::Gemini => ("expires_after[seconds]", 3_600..=2_592_000),
    };
    let anchor = &call.body["expires_after[anchor]"];
    let given = &call.body[field];
    if call.dialect != Dialect::Anthropic && anchor.is_null() != given.is_null()
        || !anchor.is_null() && anchor != "created_at"
    {
        let told = "Invalid 'expires_after': give 'anchor', which is 'created_at', and 'seconds'.";
        return Err(Refusal::param("expires_after", told));
    }
    if given.is_null() {
        return Ok(None);
    }
    let seconds = given.as_str().and_then(|digits| digits.parse().ok()).filter(|lasts| range.contains(lasts));
    let told = || Refusal::param(field, format!("Invalid '{field}': it is a whole number in {range:?}."));
    seconds.map(Some).ok_or_else(told)
}

fn list(call: &Call) -> Result<Answer, Refusal> {
    let purpose = call.asked("purpose");
    // Anthropic lists those that the query names, and passes over what is not there.
    let is_id = |name: &str| call.dialect == Dialect::Anthropic && matches!(name, "ids" | "ids[]");
    let named: Vec<&str> =
        call.query.iter().filter(|(name, _)| is_id(name)).flat_map(|(_, ids)| ids.split(',')).collect();
    let all = call.sandbox.files().all(&call.key).into_iter().filter(|file| {
        file.is_of(call.dialect)
            && purpose.is_none_or(|purpose| file.purpose == purpose)
            && (named.is_empty() || named.contains(&file.id.as_str()))
    });
    let (limit, limit_max) = if call.dialect == Dialect::Anthropic { (20, 1_000) } else { (10_000, 10_000) };
    let page = Page::cut(call, all.map(|file| file.describe()).collect(), limit, limit_max)?;
    Ok(call.answer(page.answer(call.dialect)))
}

fn find(call: &Call, id: &str) -> Result<File, Refusal> {
    let found = call.sandbox.files().find(&call.key, id).filter(|file| file.is_of(call.dialect));
    found.ok_or_else(|| match call.dialect {
        Dialect::Anthropic => Refusal::NoObject { message: format!("File not found: {id}"), param: None },
        Dialect::OpenAi | Dialect::Azure | Dialect::Gemini => {
            Refusal::NoObject { message: format!("No such File object: {id}"), param: Some("id") }
        }
    })
}

/// Tokens of the files that a request names by `file_id`: a file counts as if it were in the request. Those that the
/// account does not have are refused.
pub(super) fn named(call: &Call, within: &Value) -> Result<u64, Refusal> {
    match within {
        Value::Array(values) => {
            values.iter().try_fold(0_u64, |sum, value| Ok(sum.saturating_add(named(call, value)?)))
        }
        Value::Object(fields) => fields.iter().try_fold(0_u64, |sum, (name, value)| {
            let more = match (name.as_str(), value) {
                ("file_id", Value::String(id)) => tokens(find(call, id)?.bytes.len()),
                _ => named(call, value)?,
            };
            Ok(sum.saturating_add(more))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(0),
    }
}

impl File {
    fn is_of(&self, dialect: Dialect) -> bool {
        (self.dialect == Dialect::Anthropic) == (dialect == Dialect::Anthropic)
    }

    fn describe(&self) -> Value {
        match self.dialect {
            Dialect::Anthropic => {
                let time = |seconds| {
                    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
                    time.to_rfc3339_opts(SecondsFormat::Secs, true)
                };
                json!({
                    "id": self.id, "type": "file", "filename": self.filename, "mime_type": self.content_type,
                    "size_bytes": self.bytes.len(), "downloadable": true,
                    "created_at": time(self.created), "expires_at": self.expires.map(time),
                })
            }
            Dialect::OpenAi | Dialect::Azure | Dialect::Gemini => json!({
                "id": self.id, "object": "file", "bytes": self.bytes.len(), "created_at": self.created,
                "expires_at": self.expires, "filename": self.filename, "purpose": self.purpose,
                "status": "processed", "status_details": null,
            }),
        }
    }
}
