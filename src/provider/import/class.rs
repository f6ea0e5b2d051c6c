//! The classes of tokens that lists have prices for, and where a model's prices keep them.

use crate::base::NanoUsd;
use crate::provider::model::{ContextTier, Prices};
use crate::provider::modifier::Factors;
use crate::provider::price::{self, Card};

/// A class of tokens with a price of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    Input,
    Output,
    CachedInput,
    CacheWrite,
    CacheWrite1h,
    Reasoning,
    AudioInput,
    AudioOutput,
    ImageInput,
    ImageOutput,
}

impl Class {
    pub(super) const ALL: [Self; 10] = [
        Self::Input,
        Self::Output,
        Self::CachedInput,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::Reasoning,
        Self::AudioInput,
        Self::AudioOutput,
        Self::ImageInput,
        Self::ImageOutput,
    ];

    /// What a million of its tokens cost in requests with so many input tokens; `None` for no known price.
    pub(super) fn cost(self, prices: &Prices, input_tokens: u64) -> Option<NanoUsd> {
        let class = match self {
            Self::Input => price::Class::Input,
            Self::Output => price::Class::Output,
            Self::CachedInput => price::Class::CachedInput,
            Self::CacheWrite => price::Class::CacheWrite,
            Self::CacheWrite1h => price::Class::CacheWrite1h,
            Self::Reasoning => price::Class::Reasoning,
            Self::AudioInput => price::Class::AudioInput,
            Self::AudioOutput => price::Class::AudioOutput,
            Self::ImageInput => price::Class::ImageInput,
            Self::ImageOutput => price::Class::ImageOutput,
        };
        Card::of(prices, Factors::LIST, input_tokens).price(class).ok()
    }

    /// The class whose price holds where this one has none.
    pub(super) fn main(self) -> Self {
        match self {
            Self::Input
            | Self::CachedInput
            | Self::CacheWrite
            | Self::CacheWrite1h
            | Self::AudioInput
            | Self::ImageInput => Self::Input,
            Self::Output | Self::Reasoning | Self::AudioOutput | Self::ImageOutput => Self::Output,
        }
    }

    pub(super) fn in_prices(self, prices: &mut Prices) -> &mut Option<NanoUsd> {
        match self {
            Self::Input => &mut prices.input_per_mtok_usd,
            Self::Output => &mut prices.output_per_mtok_usd,
            Self::CachedInput => &mut prices.cached_input_per_mtok_usd,
            Self::CacheWrite => &mut prices.cache_write_per_mtok_usd,
            Self::CacheWrite1h => &mut prices.cache_write_1h_per_mtok_usd,
            Self::Reasoning => &mut prices.reasoning_per_mtok_usd,
            Self::AudioInput => &mut prices.audio_input_per_mtok_usd,
            Self::AudioOutput => &mut prices.audio_output_per_mtok_usd,
            Self::ImageInput => &mut prices.image_input_per_mtok_usd,
            Self::ImageOutput => &mut prices.image_output_per_mtok_usd,
        }
    }

    /// `None` for a class that context tiers know nothing of.
    pub(super) fn in_tier(self, tier: &mut ContextTier) -> Option<&mut Option<NanoUsd>> {
        Some(match self {
            Self::Input => &mut tier.input_per_mtok_usd,
            Self::Output => &mut tier.output_per_mtok_usd,
            Self::CachedInput => &mut tier.cached_input_per_mtok_usd,
            Self::CacheWrite => &mut tier.cache_write_per_mtok_usd,
            Self::CacheWrite1h => &mut tier.cache_write_1h_per_mtok_usd,
            Self::Reasoning => &mut tier.reasoning_per_mtok_usd,
            Self::AudioInput => &mut tier.audio_input_per_mtok_usd,
            Self::AudioOutput => &mut tier.audio_output_per_mtok_usd,
            Self::ImageInput | Self::ImageOutput => return None,
        })
    }
}

/// Whether the tier has any price.
pub(super) fn says_something(tier: &ContextTier) -> bool {
    *tier != ContextTier { above_tokens: tier.above_tokens, ..ContextTier::default() }
}
