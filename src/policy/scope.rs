//! A scope: the part of a policy that a request is held against; and the ceilings over it, which it does not exceed.

use super::{BetaGlob, Feature, FeatureSet, Glob, Operation};
use crate::base::CidrSet;
use chrono::{DateTime, Utc};

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
    /// Beta values refused.
    pub deny_betas: Vec<BetaGlob>,
    /// Service tiers that a request may name.
    pub service_tiers: OneOf<String>,
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

/// A scope that nothing below it exceeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// Whose it is, for messages.
    pub project: String,
    /// What may be admitted below it at most. Whether an output bound above it is lowered instead of refused is up to
    /// who stands below: lowered, it lies within.
    pub scope: Scope,
}

/// What a request is held against: a scope, and the ceilings over it, nearest first. Only what all of them admit is
/// admitted.
#[derive(Clone, Copy, Debug)]
pub struct Bounds<'a> {
    own: &'a Scope,
    ceilings: &'a [Ceiling],
}

/// One of the scopes of [`Bounds`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Bound<'a> {
    pub(super) scope: &'a Scope,
    /// Whose ceiling it is; `None` for the innermost scope.
    pub(super) project: Option<&'a str>,
    pub(super) clamp_output: bool,
}

impl<'a> Bounds<'a> {
    /// A scope under ceilings, given nearest first.
    pub fn new(own: &'a Scope, ceilings: &'a [Ceiling]) -> Self {
        Self { own, ceilings }
    }

    /// Each scope, the innermost first.
    pub(super) fn iter(self) -> impl Iterator<Item = Bound<'a>> {
        let clamp_output = self.own.clamp_output;
        let above = self.ceilings.iter().map(move |ceiling| Bound {
            scope: &ceiling.scope,
            project: Some(&ceiling.project),
            clamp_output,
        });
        std::iter::once(Bound { scope: self.own, project: None, clamp_output }).chain(above)
    }

    /// Whether the model (`provider/model`) is admitted by all.
    pub fn admits_model(self, name: &str) -> bool {
        self.iter().all(|bound| bound.scope.admits_model(name))
    }

    /// The largest output bound that a request may state, in tokens, for each candidate.
    pub fn max_output_tokens(self) -> Option<u64> {
        self.iter().filter_map(|bound| bound.scope.max_output_tokens).min()
    }
}

impl<'a> From<&'a Scope> for Bounds<'a> {
    fn from(own: &'a Scope) -> Self {
        Self { own, ceilings: &[] }
    }
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

    /// Whether a request may ask for the beta value, which is in lower case.
    pub fn admits_beta(&self, value: &str) -> bool {
        !self.deny_betas.iter().any(|glob| glob.matches(value))
    }

    /// The features of a scope that says nothing about them: all but truncation.
    pub fn default_features() -> FeatureSet {
        Feature::ALL.into_iter().filter(|feature| *feature != Feature::Truncation).collect()
    }
}
