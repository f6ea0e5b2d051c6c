//! A request held against the limits of everybody that it counts for: all of them or none.
//!
//! The owners' counters are locked together, in the order of their addresses, so nothing is seen half taken: a request is
//! never refused for the sake of another that is then refused itself.
//!
//! What becomes of what was counted when the request is over ([`InFlight`] dropped):
//!
//! | | requests of the sub-key | requests of the others | tokens |
//! |---|---|---|---|
//! | refused by a rate ([`InFlight::withdraw`]) | given back | given back | given back |
//! | refused by anything else, or nothing was sent | kept: a key that hammers is a key that hammers | given back | given back |
//! | sent | kept | kept | settled at use; at the worst case where nobody knows the use |

use super::{Counters, Draw, RateRefusal, Rates, Taken};
use crate::budget::RateMetric;
use crate::provider::Slug;
use chrono::{DateTime, Utc};
use std::sync::{Arc, MutexGuard};

/// Whose limits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RateOwner {
    /// The sub-key's own.
    Subkey,
    /// Those of a project above it, by its slug.
    Project(String),
    /// Those of the provider: of all accounts together.
    Provider(Slug),
    /// Those of one credential, by its id: of one account.
    Credential(String),
}

/// An owner with its counters.
#[derive(Clone, Debug)]
pub struct Metered {
    /// Who.
    pub owner: RateOwner,
    /// The limits and the counts.
    pub rates: Arc<Rates>,
}

/// Whose limit refused a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverLimit {
    /// Whose it is.
    pub owner: RateOwner,
    /// Why.
    pub refusal: RateRefusal,
}

/// A request in flight. Its places are free again when this is dropped.
#[derive(Debug)]
pub struct InFlight {
    places: Vec<Place>,
    state: State,
}

/// What counts for one owner.
#[derive(Debug)]
struct Place {
    metered: Metered,
    taken: Vec<Taken>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsent,
    Sent,
    Withdrawn,
}

impl InFlight {
    /// Counts one request for every owner of the chain, which is in the order in which they are named to the caller.
    ///
    /// # Errors
    /// The refusal that lasts longest, of several the one of the first owner. Nothing is counted then.
    pub fn enter(chain: &[Metered], now: DateTime<Utc>) -> Result<Self, OverLimit> {
        let mut in_flight = Self { places: Vec::with_capacity(chain.len() + 2), state: State::Unsent };
        in_flight.join(chain, 0, now)?;
        Ok(in_flight)
    }

    /// Counts the request for more owners, and so many tokens for all of them, old and new.
    ///
    /// # Errors
    /// As [`InFlight::enter`]. What was counted before this call stays.
    pub fn join(&mut self, more: &[Metered], tokens: u64, now: DateTime<Utc>) -> Result<(), OverLimit> {
        let here = self.places.iter().map(|place| (&place.metered, Draw { enters: false, tokens }));
        let new = more.iter().map(|metered| (metered, Draw { enters: true, tokens }));
        let drawn = draw_all(&here.chain(new).collect::<Vec<_>>(), now)?;
        let count = self.places.len();
        for (at, taken) in drawn {
            match at.checked_sub(count) {
                None => self.places[at].taken.extend(taken),
                Some(at) => self.places.push(Place { metered: more[at].clone(), taken }),
            }
        }
        Ok(())
    }

    /// Whether one of the owners has to be told the request's tokens.
    pub fn counts_tokens(&self) -> bool {
        self.places.iter().any(|place| place.metered.rates.counts_tokens())
    }

    /// The worst case became smaller: what was taken beyond it is given back.
    pub fn lower_tokens(&mut self, tokens: u64) {
        self.for_tokens(|taken| taken.amount.min(tokens));
    }

    /// From now on the request counts, whatever comes of it.
    pub fn mark_sent(&mut self) {
        self.state = State::Sent;
    }

    /// Nothing was sent after all: it counts as little as what never was on its way.
    pub fn mark_unsent(&mut self) {
        self.state = State::Unsent;
    }

    /// The request is refused by a rate, or decided anew: nothing of it counts, not for the sub-key either.
    pub fn withdraw(&mut self) {
        self.state = State::Withdrawn;
    }

    /// Counts the tokens that were used instead of those that were taken. What is above counts too.
    pub fn settle_tokens(&mut self, used: u64) {
        self.for_tokens(|_| used);
    }

    fn for_tokens(&mut self, counts: impl Fn(&Taken) -> u64) {
        for Place { metered, taken } in &mut self.places {
            let mut tokens = taken.iter_mut().filter(|taken| taken.window.0 == RateMetric::Tokens).peekable();
            if tokens.peek().is_none() {
                continue;
            }
            let mut counters = metered.rates.lock();
            for taken in tokens {
                let used = counts(taken);
                counters.window(taken.window).settle(taken.index, taken.amount, used);
                taken.amount = used;
            }
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        for Place { metered, taken } in &self.places {
            let mut counters = metered.rates.lock();
            counters.in_flight = counters.in_flight.saturating_sub(1);
            for taken in taken {
                let is_own_request =
                    metered.owner == RateOwner::Subkey && taken.window.0 == RateMetric::Requests;
                let is_kept = match self.state {
                    State::Sent => true,
                    State::Unsent => is_own_request,
                    State::Withdrawn => false,
                };
                if !is_kept {
                    counters.window(taken.window).settle(taken.index, taken.amount, 0);
                }
            }
        }
    }
}

/// Draws on all owners or on none; what was taken, by the owner's place in the list. An owner that is there twice counts
/// once.
fn draw_all(draws: &[(&Metered, Draw)], now: DateTime<Utc>) -> Result<Vec<(usize, Vec<Taken>)>, OverLimit> {
    let mut order: Vec<usize> = (0..draws.len()).collect();
    order.sort_by_key(|at| draws[*at].0.rates.address());
    order.dedup_by_key(|at| draws[*at].0.rates.address());
    let mut locked: Vec<(usize, MutexGuard<'_, Counters>)> =
        order.into_iter().map(|at| (at, draws[at].0.rates.lock())).collect();
    locked.sort_by_key(|(at, _)| *at);

    let mut longest: Option<OverLimit> = None;
    for (at, counters) in &mut locked {
        let (metered, draw) = draws[*at];
        if let Err(refusal) = metered.rates.room(counters, draw, now)
            && longest.as_ref().is_none_or(|longest| refusal.wait() > longest.refusal.wait())
        {
            longest = Some(OverLimit { owner: metered.owner.clone(), refusal });
        }
    }
    if let Some(longest) = longest {
        return Err(longest);
    }
    let draw = |(at, mut counters): (usize, MutexGuard<'_, Counters>)| {
        let (metered, draw) = draws[at];
        (at, metered.rates.draw(&mut counters, draw))
    };
    Ok(locked.into_iter().map(draw).collect())
}
