//! The ceiling of a project: what no sub-key below it may exceed, whatever its own definition says.
//!
//! A field that is left out restricts nothing. Requests are held against the ceiling each time; besides, a definition is
//! refused that exceeds it on its face: what [`Ceiling::excesses`] finds nothing in admits nothing outside the ceiling.

use super::definition::{any, one_of_out, operations_in, texts_in, yes};
use super::{Definition, DefinitionError};
use crate::base::{CidrSet, NanoUsd};
use crate::policy::{BetaGlob, Feature, Glob, OneOf, Operation, Scope};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// A ceiling: the fields of a sub-key that restrict it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own in the contract")]
pub struct Ceiling {
    /// Models that may be admitted.
    #[serde(default = "any_model")]
    pub models: Vec<Glob>,
    /// Models that may not, all the same.
    #[serde(default)]
    pub deny_models: Vec<Glob>,
    /// Beta values that requests may not ask for.
    #[serde(default)]
    pub deny_betas: Vec<BetaGlob>,
    /// Operations that may be admitted.
    #[serde(default = "any", serialize_with = "one_of_out", deserialize_with = "operations_in")]
    pub operations: OneOf<Operation>,
    /// Networks that may be admitted; `null` is any.
    #[serde(default)]
    pub ip_allow: Option<CidrSet>,
    /// The dearest single request, at its worst case.
    #[serde(default)]
    pub max_request_usd: Option<NanoUsd>,
    /// The largest output bound, in tokens.
    #[serde(default)]
    pub max_output_tokens: Option<u64>,
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
    #[serde(default = "yes")]
    pub allow_truncation: bool,
    /// Kinds of tools executed by the provider.
    #[serde(default = "any", serialize_with = "one_of_out", deserialize_with = "texts_in")]
    pub hosted_tools: OneOf<String>,
    /// Service tiers.
    #[serde(default = "any", serialize_with = "one_of_out", deserialize_with = "texts_in")]
    pub service_tiers: OneOf<String>,
    /// Fields that no list knows are refused.
    #[serde(default)]
    pub strict_fields: bool,
    /// Nothing is admitted before.
    #[serde(default)]
    pub not_before: Option<DateTime<Utc>>,
    /// Nothing is admitted from then on.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
}

/// Where a definition exceeds a ceiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The field of the sub-key.
    pub field: &'static str,
    /// What the ceiling allows.
    pub allowed: String,
}

impl Default for Ceiling {
    fn default() -> Self {
        Self {
            models: any_model(),
            deny_models: Vec::new(),
            deny_betas: Vec::new(),
            operations: OneOf::Any,
            ip_allow: None,
            max_request_usd: None,
            max_output_tokens: None,
            allow_streaming: true,
            allow_tools: true,
            allow_images: true,
            allow_audio: true,
            allow_files: true,
            allow_remote_urls: true,
            allow_store: true,
            allow_truncation: true,
            hosted_tools: OneOf::Any,
            service_tiers: OneOf::Any,
            strict_fields: false,
            not_before: None,
            expires_at: None,
        }
    }
}

impl Ceiling {
    /// Checks what types alone cannot; fields are named from the ceiling on.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        for (field, count) in [
            ("/models", self.models.len()),
            ("/deny_models", self.deny_models.len()),
            ("/deny_betas", self.deny_betas.len()),
            ("/ip_allow", self.ip_allow.as_ref().map_or(0, |set| set.iter().count())),
        ] {
            if count > LIST_MAX {
                let detail = format!("at most {LIST_MAX} entries");
                return Err(DefinitionError { field: field.to_owned(), detail });
            }
        }
        if let (Some(start), Some(end)) = (self.not_before, self.expires_at)
            && end <= start
        {
            let detail = "expires_at lies after not_before".to_owned();
            return Err(DefinitionError { field: "/expires_at".to_owned(), detail });
        }
        Ok(())
    }

    /// The scope that requests are held against. What a sub-key itself decides, whether its bounds are lowered instead
    /// of refused, is not in it.
    pub fn scope(&self) -> Scope {
        Scope {
            models: self.models.clone(),
            deny_models: self.deny_models.clone(),
            operations: self.operations.clone(),
            ip_allow: self.ip_allow.clone(),
            features: self.switches().into_iter().filter_map(|(feature, on)| on.then_some(feature)).collect(),
            hosted_tools: self.hosted_tools.clone(),
            deny_betas: self.deny_betas.clone(),
            service_tiers: self.service_tiers.clone(),
            max_output_tokens: self.max_output_tokens,
            clamp_output: false,
            strict_fields: self.strict_fields,
            not_before: self.not_before,
            expires_at: self.expires_at,
        }
    }

    /// Where a definition exceeds it, in the order of the fields. A definition that is not found to lie within does not
    /// for sure: of several patterns or networks each must lie in one of the ceiling's.
    pub fn excesses(&self, definition: &Definition) -> Vec<Excess> {
        let own = definition.scope();
        let mut found = self.excess_models(definition);
        let mut exceeds = |is_so: bool, field: &'static str, allowed: &dyn Fn() -> String| {
            if is_so {
                found.push(Excess { field, allowed: allowed() });
            }
        };
        let missing =
            self.deny_betas.iter().filter(|over| !own.deny_betas.iter().any(|deny| deny.covers(over)));
        let missing: Vec<String> = missing.map(|one| one.as_str().to_owned()).collect();
        exceeds(!missing.is_empty(), "/deny_betas", &|| format!("with {}", shown(missing.iter().cloned())));
        exceeds(!is_within(&own.operations, &self.operations), "/operations", &|| {
            listed(&self.operations, |operation| operation.as_str().to_owned())
        });
        if let Some(networks) = &self.ip_allow {
            let lies_within = definition.ip_allow.as_ref().is_some_and(|own| networks.covers(own));
            exceeds(!lies_within, "/ip_allow", &|| shown(networks.iter().map(|network| network.to_string())));
        }
        if let Some(max) = self.max_request_usd {
            let exceeded = definition.max_request_usd.is_none_or(|own| own > max);
            exceeds(exceeded, "/max_request_usd", &|| format!("at most \"{max}\""));
        }
        if let Some(max) = self.max_output_tokens {
            let exceeded = definition.max_output_tokens.is_none_or(|own| own > max);
            exceeds(exceeded, "/max_output_tokens", &|| format!("at most {max}"));
        }
        for (feature, _) in self.switches().into_iter().filter(|(_, on)| !on) {
            exceeds(own.features.contains(feature), switch(feature), &|| "false".to_owned());
        }
        exceeds(!is_within(&own.hosted_tools, &self.hosted_tools), "/hosted_tools", &|| {
            listed(&self.hosted_tools, Clone::clone)
        });
        exceeds(!is_within(&own.service_tiers, &self.service_tiers), "/service_tiers", &|| {
            listed(&self.service_tiers, Clone::clone)
        });
        exceeds(self.strict_fields && !definition.strict_fields, "/strict_fields", &|| "true".to_owned());
        if let Some(start) = self.not_before {
            let exceeded = definition.not_before.is_none_or(|own| own < start);
            exceeds(exceeded, "/not_before", &|| format!("{} or later", moment(start)));
        }
        if let Some(end) = self.expires_at {
            let exceeded = definition.expires_at.is_none_or(|own| own > end);
            exceeds(exceeded, "/expires_at", &|| format!("{} or sooner", moment(end)));
        }
        found
    }

    fn excess_models(&self, definition: &Definition) -> Vec<Excess> {
        let Definition { models, deny_models, .. } = definition;
        let mut found = Vec::new();
        if !models.iter().all(|own| self.models.iter().any(|over| over.covers(own))) {
            let allowed = shown(self.models.iter().map(|glob| glob.as_str().to_owned()));
            found.push(Excess { field: "/models", allowed });
        }
        let is_denied = |denied: &Glob| {
            let mut touched = models.iter().filter(|own| own.overlaps(denied));
            touched.all(|own| deny_models.iter().any(|deny| deny.covers(denied) || deny.covers(own)))
        };
        let missing: Vec<String> = self
            .deny_models
            .iter()
            .filter(|denied| !is_denied(denied))
            .map(|one| one.as_str().to_owned())
            .collect();
        if !missing.is_empty() {
            found.push(Excess { field: "/deny_models", allowed: format!("with {}", shown(missing)) });
        }
        found
    }

    fn switches(&self) -> [(Feature, bool); 8] {
        [
            (Feature::Streaming, self.allow_streaming),
            (Feature::Tools, self.allow_tools),
            (Feature::Images, self.allow_images),
            (Feature::Audio, self.allow_audio),
            (Feature::Files, self.allow_files),
            (Feature::RemoteUrls, self.allow_remote_urls),
            (Feature::Store, self.allow_store),
            (Feature::Truncation, self.allow_truncation),
        ]
    }
}

const LIST_MAX: usize = 256;

fn any_model() -> Vec<Glob> {
    Glob::parse("*").into_iter().collect()
}

/// The switch of a feature as the field of a sub-key.
fn switch(feature: Feature) -> &'static str {
    match feature {
        Feature::Streaming => "/allow_streaming",
        Feature::Tools => "/allow_tools",
        Feature::Images => "/allow_images",
        Feature::Audio => "/allow_audio",
        Feature::Files => "/allow_files",
        Feature::RemoteUrls => "/allow_remote_urls",
        Feature::Store => "/allow_store",
        Feature::Truncation => "/allow_truncation",
    }
}

fn is_within<T: PartialEq>(inner: &OneOf<T>, outer: &OneOf<T>) -> bool {
    match (inner, outer) {
        (_, OneOf::Any) => true,
        (OneOf::Any, OneOf::Listed(_)) => false,
        (OneOf::Listed(inner), OneOf::Listed(outer)) => inner.iter().all(|one| outer.contains(one)),
    }
}

fn listed<T>(values: &OneOf<T>, text: impl Fn(&T) -> String) -> String {
    match values {
        OneOf::Any => shown(["*".to_owned()]),
        OneOf::Listed(values) => shown(values.iter().map(text)),
    }
}

/// A list as it would be written, cut where it is long.
fn shown(texts: impl IntoIterator<Item = String>) -> String {
    const SHOWN_MAX: usize = 16;
    let all: Vec<String> = texts.into_iter().map(|text| format!("\"{text}\"")).collect();
    let more = if all.len() > SHOWN_MAX { ", ..." } else { "" };
    format!("[{}{more}]", all[..all.len().min(SHOWN_MAX)].join(", "))
}

/// A time as it would be written.
pub(super) fn moment(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests;
