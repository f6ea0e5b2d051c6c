//! Steps 5 to 8: from the body to a reservation.

use super::Proxy;
use super::arrival::Arrival;
use super::objects::Kept;
use super::rates::tokens_at_most;
use super::reasons::{
    books_in_disorder, budget_exceeded, budget_held, budget_tampered, denied, too_expensive, unpriced,
    unresolved,
};
use super::refusal::{Code, Refusal};
use super::respond;
use crate::base::{NanoUsd, clip};
use crate::budget::Balance;
use crate::log::{Decision, Entry};
use crate::policy::{self, BodyFacts, Feature, Head, Operation, Permit, Whole};
use crate::provider::ask::{self, Ask, AskError, Splice};
use crate::provider::operation::{self, Form, Hole};
use crate::provider::{
    Candidate, Choice, Dialect, Estimate, Model, ModelPlace, PriceVersion, ResolveError, Resolved, Slug,
    Terms, Unpriced, deployed, output_bound_field, resolve, resolve_provider, worst_case,
};
use crate::service::{Caller, Demand, InFlight, Reservation, ReserveError, Snapshot};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use std::sync::Arc;

const CLAMP_TRIES_MAX: usize = 3;

/// A request whose body was read, on its way to a reservation.
pub(super) struct Admission<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) arrival: &'a Arrival,
    pub(super) matched: &'a operation::Matched<'a>,
    pub(super) ask: Ask,
    pub(super) bytes: Bytes,
}

/// A request that may be forwarded, with all that was decided about it.
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) permit: Permit<Whole>,
    pub(super) resolved: Resolved,
    pub(super) priced: Option<Priced>,
    pub(super) reservation: Reservation,
    pub(super) in_flight: InFlight,
    pub(super) body: Bytes,
    pub(super) strip_usage: bool,
    /// The object that the path names.
    pub(super) named_object: Option<String>,
    pub(super) entry: Entry,
}

/// The prices that a request was admitted by and is settled by.
pub(super) struct Priced {
    pub(super) model: Arc<Model>,
    pub(super) version: PriceVersion,
    pub(super) estimate: Estimate,
}

/// What a request's path and body say of its model.
struct Written {
    model: String,
    provider: Option<String>,
}

/// What came of an admission.
pub(super) enum Outcome {
    Admitted(Box<Admitted>),
    /// The sub-key was changed meanwhile: decide again by what it is now.
    Stale,
}

/// Step 5: strict JSON, read once.
pub(super) fn read_ask(
    matched: &operation::Matched<'_>,
    arrival: &Arrival,
    bytes: &Bytes,
) -> Result<Ask, Refusal> {
    if let Some(query) = &arrival.query {
        matched.check_query(query).map_err(|error| Refusal::new(Code::InvalidBody, error.to_string()))?;
    }
    if matched.row.form == Form::Empty && !bytes.is_empty() {
        return Err(Refusal::new(Code::InvalidBody, "This operation has no body. Send none."));
    }
    let is_json = arrival.headers.get(CONTENT_TYPE).filter(|_| !bytes.is_empty()).is_none_or(|value| {
        let essence =
            value.to_str().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        essence == "application/json"
    });
    if !is_json {
        return Err(Refusal::new(Code::UnsupportedEncoding, "Send the body as application/json."));
    }
    let mut ask = ask::read(matched.row, bytes).map_err(|error| {
        let code =
            if matches!(error, AskError::ModelRequired) { Code::ModelRequired } else { Code::InvalidBody };
        let refusal = Refusal::new(code, error.to_string());
        match error.param() {
            Some(param) => refusal.param(param),
            None => refusal,
        }
    })?;
    if arrival.query.as_deref().is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
        ask.stream = true;
        ask.features.insert(Feature::Streaming);
    }
    Ok(ask)
}

impl Admission<'_> {
    /// Steps 6 to 8.
    pub(super) async fn admit(
        &mut self,
        caller: &Caller,
        head: &Permit<Head>,
        in_flight: InFlight,
        entry: &mut Entry,
    ) -> Result<Outcome, Refusal> {
        let snapshot = self.proxy.services.snapshot();
        entry.streamed = self.ask.stream;
        let named = self.matched.model().or(self.ask.models.first().map(|model| model.name.as_str()));
        entry.model_requested = named.map(|model| clip(model, 256));
        let kept = self.own(caller, &snapshot).await?;
        let resolved = self.resolve(caller, &snapshot, kept.as_ref())?;
        entry.model = (!resolved.model.is_empty()).then(|| clip(&resolved.model, 256));
        entry.provider = Some(resolved.provider.to_string());
        self.stays(caller, kept.as_ref(), &resolved).await?;

        let permit = self.decide(caller, head, &resolved, kept.as_ref())?;
        let priced = self.price(caller, &resolved)?;
        let place = (resolved, kept);
        self.reserve(caller, &snapshot, place, permit, priced, in_flight, entry).await
    }

    fn resolve(
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
        let key_order = definition.provider_order.iter().filter_map(|slug| slug.parse::<Slug>().ok());
        // Who keeps what the request names goes before anybody's order.
        let keeper = kept.map(|kept| kept.provider.clone()).into_iter();
        let order: Vec<Slug> =
            keeper.chain(key_order).chain(self.proxy.settings.provider_order.iter().cloned()).collect();
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

    /// Whether there is a model to be found: what is done with an object is done wherever that is.
    fn names_model(&self) -> bool {
        self.matched.row.form != Form::Empty
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

    fn decide(
        &mut self,
        caller: &Caller,
        head: &Permit<Head>,
        resolved: &Resolved,
        kept: Option<&Kept>,
    ) -> Result<Permit<Whole>, Refusal> {
        let maker = kept.and_then(|kept| kept.model.as_ref());
        let model = if self.names_model() { Some(&resolved.model) } else { maker };
        let facts = BodyFacts {
            model: model.map(|model| format!("{}/{model}", resolved.provider)),
            features: self.ask.features,
            hosted_tools: self.ask.hosted_tools.iter().map(|tool| tool.kind.clone()).collect(),
            service_tier: self.ask.service_tier.clone(),
            unknown_fields: self.ask.unknown_fields.clone(),
            output_bound: self.effective_output_bound(caller, resolved),
        };
        policy::decide(caller.bounds(), head, &facts).map_err(|denial| denied(&denial))
    }

    /// The bound that the provider will go by: stated, else the key's default, else the model's ceiling;
    /// without any, none is known.
    fn effective_output_bound(&self, caller: &Caller, resolved: &Resolved) -> Option<u64> {
        if !self.matched.row.takes_bound() {
            return None;
        }
        let ceiling = resolved.entry.as_ref().and_then(|model| model.max_output_tokens);
        let stated = self.ask.output.bounds.iter().map(|bound| bound.tokens).max();
        // A default above the ceiling would be refused by the provider.
        let default = caller.key.subkey.definition.default_max_output_tokens;
        let default = default.map(|default| ceiling.map_or(default, |ceiling| default.min(ceiling)));
        Some(stated.or(default).or(ceiling).unwrap_or(u64::MAX))
    }

    /// The output bound that the request is to be given, where that is not the one it states.
    fn given_output_bound(&self, caller: &Caller, resolved: &Resolved) -> Option<u64> {
        let definition = &caller.key.subkey.definition;
        let effective = self.effective_output_bound(caller, resolved)?;
        let clamped = match caller.bounds().max_output_tokens() {
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

    /// Step 7. Without a price a request is refused where a cap binds, and free of charge elsewhere.
    fn price(&self, caller: &Caller, resolved: &Resolved) -> Result<Option<Priced>, Refusal> {
        if self.matched.row.is_free() {
            return Ok(None);
        }
        let definition = &caller.key.subkey.definition;
        let is_capped = caller.is_capped();
        let given = self.given_output_bound(caller, resolved);
        let priced = resolved.entry.as_ref().map(|model| {
            let unpriced = Unpriced::Model { direction: "input and output" };
            let version = model.prices_at(self.arrival.time).ok_or(unpriced)?;
            let operation = self.matched.row.operation;
            let terms = Terms {
                default_max_output_tokens: definition
                    .default_max_output_tokens
                    .filter(|_| self.matched.row.takes_bound()),
                service_tiers: &definition.service_tiers,
            };
            let estimate = worst_case(model, version, operation, &self.ask, terms)?;
            let estimate = match given {
                Some(bound) if bound < estimate.output_bound => estimate.with_output_bound(bound),
                _ => estimate,
            };
            Ok::<_, Unpriced>(Priced { model: Arc::clone(model), version: version.clone(), estimate })
        });
        let priced = match priced {
            Some(Ok(priced)) => Some(priced),
            Some(Err(error)) if is_capped => return Err(unpriced(&error, &resolved.model)),
            None if is_capped => {
                let error = Unpriced::Model { direction: "input and output" };
                return Err(unpriced(&error, &resolved.model));
            }
            Some(Err(_)) | None => None,
        };
        match (&priced, caller.request_cap()) {
            (Some(priced), Some(cap)) if priced.estimate.total > cap.1 && !definition.clamp_to_budget => {
                Err(too_expensive(priced.estimate.total, cap))
            }
            (Some(_) | None, _) => Ok(priced),
        }
    }

    /// Step 8: the rates, then hold the worst case; where the key allows it, lower the output bound to what still fits.
    #[expect(clippy::too_many_arguments, reason = "each is the output of one step before")]
    async fn reserve(
        &mut self,
        caller: &Caller,
        snapshot: &Snapshot,
        (resolved, kept): (Resolved, Option<Kept>),
        permit: Permit<Whole>,
        mut priced: Option<Priced>,
        mut in_flight: InFlight,
        entry: &mut Entry,
    ) -> Result<Outcome, Refusal> {
        let definition = &caller.key.subkey.definition;
        let mut given = self.given_output_bound(caller, &resolved);
        if let (Some(one), Some(cap)) = (&mut priced, caller.request_cap())
            && one.estimate.total > cap.1
        {
            let bound = one.estimate.clamp(cap.1).ok_or_else(|| too_expensive(one.estimate.total, cap))?;
            given = Some(bound);
            one.estimate = one.estimate.clone().with_output_bound(bound);
        }
        let credential_id =
            self.take_rates((caller, snapshot, &resolved), kept.as_ref(), priced.as_ref(), &mut in_flight)?;
        let (mut last, mut has_waited) = (None, false);
        // Each budget may turn out to be tighter than those asked before it.
        let tries_max = CLAMP_TRIES_MAX + caller.holds(self.arrival.time, NanoUsd::ZERO).len();
        for _ in 0..=tries_max {
            let (body, changed, strip_usage) = self.body(snapshot, &resolved, given)?;
            let opening = Entry {
                decision: Decision::Allowed,
                attempts: 1,
                changed,
                price_version: priced.as_ref().map(|priced| priced.version.version.to_string()),
                reserved_usd: amount(priced.as_ref()),
                credential_id: credential_id.clone(),
                ..entry.clone()
            };
            let demand = self.demand(caller, priced.as_ref(), opening.clone());
            match self.proxy.services.ledger.reserve(demand).await {
                Ok(reservation) => {
                    if let Some(priced) = &priced {
                        in_flight.lower_tokens(tokens_at_most(priced));
                    }
                    let caller = caller.clone();
                    let entry = opening;
                    return Ok(Outcome::Admitted(Box::new(Admitted {
                        caller,
                        permit,
                        resolved,
                        priced,
                        reservation,
                        in_flight,
                        body,
                        strip_usage,
                        named_object: self.matched.object().map(str::to_owned),
                        entry,
                    })));
                }
                Err(ReserveError::Stale) => {
                    // It is counted when it is decided anew.
                    in_flight.withdraw();
                    return Ok(Outcome::Stale);
                }
                Err(ReserveError::Exceeded { hold, balance }) => {
                    let fits = priced.as_ref().filter(|_| definition.clamp_to_budget).and_then(|priced| {
                        priced
                            .estimate
                            .clamp(balance.remaining())
                            .or_else(|| priced.estimate.clamp(balance.limit.saturating_sub(balance.posted)))
                    });
                    let (Some(bound), Some(one)) = (fits, priced.as_mut()) else {
                        return Err(budget_exceeded(&hold, &balance, self.proxy.services.ledger.now()));
                    };
                    given = Some(bound);
                    one.estimate = one.estimate.clone().with_output_bound(bound);
                    last = Some((hold, balance));
                }
                Err(ReserveError::Held { hold, balance }) => {
                    // It has waited for all that it asked for, in vain. What is left of all budgets is given, if anything is.
                    let may_clamp = definition.clamp_to_budget && !has_waited;
                    let room = if may_clamp { self.room(caller, balance).await } else { None };
                    let fits = priced.as_ref().zip(room).and_then(|(one, room)| one.estimate.clamp(room));
                    let (Some(bound), Some(one)) = (fits, priced.as_mut()) else {
                        return Err(budget_held(&hold, &balance));
                    };
                    given = Some(bound);
                    one.estimate = one.estimate.clone().with_output_bound(bound);
                    (last, has_waited) = (Some((hold, balance)), true);
                }
                Err(ReserveError::Blocked { hold }) => {
                    let standing = self.proxy.services.standing_of(std::slice::from_ref(&hold)).await;
                    let balance = standing.ok().and_then(|balances| balances.first().copied());
                    return Err(books_in_disorder(&hold, balance));
                }
                Err(ReserveError::Tampered { hold }) => return Err(budget_tampered(&hold)),
                Err(ReserveError::Overloaded) => return Err(respond::overloaded()),
                Err(ReserveError::Unavailable) => return Err(respond::store_unavailable()),
            }
        }
        // Others took the room each time it was measured.
        Err(last.map_or_else(respond::overloaded, |(hold, balance)| budget_held(&hold, &balance)))
    }

    /// What requests in flight leave of every budget, of which one has just been seen to stand so.
    async fn room(&self, caller: &Caller, seen: Balance) -> Option<NanoUsd> {
        let holds = caller.holds(self.proxy.services.ledger.now(), NanoUsd::ZERO);
        let standing = self.proxy.services.standing_of(&holds).await.ok()?;
        standing.iter().map(Balance::remaining).chain([seen.remaining()]).min()
    }

    fn demand(&self, caller: &Caller, priced: Option<&Priced>, entry: Entry) -> Demand {
        let subkey = &caller.key.subkey;
        let amount = amount(priced);
        let now = self.proxy.services.ledger.now();
        // A price of 0 is no promise: what is billed all the same is posted, and blocks the windows.
        let holds = if self.matched.row.is_free() { Vec::new() } else { caller.holds(now, amount) };
        Demand {
            subkey: subkey.id.clone(),
            subkey_version: subkey.version,
            projects: caller.lineage.versions(),
            is_current: self.proxy.services.is_current(caller),
            holds,
            amount,
            entry,
        }
    }

    /// The body as it is sent, and what was changed in it.
    fn body(
        &self,
        snapshot: &Snapshot,
        resolved: &Resolved,
        given: Option<u64>,
    ) -> Result<(Bytes, Vec<String>, bool), Refusal> {
        let provider = snapshot.providers.get(&resolved.provider).map(|entry| &entry.provider);
        let row = self.matched.row;
        let place = provider.map(|provider| provider.model_place(row.dialect, &resolved.model));
        let in_path = row.upstream.hole() == Some(Hole::Model) || matches!(place, Some(ModelPlace::Path(_)));
        let sent = match &place {
            Some(ModelPlace::Body(name)) => name,
            Some(ModelPlace::Path(_)) | None => &resolved.model,
        };
        // Azure's clients say the deployment in the body once more: it is as good a name there as the model's.
        let is_deployment = |name: &str| matches!(&place, Some(ModelPlace::Path(path)) if path == name);
        let says_another = self.ask.models.iter().any(|model| !is_deployment(&model.name));
        let mut splices: Vec<Splice> = Vec::new();
        if says_another || !in_path && self.names_model() {
            splices.extend(self.ask.model_splices(sent));
        }
        if let Some(tokens) = given {
            let too_large = self.ask.output.bounds.iter().filter(|bound| bound.tokens > tokens);
            splices.extend(too_large.map(|bound| bound.splice(tokens)));
            if self.ask.output.bounds.is_empty() {
                let field = match (row.dialect, row.operation) {
                    (Dialect::OpenAi, Operation::Chat) => output_bound_field(resolved.provider.as_str()),
                    (Dialect::OpenAi, Operation::Responses) => "max_output_tokens",
                    _ => "max_tokens",
                };
                splices.push(self.ask.bound_splice(field, tokens));
            }
        }
        let supports = provider.is_some_and(|provider| provider.supports_stream_options);
        let report = self.ask.report_usage.as_ref().filter(|_| supports);
        splices.extend(report.cloned());
        let renamed = self.matched.model().is_some_and(|named| in_path && named != resolved.model);
        let renamed = (renamed && !self.matched.is_azure).then_some("model");
        let mut changed: Vec<String> = Vec::new();
        for field in renamed.into_iter().chain(splices.iter().map(|splice| splice.field)) {
            if !changed.iter().any(|told| told == field) {
                changed.push(field.to_owned());
            }
        }
        if splices.is_empty() {
            // A large body is not copied to be sent as it is.
            return Ok((self.bytes.clone(), changed, false));
        }
        let body = ask::splice(&self.bytes, splices).map_err(|error| {
            tracing::error!(%error, request_id = self.arrival.id.as_str(), "a request's changes do not fit together");
            Refusal::new(Code::InvalidBody, "The request's fields do not fit together.")
        })?;
        Ok((body, changed, report.is_some()))
    }
}

fn amount(priced: Option<&Priced>) -> NanoUsd {
    priced.map_or(NanoUsd::ZERO, |priced| priced.estimate.total)
}
