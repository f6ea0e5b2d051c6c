//! Answers and stream events of the responses API.
//!
//! A response and its items stay with the provider under their ids, so an answer also tells what was made.

use super::{text, usage, wide, written_bytes};
use crate::base::json::{Kind, Value};
use crate::provider::{Made, ObjectKind, Reading};
use chrono::TimeDelta;

/// How long a response is kept, by OpenAI's documentation of `store`.
const KEPT: TimeDelta = TimeDelta::days(30);
/// Ids that are shorter are no ids of an account but numbers within a response, as smaller servers give them.
const ID_BYTES_MIN: usize = 16;

/// Reads a whole response.
pub(super) fn read_body(root: Value<'_>, reading: &mut Reading) {
    read_response(root, reading);
    for item in items(root) {
        note_item(item, root, reading);
        add(item_bytes(item), reading);
    }
}

/// Reads one event of a stream. `name` is its `event:` line, for data that does not say its type. `is_shown`: the response
/// is one that is kept, whose stream is told again, perhaps not from its beginning.
pub(super) fn read_event(name: &str, root: Value<'_>, is_shown: bool, reading: &mut Reading) {
    if let Some(number) = root.get("sequence_number").and_then(Value::as_u64) {
        reading.sequence_number = Some(number);
    }
    let kind = root.get("type").and_then(Value::as_str);
    match kind.as_deref().unwrap_or(name) {
        "response.created" | "response.in_progress" | "response.queued" => {
            root.get("response").into_iter().for_each(|response| note_response(response, reading));
        }
        "response.completed" | "response.incomplete" | "response.failed" => {
            if let Some(response) = root.get("response") {
                read_response(response, reading);
                for item in items(response) {
                    note_item(item, response, reading);
                }
            }
            (reading.complete, reading.has_ended) = (true, true);
        }
        "response.output_item.added" => {
            let added = root.get("item").and_then(|item| item.get("name"));
            add(added.map_or(0, written_bytes), reading);
        }
        "response.output_item.done" => {
            let parent = reading.made.iter().find(|made| made.kind == ObjectKind::Response);
            let parent = parent.map(|response| response.id.clone());
            if let Some(item) = root.get("item").filter(|_| is_shown || parent.is_some()) {
                note_made(item, parent, reading);
            }
        }
        "error" => reading.failed = true,
        event if event.strip_suffix(".delta").is_some() => {
            let delta = root.get("delta").filter(|delta| delta.kind() == Kind::String);
            add(delta.map_or(0, written_bytes), reading);
        }
        _ => {}
    }
}

fn items(response: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    response.get("output").into_iter().flat_map(Value::items)
}

/// What a response tells beside its items.
fn read_response(response: Value<'_>, reading: &mut Reading) {
    note_response(response, reading);
    let status = text(response, "status");
    reading.failed |=
        status.as_deref() == Some("failed") || response.get("error").is_some_and(|error| !error.is_null());
    reading.is_deferred = matches!(status.as_deref(), Some("queued" | "in_progress"));
    reading.has_ended =
        matches!(status.as_deref(), Some("completed" | "incomplete" | "failed" | "cancelled"));
    let reason = response.get("incomplete_details").and_then(|details| text(details, "reason"));
    reading.finish_reason = reason.or(status);
    if let Some(tier) = text(response, "service_tier") {
        reading.service_tier = Some(tier);
    }
    if let Some(reported) = response.get("usage").filter(|usage| !usage.is_null()) {
        reading.usage = usage::responses(reported);
        reading.reported_cost = usage::cost(reported);
        reading.hosted_calls = Some(crate::provider::HostedCalls::default());
    }
}

/// The response itself, which is kept unless it says otherwise.
fn note_response(response: Value<'_>, reading: &mut Reading) {
    if let Some(model) = text(response, "model") {
        reading.model = Some(model);
    }
    if is_kept(response)
        && let Some(id) = id(response)
    {
        reading.make(Made { expires_after: Some(KEPT), ..Made::new(ObjectKind::Response, id) });
    }
}

fn is_kept(response: Value<'_>) -> bool {
    response.get("store").and_then(Value::as_bool) != Some(false)
}

/// What an item of the output is: a call of a hosted tool, an object of its own.
fn note_item(item: Value<'_>, response: Value<'_>, reading: &mut Reading) {
    let kind = item.get("type").and_then(Value::as_str).unwrap_or_default();
    if let Some(tool) = kind.strip_suffix("_call").filter(|tool| !matches!(*tool, "function" | "custom_tool"))
    {
        usage::note_seen_call(tool.to_owned(), reading);
    }
    if is_kept(response) {
        note_made(item, id(response), reading);
    }
}

/// An item of a response that is kept, and the place where it ran.
fn note_made(item: Value<'_>, parent: Option<String>, reading: &mut Reading) {
    if let Some(id) = id(item) {
        reading.make(Made { parent, expires_after: Some(KEPT), ..Made::new(ObjectKind::Item, id) });
    }
    let ran_in = item.get("container_id").or_else(|| item.get("environment")?.get("container_id"));
    if let Some(container) = ran_in.and_then(Value::as_str) {
        reading.make(Made {
            expires_after: Some(KEPT),
            ..Made::new(ObjectKind::Container, container.into_owned())
        });
    }
}

fn id(value: Value<'_>) -> Option<String> {
    let id = value.get("id")?.as_str()?;
    (id.len() >= ID_BYTES_MIN).then(|| id.into_owned())
}

/// The bytes of an item that the model wrote; what tools brought is not.
fn item_bytes(item: Value<'_>) -> u64 {
    let texts = |field: &str| {
        let parts = item.get(field).into_iter().flat_map(Value::items);
        let of = |part: Value<'_>| {
            ["text", "refusal", "transcript"]
                .iter()
                .filter_map(|field| part.get(field))
                .map(written_bytes)
                .fold(0, u64::saturating_add)
        };
        parts.map(of).fold(0, u64::saturating_add)
    };
    let written = ["name", "arguments", "input", "code"].iter().filter_map(|field| item.get(field));
    let calls = written
        .map(|value| if value.kind() == Kind::String { written_bytes(value) } else { wide(value.raw_len()) });
    calls.fold(texts("content").saturating_add(texts("summary")), u64::saturating_add)
}

fn add(bytes: u64, reading: &mut Reading) {
    reading.visible_output_bytes = reading.visible_output_bytes.saturating_add(bytes);
}

#[cfg(test)]
mod tests {
    use super::super::{SseMeter, read_json};
    use super::*;
    use crate::provider::operation::{Row, find};
    use crate::provider::{Dialect, Usage};
    use bytes::BytesMut;
    use http::Method;

    fn row() -> &'static Row {
        find(&Method::POST, "/v1/responses", Dialect::OpenAi).unwrap().row
    }

    const RESPONSE: &str = r#"{"id":"resp_0123456789abcdef","object":"response","status":"completed","model":"gpt-5-2026",
        "service_tier":"default","store":true,"output":[
        {"type":"reasoning","id":"rs_0123456789abcdef","summary":[{"type":"summary_text","text":"hm"}],"encrypted_content":"AAAA"},
        {"type":"web_search_call","id":"ws_0123456789abcdef","status":"completed"},
        {"type":"code_interpreter_call","id":"ci_0123456789abcdef","code":"1+1","container_id":"cntr_0123456789abcdef"},
        {"type":"message","id":"msg_1","content":[{"type":"output_text","text":"hello","annotations":[]}]},
        {"type":"function_call","id":"fc_0123456789abcdef","name":"f","arguments":"{}"}],
        "usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":40,"cache_write_tokens":10,
            "cache_write_tokens_details":{"ttl_12h_tokens":4,"ttl_30m_tokens":6}},
            "output_tokens":20,"output_tokens_details":{"reasoning_tokens":7},"total_tokens":120}}"#;

    fn wanted() -> Usage {
        Usage {
            input: 50,
            cached_input: 40,
            cache_write: 6,
            cache_write_1h: 4,
            output: 20,
            reasoning: 7,
            ..Usage::default()
        }
    }

    fn ids(reading: &Reading) -> Vec<(&'static str, &str)> {
        reading.made.iter().map(|made| (made.kind.as_str(), &made.id[..made.id.len() - 17])).collect()
    }

    const IDS: [(&str, &str); 6] = [
        ("response", "resp"),
        ("item", "rs"),
        ("item", "ws"),
        ("item", "ci"),
        ("container", "cntr"),
        ("item", "fc"),
    ];

    #[test]
    fn a_response_tells_all_and_what_was_made() {
        let reading = read_json(row(), RESPONSE.as_bytes());
        assert_eq!(reading.usage, Some(wanted()));
        assert_eq!(reading.visible_output_bytes, 2 + 3 + 5 + 1 + 2);
        assert_eq!(
            (reading.model.as_deref(), reading.finish_reason.as_deref()),
            (Some("gpt-5-2026"), Some("completed"))
        );
        let calls = reading.hosted_calls.as_ref().unwrap();
        assert_eq!(["web_search", "code_interpreter", "function"].map(|kind| calls.of(kind)), [1, 1, 0]);
        assert_eq!(ids(&reading), IDS);
        assert_eq!(reading.made[1].parent.as_deref(), Some("resp_0123456789abcdef"));
        let unkept = RESPONSE.replace(r#""store":true"#, r#""store":false"#);
        assert!(read_json(row(), unkept.as_bytes()).made.is_empty());
        let queued = read_json(row(), br#"{"id":"resp_0123456789abcdef","status":"queued"}"#);
        assert!(queued.is_deferred && queued.usage.is_none());
        let ended = |status: &str| {
            read_json(
                row(),
                RESPONSE.replace(r#""completed","model""#, &format!(r#""{status}","model""#)).as_bytes(),
            )
        };
        for (status, has_ended) in [
            ("completed", true),
            ("incomplete", true),
            ("failed", true),
            ("cancelled", true),
            ("in_progress", false),
            ("paused", false),
            ("", false),
        ] {
            let reading = ended(status);
            assert_eq!((reading.has_ended, reading.usage), (has_ended, Some(wanted())), "{status}");
        }
    }

    #[test]
    fn a_stream_tells_the_same() {
        let response = RESPONSE.replace('\n', " ");
        let stream = [
            r#"event: response.created
data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_0123456789abcdef","status":"in_progress"}}"#,
            r#"data: {"type":"response.output_item.added","sequence_number":1,"item":{"type":"function_call","name":"f"}}"#,
            r#"data: {"type":"response.output_text.delta","sequence_number":2,"delta":"hello"}"#,
            r#"data: {"type":"response.reasoning_summary_text.delta","sequence_number":3,"delta":"hm"}"#,
        ]
        .join("\n\n");
        let last =
            format!(r#"data: {{"type":"response.completed","sequence_number":4,"response":{response}}}"#);
        let read = |stream: &str| {
            let (mut meter, mut out) = (SseMeter::new(row(), false), BytesMut::new());
            meter.push(stream.as_bytes(), &mut out).unwrap();
            assert_eq!(out, stream.as_bytes());
            meter.finish()
        };
        let whole = read(&format!("{stream}\n\n{last}\n\n"));
        assert_eq!((whole.usage, whole.complete, whole.failed), (Some(wanted()), true, false));
        assert!(whole.has_ended);
        assert_eq!((whole.visible_output_bytes, whole.sequence_number), (1 + 5 + 2, Some(4)));
        assert_eq!(ids(&whole), IDS);
        let done = r#"data: {"type":"response.output_item.done","sequence_number":4,
            "item":{"type":"code_interpreter_call","id":"ci_0123456789abcdef","container_id":"cntr_0123456789abcdef"}}"#
            .replace('\n', " ");
        let cut = read(&format!("{stream}\n\n{done}\n\n"));
        assert_eq!(
            ids(&cut),
            [IDS[0], IDS[3], IDS[4]],
            "what was done is there, whatever becomes of the rest"
        );
        assert_eq!(cut.made[1].parent.as_deref(), Some("resp_0123456789abcdef"));
        let unkept = stream.replace(r#""status":"in_progress""#, r#""store":false"#);
        assert!(read(&format!("{unkept}\n\n{done}\n\n")).made.is_empty());
        let shown = find(&Method::GET, "/v1/responses/resp_0123456789abcdef", Dialect::OpenAi).unwrap().row;
        let (mut meter, mut out) = (SseMeter::new(shown, false), BytesMut::new());
        meter.push(format!("{done}\n\n").as_bytes(), &mut out).unwrap();
        assert_eq!(ids(&meter.finish()), [IDS[3], IDS[4]], "told again from the middle");
        assert_eq!(ids(&read_json(shown, RESPONSE.as_bytes())), IDS);
        let broken = read(&format!("{stream}\n\n"));
        assert_eq!((broken.usage, broken.complete, broken.has_ended), (None, false, false));
        assert_eq!(ids(&broken), [IDS[0]], "what was begun is somebody's");
        let failed = read("data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\"}}\n\n");
        assert!(failed.complete && failed.failed);
        assert!(read("data: {\"type\":\"error\",\"code\":\"x\"}\n\n").failed);
    }
}
