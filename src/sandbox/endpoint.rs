//! What is called: method and path on one side, an endpoint on the other.
//!
//! Paths are matched whole, segment by segment; each segment is decoded once. Azure has the same endpoints below
//! `/openai/v1/...`, and below `/openai/deployments/{deployment}/...` those that are older; there the deployment is the
//! model and the query names an `api-version`.

use super::call::{Answer, Call, Work};
use super::models::{self, Model};
use super::refusal::{Dialect, Refusal};
use super::{audio, chat, completions, embeddings, files, gemini, images, messages, moderations, responses};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use serde_json::Value;

/// What is called, once the path is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Responses(responses::Action),
    Embeddings,
    Images(images::Action),
    Audio(audio::Action),
    Moderations,
    Files(files::Action),
    Messages,
    MessagesCount,
    /// The model and action of a Gemini path.
    Gemini {
        model: String,
        action: gemini::Action,
    },
    Models,
    Model(String),
    Unknown,
}

/// Whose path it was.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// The provider's own.
    Plain,
    /// Azure's; `None` below `/openai/v1`.
    Azure { deployment: Option<String> },
}

/// An endpoint where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) endpoint: Endpoint,
    place: Place,
}

impl Target {
    /// Finds what a request calls.
    pub(super) fn find(parts: &Parts) -> Self {
        let path = parts.uri.path();
        let query = parts.uri.query().unwrap_or_default();
        let has = |wanted: &str| query.split('&').any(|pair| pair == wanted);
        let deployed = || path.strip_prefix("/openai/deployments/")?.split_once('/');
        let (place, below) = if let Some((deployment, below)) = deployed() {
            (Place::Azure { deployment: Some(decode(deployment)) }, below)
        } else if let Some(below) = path.strip_prefix("/openai/v1/") {
            (Place::Azure { deployment: None }, below)
        } else if let Some(below) = path.strip_prefix("/v1beta/").or_else(|| path.strip_prefix("/v1/")) {
            (Place::Plain, below)
        } else {
            return Self { endpoint: Endpoint::Unknown, place: Place::Plain };
        };
        let segments: Vec<String> = below.split('/').map(decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let endpoint = match &place {
            Place::Azure { deployment: Some(_) } => deployable(&parts.method, &segments),
            Place::Azure { deployment: None } => {
                deployable(&parts.method, &segments).or_else(|| of_openai(&parts.method, &segments))
            }
            Place::Plain if path.starts_with("/v1beta/") => {
                of_gemini(&parts.method, &segments, has("alt=sse"))
            }
            Place::Plain => deployable(&parts.method, &segments)
                .or_else(|| of_gemini(&parts.method, &segments, has("alt=sse")))
                .or_else(|| of_openai(&parts.method, &segments))
                .or_else(|| of_anthropic(&parts.method, &segments)),
        };
        Self { endpoint: endpoint.unwrap_or(Endpoint::Unknown), place }
    }

    /// In whose manner it is answered.
    pub(super) fn dialect(&self, parts: &Parts) -> Dialect {
        let is_anthropic = parts.headers.contains_key("anthropic-version");
        match self.endpoint {
            _ if self.place != Place::Plain || parts.uri.path().starts_with("/openai/") => Dialect::Azure,
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses(_)
            | Endpoint::Embeddings
            | Endpoint::Images(_)
            | Endpoint::Audio(_)
            | Endpoint::Moderations => Dialect::OpenAi,
            Endpoint::Messages | Endpoint::MessagesCount => Dialect::Anthropic,
            Endpoint::Gemini { .. } => Dialect::Gemini,
            Endpoint::Files(_) => {
                if is_anthropic {
                    Dialect::Anthropic
                } else {
                    Dialect::OpenAi
                }
            }
            Endpoint::Models | Endpoint::Model(_) | Endpoint::Unknown => {
                if is_anthropic {
                    Dialect::Anthropic
                } else if speaks_gemini(&parts.headers) || parts.uri.path().starts_with("/v1beta/") {
                    Dialect::Gemini
                } else {
                    Dialect::OpenAi
                }
            }
        }
    }

    /// How its body reads.
    pub(super) fn form(&self) -> Form {
        match &self.endpoint {
            Endpoint::Responses(action) if !action.has_body() => Form::None,
            Endpoint::Files(files::Action::Create)
            | Endpoint::Images(images::Action::Edit | images::Action::Vary)
            | Endpoint::Audio(audio::Action::Transcribe | audio::Action::Translate) => Form::Multipart,
            Endpoint::Files(_) | Endpoint::Models | Endpoint::Model(_) | Endpoint::Unknown => Form::None,
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses(_)
            | Endpoint::Embeddings
            | Endpoint::Images(images::Action::Generate)
            | Endpoint::Audio(audio::Action::Speak)
            | Endpoint::Moderations
            | Endpoint::Messages
            | Endpoint::MessagesCount
            | Endpoint::Gemini { .. } => Form::Json,
        }
    }

    /// The model that is called. What Azure wants in the query is asked for first, as there.
    pub(super) fn model(&self, body: &Value, parts: &Parts) -> Result<Option<Model>, Refusal> {
        if let Place::Azure { deployment: Some(deployment) } = &self.place {
            let query = parts.uri.query().unwrap_or_default();
            let version = query.split('&').find_map(|pair| pair.strip_prefix("api-version="));
            if version.is_none_or(str::is_empty) {
                return Err(Refusal::NoVersion);
            }
            if self.endpoint != Endpoint::Unknown {
                return Model::parse(deployment).map(Some);
            }
        }
        let otherwise = match &self.endpoint {
            Endpoint::Unknown => {
                return Err(Refusal::UnknownPath(format!("{} {}", parts.method, parts.uri.path())));
            }
            Endpoint::Models | Endpoint::Files(_) => return Ok(None),
            Endpoint::Responses(action) if !action.has_body() => return Ok(None),
            Endpoint::Model(name) | Endpoint::Gemini { model: name, .. } => {
                return Model::parse(name).map(Some);
            }
            Endpoint::Images(action) => Some(action.model()),
            Endpoint::Moderations => Some("sandbox-moderation"),
            Endpoint::Responses(responses::Action::Count) => Some("sandbox-mini"),
            Endpoint::Chat
            | Endpoint::Completions
            | Endpoint::Responses(_)
            | Endpoint::Embeddings
            | Endpoint::Audio(_)
            | Endpoint::Messages
            | Endpoint::MessagesCount => None,
        };
        match body.get("model").and_then(Value::as_str).or(otherwise) {
            Some(name) => Model::parse(name).map(Some),
            None if matches!(self.endpoint, Endpoint::Messages | Endpoint::MessagesCount) => {
                Err(Refusal::param("model", "model: Field required"))
            }
            None => Err(Refusal::invalid("you must provide a model parameter")),
        }
    }

    /// Reads the call, answers it, and says what it uses.
    pub(super) fn work(&self, call: &Call) -> Result<Work, Refusal> {
        match &self.endpoint {
            Endpoint::Chat => chat::work(call),
            Endpoint::Completions => completions::work(call),
            Endpoint::Responses(action) => responses::work(call, action),
            Endpoint::Embeddings => embeddings::work(call),
            Endpoint::Images(action) => images::work(call, *action),
            Endpoint::Audio(action) => audio::work(call, *action),
            Endpoint::Moderations => moderations::work(call),
            Endpoint::Files(action) => files::work(call, action),
            Endpoint::Messages => messages::work(call),
            Endpoint::MessagesCount => messages::count(call),
            Endpoint::Gemini { action, .. } => gemini::work(call, *action),
            Endpoint::Models => Ok(Work::free(Answer::Json(models::list(call)))),
            Endpoint::Model(_) | Endpoint::Unknown => Ok(Work::free(Answer::Json(models::one(call)))),
        }
    }
}

/// How a body reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    None,
    Json,
    Multipart,
}

fn speaks_gemini(headers: &HeaderMap) -> bool {
    headers.contains_key("x-goog-api-key")
}

/// What a deployment of Azure has too.
fn deployable(method: &Method, segments: &[&str]) -> Option<Endpoint> {
    if method != Method::POST {
        return None;
    }
    match segments {
        ["chat", "completions"] => Some(Endpoint::Chat),
        ["completions"] => Some(Endpoint::Completions),
        ["embeddings"] => Some(Endpoint::Embeddings),
        ["images", action] => images::Action::parse(action).map(Endpoint::Images),
        ["audio", action] => audio::Action::parse(action).map(Endpoint::Audio),
        _ => None,
    }
}

fn of_openai(method: &Method, segments: &[&str]) -> Option<Endpoint> {
    match (method.as_str(), segments) {
        ("POST", ["moderations"]) => Some(Endpoint::Moderations),
        ("GET", ["models"]) => Some(Endpoint::Models),
        ("GET", ["models", name]) => Some(Endpoint::Model((*name).to_owned())),
        (method, ["responses", rest @ ..]) => responses::Action::parse(method, rest).map(Endpoint::Responses),
        (method, ["files", rest @ ..]) => files::Action::parse(method, rest).map(Endpoint::Files),
        _ => None,
    }
}

fn of_anthropic(method: &Method, segments: &[&str]) -> Option<Endpoint> {
    match (method.as_str(), segments) {
        ("POST", ["messages"]) => Some(Endpoint::Messages),
        ("POST", ["messages", "count_tokens"]) => Some(Endpoint::MessagesCount),
        _ => None,
    }
}

/// A model and its action are one segment: `{model}:{action}`.
fn of_gemini(method: &Method, segments: &[&str], events: bool) -> Option<Endpoint> {
    match (method.as_str(), segments) {
        ("GET", ["models"]) => Some(Endpoint::Models),
        ("GET", ["models", name]) => Some(Endpoint::Model((*name).to_owned())),
        ("POST", ["models", target]) => {
            let (model, action) = target.rsplit_once(':')?;
            let action = gemini::Action::parse(action, events)?;
            Some(Endpoint::Gemini { model: model.to_owned(), action })
        }
        _ => None,
    }
}

/// A segment with its `%XX` decoded; what is not one stays.
fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let byte = (*first == b'%')
            .then(|| after.get(..2))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(method: &str, uri: &str) -> (Endpoint, Dialect) {
        let request = axum::http::Request::builder().method(method).uri(uri).body(()).unwrap();
        let parts = request.into_parts().0;
        let target = Target::find(&parts);
        let dialect = target.dialect(&parts);
        (target.endpoint, dialect)
    }

    #[test]
    fn a_path_is_one_endpoint_whole() {
        for (method, uri, endpoint, dialect) in [
            ("POST", "/v1/chat/completions", Endpoint::Chat, Dialect::OpenAi),
            ("POST", "/openai/deployments/a%2Bb/embeddings", Endpoint::Embeddings, Dialect::Azure),
            ("POST", "/openai/v1/moderations", Endpoint::Moderations, Dialect::Azure),
            ("POST", "/openai/deployments/a/moderations", Endpoint::Unknown, Dialect::Azure),
            ("POST", "/openai/elsewhere", Endpoint::Unknown, Dialect::Azure),
            ("POST", "/v1/images/edits", Endpoint::Images(images::Action::Edit), Dialect::OpenAi),
            (
                "DELETE",
                "/v1/files/a",
                Endpoint::Files(files::Action::Delete("a".to_owned())),
                Dialect::OpenAi,
            ),
            ("GET", "/v1/chat/completions", Endpoint::Unknown, Dialect::OpenAi),
            ("POST", "/v1/chat/completions/", Endpoint::Unknown, Dialect::OpenAi),
            ("POST", "/v1beta/chat/completions", Endpoint::Unknown, Dialect::Gemini),
            ("GET", "/v1beta/models/a%2bb%", Endpoint::Model("a+b%".to_owned()), Dialect::Gemini),
        ] {
            assert_eq!(find(method, uri), (endpoint, dialect), "{method} {uri}");
        }
    }
}
