//! The sandbox's price list, for all models but `sandbox-rates`.
//!
//! It is not read from the catalog: a list of its own is what makes its bill a second opinion.

use super::bill::Usage;
use crate::base::NanoUsd;

/// In thousandths of a USD for a million tokens; what is billed by the piece in nano-USD.
#[derive(Clone, Copy, Debug)]
struct Price {
    input: i64,
    cached: i64,
    audio_input: i64,
    image_input: i64,
    output: i64,
    audio_output: i64,
    image_output: i64,
    picture: i64,
    character: i64,
    second: i64,
}

/// Sound and pictures cost what text does.
const fn text(input: i64, cached: i64, output: i64) -> Price {
    Price {
        input,
        cached,
        audio_input: input,
        image_input: input,
        output,
        audio_output: output,
        image_output: output,
        picture: 0,
        character: 0,
        second: 0,
    }
}

const FREE: Price = text(0, 0, 0);

/// A model that is not here costs what `sandbox-mini`, the first, does.
const PRICES: &[(&str, Price)] = &[
    ("sandbox-mini", text(150, 75, 600)),
    ("sandbox-large", text(2_500, 1_250, 10_000)),
    ("sandbox-reasoning", text(1_100, 550, 4_400)),
    ("sandbox-vision", text(2_500, 1_250, 10_000)),
    ("sandbox-embedding", text(20, 20, 0)),
    ("sandbox-image", Price { image_input: 10_000, image_output: 40_000, ..text(5_000, 1_250, 10_000) }),
    ("sandbox-image-each", Price { picture: 40_000_000, ..FREE }),
    ("sandbox-speech", Price { audio_output: 12_000, ..text(600, 600, 12_000) }),
    ("sandbox-tts", Price { character: 15_000, ..FREE }),
    ("sandbox-transcribe", Price { audio_input: 6_000, ..text(2_500, 2_500, 10_000) }),
    ("sandbox-whisper", Price { second: 100_000, ..FREE }),
    ("sandbox-moderation", FREE),
];

/// What a call of the model costs.
pub(super) fn cost(model: &str, usage: &Usage) -> NanoUsd {
    let price = PRICES.iter().find(|(name, _)| *name == model).unwrap_or(&PRICES[0]).1;
    let extras = usage.extras;
    let plain =
        [usage.input, extras.cache_write, extras.cache_write_1h].into_iter().fold(0, u64::saturating_add);
    let told = [usage.output, usage.reasoning, usage.unreported].into_iter().fold(0, u64::saturating_add);
    let tokens = [
        (plain, price.input),
        (usage.cached, price.cached),
        (extras.audio_input, price.audio_input),
        (extras.image_input, price.image_input),
        (told, price.output),
        (extras.audio_output, price.audio_output),
        (extras.image_output, price.image_output),
    ];
    let pieces = [
        (extras.pictures, price.picture),
        (extras.characters, price.character),
        (extras.seconds, price.second),
    ];
    let tokens =
        tokens.into_iter().map(|(count, price)| NanoUsd::from_nano(price * 1_000_000).per_million(count));
    let pieces = pieces.into_iter().map(|(count, price)| NanoUsd::from_nano(price).times(count));
    tokens.chain(pieces).fold(NanoUsd::default(), NanoUsd::saturating_add)
}
