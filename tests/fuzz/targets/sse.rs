//! The meters of streams, all dialects: however a stream is split, the same bytes pass and the same is told; what passes
//! is what came; and a plain reading by the standard's words, each event written anew in one way, tells the same.
//!
//! The first byte says which row and whether usage is taken out, the second how many bytes after it are sizes of chunks,
//! and whether the first control character of the stream stands for a lot of text: long events are read as they pass.
//! That takes long, too, so it does so only in every eighth stream.

#![no_main]

use bitting::base::json::{Document, Kind, Limits};
use bitting::provider::answer::{ArrayMeter, Meter, SseMeter, TextWatch};
use bitting::provider::operation::{Row, find};
use bitting::provider::{Dialect, Reading};
use bytes::BytesMut;
use http::Method;
use libfuzzer_sys::fuzz_target;
use std::borrow::Cow;
use std::sync::LazyLock;

static ROWS: LazyLock<Vec<&'static Row>> = LazyLock::new(|| {
    let row = |path, dialect| find(&Method::POST, path, dialect).expect("the row is there").row;
    vec![
        row("/v1/chat/completions", Dialect::OpenAi),
        row("/v1/completions", Dialect::OpenAi),
        row("/v1/messages", Dialect::Anthropic),
        row("/v1/responses", Dialect::OpenAi),
        row("/v1beta/models/m:streamGenerateContent", Dialect::Gemini),
    ]
});

/// More than is held of an event, and less than where usage is not taken out any more.
const LONG: usize = 300_000;

/// Objects to anything by no means.
struct Unheard;

impl TextWatch for Unheard {
    fn hear(&mut self, _strand: u64, _piece: &str) -> bool {
        true
    }

    fn hear_name(&mut self, _name: &str) -> bool {
        true
    }

    fn is_alert(&self) -> bool {
        false
    }

    fn begin_long(&mut self) {}

    fn hear_on(&mut self, _piece: &[u8]) -> Option<usize> {
        Some(0)
    }

    fn could_hide_in(&self, _raw: &[u8]) -> bool {
        false
    }

    fn hear_unread(&mut self, _data: &[u8]) -> bool {
        true
    }
}

/// Passes a stream in chunks of these sizes, over and over; with none, in one.
fn pass(mut meter: Meter, stream: &[u8], sizes: &[usize], strips: bool) -> (Vec<u8>, Reading) {
    let (mut out, mut rest, mut turn) = (BytesMut::new(), stream, 0);
    while !rest.is_empty() {
        let size = sizes.get(turn % sizes.len().max(1)).copied().unwrap_or(rest.len());
        let (chunk, after) = rest.split_at(size.clamp(1, rest.len()));
        (rest, turn) = (after, turn + 1);
        let before = out.len();
        meter.push(chunk, &mut out).expect("a short stream has no long events");
        assert!(strips || out[before..] == *chunk, "what comes passes at once");
    }
    meter.flush(&mut out).expect("what is held is short too");
    (out.to_vec(), meter.finish())
}

fn events(row: &Row, strips: bool) -> Meter {
    Meter::Events(Box::new(SseMeter::new(row, strips)))
}

fn array(row: &Row) -> Meter {
    Meter::Array(Box::new(ArrayMeter::new(row, Box::new(Unheard))))
}

/// Name and data of each event with data; the last counts although its blank line is missing.
fn plainly(stream: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines: Vec<Vec<u8>> = vec![Vec::new()];
    for (at, byte) in stream.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && stream[at - 1] == b'\r' => {}
            b'\n' | b'\r' => lines.push(Vec::new()),
            byte => lines.last_mut().expect("there is one").push(*byte),
        }
    }
    lines.push(Vec::new());
    let (mut events, mut name, mut data) = (Vec::new(), Vec::new(), None::<Vec<u8>>);
    for line in lines {
        if line.is_empty() {
            let name = std::mem::take(&mut name);
            events.extend(data.take().map(|data| (name, data)));
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = colon.map_or((&line[..], &b""[..]), |at| (&line[..at], &line[at + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"event" => name = value.to_vec(),
            b"data" => {
                data =
                    Some(data.map_or_else(|| value.to_vec(), |before| [&before[..], b"\n", value].concat()));
            }
            _ => {}
        }
    }
    events
}

/// Each event in the one way that nobody could misread.
fn anew(events: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut stream = Vec::new();
    for (name, data) in events {
        if !name.is_empty() {
            stream.extend([b"event: ", &name[..], b"\n"].concat());
        }
        for line in data.split(|byte| *byte == b'\n') {
            stream.extend([b"data: ", line, b"\n"].concat());
        }
        stream.push(b'\n');
    }
    stream
}

/// The events that are left when usage is taken out, by a plain reading; `None` where that cannot read what ours can
/// (numbers that do not fit a double). What is no object stays as it is.
fn without_usage(
    events: Vec<(Vec<u8>, Vec<u8>)>,
) -> Option<Vec<(Vec<u8>, Result<serde_json::Value, Vec<u8>>)>> {
    let limits = Limits { depth: 120, nodes: 500_000, prune: &[] };
    let mut left = Vec::new();
    for (name, data) in events {
        if !Document::parse(&data, limits).is_ok_and(|document| document.root().kind() == Kind::Object) {
            left.push((name, Err(data)));
            continue;
        }
        let mut value = serde_json::from_slice::<serde_json::Value>(&data).ok()?;
        let object = value.as_object_mut().expect("it is an object");
        let usage = object.remove("usage");
        let is_for_usage = usage.is_some_and(|usage| usage.is_object())
            && object.get("choices").and_then(|choices| choices.as_array()).is_some_and(Vec::is_empty);
        if !is_for_usage {
            left.push((name, Ok(value)));
        }
    }
    Some(left)
}

fn check_events(row: &Row, strips: bool, sizes: &[usize], stream: &[u8]) {
    let whole = pass(events(row, strips), stream, &[], strips);
    assert_eq!(pass(events(row, strips), stream, sizes, strips), whole, "split");
    assert_eq!(pass(events(row, false), stream, sizes, false), (stream.to_vec(), whole.1.clone()), "told");
    let plain = plainly(stream);
    // A stream that ends inside of an event is not whole, and the plain one has ended each.
    let ended = pass(events(row, false), &[stream, b"\n\n"].concat(), &[], false).1;
    assert_eq!(pass(events(row, false), &anew(&plain), &[], false).1, ended, "read plainly");
    // A mark that was inside the stream may come to stand first, where it is none of the text.
    if strips && !stream.windows(3).any(|bytes| bytes == b"\xef\xbb\xbf") {
        if row.dialect == Dialect::OpenAi && SseMeter::new(row, true).strips() {
            if let Some(plain) = without_usage(plain) {
                assert_eq!(without_usage(plainly(&whole.0)), Some(plain), "taken out");
            }
            let again = pass(events(row, true), &whole.0, &[], true);
            assert_eq!(again.0, whole.0, "nothing is left to take out");
        } else {
            assert_eq!(whole.0, stream);
        }
    }
}

fn check_array(row: &Row, sizes: &[usize], stream: &[u8]) {
    let whole = pass(array(row), stream, &[], false);
    assert_eq!(pass(array(row), stream, sizes, false), whole, "split");
    let limits = Limits { depth: 120, nodes: 500_000, prune: &["logprobs", "embedding", "b64_json"] };
    let Ok(document) = Document::parse(stream, limits) else { return };
    let root = document.root();
    let is_plain = root.items().all(|item| item.kind() == Kind::Object && !item.raw().contains('\r'));
    if root.kind() == Kind::Array && is_plain {
        // The same as the events of the other kind of stream.
        let chunks = root.items().map(|item| (Vec::new(), item.raw().as_bytes().to_vec()));
        let told = pass(events(row, false), &anew(&chunks.collect::<Vec<_>>()), &[], false).1;
        assert_eq!(whole.1, told, "an array tells what events do");
    }
}

fuzz_target!(|input: &[u8]| {
    let [mode, count, rest @ ..] = input else { return };
    let (sizes, stream) = rest.split_at(usize::from(count % 17).min(rest.len()));
    let is_long = *count >= 0x80 && stream.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)) % 8 == 0;
    let stream = match stream.iter().position(|byte| *byte == 1).filter(|_| is_long) {
        Some(at) => Cow::Owned([&stream[..at], &[b'x'; LONG], &stream[at + 1..]].concat()),
        None => Cow::Borrowed(stream),
    };
    let (stream, scale) = (&*stream, if stream.len() > LONG { 500 } else { 1 });
    let sizes: Vec<usize> = sizes.iter().map(|size| usize::from(*size) * scale).collect();
    let sizes = &sizes[..];
    let row = ROWS[usize::from(mode >> 1) % ROWS.len()];
    if row.dialect == Dialect::Gemini && mode & 1 == 1 {
        check_array(row, sizes, stream);
    } else {
        check_events(row, mode & 1 == 1, sizes, stream);
    }
});
