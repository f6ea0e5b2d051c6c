//! Reads the data files. They are part of the binary, so a file that does not read is found by the tests.

use super::CatalogError;
use crate::policy::Operation;
use crate::provider::model::{ModelDocument, Prices};
use crate::provider::slug::Slug;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// The files, by provider.
const FILES: [(&str, &str); 7] = [
    ("anthropic", include_str!("anthropic.toml")),
    ("deepseek", include_str!("deepseek.toml")),
    ("gemini", include_str!("gemini.toml")),
    ("mistral", include_str!("mistral.toml")),
    ("openai", include_str!("openai.toml")),
    ("qwen", include_str!("qwen.toml")),
    ("sandbox", include_str!("sandbox.toml")),
];

/// One entry of a file.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) provider: Slug,
    pub(super) name: String,
    pub(super) document: ModelDocument,
    pub(super) effective_from: DateTime<Utc>,
    pub(super) retires: Option<NaiveDate>,
    pub(super) source: Option<String>,
}

/// Every entry of every file, in the order written.
pub(super) fn read_all() -> Result<Vec<Listed>, CatalogError> {
    let mut all = Vec::new();
    for (provider, text) in FILES {
        let file: File = toml::from_str(text)
            .map_err(|source| CatalogError::File { provider, source: Box::new(source) })?;
        all.extend(file.model.into_iter().map(|entry| entry.listed(&file.provider, file.effective_from)));
    }
    Ok(all)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: Slug,
    effective_from: DateTime<Utc>,
    model: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    operations: Vec<Operation>,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    max_reasoning_tokens: Option<u64>,
    max_image_tokens: Option<u64>,
    image_window_factor: Option<NonZeroU64>,
    #[serde(default)]
    picture_tokens: BTreeMap<String, u64>,
    max_input_seconds: Option<u64>,
    #[serde(default)]
    bound_covers_reasoning: bool,
    #[serde(default)]
    prices: Prices,
    effective_from: Option<DateTime<Utc>>,
    retires: Option<NaiveDate>,
    source: Option<String>,
}

impl Entry {
    fn listed(self, provider: &Slug, file_effective_from: DateTime<Utc>) -> Listed {
        Listed {
            provider: provider.clone(),
            name: self.name,
            document: ModelDocument {
                operations: self.operations,
                aliases: self.aliases,
                capabilities: self.capabilities,
                context_window: self.context_window,
                max_output_tokens: self.max_output_tokens,
                max_reasoning_tokens: self.max_reasoning_tokens,
                max_image_tokens: self.max_image_tokens,
                image_window_factor: self.image_window_factor,
                picture_tokens: self.picture_tokens,
                max_input_seconds: self.max_input_seconds,
                bound_covers_reasoning: self.bound_covers_reasoning,
                prices: self.prices,
                effective_from: self.effective_from,
            },
            effective_from: self.effective_from.unwrap_or(file_effective_from),
            retires: self.retires,
            source: self.source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::NanoUsd;

    fn all() -> Vec<Listed> {
        read_all().unwrap()
    }

    /// `low` is not dearer than `high`, where both are known.
    fn ordered(low: Option<NanoUsd>, high: Option<NanoUsd>) -> bool {
        low.zip(high).is_none_or(|(low, high)| low <= high)
    }

    #[test]
    fn each_file_is_of_its_provider_and_sorted_by_name() {
        for (provider, text) in FILES {
            let file: File = toml::from_str(text).unwrap();
            assert_eq!(file.provider.as_str(), provider);
            assert!(file.model.is_sorted_by(|a, b| a.name <= b.name), "{provider}");
        }
    }

    #[test]
    fn real_models_name_their_source_and_are_not_retired_yet() {
        for listed in all().iter().filter(|listed| listed.provider.as_str() != "sandbox") {
            let Listed { name, source, retires, .. } = listed;
            assert!(source.as_deref().is_some_and(|source| source.starts_with("https://")), "{name}");
            assert!(retires.is_none_or(|day| day > listed.effective_from.date_naive()), "{name}");
            assert!(
                listed.document.aliases.is_empty(),
                "{name}: a name of the provider is an entry of its own"
            );
        }
    }

    #[test]
    fn prices_stand_in_the_order_that_providers_charge() {
        for Listed { provider, name, document, .. } in all() {
            let prices = &document.prices;
            let told = format!("{provider}/{name}");
            assert!(ordered(prices.cached_input_per_mtok_usd, prices.input_per_mtok_usd), "{told}: cached");
            assert!(
                ordered(prices.input_per_mtok_usd, prices.cache_write_per_mtok_usd),
                "{told}: cache write"
            );
            assert!(
                ordered(prices.cache_write_per_mtok_usd, prices.cache_write_1h_per_mtok_usd),
                "{told}: 1h"
            );
            assert!(
                ordered(prices.input_per_mtok_usd, prices.output_per_mtok_usd) || is_free(prices),
                "{told}: output"
            );
            let mut below = (prices.input_per_mtok_usd, prices.output_per_mtok_usd);
            for tier in &prices.context_tiers {
                let above = (tier.input_per_mtok_usd, tier.output_per_mtok_usd);
                assert!(ordered(below.0, above.0) && ordered(below.1, above.1), "{told}: tiers");
                assert!(above.0.is_some() && above.1.is_some(), "{told}: a tier prices both directions");
                below = above;
            }
        }
    }

    #[test]
    fn a_priced_chat_model_prices_both_directions_unless_it_makes_pictures() {
        for Listed { provider, name, document, .. } in all() {
            let chats =
                document.operations.iter().any(|op| matches!(op, Operation::Chat | Operation::Responses));
            let pictures = document.capabilities.iter().any(|known| known == "image_out");
            if chats && document.prices != Prices::default() {
                assert!(document.prices.input_per_mtok_usd.is_some(), "{provider}/{name}");
                assert_eq!(document.prices.output_per_mtok_usd.is_none(), pictures, "{provider}/{name}");
            }
        }
    }

    fn is_free(prices: &Prices) -> bool {
        prices.input_per_mtok_usd == Some(NanoUsd::ZERO)
    }

    #[test]
    fn only_models_known_to_be_free_cost_nothing() {
        let free: Vec<_> = all()
            .into_iter()
            .filter(|listed| is_free(&listed.document.prices))
            .map(|listed| listed.name)
            .collect();
        assert_eq!(
            free,
            [
                "gemma-4-26b-a4b-it",
                "gemma-4-31b-it",
                "labs-leanstral-1-5-1",
                "mistral-moderation-2603",
                "omni-moderation-2024-09-26",
                "omni-moderation-latest",
                "sandbox-moderation"
            ]
        );
    }

    #[test]
    fn well_known_prices_are_what_the_providers_list() {
        let all = all();
        let of = |provider: &str, name: &str| {
            let listed =
                all.iter().find(|listed| listed.provider.as_str() == provider && listed.name == name);
            listed.unwrap_or_else(|| panic!("{provider}/{name}")).document.clone()
        };
        let usd = |text: &str| Some(text.parse::<NanoUsd>().unwrap());
        for (provider, name, input, cached, write, output, window, ceiling) in [
            ("openai", "gpt-4o-mini", "0.15", Some("0.075"), None, "0.60", 128_000, 16_384),
            ("openai", "gpt-6-sol", "2", Some("0.2"), Some("2.5"), "10", 922_000, 128_000),
            ("anthropic", "claude-opus-5-5", "4", Some("0.2"), Some("5"), "20", 1_000_000, 128_000),
            ("anthropic", "claude-haiku-4-5", "1", Some("0.1"), Some("1.25"), "5", 200_000, 64_000),
            ("gemini", "gemini-2.5-flash", "0.3", Some("0.03"), Some("0.3"), "2.5", 1_048_576, 65_536),
            ("mistral", "mistral-large-latest", "0.5", Some("0.05"), None, "1.5", 262_144, 262_144),
            ("deepseek", "deepseek-v4-pro", "1.32", Some("0.044"), None, "3.96", 1_000_000, 393_216),
            ("qwen", "qwen3.8-flash", "0.15", Some("0.016"), Some("0.2"), "0.47", 991_808, 131_072),
            ("sandbox", "sandbox-mini", "0.15", Some("0.075"), Some("0.15"), "0.60", 128_000, 16_384),
        ] {
            let document = of(provider, name);
            let prices = &document.prices;
            assert_eq!(prices.input_per_mtok_usd, usd(input), "{name}");
            assert_eq!(prices.cached_input_per_mtok_usd, cached.and_then(usd), "{name}");
            assert_eq!(prices.cache_write_per_mtok_usd, write.and_then(usd), "{name}");
            assert_eq!(prices.output_per_mtok_usd, usd(output), "{name}");
            assert_eq!(
                (document.context_window, document.max_output_tokens),
                (Some(window), Some(ceiling)),
                "{name}"
            );
        }
        for (name, factor) in [
            ("gpt-4o-mini", Some(34)),
            ("gpt-4o-mini-2024-07-18", Some(34)),
            ("gpt-4o-2024-11-20", None),
            ("gpt-4.1-mini", Some(2)),
            ("gpt-5-mini", Some(2)),
            ("gpt-5-nano-2025-08-07", Some(3)),
        ] {
            assert_eq!(of("openai", name).image_window_factor.map(NonZeroU64::get), factor, "{name}");
        }
        let tiers = of("qwen", "qwen3-coder-plus").prices.context_tiers;
        assert_eq!(
            tiers.iter().map(|tier| tier.above_tokens).collect::<Vec<_>>(),
            [32_000, 128_000, 256_000]
        );
        assert_eq!(of("sandbox", "sandbox-unpriced").prices, Prices::default());
    }
}
