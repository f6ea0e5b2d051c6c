//! The most that one model call can cost, before it is made. A cap is a cap because this is never too low.
//!
//! Input is bounded from the body: byte-level tokenizers make at most one token of a byte. Where something billed is
//! not in the body, the bound is the context window, above which providers refuse. Whatever has no bound or no price
//! is an error, never a guess.

mod bound;
mod deferred;
mod media;
mod unheld;

pub use deferred::DeferredTerms;

use self::bound::{Output, input_classes, output_classes};
pub use self::unheld::unheld;
use super::ask::Ask;
use super::model::{Model, PriceVersion, Prices};
use super::modifier::Factors;
use super::price::{Card, Class, Unpriced, cost};
use super::usage::{Reading, Usage};
use crate::base::NanoUsd;
use crate::policy::Operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Output tokens of a candidate that no byte shows: the end mark, the wrapping of tool calls.
const UNSEEN_TOKENS: u64 = 64;

/// The worst case of one model call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// What to reserve.
    pub total: NanoUsd,
    /// The most input tokens.
    pub input_tokens: u64,
    /// The most output tokens, of all candidates, reasoning included.
    pub output_tokens: u64,
    /// How many candidates are made.
    pub candidates: u64,
    /// The output bound of one candidate that the request has or is to be given.
    pub output_bound: u64,
    /// Reasoning tokens of one candidate that the bound does not cover.
    pub reasoning_on_top: u64,
    /// What a candidate may come to whatever the bound.
    pub output_floor: u64,
    /// What pictures in the input cost by the piece, known beforehand.
    pub picture_fees: NanoUsd,
    /// The hosted tools that can be called.
    pub hosted: Vec<Hosted>,
    /// The dearest factors that the answer can report.
    pub factors: Factors,
    /// All of the total that does not depend on the output.
    pub fixed: NanoUsd,
    /// The dearest price of a million output tokens.
    pub output_per_mtok: NanoUsd,
    /// Characters to be read aloud, where they have a price.
    pub characters: u64,
    /// What is made is billed by the piece and not by its tokens, so its bytes say nothing.
    pub is_by_piece: bool,
    /// There can be output that no byte of the answer's text shows: sound, pictures, candidates that are not given out.
    pub is_unseen: bool,
    /// Which prices were used; the call is settled by the same.
    pub price_version: Arc<str>,
}

/// A hosted tool that a call may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosted {
    /// Its kind.
    pub kind: String,
    /// What one call of it costs beside tokens.
    pub per_call: NanoUsd,
    /// How often it can be called.
    pub calls_max: u64,
}

/// What is charged when a provider did not say what it billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimated {
    /// The tokens assumed.
    pub usage: Usage,
    /// Their cost at the dearest price; at most the reservation.
    pub cost: NanoUsd,
}

/// What a key says of its requests that their price depends on.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The output bound of requests that state none.
    pub default_max_output_tokens: Option<u64>,
    /// The service tiers that the key may ask for.
    pub service_tiers: &'a BTreeSet<String>,
}

/// Bounds what a request can cost.
///
/// The output bound is the largest that the request states, else the key's default, else the model's ceiling. Where
/// the catalog knows the ceiling, a larger bound counts as the ceiling: providers refuse it or stop there.
///
/// # Errors
/// Something that has no price or no bound. Under a cap it is refused as `model_unpriced` ([`Unpriced::Model`]) or
/// `feature_unpriced`; a key without a cap needs no estimate.
pub fn worst_case(
    model: &Model,
    version: &PriceVersion,
    operation: Operation,
    ask: &Ask,
    terms: Terms<'_>,
) -> Result<Estimate, Unpriced> {
    let prices = &version.prices;
    if matches!(operation, Operation::Images | Operation::Audio) {
        return media::worst_case(model, version, operation, ask, terms);
    }
    let Some(output) = bound::output(model, operation, ask, terms.default_max_output_tokens)? else {
        return Ok(Estimate::free(version));
    };
    refuse_unknown_prices(prices, ask)?;
    let factors = Factors::reserved(&prices.multipliers, ask, terms.service_tiers)?;
    let hosted = bound::hosted_tools(prices, ask)?;
    let picture_fees = bound::picture_fees(prices, ask, output.tokens() > 0)?;
    let input_tokens = bound::input_tokens(model, prices, operation, ask, &hosted)?;

    let input = dearest(prices, factors, input_tokens, &input_classes(ask))?;
    let output_price = match output.tokens() {
        0 => Dearest::default(),
        _ => dearest(prices, factors, input_tokens, &output_classes(ask))?,
    };
    let tool_fees = hosted.iter().map(|tool| tool.per_call.times(tool.calls_max));
    let fixed =
        [prices.per_request_usd.unwrap_or_default(), input.rounding, output_price.rounding, picture_fees]
            .into_iter()
            .chain(tool_fees)
            .fold(input.per_mtok.per_million(input_tokens), NanoUsd::saturating_add);
    let estimate = Estimate {
        total: NanoUsd::MAX,
        input_tokens,
        output_tokens: 0,
        candidates: output.candidates,
        output_bound: output.bound,
        reasoning_on_top: output.reasoning_on_top,
        output_floor: output.floor,
        picture_fees,
        hosted,
        factors,
        fixed,
        output_per_mtok: output_price.per_mtok,
        characters: 0,
        is_by_piece: false,
        is_unseen: bound::is_unseen(prices, ask),
        price_version: Arc::clone(&version.version),
    };
    Ok(estimate.with_output_bound(output.bound))
}

impl Estimate {
    /// The same of a request that has no field for an output bound: all of it is held, or nothing.
    #[must_use]
    pub fn that_cannot_be_lowered(self) -> Self {
        Self { fixed: self.total, output_per_mtok: NanoUsd::ZERO, ..self }
    }

    /// The estimate of the same request with another output bound.
    #[must_use]
    pub fn with_output_bound(self, output_bound: u64) -> Self {
        let output_tokens = Output { bound: output_bound, ..self.output() }.tokens();
        let total = self.fixed.saturating_add(self.output_per_mtok.per_million(output_tokens));
        Self { total, output_tokens, output_bound, ..self }
    }

    /// The largest output bound, up to the one it has, whose worst case is at most `available`; `None` when not one
    /// token of output fits.
    pub fn clamp(&self, available: NanoUsd) -> Option<u64> {
        if self.total <= available {
            return Some(self.output_bound);
        }
        let left = u128::try_from(available.checked_sub(self.fixed)?.as_nano()).ok()?;
        let price = u128::try_from(self.output_per_mtok.as_nano()).ok().filter(|price| *price > 0)?;
        let tokens = left * 1_000_000 / price;
        let each = (tokens / u128::from(self.candidates)).checked_sub(u128::from(self.reasoning_on_top))?;
        let each = u64::try_from(each).ok().filter(|each| *each >= self.output_floor)?;
        Some(each.min(self.output_bound)).filter(|each| *each > 0)
    }

    /// What a call costs by what the provider reported: its tokens in the circumstances that the answer tells, the
    /// calls of hosted tools that it tells (all that were reserved where it tells none), and the pictures sent.
    ///
    /// # Errors
    /// Tokens of a direction that has no price.
    pub fn charge(&self, prices: &Prices, usage: &Usage, reading: &Reading) -> Result<NanoUsd, Unpriced> {
        let usage = Usage { characters: self.characters, ..*usage };
        charged(prices, (self.factors, &self.hosted, self.picture_fees), &usage, reading)
    }

    /// What a call is taken to have used when its answer, or what came of it, reported nothing: the input bound, and
    /// the bytes seen as tokens with 64 more for each candidate; the whole output bound for a model that reasons out
    /// of sight, and wherever else output does not show. Never above the reservation.
    pub fn without_usage(&self, model: &Model, reading: &Reading) -> Estimated {
        let seen = reading.visible_output_bytes.saturating_add(self.candidates.saturating_mul(UNSEEN_TOKENS));
        let is_all = self.is_unseen || reading.is_cut_short || model.can("reasoning");
        let output = if is_all { self.output_tokens } else { seen.min(self.output_tokens) };
        let cost = self.fixed.saturating_add(self.output_per_mtok.per_million(output)).min(self.total);
        Estimated { usage: Usage { input: self.input_tokens, output, ..Usage::default() }, cost }
    }

    /// The most bytes of text that a client can be shown of this, by the most bytes that a token has.
    pub fn visible_bytes_max(&self, bytes_per_token: u64) -> u64 {
        if self.is_by_piece { u64::MAX } else { self.output_tokens.saturating_mul(bytes_per_token) }
    }

    fn output(&self) -> Output {
        Output {
            candidates: self.candidates,
            bound: self.output_bound,
            reasoning_on_top: self.reasoning_on_top,
            floor: self.output_floor,
        }
    }

    fn free(version: &PriceVersion) -> Self {
        Self {
            total: NanoUsd::ZERO,
            input_tokens: 0,
            output_tokens: 0,
            candidates: 1,
            output_bound: 0,
            reasoning_on_top: 0,
            output_floor: 0,
            picture_fees: NanoUsd::ZERO,
            hosted: Vec::new(),
            factors: Factors::LIST,
            fixed: NanoUsd::ZERO,
            output_per_mtok: NanoUsd::ZERO,
            characters: 0,
            is_by_piece: false,
            is_unseen: false,
            price_version: Arc::clone(&version.version),
        }
    }
}

/// What a call costs for which these factors, tools and pictures were reserved.
fn charged(
    prices: &Prices,
    (factors, hosted, picture_fees): (Factors, &[Hosted], NanoUsd),
    usage: &Usage,
    reading: &Reading,
) -> Result<NanoUsd, Unpriced> {
    let factors = factors.billed(&prices.multipliers, reading);
    let tools = hosted.iter().map(|tool| {
        let told = reading.hosted_calls.as_ref();
        tool.per_call.times(told.map_or(tool.calls_max, |calls| calls.of(&tool.kind)))
    });
    let tokens = cost(prices, factors, usage)?;
    Ok(tools.fold(tokens.saturating_add(picture_fees), NanoUsd::saturating_add))
}

/// What changes the price in a way that the catalog cannot say, or does not.
fn refuse_unknown_prices(prices: &Prices, ask: &Ask) -> Result<(), Unpriced> {
    if let Some(what) = ask.unbounded_prices.first() {
        return Err(Unpriced::Feature { what: what.clone() });
    }
    if ask.output.sound && prices.audio_output_per_mtok_usd.is_none() {
        return Err(Unpriced::Feature { what: "modalities".to_owned() });
    }
    Ok(())
}

/// The dearest price that tokens of some classes can have.
#[derive(Clone, Copy, Debug, Default)]
struct Dearest {
    per_mtok: NanoUsd,
    /// What rounding up each class by itself can add to rounding up their sum.
    rounding: NanoUsd,
}

fn dearest(
    prices: &Prices,
    factors: Factors,
    input_tokens_max: u64,
    classes: &[Class],
) -> Result<Dearest, Unpriced> {
    let mut per_mtok = NanoUsd::ZERO;
    for card in Card::reachable(prices, factors, input_tokens_max) {
        for class in classes {
            per_mtok = per_mtok.max(card.price(*class)?);
        }
    }
    // A price of whole nano-USD for a token is never rounded, and what is not dearer is rounded up to it at most.
    let is_rounded = per_mtok.as_nano() % 1_000_000 != 0;
    let more = i64::try_from(classes.len() - 1).unwrap_or(i64::MAX);
    let rounding = NanoUsd::from_nano(if is_rounded { more } else { 0 });
    Ok(Dearest { per_mtok, rounding })
}

#[cfg(test)]
mod promise;
#[cfg(test)]
mod tests;
