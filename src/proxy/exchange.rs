//! Steps 10 to 12: a task owns the provider's answer, meters it as it passes, outlives the client, and
//! settles exactly once.

use super::Proxy;
use super::admit::Admitted;
use super::arrival::Arrival;
use super::attempts::Patience;
use super::forward::Call;
use super::headers::answer_headers;
use super::rates;
use super::refusal::{Code, Refusal};
use super::respond::{self, Facts};
use super::settle::{Bill, settle};
use super::stops::Stops;
use super::stream;
use super::upstream::UpstreamError;
use super::whole;
use crate::http::{BodyRoom, Buffer, NoRoom};
use crate::log::{AlarmKind, Entry, Outcome};
use crate::provider::Dialect;
use crate::provider::operation::{Answer, Row};
use crate::vault::EchoGuard;
use axum::body::Body;
use axum::response::Response;
use chrono::TimeDelta;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::response::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

/// Everything about one exchange that its task needs.
pub(super) struct Exchange {
    pub(super) proxy: Proxy,
    pub(super) arrival: Arc<Arrival>,
    pub(super) admitted: Box<Admitted>,
    pub(super) row: &'static Row,
    /// Tells when the sub-key or a project above it is stopped.
    pub(super) stopped: Stops,
    /// Cancelled when the vault is sealed.
    pub(super) sealed: CancellationToken,
    /// One of the server's places for requests, free again when the exchange is over.
    _place: OwnedSemaphorePermit,
    /// From sending to the head of the answer, over all attempts.
    pub(super) upstream_wait: Duration,
    /// Which version of the credential's key was sent last.
    pub(super) key_version: i64,
    /// What an answer that will be read whole has of memory; there before anything is sent.
    pub(super) answer: Option<Buffer>,
}

/// Why there is no answer to pass on.
pub(super) enum Unanswered {
    /// The sub-key was stopped.
    Stopped,
    /// The vault was sealed.
    Sealed,
    /// The server ends.
    ShuttingDown,
    /// The provider gave none.
    Failed(UpstreamError),
}

/// How long an answer waits for its admission to be durable.
pub(super) const RECORD_WAIT: Duration = Duration::from_secs(5);

/// Sends the request and returns the answer's head; the rest goes on in a task of its own.
pub(super) async fn conduct(
    proxy: &Proxy,
    arrival: &Arc<Arrival>,
    row: &'static Row,
    call: Call,
    (admitted, place): (Box<Admitted>, OwnedSemaphorePermit),
) -> Response {
    let (reply, head) = oneshot::channel();
    let stopped = Stops::of(&admitted.caller);
    let caller = admitted.caller.clone();
    let exchange = Exchange {
        proxy: proxy.clone(),
        arrival: Arc::clone(arrival),
        admitted,
        row,
        stopped,
        sealed: proxy.services.vault.until_sealed(),
        _place: place,
        upstream_wait: Duration::ZERO,
        key_version: call.attempt.version,
        answer: None,
    };
    proxy.tasks.spawn(exchange.run(call, reply));
    if let Ok(response) = head.await {
        return response;
    }
    // The task has settled, or its reservation did when it was dropped.
    let now = proxy.services.ledger.rate_now();
    respond::refusal_after(&respond::overloaded(), row.dialect, arrival, (&caller, now))
}

/// Ends an admission of which nothing was sent.
pub(super) async fn void(
    proxy: &Proxy,
    arrival: &Arrival,
    dialect: Dialect,
    admitted: Box<Admitted>,
    refusal: &Refusal,
) -> Response {
    let Admitted { caller, reservation, in_flight, entry, .. } = *admitted;
    // Nothing was sent: its tokens, and what it counted for others, are free again.
    drop(in_flight);
    let mut response =
        respond::refusal_after(refusal, dialect, arrival, (&caller, proxy.services.ledger.rate_now()));
    // The last attempt was none.
    let attempts = entry.attempts.saturating_sub(1);
    respond::stamp_attempts(response.headers_mut(), attempts, entry.fallback.as_deref());
    let entry = Entry {
        rule: Some(refusal.code.as_str().to_owned()),
        status: Some(refusal.code.status().as_u16()),
        outcome: Some(Outcome::UpstreamFailed),
        attempts,
        duration_ms: arrival.elapsed_ms(),
        overhead_us: arrival.elapsed_us(),
        ..entry
    };
    reservation.void(entry).durable().await;
    response
}

impl Exchange {
    async fn run(mut self, call: Call, reply: oneshot::Sender<Response>) {
        let Call { attempt, again, deadlines, idle, total, drains } = call;
        let deadline = tokio::time::Instant::now() + total;
        let patience = Patience { deadlines, idle, until: deadline };
        // The last look before anything is sent: a key stopped meanwhile sends nothing.
        if self.stopped.is_cancelled() {
            let refusal = self.stopped.refusal();
            return self.end_unsent(&refusal, reply).await;
        }
        if self.sealed.is_cancelled() {
            return self.end_unsent(&respond::sealed(), reply).await;
        }
        // What cannot be read when it comes is not asked for.
        if self.make_room().is_err() {
            return self.end_unsent(&no_room(), reply).await;
        }
        self.admitted.reservation.mark_sent();
        self.admitted.in_flight.mark_sent();
        let (response, guard) = match self.ask(attempt, again, patience).await {
            Ok(answer) => answer,
            Err(Unanswered::Failed(error)) => return self.fail(&error, reply).await,
            Err(Unanswered::Stopped) => {
                let refusal = Refusal { was_sent: true, ..self.stopped.refusal() };
                return self.end_unanswered(&refusal, Outcome::Cut, reply).await;
            }
            Err(Unanswered::Sealed) => {
                let refusal = Refusal { was_sent: true, ..respond::sealed() };
                return self.end_unanswered(&refusal, Outcome::Cut, reply).await;
            }
            Err(Unanswered::ShuttingDown) => {
                let refusal = Refusal { was_sent: true, ..shutting_down() };
                return self.end_unanswered(&refusal, Outcome::Cut, reply).await;
            }
        };
        let (mut parts, body) = response.into_parts();
        if take_echoes(&guard, &mut parts.headers) {
            self.note_echo("header");
        }
        self.note_head(&parts);
        if is_compressed(&parts.headers) {
            return self.end_compressed(parts.status, reply).await;
        }
        match self.passing(&parts) {
            Some(kind) => {
                self.answer = None;
                stream::pass(self, (kind, parts, body), guard, drains, deadline, reply).await;
            }
            None => whole::pass(self, parts, body, guard, deadline, reply).await,
        }
    }

    /// Takes a first share of the key's room, where the answer is not expected to pass piece by piece.
    fn make_room(&mut self) -> Result<(), NoRoom> {
        if !self.admitted.entry.streamed && self.row.answer != Answer::Opaque {
            self.answer = Some(Buffer::begun(&self.room())?);
        }
        Ok(())
    }

    /// The key's part of what answers may have of memory.
    pub(super) fn room(&self) -> BodyRoom {
        self.proxy.answers.of(self.admitted.caller.key.subkey.id.as_str())
    }

    /// The provider sent our key back: an alarm, and the key should be replaced.
    pub(super) fn note_echo(&self, place: &'static str) {
        let services = self.proxy.services.clone();
        let (id, version) = (self.credential_id().to_owned(), self.key_version);
        let provider = self.admitted.resolved.provider.as_str();
        let detail = json!({"provider": provider, "secret_version": version, "place": place});
        services.alarms.raise(AlarmKind::CredentialEchoed, &id, &detail);
        self.proxy.tasks.spawn(async move {
            let reason = "the provider sent the key back in an answer";
            if let Err(error) = services.mark_rotation_due(&id, version, reason).await {
                tracing::warn!(credential = id, %error, "that the credential is due for rotation was not noted");
            }
        });
    }

    pub(super) fn credential_id(&self) -> &str {
        self.admitted.entry.credential_id.as_deref().unwrap_or_default()
    }

    /// The provider gave no answer.
    async fn fail(self, error: &UpstreamError, reply: oneshot::Sender<Response>) {
        let provider = self.admitted.resolved.provider.to_string();
        tracing::warn!(request_id = self.arrival.id.as_str(), provider, %error, "the provider did not answer");
        match error {
            UpstreamError::NotConnected(_) => {
                let message = format!("The provider {provider} cannot be reached. Nothing was sent.");
                self.end_unsent(&Refusal::new(Code::UpstreamError, message), reply).await;
            }
            UpstreamError::BrokenOff { .. } => {
                let message = format!("The provider {provider} broke off before it answered.");
                let refusal = Refusal { was_sent: true, ..Refusal::new(Code::UpstreamError, message) };
                self.end_unanswered(&refusal, Outcome::UpstreamFailed, reply).await;
            }
            UpstreamError::FirstByteTimeout { .. } => {
                let message = format!("The provider {provider} did not answer in time.");
                let refusal = Refusal { was_sent: true, ..Refusal::new(Code::UpstreamTimeout, message) };
                self.end_unanswered(&refusal, Outcome::UpstreamFailed, reply).await;
            }
        }
    }

    /// Nothing was sent, or nothing but what was refused for its key: nothing is charged.
    async fn end_unsent(mut self, refusal: &Refusal, reply: oneshot::Sender<Response>) {
        let was_refused = self.admitted.entry.attempts > 1;
        let in_flight = &mut self.admitted.in_flight;
        if was_refused {
            in_flight.settle_tokens(0);
        } else {
            in_flight.mark_unsent();
        }
        let response = void(&self.proxy, &self.arrival, self.row.dialect, self.admitted, refusal).await;
        // If the client has left, the entry says all there is to say.
        let _ = reply.send(response);
    }

    /// The answer is compressed although that was not asked for: nobody could meter it, or find the key in it.
    async fn end_compressed(self, status: StatusCode, reply: oneshot::Sender<Response>) {
        let provider = &self.admitted.resolved.provider;
        let message = format!(
            "The provider {provider} compressed its answer, which it was asked not to do. Tell its operator."
        );
        let refusal = Refusal { was_sent: true, ..Refusal::new(Code::UpstreamError, message) };
        let bill = if status.is_client_error() { Bill::nothing() } else { Bill::reservation(&self.admitted) };
        self.end_with(&refusal, (Outcome::UpstreamFailed, bill), reply).await;
    }

    /// Something was sent and no answer came: the whole reservation is charged.
    async fn end_unanswered(self, refusal: &Refusal, outcome: Outcome, reply: oneshot::Sender<Response>) {
        let bill = Bill::reservation(&self.admitted);
        self.end_with(refusal, (outcome, bill), reply).await;
    }

    async fn end_with(
        self,
        refusal: &Refusal,
        (outcome, bill): (Outcome, Bill),
        reply: oneshot::Sender<Response>,
    ) {
        let status = Some(refusal.code.status().as_u16());
        let rule = Some(refusal.code.as_str().to_owned());
        let entry = Entry { rule, status, outcome: Some(outcome), ..self.admitted.entry.clone() };
        let response = self.refuse(refusal);
        // Nothing of an answer is in it: who cannot be recorded now is told all the same.
        let _ = tokio::time::timeout(RECORD_WAIT, settle(self, bill, entry)).await;
        let _ = reply.send(response);
    }

    /// Whether the admission is durable, as it has to be before anything of the answer is seen.
    pub(super) async fn is_recorded(&mut self) -> bool {
        let recorded = self.admitted.reservation.recorded();
        tokio::time::timeout(RECORD_WAIT, recorded).await.is_ok_and(|recorded| recorded.is_ok())
    }

    /// The admission cannot be put on record: the answer is not passed on. The provider may bill for it.
    pub(super) async fn end_unrecorded(self, reply: oneshot::Sender<Response>) {
        let refusal = Refusal { was_sent: true, ..respond::store_unavailable() };
        let rule = Some(refusal.code.as_str().to_owned());
        let status = Some(refusal.code.status().as_u16());
        let entry = Entry { rule, status, outcome: Some(Outcome::Cut), ..self.admitted.entry.clone() };
        // Nobody is kept waiting for the store.
        let _ = reply.send(self.refuse(&refusal));
        let bill = Bill::reservation(&self.admitted);
        settle(self, bill, entry).await;
    }

    /// What the head of the answer tells the entry.
    fn note_head(&mut self, parts: &Parts) {
        let id = parts.headers.get("x-request-id").or_else(|| parts.headers.get("request-id"));
        let entry = &mut self.admitted.entry;
        entry.upstream_status = Some(parts.status.as_u16());
        entry.upstream_request_id =
            id.map(|value| crate::base::clip(&String::from_utf8_lossy(value.as_bytes()), 256));
    }

    /// The headers of an answer that passes.
    pub(super) fn answer_headers(&self, provider: &HeaderMap) -> HeaderMap {
        let mut headers = answer_headers(provider);
        let entry = &self.admitted.entry;
        respond::stamp(
            &mut headers,
            &Facts {
                request_id: self.arrival.id.as_str(),
                subkey: self.admitted.caller.key.subkey.id.as_str(),
                provider: self.admitted.resolved.provider.as_str(),
                model: entry.model.as_deref(),
                attempts: entry.attempts,
                fallback: entry.fallback.as_deref(),
                changed: &entry.changed,
                overhead_us: self.overhead_us(),
            },
        );
        rates::stamp(&mut headers, &self.admitted.caller, self.proxy.services.ledger.rate_now());
        headers
    }

    /// As what the answer passes piece by piece; `None`: it is read whole first.
    fn passing(&self, parts: &Parts) -> Option<stream::Kind> {
        let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let kind = kind.trim_start().to_ascii_lowercase();
        match kind {
            _ if parts.status != StatusCode::OK => None,
            // What an application left there is whatever it is.
            _ if self.row.answer == Answer::Opaque && self.row.is_free() => Some(stream::Kind::Opaque),
            kind if kind.starts_with("text/event-stream") => Some(stream::Kind::Events),
            kind if self.row.answer == Answer::Array && kind.starts_with("application/json") => {
                Some(stream::Kind::Array)
            }
            kind if self.row.answer == Answer::Opaque && !kind.starts_with("application/json") => {
                Some(stream::Kind::Opaque)
            }
            _ => None,
        }
    }

    /// Time spent here so far, the provider's excluded.
    pub(super) fn overhead_us(&self) -> u64 {
        let waited = u64::try_from(self.upstream_wait.as_micros()).unwrap_or(u64::MAX);
        self.arrival.elapsed_us().saturating_sub(waited)
    }

    /// An answer with our own error, for when the provider's cannot be passed on.
    pub(super) fn refuse(&self, refusal: &Refusal) -> Response {
        let caller = (&self.admitted.caller, self.proxy.services.ledger.rate_now());
        let mut response = respond::refusal_after(refusal, self.row.dialect, &self.arrival, caller);
        let entry = &self.admitted.entry;
        respond::stamp_attempts(response.headers_mut(), entry.attempts, entry.fallback.as_deref());
        response
    }
}

/// Whether a body has to be unpacked before it says anything.
pub(super) fn is_compressed(headers: &HeaderMap) -> bool {
    let is_packed = |value: &HeaderValue| !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    headers.get_all(CONTENT_ENCODING).iter().any(is_packed)
}

/// Takes out every header of an answer in which the key stands, whatever its name. Whether there was one.
pub(super) fn take_echoes(guard: &EchoGuard, headers: &mut HeaderMap) -> bool {
    let echoing = headers.iter().filter(|(_, value)| guard.is_in(value.as_bytes()));
    let names: Vec<HeaderName> = echoing.map(|(name, _)| name.clone()).collect();
    for name in &names {
        headers.remove(name);
    }
    !names.is_empty()
}

/// An answer with a body that was read whole.
pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Why a request is not sent whose answer would have to be held.
fn no_room() -> Refusal {
    let message = "The server, or this key, has as many answers unread as it may. Nothing was sent; try again, or ask for a stream.";
    Refusal::new(Code::Overloaded, message).retry_after(TimeDelta::seconds(1))
}

/// Why a request ends that outlasts the drain.
pub(super) fn shutting_down() -> Refusal {
    Refusal::new(Code::Overloaded, "The server is shutting down.")
}
