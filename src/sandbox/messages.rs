//! `POST /v1/messages` and `/v1/messages/count_tokens`, as Anthropic answers them.

use super::bill::{Reported, Usage};
use super::call::{Answer, Call, Work, bound};
use super::files;
use super::refusal::{Dialect, Refusal};
use super::reply::{Ask, Choice, Finish, Reply, Tool, Want, text_of};
use super::stream::{Event, Template, quoted};
use super::tokens::InputCount;
use serde_json::{Value, json};

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let ask = read(call)?;
    if ask.output_tokens_max.is_none() {
        return Err(Refusal::param("max_tokens", "max_tokens: Field required"));
    }
    let reply = Reply::compose(&ask, &call.directives, &call.key);
    let usage = Usage::new(ask.input.total(), reply.tokens(), &call.directives).served(call);
    let reported = usage.reported(&call.directives);
    let answer = if ask.stream {
        Answer::sse(events(call, reply, reported))
    } else {
        Answer::Json(json(call, &reply, reported))
    };
    Ok(Work { answer, usage: Some(usage) })
}

/// Counts what a message would have as input. Free.
pub(super) fn count(call: &Call) -> Result<Work, Refusal> {
    let ask = read(call)?;
    let mut answer = json!({"input_tokens": ask.input.total()});
    if call.directives.echoes() {
        answer["echo"] = Value::from(call.key.as_str());
    }
    Ok(Work { answer: Answer::Json(answer), usage: None })
}

fn read(call: &Call) -> Result<Ask, Refusal> {
    let body = &call.body;
    let Some(messages) = body.get("messages").and_then(Value::as_array) else {
        return Err(Refusal::param("messages", "messages: Field required"));
    };
    if messages.is_empty() {
        return Err(Refusal::param("messages", "messages: at least one message is required"));
    }
    let mut input = InputCount::default();
    input.message(&body["system"]);
    input.messages(messages);
    input.add(files::named(call, &body["messages"])?);
    let format = body.pointer("/output_config/format").or_else(|| body.get("output_format"));
    let schema = format.and_then(|format| format.get("schema"));
    body.get("tools").into_iter().chain(schema).for_each(|value| input.json(value));
    // The last user message with text: a tool's result comes in a user message of its own.
    let texts = messages.iter().rev().filter(|message| message["role"] == "user");
    let topic = texts.map(|message| text_of(&message["content"])).find(|text| !text.is_empty());
    let topic = topic.unwrap_or_default();
    let last = messages.last().and_then(|message| message["content"].as_array());
    let after_result = last.is_some_and(|parts| parts.iter().any(|part| part["type"] == "tool_result"));
    let offered = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let own = offered.filter(|tool| tool.get("input_schema").is_some());
    let tools: Vec<Tool> = own.filter_map(|tool| Tool::read(tool, "input_schema")).collect();
    let choice = match body.pointer("/tool_choice/type").and_then(Value::as_str) {
        Some("none") => Choice::Never,
        Some("any") => Choice::Any,
        Some("tool") => body
            .pointer("/tool_choice/name")
            .and_then(Value::as_str)
            .map_or(Choice::Any, |name| Choice::Named(name.to_owned())),
        _ => Choice::Auto,
    };
    Ok(Ask {
        input,
        want: Want::decide(&tools, &choice, &topic, after_result, schema),
        topic,
        output_tokens_max: bound(body, "max_tokens")?,
        candidates: 1,
        candidates_made: 1,
        stream: call.streams(),
    })
}

fn stop_reason(reply: &Reply) -> &'static str {
    match reply.finish {
        _ if reply.refuses => "refusal",
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}

/// Usage in Anthropic's classes: input without what was read from a cache or written to one.
fn usage(reported: Reported) -> Value {
    let written = reported.cache_write.saturating_add(reported.cache_write_1h);
    let mut told = json!({
        "input_tokens": reported.input.saturating_sub(reported.cached).saturating_sub(written),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": reported.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": reported.cache_write,
            "ephemeral_1h_input_tokens": reported.cache_write_1h,
        },
        "output_tokens": reported.output,
        "service_tier": reported.served.tier(Dialect::Anthropic),
    });
    reported.served.note(&mut told);
    if reported.searches != 0 {
        told["server_tool_use"] = json!({"web_search_requests": reported.searches});
    }
    told
}

fn message(call: &Call, content: &Value, stop_reason: Option<&str>) -> Value {
    json!({
        "id": call.id("msg"), "type": "message", "role": "assistant", "model": call.model_name(),
        "content": content, "stop_reason": stop_reason, "stop_sequence": null,
    })
}

fn json(call: &Call, reply: &Reply, reported: Option<Reported>) -> Value {
    let text = reply.pieces.text(0);
    let block = match &reply.tool {
        Some(name) => {
            // Arguments cut off by the bound are no JSON: the real one then gives an empty input.
            let input = serde_json::from_str(&text).unwrap_or_else(|_| json!({}));
            json!({"type": "tool_use", "id": call.id("toolu"), "name": name, "input": input})
        }
        None => json!({"type": "text", "text": text}),
    };
    let mut answer = message(call, &json!([block]), Some(stop_reason(reply)));
    if let Some(reported) = reported {
        answer["usage"] = usage(reported);
    }
    answer
}

fn events(call: &Call, reply: Reply, reported: Option<Reported>) -> impl Iterator<Item = Event> + use<> {
    let event = |value: Value| Event::named(value["type"].as_str().unwrap_or_default(), &value);
    let mut start = message(call, &json!([]), None);
    if let Some(reported) = reported {
        start["usage"] = usage(Reported { output: reported.output.signum(), searches: 0, ..reported });
    }
    let block = match &reply.tool {
        Some(name) => json!({"type": "tool_use", "id": call.id("toolu"), "name": name, "input": {}}),
        None => json!({"type": "text", "text": ""}),
    };
    let opening = [
        event(json!({"type": "message_start", "message": start})),
        event(json!({"type": "content_block_start", "index": 0, "content_block": block})),
        event(json!({"type": "ping"})),
    ];
    let delta = if reply.tool.is_some() {
        json!({"type": "input_json_delta", "partial_json": Template::hole(0)})
    } else {
        json!({"type": "text_delta", "text": Template::hole(0)})
    };
    let template = Template::new(
        "event: content_block_delta\ndata: ",
        &json!({"type": "content_block_delta", "index": 0, "delta": delta}),
    );
    let mut last = json!({
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason(&reply), "stop_sequence": null},
    });
    if let Some(reported) = reported {
        last["usage"] = usage(reported);
        // The last event tells neither how writes to the cache are split nor the tier.
        for field in ["cache_creation", "service_tier"] {
            last["usage"].as_object_mut().map(|usage| usage.remove(field));
        }
    }
    let closing = [
        event(json!({"type": "content_block_stop", "index": 0})),
        event(last),
        event(json!({"type": "message_stop"})),
    ];
    let pieces = reply.pieces.into_each_candidate(1);
    let deltas = pieces.map(move |(_, piece)| template.fill(&[&quoted(&piece)]).carrying(1));
    opening.into_iter().chain(deltas).chain(closing)
}
