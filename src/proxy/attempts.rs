//! Step 10, the sending: once, and once more with the other version of a key that the provider refuses.

use super::exchange::{Exchange, Unanswered, is_compressed, take_echoes};
use super::forward::{self, Again, Attempt};
use super::upstream::{Chain, Deadlines, Heard, IdleTimeout};
use crate::log::AlarmKind;
use crate::provider::answer::Refused;
use crate::vault::EchoGuard;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use std::time::{Duration, Instant};

/// The provider's body, each wait bounded.
pub(super) type AnswerBody = Heard<IdleTimeout<Incoming>>;

/// How long the waits for an answer may be.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) deadlines: Deadlines,
    /// For each piece of its body.
    pub(super) idle: Duration,
    /// For all of it.
    pub(super) until: tokio::time::Instant,
}

/// What is read of a refusal to see whether it is one of the key: they are shorter than a page.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// Why another version of the key answered than the first.
const FALLBACK_CREDENTIAL: &str = "credential";

impl Exchange {
    /// Sends the request; where the provider refuses the key, once more with the other version of it, while there is
    /// one. A refused key means that nothing was generated, so nothing is paid twice.
    pub(super) async fn ask(
        &mut self,
        attempt: Attempt,
        again: Option<Again>,
        patience: Patience,
    ) -> Result<(Response<AnswerBody>, EchoGuard), Unanswered> {
        let mut response = self.send(attempt.request, patience).await?;
        let Some(again) = again else { return Ok((response, attempt.guard)) };
        let (refused, said) = self.is_key_refused(&mut response, patience).await;
        let other = if refused == Some(true) { again.attempt(&self.proxy, &self.admitted) } else { None };
        let Some(other) = other else { return Ok((response, attempt.guard)) };
        // Nobody else looks at what is let go here.
        if take_echoes(&attempt.guard, response.headers_mut()) {
            self.note_echo("header");
        }
        if attempt.guard.is_in(&said) || attempt.guard.is_escaped_in(&said) {
            self.note_echo("body");
        }
        drop(response);
        self.key_version = other.version;
        self.admitted.entry.attempts = self.admitted.entry.attempts.saturating_add(1);
        self.admitted.entry.fallback = Some(FALLBACK_CREDENTIAL.to_owned());
        let mut response = self.send(other.request, patience).await?;
        let status = response.status();
        let is_taken = status.is_success()
            || self.is_key_refused(&mut response, patience).await.0 == Some(false)
                && status.is_client_error()
                && status != StatusCode::TOO_MANY_REQUESTS;
        if is_taken {
            self.prefer(other.version, attempt.version);
        }
        Ok((response, other.guard))
    }

    async fn send(
        &mut self,
        request: Request<Chain>,
        patience: Patience,
    ) -> Result<Response<AnswerBody>, Unanswered> {
        let sent = Instant::now();
        let answer = tokio::select! {
            answer = self.proxy.upstream.send(request, patience.deadlines) => answer.map_err(Unanswered::Failed),
            why = self.ended() => Err(why),
        };
        self.upstream_wait += sent.elapsed();
        answer.map(|answer| answer.map(|body| Heard::new(IdleTimeout::new(body, patience.idle))))
    }

    /// Whether the provider refused the key (`None` where its answer, which has to tell, could not be read), and what was
    /// heard of the answer to see that. It is still there to be read, all of it.
    async fn is_key_refused(
        &mut self,
        response: &mut Response<AnswerBody>,
        patience: Patience,
    ) -> (Option<bool>, Vec<u8>) {
        let status = response.status();
        if !Refused::is_told_by_body(status) {
            return (Some(Refused::read(status, &[]) == Some(Refused::Key)), Vec::new());
        }
        if is_compressed(response.headers()) {
            return (None, Vec::new());
        }
        let began = Instant::now();
        // What ends the wait ends the reading of what follows, too, and is told there.
        let said = tokio::select! {
            said = response.body_mut().hear(REFUSAL_BYTES_MAX) => said,
            () = tokio::time::sleep_until(patience.until) => None,
            _ = self.ended() => None,
        };
        self.upstream_wait += began.elapsed();
        let is_refused = said.as_ref().map(|said| Refused::read(status, said) == Some(Refused::Key));
        (is_refused, said.unwrap_or_default())
    }

    /// Waits for whatever ends the request from this side.
    async fn ended(&self) -> Unanswered {
        tokio::select! {
            () = self.stopped.cancelled() => Unanswered::Stopped,
            () = self.sealed.cancelled() => Unanswered::Sealed,
            () = self.proxy.cut_all.cancelled() => Unanswered::ShuttingDown,
        }
    }

    /// The provider took this version of the key after it had refused the other: requests take it first from now on.
    fn prefer(&self, taken: i64, refused: i64) {
        let snapshot = self.proxy.services.snapshot();
        let Some(credential) = forward::in_force(&snapshot, &self.admitted) else { return };
        if credential.prefer(taken) && taken < refused {
            let provider = self.admitted.resolved.provider.as_str();
            let detail = json!({"provider": provider, "refused_version": refused, "used_version": taken});
            self.proxy.services.alarms.raise(AlarmKind::CredentialFellBack, &credential.id, &detail);
        }
    }

    /// The provider refused our key, account or address: an alarm.
    pub(super) fn note_refused_credential(&self, refused: Refused, status: StatusCode) {
        let provider = self.admitted.resolved.provider.as_str();
        let detail = json!({
            "provider": provider, "secret_version": self.key_version, "status": status.as_u16(),
            "refused": refused.as_str(),
        });
        self.proxy.services.alarms.raise(AlarmKind::UpstreamCredential, self.credential_id(), &detail);
    }
}
