//! Models and their prices as data: what `PUT /api/v1/models/{provider}/{model}` takes, and what the catalog holds.
//!
//! A price that is absent is unknown, never 0. Which price a token costs is decided in [`super::price`], nowhere else.

use super::multiplier::Multipliers;
use super::slug::Slug;
use crate::base::NanoUsd;
use crate::policy::Operation;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

/// One model of one provider, with every price it has or will have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// The provider that serves it.
    pub provider: Slug,
    /// The name that is sent to the provider.
    pub name: String,
    /// Other names that an operator gave it.
    pub aliases: Vec<String>,
    /// What it serves.
    pub operations: Vec<Operation>,
    /// What it can do: `tools`, `vision`, `reasoning`, ...
    pub capabilities: Vec<String>,
    /// The most input tokens that the provider takes in one request (for each input of an embedding request).
    pub context_window: Option<u64>,
    /// The most output tokens that one candidate can have. A picture that is made is one, whatever its size and quality.
    pub max_output_tokens: Option<u64>,
    /// The most reasoning tokens that come on top where the output bound does not cover them.
    pub max_reasoning_tokens: Option<u64>,
    /// The most tokens that one picture in the input can be.
    pub max_image_tokens: Option<u64>,
    /// The most tokens that are billed for each token of the window that a picture takes; absent: as many as it takes.
    pub image_window_factor: Option<NonZeroU64>,
    /// The most output tokens of a picture of a quality, or of a quality and a size: `low`, `low/1024x1024`.
    pub picture_tokens: BTreeMap<String, u64>,
    /// The most seconds of sound that the provider takes in one request.
    pub max_input_seconds: Option<u64>,
    /// The request's output bound also bounds reasoning.
    pub bound_covers_reasoning: bool,
    /// The day the provider takes it away, where it has said so. Told, not enforced: the provider refuses by itself.
    pub retires: Option<NaiveDate>,
    /// Where the facts stand.
    pub source: Option<String>,
    /// The list prices, each from its time on; private so that the order below cannot be broken.
    listed: Vec<PriceVersion>,
    /// The operator's prices, each from its time on; they go before the list prices.
    set: Vec<PriceVersion>,
}

/// Prices that hold from a time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceVersion {
    /// The prices.
    pub prices: Prices,
    /// When they begin to hold.
    pub effective_from: DateTime<Utc>,
    /// Names the version in the access log: `catalog@2026-11-22` or `override@3`.
    pub version: Arc<str>,
}

impl Model {
    /// A model without prices.
    pub fn new(provider: Slug, name: String, facts: ModelFacts) -> Self {
        Self {
            provider,
            name,
            aliases: facts.aliases,
            operations: facts.operations,
            capabilities: facts.capabilities,
            context_window: facts.context_window,
            max_output_tokens: facts.max_output_tokens,
            max_reasoning_tokens: facts.max_reasoning_tokens,
            max_image_tokens: facts.max_image_tokens,
            image_window_factor: facts.image_window_factor,
            picture_tokens: facts.picture_tokens,
            max_input_seconds: facts.max_input_seconds,
            bound_covers_reasoning: facts.bound_covers_reasoning,
            retires: None,
            source: None,
            listed: Vec::new(),
            set: Vec::new(),
        }
    }

    /// The prices in force: the operator's latest that has begun, else the list price, of which the first also holds
    /// before its time (the list was true when it was written). `None` when an operator's only price is yet to begin.
    pub fn prices_at(&self, now: DateTime<Utc>) -> Option<&PriceVersion> {
        let begun =
            |versions: &'_ [PriceVersion]| versions.partition_point(|version| version.effective_from <= now);
        let latest = |versions| begun(versions).checked_sub(1);
        latest(&self.set)
            .map(|at| &self.set[at])
            .or_else(|| latest(&self.listed).map(|at| &self.listed[at]))
            .or(self.listed.first())
    }

    /// The model with its facts, and no price of anybody's.
    #[must_use]
    pub(super) fn without_prices(&self) -> Self {
        Self { listed: Vec::new(), set: Vec::new(), ..self.clone() }
    }

    /// Adds a list price.
    pub(super) fn list_price(&mut self, version: PriceVersion) {
        insert(&mut self.listed, version);
    }

    /// Adds an operator's price; of two that begin at the same time the one added later holds.
    pub(super) fn set_price(&mut self, version: PriceVersion) {
        insert(&mut self.set, version);
    }

    /// Replaces everything but the prices, the retirement and the source.
    pub(super) fn set_facts(&mut self, facts: ModelFacts) {
        let new = Self::new(self.provider.clone(), std::mem::take(&mut self.name), facts);
        let old = std::mem::replace(self, new);
        (self.listed, self.set, self.retires, self.source) = (old.listed, old.set, old.retires, old.source);
    }

    /// Whether the model serves the operation. Tokens are counted wherever the model chats or answers.
    pub fn serves(&self, operation: Operation) -> bool {
        match operation {
            Operation::Models => true,
            Operation::CountTokens => {
                self.operations.iter().any(|served| matches!(served, Operation::Chat | Operation::Responses))
            }
            _ => self.operations.contains(&operation),
        }
    }

    /// The most output tokens of one picture that is asked for like this. What is not named is the provider's choice, and
    /// may be the dearest.
    pub fn picture_tokens_max(&self, quality: Option<&str>, size: Option<&str>) -> Option<u64> {
        let known = |name: String| self.picture_tokens.get(&name).copied();
        let by_quality = quality.and_then(|quality| {
            let by_size = size.and_then(|size| known(format!("{quality}/{size}")));
            by_size.or_else(|| known(quality.to_owned()))
        });
        by_quality.or(self.max_output_tokens)
    }

    /// Whether the model can do something: `reasoning`, `vision`, ...
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|known| known == capability)
    }

    /// Whether any input costs with this model what it costs with the other.
    pub fn costs_as(&self, other: &Self) -> bool {
        let pictures = |model: &Self| (model.max_image_tokens, model.image_window_factor);
        let bounds = |model: &Self| (model.context_window, pictures(model), model.max_output_tokens);
        bounds(self) == bounds(other) && self.listed == other.listed && self.set == other.set
    }

    /// The model as the admin API shows it, with the prices in force.
    pub fn document_at(&self, now: DateTime<Utc>) -> ModelDocument {
        let in_force = self.prices_at(now);
        ModelDocument {
            operations: self.operations.clone(),
            aliases: self.aliases.clone(),
            capabilities: self.capabilities.clone(),
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            max_reasoning_tokens: self.max_reasoning_tokens,
            max_image_tokens: self.max_image_tokens,
            image_window_factor: self.image_window_factor,
            picture_tokens: self.picture_tokens.clone(),
            max_input_seconds: self.max_input_seconds,
            bound_covers_reasoning: self.bound_covers_reasoning,
            prices: in_force.map(|version| version.prices.clone()).unwrap_or_default(),
            effective_from: in_force.map(|version| version.effective_from),
        }
    }
}

fn insert(versions: &mut Vec<PriceVersion>, version: PriceVersion) {
    let at = versions.partition_point(|known| known.effective_from <= version.effective_from);
    versions.insert(at, version);
}

/// What is true of a model whatever it costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelFacts {
    /// See [`Model::aliases`].
    pub aliases: Vec<String>,
    /// See [`Model::operations`].
    pub operations: Vec<Operation>,
    /// See [`Model::capabilities`].
    pub capabilities: Vec<String>,
    /// See [`Model::context_window`].
    pub context_window: Option<u64>,
    /// See [`Model::max_output_tokens`].
    pub max_output_tokens: Option<u64>,
    /// See [`Model::max_reasoning_tokens`].
    pub max_reasoning_tokens: Option<u64>,
    /// See [`Model::max_image_tokens`].
    pub max_image_tokens: Option<u64>,
    /// See [`Model::image_window_factor`].
    pub image_window_factor: Option<NonZeroU64>,
    /// See [`Model::picture_tokens`].
    pub picture_tokens: BTreeMap<String, u64>,
    /// See [`Model::max_input_seconds`].
    pub max_input_seconds: Option<u64>,
    /// See [`Model::bound_covers_reasoning`].
    pub bound_covers_reasoning: bool,
}

/// A model as the admin API takes and shows it. Fields that are absent are unknown; `bound_covers_reasoning` is then false.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelDocument {
    /// See [`Model::operations`].
    pub operations: Vec<Operation>,
    /// See [`Model::aliases`].
    #[serde(default)]
    pub aliases: Vec<String>,
    /// See [`Model::capabilities`].
    #[serde(default)]
    pub capabilities: Vec<String>,
    /// See [`Model::context_window`].
    #[serde(default)]
    pub context_window: Option<u64>,
    /// See [`Model::max_output_tokens`].
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// See [`Model::max_reasoning_tokens`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_reasoning_tokens: Option<u64>,
    /// See [`Model::max_image_tokens`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_image_tokens: Option<u64>,
    /// See [`Model::image_window_factor`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_window_factor: Option<NonZeroU64>,
    /// See [`Model::picture_tokens`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub picture_tokens: BTreeMap<String, u64>,
    /// See [`Model::max_input_seconds`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_input_seconds: Option<u64>,
    /// See [`Model::bound_covers_reasoning`].
    #[serde(default)]
    pub bound_covers_reasoning: bool,
    /// What it costs.
    #[serde(default)]
    pub prices: Prices,
    /// From when on it costs that; null: from when the document was set.
    #[serde(default)]
    pub effective_from: Option<DateTime<Utc>>,
}

impl ModelDocument {
    /// The facts without the prices.
    pub fn facts(&self) -> ModelFacts {
        ModelFacts {
            aliases: self.aliases.clone(),
            operations: self.operations.clone(),
            capabilities: self.capabilities.clone(),
            context_window: self.context_window,
            max_output_tokens: self.max_output_tokens,
            max_reasoning_tokens: self.max_reasoning_tokens,
            max_image_tokens: self.max_image_tokens,
            image_window_factor: self.image_window_factor,
            picture_tokens: self.picture_tokens.clone(),
            max_input_seconds: self.max_input_seconds,
            bound_covers_reasoning: self.bound_covers_reasoning,
        }
    }
}

/// What a model costs. Absent is unknown; zero is free.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Prices {
    /// USD for a million input tokens that are neither cached, written to a cache, nor sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million input tokens read from a cache.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cached_input_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million input tokens written to a cache for minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million input tokens written to a cache for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million output tokens, reasoning included unless it has its own price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million reasoning tokens, where they are billed apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million input tokens of sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_input_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million output tokens of sound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_output_per_mtok_usd: Option<NanoUsd>,
    /// USD for a request, on top; absent is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_request_usd: Option<NanoUsd>,
    /// USD for a picture in the input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_per_image_usd: Option<NanoUsd>,
    /// USD for a picture in the output, of the size and quality that it has unasked: a request that asks for more of
    /// either is refused under a cap. How many a chat makes is not bounded, so there such a chat is refused too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_per_image_usd: Option<NanoUsd>,
    /// USD for a million input tokens of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_input_per_mtok_usd: Option<NanoUsd>,
    /// USD for a million output tokens of pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_output_per_mtok_usd: Option<NanoUsd>,
    /// USD for a second of sound in the input, where it is billed by time; one that has begun is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_per_second_usd: Option<NanoUsd>,
    /// USD for a character of text in the input, where it is billed by length: a Unicode scalar value is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_per_character_usd: Option<NanoUsd>,
    /// USD for one call of a tool that the provider executes, by kind (`web_search`, ...), on top of its tokens.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosted_tool_per_call_usd: BTreeMap<String, NanoUsd>,
    /// Prices of requests with much input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub context_tiers: Vec<ContextTier>,
    /// What service tier, speed, region and batch make of the prices of tokens.
    #[serde(skip_serializing_if = "Multipliers::is_empty")]
    pub multipliers: Multipliers,
}

/// What all tokens of a request cost once its input is above a size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContextTier {
    /// The tier holds for requests with more input tokens, of all classes together, than this.
    pub above_tokens: u64,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_input_per_mtok_usd: Option<NanoUsd>,
    /// As in [`Prices`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_output_per_mtok_usd: Option<NanoUsd>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: &str) -> DateTime<Utc> {
        format!("{day}T00:00:00Z").parse().unwrap()
    }

    fn version(day: &str, name: &str) -> PriceVersion {
        PriceVersion { prices: Prices::default(), effective_from: at(day), version: name.into() }
    }

    fn in_force(model: &Model, day: &str) -> Option<String> {
        model.prices_at(at(day)).map(|version| version.version.to_string())
    }

    #[test]
    fn the_latest_price_that_has_begun_is_in_force_and_the_operators_goes_first() {
        let mut model = Model::new("p".parse().unwrap(), "m".into(), ModelFacts::default());
        assert_eq!(in_force(&model, "2026-06-01"), None);
        model.list_price(version("2026-12-01", "later"));
        model.list_price(version("2026-11-01", "list"));
        model.set_price(version("2027-01-01", "set"));
        for (day, name) in
            [("2026-01-01", "list"), ("2026-11-30", "list"), ("2026-12-01", "later"), ("2027-01-01", "set")]
        {
            assert_eq!(in_force(&model, day).as_deref(), Some(name), "{day}");
        }
        model.set_price(version("2027-01-01", "set again"));
        assert_eq!(in_force(&model, "2027-02-01").as_deref(), Some("set again"));
    }

    #[test]
    fn an_operators_price_that_is_yet_to_begin_is_no_price() {
        let mut model = Model::new("p".parse().unwrap(), "m".into(), ModelFacts::default());
        model.set_price(version("2027-01-01", "set"));
        assert_eq!(in_force(&model, "2026-12-31"), None);
    }

    #[test]
    fn the_document_of_the_contract_reads_and_prints_back() {
        let text = serde_json::json!({
            "operations": ["chat"], "aliases": [], "capabilities": ["tools", "vision"], "context_window": 128_000,
            "max_output_tokens": 16384, "bound_covers_reasoning": true,
            "prices": {"input_per_mtok_usd": "0.15", "cached_input_per_mtok_usd": "0.075",
                "cache_write_per_mtok_usd": "0.15", "output_per_mtok_usd": "0.60", "per_request_usd": "0.00",
                "context_tiers": [{"above_tokens": 200_000, "input_per_mtok_usd": "0.30"}]},
            "effective_from": null
        });
        let document: ModelDocument = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(document).unwrap(), text);
    }

    #[test]
    fn unknown_fields_and_numbers_for_money_are_refused_at_every_level() {
        for bad in [
            r#"{"operations": ["chat"], "price": {}}"#,
            r#"{"operations": ["chat"], "prices": {"input_per_mtok": "1"}}"#,
            r#"{"operations": ["chat"], "prices": {"input_per_mtok_usd": 1}}"#,
            r#"{"operations": ["chat"], "prices": {"input_per_mtok_usd": "-1"}}"#,
            r#"{"operations": ["chat"], "prices": {"context_tiers": [{"above_tokens": 1, "x": "1"}]}}"#,
            r#"{"operations": ["chat"], "prices": {"context_tiers": [{"input_per_mtok_usd": "1"}]}}"#,
            r#"{"operations": ["speak"]}"#,
            r#"{"operations": ["chat"], "image_window_factor": 0}"#,
            "{}",
        ] {
            assert!(serde_json::from_str::<ModelDocument>(bad).is_err(), "{bad}");
        }
    }
}
