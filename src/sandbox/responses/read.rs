//! What a request for a response says, with everything that it refers to.

use super::super::call::{Call, bound};
use super::super::chat::choice;
use super::super::files;
use super::super::refusal::Refusal;
use super::super::reply::{Ask, Tool, Want, text_of};
use super::super::tokens::InputCount;
use super::kept;
use serde_json::{Value, json};

/// A request, read.
pub(super) struct Given {
    pub(super) ask: Ask,
    /// Its own input as items, each with an id; references are resolved.
    pub(super) items: Vec<Value>,
    /// Tokens that a later turn carries: earlier turns and this input, without instructions and tools.
    pub(super) turn_tokens: u64,
}

impl Given {
    /// Reads the call's body.
    pub(super) fn read(call: &Call) -> Result<Self, Refusal> {
        let body = &call.body;
        let mut turn = InputCount::default();
        let previous = body.get("previous_response_id").and_then(Value::as_str);
        if let Some(id) = previous {
            turn.add(kept::context_tokens(call, id)?);
        }
        let items = match &body["input"] {
            Value::String(text) => vec![message(call, text)],
            Value::Array(items) => items.iter().map(|item| resolved(call, item)).collect::<Result<_, _>>()?,
            Value::Null if previous.is_some() => Vec::new(),
            _ => return Err(Refusal::param("input", "Missing required parameter: 'input'.")),
        };
        // A text counts as it was sent, whatever item it becomes.
        match &body["input"] {
            text @ Value::String(_) => turn.message(text),
            _ => turn.messages(&items),
        }
        turn.add(files::named(call, &Value::from(items.clone()))?);
        let mut input = turn;
        input.message(&body["instructions"]);
        let format = body.pointer("/text/format");
        body.get("tools").into_iter().chain(format).for_each(|value| input.json(value));
        let offered = body.get("tools").and_then(Value::as_array).into_iter().flatten();
        let own = offered.filter(|tool| tool["type"] == "function");
        let tools: Vec<Tool> = own.filter_map(|tool| Tool::read(tool, "parameters")).collect();
        let schema = match format.and_then(|format| format["type"].as_str()) {
            Some("json_schema") => body.pointer("/text/format/schema").cloned(),
            Some("json_object") => Some(json!({"properties": {"answer": {"type": "string"}}})),
            _ => None,
        };
        let mut users = items.iter().rev().filter(|item| item["role"] == "user");
        let topic = users.next().map(|item| text_of(&item["content"])).unwrap_or_default();
        let after_result = items.last().is_some_and(|item| item["type"] == "function_call_output");
        let ask = Ask {
            input,
            want: Want::decide(&tools, &choice(&body["tool_choice"]), &topic, after_result, schema.as_ref()),
            topic,
            output_tokens_max: bound(body, "max_output_tokens")?,
            candidates: 1,
            candidates_made: 1,
            stream: call.streams(),
        };
        let turn_tokens = if items.is_empty() && previous.is_none() { 0 } else { turn.total() };
        Ok(Self { ask, items, turn_tokens })
    }
}

fn message(call: &Call, text: &str) -> Value {
    json!({
        "id": call.id("msg"), "type": "message", "status": "completed", "role": "user",
        "content": [{"type": "input_text", "text": text}],
    })
}

/// An item of the input: what it refers to, or itself with an id.
fn resolved(call: &Call, item: &Value) -> Result<Value, Refusal> {
    let kind = item.get("type").and_then(Value::as_str);
    let is_reference = kind == Some("item_reference") || (kind.is_none() && item.get("role").is_none());
    if is_reference && let Some(id) = item.get("id").and_then(Value::as_str) {
        return kept::item(call, id).ok_or_else(|| Refusal::NoObject {
            message: format!("Item with id '{id}' not found."),
            param: Some("input"),
        });
    }
    let mut item = item.clone();
    let prefix = match kind {
        None | Some("message") => "msg",
        Some("function_call") => "fc",
        Some("function_call_output") => "fco",
        Some("reasoning") => "rs",
        Some(_) => "item",
    };
    if let Some(fields) = item.as_object_mut() {
        fields.entry("type").or_insert_with(|| "message".into());
        if fields.get("id").is_none_or(Value::is_null) {
            fields.insert("id".to_owned(), call.id(prefix).into());
        }
        if prefix == "msg" {
            fields.entry("status").or_insert_with(|| "completed".into());
            // A list shows the content in parts, however it came.
            let kind =
                if fields.get("role") == Some(&json!("assistant")) { "output_text" } else { "input_text" };
            if let Some(Value::String(text)) = fields.get("content") {
                let part = json!([{"type": kind, "text": text}]);
                fields.insert("content".to_owned(), part);
            }
        }
    }
    Ok(item)
}
