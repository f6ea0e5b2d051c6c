//! An answer that is no stream: read whole, metered, settled, and then passed on with what it cost, to a client that
//! takes it in time.

use super::attempts::AnswerBody;
use super::exchange::{Exchange, RECORD_WAIT, response, shutting_down};
use super::headers::put;
use super::rates;
use super::refusal::{Code, Refusal};
use super::respond;
use super::settle::{Bill, note_reading, settle, settle_with};
use super::taking::taking;
use super::upstream::AnswerError;
use crate::budget::Balance;
use crate::http::Buffer;
use crate::log::{Entry, Outcome, UsageSource};
use crate::provider::answer::{Refused, read_json};
use crate::provider::operation::Answer;
use crate::provider::{Reading, Usage};
use crate::vault::EchoGuard;
use axum::response::Response;
use bytes::Bytes;
use chrono::TimeDelta;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::response::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::BodyExt;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How reading the provider's body ended.
enum Collected {
    Whole(Bytes),
    Echoed,
    TooLarge,
    NoRoom,
    BrokenOff,
    Late,
    Stopped,
    Sealed,
    ShuttingDown,
}

/// Reads the answer, settles, and replies. A client that leaves meanwhile changes nothing: the provider bills.
pub(super) async fn pass(
    mut exchange: Exchange,
    parts: Parts,
    body: AnswerBody,
    guard: EchoGuard,
    deadline: Instant,
    reply: oneshot::Sender<Response>,
) {
    let is_error = !parts.status.is_success();
    let bytes_max = if is_error {
        exchange.proxy.settings.error_body_bytes_max
    } else {
        exchange.proxy.settings.answer_bytes_max
    };
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let room = exchange.room();
    let begun = exchange.answer.take().unwrap_or_else(|| Buffer::new(&room, None)).announced(announced);
    let bytes_max = bytes_max.min(room.bytes_max());
    let collected = collect(&exchange, (body, guard), begun, bytes_max, deadline).await;
    let mut told = None;
    let said = if let Collected::Whole(bytes) = &collected { &bytes[..] } else { &[] };
    let refused = refused_upstream(&exchange, parts.status, said);
    let (refusal, outcome) = match (collected, refused) {
        (Collected::Whole(bytes), Some(refusal)) => {
            told = Some(bill_of(&exchange, parts.status, &read(&exchange, &parts, &bytes)));
            (refusal, Outcome::UpstreamFailed)
        }
        (Collected::Whole(bytes), None) => return pass_on(exchange, parts, bytes, reply).await,
        (Collected::Stopped, _) => (exchange.stopped.refusal(), Outcome::Cut),
        (Collected::Sealed, _) => (respond::sealed(), Outcome::Cut),
        (Collected::ShuttingDown, _) => (shutting_down(), Outcome::Cut),
        (Collected::Late, _) => (
            Refusal::new(Code::UpstreamTimeout, "The provider's answer did not end in time."),
            Outcome::UpstreamFailed,
        ),
        (Collected::Echoed, _) => (
            Refusal::new(Code::UpstreamError, "The provider's answer contained the credential and was cut."),
            Outcome::Cut,
        ),
        (Collected::TooLarge, _) => (
            Refusal::new(Code::UpstreamError, "The provider's answer is larger than this gateway passes on."),
            Outcome::Cut,
        ),
        (Collected::NoRoom, _) => (
            Refusal::new(
                Code::Overloaded,
                "The server, or this key, has as many answers unread as it may. The provider has answered, and may bill for it.",
            )
            .retry_after(TimeDelta::seconds(1)),
            Outcome::Cut,
        ),
        (Collected::BrokenOff, _) => (
            Refusal::new(Code::UpstreamError, "The provider broke off in the middle of its answer."),
            Outcome::UpstreamFailed,
        ),
    };
    let refusal = Refusal { was_sent: true, ..refusal };
    let response = exchange.refuse(&refusal);
    // Unstreamed, all of the output was made before its first byte came: what was not read is billed too.
    let unread = || {
        if is_unbilled(parts.status) { Bill::nothing() } else { Bill::reservation(&exchange.admitted) }
    };
    let bill = told.unwrap_or_else(unread);
    let rule = Some(refusal.code.as_str().to_owned());
    let status = Some(refusal.code.status().as_u16());
    let entry = Entry { rule, status, outcome: Some(outcome), ..exchange.admitted.entry.clone() };
    // Nothing of the provider's answer is in it: who cannot be recorded now is told all the same.
    let _ = tokio::time::timeout(RECORD_WAIT, settle(exchange, bill, entry)).await;
    let _ = reply.send(response);
}

/// The provider's answer as it is, with what it cost.
async fn pass_on(exchange: Exchange, parts: Parts, bytes: Bytes, reply: oneshot::Sender<Response>) {
    let reading = read(&exchange, &parts, &bytes);
    let bill = bill_of(&exchange, parts.status, &reading);
    let mut headers = exchange.answer_headers(&parts.headers);
    let mut entry = exchange.admitted.entry.clone();
    if !exchange.row.is_free() {
        note_reading(&mut entry, &reading);
    }
    entry.status = Some(parts.status.as_u16());
    entry.first_byte_ms = Some(exchange.arrival.elapsed_ms());
    entry.overhead_us = exchange.overhead_us();
    entry.outcome = Some(match parts.status {
        _ if reply.is_closed() => Outcome::ClientGone,
        status if status.is_server_error() => Outcome::UpstreamFailed,
        _ => Outcome::Completed,
    });
    if let Some(model) = &entry.model_reported {
        put(&mut headers, "x-bitting-model-reported", model);
    }
    put(&mut headers, "x-bitting-cost-usd", &bill.cost.to_string());
    let (caller, proxy) = (exchange.admitted.caller.clone(), exchange.proxy.clone());
    let services = &proxy.services;
    let (arrival, dialect) = (Arc::clone(&exchange.arrival), exchange.row.dialect);
    let settled = tokio::time::timeout(RECORD_WAIT, settle_with(exchange, bill, entry, &reading)).await;
    let Ok(balances) = settled else {
        // The ledger writes what it was told as soon as it can; the answer is not passed on without that.
        let refusal = Refusal { was_sent: true, ..respond::store_unavailable() };
        let caller = (&caller, services.ledger.rate_now());
        let _ = reply.send(respond::refusal_after(&refusal, dialect, &arrival, caller));
        return;
    };
    // What was used stands in the place of the worst case.
    rates::stamp(&mut headers, &caller, services.ledger.rate_now());
    if let Some(remaining) = balances.iter().map(Balance::remaining).min() {
        put(&mut headers, "x-bitting-budget-remaining-usd", &remaining.to_string());
    }
    let (body, taking) = taking(bytes, proxy.settings.pace);
    if reply.send(response(parts.status, headers, body)).is_ok() {
        // Whoever leaves his answer unread keeps nothing else of his request here.
        let (hang_up, cut_all) = (arrival.hang_up.clone(), proxy.cut_all.clone());
        proxy.tasks.spawn(async move {
            tokio::select! {
                () = taking.end(hang_up.as_ref()) => {}
                () = cut_all.cancelled() => {}
            }
        });
    }
}

/// What the provider refused although the request is not at fault: our credential, our account, our address.
fn refused_upstream(exchange: &Exchange, status: StatusCode, said: &[u8]) -> Option<Refusal> {
    let provider = &exchange.admitted.resolved.provider;
    if let Some(refused) = Refused::read(status, said) {
        exchange.note_refused_credential(refused, status);
        let ours = match refused {
            Refused::Key => "credential",
            Refused::Account => "account",
        };
        let message = format!(
            "The provider {provider} refused this gateway's {ours}. Your key is not at fault; tell your security team."
        );
        return Some(Refusal::new(Code::UpstreamCredentialError, message));
    }
    let message = format!("The provider {provider} answered with a redirect, which is never followed.");
    (status.is_redirection() || status.is_informational()).then(|| Refusal::new(Code::UpstreamError, message))
}

/// What the answer tells. Of an error it is what was used, if that: no byte of it was generated, and nothing is kept. What
/// somebody said and a provider wrote down tells nothing, though it may read like an answer.
fn read(exchange: &Exchange, parts: &Parts, bytes: &[u8]) -> Reading {
    let kind = parts.headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_json = kind.trim_ascii_start().to_ascii_lowercase().starts_with(b"application/json");
    if exchange.row.answer == Answer::Text && !is_json {
        let visible_output_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        return Reading { complete: true, visible_output_bytes, ..Reading::default() };
    }
    let reading = read_json(exchange.row, bytes);
    if parts.status.is_success() {
        return reading;
    }
    Reading { visible_output_bytes: 0, made: Vec::new(), ..reading }
}

/// Nothing for what was refused, but what the provider says all the same that it took.
fn bill_of(exchange: &Exchange, status: StatusCode, reading: &Reading) -> Bill {
    let was_used = reading.usage.is_some_and(|usage| usage != Usage::default());
    match reading.reported_cost {
        _ if exchange.row.is_free() => Bill::nothing(),
        _ if was_used || !is_unbilled(status) => Bill::of(&exchange.admitted, reading),
        Some(cost) => Bill { cost, reported: Some(cost), source: UsageSource::Reported, ..Bill::nothing() },
        None => Bill::nothing(),
    }
}

/// Refused before anything was generated.
fn is_unbilled(status: StatusCode) -> bool {
    status.is_client_error() || status.is_redirection() || status.as_u16() == 529
}

async fn collect(
    exchange: &Exchange,
    (mut body, mut guard): (AnswerBody, EchoGuard),
    mut whole: Buffer,
    bytes_max: usize,
    deadline: Instant,
) -> Collected {
    let mut received = 0_usize;
    loop {
        let frame = tokio::select! {
            frame = body.frame() => frame,
            () = exchange.stopped.cancelled() => return Collected::Stopped,
            () = exchange.sealed.cancelled() => return Collected::Sealed,
            () = exchange.proxy.cut_all.cancelled() => return Collected::ShuttingDown,
            () = tokio::time::sleep_until(deadline) => return Collected::Late,
        };
        match frame {
            None => {
                let Ok(bytes) = whole.make_room(received) else { return Collected::NoRoom };
                guard.finish(bytes);
                if guard.is_escaped_in(bytes) {
                    exchange.note_echo("body");
                    return Collected::Echoed;
                }
                return Collected::Whole(whole.hold());
            }
            Some(Err(AnswerError::Idle { .. })) => return Collected::Late,
            Some(Err(AnswerError::Broken(_))) => return Collected::BrokenOff,
            Some(Ok(frame)) => {
                let Some(data) = frame.data_ref() else { continue };
                received = received.saturating_add(data.len());
                if received > bytes_max {
                    return Collected::TooLarge;
                }
                let Ok(bytes) = whole.make_room(received) else { return Collected::NoRoom };
                if guard.push(data, bytes).is_err() {
                    exchange.note_echo("body");
                    return Collected::Echoed;
                }
            }
        }
    }
}
