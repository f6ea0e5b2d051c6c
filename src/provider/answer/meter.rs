//! Metering a stream while it passes.
//!
//! Every byte passes, at once and unchanged, with one exception: where Bitting asked for the usage and the
//! client did not, the usage is taken out again, and events are held until they are whole for that.

use super::{
    LIMITS, anthropic,
    openai::{self, Strip},
    sse::{Framer, Step, TooLong},
    wide,
};
use crate::{
    base::json::Document,
    policy::Operation,
    provider::{Dialect, Reading},
};
use bytes::BytesMut;

/// The longest event that is read.
const EVENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why a stream cannot be metered any more, and must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MeterError {
    /// An event does not end.
    #[error("the provider sent an event of more than {max} bytes")]
    EventTooLong {
        /// The longest event that is read.
        max: usize,
    },
}

/// Reads the usage of one stream.
#[derive(Debug)]
pub struct SseMeter {
    framer: Framer,
    teller: Teller,
    strip_usage: bool,
    /// The event that ended last was passed, so a late line feed of its end passes too.
    passed_last: bool,
}

impl SseMeter {
    /// A meter for one answer. With `strip_usage` the client sees the stream as if the usage had not been
    /// asked for; where usage is reported without being asked for it changes nothing.
    pub fn new(dialect: Dialect, operation: Operation, strip_usage: bool) -> Self {
        let reports_on_demand =
            dialect == Dialect::OpenAi && matches!(operation, Operation::Chat | Operation::Completions);
        let teller = Teller { dialect, reading: Reading::default(), tally: anthropic::Tally::default() };
        Self {
            framer: Framer::new(EVENT_BYTES_MAX),
            teller,
            strip_usage: strip_usage && reports_on_demand,
            passed_last: true,
        }
    }

    /// Whether [`SseMeter::push`] gives out other bytes than it takes in.
    pub fn strips(&self) -> bool {
        self.strip_usage
    }

    /// Reads the next bytes of the stream, and appends to `out` what the client shall see. After an error
    /// nothing more can be read; what `out` holds may be sent.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        if !self.strip_usage {
            out.extend_from_slice(chunk);
        }
        let mut rest = chunk;
        while !rest.is_empty() {
            let step = self.framer.next(&mut rest);
            match step.map_err(|TooLong| MeterError::EventTooLong { max: EVENT_BYTES_MAX })? {
                Step::End => self.end_event(out),
                Step::LateLineFeed if self.strip_usage && self.passed_last => out.extend_from_slice(b"\n"),
                Step::LateLineFeed | Step::More => {}
            }
        }
        Ok(())
    }

    /// What the stream has told so far.
    pub fn reading(&self) -> &Reading {
        &self.teller.reading
    }

    /// Bytes of output that the client could see so far.
    pub fn visible_output_bytes(&self) -> u64 {
        self.teller.reading.visible_output_bytes
    }

    /// The provider has ended its stream: an event that it left without its blank line is read, and what
    /// is held of it goes to `out`. Not for a stream that broke off: half an event is worth nothing.
    pub fn flush(&mut self, out: &mut BytesMut) {
        if !self.framer.raw().is_empty() {
            self.end_event(out);
        }
    }

    /// What the stream told, the event that did not end included.
    pub fn finish(mut self) -> Reading {
        self.flush(&mut BytesMut::new());
        self.teller.reading
    }

    fn end_event(&mut self, out: &mut BytesMut) {
        let event = self.framer.event();
        let strip = match event.data() {
            Some(data) => self.teller.hear(&event.name, &data, self.strip_usage),
            None => Strip::Nothing,
        };
        self.passed_last = strip != Strip::Event;
        if self.strip_usage {
            match strip {
                Strip::Nothing => out.extend_from_slice(self.framer.raw()),
                Strip::Event => {}
                Strip::Bytes(cut) => {
                    out.extend_from_slice(&event.without(&cut).concat());
                }
            }
        }
        self.framer.clear();
    }
}

/// Understands events.
#[derive(Debug)]
struct Teller {
    dialect: Dialect,
    reading: Reading,
    tally: anthropic::Tally,
}

impl Teller {
    /// Notes what an event tells, and says what of it the client shall not see.
    fn hear(&mut self, name: &str, data: &[u8], strip_usage: bool) -> Strip {
        if self.dialect == Dialect::OpenAi && data.trim_ascii() == b"[DONE]" {
            self.reading.complete = true;
            return Strip::Nothing;
        }
        if data.trim_ascii().is_empty() {
            return Strip::Nothing;
        }
        let Ok(document) = Document::parse(data, LIMITS) else {
            let bytes = &mut self.reading.visible_output_bytes;
            *bytes = bytes.saturating_add(wide(data.len()));
            return Strip::Nothing;
        };
        let root = document.root();
        match self.dialect {
            Dialect::OpenAi => {
                openai::read_chunk(root, &mut self.reading);
                self.reading.failed |= name == "error";
            }
            Dialect::Anthropic => anthropic::read_event(name, root, &mut self.tally, &mut self.reading),
            Dialect::Gemini => {}
        }
        if strip_usage { openai::strip_usage(root) } else { Strip::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::Usage;
    use proptest::prelude::*;

    fn meter(dialect: Dialect, strip: bool, stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Reading) {
        let mut meter = SseMeter::new(dialect, Operation::Chat, strip);
        let (mut out, mut rest, mut turn) = (BytesMut::new(), stream, 0);
        while !rest.is_empty() {
            let size =
                sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
            turn += 1;
            let (chunk, after) = rest.split_at(size);
            rest = after;
            let before = out.len();
            meter.push(chunk, &mut out).unwrap();
            assert!(strip || out[before..] == *chunk, "passes at once");
        }
        meter.flush(&mut out);
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
            let (out, reading) = meter(Dialect::OpenAi, true, openai_stream(end).as_bytes(), &[]);
            let wanted = STRIPPED.map(|line| format!("{line}{end}{end}")).concat();
            assert_eq!(String::from_utf8(out).unwrap(), wanted);
            let wanted = Reading {
                usage: Some(Usage { input: 7, output: 3, ..Usage::default() }),
                model: Some("m-1".into()),
                finish_reason: Some("tool_calls".into()),
                service_tier: Some("default".into()),
                visible_output_bytes: 3 + 2,
                complete: true,
                failed: false,
            };
            assert_eq!(reading, wanted);
        }
    }

    const ANTHROPIC: &str = concat!(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude\",\"usage\":",
        "{\"input_tokens\":10,\"cache_read_input_tokens\":4,\"output_tokens\":1,\"service_tier\":\"standard\"}}}\n\n",
        "event: ping\ndata: {\"type\":\"ping\"}\n\n",
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
        "\"usage\":{\"output_tokens\":25}}\n\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    #[test]
    fn an_anthropic_stream_tells_all_and_is_never_changed() {
        let (out, reading) = meter(Dialect::Anthropic, true, ANTHROPIC.as_bytes(), &[7]);
        assert_eq!(out, ANTHROPIC.as_bytes());
        let wanted = Reading {
            usage: Some(Usage { input: 10, cached_input: 4, output: 25, ..Usage::default() }),
            model: Some("claude".into()),
            finish_reason: Some("end_turn".into()),
            service_tier: Some("standard".into()),
            visible_output_bytes: 5 + 2 + 2,
            complete: true,
            failed: false,
        };
        assert_eq!(reading, wanted);
    }

    #[test]
    fn a_broken_stream_is_not_complete_and_its_first_guess_is_no_usage() {
        let cut = &ANTHROPIC.as_bytes()[..ANTHROPIC.find("event: message_delta").unwrap()];
        let (_, reading) = meter(Dialect::Anthropic, false, cut, &[]);
        assert_eq!((reading.complete, reading.usage, reading.visible_output_bytes), (false, None, 9));
        let silent = ANTHROPIC.replace(r#","usage":{"output_tokens":25}"#, "");
        let (_, reading) = meter(Dialect::Anthropic, false, silent.as_bytes(), &[]);
        assert_eq!((reading.complete, reading.usage), (true, None));
        let stream = openai_stream("\n");
        let cut = &stream.as_bytes()[..stream.find("data: [DONE]").unwrap() + 5];
        let (out, reading) = meter(Dialect::OpenAi, true, cut, &[3]);
        assert!(!reading.complete && reading.usage.is_some());
        assert!(out.ends_with(b"\n\ndata:"));
        let unended = "data: [DONE]";
        let (out, reading) = meter(Dialect::OpenAi, true, unended.as_bytes(), &[5]);
        assert!(reading.complete && out == unended.as_bytes());
    }

    #[test]
    fn what_makes_no_sense_passes_and_is_not_believed() {
        let chunk = |usage: &str| format!("data: {{\"choices\":[],\"usage\":{usage}}}\n\n");
        let good = r#"{"prompt_tokens":1,"completion_tokens":2}"#;
        let read = |stream: &[u8]| meter(Dialect::OpenAi, false, stream, &[]).1;
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
            let (out, reading) = meter(Dialect::OpenAi, true, stream.as_bytes(), &[]);
            assert_eq!(out, format!("data: {junk}\n\n").as_bytes());
            assert!(reading.usage.is_some());
            assert_eq!(reading.visible_output_bytes, wide(junk.len()));
        }
        let invalid = b"data: \xff\xfe\n\ndata: {\"x\":\"\xc3\"}\n\n";
        let (out, reading) = meter(Dialect::OpenAi, true, invalid, &[]);
        assert_eq!((out.as_slice(), reading.visible_output_bytes), (&invalid[..], 2 + 9));
    }

    #[test]
    fn a_providers_error_event_is_seen() {
        let openai = b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n";
        assert!(meter(Dialect::OpenAi, false, openai, &[]).1.failed);
        let anthropic =
            b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
        assert!(meter(Dialect::Anthropic, false, anthropic, &[]).1.failed);
        let untyped = b"event: error\ndata: {\"error\":{}}\n\n";
        assert!(meter(Dialect::Anthropic, false, untyped, &[]).1.failed);
        assert!(!meter(Dialect::OpenAi, false, openai_stream("\n").as_bytes(), &[]).1.failed);
    }

    #[test]
    fn half_an_event_is_held_and_read_but_given_out_only_when_flushed() {
        let (mut meter, mut out) = (SseMeter::new(Dialect::OpenAi, Operation::Chat, true), BytesMut::new());
        meter.push(b"data: {\"choices\":[],\"us", &mut out).unwrap();
        assert!(meter.strips() && out.is_empty());
        assert_eq!(meter.visible_output_bytes(), 0);
        let reading = meter.finish();
        assert!(!reading.complete && reading.visible_output_bytes > 0);
        assert!(!SseMeter::new(Dialect::OpenAi, Operation::Embeddings, true).strips());
    }

    #[test]
    fn an_endless_event_is_an_error() {
        for strip in [false, true] {
            let mut meter = SseMeter::new(Dialect::OpenAi, Operation::Chat, strip);
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
            let whole = meter(Dialect::OpenAi, strip, stream.as_bytes(), &[]);
            prop_assert_eq!(&meter(Dialect::OpenAi, strip, stream.as_bytes(), &sizes), &whole);
            if !strip {
                prop_assert_eq!(&whole.0, stream.as_bytes());
            }
            let anthropic = meter(Dialect::Anthropic, strip, ANTHROPIC.as_bytes(), &sizes);
            prop_assert_eq!(anthropic, meter(Dialect::Anthropic, false, ANTHROPIC.as_bytes(), &[]));
        }

        /// Stripping takes the usage and nothing else: what is left, metered again, tells the same but for it.
        #[test]
        fn stripping_leaves_the_rest(sizes in prop::collection::vec(1..90_usize, 1..9)) {
            let stream = openai_stream("\r\n");
            let (out, reading) = meter(Dialect::OpenAi, true, stream.as_bytes(), &sizes);
            let (again, left) = meter(Dialect::OpenAi, true, &out, &sizes);
            prop_assert_eq!(again, out);
            prop_assert_eq!(left, Reading { usage: None, ..reading });
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), strip: bool) {
            let stream = [b"data: ", bytes.as_slice(), b"\n\n"].concat();
            meter(Dialect::OpenAi, strip, &stream, &[5]);
            meter(Dialect::Anthropic, strip, &stream, &[]);
            super::super::read_json(Dialect::OpenAi, Operation::Chat, &bytes);
        }
    }
}
