//! Rate limits: counts in fixed windows aligned to UTC.
//!
//! A window never moves back, whatever the clock does. What is given back or counted late goes to the window that it
//! was taken from, or nowhere.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateMetric {
    /// Requests admitted.
    Requests,
    /// Tokens: reserved at the worst case, settled at what was used.
    Tokens,
    /// Requests in flight at once; has no period.
    ConcurrentRequests,
}

/// How long a rate's window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RatePeriod {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// One hour.
    Hour,
    /// One day.
    Day,
}

impl RateMetric {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::ConcurrentRequests => "concurrent_requests",
        }
    }
}

impl RatePeriod {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    fn seconds(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

/// One limit: so many requests or tokens per period, or so many requests at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// What is counted.
    pub metric: RateMetric,
    /// How many are admitted in one window.
    pub limit: u64,
    /// The window; `None` exactly for concurrent requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<RatePeriod>,
}

impl<'de> Deserialize<'de> for RateLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Raw {
            metric: RateMetric,
            limit: u64,
            #[serde(default)]
            per: Option<RatePeriod>,
        }
        let Raw { metric, limit, per } = Raw::deserialize(deserializer)?;
        match (metric, per) {
            (RateMetric::ConcurrentRequests, Some(_)) => {
                Err(serde::de::Error::custom("concurrent_requests has no `per`"))
            }
            (RateMetric::Requests | RateMetric::Tokens, None) => {
                Err(serde::de::Error::custom("`per` is needed: second, minute, hour or day"))
            }
            (metric, per) => Ok(Self { metric, limit, per }),
        }
    }
}

/// Like `60 requests per minute`.
impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.per {
            Some(per) => write!(f, "{} {} per {}", self.limit, self.metric.as_str(), per.as_str()),
            None => write!(f, "{} requests at once", self.limit),
        }
    }
}

impl RateLimit {
    /// What is limited, without how much: `requests/minute` or `concurrent_requests`.
    pub fn name(&self) -> String {
        match self.per {
            Some(per) => format!("{}/{}", self.metric.as_str(), per.as_str()),
            None => self.metric.as_str().to_owned(),
        }
    }
}

const LIMITS_MAX: usize = 16;
/// More than this is no limit that anybody means, and every JSON reader still has it exactly.
const LIMIT_MAX: u64 = 1_000_000_000_000;

/// Why a list of rate limits makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct RateLimitFault {
    /// Where in the list, as a JSON pointer into it, like `/1/limit`.
    pub at: String,
    /// What to write instead.
    pub detail: &'static str,
}

/// Checks what each limit alone cannot tell: twins, how many there are, and figures that nobody means. Asked of what
/// an operator writes, not of what is kept.
///
/// # Errors
/// The first entry at fault.
pub fn check_rate_limits(limits: &[RateLimit]) -> Result<(), RateLimitFault> {
    let fault = |at: String, detail| Err(RateLimitFault { at, detail });
    if limits.len() > LIMITS_MAX {
        return fault(String::new(), "at most 16 entries");
    }
    for (index, limit) in limits.iter().enumerate() {
        if !(1..=LIMIT_MAX).contains(&limit.limit) {
            return fault(
                format!("/{index}/limit"),
                "a limit is 1 to 1000000000000; to admit nothing, suspend or disable instead",
            );
        }
        if limits[..index].iter().any(|other| (other.metric, other.per) == (limit.metric, limit.per)) {
            return fault(format!("/{index}"), "this metric and period is limited twice");
        }
    }
    Ok(())
}

/// The count in one fixed window. Moving on to a later window starts at zero; never back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateWindow {
    index: i64,
    count: u64,
}

impl RateWindow {
    /// Moves on to the window that holds `now`, and says whether `amount` fits in it; nothing is counted.
    ///
    /// # Errors
    /// How long until the next window, when it does not fit in this one.
    pub fn room(
        &mut self,
        limit: u64,
        per: RatePeriod,
        amount: u64,
        now: DateTime<Utc>,
    ) -> Result<(), TimeDelta> {
        let index = now.timestamp().div_euclid(per.seconds());
        if index > self.index {
            *self = Self { index, count: 0 };
        }
        if self.count.checked_add(amount).is_some_and(|count| count <= limit) {
            return Ok(());
        }
        Err((self.end(per, now) - now).max(TimeDelta::milliseconds(1)))
    }

    /// Counts `amount` in the window that was reached last; returns which that is.
    pub fn count(&mut self, amount: u64) -> i64 {
        self.count = self.count.saturating_add(amount);
        self.index
    }

    /// Puts what was used in the place of what was counted in window `index`. More than was counted is counted too, and
    /// may stand above the limit. If the window is over, nothing changes.
    pub fn settle(&mut self, index: i64, counted: u64, used: u64) {
        if self.index == index {
            self.count = self.count.saturating_sub(counted).saturating_add(used);
        }
    }

    /// What has been counted in the window of `now`, and when that ends.
    pub fn standing(&self, per: RatePeriod, now: DateTime<Utc>) -> (u64, DateTime<Utc>) {
        let index = now.timestamp().div_euclid(per.seconds());
        let current = if index > self.index { Self { index, count: 0 } } else { *self };
        (current.count, current.end(per, now))
    }

    fn end(&self, per: RatePeriod, now: DateTime<Utc>) -> DateTime<Utc> {
        let seconds = self.index.saturating_add(1).saturating_mul(per.seconds());
        DateTime::from_timestamp(seconds, 0).unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn take(
        window: &mut RateWindow,
        limit: u64,
        per: RatePeriod,
        amount: u64,
        now: DateTime<Utc>,
    ) -> Result<i64, TimeDelta> {
        window.room(limit, per, amount, now).map(|()| window.count(amount))
    }

    #[test]
    fn a_full_window_says_when_the_next_begins() {
        let mut window = RateWindow::default();
        let now: DateTime<Utc> = "2026-11-22T16:07:01.250Z".parse().unwrap();
        assert!(take(&mut window, 2, RatePeriod::Minute, 2, now).is_ok());
        let wait = TimeDelta::milliseconds(58_750);
        assert_eq!(take(&mut window, 2, RatePeriod::Minute, 1, now), Err(wait));
        assert_eq!(window.standing(RatePeriod::Minute, now), (2, now + wait));
        assert_eq!(window.standing(RatePeriod::Minute, now + wait), (0, now + wait + TimeDelta::minutes(1)));
        assert!(take(&mut window, 2, RatePeriod::Minute, 1, now + wait).is_ok());
    }

    #[test]
    fn a_clock_that_steps_back_opens_no_fresh_window() {
        let mut window = RateWindow::default();
        let now: DateTime<Utc> = "2026-11-22T16:07:01Z".parse().unwrap();
        assert!(take(&mut window, 1, RatePeriod::Hour, 1, now).is_ok());
        assert!(take(&mut window, 1, RatePeriod::Hour, 1, now - TimeDelta::hours(2)).is_err());
    }

    #[test]
    fn lists_that_nobody_means_are_refused_by_place() {
        let of = |limit| RateLimit { metric: RateMetric::Requests, limit, per: Some(RatePeriod::Minute) };
        let at = |limits: &[RateLimit]| check_rate_limits(limits).map_err(|fault| fault.at);
        assert_eq!(at(&[of(1), RateLimit { per: Some(RatePeriod::Day), ..of(LIMIT_MAX) }]), Ok(()));
        assert_eq!(at(&[of(0)]), Err("/0/limit".to_owned()));
        assert_eq!(at(&[of(LIMIT_MAX + 1)]), Err("/0/limit".to_owned()));
        assert_eq!(at(&[of(1), of(2)]), Err("/1".to_owned()));
        assert_eq!(at(&[of(1); 17]), Err(String::new()));
        assert_eq!(of(60).to_string(), "60 requests per minute");
    }

    /// What a caller of the window does.
    #[derive(Clone, Debug)]
    enum Step {
        /// The clock steps by so many milliseconds and takes so much.
        Take(i64, u64),
        /// One of those taken is settled at so much.
        Settle(usize, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let take = (-900..1_500_i64, 0..6_u64).prop_map(|(ms, amount)| Step::Take(ms, amount));
        prop_oneof![take, (any::<usize>(), 0..9_u64).prop_map(|(which, used)| Step::Settle(which, used))]
    }

    proptest! {
        /// By a model that keeps every window for ever: what is admitted is exactly what fits beside what counts in the
        /// latest window that was reached, whatever the clock does, and what is settled late changes no later window.
        #[test]
        fn a_window_admits_what_fits_and_no_more(limit in 0..20_u64, steps in prop::collection::vec(step(), 0..100)) {
            let mut window = RateWindow::default();
            let mut now: DateTime<Utc> = "2026-11-22T16:00:00Z".parse().unwrap();
            let (mut counts, mut reached) = (HashMap::<i64, u64>::new(), 0);
            let mut open: Vec<(i64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(ms, amount) => {
                        now += TimeDelta::milliseconds(ms);
                        reached = now.timestamp().max(reached);
                        let count = counts.entry(reached).or_default();
                        let took = take(&mut window, limit, RatePeriod::Second, amount, now);
                        prop_assert_eq!(took.is_ok(), *count + amount <= limit);
                        match took {
                            Ok(index) => {
                                prop_assert_eq!(index, reached);
                                *count += amount;
                                open.push((index, amount));
                            }
                            Err(wait) => prop_assert_eq!((now + wait).timestamp_millis(), (reached + 1) * 1_000),
                        }
                    }
                    Step::Settle(which, used) if !open.is_empty() => {
                        let (index, counted) = open.swap_remove(which % open.len());
                        window.settle(index, counted, used);
                        let count = counts.entry(index).or_default();
                        *count = *count - counted + used;
                    }
                    Step::Settle(..) => {}
                }
                prop_assert_eq!(window.standing(RatePeriod::Second, now).0, counts.get(&reached).copied().unwrap_or(0));
            }
        }
    }
}
