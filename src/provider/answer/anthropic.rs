//! Answers and stream events of the Anthropic dialect.

use super::{text, usage, wide, written_bytes};
use crate::{
    base::json::Value,
    provider::{Made, ObjectKind, Reading, Usage},
};
use chrono::TimeDelta;

/// Reads a whole message.
pub(super) fn read_body(root: Value<'_>, reading: &mut Reading) {
    reading.failed |= root.get("type").is_some_and(|kind| kind.is_str("error"));
    read_head(root, reading);
    reading.finish_reason = text(root, "stop_reason");
    reading.usage = root.get("usage").and_then(|reported| usage::anthropic(reported, Usage::default()));
    for block in root.get("content").into_iter().flat_map(Value::items) {
        add_block(block, reading);
    }
}

/// What a stream has told of its usage. The first event has the input and a placeholder for the output,
/// so until an event with the output has come there is no usage that could be charged.
#[derive(Debug, Default)]
pub(super) struct Tally {
    so_far: Usage,
    is_unbelievable: bool,
}

/// Reads one event of a stream. `name` is its `event:` line, for data that does not say its type.
pub(super) fn read_event(name: &str, root: Value<'_>, tally: &mut Tally, reading: &mut Reading) {
    let kind = root.get("type").and_then(Value::as_str);
    match kind.as_deref().unwrap_or(name) {
        "message_start" => {
            if let Some(message) = root.get("message") {
                read_head(message, reading);
                tally.add(message);
            }
        }
        "content_block_start" => {
            root.get("content_block").into_iter().for_each(|block| add_block(block, reading));
        }
        "content_block_delta" => {
            if let Some(delta) = root.get("delta").filter(|delta| delta.get("citation").is_none()) {
                add(written_bytes(delta), reading);
            }
        }
        "message_delta" => {
            root.get("delta").into_iter().for_each(|delta| note_container(delta, reading));
            if let Some(reason) = root.get("delta").and_then(|delta| text(delta, "stop_reason")) {
                reading.finish_reason = Some(reason);
            }
            let has_output = tally.add(root);
            if tally.is_unbelievable {
                reading.usage = None;
            } else if has_output {
                reading.usage = Some(tally.so_far);
                reading.usage_is_final = reading.finish_reason.is_some();
            }
            if let Some(reported) = root.get("usage") {
                note_circumstances(reported, reading);
            }
        }
        "message_stop" => reading.complete = true,
        "error" => reading.failed = true,
        _ => {}
    }
}

impl Tally {
    /// Adds the usage of a message or event; says whether it tells the output.
    fn add(&mut self, holder: Value<'_>) -> bool {
        let Some(reported) = holder.get("usage").filter(|usage| !usage.is_null()) else { return false };
        match usage::anthropic(reported, self.so_far) {
            Some(usage) => self.so_far = usage,
            None => self.is_unbelievable = true,
        }
        reported.get("output_tokens").is_some_and(|output| !output.is_null())
    }
}

fn read_head(message: Value<'_>, reading: &mut Reading) {
    reading.model = text(message, "model");
    note_container(message, reading);
    if let Some(reported) = message.get("usage") {
        note_circumstances(reported, reading);
    }
}

/// The place where the provider ran code, which a later request may name.
fn note_container(holder: Value<'_>, reading: &mut Reading) {
    let id = holder.get("container").and_then(|container| container.get("id")).and_then(Value::as_str);
    if let Some(id) = id {
        let made = Made::new(ObjectKind::Container, id.into_owned());
        reading.make(Made { expires_after: Some(CONTAINER_KEPT), ..made });
    }
}

/// The longest that a container is kept, by Anthropic's documentation of code execution.
const CONTAINER_KEPT: TimeDelta = TimeDelta::days(30);

/// What a usage object tells beside tokens; of a stream the later event holds. The calls are told whenever the usage
/// is: where the count is left out, there were those that were seen.
fn note_circumstances(reported: Value<'_>, reading: &mut Reading) {
    for (field, told) in [
        ("service_tier", &mut reading.service_tier),
        ("speed", &mut reading.speed),
        ("inference_geo", &mut reading.region),
    ] {
        if let Some(value) = text(reported, field) {
            *told = Some(value);
        }
    }
    usage::note_hosted_calls(reported, reading);
    reading.hosted_calls.get_or_insert_default();
}

/// Files that code wrote which the provider ran: they stay with it like those that are uploaded.
fn note_written_files(block: Value<'_>, reading: &mut Reading) {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    if !kind.ends_with("code_execution_tool_result") {
        return;
    }
    let ids = block.walk_members().filter(|(field, _)| field.is_str("file_id"));
    for id in ids.filter_map(|(_, id)| id.as_str()) {
        reading.make(Made::new(ObjectKind::File, id.into_owned()));
    }
}

/// Counts what the model wrote into a block; results of the provider's own tools are not written by it.
fn add_block(block: Value<'_>, reading: &mut Reading) {
    note_written_files(block, reading);
    if block.get("type").is_some_and(|kind| kind.is_str("server_tool_use"))
        && let Some(kind) = text(block, "name")
    {
        usage::note_seen_call(kind, reading);
    }
    for field in ["text", "thinking", "name"] {
        block.get(field).into_iter().for_each(|written| add(written_bytes(written), reading));
    }
    if block.get("type").is_some_and(|kind| kind.is_str("redacted_thinking")) {
        block.get("data").into_iter().for_each(|hidden| add(written_bytes(hidden), reading));
    }
    if let Some(input) = block.get("input").filter(|input| !input.is_empty()) {
        add(wide(input.raw_len()), reading);
    }
}

fn add(bytes: u64, reading: &mut Reading) {
    reading.visible_output_bytes = reading.visible_output_bytes.saturating_add(bytes);
}
