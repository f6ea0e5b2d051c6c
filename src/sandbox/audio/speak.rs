//! `POST /v1/audio/speech`: a sound as bytes that come in pieces, or as events.

use super::super::bill::Usage;
use super::super::call::{Answer, Call, Work};
use super::super::directive::Directive;
use super::super::refusal::Refusal;
use super::super::stream::Event;
use super::super::tokens::{count, tokens};
use super::is_model;
use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::json;

/// Bytes of sound that a token is.
const BYTES_PER_TOKEN: usize = 48;
const CHARACTERS_MAX: u64 = 4_096;
const INPUT_TOKENS_MAX: u64 = 2_000;
const TOKENS_PER_EVENT: u64 = 16;

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let body = &call.body;
    let text = |name: &str| body.get(name).and_then(serde_json::Value::as_str);
    let input = text("input").filter(|input| !input.is_empty());
    let input = input.ok_or_else(|| Refusal::param("input", "Missing required parameter: 'input'."))?;
    // Mistral's clients have another name for it.
    if ["voice", "voice_id"].iter().all(|name| body.get(name).is_none_or(serde_json::Value::is_null)) {
        return Err(Refusal::param("voice", "Missing required parameter: 'voice'."));
    }
    let characters = count(input.chars().count());
    if characters > CHARACTERS_MAX {
        let told = format!("Invalid 'input': string too long. Expected at most {CHARACTERS_MAX} characters.");
        return Err(Refusal::param("input", told));
    }
    let format = text("response_format").unwrap_or("mp3");
    let (content_type, head) = match format {
        "mp3" => ("audio/mpeg", b"ID3\x04\0\0\0\0\0\0".to_vec()),
        "opus" => ("audio/ogg", b"OggS\0".to_vec()),
        "aac" => ("audio/aac", b"\xff\xf1".to_vec()),
        "flac" => ("audio/flac", b"fLaC".to_vec()),
        "wav" => ("audio/wav", wav_header()),
        "pcm" => ("audio/pcm", Vec::new()),
        _ => return Err(Refusal::param("response_format", "Invalid 'response_format'.")),
    };
    let made = call.directives.number(Directive::Tokens).unwrap_or(characters);
    let instructions = text("instructions").unwrap_or_default();
    let read = tokens(input.len()) + tokens(instructions.len());
    if read > INPUT_TOKENS_MAX && !is_model(call, "sandbox-tts") {
        let told =
            format!("Input is too long: {read} tokens, of which at most {INPUT_TOKENS_MAX} are allowed.");
        return Err(Refusal::param("input", told));
    }
    let usage = if is_model(call, "sandbox-tts") {
        let mut usage = Usage::new(0, 0, &call.directives);
        usage.extras.characters = characters;
        usage
    } else {
        let mut usage = Usage::new(read, 0, &call.directives);
        usage.extras.audio_output += made;
        usage
    };
    let key = if call.directives.echoes() { call.key.clone().into_bytes() } else { Vec::new() };
    let sound = pieces(made).map(|piece| Bytes::from(vec![0x55; piece]));
    let sound = [head, key].into_iter().filter(|piece| !piece.is_empty()).map(Bytes::from).chain(sound);
    let answer = match text("stream_format") {
        None | Some("audio") => Answer::Events { content_type, events: Box::new(sound.map(Event::raw)) },
        Some("sse") if is_model(call, "sandbox-tts") => {
            return Err(Refusal::param("stream_format", "'sse' is not supported with this model."));
        }
        Some("sse") => {
            let named = |event: serde_json::Value| Event::data(&event);
            let deltas = sound.map(move |piece| {
                named(json!({"type": "speech.audio.delta", "audio": BASE64.encode(&piece)}))
            });
            let mut done = json!({"type": "speech.audio.done"});
            if let Some(reported) = usage.reported(&call.directives) {
                done["usage"] = json!({
                    "input_tokens": reported.input, "output_tokens": reported.output,
                    "total_tokens": reported.input.saturating_add(reported.output),
                });
            }
            Answer::sse(deltas.chain([named(done)]))
        }
        Some(_) => return Err(Refusal::param("stream_format", "Invalid 'stream_format'.")),
    };
    Ok(Work { answer, usage: Some(usage) })
}

/// How many bytes each piece of the sound has.
fn pieces(tokens: u64) -> impl Iterator<Item = usize> + Send {
    let pieces = tokens.div_ceil(TOKENS_PER_EVENT);
    (0..pieces).map(move |piece| {
        let tokens = (tokens - piece * TOKENS_PER_EVENT).min(TOKENS_PER_EVENT);
        usize::try_from(tokens).unwrap_or_default() * BYTES_PER_TOKEN
    })
}

/// The header of a WAV of one channel, 24,000 samples a second of 16 bits, which goes on as long as it is read.
pub(super) fn wav_header() -> Vec<u8> {
    let mut header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\x01\0\x01\0".to_vec();
    header.extend(24_000_u32.to_le_bytes());
    header.extend(48_000_u32.to_le_bytes());
    header.extend(b"\x02\0\x10\0data\xff\xff\xff\xff");
    header
}
