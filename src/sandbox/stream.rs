//! Streams: the events of an answer, made one by one as the client reads them, with the gaps, breaks and
//! malformed events that the directives ask for.

use super::bill::Meter;
use super::directive::{Directive, Directives};
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};
use std::iter::Peekable;
use std::time::Duration;

/// One event as it goes over the wire, and how many output tokens it carries.
#[derive(Clone, Debug)]
pub(super) struct Event {
    bytes: Bytes,
    tokens: u64,
}

/// The events of one answer, in order.
pub(super) type Events = Box<dyn Iterator<Item = Event> + Send>;

impl Event {
    /// `data: JSON`, as `OpenAI` and Gemini send it.
    pub(super) fn data(value: &Value) -> Self {
        Self::raw(format!("data: {value}\n\n"))
    }

    /// `event: NAME` and `data: JSON`, as Anthropic and the responses API send it.
    pub(super) fn named(name: &str, value: &Value) -> Self {
        Self::raw(format!("event: {name}\ndata: {value}\n\n"))
    }

    /// Bytes that are an event already.
    pub(super) fn raw(text: impl Into<Bytes>) -> Self {
        Self { bytes: text.into(), tokens: 0 }
    }

    /// The same event, carrying output.
    pub(super) fn carrying(self, tokens: u64) -> Self {
        Self { tokens, ..self }
    }
}

/// An event that is the same each time but for a few values: serialised once, filled in cheaply.
#[derive(Clone, Debug)]
pub(super) struct Template {
    head: String,
    /// After each hole: its number, and the text up to the next.
    rest: Vec<(usize, String)>,
}

/// How a hole begins once serialised; no model name or word of ours has a control character.
const HOLE: &str = "\"\\u0001";

impl Template {
    /// Stands where the `number`th value will (0 to 9).
    pub(super) fn hole(number: u8) -> Value {
        json!(format!("\u{1}{number}"))
    }

    /// `before`, the value with its holes, and a blank line.
    pub(super) fn new(before: &str, value: &Value) -> Self {
        let text = format!("{before}{value}\n\n");
        let mut parts = text.split(HOLE);
        let head = parts.next().unwrap_or_default().to_owned();
        let hole = |part: &str| {
            let number = part.bytes().next().map_or(0, |digit| usize::from(digit.wrapping_sub(b'0')));
            (number, part.get(2..).unwrap_or_default().to_owned())
        };
        Self { head, rest: parts.map(hole).collect() }
    }

    /// The event with its holes filled by these JSON texts.
    pub(super) fn fill(&self, values: &[&str]) -> Event {
        let mut text = String::with_capacity(self.head.len() + 256);
        text.push_str(&self.head);
        for (number, after) in &self.rest {
            text.push_str(values.get(*number).copied().unwrap_or("null"));
            text.push_str(after);
        }
        Event::raw(text)
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The event of a malformed stream that cannot be read.
const MALFORMED_EVENT: &[u8] = b"data: {\"malformed\": \n\n";
const MALFORMED_AT: u64 = 2;

/// Why a body ended early: the connection is aborted, as a provider that breaks off does.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox broke off, as it was told to")]
struct Broken;

struct Play {
    events: Peekable<Events>,
    /// Gone once everything is posted.
    meter: Option<Meter>,
    gap: Duration,
    cut: Option<u64>,
    malformed: bool,
    sent: u64,
}

/// A body that plays the events, and posts the call, if it costs anything, before its last one.
pub(super) fn body(events: Events, meter: Option<Meter>, directives: &Directives) -> Body {
    let play = Play {
        events: events.peekable(),
        meter,
        gap: directives.millis(Directive::Gap).unwrap_or_default(),
        cut: directives.number(Directive::Cut),
        malformed: directives.has(Directive::Malformed),
        sent: 0,
    };
    Body::from_stream(stream::unfold(Some(play), async |play| {
        let mut play = play?;
        match play.next().await? {
            Ok(bytes) => Some((Ok(bytes), Some(play))),
            Err(broken) => Some((Err(broken), None)),
        }
    }))
}

impl Play {
    async fn next(&mut self) -> Option<Result<Bytes, Broken>> {
        let event = self.events.next()?;
        if self.cut == Some(self.sent) {
            // What was sent before must leave for the socket first; an error drops what is buffered.
            tokio::task::yield_now().await;
            return Some(Err(Broken));
        }
        if self.sent > 0 && !self.gap.is_zero() {
            tokio::time::sleep(self.gap).await;
        }
        let bytes = if self.malformed && self.sent == MALFORMED_AT {
            Bytes::from_static(MALFORMED_EVENT)
        } else {
            event.bytes
        };
        self.sent += 1;
        if let Some(meter) = &mut self.meter {
            meter.produce(event.tokens);
        }
        if self.events.peek().is_none() {
            self.meter.take().into_iter().for_each(Meter::finish);
        }
        Some(Ok(bytes))
    }
}

/// A body that breaks off in its middle.
pub(super) fn cut_body(whole: &Bytes) -> Body {
    let half = whole.slice(..whole.len() / 2);
    Body::from_stream(stream::unfold(Some(half), async |half| match half? {
        half if half.is_empty() => {
            tokio::task::yield_now().await;
            Some((Err(Broken), None))
        }
        half => Some((Ok(half), Some(Bytes::new()))),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_fills_its_holes_by_number() {
        let shape = json!({"b": Template::hole(0), "a": Template::hole(1), "c": [Template::hole(0)]});
        let event = Template::new("data: ", &shape).fill(&[&quoted("x\"\n"), "7"]);
        assert_eq!(event.bytes, "data: {\"a\":7,\"b\":\"x\\\"\\n\",\"c\":[\"x\\\"\\n\"]}\n\n");
    }
}
