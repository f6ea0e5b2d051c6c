//! `POST /v1/chat/completions`.

use super::bill::{Reported, Usage};
use super::call::{Answer, Call, Work, bound, times};
use super::files;
use super::rates::Served;
use super::refusal::Refusal;
use super::reply::{Ask, Choice, Finish, Reply, Tool, Want, text_of};
use super::stream::{Event, Template, quoted};
use super::tokens::InputCount;
use serde_json::{Value, json};

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let ask = read(call)?;
    let reply = Reply::compose(&ask, &call.directives, &call.key);
    let usage =
        Usage::new(ask.input.total(), reply.tokens() * ask.candidates_made, &call.directives).served(call);
    let reported = usage.reported(&call.directives);
    let answer = if ask.stream {
        Answer::sse(events(call, reply, reported))
    } else {
        Answer::Json(json(call, &reply, reported))
    };
    Ok(Work { answer, usage: Some(usage) })
}

fn read(call: &Call) -> Result<Ask, Refusal> {
    let body = &call.body;
    let Some(messages) = body.get("messages").and_then(Value::as_array).filter(|all| !all.is_empty()) else {
        return Err(Refusal::param("messages", "Missing required parameter: 'messages'."));
    };
    let mut input = InputCount::default();
    input.messages(messages);
    input.add(files::named(call, &body["messages"])?);
    ["tools", "functions", "response_format"]
        .iter()
        .filter_map(|name| body.get(*name))
        .for_each(|value| input.json(value));
    let of_role = |role: &'static str| move |message: &&Value| message["role"] == role;
    let topic = messages.iter().rfind(of_role("user")).map(|message| text_of(&message["content"]));
    let topic = topic.unwrap_or_default();
    let after_result = messages.last().is_some_and(|message| message["role"] == "tool");
    let offered = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let tools: Vec<Tool> = offered.filter_map(|tool| Tool::read(&tool["function"], "parameters")).collect();
    let choice = choice(&body["tool_choice"]);
    let format = &body["response_format"];
    let schema = match format["type"].as_str() {
        Some("json_schema") => Some(format["json_schema"]["schema"].clone()),
        Some("json_object") => Some(json!({"properties": {"answer": {"type": "string"}}})),
        _ => None,
    };
    let candidates = times(body, "n")?;
    let bounds = [bound(body, "max_completion_tokens")?, bound(body, "max_tokens")?];
    Ok(Ask {
        input,
        want: Want::decide(&tools, &choice, &topic, after_result, schema.as_ref()),
        topic,
        output_tokens_max: bounds.into_iter().flatten().min(),
        candidates,
        candidates_made: candidates,
        stream: call.streams(),
    })
}

/// `tool_choice`: a word, or an object that names a function. The responses API has its name one level up.
pub(super) fn choice(given: &Value) -> Choice {
    match given {
        Value::String(word) if word == "none" => Choice::Never,
        Value::String(word) if word == "required" => Choice::Any,
        Value::Object(named) => {
            let name = named.get("name").or_else(|| given.pointer("/function/name")).and_then(Value::as_str);
            name.map_or(Choice::Auto, |name| Choice::Named(name.to_owned()))
        }
        _ => Choice::Auto,
    }
}

/// Usage as chat and legacy completions report it; nothing when there is none to report.
pub(super) fn usage(reported: Option<Reported>) -> Value {
    reported.map_or(Value::Null, |usage| {
        let mut told = json!({
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": usage.input.saturating_add(usage.output),
            "prompt_tokens_details": {"cached_tokens": usage.cached, "audio_tokens": usage.audio_input},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning, "audio_tokens": usage.audio_output,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0,
            },
        });
        for (details, field, tokens) in [
            (
                "prompt_tokens_details",
                "cache_write_tokens",
                usage.cache_write.saturating_add(usage.cache_write_1h),
            ),
            ("prompt_tokens_details", "image_tokens", usage.image_input),
            ("completion_tokens_details", "image_tokens", usage.image_output),
        ] {
            if tokens != 0 {
                told[details][field] = json!(tokens);
            }
        }
        // A number, as resellers write it.
        if let Some(cost) = usage.cost.and_then(|cost| serde_json::from_str::<Value>(&cost.to_string()).ok())
        {
            told["cost"] = cost;
            told["is_byok"] = Value::Bool(false);
        }
        told
    })
}

/// Whether a stream ends in a chunk with usage.
pub(super) fn includes_usage(call: &Call, reported: Option<Reported>) -> bool {
    reported.is_some() && call.body.pointer("/stream_options/include_usage") == Some(&Value::Bool(true))
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::Tool => "tool_calls",
    }
}

fn json(call: &Call, reply: &Reply, reported: Option<Reported>) -> Value {
    let choice = |index| {
        let text = reply.pieces.text(index);
        let message = match &reply.tool {
            Some(name) => json!({
                "role": "assistant", "content": null, "refusal": null,
                "tool_calls": [{
                    "id": call.id("call"), "type": "function", "function": {"name": name, "arguments": text},
                }],
            }),
            None if reply.refuses => {
                json!({"role": "assistant", "content": null, "refusal": text, "annotations": []})
            }
            None => json!({"role": "assistant", "content": text, "refusal": null, "annotations": []}),
        };
        json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish_reason(reply.finish)})
    };
    let mut answer = json!({
        "id": call.id("chatcmpl"), "object": "chat.completion", "created": call.created,
        "model": call.model_name(), "choices": (0..reply.candidates).map(choice).collect::<Vec<_>>(),
        "service_tier": Served::decide(call).tier(call.dialect), "system_fingerprint": "fp_sandbox",
    });
    if reported.is_some() {
        answer["usage"] = usage(reported);
    }
    answer
}

/// A chunk with the role for each candidate, one for each piece, one with the finish reason, usage, `[DONE]`.
fn events(call: &Call, reply: Reply, reported: Option<Reported>) -> impl Iterator<Item = Event> + use<> {
    let with_usage = includes_usage(call, reported);
    let mut chunk = json!({
        "id": call.id("chatcmpl"), "object": "chat.completion.chunk", "created": call.created,
        "model": call.model_name(), "service_tier": Served::decide(call).tier(call.dialect),
        "system_fingerprint": "fp_sandbox",
        "choices": [{
            "index": Template::hole(0), "delta": Template::hole(1), "logprobs": null,
            "finish_reason": Template::hole(2),
        }],
    });
    if with_usage {
        chunk["usage"] = Value::Null;
    }
    let template = Template::new("data: ", &chunk);
    let opening: Vec<Event> = (0..reply.candidates)
        .map(|index| {
            let mut delta = json!({"role": "assistant", "content": "", "refusal": null});
            if let Some(name) = &reply.tool {
                delta["content"] = Value::Null;
                let function = json!({"name": name, "arguments": ""});
                delta["tool_calls"] =
                    json!([{"index": 0, "id": call.id("call"), "type": "function", "function": function}]);
            }
            template.fill(&[&index.to_string(), &delta.to_string(), "null"])
        })
        .collect();
    let reason = quoted(finish_reason(reply.finish));
    let mut closing: Vec<Event> =
        (0..reply.candidates).map(|index| template.fill(&[&index.to_string(), "{}", &reason])).collect();
    if with_usage {
        chunk["choices"] = json!([]);
        chunk["usage"] = usage(reported);
        closing.push(Event::data(&chunk));
    }
    closing.push(Event::raw("data: [DONE]\n\n"));
    let is_tool = reply.tool.is_some();
    let field = if reply.refuses { "refusal" } else { "content" };
    let pieces = reply.pieces.into_each_candidate(reply.candidates).map(move |(index, piece)| {
        let piece = quoted(&piece);
        let delta = if is_tool {
            format!("{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{piece}}}}}]}}")
        } else {
            format!("{{\"{field}\":{piece}}}")
        };
        template.fill(&[&index.to_string(), &delta, "null"]).carrying(1)
    });
    opening.into_iter().chain(pieces).chain(closing)
}
