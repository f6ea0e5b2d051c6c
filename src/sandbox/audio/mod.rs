//! `/v1/audio/speech`, `/transcriptions` and `/translations`.
//!
//! How long a sound is, is said by its bytes: a WAV file's header tells its bytes for a second; of anything else 16,000
//! are one. A second that has begun is one, and nothing is shorter. A second heard is 10 tokens; a character read aloud
//! is one.

mod hear;
mod speak;

use super::call::{Call, Work};
use super::refusal::Refusal;
use super::tokens::count;

const BYTES_PER_SECOND: u64 = 16_000;
const TOKENS_PER_SECOND: u64 = 10;
const WAV_HEADER_BYTES: usize = 44;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Speak,
    Transcribe,
    Translate,
}

impl Action {
    /// Reads what follows `audio` in the path.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "speech" => Some(Self::Speak),
            "transcriptions" => Some(Self::Transcribe),
            "translations" => Some(Self::Translate),
            _ => None,
        }
    }
}

/// Does it, and says what it uses.
pub(super) fn work(call: &Call, action: Action) -> Result<Work, Refusal> {
    match action {
        Action::Speak => speak::work(call),
        Action::Transcribe => hear::work(call, false),
        Action::Translate => hear::work(call, true),
    }
}

/// Whether the model's name begins so.
fn is_model(call: &Call, name: &str) -> bool {
    call.model.as_ref().is_some_and(|model| model.base().starts_with(name))
}

/// How many seconds a sound has.
fn seconds(sound: &[u8]) -> u64 {
    let is_wav = sound.starts_with(b"RIFF") && sound.get(8..16) == Some(b"WAVEfmt ");
    let rate = sound.get(28..32).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let (bytes, rate) = match rate {
        Some(rate) if is_wav && rate > 0 => (sound.len().saturating_sub(WAV_HEADER_BYTES), u64::from(rate)),
        Some(_) | None => (sound.len(), BYTES_PER_SECOND),
    };
    count(bytes).div_ceil(rate).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_say_how_long_a_sound_is() {
        assert_eq!([0, 1, 16_000, 16_001].map(|bytes| seconds(&vec![7; bytes])), [1, 1, 1, 2]);
        let mut wav = speak::wav_header();
        wav.resize(44 + 2 * 48_000, 0);
        assert_eq!(seconds(&wav), 2);
        wav.push(0);
        assert_eq!(seconds(&wav), 3);
        wav[28..32].fill(0);
        assert_eq!(seconds(&wav), 7, "a rate of nothing is none");
    }
}
