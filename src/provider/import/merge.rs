//! What a list's model makes of the one that is here, and what that changes.
//!
//! What the list says nothing of stays. A price of tokens stays only where it is at least as dear as its absence would be:
//! beside new prices an old one for cached input may be too low, one for an hour's cache may be all that is known. Of two
//! bounds on tokens the larger holds: the worst case of a request is made of them.

use super::in_pointer;
use crate::base::NanoUsd;
use crate::provider::model::{ContextTier, ModelDocument, Prices};
use serde::Serialize;
use serde_json::Value;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// A JSON pointer into the model's document.
    pub field: String,
    /// What stood there; null for nothing.
    pub before: Value,
    /// What stands there now; null for nothing.
    pub after: Value,
}

/// The document that is to hold: `listed`, and of `known` what the list says nothing of.
pub fn merged(known: &ModelDocument, listed: &ModelDocument) -> ModelDocument {
    let union = |known: &[String], listed: &[String]| {
        let new = listed.iter().filter(|word| !known.contains(word));
        known.iter().chain(new).cloned().collect()
    };
    let mut operations = known.operations.clone();
    operations.extend(listed.operations.iter().filter(|operation| !known.operations.contains(operation)));
    ModelDocument {
        operations,
        aliases: union(&known.aliases, &listed.aliases),
        capabilities: union(&known.capabilities, &listed.capabilities),
        context_window: listed.context_window.max(known.context_window),
        max_output_tokens: listed.max_output_tokens.max(known.max_output_tokens),
        max_reasoning_tokens: listed.max_reasoning_tokens.or(known.max_reasoning_tokens),
        max_image_tokens: listed.max_image_tokens.or(known.max_image_tokens),
        bound_covers_reasoning: listed.bound_covers_reasoning || known.bound_covers_reasoning,
        prices: merged_prices(&known.prices, &listed.prices),
        effective_from: None,
    }
}

fn merged_prices(known: &Prices, listed: &Prices) -> Prices {
    let mut prices = listed.clone();
    let input = dearest(&[
        listed.input_per_mtok_usd,
        listed.cached_input_per_mtok_usd,
        listed.cache_write_per_mtok_usd,
        listed.cache_write_1h_per_mtok_usd,
        listed.audio_input_per_mtok_usd,
        listed.image_input_per_mtok_usd,
    ]);
    let output = dearest(&[
        listed.output_per_mtok_usd,
        listed.reasoning_per_mtok_usd,
        listed.audio_output_per_mtok_usd,
        listed.image_output_per_mtok_usd,
    ]);
    let keep = |new: &mut Option<NanoUsd>, old: Option<NanoUsd>, otherwise: Option<NanoUsd>| {
        *new = new.or(old.filter(|old| Some(*old) >= otherwise));
    };
    keep(&mut prices.input_per_mtok_usd, known.input_per_mtok_usd, input);
    keep(&mut prices.cached_input_per_mtok_usd, known.cached_input_per_mtok_usd, input);
    keep(&mut prices.cache_write_per_mtok_usd, known.cache_write_per_mtok_usd, input);
    keep(&mut prices.cache_write_1h_per_mtok_usd, known.cache_write_1h_per_mtok_usd, input);
    keep(&mut prices.audio_input_per_mtok_usd, known.audio_input_per_mtok_usd, input);
    keep(&mut prices.image_input_per_mtok_usd, known.image_input_per_mtok_usd, input);
    keep(&mut prices.output_per_mtok_usd, known.output_per_mtok_usd, output);
    keep(&mut prices.reasoning_per_mtok_usd, known.reasoning_per_mtok_usd, output);
    keep(&mut prices.audio_output_per_mtok_usd, known.audio_output_per_mtok_usd, output);
    keep(&mut prices.image_output_per_mtok_usd, known.image_output_per_mtok_usd, output);
    // The absence of these is dearer than any of them, or is no price.
    prices.per_request_usd = listed.per_request_usd.or(known.per_request_usd);
    prices.input_per_image_usd = listed.input_per_image_usd.or(known.input_per_image_usd);
    prices.output_per_image_usd = listed.output_per_image_usd.or(known.output_per_image_usd);
    prices.input_per_second_usd = listed.input_per_second_usd.or(known.input_per_second_usd);
    prices.input_per_character_usd = listed.input_per_character_usd.or(known.input_per_character_usd);
    for (tool, price) in &known.hosted_tool_per_call_usd {
        prices.hosted_tool_per_call_usd.entry(tool.clone()).or_insert(*price);
    }
    if prices.context_tiers.is_empty() {
        prices.context_tiers = known.context_tiers.iter().map(|tier| at_least(tier, listed)).collect();
    }
    let (new, old) = (&mut prices.multipliers, &known.multipliers);
    for (new, old) in [
        (&mut new.service_tier, &old.service_tier),
        (&mut new.speed, &old.speed),
        (&mut new.region, &old.region),
    ] {
        for (word, factor) in old {
            new.entry(word.clone()).or_insert(*factor);
        }
    }
    new.batch = new.batch.or(old.batch);
    prices
}

/// A tier that the list says nothing of: no class of it is cheaper than what the list has for any size.
fn at_least(tier: &ContextTier, listed: &Prices) -> ContextTier {
    let raised =
        |old: Option<NanoUsd>, new: Option<NanoUsd>| old.map(|old| new.map_or(old, |new| new.max(old)));
    ContextTier {
        above_tokens: tier.above_tokens,
        input_per_mtok_usd: raised(tier.input_per_mtok_usd, listed.input_per_mtok_usd),
        cached_input_per_mtok_usd: raised(tier.cached_input_per_mtok_usd, listed.cached_input_per_mtok_usd),
        cache_write_per_mtok_usd: raised(tier.cache_write_per_mtok_usd, listed.cache_write_per_mtok_usd),
        cache_write_1h_per_mtok_usd: raised(
            tier.cache_write_1h_per_mtok_usd,
            listed.cache_write_1h_per_mtok_usd,
        ),
        output_per_mtok_usd: raised(tier.output_per_mtok_usd, listed.output_per_mtok_usd),
        reasoning_per_mtok_usd: raised(tier.reasoning_per_mtok_usd, listed.reasoning_per_mtok_usd),
        audio_input_per_mtok_usd: raised(tier.audio_input_per_mtok_usd, listed.audio_input_per_mtok_usd),
        audio_output_per_mtok_usd: raised(tier.audio_output_per_mtok_usd, listed.audio_output_per_mtok_usd),
    }
}

fn dearest(prices: &[Option<NanoUsd>]) -> Option<NanoUsd> {
    prices.iter().flatten().max().copied()
}

/// Every field in which two documents differ, but the time from which their prices hold.
pub fn changes(before: &ModelDocument, after: &ModelDocument) -> Vec<Change> {
    let fields = |document: &ModelDocument| {
        let document = ModelDocument { effective_from: None, ..document.clone() };
        let mut fields = Vec::new();
        flatten("", serde_json::to_value(document).unwrap_or_default(), &mut fields);
        fields
    };
    let (before, after) = (fields(before), fields(after));
    let find = |fields: &[(String, Value)], wanted: &str| {
        let found = fields.iter().find(|(field, _)| field == wanted);
        found.map_or(Value::Null, |(_, value)| value.clone())
    };
    let mut changes: Vec<Change> =
        before
            .iter()
            .map(|(field, value)| Change {
                field: field.clone(),
                before: value.clone(),
                after: find(&after, field),
            })
            .chain(after.iter().filter(|(field, _)| find(&before, field).is_null()).map(|(field, value)| {
                Change { field: field.clone(), before: Value::Null, after: value.clone() }
            }))
            .filter(|change| change.before != change.after)
            .collect();
    changes.sort_by(|one, other| one.field.cmp(&other.field));
    changes
}

/// Leaves by JSON pointer. Lists of words are leaves: what changed in them is seen at once.
fn flatten(at: &str, value: Value, fields: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                flatten(&format!("{at}/{}", in_pointer(&name)), value, fields);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.into_iter().enumerate() {
                flatten(&format!("{at}/{index}"), value, fields);
            }
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            fields.push((at.to_owned(), value));
        }
    }
}
