//! Answers to operations on pictures and sound. Those that are streams tell all at their end, in the last event of each
//! picture, speech or transcript.

use super::{usage, wide, written_bytes};
use crate::base::Decimal;
use crate::base::json::{Kind, Value};
use crate::policy::Operation;
use crate::provider::operation::{Answer, Row};
use crate::provider::{Reading, Usage};

/// Whether answers of the operation are read here.
pub(super) fn is_of(operation: Operation) -> bool {
    matches!(operation, Operation::Images | Operation::Audio)
}

/// Reads a whole answer.
pub(super) fn read_body(row: &Row, root: Value<'_>, reading: &mut Reading) {
    let told = root.get("usage").filter(|usage| !usage.is_null());
    if row.operation == Operation::Images {
        let made = root.get("data").map_or(0, |data| wide(data.items().count()));
        reading.usage = told.and_then(|told| pictures(told, made));
        return;
    }
    if row.answer == Answer::Opaque {
        // What comes as bytes is sound, also where a provider wraps it in JSON.
        reading.usage = told.and_then(speech);
        return;
    }
    reading.usage = match told {
        Some(told) => transcript(told),
        // What is written out at length says how long it was.
        None => seconds(root, "duration").map(|seconds| Usage { seconds, ..Usage::default() }),
    };
    reading.visible_output_bytes = root.get("text").map_or(0, written_bytes);
}

/// Reads one event of a stream. `name` is its `event:` line, for data that does not say its type.
pub(super) fn read_event(name: &str, root: Value<'_>, reading: &mut Reading) {
    let kind = root.get("type").and_then(Value::as_str);
    let told = root.get("usage").filter(|usage| !usage.is_null());
    match kind.as_deref().unwrap_or(name) {
        "image_generation.completed" | "image_edit.completed" => {
            reading.usage = sum(reading.usage, told.and_then(|told| pictures(told, 1)), reading.complete);
            reading.complete = true;
        }
        "speech.audio.done" => {
            reading.usage = told.and_then(speech);
            reading.complete = true;
        }
        "transcript.text.done" | "transcription.done" => {
            reading.usage = told.and_then(transcript);
            reading.complete = true;
        }
        "transcript.text.delta" | "transcription.text.delta" => {
            let delta = ["delta", "text"].into_iter().find_map(|field| root.get(field));
            let bytes = delta.map_or(0, written_bytes);
            reading.visible_output_bytes = reading.visible_output_bytes.saturating_add(bytes);
        }
        "error" => reading.failed = true,
        _ => reading.failed |= root.get("error").is_some_and(|error| !error.is_null()),
    }
}

/// The usage of all pictures so far. One that tells none leaves the whole without.
fn sum(earlier: Option<Usage>, one: Option<Usage>, is_further: bool) -> Option<Usage> {
    if !is_further {
        return one;
    }
    let (earlier, one) = (earlier?, one?);
    Some(Usage {
        input: earlier.input.saturating_add(one.input),
        image_input: earlier.image_input.saturating_add(one.image_input),
        output: earlier.output.saturating_add(one.output),
        reasoning: earlier.reasoning.saturating_add(one.reasoning),
        image_output: earlier.image_output.saturating_add(one.image_output),
        pictures: earlier.pictures.saturating_add(one.pictures),
        ..earlier
    })
}

/// The usage of so many pictures made. What is not told apart of the output is pictures'. `None` for what cannot be
/// believed: pictures are not made of nothing. What was cached counts as if it were not: its price is not the same for
/// texts and pictures, and answers do not tell of which it was.
fn pictures(told: Value<'_>, made: u64) -> Option<Usage> {
    if told.get("input_tokens").is_none() {
        let Usage { image_input, output, reasoning, image_output, .. } = usage::openai(told)?;
        let input = all_input(told)?.checked_sub(image_input)?;
        let usage = Usage { input, image_input, output, reasoning, image_output, ..Usage::default() };
        return Some(Usage { pictures: made, ..usage })
            .filter(|_| output > 0 || image_output > 0 || made == 0);
    }
    let Told { input, output } = Told::read(told)?;
    let of = |field, part| {
        let details = usage::details(told, field)?;
        details.map_or(Some(0), |details| Some(usage::tokens(details, part)?.or_zero()))
    };
    let image_input = of("input_tokens_details", "image_tokens")?;
    let text = of("output_tokens_details", "text_tokens")?;
    Some(Usage {
        input: input.checked_sub(image_input)?,
        image_input,
        output: text,
        image_output: output.checked_sub(text)?,
        pictures: made,
        ..Usage::default()
    })
    .filter(|_| output > 0 || made == 0)
}

/// The usage of a speech: all of its output is sound.
fn speech(told: Value<'_>) -> Option<Usage> {
    let (input, audio_output) = if told.get("input_tokens").is_some() {
        let Told { input, output } = Told::read(told)?;
        (input, output)
    } else {
        let Usage { output, audio_output, .. } = usage::openai(told)?;
        (all_input(told)?, audio_output.saturating_add(output))
    };
    (audio_output > 0).then_some(Usage { input, audio_output, ..Usage::default() })
}

/// The usage of a transcript: by the tokens of the sound, or by its seconds.
fn transcript(told: Value<'_>) -> Option<Usage> {
    if told.get("type").is_some_and(|kind| kind.is_str("duration")) {
        return seconds(told, "seconds").map(|seconds| Usage { seconds, ..Usage::default() });
    }
    if told.get("input_tokens").is_none() {
        let Usage { audio_input, output, reasoning, .. } = usage::openai(told)?;
        let input = all_input(told)?.checked_sub(audio_input)?;
        // Mistral bills these, and tells tokens beside them.
        let seconds = seconds(told, "prompt_audio_seconds").unwrap_or(0);
        return Some(Usage { input, audio_input, output, reasoning, seconds, ..Usage::default() })
            .filter(|_| input > 0 || audio_input > 0 || seconds > 0);
    }
    let Told { input, output } = Told::read(told)?;
    let given =
        usage::details(told, "input_token_details")?.or(usage::details(told, "input_tokens_details")?);
    let audio_input = given.map_or(Some(0), |given| Some(usage::tokens(given, "audio_tokens")?.or_zero()))?;
    let usage = Usage { input: input.checked_sub(audio_input)?, audio_input, output, ..Usage::default() };
    (input > 0).then_some(usage)
}

/// All tokens of both directions, as these answers tell them.
struct Told {
    input: u64,
    output: u64,
}

impl Told {
    /// What the total has beyond both is output.
    fn read(told: Value<'_>) -> Option<Self> {
        let input = usage::tokens(told, "input_tokens")?.filled()?;
        let output = usage::tokens(told, "output_tokens")?.filled()?;
        let total = usage::tokens(told, "total_tokens")?.or_zero();
        Some(Self { input, output: output.max(total.saturating_sub(input)) })
    }
}

/// All of the input, as chats tell it.
fn all_input(told: Value<'_>) -> Option<u64> {
    usage::tokens(told, "prompt_tokens")?.filled()
}

/// A time in seconds, rounded up. No sound lasts none.
fn seconds(object: Value<'_>, field: &str) -> Option<u64> {
    let number = object.get(field).filter(|value| value.kind() == Kind::Number)?;
    let seconds = u64::try_from(Decimal::parse(number.raw())?.shifted_up(0)?).ok()?;
    (1..=usage::TOKENS_MAX).contains(&seconds).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::super::{SseMeter, read_json};
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;
    use bytes::BytesMut;

    fn row(path: &str) -> &'static Row {
        find(&http::Method::POST, path, Dialect::OpenAi).unwrap().row
    }

    fn images(usage: &str) -> Option<Usage> {
        let body = format!(
            r#"{{"created":1,"data":[{{"b64_json":"AAAA"}},{{"b64_json":"AAAA"}}],"usage":{usage}}}"#
        );
        let reading = read_json(row("/v1/images/generations"), body.as_bytes());
        assert!(reading.complete && reading.visible_output_bytes == 0);
        reading.usage
    }

    fn heard(body: &str) -> Reading {
        let mut reading = Reading::default();
        let document = crate::base::json::Document::parse(body.as_bytes(), super::super::LIMITS).unwrap();
        read_body(row("/v1/audio/transcriptions"), document.root(), &mut reading);
        reading
    }

    fn streamed(path: &str, events: &[&str]) -> Reading {
        let mut meter = SseMeter::new(row(path), false);
        for event in events {
            meter.push(format!("data: {event}\n\n").as_bytes(), &mut BytesMut::new()).unwrap();
        }
        meter.finish()
    }

    #[test]
    fn pictures_tell_their_tokens() {
        let told = r#"{"input_tokens":50,"input_tokens_details":{"text_tokens":10,"image_tokens":40},
            "output_tokens":600,"output_tokens_details":{"image_tokens":544,"text_tokens":56},"total_tokens":650}"#;
        let wanted = Usage {
            input: 10,
            image_input: 40,
            output: 56,
            image_output: 544,
            pictures: 2,
            ..Usage::default()
        };
        assert_eq!(images(told), Some(wanted));
        let whole = r#"{"input_tokens":10,"output_tokens":544,"total_tokens":560}"#;
        let wanted = Usage { input: 10, image_output: 550, pictures: 2, ..Usage::default() };
        assert_eq!(images(whole), Some(wanted), "what is only in the total is output");
        let other = r#"{"prompt_tokens":10,"completion_tokens":544}"#;
        assert_eq!(images(other), Some(Usage { input: 10, output: 544, pictures: 2, ..Usage::default() }));
        for bad in [
            "null",
            "{}",
            r#"{"input_tokens":1}"#,
            r#"{"input_tokens":1,"output_tokens":0}"#,
            r#"{"prompt_tokens":10,"completion_tokens":0}"#,
            r#"{"input_tokens":1,"output_tokens":-5}"#,
            r#"{"input_tokens":1,"output_tokens":5,"input_tokens_details":{"image_tokens":2}}"#,
            r#"{"input_tokens":1,"output_tokens":5,"output_tokens_details":{"text_tokens":6}}"#,
        ] {
            assert_eq!(images(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_transcript_tells_its_seconds_or_its_tokens() {
        let by_time = heard(r#"{"text":"h\u00e4llo","usage":{"type":"duration","seconds":9.02}}"#);
        assert_eq!(by_time.usage, Some(Usage { seconds: 10, ..Usage::default() }));
        assert_eq!(by_time.visible_output_bytes, 6);
        let by_token = heard(
            r#"{"text":"hi","usage":{"type":"tokens","input_tokens":14,"input_token_details":{"text_tokens":4,"audio_tokens":10},
                "output_tokens":101,"total_tokens":115}}"#,
        );
        let wanted = Usage { input: 4, audio_input: 10, output: 101, ..Usage::default() };
        assert_eq!(by_token.usage, Some(wanted));
        let at_length = heard(r#"{"task":"transcribe","duration":3.5,"text":"hi"}"#);
        assert_eq!(at_length.usage, Some(Usage { seconds: 4, ..Usage::default() }));
        let beside = heard(
            r#"{"usage":{"prompt_audio_seconds":203,"prompt_tokens":4,"total_tokens":3264,"completion_tokens":635}}"#,
        );
        assert_eq!(beside.usage.map(|usage| usage.seconds), Some(203));
        for bad in [
            r#"{"text":"hi"}"#,
            r#"{"usage":{"type":"duration","seconds":0}}"#,
            r#"{"usage":{"type":"duration","seconds":-1}}"#,
            r#"{"usage":{"type":"duration","seconds":"9"}}"#,
            r#"{"usage":{"type":"duration"},"duration":9}"#,
            r#"{"usage":{"type":"tokens","input_tokens":0,"output_tokens":0}}"#,
            r#"{"usage":{"input_tokens":5,"output_tokens":1,"input_token_details":{"audio_tokens":6}}}"#,
            r#"{"usage":7}"#,
            r#"{"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0},"duration":3}"#,
        ] {
            assert_eq!(heard(bad).usage, None, "{bad}");
        }
    }

    #[test]
    fn speech_is_sound_whatever_it_comes_as() {
        let spoken = |usage: &str| {
            let body = format!(r#"{{"audio_data":"AAAA","duration":3,"text":"hi"{usage}}}"#);
            let reading = read_json(row("/v1/audio/speech"), body.as_bytes());
            assert_eq!((reading.complete, reading.visible_output_bytes), (true, 0));
            reading.usage
        };
        let wanted = Some(Usage { input: 4, audio_output: 20, ..Usage::default() });
        assert_eq!(spoken(r#","usage":{"input_tokens":4,"output_tokens":20,"total_tokens":24}"#), wanted);
        assert_eq!(
            spoken(r#","usage":{"prompt_tokens":4,"completion_tokens":20,"total_tokens":24}"#),
            wanted
        );
        assert_eq!(spoken(""), None);
        assert_eq!(spoken(r#","usage":{"type":"duration","seconds":3}"#), None, "not what is heard");
        assert_eq!(spoken(r#","usage":{"input_tokens":4,"output_tokens":0}"#), None);
    }

    #[test]
    fn a_stream_is_whole_with_the_event_that_says_so() {
        let partial =
            r#"{"type":"image_generation.partial_image","b64_json":"AAAA","partial_image_index":0}"#;
        let done = r#"{"type":"image_generation.completed","b64_json":"AAAA","usage":{"input_tokens":3,"output_tokens":372}}"#;
        let path = "/v1/images/generations";
        assert_eq!(streamed(path, &[partial]), Reading::default());
        let told = streamed(path, &[partial, done]);
        let one = Usage { input: 3, image_output: 372, pictures: 1, ..Usage::default() };
        assert_eq!((told.usage, told.complete, told.visible_output_bytes), (Some(one), true, 0));
        let two = streamed(path, &[done, done]).usage.unwrap();
        assert_eq!((two.pictures, two.image_output), (2, 744));
        let untold = r#"{"type":"image_generation.completed","b64_json":"AAAA"}"#;
        assert_eq!((streamed(path, &[untold]).usage, streamed(path, &[untold, done]).usage), (None, None));
        let speech =
            r#"{"type":"speech.audio.done","usage":{"input_tokens":4,"output_tokens":20,"total_tokens":24}}"#;
        let spoken =
            streamed("/v1/audio/speech", &[r#"{"type":"speech.audio.delta","audio":"AAAA"}"#, speech]);
        assert_eq!(spoken.usage, Some(Usage { input: 4, audio_output: 20, ..Usage::default() }));
        assert!(spoken.complete && spoken.visible_output_bytes == 0);
        let heard = [
            r#"{"type":"transcript.text.delta","delta":"hi "}"#,
            r#"{"type":"transcript.text.delta","delta":"you"}"#,
            r#"{"type":"transcript.text.done","text":"hi you","usage":{"type":"tokens","input_tokens":9,"output_tokens":2}}"#,
        ];
        let told = streamed("/v1/audio/speech", &heard);
        assert_eq!(
            (told.usage, told.visible_output_bytes),
            (Some(Usage { input: 9, output: 2, ..Usage::default() }), 6)
        );
        assert!(streamed(path, &[r#"{"type":"error","error":{"message":"x"}}"#]).failed);
        assert!(streamed(path, &[r#"{"error":{"message":"x"}}"#]).failed);
    }
}
