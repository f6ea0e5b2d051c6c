//! Rate limits: counts in fixed windows aligned to UTC.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Deserializer, Serialize};

/// What a rate limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl RatePeriod {
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

/// The count in one fixed window. Moving on to a later window starts at zero; never back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateWindow {
    index: i64,
    count: u64,
}

impl RateWindow {
    /// Takes `amount` out of the window that holds `now`.
    ///
    /// # Errors
    /// How long until the next window, when it does not fit in this one.
    pub fn take(
        &mut self,
        limit: u64,
        per: RatePeriod,
        amount: u64,
        now: DateTime<Utc>,
    ) -> Result<i64, TimeDelta> {
        let index = now.timestamp().div_euclid(per.seconds());
        if index > self.index {
            *self = Self { index, count: 0 };
        }
        match self.count.checked_add(amount) {
            Some(count) if count <= limit => {
                self.count = count;
                Ok(self.index)
            }
            Some(_) | None => {
                let next_seconds = (self.index + 1).saturating_mul(per.seconds());
                let next = DateTime::from_timestamp(next_seconds, 0).unwrap_or(now);
                Err((next - now).max(TimeDelta::milliseconds(1)))
            }
        }
    }

    /// Gives back what was taken from window `index` and not used; later windows are not touched.
    pub fn give_back(&mut self, index: i64, amount: u64) {
        if self.index == index {
            self.count = self.count.saturating_sub(amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_window_says_when_the_next_begins() {
        let mut window = RateWindow::default();
        let now: DateTime<Utc> = "2026-11-22T16:07:01.250Z".parse().unwrap();
        assert!(window.take(2, RatePeriod::Minute, 2, now).is_ok());
        assert_eq!(window.take(2, RatePeriod::Minute, 1, now), Err(TimeDelta::milliseconds(58_750)));
        assert!(window.take(2, RatePeriod::Minute, 1, now + TimeDelta::milliseconds(58_750)).is_ok());
    }

    #[test]
    fn a_clock_that_steps_back_opens_no_fresh_window() {
        let mut window = RateWindow::default();
        let now: DateTime<Utc> = "2026-11-22T16:07:01Z".parse().unwrap();
        assert!(window.take(1, RatePeriod::Hour, 1, now).is_ok());
        assert!(window.take(1, RatePeriod::Hour, 1, now - TimeDelta::hours(2)).is_err());
    }

    proptest! {
        /// In no fixed window is more admitted than the limit.
        #[test]
        fn no_window_admits_more(limit in 0..20_u64, asks in prop::collection::vec((0..5_i64, 0..6_u64), 0..100)) {
            let mut window = RateWindow::default();
            let mut now: DateTime<Utc> = "2026-11-22T16:00:00Z".parse().unwrap();
            let mut by_second = std::collections::HashMap::new();
            for (step, amount) in asks {
                now += TimeDelta::milliseconds(step * 300);
                if window.take(limit, RatePeriod::Second, amount, now).is_ok() {
                    let sum = by_second.entry(now.timestamp()).or_insert(0);
                    *sum += amount;
                    prop_assert!(*sum <= limit);
                }
            }
        }
    }
}
