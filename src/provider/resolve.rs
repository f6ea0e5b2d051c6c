//! Which provider and model a name means.
//!
//! A name means one thing or it is refused: two answers to "which model" are an error that names them. What comes out
//! is what is checked, priced, sent and logged. Names are compared byte for byte: no trimming, no folding of case.

mod unnamed;

pub use unnamed::resolve_unnamed;

use super::catalog::Catalog;
use super::dialect::Dialect;
use super::model::Model;
use super::slug::Slug;
use super::wellknown::keeps_files;
use crate::policy::Operation;
use std::sync::Arc;

/// A provider that exists, as one key sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// Its slug.
    pub slug: &'a Slug,
    /// The dialects that it speaks.
    pub dialects: &'a [Dialect],
    /// It has an active credential that the key may use.
    pub usable: bool,
}

/// What a name is resolved among.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// What is served by whom.
    pub catalog: &'a Catalog,
    /// Every provider that exists, usable or not.
    pub providers: &'a [Candidate<'a>],
    /// The request's dialect.
    pub dialect: Dialect,
    /// What the request does.
    pub operation: Operation,
    /// The provider that the path names (`/p/{provider}`).
    pub fixed: Option<&'a str>,
    /// Whether the key's scope admits `provider/model`.
    pub allowed: &'a dyn Fn(&str) -> bool,
    /// The order for bare names that several serve: the key's, its project's, the configuration's, one after the other.
    pub provider_order: &'a [Slug],
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The provider to send to.
    pub provider: Slug,
    /// The name to send.
    pub model: String,
    /// The catalog's entry; `None` for a name in no catalog, which has no price.
    pub entry: Option<Arc<Model>>,
    /// The name to send is not the name that was written.
    pub changed: bool,
}

/// Why a name means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The path names a provider that does not exist.
    #[error("there is no provider {0:?}")]
    UnknownProvider(String),
    /// The name is empty, or nothing follows the provider.
    #[error("name a model")]
    ModelRequired,
    /// Without a model the provider takes one of its own, and the key may not use every one that this could be.
    #[error(
        "without a model the provider takes one of its own, and this key may not use all of them: name a model"
    )]
    AnyModel,
    /// No provider that serves the model is one whose models the key may use.
    #[error("this key may not use the model {model:?}")]
    ModelNotAllowed {
        /// As written.
        model: String,
    },
    /// The key may use the model, but no provider that serves it has an active credential for the key.
    #[error("no provider with an active credential for this key serves {model:?}")]
    NoCredential {
        /// As written.
        model: String,
    },
    /// The providers that remain do not speak the request's dialect.
    #[error("{} does not speak the {} dialect", join(.providers), .dialect.as_str())]
    DialectNotSupported {
        /// Who would serve it in another dialect.
        providers: Vec<Slug>,
        /// The request's dialect.
        dialect: Dialect,
    },
    /// The catalog says that the model does something else.
    #[error("{model:?} does not serve {}", .operation.as_str())]
    OperationNotServed {
        /// As written.
        model: String,
        /// What the request does.
        operation: Operation,
    },
    /// Several providers remain.
    #[error("several providers serve {model:?}: write one of {}", write_one(.providers, .model))]
    ModelAmbiguous {
        /// As written.
        model: String,
        /// Who serves it.
        providers: Vec<Slug>,
    },
    /// An operation without a model that several providers, or none, would serve.
    #[error("name the provider in the path, /p/{{provider}}/...; for this key it could be {}", join(.providers))]
    ProviderAmbiguous {
        /// Who would serve it.
        providers: Vec<Slug>,
    },
}

/// Says which provider and model `written` means.
pub fn resolve(choice: &Choice<'_>, written: &str) -> Result<Resolved, ResolveError> {
    let named = |slug: &str| choice.providers.iter().find(|candidate| candidate.slug.as_str() == slug);
    if let Some(fixed) = choice.fixed {
        let candidate = named(fixed).ok_or_else(|| ResolveError::UnknownProvider(fixed.to_owned()))?;
        return one(choice, written, &[Offer::of(choice, candidate, written)], written);
    }
    if let Some((slug, model)) = written.split_once('/')
        && let Some(candidate) = named(slug)
    {
        return one(choice, model, &[Offer::of(choice, candidate, model)], written);
    }
    let offers: Vec<_> =
        choice.providers.iter().map(|candidate| Offer::of(choice, candidate, written)).collect();
    if offers.iter().any(|offer| offer.entry.is_some()) {
        let known: Vec<_> = offers.into_iter().filter(|offer| offer.entry.is_some()).collect();
        one(choice, written, &known, written)
    } else {
        // Nobody is known to serve it, so an order of preference says nothing: only a single answer will do.
        one(&Choice { provider_order: &[], ..*choice }, written, &offers, written)
    }
}

/// Says which provider an operation without a model goes to.
pub fn resolve_provider(choice: &Choice<'_>) -> Result<Slug, ResolveError> {
    if let Some(fixed) = choice.fixed {
        let candidate = choice.providers.iter().find(|candidate| candidate.slug.as_str() == fixed);
        let candidate = candidate.ok_or_else(|| ResolveError::UnknownProvider(fixed.to_owned()))?;
        return the_named(choice, candidate);
    }
    let fits = |candidate: &&Candidate<'_>| {
        candidate.usable
            && candidate.dialects.contains(&choice.dialect)
            && admits_any(choice, candidate.slug)
            && serves(choice, candidate.slug)
    };
    let fitting: Vec<_> =
        choice.providers.iter().filter(fits).map(|candidate| candidate.slug.clone()).collect();
    match <[Slug; 1]>::try_from(fitting) {
        Ok([only]) => Ok(only),
        Err(providers) => Err(ResolveError::ProviderAmbiguous { providers }),
    }
}

fn the_named(choice: &Choice<'_>, candidate: &Candidate<'_>) -> Result<Slug, ResolveError> {
    let slug = candidate.slug;
    let any_model = || format!("{slug}/*");
    if !admits_any(choice, slug) {
        return Err(ResolveError::ModelNotAllowed { model: any_model() });
    }
    if !candidate.usable {
        return Err(ResolveError::NoCredential { model: any_model() });
    }
    if !candidate.dialects.contains(&choice.dialect) {
        return Err(ResolveError::DialectNotSupported {
            providers: vec![slug.clone()],
            dialect: choice.dialect,
        });
    }
    Ok(slug.clone())
}

/// One provider's answer to a name.
struct Offer<'a> {
    candidate: &'a Candidate<'a>,
    /// Its own name for the model.
    model: &'a str,
    entry: Option<&'a Arc<Model>>,
}

impl<'a> Offer<'a> {
    fn of(choice: &Choice<'a>, candidate: &'a Candidate<'a>, written: &'a str) -> Self {
        let entry = choice.catalog.find(candidate.slug.as_str(), written);
        Self { candidate, model: entry.map_or(written, |entry| &entry.name), entry }
    }

    fn slug(&self) -> Slug {
        self.candidate.slug.clone()
    }
}

/// The one offer that passes every sieve. The first sieve that nothing passes says why there is none; the key's scope
/// comes first, so that a key learns nothing of what it may not use.
fn one(
    choice: &Choice<'_>,
    model: &str,
    offers: &[Offer<'_>],
    written: &str,
) -> Result<Resolved, ResolveError> {
    if model.is_empty() {
        return Err(ResolveError::ModelRequired);
    }
    let name = || written.to_owned();
    let allowed =
        sieve(offers.iter(), |offer| (choice.allowed)(&format!("{}/{}", offer.candidate.slug, offer.model)));
    let allowed = allowed.ok_or_else(|| ResolveError::ModelNotAllowed { model: name() })?;
    let usable = sieve(allowed.into_iter(), |offer| offer.candidate.usable);
    let usable = usable.ok_or_else(|| ResolveError::NoCredential { model: name() })?;
    let serving =
        sieve(usable.into_iter(), |offer| offer.entry.is_none_or(|entry| entry.serves(choice.operation)));
    let serving = serving
        .ok_or_else(|| ResolveError::OperationNotServed { model: name(), operation: choice.operation })?;
    let would_serve: Vec<_> = serving.iter().map(|offer| offer.slug()).collect();
    let speaking = sieve(serving.into_iter(), |offer| offer.candidate.dialects.contains(&choice.dialect));
    let speaking = speaking
        .ok_or(ResolveError::DialectNotSupported { providers: would_serve, dialect: choice.dialect })?;

    let preferred = || {
        choice
            .provider_order
            .iter()
            .find_map(|slug| speaking.iter().find(|offer| offer.candidate.slug == slug))
    };
    let offer = match speaking.as_slice() {
        [only] => only,
        several => preferred().ok_or_else(|| ResolveError::ModelAmbiguous {
            model: name(),
            providers: several.iter().map(|offer| offer.slug()).collect(),
        })?,
    };
    Ok(Resolved {
        provider: offer.slug(),
        model: offer.model.to_owned(),
        entry: offer.entry.cloned(),
        changed: offer.model != written,
    })
}

/// What passes; `None` if nothing does.
fn sieve<'a, 'b: 'a>(
    offers: impl Iterator<Item = &'a Offer<'b>>,
    passes: impl Fn(&Offer<'b>) -> bool,
) -> Option<Vec<&'a Offer<'b>>> {
    let kept: Vec<_> = offers.filter(|offer| passes(offer)).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Whether the key may use any model of the provider: one of the catalog, or any at all.
fn admits_any(choice: &Choice<'_>, slug: &Slug) -> bool {
    let admits = |model: &str| (choice.allowed)(&format!("{slug}/{model}"));
    admits("") || choice.catalog.models_of(slug.as_str()).any(|model| admits(&model.name))
}

/// Whether the provider is known to serve an operation that has no model. What it keeps for us is in no catalog: of files
/// it is known which well-known providers keep them, and everybody else may.
fn serves(choice: &Choice<'_>, slug: &Slug) -> bool {
    match choice.operation {
        Operation::Files => keeps_files(slug.as_str(), choice.dialect),
        Operation::Batches | Operation::Models => true,
        operation => choice.catalog.models_of(slug.as_str()).any(|model| model.serves(operation)),
    }
}

fn join(slugs: &[Slug]) -> String {
    if slugs.is_empty() {
        return "none".to_owned();
    }
    slugs.iter().map(Slug::as_str).collect::<Vec<_>>().join(", ")
}

fn write_one(slugs: &[Slug], model: &str) -> String {
    slugs.iter().map(|slug| format!("{slug}/{model}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
