//! The events of a response, numbered from 0. They are made as they are read, and the same each time.

use super::super::bill::Reported;
use super::super::reply::Reply;
use super::super::stream::{Event, Template, quoted};
use super::super::tokens::count;
use super::shape::{Shape, part};
use serde_json::{Value, json};

/// All events from the number `from` on.
pub(super) fn all(
    shape: &Shape,
    reply: Reply,
    reported: Option<Reported>,
    in_background: bool,
    from: u64,
) -> impl Iterator<Item = Event> + Send + use<> {
    let mut opening = opening(shape, in_background);
    let mut closing = Vec::new();
    let index = shape.before.len();
    let at_item = |kind: &str, name: &str, value: Value| {
        let mut event = json!({"type": kind, "output_index": index, "item_id": shape.item_id});
        event[name] = value;
        event
    };
    let at_part = |kind: &str, name: &str, value: Value| {
        let mut event = at_item(kind, name, value);
        event["content_index"] = json!(0);
        event
    };
    let is_tool = reply.tool.is_some();
    let mut begun = shape.item.clone();
    begun["status"] = json!("in_progress");
    begun[if is_tool { "arguments" } else { "content" }] = if is_tool { json!("") } else { json!([]) };
    opening.push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
    let mut delta = if is_tool {
        let mut done = at_item("response.function_call_arguments.done", "arguments", json!(shape.text));
        done["name"] = shape.item["name"].clone();
        closing.push(done);
        at_item("response.function_call_arguments.delta", "delta", Template::hole(0))
    } else {
        opening.push(at_part("response.content_part.added", "part", part("", reply.refuses)));
        let (done, name, delta) = if reply.refuses {
            ("response.refusal.done", "refusal", "response.refusal.delta")
        } else {
            ("response.output_text.done", "text", "response.output_text.delta")
        };
        let mut done = at_part(done, name, json!(shape.text));
        let mut delta = at_part(delta, "delta", Template::hole(0));
        if !reply.refuses {
            done["logprobs"] = json!([]);
            delta["logprobs"] = json!([]);
        }
        closing.push(done);
        closing.push(at_part("response.content_part.done", "part", part(&shape.text, reply.refuses)));
        delta
    };
    closing.push(json!({"type": "response.output_item.done", "output_index": index, "item": shape.item}));
    closing.push(json!({"type": shape.ending(), "response": shape.ended(reported)}));
    delta["sequence_number"] = Template::hole(1);
    let kind = delta["type"].as_str().unwrap_or_default();
    let template = Template::new(&format!("event: {kind}\ndata: "), &delta);
    let first = count(opening.len());
    let after = first.saturating_add(reply.tokens());
    let opening = numbered(opening, 0, from);
    let closing = numbered(closing, after, from);
    let skipped = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
    let pieces = reply.pieces.into_each_candidate(1).zip(first..).skip(skipped);
    let deltas = pieces
        .map(move |((_, piece), number)| template.fill(&[&quoted(&piece), &number.to_string()]).carrying(1));
    opening.into_iter().chain(deltas).chain(closing)
}

/// The response begins, and with it what comes before the words.
fn opening(shape: &Shape, in_background: bool) -> Vec<Value> {
    let status = if in_background { "queued" } else { "in_progress" };
    let mut events = vec![json!({"type": "response.created", "response": shape.begun(status)})];
    if in_background {
        events.push(json!({"type": "response.queued", "response": shape.begun(status)}));
    }
    events.push(json!({"type": "response.in_progress", "response": shape.begun("in_progress")}));
    for (index, item) in shape.before.iter().enumerate() {
        item_events(index, item, &mut events);
    }
    events
}

fn item_events(index: usize, item: &Value, events: &mut Vec<Value>) {
    let at_item = |kind: &str| json!({"type": kind, "output_index": index, "item_id": item["id"]});
    let mut begun = item.clone();
    let mut between = Vec::new();
    match item["type"].as_str() {
        Some("web_search_call") => {
            begun["status"] = json!("in_progress");
            between.extend(
                ["in_progress", "searching", "completed"]
                    .map(|step| at_item(&format!("response.web_search_call.{step}"))),
            );
        }
        Some("code_interpreter_call") => {
            begun["status"] = json!("in_progress");
            begun["code"] = json!("");
            begun["outputs"] = Value::Null;
            let step = |step: &str| at_item(&format!("response.code_interpreter_call{step}"));
            let with = |mut event: Value, name: &str| {
                event[name] = item["code"].clone();
                event
            };
            between.push(step(".in_progress"));
            between.push(with(step("_code.delta"), "delta"));
            between.push(with(step("_code.done"), "code"));
            between.push(step(".interpreting"));
            between.push(step(".completed"));
        }
        _ => {
            begun["summary"] = json!([]);
            for (number, told) in item["summary"].as_array().into_iter().flatten().enumerate() {
                let step = |step: &str, name: &str, value: &Value| {
                    let mut event = at_item(&format!("response.reasoning_summary_{step}"));
                    event["summary_index"] = json!(number);
                    event[name] = value.clone();
                    event
                };
                let empty = json!({"type": "summary_text", "text": ""});
                between.push(step("part.added", "part", &empty));
                between.push(step("text.delta", "delta", &told["text"]));
                between.push(step("text.done", "text", &told["text"]));
                between.push(step("part.done", "part", told));
            }
        }
    }
    events.push(json!({"type": "response.output_item.added", "output_index": index, "item": begun}));
    events.append(&mut between);
    events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
}

/// Adds the number that each event has, and leaves out those before `from`.
fn numbered(events: Vec<Value>, first: u64, from: u64) -> Vec<Event> {
    let number = |(mut event, number): (Value, u64)| {
        event["sequence_number"] = json!(number);
        Event::named(event["type"].as_str().unwrap_or_default(), &event)
    };
    events.into_iter().zip(first..).filter(|(_, number)| *number >= from).map(number).collect()
}
