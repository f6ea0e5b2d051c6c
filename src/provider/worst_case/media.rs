//! The worst case of pictures and sound: by the token, by the piece, or by both.
//!
//! A model bills a direction by tokens where it has any price for them. Only where a piece has a price (a picture, a
//! character, a second) may a direction be without. How many pieces there can be is in the request, but for the seconds of
//! a sound: formats let a file say itself how long it is (a rate of one sample a second, a silence of hours in a few
//! bytes), so no number of bytes bounds them. The catalog does, or nothing.

use super::bound::{input_tokens, unbounded};
use super::{Dearest, Estimate, Terms, dearest, refuse_unknown_prices};
use crate::base::NanoUsd;
use crate::policy::{Feature, Operation};
use crate::provider::ask::{Ask, Media, PicturesAsk};
use crate::provider::model::{Model, PriceVersion, Prices};
use crate::provider::modifier::Factors;
use crate::provider::price::{Class, Unpriced, prices_direction};
use std::sync::Arc;

/// Output tokens of a picture that is shown before it is done (`OpenAI`'s guide "Image generation", on `partial_images`).
const PARTIAL_TOKENS: u64 = 100;
/// The side of a picture that nobody asks to be larger.
const PLAIN_SIDE_POINTS: u64 = 1_024;

/// Bounds what a request for pictures or sound can cost.
pub(super) fn worst_case(
    model: &Model,
    version: &PriceVersion,
    operation: Operation,
    ask: &Ask,
    terms: Terms<'_>,
) -> Result<Estimate, Unpriced> {
    let prices = &version.prices;
    let media = ask.media.as_ref();
    let media = media.ok_or_else(|| unbounded(format!("the operation {}", operation.as_str())))?;
    refuse_unknown_prices(prices, ask)?;
    let factors = Factors::reserved(&prices.multipliers, ask, terms.service_tiers)?;
    let pieces = pieces(model, prices, media)?;
    let has_tokens = |class, direction| match prices_direction(prices, class) {
        false if pieces.is_none() => Err(Unpriced::Model { direction }),
        has_tokens => Ok(has_tokens),
    };
    let (bills_input, bills_output) =
        (has_tokens(Class::Input, "input")?, has_tokens(Class::Output, "output")?);

    let input_tokens = if bills_input { input_tokens(model, prices, operation, ask, &[])? } else { 0 };
    let input = match input_tokens {
        0 => Dearest::default(),
        _ => dearest(prices, factors, input_tokens, &input_classes(media, ask))?,
    };
    let Output { candidates, each, partial } = output(model, media, bills_output)?;
    let output_tokens = candidates.saturating_mul(each).saturating_add(partial);
    let output = match output_tokens {
        0 => Dearest::default(),
        _ => dearest(prices, factors, input_tokens, output_classes(media))?,
    };
    let picture_fees = given_pictures(prices, ask)?;
    // A request of this kind states no output bound, so nothing of it can be lowered.
    let fixed = [
        prices.per_request_usd.unwrap_or_default(),
        input.per_mtok.per_million(input_tokens),
        input.rounding,
        output.per_mtok.per_million(output_tokens),
        output.rounding,
        pieces.unwrap_or_default(),
        picture_fees,
    ]
    .into_iter()
    .fold(NanoUsd::ZERO, NanoUsd::saturating_add);
    let characters = match media {
        Media::Speech { characters } if prices.input_per_character_usd.is_some() => *characters,
        Media::Speech { .. } | Media::Pictures(_) | Media::Hearing => 0,
    };
    Ok(Estimate {
        total: fixed,
        input_tokens,
        output_tokens,
        candidates,
        output_bound: each,
        reasoning_on_top: 0,
        output_floor: 0,
        picture_fees,
        hosted: Vec::new(),
        factors,
        fixed,
        output_per_mtok: NanoUsd::ZERO,
        characters,
        is_by_piece: !bills_output,
        is_unseen: true,
        price_version: Arc::clone(&version.version),
    })
}

/// The classes that answers tell of the input; whatever else it could be of is not told apart.
fn input_classes(media: &Media, ask: &Ask) -> Vec<Class> {
    match media {
        Media::Pictures(_) if ask.features.contains(Feature::Images) => vec![Class::Input, Class::ImageInput],
        Media::Pictures(_) | Media::Speech { .. } => vec![Class::Input],
        Media::Hearing => vec![Class::Input, Class::AudioInput],
    }
}

/// The same of the output.
fn output_classes(media: &Media) -> &'static [Class] {
    match media {
        Media::Pictures(_) => &[Class::Output, Class::Reasoning, Class::ImageOutput],
        Media::Speech { .. } => &[Class::AudioOutput],
        Media::Hearing => &[Class::Output, Class::Reasoning],
    }
}

/// What the most pieces cost; `None` where pieces of the kind have no price.
fn pieces(model: &Model, prices: &Prices, media: &Media) -> Result<Option<NanoUsd>, Unpriced> {
    let (price, most) = match media {
        Media::Pictures(wanted) => (prices.output_per_image_usd, priced_pictures(prices, wanted)?),
        Media::Speech { characters } => (prices.input_per_character_usd, *characters),
        Media::Hearing => (prices.input_per_second_usd, seconds(model, prices)?),
    };
    Ok(price.map(|price| price.times(most)))
}

/// The pictures of a model that bills by the piece. One price for a picture is that of the plain one: larger and finer ones
/// cost more where providers list them.
fn priced_pictures(prices: &Prices, wanted: &PicturesAsk) -> Result<u64, Unpriced> {
    let is_plain = |size: &str| {
        let side = |text: &str| text.parse::<u64>().is_ok_and(|points| points <= PLAIN_SIDE_POINTS);
        size == "auto" || size.split_once('x').is_some_and(|(width, height)| side(width) && side(height))
    };
    let more = [
        ("size", wanted.size.as_deref().is_some_and(|size| !is_plain(size))),
        (
            "quality",
            wanted.quality.as_deref().is_some_and(|quality| !["auto", "standard"].contains(&quality)),
        ),
        ("partial_images", wanted.partial > 0),
    ];
    match more.into_iter().find(|(_, asks_for_more)| *asks_for_more) {
        Some((field, _)) if prices.output_per_image_usd.is_some() => {
            Err(Unpriced::Feature { what: format!("pictures of this `{field}`") })
        }
        Some(_) | None => Ok(wanted.count),
    }
}

fn seconds(model: &Model, prices: &Prices) -> Result<u64, Unpriced> {
    match (prices.input_per_second_usd, model.max_input_seconds) {
        (None, _) => Ok(0),
        (Some(_), Some(seconds)) => Ok(seconds),
        (Some(_), None) => {
            Err(unbounded("the seconds of a sound: this model's `max_input_seconds` is not known".to_owned()))
        }
    }
}

/// How many output tokens there can be.
struct Output {
    candidates: u64,
    each: u64,
    partial: u64,
}

fn output(model: &Model, media: &Media, bills_tokens: bool) -> Result<Output, Unpriced> {
    let thinks = model.can("reasoning");
    let candidates = match media {
        Media::Pictures(wanted) => wanted.count,
        Media::Speech { .. } | Media::Hearing => 1,
    };
    match bills_tokens {
        // What is thought is billed by tokens everywhere.
        false if thinks => return Err(Unpriced::Model { direction: "output" }),
        false => return Ok(Output { candidates, each: 0, partial: 0 }),
        true => {}
    }
    let each = match media {
        Media::Pictures(wanted) => {
            let named = |word: &Option<String>| word.clone().filter(|word| word != "auto");
            model.picture_tokens_max(named(&wanted.quality).as_deref(), named(&wanted.size).as_deref())
        }
        Media::Speech { .. } | Media::Hearing => model.max_output_tokens,
    };
    let unknown = || unbounded("the output tokens: this model's `max_output_tokens` is not known".to_owned());
    let on_top = if thinks && !model.bound_covers_reasoning {
        let ceiling = model.max_reasoning_tokens.or(model.context_window);
        ceiling.ok_or_else(|| unbounded("the reasoning of this model".to_owned()))?
    } else {
        0
    };
    let each = each.ok_or_else(unknown)?.saturating_add(on_top);
    let partial = match media {
        Media::Pictures(wanted) => wanted.partial.saturating_mul(PARTIAL_TOKENS).saturating_mul(candidates),
        Media::Speech { .. } | Media::Hearing => 0,
    };
    Ok(Output { candidates, each, partial })
}

/// What the pictures given cost by the piece, beside their tokens.
fn given_pictures(prices: &Prices, ask: &Ask) -> Result<NanoUsd, Unpriced> {
    let price = prices.input_per_image_usd.unwrap_or_default();
    if price > NanoUsd::ZERO && ask.input.uncounted_pictures {
        return Err(unbounded("the pictures in the input".to_owned()));
    }
    Ok(price.times(ask.input.images))
}

#[cfg(test)]
mod tests;
