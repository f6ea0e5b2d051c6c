//! The life of a proxied request: named steps, each step's output the next one's input.
//!
//! Leaving a step out does not compile: forwarding needs a provider key, the key needs a permit for the
//! whole request, and the permit needs the decision. Whoever presented a right secret leaves an entry,
//! whatever happens.

use super::Proxy;
use super::admit::{self, Admission};
use super::arrival::Arrival;
use super::exchange;
use super::forward;
use super::identify;
use super::models;
use super::rates;
use super::read;
use super::reasons;
use super::refusal::{Code, Refusal};
use super::respond;
use super::upload::Upload;
use crate::http::{BodyBound, BodyError};
use crate::log::{Entry, Outcome};
use crate::policy::{self, Head, HeadFacts, Operation, Permit};
use crate::provider::operation::{self, Effect, Form};
use crate::provider::{Dialect, ask};
use crate::service::{AuthenticateError, Caller, InFlight};
use crate::subkey::SubKeyToken;
use axum::body::Body;
use axum::response::Response;
use chrono::TimeDelta;
use http::header::{CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Request};
use std::sync::Arc;

const STALE_TRIES_MAX: usize = 4;

/// Serves one request, from the socket to the answer's head.
pub(super) async fn serve(proxy: Proxy, request: Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let (version, mut upload) = (parts.version, Upload::Unread(body));
    let spoken = Dialect::spoken(&parts.headers);
    let arrival = match Arrival::new(parts, proxy.services.clock.now(), &proxy.settings.trusted_proxies) {
        Ok(arrival) => Arc::new(arrival),
        Err(refusal) => return respond::refusal(&refusal, spoken, "", None),
    };
    let mut response = answer(&proxy, &arrival, &mut upload).await;
    upload.end(&arrival.headers, version, &mut response).await;
    response
}

async fn answer(proxy: &Proxy, arrival: &Arc<Arrival>, upload: &mut Upload) -> Response {
    let matched = operation::find(&arrival.method, &arrival.path, arrival.spoken());
    let dialect = matched.as_ref().map_or_else(|| arrival.spoken(), |matched| matched.row.dialect);

    let recognised = recognise(proxy, arrival).await;
    let (token, caller) = match recognised {
        Ok(recognised) => recognised,
        Err(refusal) => return respond::refusal(&refusal, dialect, arrival.id.as_str(), None),
    };
    let entry = arrival.entry(&caller, &proxy.services.node, dialect);
    let mut trail = Trail { proxy: proxy.clone(), entry, is_open: true };
    match admitted(proxy, arrival, &token, &caller, matched, upload, &mut trail).await {
        Ok(response) => response,
        Err(refusal) => {
            let entry = trail.close();
            refuse(proxy, arrival, &caller, dialect, &refusal, entry).await
        }
    }
}

/// The entry of a request under way. If its client leaves before anything was decided, the request is
/// dropped where it stands, and this writes its entry.
struct Trail {
    proxy: Proxy,
    entry: Entry,
    is_open: bool,
}

impl Trail {
    /// Somebody else writes the entry from here on.
    fn close(&mut self) -> Entry {
        self.is_open = false;
        self.entry.clone()
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        if self.is_open {
            let ledger = self.proxy.services.ledger.clone();
            let entry = Entry { outcome: Some(Outcome::ClientGone), ..self.entry.clone() };
            self.proxy.tasks.spawn(async move {
                if ledger.record(entry).await.is_err() {
                    tracing::error!("the entry of a request whose client left was not written");
                }
            });
        }
    }
}

/// Steps 2 and 3. Sealed, no secret is looked at.
pub(super) async fn recognise(proxy: &Proxy, arrival: &Arrival) -> Result<(SubKeyToken, Caller), Refusal> {
    if proxy.services.vault.sealed().is_some() {
        return Err(respond::sealed());
    }
    let token = identify::presented_secret(&arrival.headers, arrival.query.as_deref())?;
    let caller = proxy.services.authenticate(&token).await.map_err(unrecognised)?;
    Ok((token, caller))
}

/// Only a secret that is nobody's is called incorrect.
fn unrecognised(error: AuthenticateError) -> Refusal {
    match error {
        AuthenticateError::Unknown => identify::unknown_key(),
        AuthenticateError::Sealed(_) => respond::sealed(),
        AuthenticateError::Store(error) => {
            tracing::error!(%error, "a sub-key cannot be looked up");
            respond::store_unavailable()
        }
    }
}

/// Steps 4 to 12: from a known caller to the answer's head.
async fn admitted(
    proxy: &Proxy,
    arrival: &Arc<Arrival>,
    token: &SubKeyToken,
    caller: &Caller,
    matched: Option<operation::Matched<'_>>,
    upload: &mut Upload,
    trail: &mut Trail,
) -> Result<Response, Refusal> {
    let place = proxy.enter().ok_or_else(|| {
        Refusal::new(Code::Overloaded, "The server is at its limit of requests. Try again.")
            .retry_after(TimeDelta::seconds(1))
    })?;
    key_state(proxy, arrival, caller)?;
    trail.entry.tags = arrival.tags()?;
    trail.entry.operation = matched.as_ref().map(|matched| matched.row.operation.as_str().to_owned());

    // 4 decide early; what an unknown path asks for, no policy lists
    let operation = matched.as_ref().map_or(Operation::Models, |matched| matched.row.operation);
    let (head, in_flight) = decide_early(proxy, arrival, caller, operation)?;
    let matched = known_operation(arrival, matched)?;
    let row = matched.row;
    if row.effect == Effect::ListsModels {
        let response = models::models(proxy, arrival, caller, &matched, trail.entry.clone()).await?;
        trail.close();
        return Ok(response);
    }
    // 5 read the ask; 6 decide; 7 price; 8 reserve
    let body = proxy.settings.body.clone();
    let bound = match row.form {
        Form::Parts(_) if is_in_parts(&arrival.headers) => {
            BodyBound { bytes_max: proxy.settings.form_bytes_max, ..body }
        }
        _ => body,
    };
    let bytes = upload.read(&arrival.headers, bound).await.map_err(|error| unreadable(&error))?;
    let ask = read::read_ask(&matched, arrival, &bytes)?;
    let mut admission = Admission { proxy, arrival, matched: &matched, ask, bytes };
    if let Effect::Lists(kind) = row.effect {
        let response = admission.list(kind, (caller, &head), &mut trail.entry).await?;
        trail.close();
        return Ok(response);
    }
    let mut current = (caller.clone(), head, in_flight);
    let mut tries = 0;
    let mut admitted = loop {
        let (caller, head, in_flight) = current;
        match admission.admit(&caller, &head, in_flight, &mut trail.entry).await? {
            admit::Outcome::Admitted(admitted) => break admitted,
            admit::Outcome::Stale if tries < STALE_TRIES_MAX => {
                tries += 1;
                let caller = proxy.services.authenticate(token).await.map_err(unrecognised)?;
                // Who pays is who is on record.
                let (operation, tags) = (trail.entry.operation.take(), trail.entry.tags.clone());
                let anew = arrival.entry(&caller, &proxy.services.node, row.dialect);
                trail.entry = Entry { operation, tags, ..anew };
                key_state(proxy, arrival, &caller)?;
                let (head, in_flight) = decide_early(proxy, arrival, &caller, row.operation)?;
                current = (caller, head, in_flight);
            }
            admit::Outcome::Stale => return Err(respond::overloaded()),
        }
    };
    trail.close();
    // Where the body was changed, the client's own is not needed any more.
    drop(admission);
    // 9 open the credential; 10 forward; 11 meter; 12 settle and record
    match forward::prepare(proxy, arrival, &matched, &mut admitted) {
        Ok(call) => Ok(exchange::conduct(proxy, arrival, row, call, (admitted, place)).await),
        Err(refusal) => Ok(exchange::void(proxy, arrival, row.dialect, admitted, &refusal).await),
    }
}

/// What operators and time have made of the key; in quarantine every key is suspended.
pub(super) fn key_state(proxy: &Proxy, arrival: &Arrival, caller: &Caller) -> Result<(), Refusal> {
    if proxy.services.is_quarantined() {
        let message = "This gateway is in quarantine: its database was restored or changed from outside. Every \
            sub-key is suspended until the security team releases it.";
        return Err(Refusal::new(Code::Quarantined, message));
    }
    caller.stopped(arrival.time).map_or(Ok(()), |why| Err(reasons::stopped(&why)))
}

fn known_operation<'p>(
    arrival: &Arrival,
    matched: Option<operation::Matched<'p>>,
) -> Result<operation::Matched<'p>, Refusal> {
    if arrival.headers.contains_key(UPGRADE) && operation::is_known_path(&arrival.path) {
        let message = "WebSockets are not supported here. Use the HTTP form of this operation.";
        return Err(Refusal::new(Code::WebsocketNotSupported, message));
    }
    let matched = matched.ok_or_else(|| {
        let message = format!("{} {} is no operation that this gateway knows.", arrival.method, arrival.path);
        Refusal::new(Code::UnknownOperation, crate::base::clip(&message, 300))
    })?;
    if matched.row.effect == Effect::NotServed {
        let message = format!("This gateway does not serve {}.", matched.row.operation.as_str());
        return Err(Refusal::new(Code::OperationNotAllowed, message));
    }
    Ok(matched)
}

/// Whether the body may bring files, which may be larger than what is said about them.
fn is_in_parts(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(ask::is_in_parts)
}

/// Step 4: what needs no body, before it is read.
pub(super) fn decide_early(
    proxy: &Proxy,
    arrival: &Arrival,
    caller: &Caller,
    operation: Operation,
) -> Result<(Permit<Head>, InFlight), Refusal> {
    let facts = HeadFacts { now: arrival.time, client_ip: arrival.client, operation };
    let permit = policy::decide_head(caller.bounds(), &facts).map_err(|denial| reasons::denied(&denial))?;
    let now = proxy.services.ledger.rate_now();
    let in_flight = InFlight::enter(&caller.metered(), now).map_err(|over| rates::refused(&over))?;
    Ok((permit, in_flight))
}

fn unreadable(error: &BodyError) -> Refusal {
    let code = match error {
        BodyError::NoRoom => return respond::overloaded(),
        BodyError::TooLarge { .. } => Code::BodyTooLarge,
        BodyError::Encoded => Code::UnsupportedEncoding,
        BodyError::Aborted | BodyError::Slow { .. } => Code::InvalidBody,
    };
    Refusal::new(code, error.to_string())
}

/// Writes the refusal's entry, then answers. What cannot be recorded is not answered as decided.
pub(super) async fn refuse(
    proxy: &Proxy,
    arrival: &Arrival,
    caller: &Caller,
    dialect: Dialect,
    refusal: &Refusal,
    entry: Entry,
) -> Response {
    proxy.services.metrics.refused(entry.operation.as_deref(), refusal.code.rule());
    let entry = Entry {
        rule: Some(refusal.rule.as_deref().unwrap_or(refusal.code.rule()).to_owned()),
        status: Some(refusal.code.status().as_u16()),
        duration_ms: arrival.elapsed_ms(),
        overhead_us: arrival.elapsed_us(),
        ..entry
    };
    if proxy.services.ledger.record(entry).await.is_err() {
        return respond::refusal(&respond::store_unavailable(), dialect, arrival.id.as_str(), Some(caller));
    }
    respond::refusal_after(refusal, dialect, arrival, (caller, proxy.services.ledger.rate_now()))
}
