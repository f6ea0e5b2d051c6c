//! What a sub-key is defined as: the fields of mint and patch, validated as a whole.

use crate::base::{CidrSet, NanoUsd};
use crate::budget::{ALERTS_MAX, BudgetSpec, RateLimit, check_rate_limits};
use crate::policy::{BetaGlob, Feature, Glob, OneOf, Operation, Scope};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// The definition of a sub-key. Fields and defaults are the contract's; unknown ones are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the contract")]
pub struct Definition {
    /// Unique in its project.
    pub name: String,
    /// The project that owns it.
    #[serde(default = "default_project")]
    pub project: String,
    /// For people.
    #[serde(default)]
    pub description: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// Models admitted.
    pub models: Vec<Glob>,
    /// Models refused all the same.
    #[serde(default)]
    pub deny_models: Vec<Glob>,
    /// Beta values that requests may not ask for.
    #[serde(default)]
    pub deny_betas: Vec<BetaGlob>,
    /// Operations admitted.
    #[serde(default = "any", serialize_with = "one_of_out", deserialize_with = "operations_in")]
    pub operations: OneOf<Operation>,
    /// Providers to prefer for bare model names.
    #[serde(default)]
    pub provider_order: Vec<String>,
    /// The one credential to use.
    #[serde(default)]
    pub credential: Option<String>,
    /// Networks admitted; `null` is any.
    #[serde(default)]
    pub ip_allow: Option<CidrSet>,
    /// Caps; at most one for each window.
    #[serde(default)]
    pub budgets: Vec<BudgetSpec>,
    /// Rates.
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    /// The dearest single request, at its worst case.
    #[serde(default)]
    pub max_request_usd: Option<NanoUsd>,
    /// The largest output bound a request may state, in tokens.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
    /// The output bound given to requests that state none, in tokens.
    #[serde(default)]
    pub default_max_output_tokens: Option<u64>,
    /// Lower a bound above `max_output_tokens` instead of refusing it.
    #[serde(default)]
    pub clamp_output: bool,
    /// Lower the output bound to what the budget still holds.
    #[serde(default)]
    pub clamp_to_budget: bool,
    /// Streams.
    #[serde(default = "yes")]
    pub allow_streaming: bool,
    /// Tools executed by the client.
    #[serde(default = "yes")]
    pub allow_tools: bool,
    /// Pictures.
    #[serde(default = "yes")]
    pub allow_images: bool,
    /// Sound.
    #[serde(default = "yes")]
    pub allow_audio: bool,
    /// Files and documents.
    #[serde(default = "yes")]
    pub allow_files: bool,
    /// URLs that the provider fetches.
    #[serde(default = "yes")]
    pub allow_remote_urls: bool,
    /// Answers kept by the provider.
    #[serde(default = "yes")]
    pub allow_store: bool,
    /// Input dropped by the provider.
    #[serde(default)]
    pub allow_truncation: bool,
    /// Kinds of tools executed by the provider.
    #[serde(default = "none", serialize_with = "one_of_out", deserialize_with = "texts_in")]
    pub hosted_tools: OneOf<String>,
    /// Service tiers that a request may name.
    #[serde(default = "default_tiers")]
    pub service_tiers: BTreeSet<String>,
    /// Refuse fields that no list knows.
    #[serde(default)]
    pub strict_fields: bool,
    /// Objects belong to the project instead of the key.
    #[serde(default)]
    pub share_objects: bool,
    /// The holder may mint children.
    #[serde(default)]
    pub may_delegate: bool,
    /// Named policies that apply too.
    #[serde(default)]
    pub policies: Vec<serde_json::Value>,
    /// Not valid before.
    #[serde(default)]
    pub not_before: Option<DateTime<Utc>>,
    /// Not valid from then on.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// For people and filters.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// Why a definition does not make sense, with the JSON pointer of the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct DefinitionError {
    /// The field, like `/budgets/1/window`.
    pub field: String,
    /// What is wrong and what to write instead.
    pub detail: String,
}

impl Definition {
    /// Checks what types alone cannot: lengths, twins, and options that this version does not have.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        let error = |field: String, detail: &str| Err(DefinitionError { field, detail: detail.to_owned() });
        let name_ok =
            !self.name.is_empty() && self.name.len() <= 128 && !self.name.chars().any(char::is_control);
        if !name_ok || self.name.trim() != self.name {
            return error(
                "/name".into(),
                "a name has 1 to 128 bytes, no control characters and no spaces around it",
            );
        }
        let texts = [("/description", &self.description), ("/owner", &self.owner)];
        for (field, text) in texts {
            if text.as_ref().is_some_and(|text| text.len() > 1024 || text.contains('\0')) {
                return error(field.into(), "at most 1,024 bytes, and no NUL");
            }
        }
        if self.labels.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
            return error("/labels".into(), "a label holds no NUL");
        }
        validate_budgets(&self.budgets)?;
        validate_rates(&self.rate_limits)?;
        for (field, list, max) in [
            ("/models", self.models.len(), 256),
            ("/deny_models", self.deny_models.len(), 256),
            ("/deny_betas", self.deny_betas.len(), 256),
            ("/ip_allow", self.ip_allow.as_ref().map_or(0, |set| set.iter().count()), 256),
            ("/labels", self.labels.len(), 32),
            ("/provider_order", self.provider_order.len(), 32),
        ] {
            if list > max {
                return error(field.into(), &format!("at most {max} entries"));
            }
        }
        if self.labels.iter().any(|(key, value)| key.is_empty() || key.len() > 64 || value.len() > 256) {
            return error("/labels".into(), "a label's name has 1 to 64 bytes, its value at most 256");
        }
        if let (Some(start), Some(end)) = (self.not_before, self.expires_at)
            && end <= start
        {
            return error("/expires_at".into(), "expires_at lies after not_before");
        }
        if !self.policies.is_empty() {
            return error("/policies/0".into(), "this version has no named policies; leave the list empty");
        }
        if self.may_delegate {
            return error("/may_delegate".into(), "this version cannot delegate; leave it false");
        }
        Ok(())
    }

    /// Checks what only a new definition has to keep to: what is told of budgets and never set.
    pub fn validate_new(&self) -> Result<(), DefinitionError> {
        self.validate()?;
        validate_new_budgets(&self.budgets)
    }

    /// Takes the place of `old` at `now`: windows that have begun end as they would have.
    pub fn succeed(&mut self, old: &Self, now: DateTime<Utc>) {
        succeed_budgets(&mut self.budgets, &old.budgets, now);
    }

    /// The scope that requests are held against.
    pub fn scope(&self) -> Scope {
        let switches = [
            (Feature::Streaming, self.allow_streaming),
            (Feature::Tools, self.allow_tools),
            (Feature::Images, self.allow_images),
            (Feature::Audio, self.allow_audio),
            (Feature::Files, self.allow_files),
            (Feature::RemoteUrls, self.allow_remote_urls),
            (Feature::Store, self.allow_store),
            (Feature::Truncation, self.allow_truncation),
        ];
        Scope {
            models: self.models.clone(),
            deny_models: self.deny_models.clone(),
            operations: self.operations.clone(),
            ip_allow: self.ip_allow.clone(),
            features: switches.into_iter().filter_map(|(feature, on)| on.then_some(feature)).collect(),
            hosted_tools: self.hosted_tools.clone(),
            deny_betas: self.deny_betas.clone(),
            service_tiers: OneOf::Listed(self.service_tiers.iter().cloned().collect()),
            max_output_tokens: self.max_output_tokens,
            clamp_output: self.clamp_output,
            strict_fields: self.strict_fields,
            not_before: self.not_before,
            expires_at: self.expires_at,
        }
    }
}

/// One budget for each window.
pub(super) fn validate_budgets(budgets: &[BudgetSpec]) -> Result<(), DefinitionError> {
    for (index, budget) in budgets.iter().enumerate() {
        if budgets[..index].iter().any(|other| other.window == budget.window) {
            let detail = "there is one budget for each window; this one is twice".to_owned();
            return Err(DefinitionError { field: format!("/budgets/{index}/window"), detail });
        }
        if budget.alert_at.len() > ALERTS_MAX {
            let detail = format!("at most {ALERTS_MAX} entries");
            return Err(DefinitionError { field: format!("/budgets/{index}/alert_at"), detail });
        }
    }
    Ok(())
}

/// What is told of budgets and never set.
pub(super) fn validate_new_budgets(budgets: &[BudgetSpec]) -> Result<(), DefinitionError> {
    match budgets.iter().position(|budget| budget.timezone_before.is_some()) {
        None => Ok(()),
        Some(index) => Err(DefinitionError {
            field: format!("/budgets/{index}/timezone_before"),
            detail: "this is told, not set; leave it out".to_owned(),
        }),
    }
}

/// Budgets take the place of `old` ones at `now`: windows that have begun end as they would have.
pub fn succeed_budgets(budgets: &mut [BudgetSpec], old: &[BudgetSpec], now: DateTime<Utc>) {
    if budgets == old {
        return;
    }
    for budget in budgets {
        budget.timezone_before = None;
        if let Some(before) = old.iter().find(|before| before.window == budget.window) {
            budget.succeed(before, now);
        }
    }
}

/// One limit for each metric and period.
pub(super) fn validate_rates(limits: &[RateLimit]) -> Result<(), DefinitionError> {
    check_rate_limits(limits).map_err(|fault| DefinitionError {
        field: format!("/rate_limits{}", fault.at),
        detail: fault.detail.to_owned(),
    })
}

fn default_project() -> String {
    "default".to_owned()
}

pub(super) fn yes() -> bool {
    true
}

pub(super) fn any<T>() -> OneOf<T> {
    OneOf::Any
}

fn none<T>() -> OneOf<T> {
    OneOf::Listed(Vec::new())
}

fn default_tiers() -> BTreeSet<String> {
    ["auto", "default"].map(str::to_owned).into()
}

pub(super) fn one_of_out<T: Serialize, S: Serializer>(
    value: &OneOf<T>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        OneOf::Any => serializer.collect_seq(["*"]),
        OneOf::Listed(values) => serializer.collect_seq(values),
    }
}

/// `"*"` or one of the values; fails element by element, so that an error's path names the index.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an operation: chat, completions, responses, embeddings, images, audio, moderations, \
    files, batches or \"*\""
)]
enum OperationOrStar {
    Operation(Operation),
    Star(Star),
}

#[derive(Deserialize)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

pub(super) fn operations_in<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<OneOf<Operation>, D::Error> {
    let given = Vec::<OperationOrStar>::deserialize(deserializer)?;
    let listed = given.iter().filter_map(|one| match one {
        OperationOrStar::Operation(operation) => Some(*operation),
        OperationOrStar::Star(Star::Star) => None,
    });
    let listed: Vec<Operation> = listed.collect();
    if let Some(free) = listed.iter().find(|operation| operation.is_free()) {
        let name = free.as_str();
        return Err(serde::de::Error::custom(format!(
            "{name} is free and needs no permission: leave it out"
        )));
    }
    Ok(if listed.len() < given.len() { OneOf::Any } else { OneOf::Listed(listed) })
}

pub(super) fn texts_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OneOf<String>, D::Error> {
    let given = Vec::<String>::deserialize(deserializer)?;
    Ok(if given.iter().any(|one| one == "*") { OneOf::Any } else { OneOf::Listed(given) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Window;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Definition, String> {
        let definition: Definition = serde_json::from_value(value).map_err(|error| error.to_string())?;
        definition.validate().map_err(|error| format!("{}: {}", error.field, error.detail))?;
        Ok(definition)
    }

    #[test]
    fn the_least_definition_has_the_defaults_of_the_contract() {
        let key = read(json!({"name": "ci", "models": []})).unwrap();
        assert_eq!((key.project.as_str(), &key.operations), ("default", &OneOf::Any));
        assert_eq!(key.hosted_tools, OneOf::Listed(vec![]));
        assert!(key.allow_streaming && key.allow_store && !key.allow_truncation && key.ip_allow.is_none());
        assert_eq!(key.scope().features, Scope::default_features());
        assert!(!key.scope().admits_model("openai/gpt-4o"), "an empty list admits nothing");
    }

    #[test]
    fn a_definition_reads_back_as_it_was_written() {
        let value = json!({
            "name": "ci", "models": ["openai/*"], "operations": ["chat"], "ip_allow": ["10.0.0.0/8"],
            "budgets": [{"limit_usd": "25.00", "window": "month", "timezone": "Europe/Berlin", "alert_at": ["0.8"]}],
            "rate_limits": [{"metric": "requests", "limit": 60, "per": "minute"}, {"metric": "concurrent_requests", "limit": 8}],
            "labels": {"team": "search"}, "expires_at": "2027-01-01T00:00:00Z",
        });
        let key = read(value.clone()).unwrap();
        assert_eq!(key.budgets[0].window, Window::Month);
        let out = serde_json::to_value(&key).unwrap();
        for (field, wanted) in value.as_object().unwrap() {
            assert_eq!(&out[field], wanted, "{field}");
        }
        assert_eq!(read(out).unwrap(), key);
    }

    #[test]
    fn bad_definitions_are_refused_by_field() {
        let with = |field: &str, value: serde_json::Value| {
            let mut key = json!({"name": "ci", "models": ["*"]});
            key[field] = value;
            read(key).expect_err(field)
        };
        assert!(read(json!({"name": "ci"})).unwrap_err().contains("models"));
        assert!(with("budget", json!(1)).contains("unknown field `budget`"));
        assert!(with("budgets", json!([{"limit_usd": 5, "window": "day"}])).contains("string"));
        let twice = json!([{"limit_usd": "5", "window": "day"}, {"limit_usd": "6", "window": "day"}]);
        assert!(with("budgets", twice).starts_with("/budgets/1/window"));
        assert!(with("ip_allow", json!(["10.0.0.1/8"])).contains("host bits"));
        assert!(with("models", json!(["gpt-4o"])).contains("provider/model"));
        assert!(with("deny_betas", json!(["Context-1M"])).contains("a beta pattern"));
        assert!(with("operations", json!(["chats"])).contains("an operation"));
        assert!(with("rate_limits", json!([{"metric": "requests", "limit": 1}])).contains("per"));
        assert!(with("may_delegate", json!(true)).starts_with("/may_delegate"));
        assert!(with("name", json!(" x")).starts_with("/name"));
    }
}
