//! Rates and concurrency of one owner of limits, in memory: one node serves them all.
//!
//! An owner is a sub-key, a project, a provider or a credential. A request is held against several ([`InFlight`]); here
//! is what each of them counts. The counts outlive every change of the limits.

mod in_flight;
#[cfg(test)]
mod tests;

pub use in_flight::{InFlight, Metered, OverLimit, RateOwner};

use crate::budget::{RateLimit, RateMetric, RatePeriod, RateWindow};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The limits of one owner, and what counts towards them.
#[derive(Debug)]
pub struct Rates {
    limits: Vec<RateLimit>,
    concurrent_max: u64,
    /// Shared with the rates that this owner had before a change, so that nothing in flight is forgotten.
    counters: Arc<Mutex<Counters>>,
}

#[derive(Debug, Default)]
struct Counters {
    windows: Vec<(Window, RateWindow)>,
    in_flight: u64,
}

type Window = (RateMetric, RatePeriod);

/// What a request is to count as.
#[derive(Clone, Copy, Debug)]
struct Draw {
    /// As one request, with a place among those in flight.
    enters: bool,
    tokens: u64,
}

/// What was counted in one window.
#[derive(Clone, Copy, Debug)]
struct Taken {
    window: Window,
    index: i64,
    amount: u64,
}

/// Why a rate refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateRefusal {
    /// The window is full; the next one begins after this time.
    Exceeded {
        /// The limit.
        limit: RateLimit,
        /// Until the next window.
        wait: TimeDelta,
    },
    /// More than the limit of a whole window is asked for.
    NeverFits {
        /// The limit.
        limit: RateLimit,
    },
    /// So many requests are in flight already.
    Concurrency {
        /// How many may be.
        limit: u64,
    },
}

impl RateRefusal {
    /// When the same request may fit. A place in flight is free again nobody knows when: then it is a second.
    pub fn wait(&self) -> TimeDelta {
        match self {
            Self::Exceeded { wait, .. } => *wait,
            Self::NeverFits { .. } => TimeDelta::MAX,
            Self::Concurrency { .. } => TimeDelta::seconds(1),
        }
    }
}

/// How one limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateStanding {
    /// The limit.
    pub limit: RateLimit,
    /// What is left of it.
    pub remaining: u64,
    /// When all of it is there again; `None` for concurrent requests.
    pub resets_at: Option<DateTime<Utc>>,
}

impl Rates {
    /// Fresh counters for these limits; `concurrent_default` holds where they name none.
    pub fn new(limits: Vec<RateLimit>, concurrent_default: u64) -> Self {
        Self::over(Arc::default(), limits, concurrent_default)
    }

    /// The same counts under other limits: a patch opens no fresh window.
    #[must_use]
    pub fn carry_over(&self, limits: Vec<RateLimit>, concurrent_default: u64) -> Self {
        Self::over(Arc::clone(&self.counters), limits, concurrent_default)
    }

    /// These limits over what `older` has counted.
    #[must_use]
    pub fn continuing(&self, older: &Self) -> Self {
        Self {
            limits: self.limits.clone(),
            concurrent_max: self.concurrent_max,
            counters: Arc::clone(&older.counters),
        }
    }

    fn over(counters: Arc<Mutex<Counters>>, limits: Vec<RateLimit>, concurrent_default: u64) -> Self {
        let concurrent = limits.iter().filter(|limit| limit.metric == RateMetric::ConcurrentRequests);
        let concurrent_max = concurrent.map(|limit| limit.limit).min().unwrap_or(concurrent_default);
        Self { limits, concurrent_max, counters }
    }

    /// Whether a request has to tell its tokens.
    pub fn counts_tokens(&self) -> bool {
        self.limits.iter().any(|limit| limit.metric == RateMetric::Tokens)
    }

    /// Whether nothing is in flight, and no window that is not over has counted anything.
    pub fn is_idle(&self, now: DateTime<Utc>) -> bool {
        let counters = self.lock();
        let is_over = |((_, per), window): &(Window, RateWindow)| window.standing(*per, now).0 == 0;
        counters.in_flight == 0 && counters.windows.iter().all(is_over)
    }

    /// How each limit stands.
    pub fn standing(&self, now: DateTime<Utc>) -> Vec<RateStanding> {
        let counters = self.lock();
        let standing = |limit: &RateLimit| {
            let (count, resets_at) = match limit.per {
                Some(per) => {
                    let (count, end) = counters.seen((limit.metric, per)).standing(per, now);
                    (count, Some(end))
                }
                None => (counters.in_flight, None),
            };
            RateStanding { limit: *limit, remaining: limit.limit.saturating_sub(count), resets_at }
        };
        self.limits.iter().map(standing).collect()
    }

    /// What each limit would say to one more request of so many tokens. Nothing is counted.
    pub fn verdicts(&self, tokens: u64, now: DateTime<Utc>) -> Vec<(RateLimit, Result<(), RateRefusal>)> {
        let mut counters = self.lock();
        let draw = Draw { enters: true, tokens };
        self.limits.iter().map(|limit| (*limit, counters.room(limit, draw, now))).collect()
    }

    /// The refusal that lasts longest, if there is one: waiting for a shorter one would be in vain.
    fn room(&self, counters: &mut Counters, draw: Draw, now: DateTime<Utc>) -> Result<(), RateRefusal> {
        let mut longest: Option<RateRefusal> = None;
        if draw.enters && counters.in_flight >= self.concurrent_max {
            longest = Some(RateRefusal::Concurrency { limit: self.concurrent_max });
        }
        for limit in &self.limits {
            if let Err(refusal) = counters.room(limit, draw, now)
                && longest.is_none_or(|longest| refusal.wait() > longest.wait())
            {
                longest = Some(refusal);
            }
        }
        longest.map_or(Ok(()), Err)
    }

    /// Counts it. There has to be room, and the counters have to be locked since that was asked.
    fn draw(&self, counters: &mut Counters, draw: Draw) -> Vec<Taken> {
        counters.in_flight += u64::from(draw.enters);
        let counted = self.limits.iter().filter_map(|limit| {
            let window = (limit.metric, limit.per?);
            let amount = draw.of(limit.metric);
            (amount > 0).then(|| Taken { window, index: counters.window(window).count(amount), amount })
        });
        counted.collect()
    }

    /// Where the counters lie: what several owners' counters are locked in the order of.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.counters).addr()
    }

    fn lock(&self) -> MutexGuard<'_, Counters> {
        // Every change of the counters is complete before anything can panic.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Draw {
    fn of(self, metric: RateMetric) -> u64 {
        match metric {
            RateMetric::Requests | RateMetric::ConcurrentRequests => u64::from(self.enters),
            RateMetric::Tokens => self.tokens,
        }
    }
}

impl Counters {
    /// Whether the limit has room for this.
    fn room(&mut self, limit: &RateLimit, draw: Draw, now: DateTime<Utc>) -> Result<(), RateRefusal> {
        let amount = draw.of(limit.metric);
        match limit.per {
            _ if amount == 0 => Ok(()),
            None if self.in_flight < limit.limit => Ok(()),
            None => Err(RateRefusal::Concurrency { limit: limit.limit }),
            Some(_) if amount > limit.limit => Err(RateRefusal::NeverFits { limit: *limit }),
            Some(per) => self
                .window((limit.metric, per))
                .room(limit.limit, per, amount, now)
                .map_err(|wait| RateRefusal::Exceeded { limit: *limit, wait }),
        }
    }

    fn window(&mut self, of: Window) -> &mut RateWindow {
        let at = self.windows.iter().position(|(window, _)| *window == of).unwrap_or_else(|| {
            self.windows.push((of, RateWindow::default()));
            self.windows.len() - 1
        });
        &mut self.windows[at].1
    }

    fn seen(&self, of: Window) -> RateWindow {
        let found = self.windows.iter().find(|(window, _)| *window == of);
        found.map(|(_, window)| *window).unwrap_or_default()
    }
}
