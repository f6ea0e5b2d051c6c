//! What a list's model makes of the one that is here, and what that changes.
//!
//! What the list says nothing of stays. A price of tokens stays only where it is at least as dear as its absence would be:
//! beside new prices an old one for cached input may be too low, one for an hour's cache may be all that is known. So it
//! is in each context tier, and with a tier that the list has not. Of two bounds on tokens the larger holds: the worst case
//! of a request is made of them.

use super::class::{Class, says_something};
use super::in_pointer;
use crate::base::NanoUsd;
use crate::provider::model::{ContextTier, ModelDocument, Prices};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

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
        image_window_factor: known.image_window_factor,
        picture_tokens: known.picture_tokens.clone(),
        max_input_seconds: known.max_input_seconds,
        bound_covers_reasoning: listed.bound_covers_reasoning || known.bound_covers_reasoning,
        prices: merged_prices(&known.prices, &listed.prices),
        effective_from: None,
    }
}

fn merged_prices(known: &Prices, as_listed: &Prices) -> Prices {
    let (listed, _) = &without_zeros(known, as_listed);
    let mut prices = listed.clone();
    for class in Class::ALL {
        let old = *class.in_prices(&mut known.clone());
        keep(class.in_prices(&mut prices), old, class.cost(listed, 0));
    }
    for tier in &mut prices.context_tiers {
        let same = known.context_tiers.iter().find(|known| known.above_tokens == tier.above_tokens);
        let input_tokens = above(tier.above_tokens);
        for class in Class::ALL {
            let old = same.and_then(|same| *class.in_tier(&mut same.clone())?);
            if let Some(new) = class.in_tier(tier) {
                keep(new, old, class.cost(listed, input_tokens));
            }
        }
    }
    for tier in &known.context_tiers {
        if listed.context_tiers.iter().all(|listed| listed.above_tokens != tier.above_tokens) {
            prices.context_tiers.push(at_least(tier, listed));
        }
    }
    prices.context_tiers.sort_by_key(|tier| tier.above_tokens);
    // The absence of these is dearer than any of them, or is no price.
    prices.per_request_usd = listed.per_request_usd.or(known.per_request_usd);
    prices.input_per_image_usd = listed.input_per_image_usd.or(known.input_per_image_usd);
    prices.output_per_image_usd = listed.output_per_image_usd.or(known.output_per_image_usd);
    prices.input_per_second_usd = listed.input_per_second_usd.or(known.input_per_second_usd);
    prices.input_per_character_usd = listed.input_per_character_usd.or(known.input_per_character_usd);
    for (tool, price) in &known.hosted_tool_per_call_usd {
        prices.hosted_tool_per_call_usd.entry(tool.clone()).or_insert(*price);
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
    raise_to(&mut prices, as_listed);
    prices
}

/// Nothing costs less than by the list. Without its zeros it may: a class that the list has a price for is raised by the
/// tiers that leave it out, and one that it has none for goes by its main class.
fn raise_to(prices: &mut Prices, listed: &Prices) {
    for class in Class::ALL {
        let least = |input_tokens| class.cost(listed, input_tokens).filter(|cost| *cost > NanoUsd::ZERO);
        if class.cost(prices, 0) < least(0) {
            *class.in_prices(prices) = least(0);
        }
        for at in 0..prices.context_tiers.len() {
            let input_tokens = above(prices.context_tiers[at].above_tokens);
            let is_less = class.cost(prices, input_tokens) < least(input_tokens);
            if is_less && let Some(price) = class.in_tier(&mut prices.context_tiers[at]) {
                *price = least(input_tokens);
            }
        }
    }
}

/// The directions whose price is 0 in the list where one is known: that is taken for not listed, not for a gift, and
/// [`merged`] keeps what is known.
pub fn zeros_over_prices(known: &ModelDocument, listed: &ModelDocument) -> BTreeSet<&'static str> {
    without_zeros(&known.prices, &listed.prices).1
}

fn without_zeros(known: &Prices, listed: &Prices) -> (Prices, BTreeSet<&'static str>) {
    let (mut kept, mut zeros) = (listed.clone(), BTreeSet::new());
    for class in Class::ALL {
        let direction = if class.main() == Class::Input { "input" } else { "output" };
        let mut drop_zero = |price: &mut Option<NanoUsd>, input_tokens| {
            if *price == Some(NanoUsd::ZERO) && class.cost(known, input_tokens) > Some(NanoUsd::ZERO) {
                *price = None;
                zeros.insert(direction);
            }
        };
        drop_zero(class.in_prices(&mut kept), 0);
        for tier in &mut kept.context_tiers {
            let input_tokens = above(tier.above_tokens);
            if let Some(price) = class.in_tier(tier) {
                drop_zero(price, input_tokens);
            }
        }
    }
    kept.context_tiers.retain(says_something);
    (kept, zeros)
}

/// One document of two that a list has for one model: nothing costs less than by either of them.
pub(super) fn dearer(one: &ModelDocument, other: &ModelDocument) -> ModelDocument {
    let both = merged(one, other);
    let max_reasoning_tokens = one.max_reasoning_tokens.max(other.max_reasoning_tokens);
    let max_image_tokens = one.max_image_tokens.max(other.max_image_tokens);
    let bound_covers_reasoning = one.bound_covers_reasoning && other.bound_covers_reasoning;
    let prices = dearer_prices(&one.prices, &other.prices, both.prices.clone());
    ModelDocument { max_reasoning_tokens, max_image_tokens, bound_covers_reasoning, prices, ..both }
}

/// `both` has every class and size that either of them has.
fn dearer_prices(one: &Prices, other: &Prices, both: Prices) -> Prices {
    let cost =
        |class: Class, input_tokens| class.cost(one, input_tokens).max(class.cost(other, input_tokens));
    let mut prices = both;
    for class in Class::ALL {
        let is_known =
            [one, other].iter().any(|prices| class.in_prices(&mut Prices::clone(prices)).is_some());
        *class.in_prices(&mut prices) = cost(class, 0).filter(|_| is_known);
    }
    for tier in &mut prices.context_tiers {
        let input_tokens = above(tier.above_tokens);
        for class in Class::ALL {
            let is_known = [one, other].iter().any(|prices| has_class(prices, class, input_tokens));
            if let Some(price) = class.in_tier(tier) {
                *price = cost(class, input_tokens).filter(|_| is_known);
            }
        }
    }
    for (price, one, other) in [
        (&mut prices.per_request_usd, one.per_request_usd, other.per_request_usd),
        (&mut prices.input_per_image_usd, one.input_per_image_usd, other.input_per_image_usd),
        (&mut prices.output_per_image_usd, one.output_per_image_usd, other.output_per_image_usd),
        (&mut prices.input_per_second_usd, one.input_per_second_usd, other.input_per_second_usd),
        (&mut prices.input_per_character_usd, one.input_per_character_usd, other.input_per_character_usd),
    ] {
        *price = one.max(other);
    }
    for (tool, price) in one.hosted_tool_per_call_usd.iter().chain(&other.hosted_tool_per_call_usd) {
        let known = prices.hosted_tool_per_call_usd.entry(tool.clone()).or_default();
        *known = (*known).max(*price);
    }
    for of in [&one.multipliers, &other.multipliers] {
        for (factors, of) in [
            (&mut prices.multipliers.service_tier, &of.service_tier),
            (&mut prices.multipliers.speed, &of.speed),
            (&mut prices.multipliers.region, &of.region),
        ] {
            for (word, factor) in of {
                let known = factors.entry(word.clone()).or_insert(*factor);
                *known = (*known).max(*factor);
            }
        }
        prices.multipliers.batch = prices.multipliers.batch.max(of.batch);
    }
    prices
}

/// Whether the class has a price of its own for such a size, below a tier or in one.
fn has_class(prices: &Prices, class: Class, input_tokens: u64) -> bool {
    let passed = prices.context_tiers.iter().filter(|tier| tier.above_tokens < input_tokens);
    class.in_prices(&mut prices.clone()).is_some()
        || passed
            .into_iter()
            .any(|tier| class.in_tier(&mut tier.clone()).is_some_and(|price| price.is_some()))
}

/// An old price stays where it is at least as dear as its absence.
fn keep(new: &mut Option<NanoUsd>, old: Option<NanoUsd>, absent: Option<NanoUsd>) {
    *new = new.or(old.filter(|old| Some(*old) >= absent));
}

/// A tier that the list says nothing of: no class of it is cheaper than the list has it for such a size.
fn at_least(tier: &ContextTier, listed: &Prices) -> ContextTier {
    let mut raised = tier.clone();
    for class in Class::ALL {
        if let Some(Some(price)) = class.in_tier(&mut raised) {
            *price = (*price).max(class.cost(listed, above(tier.above_tokens)).unwrap_or_default());
        }
    }
    raised
}

/// The least input of requests that a tier is for.
fn above(tier_tokens: u64) -> u64 {
    tier_tokens.saturating_add(1)
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
