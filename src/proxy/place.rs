//! Which model and which provider a request means.

use super::admit::Admission;
use super::objects::Kept;
use super::reasons::unresolved;
use super::refusal::{Code, Refusal};
use crate::base::clip;
use crate::provider::operation::{Effect, Hole};
use crate::provider::{
    Candidate, Choice, Dialect, ResolveError, Resolved, Slug, deployed, resolve, resolve_provider,
    resolve_unnamed,
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
            if self.names_model() {
                return resolve(&choice, &written.model);
            }
            match kept {
                _ if self.matched.row.effect == Effect::Generates => {
                    let keeper = kept.map(|kept| kept.provider.as_str());
                    resolve_unnamed(&Choice { fixed: choice.fixed.or(keeper), ..choice })
                }
                Some(kept) => at_keeper(&choice, kept),
                None => resolve_provider(&choice).map(without_model),
            }
        };
        // What a ceiling alone refuses goes on to the decision, which names the ceiling; of a model that nobody names it
        // knows nothing.
        let meant = choice(&|name| caller.bounds().admits_model(name)).or_else(|error| match error {
            ResolveError::ModelNotAllowed { .. } if self.names_model() => {
                choice(&|name| caller.key.scope.admits_model(name)).map_err(|_| error)
            }
            error => Err(error),
        });
        let meant = meant.map_err(|error| unresolved(&error))?;
        let provider = snapshot.providers.get(&meant.provider).map(|entry| &entry.provider);
        match provider.and_then(|one| one.stands_for(self.matched.row.dialect, &meant.model)) {
            Some(model) if self.names_model() => {
                let message = format!(
                    "{} is a deployment of {}. Name the model: {model}.",
                    meant.model, meant.provider
                );
                Err(Refusal::new(Code::ModelNotAllowed, clip(&message, 600)).param("model"))
            }
            Some(_) | None => Ok(meant),
        }
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

/// What is done with an object is done where it is kept. Where it is not known which model made it, the key must be one for
/// some model of the keeper's, as for whoever makes such an object.
fn at_keeper(choice: &Choice<'_>, kept: &Kept) -> Result<Resolved, ResolveError> {
    if kept.model.is_none() {
        let there = Choice { fixed: Some(kept.provider.as_str()), ..*choice };
        return resolve_provider(&there).map(without_model);
    }
    let keeper = choice.providers.iter().find(|one| *one.slug == kept.provider);
    if keeper.is_some_and(|keeper| !keeper.dialects.contains(&choice.dialect)) {
        let providers = vec![kept.provider.clone()];
        return Err(ResolveError::DialectNotSupported { providers, dialect: choice.dialect });
    }
    Ok(without_model(kept.provider.clone()))
}

fn without_model(provider: Slug) -> Resolved {
    Resolved { provider, model: String::new(), entry: None, changed: false }
}
