//! Which provider an operation goes to that was asked for without its model, where the provider has one of its own for it.
//!
//! Nobody here knows which one the provider takes. So the key must be allowed each that the catalog knows it could be, and
//! the request is priced only where it makes no difference which it is.

use super::{Candidate, Choice, ResolveError, Resolved};
use crate::provider::Model;
use std::sync::Arc;

/// One provider, and its models that serve the operation.
struct Offer<'a> {
    candidate: &'a Candidate<'a>,
    models: Vec<&'a Arc<Model>>,
}

/// Says which provider serves the operation without a model. The model that comes out is empty: nothing is put into the
/// request.
///
/// # Errors
/// As [`super::resolve`]; several providers are [`ResolveError::ProviderAmbiguous`].
pub fn resolve_unnamed(choice: &Choice<'_>) -> Result<Resolved, ResolveError> {
    let is_meant = |one: &&Candidate<'_>| choice.fixed.is_none_or(|fixed| fixed == one.slug.as_str());
    let meant: Vec<&Candidate<'_>> = choice.providers.iter().filter(is_meant).collect();
    if let Some(fixed) = choice.fixed.filter(|_| meant.is_empty()) {
        return Err(ResolveError::UnknownProvider(fixed.to_owned()));
    }
    let offers = meant.into_iter().map(|candidate| {
        let of_it = choice.catalog.models_of(candidate.slug.as_str());
        Offer { candidate, models: of_it.filter(|model| model.serves(choice.operation)).collect() }
    });
    let known = sieve(offers, |offer| !offer.models.is_empty()).ok_or(ResolveError::ModelRequired)?;
    let admits = |model: &&Arc<Model>| (choice.allowed)(&format!("{}/{}", model.provider, model.name));
    let allowed = sieve(known, |offer| offer.models.iter().all(admits)).ok_or(ResolveError::AnyModel)?;
    let usable = sieve(allowed, |offer| offer.candidate.usable);
    let usable =
        usable.ok_or_else(|| ResolveError::NoCredential { model: choice.operation.as_str().to_owned() })?;
    let would_serve = slugs(&usable);
    let speaking = sieve(usable, |offer| offer.candidate.dialects.contains(&choice.dialect));
    let speaking = speaking
        .ok_or(ResolveError::DialectNotSupported { providers: would_serve, dialect: choice.dialect })?;
    let [Offer { candidate, models }] = speaking.as_slice() else {
        return Err(ResolveError::ProviderAmbiguous { providers: slugs(&speaking) });
    };
    let (first, others) = models.split_first().ok_or(ResolveError::ModelRequired)?;
    let entry = others.iter().all(|other| other.costs_as(first)).then(|| Arc::clone(first));
    Ok(Resolved { provider: candidate.slug.clone(), model: String::new(), entry, changed: false })
}

fn sieve<'a>(
    offers: impl IntoIterator<Item = Offer<'a>>,
    passes: impl Fn(&Offer<'a>) -> bool,
) -> Option<Vec<Offer<'a>>> {
    let kept: Vec<_> = offers.into_iter().filter(|offer| passes(offer)).collect();
    (!kept.is_empty()).then_some(kept)
}

fn slugs(offers: &[Offer<'_>]) -> Vec<super::Slug> {
    offers.iter().map(|offer| offer.candidate.slug.clone()).collect()
}
