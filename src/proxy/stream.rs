//! An answer that is a stream of events, or of bytes that mean nothing here: passed on as it comes, metered on the way.
//!
//! A client that does not read holds nothing up: whatever cuts the stream is heard while a piece waits for it, the
//! provider's connection is closed before the cost is settled, and a client that takes not even the last event loses
//! its connection.

use super::attempts::AnswerBody;
use super::exchange::{Exchange, RECORD_WAIT, response, shutting_down};
use super::refusal::{Code, Refusal};
use super::respond;
use super::settle::{Bill, note_reading, settle_with};
use super::upstream::AnswerError;
use crate::base::NanoUsd;
use crate::http::HangUp;
use crate::log::Outcome;
use crate::provider::answer::{Meter, MeterError, Place, TextWatch};
use crate::provider::{Reading, Usage};
use crate::vault::{EchoGuard, TextGuard};
use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream::poll_fn;
use http::StatusCode;
use http::header::CONTENT_LENGTH;
use http::response::Parts;
use http_body_util::BodyExt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Pieces that wait for a slow client before the provider is made to wait.
const PIECES_MAX: usize = 16;
/// Visible bytes that one token can have; a stream beyond it bills more than it was held for.
const BYTES_PER_TOKEN_MAX: u64 = 128;

/// How long a provider is heard out that nobody reads any more, and how long a silence of it says that it has sent what
/// it had.
const HEAR_OUT_MAX: Duration = Duration::from_millis(200);
const QUIET: Duration = Duration::from_millis(50);
/// More than comes in that time of what is made in it. It was made before, and where so much waited, more may wait at the
/// provider for room on the way.
const AHEAD_BYTES_MAX: usize = 32 * 1024;

/// How long the last pieces of a stream that is cut have to leave for the socket: a connection that breaks off drops what
/// it still holds.
const LAST_EVENT_GRACE: Duration = Duration::from_millis(100);

/// How long a client may leave a piece unread: as long as a provider may be silent.
const UNREAD_MAX: Duration = Duration::from_mins(5);

type Pieces = mpsc::Sender<Bytes>;

/// What passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Server-sent events.
    Events,
    /// An array of JSON that grows.
    Array,
    /// Bytes that mean nothing here.
    Opaque,
}

/// How a stream ended.
enum End {
    /// The provider ended it properly, or not.
    Upstream,
    /// The provider broke off.
    BrokenOff,
    /// The provider was silent for too long.
    Silent,
    ClientGone,
    /// We cut it, and the client is told why.
    Cut(Refusal),
    /// The same, for what must not or cannot be read on.
    Unreadable(Refusal),
}

/// Why a piece did not go to the client.
enum Unsent {
    ClientGone,
    Cut(Refusal),
}

/// Passes the stream on, then settles, then lets the client's stream end.
pub(super) async fn pass(
    mut exchange: Exchange,
    (kind, parts, body): (Kind, Parts, AnswerBody),
    guard: EchoGuard,
    drains: bool,
    deadline: Instant,
    reply: oneshot::Sender<Response>,
) {
    let (pieces, waiting) = mpsc::channel::<Bytes>(PIECES_MAX);
    let is_whole = Arc::new(AtomicBool::new(false));
    let mut headers = exchange.answer_headers(&parts.headers);
    // Nothing is taken out of these and nothing put in. Cut, the answer is shorter, and its client sees that.
    if let Some(length) = parts.headers.get(CONTENT_LENGTH).filter(|_| kind == Kind::Opaque) {
        headers.insert(CONTENT_LENGTH, length.clone());
    }
    exchange.admitted.entry.status = Some(StatusCode::OK.as_u16());
    exchange.admitted.entry.streamed = kind != Kind::Opaque;
    exchange.admitted.entry.overhead_us = exchange.overhead_us();
    exchange.admitted.entry.first_byte_ms = Some(exchange.arrival.elapsed_ms());
    if !exchange.is_recorded().await {
        // The provider is not kept waiting for the store.
        drop(body);
        return exchange.end_unrecorded(reply).await;
    }
    // A client that has left already is noticed at the first piece.
    let _ = reply.send(response(parts.status, headers, body_of(waiting, Arc::clone(&is_whole))));

    let watch = Box::new(KeyWatch(guard.for_texts()));
    let mut meter = match kind {
        Kind::Events => Meter::events(exchange.row, exchange.admitted.strip_usage, watch),
        Kind::Array => Meter::array(exchange.row, watch),
        Kind::Opaque => Meter::opaque(),
    };
    let mut passage = Passage {
        exchange: &exchange,
        body,
        guard,
        deadline,
        pieces: &pieces,
        drains,
        told: None,
        place: meter.place(),
        rest: Some(BytesMut::new()),
    };
    let end = passage.run(&mut meter).await;
    let is_cut_short = match end {
        End::Upstream | End::BrokenOff | End::Silent => false,
        End::ClientGone | End::Cut(_) => !passage.hear_out(&mut meter).await,
        End::Unreadable(_) => true,
    };
    let place = passage.place;
    // Closes the connection to a provider that is not done.
    drop(passage);
    let reading = meter.finish();
    let reading = Reading { is_cut_short: is_cut_short || reading.is_cut_short, ..reading };

    let mut entry = exchange.admitted.entry.clone();
    if !exchange.row.is_free() {
        note_reading(&mut entry, &reading);
    }
    let (outcome, last) = match end {
        End::Upstream if reading.failed => (Outcome::UpstreamFailed, None),
        End::Upstream if reading.complete => (Outcome::Completed, None),
        End::Upstream | End::BrokenOff => {
            let message = "The provider broke off in the middle of its stream.";
            (
                Outcome::UpstreamFailed,
                Some(Refusal { was_sent: true, ..Refusal::new(Code::UpstreamError, message) }),
            )
        }
        End::Silent => {
            let message = "The provider sent nothing for too long in the middle of its stream.";
            let refusal = Refusal::new(Code::UpstreamTimeout, message);
            (Outcome::UpstreamFailed, Some(Refusal { was_sent: true, ..refusal }))
        }
        End::ClientGone => (Outcome::ClientGone, None),
        End::Cut(refusal) | End::Unreadable(refusal) => (Outcome::Cut, Some(refusal)),
    };
    entry.outcome = Some(outcome);
    entry.rule = last.as_ref().map(|refusal| refusal.code.as_str().to_owned());
    let is_cut = last.is_some();
    let event = last.and_then(|refusal| {
        refusal.stream_event(exchange.row.dialect, exchange.arrival.id.as_str(), (place, &reading))
    });
    let bill = if exchange.row.is_free() { Bill::nothing() } else { Bill::of(&exchange.admitted, &reading) };
    let hang_up = exchange.arrival.hang_up.clone();
    // It is written as soon as it can be; the client's stream ends by then, at the latest.
    let _ = tokio::time::timeout(RECORD_WAIT, settle_with(exchange, bill, entry, &reading)).await;
    match event {
        Some(event) => say_last(&pieces, event.into(), hang_up).await,
        // Nothing can be said in the middle of an event; whether the client reads shows by nothing as well.
        None if is_cut => say_last(&pieces, Bytes::new(), hang_up).await,
        None if outcome == Outcome::ClientGone => hang_up.iter().for_each(HangUp::now),
        None => is_whole.store(true, Ordering::Release),
    }
}

/// The client's side of the stream. It ends well only where the exchange says that it was whole; otherwise the
/// connection breaks off.
fn body_of(mut waiting: mpsc::Receiver<Bytes>, is_whole: Arc<AtomicBool>) -> Body {
    Body::from_stream(poll_fn(move |cx| {
        waiting.poll_recv(cx).map(|piece| match piece {
            Some(piece) => Some(Ok(piece)),
            None if is_whole.load(Ordering::Acquire) => None,
            None => Some(Err(io::Error::other("the stream was cut"))),
        })
    }))
}

/// Never a clean end: an error event, and then the connection breaks off. For a client that does not read, at once.
async fn say_last(pieces: &Pieces, event: Bytes, hang_up: Option<HangUp>) {
    let taken = tokio::time::timeout(LAST_EVENT_GRACE, pieces.send(event)).await;
    // A client that has left ends the wait early.
    let _ = tokio::time::timeout(LAST_EVENT_GRACE, pieces.closed()).await;
    if taken.is_err() || pieces.capacity() < PIECES_MAX {
        hang_up.iter().for_each(HangUp::now);
    }
}

/// Lets the meter's texts be searched for the key.
struct KeyWatch(TextGuard);

impl TextWatch for KeyWatch {
    fn hear(&mut self, strand: u64, piece: &str) -> bool {
        self.0.hear(strand, piece.as_bytes()).is_ok()
    }

    fn hear_name(&mut self, name: &str) -> bool {
        self.0.hear_name(name.as_bytes()).is_ok()
    }

    fn is_alert(&self) -> bool {
        self.0.is_alert()
    }

    fn could_hide_in(&self, raw: &[u8]) -> bool {
        self.0.could_hide_in(raw)
    }

    fn hear_unread(&mut self, data: &[u8]) -> bool {
        self.0.hear_unread(data).is_ok()
    }

    fn begin_long(&mut self) {
        self.0.begin_long();
    }

    fn hear_on(&mut self, data: &[u8]) -> Option<usize> {
        self.0.hear_on(data).ok()
    }
}

/// What came, metered.
struct Metered {
    /// What the client shall see of it.
    out: BytesMut,
    /// How much of that ends the event of which the client has a part, and where it is then.
    finishes: Option<(usize, Place)>,
    result: Result<(), MeterError>,
}

struct Passage<'a> {
    exchange: &'a Exchange,
    body: AnswerBody,
    guard: EchoGuard,
    deadline: Instant,
    pieces: &'a Pieces,
    drains: bool,
    /// What the provider had told of the cost when that was last compared with what is held.
    told: Option<(Option<Usage>, Option<NanoUsd>)>,
    /// Where what the client was given ends.
    place: Place,
    /// What was read and not sent of the event of which the client has a part. `None`: that cannot be brought to its end
    /// any more.
    rest: Option<BytesMut>,
}

impl Passage<'_> {
    async fn run(&mut self, meter: &mut Meter) -> End {
        let mut client_gone = false;
        loop {
            let frame = tokio::select! {
                frame = self.body.frame() => frame,
                () = self.pieces.closed(), if !client_gone => {
                    if !self.drains {
                        return End::ClientGone;
                    }
                    client_gone = true;
                    continue;
                }
                refusal = cut(self.exchange, self.deadline) => return End::Cut(refusal),
            };
            let mut checked = Vec::new();
            let ended = match frame {
                None => {
                    self.guard.finish(&mut checked);
                    true
                }
                Some(Err(AnswerError::Idle { .. })) => return End::Silent,
                Some(Err(AnswerError::Broken(_))) => return End::BrokenOff,
                Some(Ok(frame)) => {
                    let Some(data) = frame.data_ref() else { continue };
                    if self.guard.push(data, &mut checked).is_err() {
                        return self.echoed();
                    }
                    false
                }
            };
            let Metered { mut out, finishes, result: mut metered } = self.meter(meter, &checked);
            if ended && metered.is_ok() {
                metered = meter.flush(&mut out);
            }
            if let Err(error) = metered {
                // Noted before anybody is waited for.
                let end = match error {
                    MeterError::Withheld => self.echoed(),
                    MeterError::EventTooLong { .. } => {
                        End::Unreadable(Refusal::new(Code::UpstreamError, error.to_string()))
                    }
                };
                // The events before it are whole and clean.
                if !client_gone && !out.is_empty() && self.send_soon(out.freeze()).await {
                    self.place = meter.place();
                }
                return end;
            }
            if let Some(refusal) = self.beyond_reservation(meter) {
                self.finish_event(&out, finishes).await;
                return End::Cut(refusal);
            }
            if !client_gone && !out.is_empty() {
                match self.send(out.freeze()).await {
                    Ok(()) => self.place = meter.place(),
                    Err(Unsent::Cut(refusal)) => {
                        // What did not go leaves a hole.
                        self.rest = None;
                        return End::Cut(refusal);
                    }
                    Err(Unsent::ClientGone) if self.drains => client_gone = true,
                    Err(Unsent::ClientGone) => return End::ClientGone,
                }
            }
            if ended {
                return if client_gone { End::ClientGone } else { End::Upstream };
            }
        }
    }

    /// Meters what came.
    fn meter(&self, meter: &mut Meter, checked: &[u8]) -> Metered {
        let (mut rest, mut out) = (checked, BytesMut::new());
        let (mut begun, mut finishes) = (Ok(()), None);
        if self.place.is_inside() {
            begun = meter.push_event(&mut rest, &mut out);
            let place = meter.place();
            finishes = (begun.is_ok() && !place.is_inside()).then_some((out.len(), place));
        }
        let result = begun.and_then(|()| meter.push(rest, &mut out));
        Metered { out, finishes, result }
    }

    /// Gives the client the rest of the event that it has a part of, once all of that is there, and nothing more: then
    /// another event can follow.
    async fn finish_event(&mut self, out: &[u8], finishes: Option<(usize, Place)>) {
        if !self.place.is_inside() {
            return;
        }
        let Some(mut rest) = self.rest.take() else { return };
        match finishes {
            Some((bytes, place)) => {
                rest.extend_from_slice(&out[..bytes]);
                if self.send_soon(rest.freeze()).await {
                    self.place = place;
                }
            }
            None if rest.len() + out.len() <= AHEAD_BYTES_MAX => {
                rest.extend_from_slice(out);
                self.rest = Some(rest);
            }
            None => {}
        }
    }

    /// The key is in what the provider sends: none of it is passed on.
    fn echoed(&self) -> End {
        self.exchange.note_echo("stream");
        let message = "The provider's answer contained the credential and was cut.";
        End::Unreadable(Refusal::new(Code::UpstreamError, message))
    }

    /// What the provider sent before it can know that nobody reads on is billed like the rest: it is counted, and goes
    /// nowhere, but for the rest of an event of which the client has a part. Whether that is all: one that is far ahead has made nobody knows how much.
    async fn hear_out(&mut self, meter: &mut Meter) -> bool {
        let (until, mut heard_bytes) = (Instant::now() + HEAR_OUT_MAX, 0_usize);
        while Instant::now() < until {
            let frame = match tokio::time::timeout(QUIET, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                // What has ended is whole.
                Ok(None | Some(Err(_))) => return true,
                Err(_) => break,
            };
            let Some(data) = frame.data_ref() else { continue };
            heard_bytes = heard_bytes.saturating_add(data.len());
            let mut checked = Vec::new();
            if self.guard.push(data, &mut checked).is_err() {
                self.exchange.note_echo("stream");
                return false;
            }
            let Metered { out, finishes, result } = self.meter(meter, &checked);
            self.finish_event(&out, finishes).await;
            if result.is_err() {
                return false;
            }
        }
        heard_bytes <= AHEAD_BYTES_MAX
    }

    /// Waits until there is room for the piece. A client that leaves one unread for too long is gone.
    async fn send(&self, piece: Bytes) -> Result<(), Unsent> {
        tokio::select! {
            biased;
            sent = tokio::time::timeout(UNREAD_MAX, self.pieces.send(piece)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Unsent::ClientGone),
            },
            refusal = cut(self.exchange, self.deadline) => Err(Unsent::Cut(refusal)),
        }
    }

    /// The same for a stream that is cut: for its last pieces nobody is waited for. Whether it went.
    async fn send_soon(&self, piece: Bytes) -> bool {
        tokio::time::timeout(LAST_EVENT_GRACE, self.send(piece)).await.is_ok_and(|sent| sent.is_ok())
    }

    /// A stream that visibly is longer than what was held for it, or reports usage that costs more.
    fn beyond_reservation(&mut self, meter: &Meter) -> Option<Refusal> {
        let priced = self.exchange.admitted.priced.as_ref()?;
        if self.exchange.admitted.reservation.holds().is_empty() {
            return None;
        }
        let bytes_max = priced.estimate.visible_bytes_max(BYTES_PER_TOKEN_MAX);
        let reading = meter.reading();
        let told = Some((reading.usage, reading.reported_cost));
        let is_news = told != self.told;
        self.told = told;
        let is_beyond = reading.visible_output_bytes > bytes_max
            || is_news && is_above_reservation(self.exchange, reading);
        let message = "The stream passed what was held for it, and was cut at the cap.";
        is_beyond.then(|| Refusal::new(Code::BudgetExceeded, message))
    }
}

/// Whether what the provider reports costs more than what is held for it.
fn is_above_reservation(exchange: &Exchange, reading: &Reading) -> bool {
    let admitted = &exchange.admitted;
    let is_told = reading.usage.is_some() || reading.reported_cost.is_some();
    is_told && Bill::of(admitted, reading).cost > admitted.reservation.amount()
}

/// Waits for whatever ends a stream from this side.
async fn cut(exchange: &Exchange, deadline: Instant) -> Refusal {
    tokio::select! {
        () = exchange.stopped.cancelled() => exchange.stopped.refusal(),
        () = exchange.sealed.cancelled() => respond::sealed(),
        () = tokio::time::sleep_until(deadline) => {
            Refusal::new(Code::UpstreamTimeout, "The stream did not end in time.")
        }
        () = exchange.proxy.cut_all.cancelled() => shutting_down(),
    }
}
