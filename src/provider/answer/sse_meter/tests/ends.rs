//! What a stream tells that ends with its mark, without it, or in the middle; and an event of which some was left out.

use super::*;

#[test]
fn usage_is_final_once_it_is_told_why_the_output_ended() {
    let final_at = |row, stream: &str, end: &str| {
        let cut = stream.find(end).unwrap();
        let reading = meter(row, false, &stream.as_bytes()[..cut], &[]).1;
        (reading.complete, reading.usage.is_some(), reading.usage_is_final)
    };
    assert_eq!(final_at(&ROWS[3], ANTHROPIC, "event: message_delta"), (false, false, false));
    assert_eq!(final_at(&ROWS[3], ANTHROPIC, "event: message_stop"), (false, true, true));
    let growing = concat!(
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n",
        "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
        ": one\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n",
        ": two\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\n",
        ": three\n\n",
    );
    assert_eq!(final_at(&ROWS[0], growing, ": one"), (true, true, false), "it is older than the end");
    assert_eq!(final_at(&ROWS[0], growing, ": two"), (true, true, true));
    assert_eq!(final_at(&ROWS[0], growing, ": three"), (false, true, false), "it goes on");
}

#[test]
fn a_broken_stream_is_not_complete_and_its_first_guess_is_no_usage() {
    let cut = &ANTHROPIC.as_bytes()[..ANTHROPIC.find("event: message_delta").unwrap()];
    let (_, reading) = meter(&ROWS[3], false, cut, &[]);
    assert_eq!((reading.complete, reading.usage, reading.visible_output_bytes), (false, None, 9 + 10));
    let silent = ANTHROPIC.replace(
        r#","usage":{"output_tokens":25,"speed":"fast","server_tool_use":{"web_search_requests":2}}"#,
        "",
    );
    let (_, reading) = meter(&ROWS[3], false, silent.as_bytes(), &[]);
    assert_eq!((reading.complete, reading.usage), (true, None));
    let stream = openai_stream("\n");
    let cut = &stream.as_bytes()[..stream.find("data: [DONE]").unwrap() + 5];
    let (out, reading) = meter(&ROWS[0], true, cut, &[3]);
    assert!(!reading.complete && reading.usage.is_some());
    assert!(out.ends_with(b"\n\ndata:"));
    let unended = "data: [DONE]";
    let (out, reading) = meter(&ROWS[0], true, unended.as_bytes(), &[5]);
    assert!(reading.complete && out == unended.as_bytes());
}

#[test]
fn a_cut_of_what_is_too_much_is_never_cheaper() {
    let item = r#"{"type":"web_search_call","id":"ws_0123456789abcdef"}"#;
    let output = vec![item; 40_000].join(",");
    let event = format!(
        r#"data: {{"type":"response.completed","response":{{"id":"resp_0123456789abcdef","output":[{output}],"usage":{{"input_tokens":3,"output_tokens":4}}}}}}"#
    );
    let row = find(&http::Method::POST, "/v1/responses", Dialect::OpenAi).unwrap().row;
    let (out, reading) = meter(row, false, format!("{event}\n\n").as_bytes(), &[60_000]);
    assert_eq!((out.len(), reading.complete), (event.len() + 2, true));
    assert_eq!(reading.usage, Some(Usage { input: 3, output: 4, ..Usage::default() }));
    assert_eq!((reading.hosted_calls, reading.is_cut_short), (None, true), "nobody counted them");
}

#[test]
fn a_cut_leaves_google_the_usage_that_the_event_tells_whole() {
    let row =
        find(&http::Method::POST, "/v1beta/models/m:streamGenerateContent", Dialect::Gemini).unwrap().row;
    let parts = vec![r#"{"text":"0123456789"}"#; 80_000].join(",");
    let told = |usage: &str| {
        let early = r#"data: {"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}}"#;
        let event = format!(r#"data: {{"candidates":[{{"content":{{"parts":[{parts}]}}}}]{usage}}}"#);
        let (out, reading) = meter(row, false, format!("{early}\n\n{event}\n\n").as_bytes(), &[60_000]);
        assert_eq!((out.len(), reading.is_cut_short), (early.len() + event.len() + 4, true));
        reading.usage
    };
    let details = r#"{"modality":"AUDIO","tokenCount":30},{"modality":"TEXT","tokenCount":70}"#;
    let usage = |details: &str| {
        format!(
            r#","usageMetadata":{{"promptTokensDetails":[{details}],"promptTokenCount":100,"candidatesTokenCount":4}}"#
        )
    };
    let wanted = Usage { input: 70, audio_input: 30, output: 4, ..Usage::default() };
    assert_eq!(told(&usage(details)), Some(wanted));
    assert_eq!(told(&usage(&vec![details; 1_000].join(","))), None, "the end of its details is not known");
    assert_eq!(told(""), None, "what was told before is not all");
}

#[test]
fn a_stream_that_ends_well_without_its_mark_is_whole_where_each_choice_has_ended() {
    let said = |index: u8, reason: &str| {
        format!(
            r#"data: {{"choices":[{{"index":{index},"delta":{{"content":"ab"}},"finish_reason":{reason}}}]}}"#
        )
    };
    let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#.to_owned();
    let mixed =
        r#"data: {"choices":[{"index":0,"delta":{}}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#
            .to_owned();
    let stop = r#""stop""#;
    for (events, complete, is_partial) in [
        (vec![said(0, "null"), said(0, stop), usage.clone()], true, true),
        (vec![said(0, "null"), said(0, stop)], true, true),
        (vec![said(0, r#""null""#), said(0, r#""null""#)], false, false),
        (vec![said(0, "null"), mixed.clone(), said(0, stop)], true, true),
        (vec![said(0, stop), said(1, "null"), usage.clone()], false, false),
        (vec![said(0, stop), said(1, "null"), usage.clone(), said(1, stop)], true, true),
        (vec![said(0, stop), said(1, stop), usage.clone()], true, true),
        (vec![said(0, "null")], false, false),
        (vec![usage.clone()], false, false),
        (vec![], false, false),
        (vec![said(0, stop), said(0, "null")], false, false),
        (vec![said(0, stop), "data: {".to_owned()], false, false),
        (vec![said(0, stop), "data: [DONE]".to_owned()], true, false),
    ] {
        let stream = events.join("\n\n") + "\n\n";
        let stream = stream.strip_suffix("{\n\n").map_or(stream.clone(), str::to_owned);
        let (_, reading) = meter(&ROWS[0], false, stream.as_bytes(), &[]);
        assert_eq!((reading.complete, reading.usage_is_partial), (complete, is_partial), "{stream}");
        // What breaks off is not whole, whatever came.
        let mut broken = SseMeter::new(&ROWS[0], false);
        broken.push(stream.as_bytes(), &mut BytesMut::new()).unwrap();
        assert_eq!(broken.finish().complete, stream.contains("[DONE]"), "{stream}");
    }
}

#[test]
fn what_a_long_event_says_in_few_words_is_heard_as_of_a_short_one() {
    let comment = ":".repeat(400_000);
    let told = |lines: &str| {
        let told = meter(&ROWS[0], false, format!("{comment}\n{lines}\n\n").as_bytes(), &[70_000]).1;
        assert_eq!(told, meter(&ROWS[0], false, format!("{lines}\n\n").as_bytes(), &[]).1, "{lines}");
        (told.visible_output_bytes, told.complete)
    };
    assert_eq!(told("data\ndata"), (0, false));
    assert_eq!(told("data: [DONE]"), (0, true));
    assert_eq!(told("data: no JSON"), (7, false));
}
