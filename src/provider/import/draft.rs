//! A model while its entry in a list is read: prices by class and size, and what has to be said about them.

use super::class::{Class, says_something};
use super::{Import, Imported, Remark, Selection};
use crate::base::json::{Kind, Value};
use crate::base::{Decimal, NanoUsd, clip};
use crate::policy::Operation;
use crate::provider::model::{ContextTier, ModelDocument, Prices};
use crate::provider::slug::Slug;
use std::collections::BTreeMap;

/// From USD for one to nano-USD for one.
pub(super) const EACH: i32 = 9;
/// From USD for one token to nano-USD for a million.
pub(super) const PER_TOKEN: i32 = 15;
/// From USD for a million tokens to nano-USD for a million.
pub(super) const PER_MILLION: i32 = 9;

/// A price as the list has it.
#[derive(Clone, Debug)]
struct Priced {
    field: String,
    price: Decimal,
}

/// A model being read.
pub(super) struct Draft {
    model: String,
    /// By class, and the size that the input has to be above; 0 is any size.
    tokens: BTreeMap<(Class, u64), Priced>,
    unit: i32,
    unmapped: Vec<Remark>,
    approximated: Vec<Remark>,
    /// Why it cannot be imported at all.
    broken: Option<String>,
    pub(super) document: ModelDocument,
}

impl Draft {
    /// `unit` brings the list's prices of tokens to nano-USD for a million.
    pub(super) fn new(model: &str, unit: i32) -> Self {
        Self {
            model: clip(model, 256),
            tokens: BTreeMap::new(),
            unit,
            unmapped: Vec::new(),
            approximated: Vec::new(),
            broken: None,
            document: ModelDocument {
                operations: Vec::new(),
                aliases: Vec::new(),
                capabilities: Vec::new(),
                context_window: None,
                max_output_tokens: None,
                max_reasoning_tokens: None,
                max_image_tokens: None,
                image_window_factor: None,
                picture_tokens: BTreeMap::new(),
                max_input_seconds: None,
                bound_covers_reasoning: false,
                prices: Prices::default(),
                effective_from: None,
            },
        }
    }

    /// Says that the field has no place here.
    pub(super) fn unmapped(&mut self, field: &str, why: impl Into<String>) {
        self.unmapped.push(self.remark(field, why));
    }

    /// Says that the field was taken for something dearer.
    pub(super) fn approximated(&mut self, field: &str, why: impl Into<String>) {
        self.approximated.push(self.remark(field, why));
    }

    /// The model cannot be imported.
    pub(super) fn give_up(&mut self, why: impl Into<String>) {
        self.broken.get_or_insert(why.into());
    }

    fn remark(&self, field: &str, why: impl Into<String>) -> Remark {
        Remark { model: self.model.clone(), field: Some(clip(field, 128)), why: why.into() }
    }

    /// A price that is there. `null` is none; one that is negative or no number makes the model unfit.
    pub(super) fn amount(&mut self, field: &str, value: Value<'_>) -> Option<Decimal> {
        let text = match value.kind() {
            Kind::Null => return None,
            Kind::Number => value.raw().to_owned(),
            Kind::String => value.as_str().unwrap_or_default().into_owned(),
            Kind::Bool | Kind::Array | Kind::Object => String::new(),
        };
        match Decimal::parse(&text) {
            Some(price) if price.is_negative() => {
                self.give_up(format!("{field} is negative: the price is not fixed"));
                None
            }
            Some(price) => Some(price),
            None => {
                self.give_up(format!("{field} is not a price: {}", clip(value.raw(), 64)));
                None
            }
        }
    }

    /// Takes over a price of tokens, for requests whose input is above a size (0: any). Of two for one class the dearer.
    pub(super) fn tokens(&mut self, class: Class, above: u64, field: &str, price: Decimal) {
        let new = Priced { field: field.to_owned(), price };
        let known = self.tokens.get(&(class, above));
        if known.is_none_or(|known| known.price.shifted_up(self.unit) < price.shifted_up(self.unit)) {
            self.tokens.insert((class, above), new);
        }
    }

    /// The price of a class as the list has it.
    pub(super) fn listed(&self, class: Class, above: u64) -> Option<Decimal> {
        self.tokens.get(&(class, above)).map(|priced| priced.price)
    }

    /// A price for one of something.
    pub(super) fn each(&mut self, field: &str, price: Decimal, shift: i32) -> Option<NanoUsd> {
        let nano = price.shifted_up(shift).map(NanoUsd::from_nano);
        if nano.is_none() {
            self.give_up(format!("{field} is larger than any price"));
        }
        nano
    }

    /// A price for a call of a tool that the provider executes.
    pub(super) fn hosted_tool(&mut self, tool: &str, field: &str, price: Decimal, shift: i32) {
        if let Some(price) = self.each(field, price, shift) {
            let known = self.document.prices.hosted_tool_per_call_usd.entry(tool.to_owned()).or_default();
            *known = price.max(*known);
        }
    }

    /// Lists an operation once.
    pub(super) fn serves(&mut self, operation: Operation) {
        if !self.document.operations.contains(&operation) {
            self.document.operations.push(operation);
        }
    }

    /// Lists a capability once.
    pub(super) fn can(&mut self, capability: &str) {
        if !self.document.capabilities.iter().any(|known| known == capability) {
            self.document.capabilities.push(capability.to_owned());
        }
    }

    /// A number of tokens; 0 and what is none is not known.
    pub(super) fn count(entry: Value<'_>, field: &str) -> Option<u64> {
        let value = entry.get(field).filter(|value| value.kind() == Kind::Number)?;
        Decimal::parse(value.raw())?.as_whole().filter(|count| *count > 0)
    }

    /// Puts the model into the import if it is wanted, or says why not.
    pub(super) fn finish(mut self, provider: Slug, name: String, selection: &Selection, import: &mut Import) {
        if !selection.wants(&provider, &name) {
            return;
        }
        self.price_tokens();
        self.unprice_pictures();
        self.document.capabilities.sort();
        if self.document.operations.is_empty() {
            self.give_up("it serves no operation that is known here");
        }
        if self.document.prices == Prices::default() {
            self.give_up("it has no price");
        }
        if !((1..=256).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())) {
            self.give_up("a model's name is 1 to 256 visible ASCII characters");
        }
        if let Some(why) = self.broken {
            return import.leave_out(&self.model, why);
        }
        import.unmapped.append(&mut self.unmapped);
        import.approximated.append(&mut self.approximated);
        import.models.push(Imported { provider, name, document: self.document });
    }

    /// The output of a model that makes pictures costs more than its text. Where the list does not say how much, nothing
    /// is known of it.
    fn unprice_pictures(&mut self) {
        let prices = &mut self.document.prices;
        let makes_pictures = self.document.capabilities.iter().any(|known| known == "image_out");
        let is_known = prices.image_output_per_mtok_usd.is_some() || prices.output_per_image_usd.is_some();
        if !makes_pictures || is_known {
            return;
        }
        for class in Class::ALL.into_iter().filter(|class| class.main() == Class::Output) {
            *class.in_prices(prices) = None;
            for tier in &mut prices.context_tiers {
                if let Some(price) = class.in_tier(tier) {
                    *price = None;
                }
            }
        }
        prices.context_tiers.retain(says_something);
        self.unmapped(
            "output",
            "the model makes pictures, and what they cost is not listed: its output is left without a price",
        );
    }

    fn price_tokens(&mut self) {
        for ((class, above), Priced { field, price }) in std::mem::take(&mut self.tokens) {
            if let (true, Some(main)) = (price.is_zero(), self.main_price(class, above)) {
                let why =
                    format!("0 beside a price of {main} USD is taken for \"not billed apart\", not for free");
                self.approximated(&field, why);
                continue;
            }
            let Some(nano) = self.each(&field, price, self.unit) else { continue };
            if above == 0 {
                *class.in_prices(&mut self.document.prices) = Some(nano);
                continue;
            }
            let tiers = &mut self.document.prices.context_tiers;
            let at = tiers.iter().position(|tier| tier.above_tokens == above).unwrap_or_else(|| {
                tiers.push(ContextTier { above_tokens: above, ..ContextTier::default() });
                tiers.len() - 1
            });
            match class.in_tier(&mut tiers[at]) {
                Some(slot) => *slot = Some(nano),
                None => self.unmapped(&field, "context tiers have no price for this class"),
            }
        }
        let tiers = &mut self.document.prices.context_tiers;
        tiers.retain(says_something);
        tiers.sort_by_key(|tier| tier.above_tokens);
    }

    /// The price of what the class is a part of, where that is another class and not free. Classes come in order, so it is
    /// known by then.
    fn main_price(&mut self, class: Class, above: u64) -> Option<NanoUsd> {
        let main = class.main();
        let prices = &mut self.document.prices;
        let mut price = *main.in_prices(prices);
        if above > 0 {
            let tier = prices.context_tiers.iter_mut().find(|tier| tier.above_tokens == above);
            price = tier.and_then(|tier| *main.in_tier(tier)?).or(price);
        }
        price.filter(|price| main != class && *price > NanoUsd::ZERO)
    }
}
