//! What tokens cost, and what is billed by the piece.
//!
//! A class without its own price costs the dearest known price of its direction; a direction without any price is
//! [`Unpriced`], never 0. Each component is rounded up. Once a request's input, all classes together, is above a
//! context tier's size, all its tokens cost what the tier says, not only those above: so the providers bill. What
//! modifies a request (service tier, speed, region) multiplies the price of every class, after its tier.
//!
//! Reasoning and the tokens of pictures are classes of their own only where they have a price of their own: elsewhere
//! providers bill them as plain output or input (`OpenAI`'s "Images and vision", Google's and Anthropic's price lists).
//!
//! Pictures made, characters read aloud and seconds heard cost their price beside the tokens. Only where such a piece has a
//! price may tokens have none: then they are not billed. What is told by pieces alone, and has no price, is [`Unpriced`].

use super::model::{ContextTier, Prices};
use super::modifier::Factors;
use super::usage::Usage;
use crate::base::NanoUsd;

/// Why something has no price. Where a cap binds, it is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpriced {
    /// The model's prices say nothing about the direction.
    #[error("the catalog has no price for the {direction} tokens of this model")]
    Model {
        /// `input` or `output`.
        direction: &'static str,
    },
    /// The request uses something that changes the price, in a way that is not known.
    #[error("the catalog has no price for {what}")]
    Feature {
        /// The field, or the hosted tool.
        what: String,
    },
    /// How much the request can use is not known.
    #[error("there is no known bound for {what}")]
    Unbounded {
        /// What has no bound.
        what: String,
    },
}

/// What the usage costs in these circumstances, with the fee for a request.
///
/// # Errors
/// Tokens of a direction that has no price. No tokens cost nothing, priced or not.
pub fn cost(prices: &Prices, factors: Factors, usage: &Usage) -> Result<NanoUsd, Unpriced> {
    let card = Card::of(prices, factors, input_tokens(usage));
    let reasoning = usage.reasoning.min(usage.output);
    let pieces = pieces(prices, usage)?;
    let fees = prices.per_request_usd.unwrap_or_default().saturating_add(pieces.unwrap_or_default());
    [
        (Class::Input, usage.input),
        (Class::CachedInput, usage.cached_input),
        (Class::CacheWrite, usage.cache_write),
        (Class::CacheWrite1h, usage.cache_write_1h),
        (Class::AudioInput, usage.audio_input),
        (Class::ImageInput, usage.image_input),
        (Class::Output, usage.output - reasoning),
        (Class::Reasoning, reasoning),
        (Class::AudioOutput, usage.audio_output),
        (Class::ImageOutput, usage.image_output),
    ]
    .into_iter()
    .filter(|(_, tokens)| *tokens > 0)
    .try_fold(fees, |sum, (class, tokens)| match card.price(class) {
        Ok(price) => Ok(sum.saturating_add(price.per_million(tokens))),
        Err(_) if pieces.is_some() => Ok(sum),
        Err(unpriced) => Err(unpriced),
    })
}

/// What the pieces cost; `None` where none of them has a price.
fn pieces(prices: &Prices, usage: &Usage) -> Result<Option<NanoUsd>, Unpriced> {
    let pieces = [
        ("pictures", usage.pictures, prices.output_per_image_usd),
        ("characters read aloud", usage.characters, prices.input_per_character_usd),
        ("seconds of sound", usage.seconds, prices.input_per_second_usd),
    ];
    let used = || pieces.into_iter().filter(|(_, count, _)| *count > 0);
    let costs = used().filter_map(|(_, count, price)| Some(price?.times(count)));
    let cost = costs.reduce(NanoUsd::saturating_add);
    let has_tokens = input_tokens(usage) > 0 || output_tokens(usage) > 0;
    match used().next() {
        Some((what, ..)) if cost.is_none() && !has_tokens => Err(Unpriced::Feature { what: what.to_owned() }),
        Some(_) | None => Ok(cost),
    }
}

/// Input tokens of all classes.
pub fn input_tokens(usage: &Usage) -> u64 {
    [
        usage.input,
        usage.cached_input,
        usage.cache_write,
        usage.cache_write_1h,
        usage.audio_input,
        usage.image_input,
    ]
    .into_iter()
    .fold(0, u64::saturating_add)
}

fn output_tokens(usage: &Usage) -> u64 {
    [usage.output, usage.audio_output, usage.image_output].into_iter().fold(0, u64::saturating_add)
}

/// Whether tokens of the class's direction have any price.
pub(super) fn prices_direction(prices: &Prices, class: Class) -> bool {
    let (_, classes) = class.direction();
    let in_tier = |class| prices.context_tiers.iter().any(|tier| own_in(tier, class).is_some());
    classes.iter().any(|class| own(prices, *class).is_some() || in_tier(*class))
}

/// A class of tokens with a price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Input,
    CachedInput,
    CacheWrite,
    CacheWrite1h,
    AudioInput,
    ImageInput,
    Output,
    Reasoning,
    AudioOutput,
    ImageOutput,
}

impl Class {
    const INPUTS: [Self; 6] = [
        Self::Input,
        Self::CachedInput,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::ImageInput,
    ];
    const OUTPUTS: [Self; 4] = [Self::Output, Self::Reasoning, Self::AudioOutput, Self::ImageOutput];

    fn direction(self) -> (&'static str, &'static [Self]) {
        if Self::INPUTS.contains(&self) { ("input", &Self::INPUTS) } else { ("output", &Self::OUTPUTS) }
    }
}

/// The prices of all classes for requests of one size in certain circumstances: where classes, tiers and factors meet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Card<'a> {
    prices: &'a Prices,
    factors: Factors,
    /// The tiers that the request's input is above, in ascending order; the last one says the price.
    tiers: &'a [ContextTier],
}

impl<'a> Card<'a> {
    /// The card of a request with so many input tokens.
    pub(super) fn of(prices: &'a Prices, factors: Factors, input_tokens: u64) -> Self {
        let passed = prices.context_tiers.partition_point(|tier| tier.above_tokens < input_tokens);
        Self { prices, factors, tiers: &prices.context_tiers[..passed] }
    }

    /// Every card that a request with at most so many input tokens can get.
    pub(super) fn reachable(
        prices: &'a Prices,
        factors: Factors,
        input_tokens_max: u64,
    ) -> impl Iterator<Item = Self> {
        let top = Self::of(prices, factors, input_tokens_max);
        (0..=top.tiers.len()).map(move |passed| Self { tiers: &top.tiers[..passed], ..top })
    }

    /// The price of a million tokens of the class.
    pub(super) fn price(self, class: Class) -> Result<NanoUsd, Unpriced> {
        let class = match class {
            Class::Reasoning | Class::ImageOutput if !self.prices_apart(class) => Class::Output,
            Class::ImageInput if !self.prices_apart(class) => Class::Input,
            class => class,
        };
        let price = self.known(class).ok_or(Unpriced::Model { direction: class.direction().0 })?;
        Ok(self.factors.of(price))
    }

    /// A class that a tier leaves out costs the tier's dearest of its direction, and never less than below the tier.
    fn known(self, class: Class) -> Option<NanoUsd> {
        let (_, classes) = class.direction();
        match self.tiers.split_last() {
            None => own(self.prices, class)
                .or_else(|| classes.iter().filter_map(|one| own(self.prices, *one)).max()),
            Some((tier, tiers)) => own_in(tier, class).or_else(|| {
                let dearest = classes.iter().filter_map(|one| own_in(tier, *one)).max();
                dearest.max(Self { tiers, ..self }.known(class))
            }),
        }
    }

    /// Whether the class has a price of its own.
    fn prices_apart(self, class: Class) -> bool {
        own(self.prices, class).is_some() || self.tiers.iter().any(|tier| own_in(tier, class).is_some())
    }
}

fn own(prices: &Prices, class: Class) -> Option<NanoUsd> {
    match class {
        Class::Input => prices.input_per_mtok_usd,
        Class::CachedInput => prices.cached_input_per_mtok_usd,
        Class::CacheWrite => prices.cache_write_per_mtok_usd,
        Class::CacheWrite1h => prices.cache_write_1h_per_mtok_usd,
        Class::AudioInput => prices.audio_input_per_mtok_usd,
        Class::ImageInput => prices.image_input_per_mtok_usd,
        Class::Output => prices.output_per_mtok_usd,
        Class::Reasoning => prices.reasoning_per_mtok_usd,
        Class::AudioOutput => prices.audio_output_per_mtok_usd,
        Class::ImageOutput => prices.image_output_per_mtok_usd,
    }
}

fn own_in(tier: &ContextTier, class: Class) -> Option<NanoUsd> {
    match class {
        Class::Input => tier.input_per_mtok_usd,
        Class::CachedInput => tier.cached_input_per_mtok_usd,
        Class::CacheWrite => tier.cache_write_per_mtok_usd,
        Class::CacheWrite1h => tier.cache_write_1h_per_mtok_usd,
        Class::AudioInput => tier.audio_input_per_mtok_usd,
        Class::Output => tier.output_per_mtok_usd,
        Class::Reasoning => tier.reasoning_per_mtok_usd,
        Class::AudioOutput => tier.audio_output_per_mtok_usd,
        Class::ImageInput | Class::ImageOutput => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::unnecessary_wraps, reason = "a price is an Option wherever it is used")]
    pub(in crate::provider) fn usd(text: &str) -> Option<NanoUsd> {
        Some(text.parse().unwrap())
    }

    fn nano(result: Result<NanoUsd, Unpriced>) -> i64 {
        result.unwrap().as_nano()
    }

    #[test]
    fn each_class_costs_its_own_price() {
        let prices = Prices {
            input_per_mtok_usd: usd("1"),
            cached_input_per_mtok_usd: usd("0.1"),
            cache_write_per_mtok_usd: usd("1.25"),
            cache_write_1h_per_mtok_usd: usd("2"),
            audio_input_per_mtok_usd: usd("3"),
            output_per_mtok_usd: usd("5"),
            reasoning_per_mtok_usd: usd("7"),
            audio_output_per_mtok_usd: usd("11"),
            image_input_per_mtok_usd: usd("4"),
            image_output_per_mtok_usd: usd("13"),
            per_request_usd: usd("0.5"),
            ..Prices::default()
        };
        let usage = Usage {
            input: 1,
            cached_input: 10,
            cache_write: 100,
            cache_write_1h: 1_000,
            audio_input: 10_000,
            output: 110,
            reasoning: 100,
            audio_output: 1,
            image_input: 5,
            image_output: 6,
            ..Usage::default()
        };
        let inputs = 1_000 + 1_000 + 125_000 + 2_000_000 + 30_000_000 + 20_000;
        let outputs = 50_000 + 700_000 + 11_000 + 78_000;
        assert_eq!(nano(cost(&prices, Factors::LIST, &usage)), 500_000_000 + inputs + outputs);
    }

    #[test]
    fn pictures_without_a_price_of_their_own_are_plain_tokens() {
        let prices = Prices {
            input_per_mtok_usd: usd("1"),
            audio_input_per_mtok_usd: usd("9"),
            output_per_mtok_usd: usd("5"),
            audio_output_per_mtok_usd: usd("20"),
            ..Prices::default()
        };
        let usage = Usage { image_input: 2, image_output: 3, ..Usage::default() };
        assert_eq!(nano(cost(&prices, Factors::LIST, &usage)), 2_000 + 15_000);
    }

    #[test]
    fn a_class_without_its_own_price_costs_the_dearest_of_its_direction_and_nothing_is_never_0() {
        let prices = Prices {
            input_per_mtok_usd: usd("1"),
            cache_write_1h_per_mtok_usd: usd("2"),
            output_per_mtok_usd: usd("5"),
            ..Prices::default()
        };
        assert_eq!(nano(cost(&prices, Factors::LIST, &Usage { cached_input: 1, ..Usage::default() })), 2_000);
        assert_eq!(
            nano(cost(&prices, Factors::LIST, &Usage { output: 3, reasoning: 2, ..Usage::default() })),
            15_000
        );
        assert_eq!(nano(cost(&prices, Factors::LIST, &Usage { audio_output: 1, ..Usage::default() })), 5_000);
        let input_only = Prices { input_per_mtok_usd: usd("1"), ..Prices::default() };
        assert_eq!(
            cost(&input_only, Factors::LIST, &Usage { input: 1, output: 1, ..Usage::default() }),
            Err(Unpriced::Model { direction: "output" })
        );
        assert_eq!(
            cost(&Prices::default(), Factors::LIST, &Usage { input: 1, ..Usage::default() }),
            Err(Unpriced::Model { direction: "input" })
        );
        assert_eq!(nano(cost(&input_only, Factors::LIST, &Usage { input: 1, ..Usage::default() })), 1_000);
    }

    #[test]
    fn above_a_tier_the_whole_request_costs_what_the_tier_says() {
        let prices = Prices {
            input_per_mtok_usd: usd("1"),
            cached_input_per_mtok_usd: usd("0.1"),
            audio_input_per_mtok_usd: usd("9"),
            output_per_mtok_usd: usd("5"),
            context_tiers: vec![
                ContextTier {
                    above_tokens: 100,
                    input_per_mtok_usd: usd("2"),
                    output_per_mtok_usd: usd("6"),
                    ..ContextTier::default()
                },
                ContextTier { above_tokens: 1_000, input_per_mtok_usd: usd("3"), ..ContextTier::default() },
            ],
            ..Prices::default()
        };
        let of = |input, cached_input, audio_input, output| {
            nano(cost(
                &prices,
                Factors::LIST,
                &Usage { input, cached_input, audio_input, output, ..Usage::default() },
            ))
        };
        assert_eq!(of(100, 0, 0, 1), 100_000 + 5_000, "at the size, not above it");
        assert_eq!(of(101, 0, 0, 1), 202_000 + 6_000, "all tokens, the output too");
        assert_eq!(of(1, 100, 0, 0), 202_000, "a class that the tier leaves out costs its dearest");
        assert_eq!(of(101, 0, 1, 0), 202_000 + 9_000, "and never less than below the tier");
        assert_eq!(of(1_001, 0, 0, 1), 3_003_000 + 6_000, "a tier without output leaves it as below");
    }

    #[test]
    fn pieces_cost_their_price_and_are_never_0_for_want_of_one() {
        let of = |prices: &Prices, usage: Usage| cost(prices, Factors::LIST, &usage).map(NanoUsd::as_nano);
        let by_piece = Prices {
            output_per_image_usd: usd("0.04"),
            input_per_character_usd: usd("0.000015"),
            input_per_second_usd: usd("0.0001"),
            per_request_usd: usd("0.5"),
            ..Prices::default()
        };
        let pieces = Usage { pictures: 2, characters: 3, seconds: 5, ..Usage::default() };
        assert_eq!(of(&by_piece, pieces), Ok(500_000_000 + 80_000_000 + 45_000 + 500_000));
        let with_tokens = Usage { seconds: 1, input: 7, output: 9, ..Usage::default() };
        assert_eq!(of(&by_piece, with_tokens), Ok(500_100_000), "tokens that nobody bills");
        assert!(of(&by_piece, Usage { input: 7, ..Usage::default() }).is_err(), "but of nothing else");
        let by_token =
            Prices { input_per_mtok_usd: usd("1"), output_per_mtok_usd: usd("2"), ..Prices::default() };
        assert_eq!(of(&by_token, with_tokens), Ok(7_000 + 18_000));
        for unpriced in [
            Usage { pictures: 1, ..Usage::default() },
            Usage { characters: 1, ..Usage::default() },
            Usage { seconds: 1, ..Usage::default() },
        ] {
            assert!(matches!(of(&by_token, unpriced), Err(Unpriced::Feature { .. })), "{unpriced:?}");
        }
        let both = Prices { input_per_second_usd: usd("0.0001"), ..by_token };
        assert_eq!(of(&both, with_tokens), Ok(100_000 + 7_000 + 18_000));
    }

    #[test]
    fn every_component_is_rounded_up() {
        let prices = Prices {
            input_per_mtok_usd: usd("0.000000001"),
            output_per_mtok_usd: usd("0.000000001"),
            ..Prices::default()
        };
        assert_eq!(nano(cost(&prices, Factors::LIST, &Usage { input: 1, output: 1, ..Usage::default() })), 2);
    }

    proptest! {
        /// More tokens of a class never cost less, whatever the tiers, as long as no tier is cheaper than the one below.
        #[test]
        fn cost_grows_with_tokens(input in 0..10_000_u64, output in 0..10_000_u64, more in 0..10_000_u64) {
            let tier = |above_tokens, price| ContextTier {
                above_tokens, input_per_mtok_usd: usd(price), output_per_mtok_usd: usd(price), ..ContextTier::default()
            };
            let prices = Prices {
                input_per_mtok_usd: usd("0.0000013"), output_per_mtok_usd: usd("0.0000013"),
                context_tiers: vec![tier(100, "0.0000017"), tier(5_000, "3.1")], ..Prices::default()
            };
            let of = |input, output| cost(&prices, Factors::LIST, &Usage { input, output, ..Usage::default() }).unwrap();
            prop_assert!(of(input, output) <= of(input + more, output));
            prop_assert!(of(input, output) <= of(input, output + more));
        }
    }
}
