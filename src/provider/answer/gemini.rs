//! Answers and stream chunks of Google's dialect. Each chunk of a stream has the usage so far, so the last one holds.

use super::{text, usage, wide, written_bytes};
use crate::base::json::Value;
use crate::policy::Operation;
use crate::provider::Reading;
use std::collections::BTreeMap;

/// Reads a whole answer.
pub(super) fn read_body(root: Value<'_>, operation: Operation, reading: &mut Reading) {
    read_chunk(root, &mut Tally::default(), reading);
    if operation == Operation::Embeddings {
        reading.usage = root.get("usageMetadata").and_then(usage::gemini_input);
    }
    reading.complete = true;
}

/// What a stream has told of its candidates.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Which candidates have begun, and whether they have ended.
    candidates: BTreeMap<u64, bool>,
    /// Searches that the provider says it made, of which later chunks tell again.
    searches: usize,
}

/// No request makes more candidates.
const CANDIDATES_MAX: usize = 128;

/// Reads one chunk of a stream.
pub(super) fn read_chunk(root: Value<'_>, tally: &mut Tally, reading: &mut Reading) {
    reading.failed |= root.get("error").is_some_and(|error| !error.is_null());
    if let Some(model) = text(root, "modelVersion") {
        reading.model = Some(model);
    }
    if let Some(reported) = root.get("usageMetadata").filter(|usage| !usage.is_null()) {
        reading.usage = usage::gemini(reported);
        if let Some(tier) = text(reported, "serviceTier") {
            reading.service_tier = Some(tier.to_ascii_lowercase());
        }
    }
    for candidate in root.get("candidates").into_iter().flat_map(Value::items) {
        read_candidate(candidate, tally, reading);
    }
    let is_blocked = root.get("promptFeedback").is_some_and(|told| text(told, "blockReason").is_some());
    let all_ended = !tally.candidates.is_empty() && tally.candidates.values().all(|ended| *ended);
    reading.complete = is_blocked || all_ended;
    // Of what was not looked at, calls are not known.
    if reading.complete && !reading.is_cut_short {
        reading.hosted_calls.get_or_insert_default();
    }
}

fn read_candidate(candidate: Value<'_>, tally: &mut Tally, reading: &mut Reading) {
    let index = candidate.get("index").and_then(Value::as_u64).unwrap_or(0);
    let finish = text(candidate, "finishReason");
    if tally.candidates.len() < CANDIDATES_MAX || tally.candidates.contains_key(&index) {
        *tally.candidates.entry(index).or_default() |= finish.is_some();
    }
    if index == 0 && finish.is_some() {
        reading.finish_reason = finish;
    }
    let parts = candidate.get("content").and_then(|content| content.get("parts"));
    let seen = parts.into_iter().flat_map(Value::items).map(part_bytes).fold(0, u64::saturating_add);
    reading.visible_output_bytes = reading.visible_output_bytes.saturating_add(seen);
    let grounding = candidate.get("groundingMetadata");
    let queries = grounding.and_then(|told| told.get("webSearchQueries"));
    let searches = queries.into_iter().flat_map(Value::items).count();
    for _ in tally.searches..searches {
        usage::note_seen_call("web_search".to_owned(), reading);
    }
    tally.searches = tally.searches.max(searches);
}

/// The bytes of a part that the model wrote; results of the provider's tools and pictures are not.
fn part_bytes(part: Value<'_>) -> u64 {
    let calls = ["functionCall", "executableCode", "toolCall"].into_iter().filter_map(|name| part.get(name));
    let calls = calls.map(|call| wide(call.raw_len()));
    part.get("text").map_or(0, written_bytes) + calls.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::super::read_json;
    use super::*;
    use crate::provider::operation::find;
    use crate::provider::{Dialect, Usage};
    use http::Method;

    fn read(action: &str, body: &str) -> Reading {
        let path = format!("/v1beta/models/gemini-3:{action}");
        read_json(find(&Method::POST, &path, Dialect::Gemini).unwrap().row, body.as_bytes())
    }

    #[test]
    fn a_generation_tells_all() {
        let body = r#"{"modelVersion":"gemini-3-001","responseId":"r","candidates":[
            {"index":0,"finishReason":"STOP","content":{"role":"model","parts":[{"text":"hello","thoughtSignature":"s"},
             {"functionCall":{"name":"f","args":{}}},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]},
             "groundingMetadata":{"webSearchQueries":["a","b"]}},
            {"index":1,"finishReason":"MAX_TOKENS","content":{"parts":[{"text":"x"}]}}],
            "usageMetadata":{"promptTokenCount":100,"cachedContentTokenCount":30,"candidatesTokenCount":20,
             "thoughtsTokenCount":7,"toolUsePromptTokenCount":5,"totalTokenCount":132,
             "promptTokensDetails":[{"modality":"TEXT","tokenCount":60},{"modality":"AUDIO","tokenCount":25},
                {"modality":"IMAGE","tokenCount":15}],
             "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":10},{"modality":"TEXT","tokenCount":20}],
             "candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":4}]}}"#;
        let reading = read("generateContent", body);
        let wanted = Usage {
            input: 40 + 5,
            cached_input: 30,
            audio_input: 15,
            image_input: 15,
            output: 16 + 7,
            reasoning: 7,
            image_output: 4,
            ..Usage::default()
        };
        assert_eq!(reading.usage, Some(wanted));
        assert_eq!(reading.model.as_deref(), Some("gemini-3-001"));
        assert_eq!(reading.finish_reason.as_deref(), Some("STOP"));
        assert_eq!(reading.hosted_calls.as_ref().unwrap().of("web_search"), 2);
        assert_eq!(reading.visible_output_bytes, 5 + 22 + 1);
        assert!(reading.complete && !reading.failed);
        assert!(read("generateContent", r#"{"error":{"code":500}}"#).failed);
    }

    #[test]
    fn embeddings_tell_their_input_or_nothing() {
        let told =
            read("embedContent", r#"{"embedding":{"values":[0.1]},"usageMetadata":{"promptTokenCount":9}}"#);
        assert_eq!(told.usage, Some(Usage { input: 9, ..Usage::default() }));
        let silent = read("batchEmbedContents", r#"{"embeddings":[{"values":[0.1]}]}"#);
        assert_eq!((silent.usage, silent.complete), (None, true));
    }

    #[test]
    fn a_stream_is_whole_when_every_candidate_that_began_has_ended() {
        let mut tally = Tally::default();
        let mut reading = Reading::default();
        let mut hear = |chunk: &str| {
            let document =
                crate::base::json::Document::parse(chunk.as_bytes(), super::super::LIMITS).unwrap();
            read_chunk(document.root(), &mut tally, &mut reading);
            reading.complete
        };
        assert!(!hear(r#"{"candidates":[{"index":0,"content":{}},{"index":1,"content":{}}]}"#));
        assert!(!hear(
            r#"{"candidates":[{"index":0,"finishReason":"STOP","groundingMetadata":{"webSearchQueries":["a"]}}]}"#
        ));
        assert!(!hear(r#"{"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2}}"#));
        assert!(hear(
            r#"{"candidates":[{"index":1,"finishReason":"STOP","groundingMetadata":{"webSearchQueries":["a"]}}]}"#
        ));
        assert_eq!(reading.usage.unwrap().output, 2);
        assert_eq!(reading.hosted_calls.unwrap().of("web_search"), 1, "told twice, made once");
        let blocked = read("generateContent", r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#);
        assert!(blocked.complete);
    }
}
