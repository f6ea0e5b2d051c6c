//! How much a call can use: its input, its output, the calls of hosted tools.

use super::Hosted;
use crate::base::NanoUsd;
use crate::policy::{Feature, Operation};
use crate::provider::ask::Ask;
use crate::provider::model::{Model, Prices};
use crate::provider::price::{Class, Unpriced};
use std::num::NonZeroU64;

/// Tokens that providers put around a whole request: start marks, hidden instructions for structured output.
pub(super) const REQUEST_TOKENS: u64 = 256;
/// Tokens of the chat template around one message, or the marks around one text to embed.
pub(super) const MESSAGE_TOKENS: u64 = 16;
/// Tokens of the hidden instructions that providers add when there are tools at all (the longest documented: 804).
pub(super) const TOOLS_TOKENS: u64 = 1_024;
/// Tokens around one tool definition.
pub(super) const TOOL_TOKENS: u64 = 32;

/// How much output there can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    pub(super) candidates: u64,
    pub(super) bound: u64,
    pub(super) reasoning_on_top: u64,
    /// What a candidate may come to whatever the bound.
    pub(super) floor: u64,
}

impl Output {
    pub(super) fn tokens(self) -> u64 {
        self.candidates.saturating_mul(self.bound.max(self.floor).saturating_add(self.reasoning_on_top))
    }
}

/// The most output; `None` for what costs nothing whatever the model.
pub(super) fn output(
    model: &Model,
    operation: Operation,
    ask: &Ask,
    default_max_output_tokens: Option<u64>,
) -> Result<Option<Output>, Unpriced> {
    match operation {
        Operation::Models | Operation::CountTokens => return Ok(None),
        Operation::Embeddings | Operation::Moderations => {
            return Ok(Some(Output { candidates: 1, bound: 0, reasoning_on_top: 0, floor: 0 }));
        }
        Operation::Images | Operation::Audio | Operation::Files | Operation::Batches => {
            return Err(unbounded(format!("the operation {}", operation.as_str())));
        }
        Operation::Chat | Operation::Completions | Operation::Responses => {}
    }
    let stated = ask.output.bounds.iter().map(|bound| bound.tokens).max();
    let ceiling = ask.output_ceiling(model.max_output_tokens);
    let bound = match (stated.or(default_max_output_tokens), ceiling) {
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
        let ceiling = model.max_reasoning_tokens.or(ask.window(model.context_window));
        ceiling.ok_or_else(|| unbounded("the reasoning of this model".to_owned()))?
    };
    // Like the bound, a budget that is larger than the ceiling is refused, or ends there.
    let floor = ceiling.map_or(ask.output.floor, |ceiling| ask.output.floor.min(ceiling));
    Ok(Some(Output { candidates: ask.output.candidates.max(1), bound, reasoning_on_top, floor }))
}

/// The hosted tools that can be called, each at most so often. A call that has no bound or no price is refused.
pub(super) fn hosted_tools(prices: &Prices, ask: &Ask) -> Result<Vec<Hosted>, Unpriced> {
    let mut tools: Vec<Hosted> = Vec::new();
    for tool in &ask.hosted_tools {
        let calls_max =
            tool.max_uses.ok_or_else(|| unbounded(format!("the calls of the hosted tool {}", tool.kind)))?;
        let per_call = prices.hosted_tool_per_call_usd.get(&tool.kind).copied();
        let per_call =
            per_call.ok_or_else(|| Unpriced::Feature { what: format!("the hosted tool {}", tool.kind) })?;
        match tools.iter_mut().find(|known| known.kind == tool.kind) {
            Some(known) => known.calls_max = known.calls_max.saturating_add(calls_max),
            None => tools.push(Hosted { kind: tool.kind.clone(), per_call, calls_max }),
        }
    }
    Ok(tools)
}

/// What pictures cost by the piece, beside their tokens.
pub(super) fn picture_fees(prices: &Prices, ask: &Ask, makes_output: bool) -> Result<NanoUsd, Unpriced> {
    let is_free = |price: Option<NanoUsd>| price.is_none_or(|price| price == NanoUsd::ZERO);
    if makes_output && !is_free(prices.output_per_image_usd) {
        return Err(unbounded("the pictures in the output".to_owned()));
    }
    if !is_free(prices.input_per_image_usd) && holds_uncounted_pictures(ask) {
        return Err(unbounded("the pictures in the input".to_owned()));
    }
    Ok(prices.input_per_image_usd.unwrap_or_default().times(ask.input.images))
}

/// A file has any number of pages, a film of frames, an earlier turn or a tool's result of pictures.
fn holds_uncounted_pictures(ask: &Ask) -> bool {
    let is_unknown = ask.input.beyond_body && !ask.unknown_fields.is_empty();
    ask.input.uncounted_pictures || is_unknown || !ask.hosted_tools.is_empty()
}

/// The most input tokens. A window that is wider than the catalog says is open to a request that asks for it by a beta;
/// what lies beyond the catalog's costs what a context tier says that begins there, or nobody knows.
pub(super) fn input_tokens(
    model: &Model,
    prices: &Prices,
    operation: Operation,
    ask: &Ask,
    hosted: &[Hosted],
) -> Result<u64, Unpriced> {
    let tokens = tokens_read(model, operation, ask, hosted)?;
    let is_priced = |window: u64| prices.context_tiers.iter().any(|tier| tier.above_tokens >= window);
    let is_wider = ask.window(model.context_window) > model.context_window;
    match model.context_window.filter(|window| is_wider && tokens > *window && !is_priced(*window)) {
        Some(window) => {
            Err(Unpriced::Feature { what: format!("input above {window} tokens, as a beta allows it") })
        }
        None => Ok(tokens),
    }
}

/// Pictures come on top of the window: `OpenAI` bills those of some small models as more tokens than they take of it. Those
/// that nobody has counted, or whose tokens nobody knows, may fill all of it, and be billed as so many times as much.
fn tokens_read(model: &Model, operation: Operation, ask: &Ask, hosted: &[Hosted]) -> Result<u64, Unpriced> {
    let input = &ask.input;
    // These take an array of inputs, each of which may fill the window.
    let inputs = match operation {
        Operation::Embeddings | Operation::Moderations | Operation::Completions => input.messages.max(1),
        _ => 1,
    };
    let window = ask.window(model.context_window).map(|window| window.saturating_mul(inputs));
    let is_of_any_size = input.images > 0 && model.max_image_tokens.is_none();
    let factor = model.image_window_factor.filter(|_| is_of_any_size || holds_uncounted_pictures(ask));
    let billed = window.map(|window| window.saturating_mul(factor.map_or(1, NonZeroU64::get)));
    let needs_window =
        |what: &str| billed.ok_or_else(|| unbounded(format!("{what}: this model's window is not known")));
    let pictures = model.max_image_tokens.map(|ceiling| input.images.saturating_mul(ceiling));
    if !ask.hosted_tools.is_empty() {
        // After each call the model reads all anew, with what the tool brought.
        let calls = hosted.iter().map(|tool| tool.calls_max).fold(0, u64::saturating_add);
        let each = needs_window("what hosted tools read")?.saturating_add(pictures.unwrap_or(0));
        return Ok(each.saturating_mul(calls.saturating_add(1)));
    }
    if input.beyond_body {
        return Ok(needs_window("input that is not in the body")?.saturating_add(pictures.unwrap_or(0)));
    }
    let pictures = match pictures {
        _ if input.images == 0 => 0,
        Some(pictures) => pictures,
        None => return needs_window("the pictures in the input"),
    };
    let tools = if input.tools == 0 { 0 } else { TOOLS_TOKENS };
    let text =
        [input.messages.saturating_mul(MESSAGE_TOKENS), tools, input.tools.saturating_mul(TOOL_TOKENS)]
            .into_iter()
            .fold(input.text_bytes.saturating_add(REQUEST_TOKENS), u64::saturating_add);
    Ok(window.map_or(text, |window| text.min(window)).saturating_add(pictures))
}

/// The classes that input tokens of the request can be of.
pub(super) fn input_classes(ask: &Ask) -> Vec<Class> {
    let brings_more = ask.input.beyond_body || !ask.hosted_tools.is_empty();
    let mut classes = vec![Class::Input, Class::CachedInput, Class::CacheWrite];
    classes.extend(ask.input.cache_1h.then_some(Class::CacheWrite1h));
    classes.extend((ask.features.contains(Feature::Audio) || brings_more).then_some(Class::AudioInput));
    classes.extend((ask.features.contains(Feature::Images) || brings_more).then_some(Class::ImageInput));
    classes
}

/// The classes that output tokens of the request can be of. A model that makes pictures may make one unasked.
pub(super) fn output_classes(ask: &Ask) -> Vec<Class> {
    let mut classes = vec![Class::Output, Class::Reasoning, Class::ImageOutput];
    classes.extend(ask.features.contains(Feature::Audio).then_some(Class::AudioOutput));
    classes
}

/// Whether output can be made that is no text of the answer.
pub(super) fn is_unseen(prices: &Prices, ask: &Ask) -> bool {
    let makes_pictures = prices.image_output_per_mtok_usd.is_some();
    makes_pictures || ask.output.sound || ask.output.is_withheld || ask.features.contains(Feature::Audio)
}

pub(super) fn unbounded(what: String) -> Unpriced {
    Unpriced::Unbounded { what }
}

#[cfg(test)]
mod tests;
