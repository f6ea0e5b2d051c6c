//! Steps 5 to 8: from the body to a reservation.

use super::Proxy;
use super::arrival::Arrival;
use super::objects::Kept;
use super::rates::tokens_at_most;
use super::reasons::{
    books_in_disorder, budget_exceeded, budget_held, budget_tampered, denied, too_expensive, unpriced,
};
use super::refusal::Refusal;
use super::respond;
use super::upstream::Chain;
use crate::base::{NanoUsd, clip};
use crate::budget::Balance;
use crate::log::{Decision, Entry};
use crate::policy::{self, BodyFacts, Head, Permit, Whole};
use crate::provider::ask::Ask;
use crate::provider::operation;
use crate::provider::{Estimate, Model, PriceVersion, Resolved, Terms, Unpriced, unheld, worst_case};
use crate::service::{Caller, Demand, InFlight, Reservation, ReserveError, Snapshot};
use bytes::Bytes;
use std::collections::BTreeMap;
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
    /// What is sent; empty once it is on its way.
    pub(super) body: Chain,
    pub(super) strip_usage: bool,
    /// The object that the path names.
    pub(super) named_object: Option<String>,
    /// Where the objects are kept that it names, and whose they are.
    pub(super) kept: Option<Kept>,
    /// Its work is to go on whether or not anybody waits for it.
    pub(super) is_background: bool,
    pub(super) entry: Entry,
}

/// The prices that a request was admitted by and is settled by.
pub(super) struct Priced {
    pub(super) model: Arc<Model>,
    pub(super) version: PriceVersion,
    pub(super) estimate: Estimate,
    /// The estimate is the most that it can cost; otherwise nothing caps it, and it is charged by what the answer tells.
    pub(super) is_bounded: bool,
}

/// What came of an admission.
pub(super) enum Outcome {
    Admitted(Box<Admitted>),
    /// The sub-key was changed meanwhile: decide again by what it is now.
    Stale,
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

        self.read_set_betas(&snapshot, &resolved);
        let permit = self.decide(caller, head, &resolved, kept.as_ref())?;
        let priced = self.price(caller, &resolved)?;
        let place = (resolved, kept);
        self.reserve(caller, &snapshot, place, permit, priced, in_flight, entry).await
    }

    /// What the provider is set to ask for beside the application moves the bounds as much.
    fn read_set_betas(&mut self, snapshot: &Snapshot, resolved: &Resolved) {
        let provider = snapshot.providers.get(&resolved.provider).map(|entry| &entry.provider);
        let endpoint = provider.and_then(|provider| provider.dialects.get(&self.matched.row.dialect));
        let none = BTreeMap::new();
        self.ask.read_set_betas(endpoint.map_or(&none, |endpoint| &endpoint.headers));
    }

    /// Step 6: the whole of the decision.
    pub(super) fn decide(
        &mut self,
        caller: &Caller,
        head: &Permit<Head>,
        resolved: &Resolved,
        kept: Option<&Kept>,
    ) -> Result<Permit<Whole>, Refusal> {
        let maker = kept.and_then(|kept| kept.model.as_ref());
        let model = if self.names_model() { Some(&resolved.model) } else { maker };
        let floor = self.ask.output.floor;
        let facts = BodyFacts {
            model: model.map(|model| format!("{}/{model}", resolved.provider)),
            features: self.ask.features,
            hosted_tools: self.ask.hosted_tools.iter().map(|tool| tool.kind.clone()).collect(),
            betas: self.ask.betas.clone(),
            service_tier: self.ask.service_tier.clone(),
            unknown_fields: self.ask.unknown_fields.clone(),
            output_bound: self.effective_output_bound(caller, resolved).map(|bound| bound.max(floor)),
        };
        policy::decide(caller.bounds(), head, &facts).map_err(|denial| denied(&denial))
    }

    /// The bound that the provider will go by: stated, else the key's default, else the model's ceiling;
    /// without any, none is known.
    fn effective_output_bound(&self, caller: &Caller, resolved: &Resolved) -> Option<u64> {
        if !self.matched.row.takes_bound() {
            return None;
        }
        let listed = resolved.entry.as_ref().and_then(|model| model.max_output_tokens);
        let ceiling = self.ask.output_ceiling(listed);
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

    /// Step 7. Without a price or a bound a request is refused where a cap binds. Elsewhere it is charged by what its answer
    /// tells, as far as that has a price.
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
            let worst = worst_case(model, version, operation, &self.ask, terms);
            let is_bounded = worst.is_ok();
            let estimate = match worst {
                Err(Unpriced::Feature { .. } | Unpriced::Unbounded { .. }) if !is_capped => {
                    unheld(model, version, operation, &self.ask, terms)
                }
                worst => worst?,
            };
            let estimate =
                if self.matched.row.takes_bound() { estimate } else { estimate.that_cannot_be_lowered() };
            let estimate = match given {
                Some(bound) if bound < estimate.output_bound => estimate.with_output_bound(bound),
                _ => estimate,
            };
            let (model, version) = (Arc::clone(model), version.clone());
            Ok::<_, Unpriced>(Priced { model, version, estimate, is_bounded })
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
                    if let Some(tokens) = priced.as_ref().and_then(tokens_at_most) {
                        in_flight.lower_tokens(tokens);
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
                        kept,
                        is_background: self.ask.in_background,
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
}

fn amount(priced: Option<&Priced>) -> NanoUsd {
    priced.map_or(NanoUsd::ZERO, |priced| priced.estimate.total)
}
