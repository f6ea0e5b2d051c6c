//! Responses that stay, and what is done with them.

use super::super::account::Shelf;
use super::super::bill::Reported;
use super::super::call::{Answer, Call, Work};
use super::super::page::Page;
use super::super::refusal::Refusal;
use super::super::reply::Reply;
use super::super::stream::Event;
use super::events;
use super::shape::Shape;
use serde_json::{Value, json};
use std::sync::Arc;

const RESPONSES_MAX: usize = 1_024;
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// What one takes beside its texts, about.
const OVERHEAD_BYTES: usize = 8 * 1024;

/// A response with all that is needed to tell it again.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) shape: Shape,
    pub(super) reply: Reply,
    pub(super) reported: Option<Reported>,
    /// Tokens that the next turn begins with.
    pub(super) context_tokens: u64,
    pub(super) input_items: Vec<Value>,
    pub(super) in_background: bool,
}

/// A kept response, and how far it is.
#[derive(Clone, Debug)]
pub(in crate::sandbox) struct Kept {
    made: Arc<Made>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Complete after so many more reads.
    Running {
        polls: u64,
    },
    Ended,
    Cancelled,
}

/// Where responses are kept.
pub(in crate::sandbox) fn shelf() -> Shelf<Kept> {
    Shelf::new(RESPONSES_MAX, BYTES_MAX)
}

impl Made {
    /// Its events from a number on.
    pub(super) fn events(&self, from: u64) -> impl Iterator<Item = Event> + Send + use<> {
        events::all(&self.shape, self.reply.clone(), self.reported, self.in_background, from)
    }

    /// Keeps it for the caller's account.
    pub(super) fn keep(self, call: &Call, polls: u64) {
        self.keep_in(call.sandbox.responses(), &call.key, polls);
    }

    fn keep_in(self, responses: &Shelf<Kept>, key: &str, polls: u64) {
        let items: usize = self.input_items.iter().map(|item| item.to_string().len()).sum();
        let bytes = OVERHEAD_BYTES + items + 3 * self.shape.text.len();
        let id = self.shape.id.clone();
        let state = if self.in_background { State::Running { polls } } else { State::Ended };
        responses.keep(key, &id, bytes, Kept { made: Arc::new(self), state });
    }
}

/// The same events; once they have all been made, the response is kept.
pub(super) fn keeping(
    call: &Call,
    made: Made,
    events: impl Iterator<Item = Event> + Send + 'static,
) -> impl Iterator<Item = Event> + Send + 'static {
    let (sandbox, key) = (call.sandbox.clone(), call.key.clone());
    let mut events = events.peekable();
    let mut made = Some(made);
    std::iter::from_fn(move || {
        let event = events.next()?;
        if events.peek().is_none()
            && let Some(made) = made.take()
        {
            made.keep_in(sandbox.responses(), &key, 0);
        }
        Some(event)
    })
}

impl Kept {
    fn tell(&self) -> Value {
        match self.state {
            State::Running { .. } => self.made.shape.begun("in_progress"),
            State::Ended => self.made.shape.ended(self.made.reported),
            State::Cancelled => self.made.shape.begun("cancelled"),
        }
    }
}

/// The tokens that a turn after this response begins with.
pub(super) fn context_tokens(call: &Call, id: &str) -> Result<u64, Refusal> {
    let kept = call.sandbox.responses().find(&call.key, id);
    kept.map(|kept| kept.made.context_tokens).ok_or_else(|| Refusal::NoPrevious(id.to_owned()))
}

/// An item of any response that the account keeps, made or given.
pub(super) fn item(call: &Call, id: &str) -> Option<Value> {
    call.sandbox.responses().all(&call.key).iter().rev().find_map(|kept| {
        let shape = &kept.made.shape;
        let items = shape.before.iter().chain([&shape.item]).chain(&kept.made.input_items);
        items.into_iter().find(|item| item["id"] == id).cloned()
    })
}

fn missing(id: &str) -> Refusal {
    Refusal::NoObject { message: format!("Response with id '{id}' not found."), param: None }
}

/// The response as it stands. Reading it is what brings a background response to its end.
pub(super) fn show(call: &Call, id: &str) -> Result<Work, Refusal> {
    let from = match call.asked("starting_after").map(str::parse::<u64>) {
        None => 0,
        Some(Ok(after)) => after.saturating_add(1),
        Some(Err(_)) => {
            return Err(Refusal::param("starting_after", "Invalid 'starting_after': give a whole number."));
        }
    };
    let streams = call.asked("stream") == Some("true");
    let read = call.sandbox.responses().change(&call.key, id, |kept| {
        match kept.state {
            State::Running { polls } if polls > 0 && !streams => {
                let told = kept.clone();
                kept.state = State::Running { polls: polls - 1 };
                return told;
            }
            State::Running { .. } => kept.state = State::Ended,
            State::Ended | State::Cancelled => {}
        }
        kept.clone()
    });
    let kept = read.ok_or_else(|| missing(id))?;
    if streams && kept.state == State::Ended {
        return Ok(Work::free(Answer::sse(kept.made.events(from))));
    }
    Ok(Work::free(call.answer(kept.tell())))
}

/// Forgets the response.
pub(super) fn delete(call: &Call, id: &str) -> Result<Work, Refusal> {
    call.sandbox.responses().take(&call.key, id).ok_or_else(|| missing(id))?;
    Ok(Work::free(call.answer(json!({"id": id, "object": "response", "deleted": true}))))
}

/// Stops a background response; one that has ended stays as it is.
pub(super) fn cancel(call: &Call, id: &str) -> Result<Work, Refusal> {
    let cancelled = call.sandbox.responses().change(&call.key, id, |kept| {
        if let State::Running { .. } = kept.state {
            kept.state = State::Cancelled;
        }
        kept.clone()
    });
    let kept = cancelled.ok_or_else(|| missing(id))?;
    if !kept.made.in_background {
        return Err(Refusal::invalid("Cannot cancel a synchronous response."));
    }
    Ok(Work::free(call.answer(kept.tell())))
}

/// What the response was made from.
pub(super) fn input_items(call: &Call, id: &str) -> Result<Work, Refusal> {
    let kept = call.sandbox.responses().find(&call.key, id).ok_or_else(|| missing(id))?;
    let page = Page::cut(call, kept.made.input_items.clone(), 20, 100)?;
    Ok(Work::free(call.answer(page.answer(call.dialect))))
}
