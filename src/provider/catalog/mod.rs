//! The catalog: which provider serves which model under which name, and what it costs.
//!
//! Built from the data files beside this one and the operator's own models and prices. In one provider no name or
//! alias means two models: a catalog in which one does is refused, never read by some order. Lookups allocate nothing.

mod file;

use super::model::{Model, ModelDocument, PriceVersion};
use super::slug::Slug;
use crate::policy::Operation;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Every model known. Share it in an `Arc`; a change makes a new one.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    shelves: HashMap<Slug, Shelf>,
    models: Vec<Arc<Model>>,
}

/// The models of one provider.
#[derive(Clone, Debug, Default)]
struct Shelf {
    names: HashMap<String, Arc<Model>>,
    aliases: HashMap<String, Arc<Model>>,
}

/// A model as an operator set it. Of several for one model, the facts of the highest version hold at once, and
/// each one's prices from their time on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The provider that serves the model.
    pub provider: Slug,
    /// The name that is sent to the provider.
    pub model: String,
    /// What was set.
    pub document: ModelDocument,
    /// Counts the changes of this model.
    pub version: u64,
    /// When it was set: its prices hold from then on if the document names no time.
    pub set_at: DateTime<Utc>,
}

/// Why a catalog was not built.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// A data file does not read.
    #[error("the catalog file of {provider} does not read: {source}")]
    File {
        /// Whose file.
        provider: &'static str,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A model makes no sense.
    #[error("{provider}/{model}: {fault}")]
    Model {
        /// The provider.
        provider: Slug,
        /// The model.
        model: String,
        /// What is wrong with it.
        fault: ModelFault,
    },
}

/// What can be wrong with a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelFault {
    /// The name is empty, longer than 256 bytes, or holds other than visible ASCII.
    #[error("a model's name is 1 to 256 visible ASCII characters")]
    Name,
    /// An alias is no name, is the model's own name, or is listed twice.
    #[error(
        "{0:?} is not an alias: it is the model's own name, listed twice, or not 1 to 256 visible ASCII characters"
    )]
    Alias(String),
    /// An alias already means another model of the provider.
    #[error("{alias:?} already means {taken_by:?}")]
    AliasTaken {
        /// The alias.
        alias: String,
        /// The model that has it as name or alias.
        taken_by: String,
    },
    /// A model that serves nothing.
    #[error("name at least one operation")]
    NoOperation,
    /// An operation that needs no model, or one listed twice.
    #[error("{0:?} is listed twice or is not an operation of a model")]
    Operation(&'static str),
    /// Context tiers out of order.
    #[error("context tiers are in ascending order of above_tokens, each once")]
    Tiers,
    /// Two price lists of the same model begin at the same time.
    #[error("two entries begin at the same time")]
    SameTime,
}

impl ModelFault {
    /// The field at fault, as a JSON pointer into the model's document; empty for its name.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Name => "",
            Self::Alias(_) | Self::AliasTaken { .. } => "/aliases",
            Self::NoOperation | Self::Operation(_) => "/operations",
            Self::Tiers => "/prices/context_tiers",
            Self::SameTime => "/effective_from",
        }
    }
}

impl Catalog {
    /// The catalog that Bitting comes with.
    pub fn built_in() -> Result<Self, CatalogError> {
        let mut models = Models::new();
        for entry in file::read_all()? {
            let file::Listed { provider, name, document, effective_from, retires, source } = entry;
            let fault =
                |fault| CatalogError::Model { provider: provider.clone(), model: name.clone(), fault };
            check(&name, &document).map_err(fault)?;
            let model = models
                .entry((provider.clone(), name.clone()))
                .or_insert_with(|| Model::new(provider.clone(), name.clone(), document.facts()));
            if model.prices_at(effective_from).is_some_and(|known| known.effective_from == effective_from) {
                return Err(fault(ModelFault::SameTime));
            }
            model.set_facts(document.facts());
            let version = format!("catalog@{}", effective_from.format("%F")).into();
            model.list_price(PriceVersion { prices: document.prices, effective_from, version });
            (model.retires, model.source) = (retires, source);
        }
        Self::from_models(models)
    }

    /// This catalog with an operator's models and prices over it.
    ///
    /// # Errors
    /// A model that makes no sense, or an alias that would mean two models.
    pub fn with(&self, overrides: &[Override]) -> Result<Self, CatalogError> {
        let mut models: Models = self
            .models
            .iter()
            .map(|model| ((model.provider.clone(), model.name.clone()), Model::clone(model)))
            .collect();
        let mut in_order: Vec<_> = overrides.iter().collect();
        in_order.sort_by_key(|set| set.version);
        for Override { provider, model: name, document, version, set_at } in in_order {
            check(name, document).map_err(|fault| CatalogError::Model {
                provider: provider.clone(),
                model: name.clone(),
                fault,
            })?;
            let model = models
                .entry((provider.clone(), name.clone()))
                .or_insert_with(|| Model::new(provider.clone(), name.clone(), document.facts()));
            model.set_facts(document.facts());
            model.set_price(PriceVersion {
                prices: document.prices.clone(),
                effective_from: document.effective_from.unwrap_or(*set_at),
                version: format!("override@{version}").into(),
            });
        }
        Self::from_models(models)
    }

    /// This catalog with no price for these models (provider and name), whatever it was. They keep their facts.
    #[must_use]
    pub fn without_prices(self, models: &[(&str, &str)]) -> Self {
        if models.is_empty() {
            return self;
        }
        let unprice = |model: &Arc<Model>| {
            if models.contains(&(model.provider.as_str(), &model.name)) {
                Arc::new(model.without_prices())
            } else {
                Arc::clone(model)
            }
        };
        let mut catalog = Self { shelves: self.shelves, models: self.models.iter().map(unprice).collect() };
        for shelf in catalog.shelves.values_mut() {
            for model in shelf.names.values_mut().chain(shelf.aliases.values_mut()) {
                *model = unprice(model);
            }
        }
        catalog
    }

    fn from_models(models: Models) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        for model in models.into_values().map(Arc::new) {
            let shelf = catalog.shelves.entry(model.provider.clone()).or_default();
            shelf.names.insert(model.name.clone(), Arc::clone(&model));
            catalog.models.push(model);
        }
        for model in &catalog.models {
            let shelf = catalog.shelves.entry(model.provider.clone()).or_default();
            for alias in &model.aliases {
                let taken = shelf.names.get(alias).cloned();
                let taken = taken.or_else(|| shelf.aliases.insert(alias.clone(), Arc::clone(model)));
                if let Some(other) = taken {
                    return Err(CatalogError::Model {
                        provider: model.provider.clone(),
                        model: model.name.clone(),
                        fault: ModelFault::AliasTaken { alias: alias.clone(), taken_by: other.name.clone() },
                    });
                }
            }
        }
        Ok(catalog)
    }

    /// The model that a name or alias means at the provider; compared byte for byte.
    pub fn find(&self, provider: &str, name_or_alias: &str) -> Option<&Arc<Model>> {
        let of_provider = self.shelves.get(provider)?;
        of_provider.aliases.get(name_or_alias).or_else(|| of_provider.names.get(name_or_alias))
    }

    /// Every model, by provider and name.
    pub fn models(&self) -> impl Iterator<Item = &Arc<Model>> {
        self.models.iter()
    }

    /// Every model of the provider, by name.
    pub fn models_of<'a>(&'a self, provider: &'a str) -> impl Iterator<Item = &'a Arc<Model>> {
        let start = self.models.partition_point(|model| model.provider.as_str() < provider);
        self.models[start..].iter().take_while(move |model| model.provider.as_str() == provider)
    }
}

type Models = BTreeMap<(Slug, String), Model>;

/// Checks what can be told of a model by itself.
fn check(name: &str, document: &ModelDocument) -> Result<(), ModelFault> {
    if !is_name(name) {
        return Err(ModelFault::Name);
    }
    for (at, alias) in document.aliases.iter().enumerate() {
        if !is_name(alias) || alias == name || document.aliases[..at].contains(alias) {
            return Err(ModelFault::Alias(alias.clone()));
        }
    }
    if document.operations.is_empty() {
        return Err(ModelFault::NoOperation);
    }
    for (at, operation) in document.operations.iter().enumerate() {
        if !Operation::LISTED.contains(operation) || document.operations[..at].contains(operation) {
            return Err(ModelFault::Operation(operation.as_str()));
        }
    }
    if !document.prices.context_tiers.is_sorted_by(|low, high| low.above_tokens < high.above_tokens) {
        return Err(ModelFault::Tiers);
    }
    Ok(())
}

fn is_name(text: &str) -> bool {
    (1..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn day(text: &str) -> DateTime<Utc> {
        format!("{text}T00:00:00Z").parse().unwrap()
    }

    fn set(model: &str, version: u64, document: serde_json::Value) -> Override {
        let document = serde_json::from_value(document).unwrap();
        Override {
            provider: "openai".parse().unwrap(),
            model: model.into(),
            document,
            version,
            set_at: day("2026-12-01"),
        }
    }

    fn input_price(catalog: &Catalog, model: &str, at: &str) -> Option<(String, String)> {
        let version = catalog.find("openai", model).unwrap().prices_at(day(at))?;
        Some((version.version.to_string(), version.prices.input_per_mtok_usd.unwrap().to_string()))
    }

    #[test]
    fn names_are_found_byte_for_byte_at_their_provider_alone() {
        let catalog = Catalog::built_in().unwrap();
        assert_eq!(catalog.find("openai", "gpt-4o").unwrap().name, "gpt-4o");
        for (provider, name) in [
            ("openai", "GPT-4o"),
            ("openai", "gpt-4o "),
            ("openai", "gpt-4о"),
            ("openai", ""),
            ("anthropic", "gpt-4o"),
            ("nobody", "gpt-4o"),
        ] {
            assert!(catalog.find(provider, name).is_none(), "{provider}/{name}");
        }
        let mistral: Vec<_> = catalog.models_of("mistral").collect();
        assert!(mistral.len() > 30 && mistral.iter().all(|model| model.provider.as_str() == "mistral"));
        assert_eq!(catalog.models_of("nobody").count(), 0);
    }

    #[test]
    fn an_operators_price_holds_from_its_time_and_says_so() {
        let document = |price, from: Option<&str>| {
            json!({"operations": ["chat"], "prices": {"input_per_mtok_usd": price, "output_per_mtok_usd": "9"},
                "effective_from": from})
        };
        let catalog = Catalog::built_in().unwrap();
        let changed = catalog
            .with(&[
                set("gpt-4o", 2, document("4", Some("2027-01-01T00:00:00Z"))),
                set("gpt-4o", 1, document("3", None)),
            ])
            .unwrap();
        for (at, version, price) in [
            ("2026-11-30", "catalog@2026-11-22", "2.50"),
            ("2026-12-01", "override@1", "3.00"),
            ("2027-01-01", "override@2", "4.00"),
        ] {
            assert_eq!(input_price(&changed, "gpt-4o", at), Some((version.into(), price.into())), "{at}");
        }
        assert_eq!(changed.find("openai", "gpt-4o").unwrap().operations, [Operation::Chat]);
        assert_eq!(input_price(&catalog, "gpt-4o", "2027-01-01").unwrap().1, "2.50");
    }

    #[test]
    fn an_operator_adds_models_and_aliases() {
        let catalog = Catalog::built_in().unwrap();
        let changed = catalog
            .with(&[set("my-model", 1, json!({"operations": ["chat"], "aliases": ["fast"]}))])
            .unwrap();
        assert_eq!(changed.find("openai", "fast").unwrap().name, "my-model");
        assert!(changed.find("anthropic", "fast").is_none());
    }

    #[test]
    fn the_facts_that_were_said_last_hold_in_whatever_order_they_come() {
        let bounded = |version, max_output_tokens: u64| {
            set(
                "gpt-4o",
                version,
                json!({"operations": ["chat"], "max_output_tokens": max_output_tokens,
                "prices": {"input_per_mtok_usd": "1", "output_per_mtok_usd": "2"}}),
            )
        };
        let said = [bounded(3, 300), bounded(1, 100), bounded(2, 200)];
        let catalog = Catalog::built_in().unwrap().with(&said).unwrap();
        assert_eq!(catalog.find("openai", "gpt-4o").unwrap().max_output_tokens, Some(300));
    }

    #[test]
    fn a_model_that_makes_no_sense_is_refused_with_the_field() {
        let catalog = Catalog::built_in().unwrap();
        let cases = [
            ("m m", json!({"operations": ["chat"]}), ""),
            ("m", json!({"operations": []}), "/operations"),
            ("m", json!({"operations": ["chat", "chat"]}), "/operations"),
            ("m", json!({"operations": ["models"]}), "/operations"),
            ("m", json!({"operations": ["chat"], "aliases": ["m"]}), "/aliases"),
            ("m", json!({"operations": ["chat"], "aliases": ["a", "a"]}), "/aliases"),
            ("m", json!({"operations": ["chat"], "aliases": ["a b"]}), "/aliases"),
            ("m", json!({"operations": ["chat"], "aliases": ["gpt-4o"]}), "/aliases"),
            (
                "m",
                json!({"operations": ["chat"], "prices": {"context_tiers": [{"above_tokens": 2}, {"above_tokens": 2}]}}),
                "/prices/context_tiers",
            ),
        ];
        for (name, document, field) in cases {
            match catalog.with(&[set(name, 1, document.clone())]) {
                Err(CatalogError::Model { fault, .. }) => {
                    assert_eq!(fault.field(), field, "{name} {document}");
                }
                other => panic!("{name} {document}: {other:?}"),
            }
        }
        let twice = [
            set("m", 1, json!({"operations": ["chat"], "aliases": ["a"]})),
            set("n", 1, json!({"operations": ["chat"], "aliases": ["a"]})),
        ];
        assert!(catalog.with(&twice).is_err(), "one alias of two models");
    }
}
