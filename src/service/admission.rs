//! What a request of one caller comes to: whether its key may do anything, the model that it means, what policy is told
//! of it and what it costs at most.
//!
//! Nothing here is spent, sent or written. The proxy goes by it, and `explain` tells it: what decides is here once, so that
//! the two cannot come apart.

mod keeper;

pub use keeper::{KeeperError, Kept};

use super::{Caller, Snapshot, Standing};
use crate::base::NanoUsd;
use crate::policy::BodyFacts;
use crate::provider::ask::Ask;
use crate::provider::operation::{Effect, Hole, Matched, Row};
use crate::provider::{
    AmbiguousDeployment, Candidate, Choice, Dialect, Estimate, Model, PriceVersion, ResolveError, Resolved,
    Slug, Terms, Unpriced, deployed, resolve, resolve_provider, resolve_unnamed, unheld, worst_case,
};
use crate::subkey::State;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Why a key does nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Its record was changed outside of Bitting.
    Tampered,
    /// An operator stopped this project above it.
    ProjectSuspended(String),
    /// The record of this project above it was changed outside of Bitting.
    ProjectUnusable(String),
    /// It was revoked.
    Revoked,
    /// An operator stopped it.
    Suspended,
    /// Its time has not come.
    NotYetValid,
    /// Its time is over.
    Expired,
}

impl Caller {
    /// Why the key does nothing at `now`; `None` where it may be used.
    pub fn stopped(&self, now: DateTime<Utc>) -> Option<Stopped> {
        let definition = &self.key.subkey.definition;
        if self.key.tampered {
            return Some(Stopped::Tampered);
        }
        let is_revoked = self.key.subkey.state == State::Revoked;
        match self.lineage.standing() {
            Standing::Suspended { project } if !is_revoked => {
                return Some(Stopped::ProjectSuspended(project.clone()));
            }
            Standing::Unusable { project } if !is_revoked => {
                return Some(Stopped::ProjectUnusable(project.clone()));
            }
            Standing::Active | Standing::Suspended { .. } | Standing::Unusable { .. } => {}
        }
        match self.key.subkey.state {
            State::Revoked => Some(Stopped::Revoked),
            State::Suspended => Some(Stopped::Suspended),
            State::Active if definition.not_before.is_some_and(|start| now < start) => {
                Some(Stopped::NotYetValid)
            }
            State::Active if definition.expires_at.is_some_and(|end| now >= end) => Some(Stopped::Expired),
            State::Active => None,
        }
    }
}

/// A request as it was read, and what it is held against.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    /// Whose it is.
    pub caller: &'a Caller,
    /// The providers, credentials and models that there are.
    pub snapshot: &'a Snapshot,
    /// Whom bare model names prefer at last.
    pub provider_order: &'a [Slug],
    /// What it asks for.
    pub matched: &'a Matched<'a>,
    /// What its body says.
    pub ask: &'a Ask,
    /// When it came.
    pub now: DateTime<Utc>,
}

/// Why it is not known which model and provider are meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// The name means nothing that the key may use.
    #[error(transparent)]
    Unresolved(#[from] ResolveError),
    /// The deployment in the path is of several providers.
    #[error(transparent)]
    Ambiguous(#[from] AmbiguousDeployment),
    /// Path and body name different models.
    #[error("The path names the model {in_path}, the body {in_body}. Name one.")]
    Twice {
        /// The one of the path.
        in_path: String,
        /// The one of the body.
        in_body: String,
    },
    /// A deployment's name stands in a model's place.
    #[error("{name} is a deployment of {provider}. Name the model: {model}.")]
    Deployment {
        /// What was named.
        name: String,
        /// Whose deployment it is.
        provider: Slug,
        /// What it stands for.
        model: String,
    },
}

/// The prices that a request was admitted by and is settled by.
#[derive(Clone, Debug)]
pub struct Priced {
    /// The catalog's entry.
    pub model: Arc<Model>,
    /// Its prices at the time.
    pub version: PriceVersion,
    /// The worst case by them.
    pub estimate: Estimate,
    /// The estimate is the most that it can cost; otherwise nothing caps it, and it is charged by what the answer tells.
    pub is_bounded: bool,
}

/// Why a request is refused for its price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unpayable {
    /// A cap binds, and there is no price or no bound.
    Unpriced(Unpriced),
    /// One request may not cost so much.
    TooExpensive {
        /// What it can cost.
        worst: NanoUsd,
        /// What one may.
        max: NanoUsd,
    },
}

/// What a request's path and body say of its model.
struct Written {
    model: String,
    provider: Option<String>,
}

impl Case<'_> {
    /// Which model of which provider is meant. `kept` is where the objects are that the request names.
    ///
    /// # Errors
    /// No one answer to that.
    pub fn resolve(&self, kept: Option<&Kept>) -> Result<Resolved, Misplaced> {
        let Self { caller, snapshot, .. } = *self;
        let definition = &caller.key.subkey.definition;
        let dialects: Vec<Vec<Dialect>> = snapshot
            .providers
            .values()
            .map(|entry| entry.provider.dialects.keys().copied().collect())
            .collect();
        let candidates: Vec<Candidate<'_>> = snapshot
            .providers
            .iter()
            .zip(&dialects)
            .map(|((slug, entry), dialects)| Candidate { slug, dialects, usable: self.is_usable(entry) })
            .collect();
        // Who keeps what the request names goes before anybody's order.
        let keeper = kept.map(|kept| kept.provider.clone()).into_iter();
        let preferred = caller.lineage.provider_order(&definition.provider_order);
        let order: Vec<Slug> = keeper.chain(preferred).chain(self.provider_order.iter().cloned()).collect();
        let written = self.written()?;
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
        })?;
        let provider = snapshot.providers.get(&meant.provider).map(|entry| &entry.provider);
        match provider.and_then(|one| one.stands_for(self.matched.row.dialect, &meant.model)) {
            Some(model) if self.names_model() => Err(Misplaced::Deployment {
                name: meant.model.clone(),
                provider: meant.provider.clone(),
                model: model.to_owned(),
            }),
            Some(_) | None => Ok(meant),
        }
    }

    fn names_model(&self) -> bool {
        self.matched.names_model(self.ask)
    }

    fn is_usable(&self, entry: &super::ProviderEntry) -> bool {
        let pin = self.caller.key.subkey.definition.credential.as_deref();
        entry.active && entry.credentials.iter().any(|one| one.is_usable(&self.caller.lineage, pin))
    }

    /// The model that the request means, and the provider that the path fixes, before any alias is resolved.
    fn written(&self) -> Result<Written, Misplaced> {
        let mut in_body = self.ask.models.iter().map(|model| model.name.as_str());
        let fixed = self.matched.provider;
        let Some(named) = self.matched.model() else {
            let model = in_body.next().unwrap_or_default().to_owned();
            return Ok(Written { model, provider: fixed.map(str::to_owned) });
        };
        let (model, provider) = if self.matched.row.template.hole() == Some(Hole::Deployment) {
            let among = self.snapshot.providers.values().map(|entry| &entry.provider);
            let among = among.filter(|one| fixed.is_none_or(|fixed| fixed == one.slug.as_str()));
            let means = deployed(among, named)?;
            (means.model, means.provider.map(|slug| slug.to_string()))
        } else {
            (named.to_owned(), None)
        };
        if let Some(other) = in_body.find(|other| *other != named && *other != model) {
            return Err(Misplaced::Twice { in_path: named.to_owned(), in_body: other.to_owned() });
        }
        Ok(Written { model, provider: provider.or(fixed.map(str::to_owned)) })
    }

    /// What the policy is told of the body.
    pub fn facts(&self, resolved: &Resolved, kept: Option<&Kept>) -> BodyFacts {
        let maker = kept.and_then(|kept| kept.model.as_ref());
        let model = if self.names_model() { Some(&resolved.model) } else { maker };
        let floor = self.ask.output.floor;
        BodyFacts {
            model: model.map(|model| format!("{}/{model}", resolved.provider)),
            features: self.ask.features,
            hosted_tools: self.ask.hosted_tools.iter().map(|tool| tool.kind.clone()).collect(),
            betas: self.ask.betas.clone(),
            service_tier: self.ask.service_tier.clone(),
            unknown_fields: self.ask.unknown_fields.clone(),
            output_bound: self.effective_output_bound(resolved).map(|bound| bound.max(floor)),
        }
    }

    /// The bound that the provider will go by: stated, else the key's default, else the model's ceiling;
    /// without any, none is known.
    fn effective_output_bound(&self, resolved: &Resolved) -> Option<u64> {
        if !self.matched.row.takes_bound() {
            return None;
        }
        let listed = resolved.entry.as_ref().and_then(|model| model.max_output_tokens);
        let ceiling = self.ask.output_ceiling(listed);
        let stated = self.ask.output.bounds.iter().map(|bound| bound.tokens).max();
        // A default above the ceiling would be refused by the provider.
        let default = self.caller.key.subkey.definition.default_max_output_tokens;
        let default = default.map(|default| ceiling.map_or(default, |ceiling| default.min(ceiling)));
        Some(stated.or(default).or(ceiling).unwrap_or(u64::MAX))
    }

    /// The output bound that the request is to be given, where that is not the one it states.
    pub fn given_output_bound(&self, resolved: &Resolved) -> Option<u64> {
        let definition = &self.caller.key.subkey.definition;
        let effective = self.effective_output_bound(resolved)?;
        let clamped = match self.caller.bounds().max_output_tokens() {
            Some(max) if definition.clamp_output => effective.min(max),
            _ => effective,
        };
        let stated = self.ask.output.bounds.iter().map(|bound| bound.tokens).max();
        match stated {
            Some(stated) => (clamped != stated).then_some(clamped),
            None => {
                (clamped != effective || definition.default_max_output_tokens.is_some()).then_some(clamped)
            }
        }
    }

    /// What the request costs at most, whether that may be or not; `None` where it is free.
    pub fn estimate(&self, resolved: &Resolved) -> Option<Result<Priced, Unpriced>> {
        let row = self.matched.row;
        (!row.is_free()).then(|| {
            let unpriced = || Unpriced::Model { direction: "input and output" };
            let model = resolved.entry.as_ref().ok_or_else(unpriced)?;
            let version = model.prices_at(self.now).ok_or_else(unpriced)?;
            let definition = &self.caller.key.subkey.definition;
            let terms = Terms {
                default_max_output_tokens: definition.default_max_output_tokens.filter(|_| row.takes_bound()),
                service_tiers: &definition.service_tiers,
            };
            let worst = worst_case(model, version, row.operation, self.ask, terms);
            let is_bounded = worst.is_ok();
            let estimate = match worst {
                Err(Unpriced::Feature { .. } | Unpriced::Unbounded { .. }) if !self.caller.is_capped() => {
                    unheld(model, version, row.operation, self.ask, terms)
                }
                worst => worst?,
            };
            let estimate = if row.takes_bound() { estimate } else { estimate.that_cannot_be_lowered() };
            let estimate = match self.given_output_bound(resolved) {
                Some(bound) if bound < estimate.output_bound => estimate.with_output_bound(bound),
                _ => estimate,
            };
            Ok(Priced { model: Arc::clone(model), version: version.clone(), estimate, is_bounded })
        })
    }

    /// The price to hold. Without a price or a bound a request is refused where a cap binds. Elsewhere it is charged by what
    /// its answer tells, as far as that has a price.
    ///
    /// # Errors
    /// It may not be made at any price, or not at this one.
    pub fn price(&self, resolved: &Resolved) -> Result<Option<Priced>, Unpayable> {
        let priced = match self.estimate(resolved) {
            Some(Ok(priced)) => priced,
            Some(Err(error)) if self.caller.is_capped() => return Err(Unpayable::Unpriced(error)),
            Some(Err(_)) | None => return Ok(None),
        };
        let may_clamp = self.caller.key.subkey.definition.clamp_to_budget;
        match self.caller.request_cap() {
            Some((_, max)) if priced.estimate.total > max && !may_clamp => {
                Err(Unpayable::TooExpensive { worst: priced.estimate.total, max })
            }
            Some(_) | None => Ok(Some(priced)),
        }
    }

    /// Models that the key can reach in the request's dialect, each by the shortest name that means only it.
    pub fn usable_models(&self) -> Vec<(String, Arc<Model>)> {
        let reachable = self.snapshot.providers.values().filter(|entry| {
            let slug = entry.provider.slug.as_str();
            self.matched.provider.is_none_or(|fixed| fixed == slug)
                && entry.provider.dialects.contains_key(&self.matched.row.dialect)
                && self.is_usable(entry)
        });
        let models: Vec<&Arc<Model>> = reachable
            .flat_map(|entry| self.snapshot.catalog.models_of(entry.provider.slug.as_str()))
            .filter(|model| self.caller.bounds().admits_model(&format!("{}/{}", model.provider, model.name)))
            .collect();
        let mut count: HashMap<&str, usize> = HashMap::new();
        for model in &models {
            *count.entry(&model.name).or_default() += 1;
        }
        let id = |model: &Model| match count.get(model.name.as_str()) {
            Some(1) => model.name.clone(),
            Some(_) | None => format!("{}/{}", model.provider, model.name),
        };
        models.into_iter().map(|model| (id(model), Arc::clone(model))).collect()
    }

    /// The one of them that goes by this name.
    pub fn usable_model(&self, wanted: &str) -> Option<(String, Arc<Model>)> {
        let is_it = |(id, model): &(String, Arc<Model>)| {
            *id == wanted
                || wanted
                    .split_once('/')
                    .is_some_and(|(p, m)| p == model.provider.as_str() && m == model.name)
        };
        self.usable_models().into_iter().find(is_it)
    }
}

/// Notes what the provider is set to ask for beside the application, which asks by these headers: it moves the bounds as
/// much.
pub fn read_set_betas(
    (ask, asked): (&mut Ask, &HeaderMap),
    snapshot: &Snapshot,
    row: &Row,
    resolved: &Resolved,
) {
    let provider = snapshot.providers.get(&resolved.provider).map(|entry| &entry.provider);
    let endpoint = provider.and_then(|provider| provider.dialects.get(&row.dialect));
    let none = BTreeMap::new();
    ask.read_set_betas(asked, endpoint.map_or(&none, |endpoint| &endpoint.headers));
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
