//! The most that one model call can cost, before it is made. A cap is a cap because this is never too low.
//!
//! Input is bounded from the body: byte-level tokenizers make at most one token of a byte. Where something billed is
//! not in the body, the bound is the context window, above which providers refuse. Whatever has no bound or no price
//! is an error, never a guess.

use super::ask::Ask;
use super::model::{Model, PriceVersion, Prices};
use super::price::{Card, Class, Unpriced, cost};
use super::usage::{Reading, Usage};
use crate::base::NanoUsd;
use crate::policy::{Feature, Operation};
use std::sync::Arc;

/// Tokens that providers put around a whole request: start marks, hidden instructions for structured output.
const REQUEST_TOKENS: u64 = 256;
/// Tokens of the chat template around one message, or the marks around one text to embed.
const MESSAGE_TOKENS: u64 = 16;
/// Tokens of the hidden instructions that providers add when there are tools at all (the longest documented: 804).
const TOOLS_TOKENS: u64 = 1_024;
/// Tokens around one tool definition.
const TOOL_TOKENS: u64 = 32;
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
    /// What is billed beside tokens and known beforehand: pictures by the piece, every allowed call of a hosted tool.
    pub fees: NanoUsd,
    /// All of the total that does not depend on the output.
    pub fixed: NanoUsd,
    /// The dearest price of a million output tokens.
    pub output_per_mtok: NanoUsd,
    /// Which prices were used; the call is settled by the same.
    pub price_version: Arc<str>,
}

/// What is charged when a provider did not say what it billed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Estimated {
    /// The tokens assumed.
    pub usage: Usage,
    /// Their cost at the dearest price; at most the reservation.
    pub cost: NanoUsd,
}

/// Bounds what a request can cost.
///
/// The output bound is the largest that the request states, else `default_max_output_tokens`, else the model's ceiling.
/// Where the catalog knows the ceiling, a larger bound counts as the ceiling: providers refuse it or stop there.
///
/// # Errors
/// Something that has no price or no bound. Under a cap it is refused as `model_unpriced` ([`Unpriced::Model`]) or
/// `feature_unpriced`; a key without a cap needs no estimate.
pub fn worst_case(
    model: &Model,
    version: &PriceVersion,
    operation: Operation,
    ask: &Ask,
    default_max_output_tokens: Option<u64>,
) -> Result<Estimate, Unpriced> {
    let prices = &version.prices;
    let Some(output) = output_bound(model, operation, ask, default_max_output_tokens)? else {
        return Ok(Estimate::free(version));
    };
    refuse_unknown_prices(ask)?;
    let (hosted_calls, tool_fees) = hosted_tools(prices, ask)?;
    let input_tokens = input_bound(model, operation, ask, hosted_calls)?;

    let input = dearest(prices, input_tokens, &input_classes(ask))?;
    let output_price = match output.tokens() {
        0 => Dearest::default(),
        _ => dearest(prices, input_tokens, &output_classes(ask))?,
    };
    let per_image = prices.input_per_image_usd.unwrap_or_default();
    let fees = tool_fees.saturating_add(per_image.times(ask.input.images));
    let fixed = [prices.per_request_usd.unwrap_or_default(), input.rounding, output_price.rounding, fees]
        .into_iter()
        .fold(input.per_mtok.per_million(input_tokens), NanoUsd::saturating_add);
    let estimate = Estimate {
        total: NanoUsd::MAX,
        input_tokens,
        output_tokens: 0,
        candidates: output.candidates,
        output_bound: output.bound,
        reasoning_on_top: output.reasoning_on_top,
        fees,
        fixed,
        output_per_mtok: output_price.per_mtok,
        price_version: Arc::clone(&version.version),
    };
    Ok(estimate.with_output_bound(output.bound))
}

impl Estimate {
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
        u64::try_from(each).ok().map(|each| each.min(self.output_bound)).filter(|each| *each > 0)
    }

    /// What a call costs by the usage that the provider reported: its tokens, and the fees that no usage counts.
    pub fn charge(&self, prices: &Prices, usage: &Usage) -> Result<NanoUsd, Unpriced> {
        Ok(cost(prices, usage)?.saturating_add(self.fees))
    }

    /// What a call is taken to have used when its answer, or what came of it, reported nothing: the input bound, and
    /// the bytes seen as tokens with 64 more for each candidate; the whole output bound for a model that reasons out
    /// of sight. Never above the reservation.
    pub fn without_usage(&self, model: &Model, reading: &Reading) -> Estimated {
        let seen = reading.visible_output_bytes.saturating_add(self.candidates.saturating_mul(UNSEEN_TOKENS));
        let output = if model.can("reasoning") { self.output_tokens } else { seen.min(self.output_tokens) };
        let cost = self.fixed.saturating_add(self.output_per_mtok.per_million(output)).min(self.total);
        Estimated { usage: Usage { input: self.input_tokens, output, ..Usage::default() }, cost }
    }

    fn output(&self) -> Output {
        Output {
            candidates: self.candidates,
            bound: self.output_bound,
            reasoning_on_top: self.reasoning_on_top,
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
            fees: NanoUsd::ZERO,
            fixed: NanoUsd::ZERO,
            output_per_mtok: NanoUsd::ZERO,
            price_version: Arc::clone(&version.version),
        }
    }
}

/// How much output there can be.
#[derive(Clone, Copy, Debug)]
struct Output {
    candidates: u64,
    bound: u64,
    reasoning_on_top: u64,
}

impl Output {
    fn tokens(self) -> u64 {
        self.candidates.saturating_mul(self.bound.saturating_add(self.reasoning_on_top))
    }
}

/// `None` for what costs nothing whatever the model.
fn output_bound(
    model: &Model,
    operation: Operation,
    ask: &Ask,
    default_max_output_tokens: Option<u64>,
) -> Result<Option<Output>, Unpriced> {
    match operation {
        Operation::Models | Operation::CountTokens => return Ok(None),
        Operation::Embeddings | Operation::Moderations => {
            return Ok(Some(Output { candidates: 1, bound: 0, reasoning_on_top: 0 }));
        }
        Operation::Images | Operation::Audio | Operation::Files | Operation::Batches => {
            return Err(unbounded(format!("the operation {}", operation.as_str())));
        }
        Operation::Chat | Operation::Completions | Operation::Responses => {}
    }
    let stated = ask.output.bounds.iter().map(|bound| bound.tokens).max();
    let bound = match (stated.or(default_max_output_tokens), model.max_output_tokens) {
        (Some(bound), Some(ceiling)) => bound.min(ceiling),
        (Some(only), None) | (None, Some(only)) => only,
        (None, None) => {
            return Err(unbounded("the output of this model: state one in the request".to_owned()));
        }
    };
    let reasoning_on_top = if model.bound_covers_reasoning || !model.can("reasoning") {
        0
    } else {
        // Reasoning fills at most the window, however little is known of it.
        let ceiling = model.max_reasoning_tokens.or(model.context_window);
        ceiling.ok_or_else(|| unbounded("the reasoning of this model".to_owned()))?
    };
    Ok(Some(Output { candidates: ask.output.candidates.max(1), bound, reasoning_on_top }))
}

/// Fields that change the price in a way that the catalog cannot say.
fn refuse_unknown_prices(ask: &Ask) -> Result<(), Unpriced> {
    if let Some(what) = ask.unbounded_prices.first() {
        return Err(Unpriced::Feature { what: what.clone() });
    }
    match ask.service_tier.as_deref() {
        // Anthropic's `standard_only` and Google's `standard` ask for exactly the list price.
        None | Some("auto" | "default" | "standard" | "standard_only") => Ok(()),
        Some(_) => Err(Unpriced::Feature { what: "service_tier".to_owned() }),
    }
}

/// How often hosted tools can be called in all, and what those calls cost beside tokens.
fn hosted_tools(prices: &Prices, ask: &Ask) -> Result<(u64, NanoUsd), Unpriced> {
    ask.hosted_tools.iter().try_fold((0_u64, NanoUsd::ZERO), |(calls, fees), tool| {
        let uses =
            tool.max_uses.ok_or_else(|| unbounded(format!("the calls of the hosted tool {}", tool.kind)))?;
        let fee = prices.hosted_tool_per_call_usd.get(&tool.kind);
        let fee = fee.ok_or_else(|| Unpriced::Feature { what: format!("the hosted tool {}", tool.kind) })?;
        Ok((calls.saturating_add(uses), fees.saturating_add(fee.times(uses))))
    })
}

fn input_bound(model: &Model, operation: Operation, ask: &Ask, hosted_calls: u64) -> Result<u64, Unpriced> {
    let input = &ask.input;
    // These take an array of inputs, each of which may fill the window.
    let inputs = match operation {
        Operation::Embeddings | Operation::Moderations | Operation::Completions => input.messages.max(1),
        _ => 1,
    };
    let window = model.context_window.map(|window| window.saturating_mul(inputs));
    let needs_window =
        |what: &str| window.ok_or_else(|| unbounded(format!("{what}: this model's window is not known")));
    if !ask.hosted_tools.is_empty() {
        return Ok(needs_window("what hosted tools read")?.saturating_mul(hosted_calls.saturating_add(1)));
    }
    if input.beyond_body {
        return needs_window("input that is not in the body");
    }
    let images = match (input.images, model.max_image_tokens) {
        (0, _) => 0,
        (images, Some(ceiling)) => images.saturating_mul(ceiling),
        (_, None) => return needs_window("the pictures in the input"),
    };
    let tools = if input.tools == 0 { 0 } else { TOOLS_TOKENS };
    let from_body = [
        input.messages.saturating_mul(MESSAGE_TOKENS),
        tools,
        input.tools.saturating_mul(TOOL_TOKENS),
        images,
    ]
    .into_iter()
    .fold(input.text_bytes.saturating_add(REQUEST_TOKENS), u64::saturating_add);
    Ok(window.map_or(from_body, |window| from_body.min(window)))
}

fn input_classes(ask: &Ask) -> Vec<Class> {
    let mut classes = vec![Class::Input, Class::CachedInput, Class::CacheWrite];
    classes.extend(ask.input.cache_1h.then_some(Class::CacheWrite1h));
    classes.extend(
        (ask.features.contains(Feature::Audio) || ask.input.beyond_body).then_some(Class::AudioInput),
    );
    classes
}

fn output_classes(ask: &Ask) -> Vec<Class> {
    let mut classes = vec![Class::Output, Class::Reasoning];
    classes.extend(ask.features.contains(Feature::Audio).then_some(Class::AudioOutput));
    classes
}

/// The dearest price that tokens of some classes can have.
#[derive(Clone, Copy, Debug, Default)]
struct Dearest {
    per_mtok: NanoUsd,
    /// What rounding up each class by itself can add to rounding up their sum.
    rounding: NanoUsd,
}

fn dearest(prices: &Prices, input_tokens_max: u64, classes: &[Class]) -> Result<Dearest, Unpriced> {
    let mut dearest = Dearest::default();
    for card in Card::reachable(prices, input_tokens_max) {
        let mut rounded: i64 = 0;
        for class in classes {
            let price = card.price(*class)?;
            dearest.per_mtok = dearest.per_mtok.max(price);
            // A price of whole nano-USD for a token is never rounded.
            rounded += i64::from(price.as_nano() % 1_000_000 != 0);
        }
        dearest.rounding = dearest.rounding.max(NanoUsd::from_nano((rounded - 1).max(0)));
    }
    Ok(dearest)
}

fn unbounded(what: String) -> Unpriced {
    Unpriced::Unbounded { what }
}

#[cfg(test)]
mod tests;
