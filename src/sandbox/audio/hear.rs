//! `POST /v1/audio/transcriptions` and `/translations`: what was heard, in words of the sandbox's own.
//!
//! `sandbox-whisper` is billed by the second; any other model by tokens, those of the sound and those of the prompt, of which
//! it takes 16,000. No sound may be longer than 1,500 seconds, and no file larger than 25 MiB.

use super::super::bill::{Reported, Usage};
use super::super::call::{Answer, Call, Work};
use super::super::refusal::Refusal;
use super::super::reply::{Ask, Reply, Want};
use super::super::stream::{Event, Template, quoted};
use super::super::tokens::{InputCount, tokens};
use super::{TOKENS_PER_SECOND, is_model, seconds};
use bytes::Bytes;
use serde_json::{Value, json};

const FILE_BYTES_MAX: usize = 25 * 1024 * 1024;
const SECONDS_MAX: u64 = 1_500;
const INPUT_TOKENS_MAX: u64 = 16_000;

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call, translates: bool) -> Result<Work, Refusal> {
    let body = &call.body;
    let Some(sound) = call.form.file("file") else {
        return Err(Refusal::param("file", "Missing required parameter: 'file'."));
    };
    if sound.bytes.is_empty() {
        return Err(Refusal::param("file", "Audio file is too short. Minimum audio length is 0.1 seconds."));
    }
    if sound.bytes.len() > FILE_BYTES_MAX {
        return Err(Refusal::param(
            "file",
            format!("Maximum content size limit ({FILE_BYTES_MAX}) exceeded."),
        ));
    }
    let by_second = is_model(call, "sandbox-whisper");
    let format = body["response_format"].as_str().unwrap_or("json");
    let known: &[&str] = if by_second {
        &["json", "text", "srt", "verbose_json", "vtt"]
    } else {
        &["json", "text", "diarized_json"]
    };
    if !known.contains(&format) {
        let model = call.model_name();
        let told = format!(
            "response_format '{format}' is not compatible with model '{model}'. Use 'json' or 'text' instead."
        );
        return Err(Refusal::param("response_format", told));
    }
    let seconds = seconds(&sound.bytes);
    let prompt = tokens(body["prompt"].as_str().unwrap_or_default().len());
    let heard = seconds.saturating_mul(TOKENS_PER_SECOND).saturating_add(prompt);
    if seconds > SECONDS_MAX || !by_second && heard > INPUT_TOKENS_MAX {
        let told = format!(
            "audio duration {seconds} seconds is longer than {SECONDS_MAX} seconds which is the maximum for this model"
        );
        return Err(Refusal::param("file", told));
    }
    let ask = Ask {
        input: InputCount::default(),
        topic: format!("a sound of {} bytes", sound.bytes.len()),
        want: Want::Words,
        output_tokens_max: None,
        candidates: 1,
        candidates_made: 1,
        stream: call.streams() && !by_second,
    };
    let reply = Reply::compose(&ask, &call.directives, &call.key);
    let usage = if by_second {
        let mut usage = Usage::new(0, 0, &call.directives);
        usage.extras.seconds = seconds;
        usage
    } else {
        let mut usage = Usage::new(prompt, reply.tokens(), &call.directives);
        usage.extras.audio_input += seconds * TOKENS_PER_SECOND;
        usage
    };
    let reported = usage.reported(&call.directives);
    let told = if by_second { reported.map(|_| duration(seconds)) } else { reported.map(tokens_told) };
    let answer = if ask.stream {
        Answer::sse(events(reply, told))
    } else {
        let text = reply.pieces.text(0);
        match format {
            "text" => plain("text/plain; charset=utf-8", format!("{text}\n")),
            "srt" => plain("text/plain; charset=utf-8", format!("1\n{}\n{text}\n\n\n", span(seconds, ','))),
            "vtt" => {
                plain("text/vtt; charset=utf-8", format!("WEBVTT\n\n{}\n{text}\n\n", span(seconds, '.')))
            }
            _ => {
                let mut answer = match format {
                    "verbose_json" => verbose(&text, seconds, translates),
                    "diarized_json" => diarized(&text, seconds),
                    _ => json!({"text": text}),
                };
                if let Some(told) = told {
                    answer["usage"] = told;
                }
                Answer::Json(answer)
            }
        }
    };
    Ok(Work { answer, usage: Some(usage) })
}

fn plain(content_type: &str, text: String) -> Answer {
    Answer::Bytes { content_type: content_type.to_owned(), bytes: Bytes::from(text) }
}

fn duration(seconds: u64) -> Value {
    json!({"type": "duration", "seconds": seconds})
}

fn tokens_told(reported: Reported) -> Value {
    json!({
        "type": "tokens", "input_tokens": reported.input,
        "input_token_details": {
            "text_tokens": reported.input.saturating_sub(reported.audio_input),
            "audio_tokens": reported.audio_input,
        },
        "output_tokens": reported.output, "total_tokens": reported.input.saturating_add(reported.output),
    })
}

fn verbose(text: &str, seconds: u64, translates: bool) -> Value {
    json!({
        "task": if translates { "translate" } else { "transcribe" }, "language": "english", "duration": seconds,
        "text": text,
        "segments": [{
            "id": 0, "seek": 0, "start": 0.0, "end": seconds, "text": text, "tokens": [50364], "temperature": 0.0,
            "avg_logprob": -0.25, "compression_ratio": 1.0, "no_speech_prob": 0.0,
        }],
    })
}

fn diarized(text: &str, seconds: u64) -> Value {
    json!({
        "task": "transcribe", "duration": seconds, "text": text,
        "segments": [{
            "type": "transcript.text.segment", "id": "seg_0", "start": 0.0, "end": seconds, "text": text, "speaker": "A",
        }],
    })
}

/// From the beginning to the end, as subtitles say it.
fn span(seconds: u64, point: char) -> String {
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("00:00:00{point}000 --> {hours:02}:{minutes:02}:{seconds:02}{point}000")
}

fn events(reply: Reply, told: Option<Value>) -> impl Iterator<Item = Event> + Send {
    let template =
        Template::new("data: ", &json!({"type": "transcript.text.delta", "delta": Template::hole(0)}));
    let mut done = json!({"type": "transcript.text.done", "text": reply.pieces.text(0)});
    if let Some(told) = told {
        done["usage"] = told;
    }
    let pieces = reply.pieces.into_each_candidate(1);
    let deltas = pieces.map(move |(_, piece)| template.fill(&[&quoted(&piece)]).carrying(1));
    deltas.chain([Event::data(&done)])
}
