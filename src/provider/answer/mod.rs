//! What an answer tells: usage, model, how it ended. Read beside the bytes, which pass as they are.
//!
//! Reading is tolerant: an answer that cannot be understood still reaches the client, and counts as
//! visible output. Believing is not: usage that makes no sense is no usage, so it is never charged.

mod anthropic;
mod array_meter;
mod array_place;
mod files;
mod gemini;
mod long;
mod media;
mod meter;
mod opaque;
mod openai;
mod refused;
mod responses;
mod shorten;
mod sse;
mod sse_meter;
mod strand;
mod usage;

pub use array_meter::ArrayMeter;
pub use array_place::ArrayPlace;
pub use meter::{Meter, Place};
pub use opaque::OpaqueMeter;
pub use refused::Refused;
pub use sse_meter::{MeterError, SseMeter};
pub use strand::TextWatch;

use super::{
    Dialect, ObjectKind, Reading,
    operation::{Effect, Row},
};
use crate::base::clip;
use crate::base::json::{Document, Kind, Limits, Value};
use crate::policy::Operation;

/// What an answer may hold to be read. What is inside vectors and logprobs says nothing here and could be
/// millions of values.
const LIMITS: Limits =
    Limits { depth: 128, nodes: 500_000, prune: &["logprobs", "logprobsResult", "embedding", "b64_json"] };

/// Members of an answer's message that are not text which the model wrote: names and ids, media, and
/// what the provider adds.
const NOT_WRITTEN: [&str; 15] = [
    "annotations",
    "citations",
    "created",
    "data",
    "expires_at",
    "format",
    "id",
    "image_url",
    "images",
    "index",
    "object",
    "role",
    "signature",
    "status",
    "type",
];

/// Members of a call that the model made up as they are: most providers give them as a text of JSON, some as JSON.
const CALLED_WITH: [&str; 2] = ["arguments", "input"];

/// Reads a whole answer, not streamed. What is free tells nothing that matters, but of a response that is shown: that is
/// where work that went on out of sight tells what it made and used.
pub fn read_json(row: &Row, body: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let Ok(document) = Document::parse(body, LIMITS) else {
        reading.visible_output_bytes = wide(body.len());
        return reading;
    };
    let root = document.root();
    reading.complete = true;
    reading.failed = root.get("error").is_some_and(|error| !error.is_null());
    match row.dialect {
        _ if row.effect == Effect::Keeps(ObjectKind::File) => files::read_body(root, &mut reading),
        _ if row.shows_response() => responses::read_body(root, &mut reading),
        _ if row.is_free() => {}
        Dialect::OpenAi if row.operation == Operation::Responses => {
            responses::read_body(root, &mut reading);
        }
        Dialect::OpenAi if media::is_of(row.operation) => {
            media::read_body(row, root, &mut reading);
        }
        Dialect::OpenAi => openai::read_body(root, &mut reading),
        Dialect::Anthropic => anthropic::read_body(root, &mut reading),
        Dialect::Gemini => gemini::read_body(root, row.operation, &mut reading),
    }
    reading
}

/// How many bytes of text the model wrote into a value that the client sees.
fn written_bytes(value: Value<'_>) -> u64 {
    match value.kind() {
        Kind::String => wide(value.text_len().unwrap_or(0)),
        Kind::Array => value.items().map(written_bytes).fold(0, u64::saturating_add),
        Kind::Object => value
            .members()
            .filter(|member| !NOT_WRITTEN.iter().any(|name| member.key.is_str(name)))
            .map(|member| {
                // What a tool is called with is the model's, names and numbers too, where it is no text.
                let is_call = CALLED_WITH.iter().any(|name| member.key.is_str(name));
                let is_value = matches!(member.value.kind(), Kind::Array | Kind::Object);
                if is_call && is_value { wide(member.value.raw_len()) } else { written_bytes(member.value) }
            })
            .fold(0, u64::saturating_add),
        Kind::Null | Kind::Bool | Kind::Number => 0,
    }
}

/// A text that is there and not empty, clipped for the log.
fn text(object: Value<'_>, field: &str) -> Option<String> {
    let text = object.get(field)?.as_str()?;
    (!text.is_empty()).then(|| clip(&text, 256))
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Usage, operation::ROWS};

    fn chat(body: &str) -> Reading {
        read_json(&ROWS[0], body.as_bytes())
    }

    #[test]
    fn a_chat_completion_tells_all() {
        let body = r#"{"id":"c","model":"gpt-4o-2024","service_tier":"default","choices":[
            {"index":0,"message":{"role":"assistant","content":"h\u00e4llo","refusal":null,
             "tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{}"}}]},
             "logprobs":{"content":[{"token":"x"}]},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;
        let wanted = Reading {
            usage: Some(Usage { input: 10, output: 5, ..Usage::default() }),
            reported_cost: None,
            model: Some("gpt-4o-2024".into()),
            finish_reason: Some("stop".into()),
            service_tier: Some("default".into()),
            visible_output_bytes: 6 + 1 + 2,
            complete: true,
            ..Reading::default()
        };
        assert_eq!(chat(body), wanted);
    }

    #[test]
    fn what_a_tool_is_called_with_counts_names_too() {
        let name = "n".repeat(1_000);
        for call in [
            format!(r#"{{"name":"f","arguments":{{"{name}":1}}}}"#),
            format!(r#"{{"name":"f","arguments":[{{"a":{{"{name}":null}}}}]}}"#),
            format!(r#"{{"name":"f","arguments":"{{\"{name}\":1}}"}}"#),
        ] {
            let body =
                format!(r#"{{"choices":[{{"message":{{"tool_calls":[{{"id":"c","function":{call}}}]}}}}]}}"#);
            let seen = chat(&body).visible_output_bytes;
            assert!((1_001..1_030).contains(&seen), "{seen}: {call}");
        }
        let block = format!(r#"{{"content":[{{"type":"tool_use","name":"f","input":{{"{name}":1}}}}]}}"#);
        assert!(read_json(&ROWS[3], block.as_bytes()).visible_output_bytes > 1_000);
    }

    #[test]
    fn completions_and_embeddings_are_read() {
        let body = br#"{"model":"m","choices":[{"text":"abc","finish_reason":"length"},{"text":"de"}],
            "usage":{"prompt_tokens":1,"completion_tokens":2}}"#;
        let reading = read_json(&ROWS[1], body);
        assert_eq!((reading.visible_output_bytes, reading.finish_reason.as_deref()), (5, Some("length")));
        let vector = vec!["0.125"; 600_000].join(",");
        let body = format!(
            r#"{{"data":[{{"embedding":[{vector}],"index":0}}],"model":"e","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
        );
        let reading = read_json(&ROWS[2], body.as_bytes());
        assert_eq!(reading.usage, Some(Usage { input: 8, ..Usage::default() }));
        assert!(reading.complete);
        assert_eq!(reading.visible_output_bytes, 0);
    }

    #[test]
    fn an_anthropic_message_tells_all() {
        let body = br#"{"type":"message","model":"claude","content":[{"type":"thinking","thinking":"hm","signature":"s"},
            {"type":"text","text":"hello"},{"type":"tool_use","id":"t","name":"f","input":{"a":1}}],
            "stop_reason":"tool_use","usage":{"input_tokens":3,"output_tokens":4,"service_tier":"standard"}}"#;
        let reading = read_json(&ROWS[3], body);
        assert_eq!(reading.usage, Some(Usage { input: 3, output: 4, ..Usage::default() }));
        assert_eq!(reading.visible_output_bytes, 2 + 5 + 1 + 7);
        assert_eq!(reading.finish_reason.as_deref(), Some("tool_use"));
        assert_eq!(reading.service_tier.as_deref(), Some("standard"));
        let counted = read_json(&ROWS[4], br#"{"input_tokens":3}"#);
        assert_eq!(counted, Reading { complete: true, ..Reading::default() });
    }

    #[test]
    fn an_answer_tells_its_circumstances_and_its_hosted_calls() {
        let message = |usage: &str| {
            let searches = r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#;
            let body = format!(
                r#"{{"type":"message","model":"claude","content":[{searches},{searches}],
                    "usage":{{"input_tokens":3,"output_tokens":4,"service_tier":"priority",{usage}}}}}"#
            );
            read_json(&ROWS[3], body.as_bytes())
        };
        let told = message(
            r#""speed":"fast","inference_geo":"us","server_tool_use":{"web_search_requests":1,"web_fetch_requests":7}"#,
        );
        assert_eq!((told.service_tier.as_deref(), told.speed.as_deref()), (Some("priority"), Some("fast")));
        assert_eq!(told.region.as_deref(), Some("us"));
        let calls = told.hosted_calls.unwrap();
        assert_eq!(["web_search", "web_fetch", "mcp"].map(|kind| calls.of(kind)), [1, 7, 0], "as reported");
        let seen = message(r#""server_tool_use":null"#).hosted_calls.unwrap();
        assert_eq!(seen.of("web_search"), 2, "what was seen, where nothing was reported");
        assert_eq!(chat(r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#).hosted_calls, None);
    }

    #[test]
    fn what_a_later_request_may_name_is_the_makers() {
        let of =
            |reading: Reading| reading.made.into_iter().map(|made| (made.kind, made.id)).collect::<Vec<_>>();
        let spoken =
            chat(r#"{"choices":[{"message":{"audio":{"id":"audio_1","data":"AAAA","transcript":"hi"}}}]}"#);
        assert_eq!(of(spoken), [(ObjectKind::Item, "audio_1".to_owned())]);
        let ran = read_json(
            &ROWS[3],
            br#"{"type":"message","container":{"id":"container_1","expires_at":"x"},"content":[]}"#,
        );
        assert_eq!(of(ran), [(ObjectKind::Container, "container_1".to_owned())]);
        assert!(chat(r#"{"choices":[{"message":{"audio":null}}]}"#).made.is_empty());
        let wrote = r#"{"type":"message","content":[{"type":"bash_code_execution_tool_result","tool_use_id":"t","content":
            {"type":"bash_code_execution_result","stdout":"","content":[{"type":"bash_code_execution_output","file_id":"file_1"}]}},
            {"type":"text","text":"file_2","file_id":"file_3"}]}"#;
        assert_eq!(of(read_json(&ROWS[3], wrote.as_bytes())), [(ObjectKind::File, "file_1".to_owned())]);
    }

    #[test]
    fn what_is_not_understood_counts_as_output() {
        let reading = chat("<html>");
        assert_eq!((reading.complete, reading.visible_output_bytes, reading.usage), (false, 6, None));
        assert!(chat(r#"{"error":{"message":"x"}}"#).failed);
        for odd in ["[]", "null", r#"{"choices":{},"usage":[]}"#, r#"{"choices":[1,null],"model":5}"#] {
            assert_eq!(chat(odd).usage, None, "{odd}");
        }
    }

    #[test]
    fn names_from_the_provider_are_clipped() {
        let reading = chat(&format!(r#"{{"model":"{}\n"}}"#, "m".repeat(1000)));
        assert_eq!(reading.model.unwrap().len(), 256);
    }
}
