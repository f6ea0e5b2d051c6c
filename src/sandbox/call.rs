//! The life of one call: received, authenticated, understood, worked on at the pace the directives set, answered.
//!
//! Its place in flight begins when it arrives and ends when its answer is complete. Work is billed from the
//! moment it begins, before any delay; a call that is refused costs nothing.

use super::Sandbox;
use super::bill::{InFlight, Meter, Usage};
use super::directive::{Directive, Directives};
use super::endpoint::{self, Target};
use super::models::{Model, OTHER};
use super::multipart::Form;
use super::refusal::{Dialect, Refusal};
use super::seal::{JSON, Seal, closed};
use super::stream::{self, Events};
use axum::body::Body;
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use axum::response::Response;
use bytes::Bytes;
use serde_json::Value;

/// Vision bodies are 32 MiB at most at the providers; some room above that.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// What a wrong key begins with.
const BAD_KEY_PREFIX: &str = "sandbox-bad";

/// One call, understood.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) sandbox: Sandbox,
    pub(super) dialect: Dialect,
    /// `None` where no model is called.
    pub(super) model: Option<Model>,
    pub(super) directives: Directives,
    pub(super) key: String,
    /// The JSON body, or a form's fields as one.
    pub(super) body: Value,
    /// The form that came as multipart; empty where none is wanted.
    pub(super) form: Form,
    /// The query, decoded, in its order.
    pub(super) query: Vec<(String, String)>,
    /// When it was received, in Unix seconds.
    pub(super) created: i64,
}

/// What a call comes to.
pub(super) struct Work {
    pub(super) answer: Answer,
    /// `None`: the call is free.
    pub(super) usage: Option<Usage>,
}

impl Work {
    /// Costs nothing.
    pub(super) fn free(answer: Answer) -> Self {
        Self { answer, usage: None }
    }
}

/// An answer before it is sent.
pub(super) enum Answer {
    Json(Value),
    /// Anything else that has a length: a file, a text.
    Bytes {
        content_type: String,
        bytes: Bytes,
    },
    Events {
        content_type: &'static str,
        events: Events,
    },
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
        if self.directives.has(Directive::ServeOther) {
            return OTHER;
        }
        self.model.as_ref().map_or("", Model::reported)
    }

    /// What the query says first under a name.
    pub(super) fn asked(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    /// Whether the body asks for a stream.
    pub(super) fn streams(&self) -> bool {
        self.body.get("stream").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Whether the work goes on, and is billed, when nobody reads the answer.
    pub(super) fn goes_on(&self) -> bool {
        self.directives.has(Directive::Drain) || self.body.get("background") == Some(&Value::Bool(true))
    }

    /// A JSON answer in which the key is shown if it is to be.
    pub(super) fn answer(&self, mut answer: Value) -> Answer {
        if self.directives.echoes() {
            answer["echo"] = Value::from(self.key.as_str());
        }
        Answer::Json(answer)
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
pub(super) async fn answer(sandbox: Sandbox, request: axum::extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    let flight = sandbox.ledger().arrive(parts.uri.path());
    let read = axum::body::to_bytes(body, BODY_BYTES_MAX).await;
    let body = read.as_ref().map_or_else(|_| Bytes::new(), Bytes::clone);
    sandbox.record().keep(&parts, &body);
    let target = Target::find(&parts);
    let dialect = target.dialect(&parts);
    let mut seal = Seal {
        dialect,
        request_id: sandbox.id("req"),
        key: presented(&parts.headers).unwrap_or_default(),
        echoes: false,
    };
    let outcome = match read {
        Ok(body) => attempt(sandbox, target, dialect, &parts, &body, flight, &mut seal).await,
        Err(_) => Err(Refusal::TooLarge),
    };
    outcome.unwrap_or_else(|refusal| seal.refuse(&refusal, refusal.status(dialect)))
}

async fn attempt(
    sandbox: Sandbox,
    target: Target,
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
    let (body, form) = match target.form() {
        endpoint::Form::None => (Value::Null, Form::default()),
        endpoint::Form::Json => {
            (serde_json::from_slice(body).map_err(|_| Refusal::NotJson)?, Form::default())
        }
        endpoint::Form::Multipart => {
            let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let form = Form::read(kind.unwrap_or_default(), body).ok_or(Refusal::NotMultipart)?;
            (form.fields(), form)
        }
    };
    let query = Query::try_from_uri(&parts.uri).map(|Query(query)| query).unwrap_or_default();
    let model = target.model(&body, parts)?;
    if let Some(model) = &model {
        directives.add(model.directives())?;
    }
    seal.echoes = directives.echoes();
    let created = sandbox.now().timestamp();
    let call = Call { sandbox, dialect, model, directives, key, body, form, query, created };
    run(&call, &target, flight, seal).await
}

/// Keeps the pace, then misbehaves or answers. Who misbehaves so that there is no answer has not done the work either.
async fn run(call: &Call, target: &Target, flight: InFlight, seal: &Seal) -> Result<Response, Refusal> {
    let directives = &call.directives;
    let status = directives
        .number(Directive::Status)
        .and_then(|status| StatusCode::from_u16(u16::try_from(status).ok()?).ok());
    let refused = status.is_some()
        || [Directive::BadKey, Directive::Redirect, Directive::Close].iter().any(|one| directives.has(*one));
    if refused {
        pace(call).await;
        let was_used = directives.has(Directive::ErrorUsage);
        let used = if was_used { target.work(call)?.usage } else { None };
        match used {
            Some(usage) => {
                let base = call.model.as_ref().map_or("", Model::base);
                Meter::begin(flight, base, usage, false).finish();
            }
            None => drop(flight),
        }
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
        let told = used.and_then(|usage| usage.reported(directives));
        return Ok(seal.refuse_telling(
            &refusal,
            status.unwrap_or_else(|| refusal.status(call.dialect)),
            told,
        ));
    }
    let work = target.work(call)?;
    let base = call.model.as_ref().map_or("", Model::base);
    let drains = call.goes_on();
    let (meter, flight) = match work.usage {
        Some(usage) => (Some(Meter::begin(flight, base, usage, drains)), None),
        None => (None, Some(flight)),
    };
    pace(call).await;
    let response = match work.answer {
        Answer::Events { content_type, events } => {
            seal.respond(StatusCode::OK, content_type, stream::body(events, meter, directives))
        }
        Answer::Json(value) => whole(directives, seal, JSON, Bytes::from(value.to_string()), meter),
        Answer::Bytes { content_type, bytes } => whole(directives, seal, &content_type, bytes, meter),
    };
    drop(flight);
    Ok(response)
}

/// An answer with a length; it is posted before it is sent.
fn whole(
    directives: &Directives,
    seal: &Seal,
    content_type: &str,
    mut bytes: Bytes,
    meter: Option<Meter>,
) -> Response {
    if directives.has(Directive::Malformed) {
        bytes.truncate(bytes.len() / 2);
    }
    if let Some(meter) = meter {
        meter.finish();
    }
    let cut = directives.has(Directive::Cut);
    let length = HeaderValue::from(bytes.len());
    let body = if cut { stream::cut_body(&bytes) } else { Body::from(bytes) };
    let mut response = seal.respond(StatusCode::OK, content_type, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

async fn pace(call: &Call) {
    if call.directives.has(Directive::Hold) {
        call.sandbox.hold().await;
    }
    if let Some(delay) = call.directives.millis(Directive::Delay) {
        tokio::time::sleep(delay).await;
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

/// Marks an answer that is none: the server closes the connection instead.
#[derive(Clone, Copy, Debug)]
pub(super) struct Closed;
