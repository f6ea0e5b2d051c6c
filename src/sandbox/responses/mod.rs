//! `/v1/responses`: made, kept for the account unless `store` is false, read, cancelled, deleted, compacted, counted.
//!
//! A background response is worked on, and billed, from the moment it is accepted; it is complete when it is read, or
//! after as many reads as the directive `polls` says.

mod events;
mod kept;
mod read;
mod shape;

pub(super) use kept::{Kept, shelf};

use super::bill::Usage;
use super::call::{Answer, Call, Work};
use super::directive::Directive;
use super::refusal::Refusal;
use super::reply::Reply;
use data_encoding::BASE64;
use kept::Made;
use read::Given;
use serde_json::{Value, json};
use shape::Shape;

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Compact,
    Count,
    Show(String),
    Delete(String),
    Cancel(String),
    InputItems(String),
}

impl Action {
    /// Reads a method and what follows `responses` in the path.
    pub(super) fn parse(method: &str, rest: &[&str]) -> Option<Self> {
        match (method, rest) {
            ("POST", []) => Some(Self::Create),
            ("POST", ["compact"]) => Some(Self::Compact),
            ("POST", ["input_tokens"]) => Some(Self::Count),
            ("GET", [id]) => Some(Self::Show((*id).to_owned())),
            ("DELETE", [id]) => Some(Self::Delete((*id).to_owned())),
            ("POST", [id, "cancel"]) => Some(Self::Cancel((*id).to_owned())),
            ("GET", [id, "input_items"]) => Some(Self::InputItems((*id).to_owned())),
            _ => None,
        }
    }

    /// Whether the request says more than its path. A cancellation may come with a body, which says nothing.
    pub(super) fn has_body(&self) -> bool {
        matches!(self, Self::Create | Self::Compact | Self::Count)
    }
}

/// Does it, and says what it uses.
pub(super) fn work(call: &Call, action: &Action) -> Result<Work, Refusal> {
    match action {
        Action::Create => create(call),
        Action::Compact => compact(call),
        Action::Count => {
            let given = Given::read(call)?;
            let told = json!({"object": "response.input_tokens", "input_tokens": given.ask.input.total()});
            Ok(Work::free(call.answer(told)))
        }
        Action::Show(id) => kept::show(call, id),
        Action::Delete(id) => kept::delete(call, id),
        Action::Cancel(id) => kept::cancel(call, id),
        Action::InputItems(id) => kept::input_items(call, id),
    }
}

fn create(call: &Call) -> Result<Work, Refusal> {
    let given = Given::read(call)?;
    let is_true = |name: &str| call.body.get(name) == Some(&Value::Bool(true));
    let stores = call.body.get("store") != Some(&Value::Bool(false));
    let in_background = is_true("background");
    if in_background && !stores {
        return Err(Refusal::param("store", "Background mode requires 'store' to be true."));
    }
    let reply = Reply::compose(&given.ask, &call.directives, &call.key);
    let usage = Usage::new(given.ask.input.total(), reply.tokens(), &call.directives).served(call);
    let reported = usage.reported(&call.directives);
    let made = Made {
        shape: Shape::new(call, &reply),
        reply,
        reported,
        context_tokens: given.turn_tokens.saturating_add(usage.output),
        input_items: given.items,
        in_background,
    };
    let streams = given.ask.stream;
    let polls = call.directives.number(Directive::Polls).unwrap_or(0);
    let answer = match (streams, in_background) {
        (true, _) => {
            let events = made.events(0);
            if in_background {
                made.keep(call, 0);
                Answer::sse(events)
            } else if stores {
                Answer::sse(kept::keeping(call, made, events))
            } else {
                Answer::sse(events)
            }
        }
        (false, true) => {
            let queued = made.shape.begun("queued");
            made.keep(call, polls);
            Answer::Json(queued)
        }
        (false, false) => {
            let ended = made.shape.ended(reported);
            if stores {
                made.keep(call, 0);
            }
            Answer::Json(ended)
        }
    };
    Ok(Work { answer, usage: Some(usage) })
}

/// The user's messages stay; everything else becomes one item that only the provider can read.
fn compact(call: &Call) -> Result<Work, Refusal> {
    let given = Given::read(call)?;
    let reply = Reply::compose(&given.ask, &call.directives, &call.key);
    let usage = Usage::new(given.ask.input.total(), reply.tokens(), &call.directives).served(call);
    let mut output: Vec<Value> = given.items.into_iter().filter(|item| item["role"] == "user").collect();
    output.push(json!({
        "id": call.id("cmp"), "type": "compaction",
        "encrypted_content": BASE64.encode(reply.pieces.text(0).as_bytes()),
    }));
    let mut answer = json!({
        "id": call.id("resp"), "object": "response.compaction", "created_at": call.created, "output": output,
    });
    if let Some(reported) = usage.reported(&call.directives) {
        answer["usage"] = shape::usage(reported);
    }
    Ok(Work { answer: call.answer(answer), usage: Some(usage) })
}
