//! `POST /v1/responses`. Nothing is stored: `previous_response_id` is accepted and brings nothing with it.

use super::bill::{Reported, Usage};
use super::call::{Answer, Call, Work, bound};
use super::chat::choice;
use super::refusal::Refusal;
use super::reply::{Ask, Finish, Reply, Tool, Want, text_of};
use super::stream::{Event, Template, quoted};
use super::tokens::InputCount;
use serde_json::{Value, json};

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let ask = read(call)?;
    let reply = Reply::compose(&ask, &call.directives, &call.key);
    let usage = Usage::new(ask.input.total(), reply.tokens(), &call.directives);
    let reported = usage.reported(&call.directives);
    let shape = Shape::new(call, &reply);
    let answer = if ask.stream {
        Answer::sse(events(&shape, reply, reported))
    } else {
        Answer::Json(shape.ended(reported))
    };
    Ok(Work { answer, usage: Some(usage) })
}

fn read(call: &Call) -> Result<Ask, Refusal> {
    let body = &call.body;
    let mut input = InputCount::default();
    input.message(&body["instructions"]);
    let (topic, after_result) = match &body["input"] {
        Value::String(text) => {
            input.message(&body["input"]);
            (text_of(&Value::from(text.as_str())), false)
        }
        Value::Array(items) => {
            input.messages(items);
            let texts = items.iter().rev().filter(|item| item["role"] == "user");
            let topic = texts.map(|item| text_of(&item["content"])).next().unwrap_or_default();
            (topic, items.last().is_some_and(|item| item["type"] == "function_call_output"))
        }
        _ => return Err(Refusal::param("input", "Missing required parameter: 'input'.")),
    };
    body.get("tools").into_iter().chain(body.pointer("/text/format")).for_each(|value| input.json(value));
    let offered = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let own = offered.filter(|tool| tool["type"] == "function");
    let tools: Vec<Tool> = own.filter_map(|tool| Tool::read(tool, "parameters")).collect();
    let schema = match body.pointer("/text/format/type").and_then(Value::as_str) {
        Some("json_schema") => body.pointer("/text/format/schema").cloned(),
        Some("json_object") => Some(json!({"properties": {"answer": {"type": "string"}}})),
        _ => None,
    };
    Ok(Ask {
        input,
        want: Want::decide(&tools, &choice(&body["tool_choice"]), &topic, after_result, schema.as_ref()),
        topic,
        output_tokens_max: bound(body, "max_output_tokens")?,
        candidates: 1,
        candidates_made: 1,
        stream: call.streams(),
    })
}

/// The parts of one response, before and after it is made.
struct Shape {
    response: Value,
    item_id: String,
    /// The output item when it is complete.
    item: Value,
    text: String,
    finish: Finish,
    created: i64,
}

impl Shape {
    fn new(call: &Call, reply: &Reply) -> Self {
        let body = &call.body;
        let given = |name: &str, otherwise: Value| body.get(name).cloned().unwrap_or(otherwise);
        let response = json!({
            "id": call.id("resp"), "object": "response", "created_at": call.created, "status": "in_progress",
            "background": false, "error": null, "incomplete_details": null,
            "instructions": given("instructions", Value::Null),
            "max_output_tokens": given("max_output_tokens", Value::Null), "max_tool_calls": null,
            "metadata": given("metadata", json!({})), "model": call.model_name(), "output": [],
            "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
            "previous_response_id": given("previous_response_id", Value::Null),
            "prompt_cache_key": null, "reasoning": {"effort": null, "summary": null}, "safety_identifier": null,
            "service_tier": "default", "store": given("store", json!(true)),
            "temperature": given("temperature", json!(1.0)),
            "text": given("text", json!({"format": {"type": "text"}})),
            "tool_choice": given("tool_choice", json!("auto")), "tools": given("tools", json!([])),
            "top_logprobs": 0, "top_p": given("top_p", json!(1.0)),
            "truncation": given("truncation", json!("disabled")), "usage": null, "user": null,
        });
        let text = reply.pieces.text(0);
        let status = if reply.finish == Finish::Length { "incomplete" } else { "completed" };
        let (item_id, item) = if let Some(name) = &reply.tool {
            let id = call.id("fc");
            let item = json!({
                "id": id, "type": "function_call", "status": status, "call_id": call.id("call"),
                "name": name, "arguments": text,
            });
            (id, item)
        } else {
            let id = call.id("msg");
            let content = json!([part(&text)]);
            let item = json!({
                "id": id, "type": "message", "status": status, "role": "assistant", "content": content,
            });
            (id, item)
        };
        Self { response, item_id, item, text, finish: reply.finish, created: call.created }
    }

    /// The response when it has ended, completely or not.
    fn ended(&self, reported: Option<Reported>) -> Value {
        let mut response = self.response.clone();
        response["output"] = json!([self.item]);
        if self.finish == Finish::Length {
            response["status"] = json!("incomplete");
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            response["status"] = json!("completed");
            response["completed_at"] = json!(self.created);
        }
        if let Some(reported) = reported {
            response["usage"] = json!({
                "input_tokens": reported.input,
                "input_tokens_details": {"cached_tokens": reported.cached, "cache_write_tokens": 0},
                "output_tokens": reported.output,
                "output_tokens_details": {"reasoning_tokens": reported.reasoning},
                "total_tokens": reported.input.saturating_add(reported.output),
            });
        }
        response
    }
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

/// Adds the number that each event has.
fn numbered(events: Vec<Value>, first: u64) -> Vec<Event> {
    let numbers = first..;
    let number = |(mut event, number): (Value, u64)| {
        event["sequence_number"] = json!(number);
        Event::named(event["type"].as_str().unwrap_or_default(), &event)
    };
    events.into_iter().zip(numbers).map(number).collect()
}

fn events(shape: &Shape, reply: Reply, reported: Option<Reported>) -> impl Iterator<Item = Event> + use<> {
    let id = &shape.item_id;
    let at_item = |kind: &str, name: &str, value: Value| {
        let mut event = json!({"type": kind, "output_index": 0, "item_id": id});
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
    let mut opening = vec![
        json!({"type": "response.created", "response": shape.response}),
        json!({"type": "response.in_progress", "response": shape.response}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": begun}),
    ];
    let mut closing = Vec::new();
    let delta = if is_tool {
        let done = "response.function_call_arguments.done";
        let mut event = at_item(done, "arguments", json!(shape.text));
        event["name"] = shape.item["name"].clone();
        closing.push(event);
        at_item("response.function_call_arguments.delta", "delta", Template::hole(0))
    } else {
        opening.push(at_part("response.content_part.added", "part", part("")));
        let mut done = at_part("response.output_text.done", "text", json!(shape.text));
        done["logprobs"] = json!([]);
        closing.push(done);
        closing.push(at_part("response.content_part.done", "part", part(&shape.text)));
        let mut delta = at_part("response.output_text.delta", "delta", Template::hole(0));
        delta["logprobs"] = json!([]);
        delta
    };
    closing.push(json!({"type": "response.output_item.done", "output_index": 0, "item": shape.item}));
    let ending = if shape.finish == Finish::Length { "response.incomplete" } else { "response.completed" };
    closing.push(json!({"type": ending, "response": shape.ended(reported)}));
    let mut delta = delta;
    delta["sequence_number"] = Template::hole(1);
    let kind = delta["type"].as_str().unwrap_or_default();
    let template = Template::new(&format!("event: {kind}\ndata: "), &delta);
    let first = super::tokens::count(opening.len());
    let after = first + reply.tokens();
    let pieces = reply.pieces.into_each_candidate(1).zip(first..);
    let deltas = pieces
        .map(move |((_, piece), number)| template.fill(&[&quoted(&piece), &number.to_string()]).carrying(1));
    numbered(opening, 0).into_iter().chain(deltas).chain(numbered(closing, after))
}
