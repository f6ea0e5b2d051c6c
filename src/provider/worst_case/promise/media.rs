//! The promise for pictures and sound, where pieces are billed too.

use super::super::super::answer::SseMeter;
use super::*;
use crate::policy::Feature;
use crate::provider::ask::{Ask, InputMeasure, Media};
use bytes::BytesMut;

/// What is billed by the piece.
fn with_pieces(dice: &mut Dice) -> Prices {
    let tokens = if dice.one_in(3) { Prices::default() } else { prices(dice) };
    Prices {
        output_per_image_usd: dice.price().filter(|_| dice.one_in(2)),
        input_per_character_usd: dice.price().filter(|_| dice.one_in(2)),
        input_per_second_usd: dice.price().filter(|_| dice.one_in(2)),
        hosted_tool_per_call_usd: std::collections::BTreeMap::new(),
        ..tokens
    }
}

const QUALITIES: [&str; 4] = ["auto", "standard", "low", "high"];
const SIZES: [&str; 4] = ["auto", "1024x1024", "512x512", "1792x1024"];

fn media_model(dice: &mut Dice) -> Model {
    let mut model = model(dice);
    model.max_input_seconds = (!dice.one_in(3)).then(|| 1 + dice.below(5_000));
    let most = model.max_output_tokens.unwrap_or(5_000);
    for quality in ["low", "high"] {
        if dice.one_in(2) {
            let of_quality = dice.below(most + 1);
            model.picture_tokens.insert(quality.to_owned(), of_quality);
            let of_size = dice.below(of_quality + 1);
            model.picture_tokens.insert(format!("{quality}/1024x1024"), of_size);
        }
    }
    model
}

/// The most that the documentation allows a picture to be.
fn documented(model: &Model, quality: &str, size: &str) -> Option<u64> {
    let known = |name: String| model.picture_tokens.get(&name).copied();
    known(format!("{quality}/{size}")).or_else(|| known(quality.to_owned())).or(model.max_output_tokens)
}

/// A request for pictures and the answer to it.
fn pictures(dice: &mut Dice, model: &Model) -> (Value, Value) {
    let (quality, size) = (dice.pick(&QUALITIES), dice.pick(&SIZES));
    let (count, partial) = (1 + dice.below(4), dice.below(4));
    let prompt = dice.text();
    let mut body = json!({"model": "m", "prompt": prompt, "n": count, "quality": quality, "size": size});
    let given = dice.below(3);
    if given > 0 {
        body["images"] = (0..given).map(|_| json!({"image_url": "data:image/png;base64,AAAA"})).collect();
    }
    body["partial_images"] = partial.into();
    // Of more than can be believed nobody tells.
    let window = model.context_window.unwrap_or(u64::from(u32::MAX / 2));
    let text = (u64::try_from(prompt.len()).unwrap() + 8).min(window);
    let seen = model.max_image_tokens.map_or(if given > 0 { window - text } else { 0 }, |each| given * each);
    let (text, seen) = (dice.up_to(text), dice.up_to(seen));
    let thinks = model.can("reasoning") && !model.bound_covers_reasoning;
    let on_top = if thinks { model.max_reasoning_tokens.or(model.context_window).unwrap_or(0) } else { 0 };
    let each = documented(model, quality, size).unwrap_or(5_000) + on_top + 100 * partial;
    let drawn = (count * dice.up_to(each)).max(1).min(count * each);
    let [written, drawn] = dice.shares(drawn, [true, true]);
    let answer = json!({"created": 1, "data": (0..count).map(|_| json!({"b64_json": ""})).collect::<Vec<_>>(), "usage": {
        "input_tokens": text + seen, "input_tokens_details": {"text_tokens": text, "image_tokens": seen},
        "output_tokens": written + drawn, "output_tokens_details": {"text_tokens": written, "image_tokens": drawn},
        "total_tokens": text + seen + written + drawn,
    }});
    (body, answer)
}

/// A request for speech, and the usage of the answer to it.
fn speech(dice: &mut Dice, model: &Model) -> (Value, Value) {
    let (text, how) = (dice.text(), dice.text());
    let body =
        json!({"model": "m", "input": text, "instructions": how, "voice": "alloy", "stream_format": "sse"});
    let bytes = u64::try_from(text.len() + how.len()).unwrap() + 16;
    let input = dice.up_to(bytes.min(model.context_window.unwrap_or(bytes)));
    let on_top = if model.can("reasoning") && !model.bound_covers_reasoning {
        model.max_reasoning_tokens.or(model.context_window).unwrap_or(0)
    } else {
        0
    };
    let output = dice.up_to(model.max_output_tokens.unwrap_or(5_000) + on_top).max(1);
    (body, json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output}))
}

/// The usage of a transcript.
fn heard(dice: &mut Dice, model: &Model, prices: &Prices) -> Value {
    let by_second = prices.input_per_second_usd.is_some();
    let by_token = prices.input_per_mtok_usd.is_some() || prices.audio_input_per_mtok_usd.is_some();
    if by_second && (!by_token || dice.one_in(2)) {
        let most = model.max_input_seconds.unwrap_or(5_000);
        let seconds = dice.up_to(most - 1);
        return json!({"type": "duration", "seconds": if dice.one_in(2) { json!(seconds + 1) } else { serde_json::from_str(&format!("{seconds}.37")).unwrap() }});
    }
    let input = dice.up_to(model.context_window.unwrap_or(5_000)).max(1);
    let [text, sound] = dice.shares(input, [true, true]);
    let on_top = if model.can("reasoning") && !model.bound_covers_reasoning {
        model.max_reasoning_tokens.or(model.context_window).unwrap_or(0)
    } else {
        0
    };
    let output = dice.up_to(model.max_output_tokens.unwrap_or(5_000) + on_top);
    json!({"type": "tokens", "input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        "input_token_details": {"text_tokens": text, "audio_tokens": sound}})
}

/// One request and its bill; whether it was priced.
fn play(seed: u64) -> bool {
    let mut dice = Dice(seed);
    let (model, prices) = (media_model(&mut dice), with_pieces(&mut dice));
    let row = |path| find(&Method::POST, path, Dialect::OpenAi).unwrap().row;
    let kind = dice.below(3);
    let path = ["/v1/images/generations", "/v1/audio/speech", "/v1/audio/transcriptions"]
        [usize::try_from(kind).unwrap()];
    let (ask, reading) = match kind {
        0 => {
            let (body, answer) = pictures(&mut dice, &model);
            let ask = ask::read(row(path), body.to_string().as_bytes()).unwrap();
            (ask, read_json(row(path), answer.to_string().as_bytes()))
        }
        1 => {
            let (body, usage) = speech(&mut dice, &model);
            let reading = if dice.one_in(2) {
                let answer = json!({"audio_data": "AAAA", "usage": usage});
                read_json(row(path), answer.to_string().as_bytes())
            } else {
                let mut meter = SseMeter::new(row(path), false);
                let done = json!({"type": "speech.audio.done", "usage": usage});
                meter.push(format!("data: {done}\n\n").as_bytes(), &mut BytesMut::new()).unwrap();
                meter.finish()
            };
            (ask::read(row(path), body.to_string().as_bytes()).unwrap(), reading)
        }
        _ => {
            let answer = json!({"text": "hi", "usage": heard(&mut dice, &model, &prices)});
            let mut ask = Ask {
                input: InputMeasure { text_bytes: 10, beyond_body: true, ..InputMeasure::default() },
                media: Some(Media::Hearing),
                ..Ask::default()
            };
            ask.features.insert(Feature::Audio);
            (ask, read_json(row(path), answer.to_string().as_bytes()))
        }
    };
    let effective_from = "2026-01-01T00:00:00Z".parse().unwrap();
    let version = PriceVersion { prices, effective_from, version: "v".into() };
    let keys = BTreeSet::new();
    let terms = Terms { default_max_output_tokens: None, service_tiers: &keys };
    let operation = row(path).operation;
    let Ok(estimate) = worst_case(&model, &version, operation, &ask, terms) else { return false };
    let usage = reading.usage.unwrap_or_else(|| panic!("seed {seed}: {ask:?}"));
    let told = format!("seed {seed}: {ask:?}\n{reading:?}\n{version:?}\n{model:?}");
    // What the answer bills in a way that the model has no price for costs all that was held.
    let charge = estimate.charge(&version.prices, &usage, &reading).unwrap_or(estimate.total);
    assert!(charge <= estimate.total, "{charge} > {}\n{told}", estimate.total);
    let guessed = estimate.without_usage(&model, &Reading::default()).cost;
    assert!(charge <= guessed && guessed <= estimate.total, "{charge} > {guessed}\n{told}");
    true
}

#[test]
fn p3_no_bill_for_pictures_or_sound_is_above_the_worst_case() {
    let priced = (0..30_000).filter(|seed| play(*seed)).count();
    assert!(priced > 5_000, "only {priced} of the requests had a price");
}
