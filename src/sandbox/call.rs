//! The life of one call: received, authenticated, understood, worked on at the pace the directives set, answered.
//!
//! Its place in flight begins when it arrives and ends when its answer is complete. Work is billed from the
//! moment it begins, before any delay; a call that is refused costs nothing.

use super::Sandbox;
use super::bill::{InFlight, Meter, Usage};
use super::directive::{Directive, Directives};
use super::models::{self, Model};
use super::refusal::{Dialect, Refusal};
use super::stream::{self, Events};
use super::{chat, completions, embeddings, gemini, messages, responses};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;

/// Vision bodies are 32 MiB at most at the providers; some room above that.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a wrong key begins with.
const BAD_KEY_PREFIX: &str = "sandbox-bad";

/// What is called, once the path is understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
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

/// One call, understood.
#[derive(Debug)]
pub(super) struct Call {
    sandbox: Sandbox,
    pub(super) dialect: Dialect,
    /// `None` for the list of models.
    pub(super) model: Option<Model>,
    pub(super) directives: Directives,
    pub(super) key: String,
    pub(super) body: Value,
    /// When it was received, in Unix seconds.
    pub(super) created: i64,
}

/// What a call comes to.
pub(super) struct Work {
    pub(super) answer: Answer,
    /// `None`: the call is free.
    pub(super) usage: Option<Usage>,
}

/// An answer before it is sent.
pub(super) enum Answer {
    Json(Value),
    Events { content_type: &'static str, events: Events },
}

impl Answer {
    /// Server-sent events.
    pub(super) fn sse(events: impl Iterator<Item = stream::Event> + Send + 'static) -> Self {
        Self::Events { content_type: "text/event-stream; charset=utf-8", events: Box::new(events) }
    }
}

impl Call {
    /// A new id. Ids are unique over restarts: others keep them as names of things.
    pub(super) fn id(&self, prefix: &str) -> String {
        self.sandbox.id(prefix)
    }

    /// The model's name as the answer reports it.
    pub(super) fn model_name(&self) -> &str {
        self.model.as_ref().map_or("", Model::reported)
    }

    /// Whether the body asks for a stream.
    pub(super) fn streams(&self) -> bool {
        self.body.get("stream").and_then(Value::as_bool).unwrap_or(false)
    }
}

/// A bound on output: absent or null is none; anything but a whole number from 1 is refused.
pub(super) fn bound(within: &Value, param: &'static str) -> Result<Option<u64>, Refusal> {
    match within.get(param) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().filter(|bound| *bound >= 1).map(Some).ok_or_else(|| {
            let told = format!(
                "Invalid '{param}': integer below minimum value. Expected a value >= 1, but got {value} instead."
            );
            Refusal::param(param, told)
        }),
    }
}

/// How many of something the body asks for: 1 when it does not say, at most 128.
pub(super) fn times(within: &Value, param: &'static str) -> Result<u64, Refusal> {
    let asked = bound(within, param)?.unwrap_or(1);
    if asked > 128 {
        return Err(Refusal::param(param, format!("Invalid '{param}': integer above maximum value 128.")));
    }
    Ok(asked)
}

/// Receives a request and answers it, whatever it is.
pub(super) async fn answer(
    sandbox: Sandbox,
    endpoint: Endpoint,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let flight = sandbox.ledger().arrive(parts.uri.path());
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let body = read.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
    sandbox.record().keep(&parts, &body);
    let dialect = endpoint.dialect(&parts);
    let mut seal = Seal {
        dialect,
        request_id: sandbox.id("req"),
        key: presented(&parts.headers).unwrap_or_default(),
        echoes: false,
    };
    let outcome = match read {
        Ok(body) => attempt(sandbox, endpoint, dialect, &parts, &body, flight, &mut seal).await,
        Err(_) => Err(Refusal::TooLarge),
    };
    outcome.unwrap_or_else(|refusal| seal.refuse(&refusal, refusal.status()))
}

async fn attempt(
    sandbox: Sandbox,
    endpoint: Endpoint,
    dialect: Dialect,
    parts: &Parts,
    body: &Bytes,
    flight: InFlight,
    seal: &mut Seal,
) -> Result<Response, Refusal> {
    let mut directives = Directives::default();
    if let Some(header) = parts.headers.get("x-sandbox") {
        directives.add(&String::from_utf8_lossy(header.as_bytes()))?;
    }
    let key = presented(&parts.headers).ok_or(Refusal::NoKey)?;
    if key.starts_with(BAD_KEY_PREFIX) || sandbox.refuses(&key) {
        return Err(bad_key(&key));
    }
    let body = if endpoint.has_body() {
        serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?
    } else {
        Value::Null
    };
    let model = endpoint.model(&body, parts)?;
    if let Some(model) = &model {
        directives.add(model.directives())?;
    }
    seal.echoes = directives.echoes();
    let created = sandbox.now().timestamp();
    let call = Call { sandbox, dialect, model, directives, key, body, created };
    let work = endpoint.work(&call)?;
    run(&call, work, flight, seal).await
}

/// Keeps the pace, then misbehaves or answers.
async fn run(call: &Call, work: Work, flight: InFlight, seal: &Seal) -> Result<Response, Refusal> {
    let directives = &call.directives;
    let status = directives
        .number(Directive::Status)
        .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let refused = status.is_some()
        || [Directive::BadKey, Directive::Redirect, Directive::Close].iter().any(|one| directives.has(*one));
    if refused {
        pace(call).await;
        drop(flight);
        if directives.has(Directive::Close) {
            return Ok(closed());
        }
        if directives.has(Directive::Redirect) {
            return Ok(seal.redirect());
        }
        let refusal = match (directives.has(Directive::BadKey), status) {
            (false, Some(status)) => Refusal::Told(status),
            (true, _) | (false, None) => bad_key(&call.key),
        };
        return Ok(seal.refuse(&refusal, status.unwrap_or_else(|| refusal.status())));
    }
    let base = call.model.as_ref().map_or("", Model::base);
    let drains = directives.has(Directive::Drain);
    let (meter, flight) = match work.usage {
        Some(usage) => (Some(Meter::begin(flight, base, usage, drains)), None),
        None => (None, Some(flight)),
    };
    pace(call).await;
    let response = match (work.answer, meter) {
        (Answer::Events { content_type, events }, Some(meter)) => {
            seal.respond(StatusCode::OK, content_type, stream::body(events, meter, directives))
        }
        // Nothing that streams is free; were it so, it would be an empty stream.
        (Answer::Events { content_type, .. }, None) => {
            seal.respond(StatusCode::OK, content_type, Body::empty())
        }
        (Answer::Json(value), meter) => {
            let mut bytes = Bytes::from(value.to_string());
            if directives.has(Directive::Malformed) {
                bytes.truncate(bytes.len() / 2);
            }
            if let Some(meter) = meter {
                meter.finish();
            }
            let cut = directives.has(Directive::Cut);
            let length = HeaderValue::from(bytes.len());
            let body = if cut { stream::cut_body(&bytes) } else { Body::from(bytes) };
            let mut response = seal.respond(StatusCode::OK, JSON, body);
            response.headers_mut().insert(header::CONTENT_LENGTH, length);
            response
        }
    };
    drop(flight);
    Ok(response)
}

async fn pace(call: &Call) {
    if call.directives.has(Directive::Hold) {
        call.sandbox.hold().await;
    }
    if let Some(delay) = call.directives.millis(Directive::Delay) {
        tokio::time::sleep(delay).await;
    }
}

impl Endpoint {
    fn dialect(&self, parts: &Parts) -> Dialect {
        let headers = &parts.headers;
        match self {
            Self::Chat | Self::Completions | Self::Responses | Self::Embeddings => Dialect::OpenAi,
            Self::Messages | Self::MessagesCount => Dialect::Anthropic,
            Self::Gemini { .. } => Dialect::Gemini,
            Self::Models | Self::Model(_) | Self::Unknown => {
                if headers.contains_key("anthropic-version") {
                    Dialect::Anthropic
                } else if headers.contains_key("x-goog-api-key") || parts.uri.path().starts_with("/v1beta/") {
                    Dialect::Gemini
                } else {
                    Dialect::OpenAi
                }
            }
        }
    }

    fn has_body(&self) -> bool {
        !matches!(self, Self::Models | Self::Model(_) | Self::Unknown)
    }

    fn model(&self, body: &Value, parts: &Parts) -> Result<Option<Model>, Refusal> {
        match self {
            Self::Models => Ok(None),
            Self::Unknown => Err(Refusal::UnknownPath(format!("{} {}", parts.method, parts.uri.path()))),
            Self::Model(name) | Self::Gemini { model: name, .. } => Model::parse(name).map(Some),
            Self::Chat
            | Self::Completions
            | Self::Responses
            | Self::Embeddings
            | Self::Messages
            | Self::MessagesCount => match body.get("model").and_then(Value::as_str) {
                Some(name) => Model::parse(name).map(Some),
                None if matches!(self, Self::Messages | Self::MessagesCount) => {
                    Err(Refusal::param("model", "model: Field required"))
                }
                None => Err(Refusal::invalid("you must provide a model parameter")),
            },
        }
    }

    fn work(&self, call: &Call) -> Result<Work, Refusal> {
        match self {
            Self::Chat => chat::work(call),
            Self::Completions => completions::work(call),
            Self::Responses => responses::work(call),
            Self::Embeddings => embeddings::work(call),
            Self::Messages => messages::work(call),
            Self::MessagesCount => messages::count(call),
            Self::Gemini { action, .. } => gemini::work(call, *action),
            Self::Models => Ok(Work { answer: Answer::Json(models::list(call)), usage: None }),
            Self::Model(_) | Self::Unknown => {
                Ok(Work { answer: Answer::Json(models::one(call)), usage: None })
            }
        }
    }
}

/// The key, wherever one of the providers takes it.
fn presented(headers: &HeaderMap) -> Option<String> {
    let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let bearer = text("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim().to_owned())
    });
    let named = ["x-api-key", "x-goog-api-key", "api-key"];
    let others = named.iter().filter_map(|name| text(name).map(|value| value.trim().to_owned()));
    bearer.into_iter().chain(others).find(|key| !key.is_empty())
}

/// Shows a wrong key as `OpenAI` does: its ends.
fn bad_key(key: &str) -> Refusal {
    let shown: String = key.chars().take(8).collect();
    let end: Vec<char> = key.chars().rev().take(4).collect();
    Refusal::BadKey { shown: format!("{shown}***{}", end.into_iter().rev().collect::<String>()) }
}

const JSON: &str = "application/json";

/// Marks an answer that is none: the server closes the connection instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed;

fn closed() -> Response {
    let mut response = Response::new(stream::cut_body(&Bytes::new()));
    response.extensions_mut().insert(Closed);
    response
}

/// What every answer to one request carries.
struct Seal {
    dialect: Dialect,
    request_id: String,
    key: String,
    echoes: bool,
}

impl Seal {
    fn respond(&self, status: StatusCode, content_type: &'static str, body: Body) -> Response {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let mut set = |name: &'static str, value: HeaderValue| {
            headers.insert(HeaderName::from_static(name), value);
        };
        set("content-type", HeaderValue::from_static(content_type));
        if let Ok(id) = HeaderValue::from_str(&self.request_id) {
            set(if self.dialect == Dialect::Anthropic { "request-id" } else { "x-request-id" }, id);
        }
        // What real providers send along and no application needs.
        set("set-cookie", HeaderValue::from_static("__sandbox=1; path=/; HttpOnly"));
        match self.dialect {
            Dialect::OpenAi => {
                set("openai-version", HeaderValue::from_static("2020-10-01"));
                set("openai-organization", HeaderValue::from_static("org-sandbox"));
                set("openai-processing-ms", HeaderValue::from_static("1"));
            }
            Dialect::Anthropic => set("anthropic-organization-id", HeaderValue::from_static("org-sandbox")),
            Dialect::Gemini => set("server-timing", HeaderValue::from_static("gfet4t7; dur=1")),
        }
        if self.echoes
            && let Ok(key) = HeaderValue::from_str(&self.key)
        {
            set("x-echo", key);
        }
        response
    }

    fn refuse(&self, refusal: &Refusal, status: StatusCode) -> Response {
        let echo = if self.echoes { format!(" {}", self.key) } else { String::new() };
        let body = refusal.body(self.dialect, status, &self.request_id, &echo);
        let mut response = self.respond(status, JSON, Body::from(body.to_string()));
        if status == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }

    fn redirect(&self) -> Response {
        let mut response = self.respond(StatusCode::FOUND, JSON, Body::empty());
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/v1/redirected"));
        response
    }
}
