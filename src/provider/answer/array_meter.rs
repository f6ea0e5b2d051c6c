//! Metering a stream that is one array of JSON, which grows: Google's, where it is not asked for events.
//!
//! Every byte passes, at once and unchanged, but for what must not pass; see [`super::sse_meter`].

use super::array_place::{ArrayPlace, Scanner};
use super::long::{Long, WHOLE_BYTES_MAX};
use super::sse_meter::{EVENT_BYTES_MAX, HELD_BYTES_MIN, MeterError, Teller};
use super::strand::TextWatch;
use crate::provider::{Reading, operation::Row};
use bytes::BytesMut;

/// Reads the usage of one such stream.
pub struct ArrayMeter {
    teller: Teller,
    scanner: Scanner,
    /// The element begun, with what stands before it, where that is not long.
    raw: Vec<u8>,
    /// How much of it was passed.
    passed: usize,
    long: Option<Long>,
    /// From which length on it is.
    whole_bytes_max: usize,
    /// How long it is.
    bytes: usize,
    /// Its first bracket was read.
    has_begun: bool,
    /// Where what was given out ends.
    place: ArrayPlace,
}

impl ArrayMeter {
    /// A meter for one answer, with every text of it heard by a watch.
    pub fn new(row: &Row, watch: Box<dyn TextWatch>) -> Self {
        let teller = Teller::new(row, Some(watch));
        Self {
            teller,
            scanner: Scanner::default(),
            raw: Vec::new(),
            passed: 0,
            long: None,
            whole_bytes_max: WHOLE_BYTES_MAX,
            bytes: 0,
            has_begun: false,
            place: ArrayPlace::Start,
        }
    }

    pub(super) fn push(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        let mut rest = chunk;
        while !rest.is_empty() {
            self.push_element(&mut rest, out)?;
        }
        Ok(())
    }

    /// The same up to the next end of an element, and moves `chunk` past it.
    pub(super) fn push_element(&mut self, chunk: &mut &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        let (taken, ends) = self.scanner.advance(chunk);
        let (bytes, rest) = chunk.split_at(taken);
        *chunk = rest;
        self.take(bytes, out)?;
        if ends {
            self.end_element(out)?;
        } else if self.long.is_none() && !self.teller.must_wait(&self.raw[self.passed..]) {
            self.pass_rest(out);
        }
        Ok(())
    }

    /// Takes in the next bytes of the element under way.
    fn take(&mut self, bytes: &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > EVENT_BYTES_MAX {
            return Err(MeterError::EventTooLong { max: EVENT_BYTES_MAX });
        }
        if self.long.is_none() && self.bytes <= self.whole_bytes_max {
            self.raw.extend_from_slice(bytes);
            return Ok(());
        }
        if self.long.is_none() {
            self.long = Some(Long::begin(&mut self.teller));
            let (raw, passed) = (std::mem::take(&mut self.raw), std::mem::take(&mut self.passed));
            self.read_on(&raw, passed, out)?;
        }
        self.read_on(bytes, 0, out)
    }

    /// Reads the next bytes of a long element, of which the first have passed already, and passes the others.
    fn read_on(&mut self, raw: &[u8], passed: usize, out: &mut BytesMut) -> Result<(), MeterError> {
        let Some(long) = &mut self.long else { return Ok(()) };
        let start = if self.has_begun { Some(0) } else { memchr::memchr(b'{', raw) };
        if let Some(start) = start {
            self.has_begun = true;
            long.read(&raw[start..], &mut self.teller)?;
        }
        long.pass(&raw[passed..], out);
        self.place = ArrayPlace::Inside;
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut BytesMut) -> Result<(), MeterError> {
        if self.bytes > 0 { self.end_element(out) } else { Ok(()) }
    }

    pub(super) fn reading(&self) -> &Reading {
        &self.teller.reading
    }

    pub(super) fn finish(mut self) -> Reading {
        // An element that did not end counts by its bytes; what must not pass does not.
        let _ = self.flush(&mut BytesMut::new());
        self.teller.reading.complete &= self.scanner.ended;
        self.teller.reading
    }

    pub(super) fn place(&self) -> ArrayPlace {
        self.place
    }

    fn end_element(&mut self, out: &mut BytesMut) -> Result<(), MeterError> {
        (self.bytes, self.has_begun) = (0, false);
        if let Some(long) = self.long.take() {
            long.end("", &mut self.teller, out)?;
            self.place = self.scanner.place();
            return Ok(());
        }
        let start = memchr::memchr(b'{', &self.raw).unwrap_or(self.raw.len());
        if start < self.raw.len() {
            self.teller.hear("", &self.raw[start..], false)?;
        }
        self.pass_rest(out);
        self.raw.clear();
        self.raw.shrink_to(HELD_BYTES_MIN);
        self.passed = 0;
        Ok(())
    }

    fn pass_rest(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.raw[self.passed..]);
        self.passed = self.raw.len();
        self.place = self.scanner.place();
    }
}

#[cfg(test)]
mod tests {
    use super::super::shorten::tests::long_text;
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;
    use http::Method;
    use proptest::prelude::*;

    struct Deaf;

    impl TextWatch for Deaf {
        fn hear(&mut self, _strand: u64, piece: &str) -> bool {
            piece != "forbidden"
        }

        fn hear_name(&mut self, name: &str) -> bool {
            name != "forbidden"
        }

        fn is_alert(&self) -> bool {
            false
        }

        fn could_hide_in(&self, raw: &[u8]) -> bool {
            raw.windows(6).any(|part| part == br"\u0066")
        }

        fn hear_unread(&mut self, _data: &[u8]) -> bool {
            true
        }

        fn begin_long(&mut self) {}

        fn hear_on(&mut self, _data: &[u8]) -> Option<usize> {
            Some(0)
        }
    }

    fn meter() -> ArrayMeter {
        let path = "/v1beta/models/gemini-3:streamGenerateContent";
        ArrayMeter::new(find(&Method::POST, path, Dialect::Gemini).unwrap().row, Box::new(Deaf))
    }

    fn passed(stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Reading) {
        read(meter(), stream, sizes)
    }

    fn read(mut meter: ArrayMeter, stream: &[u8], sizes: &[usize]) -> (Vec<u8>, Reading) {
        let (mut out, mut rest, mut turn) = (BytesMut::new(), stream, 0);
        while !rest.is_empty() {
            let size =
                sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len()).clamp(1, rest.len());
            turn += 1;
            meter.push(&rest[..size], &mut out).unwrap();
            rest = &rest[size..];
        }
        meter.flush(&mut out).unwrap();
        (out.to_vec(), meter.finish())
    }

    const STREAM: &str = r#"[{"candidates":[{"content":{"parts":[{"text":"a ]}\"[{"}]}}],"modelVersion":"g"}
,
{"candidates":[{"finishReason":"STOP","content":{"parts":[{"text":"bc"}]}}],
 "usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4}}
]"#;

    #[test]
    fn an_array_tells_what_events_would() {
        let (out, reading) = passed(STREAM.as_bytes(), &[]);
        assert_eq!(out, STREAM.as_bytes());
        assert_eq!((reading.usage.unwrap().input, reading.usage.unwrap().output), (3, 4));
        assert_eq!((reading.visible_output_bytes, reading.complete), (7 + 2, true));
        let cut = &STREAM.as_bytes()[..STREAM.len() - 1];
        assert!(!passed(cut, &[]).1.complete, "an array that is not closed has not ended");
        let (out, reading) = passed(br#"{"error":{"code":500}}"#, &[]);
        assert!(out.len() == 22 && reading.failed);
    }

    #[test]
    fn an_element_that_did_not_end_counts_by_its_bytes() {
        let mut meter = meter();
        let half = br#"[{"candidates":[{"content":{"parts":[{"text":"a long answer that goes on and"#;
        meter.push(half, &mut BytesMut::new()).unwrap();
        let reading = meter.finish();
        assert!(reading.visible_output_bytes >= 30 && !reading.complete, "{reading:?}");
    }

    #[test]
    fn what_must_not_pass_does_not_and_where_it_stands_is_known() {
        let (mut meter, mut out) = (meter(), BytesMut::new());
        assert_eq!(meter.place(), ArrayPlace::Start);
        meter.push(b"[", &mut out).unwrap();
        assert_eq!(meter.place(), ArrayPlace::Before);
        meter.push(br#"{"a":"#, &mut out).unwrap();
        assert_eq!((meter.place(), &out[..]), (ArrayPlace::Inside, &br#"[{"a":"#[..]));
        meter.push(br#""ok"}"#, &mut out).unwrap();
        assert_eq!(meter.place(), ArrayPlace::After);
        meter.push(b" ,\n", &mut out).unwrap();
        assert_eq!(meter.place(), ArrayPlace::Before);
        let before = out.len();
        let held = br#"{"a":"\u0066orbidden"#;
        meter.push(held, &mut out).unwrap();
        assert_eq!((out.len(), meter.place()), (before, ArrayPlace::Before), "held until it is whole");
        assert_eq!(meter.push(br#""}"#, &mut out), Err(MeterError::Withheld));
        assert_eq!((out.len(), meter.place()), (before, ArrayPlace::Before));
    }

    /// What was given out, ended by one more element, is an array, wherever it was cut.
    #[test]
    fn an_array_can_be_ended_where_that_is_said_and_only_there() {
        let ends = |stream: &[u8], whole_bytes_max: usize| {
            let (mut meter, mut out) = (ArrayMeter { whole_bytes_max, ..meter() }, BytesMut::new());
            meter.push(stream, &mut out).unwrap();
            let last = match meter.place() {
                ArrayPlace::Start => "[7]",
                ArrayPlace::Before => "7]",
                ArrayPlace::After => ",7]",
                ArrayPlace::Inside => return None,
            };
            Some([&out[..], last.as_bytes()].concat())
        };
        for stream in [STREAM, r#" [ "a\"," , [1,{}] ,-1.5e3,null , {} ]"#] {
            let mut told = 0;
            for cut in 0..=stream.len() {
                for whole_bytes_max in [0, WHOLE_BYTES_MAX] {
                    let Some(ended) = ends(&stream.as_bytes()[..cut], whole_bytes_max) else { continue };
                    let text = String::from_utf8(ended).unwrap();
                    let array: serde_json::Value =
                        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"));
                    assert_eq!(array.as_array().unwrap().last().unwrap(), 7);
                    told += 1;
                }
            }
            assert!(told > 10, "{told} of {stream}");
        }
        for stream in ["x", "\u{feff}[", "[1", "[tru", "[\"", "{", "{}", "[{}]", "[[", "}"] {
            assert_eq!(ends(stream.as_bytes(), WHOLE_BYTES_MAX), None, "{stream}");
        }
    }

    proptest! {
        #[test]
        fn any_chunking_passes_and_tells_the_same(sizes in prop::collection::vec(1..9_usize, 1..20)) {
            prop_assert_eq!(passed(STREAM.as_bytes(), &sizes), passed(STREAM.as_bytes(), &[]));
        }

        /// An element that is read as it passes tells what one tells that is held.
        #[test]
        fn a_long_element_tells_the_same(
            text in long_text(), sizes in prop::collection::vec(1..3_000_usize, 1..9), cut: prop::sample::Index,
        ) {
            let stream = STREAM.replace("bc", &text).replace(r#""text":"a "#, &format!(r#""inlineData":{{"data":"{text}"}},"text":"a "#));
            let stream = &stream.as_bytes()[..stream.len() - if cut.index(2) == 0 { 0 } else { cut.index(stream.len()) }];
            let whole = read(meter(), stream, &sizes);
            let long = read(ArrayMeter { whole_bytes_max: 0, ..meter() }, stream, &sizes);
            prop_assert_eq!(&long.0, stream);
            prop_assert_eq!(long, whole);
        }

        #[test]
        fn whatever_comes_passes(stream in r#"[\[\]{}",:a\\ ]{0,60}"#, sizes in prop::collection::vec(1..9_usize, 1..9)) {
            let (out, _) = passed(stream.as_bytes(), &sizes);
            prop_assert_eq!(out, stream.into_bytes());
        }
    }
}
