//! What operators said of models, as the catalog takes it.
//!
//! What makes no sense beside the rest is left out by itself. Which price was meant is not known then, so its model has
//! none: neither the operator's nor a built-in one.

use crate::provider::catalog::ModelFault;
use crate::provider::import::Source;
use crate::provider::{Catalog, CatalogError, ModelDocument, Override};
use crate::store::model::ModelRecord;

/// What operators said of a model that is not in force.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) provider: String,
    pub(super) model: String,
    pub(super) why: String,
}

/// The built-in catalog with the operators' models over it, and what of them makes no sense.
pub(super) fn catalog(built_in: &Catalog, records: &[ModelRecord]) -> (Catalog, Vec<LeftOut>) {
    let (mut overrides, mut left_out) = (overrides(records), Vec::new());
    loop {
        let error = match built_in.with(&overrides) {
            Ok(catalog) => return (catalog, left_out),
            Err(error) => error,
        };
        let why = error.to_string();
        let is_of = |set: &Override, provider: &str, model: &str| {
            (set.provider.as_str(), set.model.as_str()) == (provider, model)
        };
        let named = culprits(&error).into_iter();
        let mut named =
            named.filter(|(provider, model)| overrides.iter().any(|set| is_of(set, provider, model)));
        let last = || overrides.last().map(|set| (set.provider.to_string(), set.model.clone()));
        let Some((provider, model)) = named.next().or_else(last) else { return (built_in.clone(), left_out) };
        overrides.retain(|set| !is_of(set, &provider, &model));
        left_out.push(LeftOut { provider, model, why });
    }
}

/// The models at fault: the one that is named, or the operator's that stands in the way of a built-in one.
fn culprits(error: &CatalogError) -> Vec<(String, String)> {
    match error {
        CatalogError::Model { provider, model, fault } => {
            let other = match fault {
                ModelFault::AliasTaken { taken_by, .. } => Some(taken_by),
                ModelFault::Name
                | ModelFault::Alias(_)
                | ModelFault::NoOperation
                | ModelFault::Operation(_)
                | ModelFault::Tiers
                | ModelFault::SameTime => None,
            };
            [Some(model), other]
                .into_iter()
                .flatten()
                .map(|name| (provider.to_string(), name.clone()))
                .collect()
        }
        CatalogError::File { .. } => Vec::new(),
    }
}

/// Says in a stored model that it came from a list.
const IMPORTED_FROM: &str = "imported_from";

/// A model from a list as it is stored.
pub(in crate::service) fn stored(document: &ModelDocument, source: Source) -> serde_json::Value {
    let mut stored = serde_json::to_value(document).unwrap_or_default();
    stored[IMPORTED_FROM] = source.as_str().into();
    stored
}

/// The list that a stored model came from; `None` for what an operator set.
pub(in crate::service) fn imported_from(record: &ModelRecord) -> Option<&str> {
    record.document.get(IMPORTED_FROM).and_then(serde_json::Value::as_str)
}

/// Stored models as the catalog takes them, in the order in which they were first said: rows of a time when each moment
/// had its own count may be of one version.
pub(in crate::service) fn overrides(records: &[ModelRecord]) -> Vec<Override> {
    let mut in_order: Vec<&ModelRecord> = records.iter().collect();
    in_order.sort_by_key(|record| record.created_at);
    in_order.into_iter().filter_map(as_override).collect()
}

/// A stored model as the catalog takes it.
pub(in crate::service) fn as_override(record: &ModelRecord) -> Option<Override> {
    let read = || {
        let provider = record.provider.parse().ok()?;
        let mut document = record.document.clone();
        document.as_object_mut()?.remove(IMPORTED_FROM);
        let document = serde_json::from_value(document).ok()?;
        let version = u64::try_from(record.version).ok()?;
        Some(Override {
            provider,
            model: record.name.clone(),
            document,
            version,
            set_at: record.effective_from,
        })
    };
    let read = read();
    if read.is_none() {
        tracing::error!(
            provider = record.provider,
            model = record.name,
            "this model's override cannot be read"
        );
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(provider: &str, name: &str, document: &serde_json::Value) -> ModelRecord {
        let at = "2026-11-22T00:00:00Z".parse().unwrap();
        ModelRecord {
            provider: provider.to_owned(),
            name: name.to_owned(),
            effective_from: at,
            version: 1,
            document: document.clone(),
            created_at: at,
        }
    }

    #[test]
    fn what_makes_no_sense_is_left_out_alone_whatever_its_name_is() {
        let built_in = Catalog::built_in().unwrap();
        let priced = json!({"operations": ["chat"], "prices": {"input_per_mtok_usd": "9"}});
        let aliased = json!({"operations": ["chat"], "aliases": ["fast"]});
        let records = [
            said("aaa", "bad", &json!({"operations": []})),
            said("openai", "mine", &json!({"operations": ["chat"], "aliases": ["gpt-4o"]})),
            said("mmm", "one", &aliased),
            said("mmm", "two", &aliased),
            said("zzz", "last", &priced),
        ];
        let (catalog, left_out) = catalog(&built_in, &records);
        let mut names: Vec<String> =
            left_out.iter().map(|out| format!("{}/{}", out.provider, out.model)).collect();
        names.sort();
        assert_eq!(names, ["aaa/bad", "mmm/two", "openai/mine"]);
        assert!(catalog.find("zzz", "last").is_some());
        assert_eq!(catalog.find("mmm", "fast").unwrap().name, "one");
    }

    #[test]
    fn a_model_that_stands_in_the_way_of_a_built_in_one_is_at_fault() {
        let fault = ModelFault::AliasTaken { alias: "fast".to_owned(), taken_by: "fast".to_owned() };
        let error =
            CatalogError::Model { provider: "openai".parse().unwrap(), model: "gpt-4o".to_owned(), fault };
        let named: Vec<String> = culprits(&error).into_iter().map(|(_, model)| model).collect();
        assert_eq!(named, ["gpt-4o", "fast"]);
    }
}
