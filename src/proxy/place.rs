//! Which model and which provider a request means.

use super::admit::Admission;
use super::objects::Kept;
use super::reasons::unresolved;
use super::refusal::{Code, Refusal};
use crate::base::clip;
use crate::provider::operation::Hole;
use crate::provider::{
    Candidate, Choice, Dialect, ResolveError, Resolved, Slug, deployed, resolve, resolve_provider,
};
use crate::service::{Caller, Snapshot};

/// What a request's path and body say of its model.
struct Written {
    model: String,
    provider: Option<String>,
}

impl Admission<'_> {
    pub(super) fn resolve(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
        kept: Option<&Kept>,
    ) -> Result<Resolved, Refusal> {
        let definition = &caller.key.subkey.definition;
        let dialects: Vec<Vec<Dialect>> = snapshot
            .providers
            .values()
            .map(|entry| entry.provider.dialects.keys().copied().collect())
            .collect();
        let usable = |entry: &crate::service::ProviderEntry| {
            let pin = definition.credential.as_deref();
            entry.active && entry.credentials.iter().any(|one| one.is_usable(&caller.lineage, pin))
        };
        let candidates: Vec<Candidate<'_>> = snapshot
            .providers
            .iter()
            .zip(&dialects)
            .map(|((slug, entry), dialects)| Candidate { slug, dialects, usable: usable(entry) })
            .collect();
        // Who keeps what the request names goes before anybody's order.
        let keeper = kept.map(|kept| kept.provider.clone()).into_iter();
        let preferred = caller.lineage.provider_order(&definition.provider_order);
        let order: Vec<Slug> =
            keeper.chain(preferred).chain(self.proxy.services.provider_order.iter().cloned()).collect();
        let written = self.written(snapshot)?;
        let choice = |allowed: &dyn Fn(&str) -> bool| {
            let choice = Choice {
                catalog: &snapshot.catalog,
                providers: &candidates,
                dialect: self.matched.row.dialect,
                operation: self.matched.row.operation,
                fixed: written.provider.as_deref(),
                allowed,
                provider_order: &order,
            };
            if !self.names_model() {
                let provider = match kept {
                    Some(kept) => kept.provider.clone(),
                    None => resolve_provider(&choice)?,
                };
                return Ok(Resolved { provider, model: String::new(), entry: None, changed: false });
            }
            resolve(&choice, &written.model)
        };
        // What a ceiling alone refuses goes on to the decision, which names the ceiling.
        let meant = choice(&|name| caller.bounds().admits_model(name)).or_else(|error| match error {
            ResolveError::ModelNotAllowed { .. } => {
                choice(&|name| caller.key.scope.admits_model(name)).map_err(|_| error)
            }
            error => Err(error),
        });
        meant.map_err(|error| unresolved(&error))
    }

    /// Whether there is a model to be found: what is done with an object is done wherever that is, and some operations
    /// leave the model to the provider.
    pub(super) fn names_model(&self) -> bool {
        self.matched.model().is_some() || !self.ask.models.is_empty()
    }

    /// The model that the request means, and the provider that the path fixes, before any alias is resolved.
    fn written(&self, snapshot: &Snapshot) -> Result<Written, Refusal> {
        let mut in_body = self.ask.models.iter().map(|model| model.name.as_str());
        let fixed = self.matched.provider;
        let Some(named) = self.matched.model() else {
            let model = in_body.next().unwrap_or_default().to_owned();
            return Ok(Written { model, provider: fixed.map(str::to_owned) });
        };
        let (model, provider) = if self.matched.row.template.hole() == Some(Hole::Deployment) {
            let among = snapshot.providers.values().map(|entry| &entry.provider);
            let among = among.filter(|one| fixed.is_none_or(|fixed| fixed == one.slug.as_str()));
            let means = deployed(among, named)
                .map_err(|error| Refusal::new(Code::ModelAmbiguous, clip(&error.to_string(), 600)))?;
            (means.model, means.provider.map(|slug| slug.to_string()))
        } else {
            (named.to_owned(), None)
        };
        if let Some(other) = in_body.find(|other| *other != named && *other != model) {
            let message = format!("The path names the model {named}, the body {other}. Name one.");
            return Err(Refusal::new(Code::ModelAmbiguous, clip(&message, 600)).param("model"));
        }
        Ok(Written { model, provider: provider.or(fixed.map(str::to_owned)) })
    }
}
