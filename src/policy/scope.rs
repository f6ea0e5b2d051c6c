//! A scope: the part of a policy that a request is held against.

use super::{Feature, FeatureSet, Glob, Operation};
use crate::base::CidrSet;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

/// What is admitted. Empty lists admit nothing; `None` means "any" only where it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Models admitted, as patterns over `provider/model`.
    pub models: Vec<Glob>,
    /// Models refused whatever `models` says.
    pub deny_models: Vec<Glob>,
    /// Operations admitted.
    pub operations: OneOf<Operation>,
    /// Networks admitted; `None` is any address.
    pub ip_allow: Option<CidrSet>,
    /// Features admitted.
    pub features: FeatureSet,
    /// Kinds of provider-executed tools admitted.
    pub hosted_tools: OneOf<String>,
    /// Service tiers that a request may name.
    pub service_tiers: BTreeSet<String>,
    /// The largest output bound a request may state, in tokens, for each candidate.
    pub max_output_tokens: Option<u64>,
    /// A bound above `max_output_tokens` is lowered instead of refused.
    pub clamp_output: bool,
    /// Requests with fields that no list knows are refused.
    pub strict_fields: bool,
    /// Not admitted before this time.
    pub not_before: Option<DateTime<Utc>>,
    /// Not admitted from this time on.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Everything, or only what is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOf<T> {
    /// Written `["*"]`.
    Any,
    /// Written as the list itself.
    Listed(Vec<T>),
}

impl<T> OneOf<T> {
    /// Whether the value is admitted.
    pub fn admits<Q: ?Sized>(&self, value: &Q) -> bool
    where
        T: PartialEq<Q>,
    {
        match self {
            Self::Any => true,
            Self::Listed(values) => values.iter().any(|one| one == value),
        }
    }
}

impl Scope {
    /// Whether the model (`provider/model`) is admitted: listed and not denied.
    pub fn admits_model(&self, name: &str) -> bool {
        self.models.iter().any(|glob| glob.matches(name))
            && !self.deny_models.iter().any(|glob| glob.matches(name))
    }

    /// The features of a scope that says nothing about them: all but truncation.
    pub fn default_features() -> FeatureSet {
        Feature::ALL.into_iter().filter(|feature| *feature != Feature::Truncation).collect()
    }
}
