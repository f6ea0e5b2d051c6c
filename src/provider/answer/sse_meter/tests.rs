//! What a metered stream tells, and that it passes unchanged.

use super::super::shorten::tests::long_text;
use super::*;
use crate::provider::operation::{ROWS, find};
use crate::provider::{HostedCalls, Usage};
use proptest::prelude::*;

mod ends;

fn meter(row: &Row, strip: bool, stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Reading) {
    read(SseMeter::new(row, strip), strip, stream, sizes)
}

fn read(mut meter: SseMeter, strip: bool, stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Reading) {
    let (mut out, mut rest, mut turn) = (BytesMut::new(), stream, 0);
    while !rest.is_empty() {
        let size = sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
        turn += 1;
        let (chunk, after) = rest.split_at(size);
        rest = after;
        let before = out.len();
        meter.push(chunk, &mut out).unwrap();
        assert!(strip || out[before..] == *chunk, "passes at once");
    }
    meter.flush(&mut out).unwrap();
    let reading = meter.finish();
    (out.to_vec(), reading)
}

fn openai_stream(end: &str) -> String {
    [
        r#"data: {"id":"c","model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}],"usage":null}"#,
        r#"data: {"id":"c","usage":null,"choices":[{"index":0,"delta":{"content":"h\u00e4"},"finish_reason":null}]}"#,
        r#"data:{"usage":null}"#,
        ": note",
        r#"data: {"choices":[],"prompt_filter_results":[],"usage":null}"#,
        r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"arguments":"{}"}}]}}], "usage" : null }"#,
        r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"service_tier":"default"}"#,
        r#"data: {"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":3,"total_tokens":10}}"#,
        "data: [DONE]",
    ]
    .map(|line| format!("{line}{end}{end}"))
    .concat()
}

const STRIPPED: [&str; 8] = [
    r#"data: {"id":"c","model":"m-1","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    r#"data: {"id":"c","choices":[{"index":0,"delta":{"content":"h\u00e4"},"finish_reason":null}]}"#,
    "data:{}",
    ": note",
    r#"data: {"choices":[],"prompt_filter_results":[]}"#,
    r#"data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"t","function":{"arguments":"{}"}}]}}] }"#,
    r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}],"service_tier":"default"}"#,
    "data: [DONE]",
];

#[test]
fn usage_that_the_client_did_not_ask_for_is_taken_out() {
    for end in ["\n", "\r\n", "\r"] {
        let (out, reading) = meter(&ROWS[0], true, openai_stream(end).as_bytes(), &[]);
        let wanted = STRIPPED.map(|line| format!("{line}{end}{end}")).concat();
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
        let wanted = Reading {
            usage: Some(Usage { input: 7, output: 3, ..Usage::default() }),
            reported_cost: None,
            model: Some("m-1".into()),
            finish_reason: Some("tool_calls".into()),
            service_tier: Some("default".into()),
            visible_output_bytes: 3 + 2,
            usage_is_final: true,
            complete: true,
            ..Reading::default()
        };
        assert_eq!(reading, wanted);
    }
}

const ANTHROPIC: &str = concat!(
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\"usage\":",
    "{\"input_tokens\":10,\"cache_read_input_tokens\":4,\"output_tokens\":1,\"service_tier\":\"standard\"}}}\n\n",
    "event: ping\ndata: {\"type\":\"ping\"}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":",
    "{\"type\":\"server_tool_use\",\"name\":\"web_search\"}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":",
    "{\"type\":\"text\",\"text\":\"\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":",
    "{\"type\":\"text_delta\",\"text\":\"hello\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":",
    "{\"type\":\"input_json_delta\",\"partial_json\":\"{}\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":",
    "{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":2,\"delta\":",
    "{\"type\":\"signature_delta\",\"signature\":\"AAAAAAAA\"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},",
    "\"usage\":{\"output_tokens\":25,\"speed\":\"fast\",\"server_tool_use\":{\"web_search_requests\":2}}}\n\n",
    "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
);

#[test]
fn an_anthropic_stream_tells_all_and_is_never_changed() {
    let (out, reading) = meter(&ROWS[3], true, ANTHROPIC.as_bytes(), &[7]);
    assert_eq!(out, ANTHROPIC.as_bytes());
    let wanted = Reading {
        usage: Some(Usage { input: 10, cached_input: 4, output: 25, ..Usage::default() }),
        reported_cost: None,
        model: Some("claude".into()),
        finish_reason: Some("end_turn".into()),
        service_tier: Some("standard".into()),
        visible_output_bytes: 10 + 5 + 2 + 2,
        hosted_calls: Some(HostedCalls {
            reported: [("web_search".to_owned(), 2)].into(),
            seen: [("web_search".to_owned(), 1)].into(),
        }),
        speed: Some("fast".into()),
        usage_is_final: true,
        complete: true,
        ..Reading::default()
    };
    assert_eq!(reading, wanted);
}

#[test]
fn what_makes_no_sense_passes_and_is_not_believed() {
    let chunk = |usage: &str| format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n");
    let good = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
    let read = |stream: &[u8]| meter(&ROWS[0], false, stream, &[]).1;
    for bad in [
        r#"{"prompt_tokens":-1,"completion_tokens":2}"#,
        "{}",
        "7",
        r#"{"prompt_tokens":1e400,"completion_tokens":2}"#,
    ] {
        assert_eq!(read(chunk(bad).as_bytes()).usage, None, "{bad}");
        assert_eq!(read((chunk(good) + &chunk(bad)).as_bytes()).usage, None, "{bad}");
        assert!(read((chunk(bad) + &chunk(good)).as_bytes()).usage.is_some(), "{bad}");
    }
    for junk in ["{\"usage\":NaN}", "{", "\u{feff}{}", "{\"a\":1,\"a\":2}"] {
        let stream = format!("{}data: {junk}\n\n", chunk(good));
        let (out, reading) = meter(&ROWS[0], true, stream.as_bytes(), &[]);
        assert_eq!(out, format!("data: {junk}\n\n").as_bytes());
        assert!(reading.usage.is_some());
        assert_eq!(reading.visible_output_bytes, wide(junk.len()));
    }
    let invalid = b"data: \xff\xfe\n\ndata: {\"x\":\"\xc3\"}\n\n";
    let (out, reading) = meter(&ROWS[0], true, invalid, &[]);
    assert_eq!((out.as_slice(), reading.visible_output_bytes), (&invalid[..], 2 + 9));
}

#[test]
fn a_providers_error_event_is_seen() {
    let openai = b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
    assert!(meter(&ROWS[0], false, openai, &[]).1.failed);
    let anthropic = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    assert!(meter(&ROWS[3], false, anthropic, &[]).1.failed);
    let untyped = b"event: error\ndata: {\"error\":{}}\n\n";
    assert!(meter(&ROWS[3], false, untyped, &[]).1.failed);
    assert!(!meter(&ROWS[0], false, openai_stream("\n").as_bytes(), &[]).1.failed);
}

#[test]
fn half_an_event_is_held_and_read_but_given_out_only_when_flushed() {
    let (mut meter, mut out) = (SseMeter::new(&ROWS[0], true), BytesMut::new());
    meter.push(b"data: {\"choices\":[],\"us", &mut out).unwrap();
    assert!(meter.strips() && out.is_empty());
    assert_eq!(meter.visible_output_bytes(), 0);
    let reading = meter.finish();
    assert!(!reading.complete && reading.visible_output_bytes > 0);
    assert!(!SseMeter::new(&ROWS[2], true).strips());
}

/// Lets no text become `key`.
#[derive(Default)]
struct NoKey(std::collections::BTreeMap<u64, String>);

impl TextWatch for NoKey {
    fn hear(&mut self, strand: u64, piece: &str) -> bool {
        let text = self.0.entry(strand).or_default();
        text.push_str(piece);
        !text.contains("key")
    }

    fn hear_name(&mut self, name: &str) -> bool {
        !name.contains("key")
    }

    fn is_alert(&self) -> bool {
        self.0.values().any(|text| text.ends_with('k') || text.ends_with("ke"))
    }

    fn could_hide_in(&self, raw: &[u8]) -> bool {
        raw.contains(&b'\\')
    }

    fn hear_unread(&mut self, data: &[u8]) -> bool {
        !data.windows(8).any(|part| part == b"\\u006bey")
    }

    fn begin_long(&mut self) {}

    fn hear_on(&mut self, data: &[u8]) -> Option<usize> {
        (!data.windows(3).any(|part| part == b"key")).then_some(0)
    }
}

fn piece(text: &str) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
}

#[test]
fn the_event_that_completes_what_must_not_pass_is_withheld_and_no_other_waits() {
    for strip in [false, true] {
        for last in ["y", "y and more", "\\u0079"] {
            let meter = SseMeter::new(&ROWS[0], strip);
            let (mut meter, mut out) = (meter.watched_by(Box::new(NoKey::default())), BytesMut::new());
            let mut wanted = String::new();
            for text in ["a", "k", "e"] {
                wanted += &piece(text);
                meter.push(piece(text).as_bytes(), &mut out).unwrap();
                assert_eq!(out, wanted, "an event that has ended does not wait");
            }
            let event = piece(last);
            let (one, other) = event.split_at(event.len() - 3);
            meter.push(one.as_bytes(), &mut out).unwrap();
            assert_eq!(meter.push(other.as_bytes(), &mut out), Err(MeterError::Withheld), "{last}");
            assert_eq!(out, wanted, "nothing of it was passed: {last}");
        }
    }
    let meter = SseMeter::new(&ROWS[0], false);
    let (mut meter, mut out) = (meter.watched_by(Box::new(NoKey::default())), BytesMut::new());
    let whole = piece("a") + &piece("\\u006bey") + &piece("b");
    let escape = whole.find('\\').unwrap();
    let (one, other) = whole.split_at(escape + 3);
    meter.push(one.as_bytes(), &mut out).unwrap();
    assert_eq!(meter.push(other.as_bytes(), &mut out), Err(MeterError::Withheld));
    assert_eq!(out, piece("a"), "nor of one that has it whole, escaped, in two chunks");
}

#[test]
fn an_event_that_is_no_json_is_watched_as_it_is() {
    let meter = SseMeter::new(&ROWS[0], false);
    let (mut meter, mut out) = (meter.watched_by(Box::new(NoKey::default())), BytesMut::new());
    let fine = "data: {\"a\":1,\"a\":NaN}\n\n";
    meter.push(fine.as_bytes(), &mut out).unwrap();
    let pushed = meter.push(b"data: {\"a\":1,\"a\":\"\\u006bey\"}\n\n", &mut out);
    assert_eq!((pushed, &out[..]), (Err(MeterError::Withheld), fine.as_bytes()));
}

#[test]
fn a_watched_stream_passes_as_it_comes() {
    for sizes in [[1, 1], [7, 30], [500, 500]] {
        let (stream, mut turn) = (openai_stream("\r\n"), 0);
        let meter = SseMeter::new(&ROWS[0], false);
        let (mut meter, mut out) = (meter.watched_by(Box::new(NoKey::default())), BytesMut::new());
        let mut rest = stream.as_bytes();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(sizes[turn % 2].min(rest.len()));
            (rest, turn) = (after, turn + 1);
            meter.push(chunk, &mut out).unwrap();
            let ended = stream[..stream.len() - rest.len()].rfind("\r\n\r\n").map_or(0, |at| at + 3);
            assert!(out.len() >= ended, "every event that has ended has passed");
        }
        meter.flush(&mut out).unwrap();
        assert_eq!(out, stream.as_bytes());
    }
}

#[test]
fn a_long_event_passes_as_it_comes_and_nothing_is_taken_out_of_it() {
    let picture = "A".repeat(3 << 20);
    let long = format!(
        "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"images\":[{{\"image_url\":{{\"url\":\"{picture}\"}}}}]}}}}],\"usage\":null}}\n\n"
    );
    let stream = format!("{}{long}{}", piece("a"), openai_stream("\n"));
    for (strip, held) in [(false, WHOLE_BYTES_MAX), (true, STRIPPED_BYTES_MAX)] {
        let (mut meter, mut passed) = (SseMeter::new(&ROWS[0], strip), 0);
        for (number, chunk) in stream.as_bytes().chunks(10_000).enumerate() {
            let mut out = BytesMut::new();
            meter.push(chunk, &mut out).unwrap();
            passed += out.len();
            assert!(meter.raw.capacity() <= 2 * held, "{}", meter.raw.capacity());
            if (held / 10_000 + 2..300).contains(&number) {
                assert_eq!(passed, (number + 1) * 10_000, "long before it has ended");
            }
        }
        let reading = meter.finish();
        assert!(reading.complete && reading.usage.is_some());
        assert_eq!(reading.visible_output_bytes, 1 + 5, "a picture is no text");
        let taken: usize = if strip {
            openai_stream("\n").len() - STRIPPED.map(|line| line.len() + 2).iter().sum::<usize>()
        } else {
            0
        };
        assert_eq!(passed, stream.len() - taken);
    }
}

#[test]
fn nothing_of_what_must_not_pass_is_in_a_long_event() {
    let meter = SseMeter { whole_bytes_max: 0, ..SseMeter::new(&ROWS[0], false) };
    let (mut meter, mut out) = (meter.watched_by(Box::new(NoKey::default())), BytesMut::new());
    let fine = piece("a");
    meter.push(fine.as_bytes(), &mut out).unwrap();
    assert_eq!(meter.push(piece("the key").as_bytes(), &mut out), Err(MeterError::Withheld));
    assert_eq!(out, fine);
    // Its texts go on with those of the events before and after it.
    let mut meter = SseMeter::new(&ROWS[0], false).watched_by(Box::new(NoKey::default()));
    for text in ["k", "e"] {
        meter.push(piece(text).as_bytes(), &mut BytesMut::new()).unwrap();
        meter.whole_bytes_max = 0;
    }
    assert_eq!(meter.push(piece("y").as_bytes(), &mut BytesMut::new()), Err(MeterError::Withheld));
}

#[test]
fn where_another_event_can_follow_is_known() {
    for whole_bytes_max in [0, 1_000] {
        let mut meter = SseMeter { whole_bytes_max, ..SseMeter::new(&ROWS[0], false) };
        let mut at = |bytes: &str| {
            meter.push(bytes.as_bytes(), &mut BytesMut::new()).unwrap();
            meter.is_between()
        };
        let places = ["", "data: {}", "\n", "\n", ": note\r", "\n\r", "\n", "data: {"].map(&mut at);
        assert_eq!(places, [true, false, false, true, false, true, true, false]);
        meter.flush(&mut BytesMut::new()).unwrap();
        assert!(!meter.is_between(), "what was ended without its blank line");
    }
    let mut meter = SseMeter::new(&ROWS[0], true);
    meter.push(b"data: {\"usage\"", &mut BytesMut::new()).unwrap();
    assert!(meter.is_between(), "what is held the client does not have");
}

#[test]
fn an_endless_event_is_an_error() {
    for strip in [false, true] {
        let mut meter = SseMeter::new(&ROWS[0], strip);
        let (chunk, mut out) = (vec![b'a'; 1024 * 1024], BytesMut::new());
        let pushed = (0..40).map(|_| {
            out.clear();
            meter.push(&chunk, &mut out)
        });
        let error = pushed.into_iter().find_map(Result::err);
        assert_eq!(error, Some(MeterError::EventTooLong { max: EVENT_BYTES_MAX }));
    }
}

proptest! {
    /// One chunking of a stream meters, and passes, like any other.
    #[test]
    fn any_chunking_is_the_same(
        lines in prop::collection::vec((0..12_usize, prop::sample::select(vec!["\n", "\r\n", "\r"])), 0..20),
        sizes in prop::collection::vec(1..40_usize, 1..30),
        strip: bool,
    ) {
        let usage = r#"data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#;
        let multi = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\ndata: \"usage\"\rdata::null}";
        let palette = [
            "", "", "", "data: [DONE]", usage, multi, ": c", "event: x", "junk", "data: {\"usage\":{}}",
            r#"data: {"usage":null,"choices":[{"index":0,"delta":{"content":"ä"}}]}"#, "data: \u{feff}{",
        ];
        let stream: String = lines.iter().flat_map(|(line, end)| [palette[*line], *end]).collect();
        let whole = meter(&ROWS[0], strip, stream.as_bytes(), &[]);
        prop_assert_eq!(&meter(&ROWS[0], strip, stream.as_bytes(), &sizes), &whole);
        if !strip {
            prop_assert_eq!(&whole.0, stream.as_bytes());
        }
        let anthropic = meter(&ROWS[3], strip, ANTHROPIC.as_bytes(), &sizes);
        prop_assert_eq!(anthropic, meter(&ROWS[3], false, ANTHROPIC.as_bytes(), &[]));
    }

    /// An event that is read as it passes tells what one tells that is held, however it is chunked.
    #[test]
    fn a_long_event_tells_the_same(
        texts in prop::collection::vec(long_text(), 3),
        end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
        sizes in prop::collection::vec(1..9_000_usize, 1..9),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let [one, two, three] = [0, 1, 2].map(|number| &texts[number]);
        let chat = [
            format!(r#"data: {{"choices":[{{"index":0,"delta":{{"content":"{one}","audio":{{"id":"audio_1","data":"{two}"}}}}}}],"model":"{two}"}}"#),
            r#"data: {"choices":[{"index":0,"delta":{},"logprobs":{"content":[{"token":"x"}]},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1}}"#.to_owned(),
            format!("event: error{end}data: {{\"error\":{end}data:{{\"message\":\"{three}\"}}}}"),
            "data: [DONE]".to_owned(),
        ];
        let responses = [
            format!(r#"data: {{"type":"response.output_text.delta","delta":"{one}","sequence_number":3}}"#),
            format!(r#"data: {{"type":"response.image_generation_call.partial_image","partial_image_b64":"{two}"}}"#),
            format!(r#"data: {{"type":"response.completed","response":{{"id":"resp_0123456789abcdef","instructions":"{two}","output":[
                {{"type":"image_generation_call","id":"ig_0123456789abcdef","result":"{one}"}},{{"type":"message","id":"msg_0123456789abcdef","content":"{three}"}}],
                "usage":{{"input_tokens":1,"output_tokens":2}}}}}}"#).replace('\n', ""),
        ];
        let anthropic = [
            format!(r#"data: {{"type":"message_start","message":{{"model":"{three}","usage":{{"input_tokens":10,"output_tokens":1}}}}}}"#),
            format!(r#"data: {{"type":"content_block_start","index":0,"content_block":{{"type":"tool_use","name":"{one}","input":{{"a":"{two}"}}}}}}"#),
            format!(r#"event: content_block_delta{end}data: {{"type":"content_block_delta","index":0,"delta":{{"thinking":"{two}"}}}}"#),
            r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":9}}"#.to_owned(),
        ];
        let responses_row = find(&http::Method::POST, "/v1/responses", Dialect::OpenAi).unwrap().row;
        for (row, events) in [(&ROWS[0], &chat[..]), (responses_row, &responses[..]), (&ROWS[3], &anthropic[..])] {
            let stream: String = events.iter().flat_map(|event| [event, end, end]).collect();
            let stream = &stream.as_bytes()[..stream.len() - cut.map_or(0, |cut| cut.index(stream.len()))];
            let whole = read(SseMeter { whole_bytes_max: usize::MAX, ..SseMeter::new(row, false) }, false, stream, &sizes);
            let long = read(SseMeter { whole_bytes_max: 20, ..SseMeter::new(row, false) }, false, stream, &sizes);
            prop_assert_eq!(&long.0, stream);
            prop_assert_eq!(long, whole);
        }
    }

    /// Stripping takes the usage and nothing else: what is left, metered again, tells the same but for it.
    #[test]
    fn stripping_leaves_the_rest(sizes in prop::collection::vec(1..90_usize, 1..9)) {
        let stream = openai_stream("\r\n");
        let (out, reading) = meter(&ROWS[0], true, stream.as_bytes(), &sizes);
        let (again, left) = meter(&ROWS[0], true, &out, &sizes);
        prop_assert_eq!(again, out);
        prop_assert_eq!(left, Reading { usage: None, usage_is_final: false, ..reading });
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), strip: bool) {
        let stream = [b"data: ", bytes.as_slice(), b"\n\n"].concat();
        meter(&ROWS[0], strip, &stream, &[5]);
        meter(&ROWS[3], strip, &stream, &[]);
        super::super::read_json(&ROWS[0], &bytes);
    }
}
