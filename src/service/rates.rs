//! Rates and concurrency of sub-keys, in memory: one node serves them all.

use crate::budget::{RateLimit, RateMetric, RatePeriod, RateWindow};
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::{Arc, Mutex, PoisonError};

/// The counters of one sub-key.
#[derive(Debug)]
pub struct Rates {
    limits: Vec<RateLimit>,
    concurrent_max: u64,
    /// Shared with the rates that this sub-key had before a change, so that nothing in flight is forgotten.
    counters: Arc<Mutex<Counters>>,
}

#[derive(Debug, Default)]
struct Counters {
    windows: Vec<((RateMetric, RatePeriod), RateWindow)>,
    in_flight: u64,
}

/// What was taken out of one window.
#[derive(Debug)]
struct Taken {
    window: (RateMetric, RatePeriod),
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

/// A request in flight. Its place is free again when this is dropped.
#[derive(Debug)]
pub struct InFlight {
    rates: Arc<Rates>,
    tokens: Vec<Taken>,
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

    fn over(counters: Arc<Mutex<Counters>>, limits: Vec<RateLimit>, concurrent_default: u64) -> Self {
        let concurrent = limits.iter().filter(|limit| limit.metric == RateMetric::ConcurrentRequests);
        let concurrent_max = concurrent.map(|limit| limit.limit).min().unwrap_or(concurrent_default);
        Self { limits, concurrent_max, counters }
    }

    /// Counts one request, all limits or none.
    pub fn enter(self: &Arc<Self>, now: DateTime<Utc>) -> Result<InFlight, RateRefusal> {
        let mut counters = self.lock();
        if counters.in_flight >= self.concurrent_max {
            return Err(RateRefusal::Concurrency { limit: self.concurrent_max });
        }
        self.take(&mut counters, RateMetric::Requests, 1, now)?;
        counters.in_flight += 1;
        Ok(InFlight { rates: Arc::clone(self), tokens: Vec::new() })
    }

    fn take(
        &self,
        counters: &mut Counters,
        metric: RateMetric,
        amount: u64,
        now: DateTime<Utc>,
    ) -> Result<Vec<Taken>, RateRefusal> {
        let mut taken = Vec::new();
        for limit in &self.limits {
            let Some(per) = limit.per.filter(|_| limit.metric == metric) else { continue };
            let window = (metric, per);
            let refusal = match counters.window(window).take(limit.limit, per, amount, now) {
                Ok(index) => {
                    taken.push(Taken { window, index, amount });
                    continue;
                }
                Err(_) if amount > limit.limit => RateRefusal::NeverFits { limit: *limit },
                Err(wait) => RateRefusal::Exceeded { limit: *limit, wait },
            };
            for taken in taken {
                counters.window(taken.window).give_back(taken.index, taken.amount);
            }
            return Err(refusal);
        }
        Ok(taken)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counters> {
        // Every change of the counters is complete before anything can panic.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counters {
    fn window(&mut self, of: (RateMetric, RatePeriod)) -> &mut RateWindow {
        let at = self.windows.iter().position(|(window, _)| *window == of).unwrap_or_else(|| {
            self.windows.push((of, RateWindow::default()));
            self.windows.len() - 1
        });
        &mut self.windows[at].1
    }
}

impl InFlight {
    /// Takes the worst case of tokens out of every token limit, or out of none.
    pub fn take_tokens(&mut self, tokens: u64, now: DateTime<Utc>) -> Result<(), RateRefusal> {
        let mut counters = self.rates.lock();
        self.tokens = self.rates.take(&mut counters, RateMetric::Tokens, tokens, now)?;
        Ok(())
    }

    /// Gives back what was taken beyond the tokens used.
    pub fn settle_tokens(&mut self, used: u64) {
        let mut counters = self.rates.lock();
        for taken in self.tokens.drain(..) {
            counters.window(taken.window).give_back(taken.index, taken.amount.saturating_sub(used));
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut counters = self.rates.lock();
        counters.in_flight = counters.in_flight.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::RatePeriod;

    fn limit(metric: RateMetric, limit: u64, per: Option<RatePeriod>) -> RateLimit {
        RateLimit { metric, limit, per }
    }

    fn now() -> DateTime<Utc> {
        "2026-11-22T16:07:30Z".parse().unwrap()
    }

    #[test]
    fn a_place_is_free_again_when_the_request_is_over() {
        let rates = Arc::new(Rates::new(vec![limit(RateMetric::ConcurrentRequests, 1, None)], 8));
        let first = rates.enter(now()).unwrap();
        assert_eq!(rates.enter(now()).unwrap_err(), RateRefusal::Concurrency { limit: 1 });
        drop(first);
        assert!(rates.enter(now()).is_ok());
    }

    #[test]
    fn one_full_limit_takes_nothing_from_the_others() {
        let per_minute = limit(RateMetric::Requests, 5, Some(RatePeriod::Minute));
        let per_second = limit(RateMetric::Requests, 1, Some(RatePeriod::Second));
        let rates = Arc::new(Rates::new(vec![per_minute, per_second], 100));
        assert!(rates.enter(now()).is_ok());
        for _ in 0..10 {
            let wait = TimeDelta::seconds(1);
            assert_eq!(rates.enter(now()).unwrap_err(), RateRefusal::Exceeded { limit: per_second, wait });
        }
        for second in 1..5 {
            assert!(rates.enter(now() + TimeDelta::seconds(second)).is_ok(), "{second}");
        }
        assert!(rates.enter(now() + TimeDelta::seconds(6)).is_err());
    }

    #[test]
    fn tokens_are_taken_at_the_worst_case_and_settled_at_use() {
        let tokens = limit(RateMetric::Tokens, 100, Some(RatePeriod::Minute));
        let rates = Arc::new(Rates::new(vec![tokens], 100));
        let mut one = rates.enter(now()).unwrap();
        one.take_tokens(90, now()).unwrap();
        let mut two = rates.enter(now()).unwrap();
        assert!(matches!(two.take_tokens(20, now()), Err(RateRefusal::Exceeded { .. })));
        assert_eq!(two.take_tokens(101, now()), Err(RateRefusal::NeverFits { limit: tokens }));
        one.settle_tokens(10);
        assert!(two.take_tokens(90, now()).is_ok());
    }

    #[test]
    fn a_patch_opens_no_fresh_window() {
        let requests = |n| vec![limit(RateMetric::Requests, n, Some(RatePeriod::Minute))];
        let rates = Arc::new(Rates::new(requests(1), 100));
        assert!(rates.enter(now()).is_ok());
        let patched = Arc::new(rates.carry_over(requests(2), 100));
        assert!(patched.enter(now()).is_ok());
        assert!(patched.enter(now()).is_err());
    }

    #[test]
    fn a_patch_forgets_nothing_in_flight() {
        let concurrent = |n| vec![limit(RateMetric::ConcurrentRequests, n, None)];
        let rates = Arc::new(Rates::new(concurrent(1), 100));
        let before = rates.enter(now()).unwrap();
        let patched = Arc::new(rates.carry_over(concurrent(1), 100));
        assert!(patched.enter(now()).is_err());
        drop(before);
        assert!(patched.enter(now()).is_ok());
    }
}
