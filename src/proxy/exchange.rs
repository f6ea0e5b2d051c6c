//! Steps 10 to 12: a task owns the provider's answer, meters it as it passes, outlives the client, and
//! settles exactly once.

use super::Proxy;
use super::admit::Admitted;
use super::arrival::Arrival;
use super::forward::Call;
use super::headers::answer_headers;
use super::refusal::{Code, Refusal};
use super::respond::{self, Facts};
use super::settle::{Bill, settle};
use super::stream;
use super::upstream::{IdleTimeout, UpstreamError};
use super::whole;
use crate::log::{AlarmKind, Entry, Outcome};
use crate::policy::Operation;
use crate::provider::Dialect;
use crate::vault::EchoGuard;
use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::response::Parts;
use http::{HeaderMap, HeaderName, StatusCode};
use hyper::body::Incoming;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

/// Everything about one exchange that its task needs.
pub(super) struct Exchange {
    pub(super) proxy: Proxy,
    pub(super) arrival: Arc<Arrival>,
    pub(super) admitted: Box<Admitted>,
    pub(super) dialect: Dialect,
    pub(super) operation: Operation,
    /// Cancelled when the sub-key is stopped.
    pub(super) stopped: CancellationToken,
    /// One of the server's places for requests, free again when the exchange is over.
    _place: OwnedSemaphorePermit,
    /// From sending to the head of the answer.
    pub(super) upstream_wait: Duration,
}

/// Sends the request and returns the answer's head; the rest goes on in a task of its own.
pub(super) async fn conduct(
    proxy: &Proxy,
    arrival: &Arc<Arrival>,
    (dialect, operation): (Dialect, Operation),
    call: Call,
    (admitted, place): (Box<Admitted>, OwnedSemaphorePermit),
) -> Response {
    let (reply, head) = oneshot::channel();
    let stopped = admitted.caller.key.stopped.clone();
    let caller = admitted.caller.clone();
    let exchange = Exchange {
        proxy: proxy.clone(),
        arrival: Arc::clone(arrival),
        admitted,
        dialect,
        operation,
        stopped,
        _place: place,
        upstream_wait: Duration::ZERO,
    };
    proxy.tasks.spawn(exchange.run(call, reply));
    match head.await {
        Ok(response) => response,
        // The task has settled, or its reservation did when it was dropped.
        Err(_) => respond::refusal_after(&respond::overloaded(), dialect, arrival, &caller),
    }
}

/// Ends an admission of which nothing was sent.
pub(super) async fn void(
    arrival: &Arrival,
    dialect: Dialect,
    admitted: Box<Admitted>,
    refusal: &Refusal,
) -> Response {
    let entry = Entry {
        rule: Some(refusal.code.as_str().to_owned()),
        status: Some(refusal.code.status().as_u16()),
        outcome: Some(Outcome::UpstreamFailed),
        attempts: 0,
        duration_ms: arrival.elapsed_ms(),
        overhead_us: arrival.elapsed_us(),
        ..admitted.entry
    };
    admitted.reservation.void(entry).durable().await;
    respond::refusal_after(refusal, dialect, arrival, &admitted.caller)
}

impl Exchange {
    async fn run(mut self, call: Call, reply: oneshot::Sender<Response>) {
        let Call { request, deadlines, idle, total, drains, guard } = call;
        let deadline = tokio::time::Instant::now() + total;
        // The last look before anything is sent: a key stopped meanwhile sends nothing.
        if self.stopped.is_cancelled() {
            let refusal = key_stopped();
            return self.end_unsent(&refusal, reply).await;
        }
        self.admitted.reservation.mark_sent();
        let sent = Instant::now();
        let answer = tokio::select! {
            answer = self.proxy.upstream.send(request, deadlines) => answer,
            () = self.stopped.cancelled() => {
                let refusal = Refusal { was_sent: true, ..key_stopped() };
                return self.end_unanswered(&refusal, Outcome::Cut, reply).await;
            }
            () = self.proxy.cut_all.cancelled() => {
                let refusal = Refusal { was_sent: true, ..shutting_down() };
                return self.end_unanswered(&refusal, Outcome::Cut, reply).await;
            }
        };
        self.upstream_wait = sent.elapsed();
        let response = match answer {
            Ok(response) => response,
            Err(error) => return self.fail(&error, reply).await,
        };
        let (mut parts, body) = response.into_parts();
        if take_echoes(&guard, &mut parts.headers) {
            self.alarm(AlarmKind::CredentialEchoed, &json!({"place": "headers"}));
        }
        self.note_head(&parts);
        let body = IdleTimeout::new(body, idle);
        if is_event_stream(&parts) {
            stream::pass(self, parts, body, guard, drains, deadline, reply).await;
        } else {
            whole::pass(self, parts, body, guard, deadline, reply).await;
        }
    }

    /// Raises an alarm about the credential that the request went out with.
    pub(super) fn alarm(&self, kind: AlarmKind, detail: &Value) {
        let mut detail = detail.clone();
        detail["provider"] = json!(self.admitted.resolved.provider.to_string());
        detail["request_id"] = json!(self.arrival.id.as_str());
        let credential = self.admitted.entry.credential_id.as_deref().unwrap_or("unknown");
        self.proxy.services.alarms.raise(kind, credential, &detail);
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

    /// Nothing was sent: nothing is charged.
    async fn end_unsent(self, refusal: &Refusal, reply: oneshot::Sender<Response>) {
        let response = void(&self.arrival, self.dialect, self.admitted, refusal).await;
        // If the client has left, the entry says all there is to say.
        let _ = reply.send(response);
    }

    /// Something was sent and no answer came: the whole reservation is charged.
    async fn end_unanswered(self, refusal: &Refusal, outcome: Outcome, reply: oneshot::Sender<Response>) {
        let (arrival, dialect, caller) =
            (Arc::clone(&self.arrival), self.dialect, self.admitted.caller.clone());
        let status = Some(refusal.code.status().as_u16());
        let rule = Some(refusal.code.as_str().to_owned());
        let entry = Entry { rule, status, outcome: Some(outcome), ..self.admitted.entry.clone() };
        let bill = Bill::reservation(&self.admitted);
        settle(self, bill, entry).await;
        let _ = reply.send(respond::refusal_after(refusal, dialect, &arrival, &caller));
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
                changed: &entry.changed,
                overhead_us: self.overhead_us(),
            },
        );
        headers
    }

    /// Time spent here so far, the provider's excluded.
    pub(super) fn overhead_us(&self) -> u64 {
        let waited = u64::try_from(self.upstream_wait.as_micros()).unwrap_or(u64::MAX);
        self.arrival.elapsed_us().saturating_sub(waited)
    }

    /// An answer with our own error, for when the provider's cannot be passed on.
    pub(super) fn refuse(&self, refusal: &Refusal) -> Response {
        respond::refusal_after(refusal, self.dialect, &self.arrival, &self.admitted.caller)
    }
}

/// Takes out every header of an answer in which the key stands, whatever its name. Whether there was one.
fn take_echoes(guard: &EchoGuard, headers: &mut HeaderMap) -> bool {
    let echoing = headers.iter().filter(|(_, value)| guard.is_in(value.as_bytes()));
    let names: Vec<HeaderName> = echoing.map(|(name, _)| name.clone()).collect();
    for name in &names {
        headers.remove(name);
    }
    !names.is_empty()
}

fn is_event_stream(parts: &Parts) -> bool {
    let kind = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    parts.status == StatusCode::OK && kind.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
}

/// The provider's body, each wait bounded.
pub(super) type AnswerBody = IdleTimeout<Incoming>;

/// An answer with a body that was read whole.
pub(super) fn response(status: StatusCode, headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Why a stopped key's request ends.
pub(super) fn key_stopped() -> Refusal {
    Refusal::new(Code::KeyRevoked, "This sub-key was stopped while the request was in flight.")
}

/// Why a request ends that outlasts the drain.
pub(super) fn shutting_down() -> Refusal {
    Refusal::new(Code::Overloaded, "The server is shutting down.")
}
