//! The parts of one response, before and after it is made.

use super::super::bill::Reported;
use super::super::call::Call;
use super::super::directive::Directive;
use super::super::rates::Served;
use super::super::reply::{Finish, Reply};
use data_encoding::BASE64;
use serde_json::{Value, json};

/// One response. The last of its items is what is said; the others come before it, whole.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) id: String,
    response: Value,
    /// Reasoning, and what hosted tools did.
    pub(super) before: Vec<Value>,
    pub(super) item_id: String,
    /// What is said, when it is complete.
    pub(super) item: Value,
    pub(super) text: String,
    finish: Finish,
    pub(super) fails: bool,
    created: i64,
}

impl Shape {
    /// The response to this call in which this is said.
    pub(super) fn new(call: &Call, reply: &Reply) -> Self {
        let body = &call.body;
        let given = |name: &str, otherwise: Value| body.get(name).cloned().unwrap_or(otherwise);
        let id = call.id("resp");
        let response = json!({
            "id": id, "object": "response", "created_at": call.created, "status": "in_progress",
            "background": given("background", json!(false)), "error": null, "incomplete_details": null,
            "instructions": given("instructions", Value::Null),
            "max_output_tokens": given("max_output_tokens", Value::Null),
            "max_tool_calls": given("max_tool_calls", Value::Null),
            "metadata": given("metadata", json!({})), "model": call.model_name(), "output": [],
            "parallel_tool_calls": given("parallel_tool_calls", json!(true)),
            "previous_response_id": given("previous_response_id", Value::Null),
            "prompt_cache_key": given("prompt_cache_key", Value::Null),
            "reasoning": {
                "effort": body.pointer("/reasoning/effort"), "summary": body.pointer("/reasoning/summary"),
            },
            "safety_identifier": given("safety_identifier", Value::Null),
            "service_tier": Served::decide(call).tier(call.dialect), "store": given("store", json!(true)),
            "temperature": given("temperature", json!(1.0)),
            "text": given("text", json!({"format": {"type": "text"}})),
            "tool_choice": given("tool_choice", json!("auto")), "tools": given("tools", json!([])),
            "top_logprobs": 0, "top_p": given("top_p", json!(1.0)),
            "truncation": given("truncation", json!("disabled")), "usage": null, "user": given("user", Value::Null),
        });
        let text = reply.pieces.text(0);
        let status = if reply.finish == Finish::Length { "incomplete" } else { "completed" };
        let before = before(call);
        let (item_id, item) = if let Some(name) = &reply.tool {
            let id = call.id("fc");
            let item = json!({
                "id": id, "type": "function_call", "status": status, "call_id": call.id("call"),
                "name": name, "arguments": text,
            });
            (id, item)
        } else {
            let id = call.id("msg");
            let content = json!([part(&text, reply.refuses)]);
            let item = json!({
                "id": id, "type": "message", "status": status, "role": "assistant", "content": content,
            });
            (id, item)
        };
        let fails = call.directives.has(Directive::Fail);
        Self { id, response, before, item_id, item, text, finish: reply.finish, fails, created: call.created }
    }

    /// The response when nothing is said yet: `queued`, `in_progress` or `cancelled`.
    pub(super) fn begun(&self, status: &str) -> Value {
        let mut response = self.response.clone();
        response["status"] = json!(status);
        response
    }

    /// The name of the event that ends it.
    pub(super) fn ending(&self) -> &'static str {
        match self.finish {
            _ if self.fails => "response.failed",
            Finish::Length => "response.incomplete",
            Finish::Stop | Finish::Tool => "response.completed",
        }
    }

    /// The response when it has ended, completely or not.
    pub(super) fn ended(&self, reported: Option<Reported>) -> Value {
        let mut response = self.response.clone();
        if self.fails {
            response["status"] = json!("failed");
            response["error"] = json!({
                "code": "server_error",
                "message": "The server had an error while processing your request. Sorry about that!",
            });
            return response;
        }
        response["output"] = self.output();
        if self.finish == Finish::Length {
            response["status"] = json!("incomplete");
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        } else {
            response["status"] = json!("completed");
            response["completed_at"] = json!(self.created);
        }
        if let Some(reported) = reported {
            response["usage"] = usage(reported);
        }
        response
    }

    /// All its items, complete.
    pub(super) fn output(&self) -> Value {
        self.before.iter().chain([&self.item]).cloned().collect()
    }
}

/// Usage as responses report it.
pub(super) fn usage(reported: Reported) -> Value {
    json!({
        "input_tokens": reported.input,
        "input_tokens_details": {
            "cached_tokens": reported.cached,
            "cache_write_tokens": reported.cache_write.saturating_add(reported.cache_write_1h),
        },
        "output_tokens": reported.output,
        "output_tokens_details": {"reasoning_tokens": reported.reasoning},
        "total_tokens": reported.input.saturating_add(reported.output),
    })
}

/// A part of a message.
pub(super) fn part(text: &str, refuses: bool) -> Value {
    if refuses {
        json!({"type": "refusal", "refusal": text})
    } else {
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
    }
}

/// What comes before the words: reasoning that is not shown, searches, code that was run.
fn before(call: &Call) -> Vec<Value> {
    let mut items = Vec::new();
    let number = |directive| call.directives.number(directive).unwrap_or(0);
    if number(Directive::HiddenReasoning) > 0 {
        let is_told = call.body.pointer("/reasoning/summary").is_some_and(Value::is_string);
        let summary =
            if is_told { json!([{"type": "summary_text", "text": "Thought about it."}]) } else { json!([]) };
        let mut item = json!({"id": call.id("rs"), "type": "reasoning", "summary": summary});
        let included = call.body.get("include").and_then(Value::as_array).into_iter().flatten();
        if included.into_iter().any(|name| name == "reasoning.encrypted_content") {
            item["encrypted_content"] = BASE64.encode(b"thought about it").into();
        }
        items.push(item);
    }
    for number in 1..=number(Directive::Searches) {
        let query = format!("sandbox {number}");
        items.push(json!({
            "id": call.id("ws"), "type": "web_search_call", "status": "completed",
            "action": {"type": "search", "query": query, "queries": [query]},
        }));
    }
    for _ in 0..number(Directive::Containers) {
        items.push(json!({
            "id": call.id("ci"), "type": "code_interpreter_call", "status": "completed", "code": "print(1)",
            "container_id": call.id("cntr"), "outputs": [{"type": "logs", "logs": "1\n"}],
        }));
    }
    items
}
