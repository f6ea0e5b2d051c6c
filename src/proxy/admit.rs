//! Steps 5 to 8: from the body to a reservation.

use super::Proxy;
use super::arrival::Arrival;
use super::rates::tokens_at_most;
use super::reasons::{
    books_in_disorder, budget_exceeded, budget_held, budget_tampered, denied, misplaced, too_expensive,
    unpayable,
};
use super::refusal::Refusal;
use super::respond;
use super::upstream::Chain;
use crate::base::{NanoUsd, clip};
use crate::budget::Balance;
use crate::log::{Decision, Entry};
use crate::policy::{self, Head, Permit, Whole};
use crate::provider::Resolved;
use crate::provider::ask::Ask;
use crate::provider::operation;
use crate::service::{
    Caller, Case, Demand, InFlight, Kept, Priced, Reservation, ReserveError, Snapshot, read_set_betas,
};
use bytes::Bytes;

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
        let case = self.case(caller, &snapshot);
        let resolved = case.resolve(kept.as_ref()).map_err(|error| misplaced(&error))?;
        entry.model = (!resolved.model.is_empty()).then(|| clip(&resolved.model, 256));
        entry.provider = Some(resolved.provider.to_string());
        self.stays(caller, kept.as_ref(), &resolved).await?;

        let asked = &self.arrival.headers;
        read_set_betas((&mut self.ask, asked), &snapshot, self.matched.row, &resolved);
        let case = self.case(caller, &snapshot);
        let facts = case.facts(&resolved, kept.as_ref());
        let permit = policy::decide(caller.bounds(), head, &facts).map_err(|denial| denied(&denial))?;
        let priced = case.price(&resolved).map_err(|error| unpayable(&error, caller, &resolved.model))?;
        let place = (resolved, kept);
        self.reserve(caller, &snapshot, place, permit, priced, in_flight, entry).await
    }

    /// The request as it is judged.
    pub(super) fn case<'c>(&'c self, caller: &'c Caller, snapshot: &'c Snapshot) -> Case<'c> {
        let provider_order = &self.proxy.services.provider_order;
        Case {
            caller,
            snapshot,
            provider_order,
            matched: self.matched,
            ask: &self.ask,
            now: self.arrival.time,
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
        let mut given = self.case(caller, snapshot).given_output_bound(&resolved);
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
