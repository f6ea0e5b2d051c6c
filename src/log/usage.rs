//! Usage, as arithmetic: what an entry adds to the sums of its hour.
//!
//! The columns of the log, the sums kept beside it and the sums made of it by a scan all come from [`Sums::of`], so they
//! cannot count an entry differently.

use super::{Decision, Entry};
use crate::base::NanoUsd;
use chrono::{DateTime, DurationRound, NaiveDateTime, TimeDelta, Utc};
use std::collections::BTreeMap;

/// The largest count that an entry adds: sums of millions of entries still fit, whatever a provider reports.
const COUNT_MAX: i64 = 1 << 40;
/// The largest cost that an entry adds, about a million USD: for the same reason.
const COST_MAX: NanoUsd = NanoUsd::from_nano(1 << 50);
const HOUR_FORMAT: &str = "%Y-%m-%dT%H";
/// The first status that is an error.
const ERROR_STATUS_MIN: u16 = 400;

/// An hour in UTC. Printed like `2026-11-22T16`, so that the order of texts is the order in time and a day is their beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hour(DateTime<Utc>);

impl Hour {
    /// The hour that the time is in.
    pub fn of(time: DateTime<Utc>) -> Self {
        // An hour divides every time that there is.
        Self(time.duration_trunc(TimeDelta::hours(1)).unwrap_or(time))
    }

    /// Reads it back. `None` for another text.
    pub fn parse(text: &str) -> Option<Self> {
        let time = NaiveDateTime::parse_from_str(&format!("{text}:00:00"), "%Y-%m-%dT%H:%M:%S").ok()?;
        Some(Self(time.and_utc())).filter(|hour| hour.to_string() == text)
    }

    /// When it begins.
    pub fn begins(self) -> DateTime<Utc> {
        self.0
    }

    /// When it ends, which is when the next one begins.
    pub fn ends(self) -> DateTime<Utc> {
        self.0.checked_add_signed(TimeDelta::hours(1)).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl std::fmt::Display for Hour {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.format(HOUR_FORMAT))
    }
}

/// What entries came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Entries.
    pub entries: i64,
    /// Requests, refusals included.
    pub requests: i64,
    /// Refusals.
    pub denied: i64,
    /// Requests that were admitted, and answered with an error or not at all.
    pub failed: i64,
    /// Input tokens at the plain price.
    pub input_tokens: i64,
    /// Input tokens read from a cache.
    pub cached_input_tokens: i64,
    /// Input tokens written to a cache.
    pub cache_write_tokens: i64,
    /// Output tokens.
    pub output_tokens: i64,
    /// What was charged.
    pub cost: NanoUsd,
}

impl Sums {
    /// What one entry adds.
    pub fn of(entry: &Entry) -> Self {
        let requests = count(entry.count);
        let is_error = entry.status.is_none_or(|status| status >= ERROR_STATUS_MIN);
        let (denied, failed) = match entry.decision {
            Decision::Denied => (requests, 0),
            Decision::Allowed if is_error => (0, requests),
            Decision::Allowed => (0, 0),
        };
        Self {
            entries: 1,
            requests,
            denied,
            failed,
            input_tokens: count(entry.input_tokens),
            cached_input_tokens: count(entry.cached_input_tokens),
            cache_write_tokens: count(entry.cache_write_tokens),
            output_tokens: count(entry.output_tokens),
            cost: entry.cost_usd.clamp(NanoUsd::ZERO.saturating_sub(COST_MAX), COST_MAX),
        }
    }

    /// Adds other sums.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.entries, other.entries),
            (&mut self.requests, other.requests),
            (&mut self.denied, other.denied),
            (&mut self.failed, other.failed),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cached_input_tokens, other.cached_input_tokens),
            (&mut self.cache_write_tokens, other.cache_write_tokens),
            (&mut self.output_tokens, other.output_tokens),
        ] {
            *sum = sum.saturating_add(more);
        }
        self.cost = self.cost.saturating_add(other.cost);
    }
}

fn count(units: u64) -> i64 {
    i64::try_from(units).unwrap_or(COUNT_MAX).min(COUNT_MAX)
}

/// What entries are summed up by. What an entry does not have is an empty text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// The hour.
    pub hour: Hour,
    /// The project.
    pub project: String,
    /// The sub-key's id.
    pub subkey_id: String,
    /// The provider.
    pub provider: String,
    /// The model as sent.
    pub model: String,
}

impl Bucket {
    fn of(entry: &Entry) -> Self {
        Self {
            hour: Hour::of(entry.time),
            project: entry.project.clone(),
            subkey_id: entry.subkey_id.clone(),
            provider: entry.provider.clone().unwrap_or_default(),
            model: entry.model.clone().unwrap_or_default(),
        }
    }
}

/// A tag: its name and its value.
pub type Tag = (String, String);

/// What the entries of one transaction add, each bucket once, in a fixed order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rollup {
    buckets: BTreeMap<Bucket, Sums>,
    tags: BTreeMap<(Bucket, Tag), Sums>,
}

impl Rollup {
    /// Adds an entry.
    pub fn add(&mut self, entry: &Entry) {
        let (bucket, sums) = (Bucket::of(entry), Sums::of(entry));
        for (name, value) in &entry.tags {
            let tag = (name.clone(), value.clone());
            self.tags.entry((bucket.clone(), tag)).or_default().add(&sums);
        }
        self.buckets.entry(bucket).or_default().add(&sums);
    }

    /// What each bucket gets.
    pub fn buckets(&self) -> impl Iterator<Item = (&Bucket, &Sums)> {
        self.buckets.iter()
    }

    /// What each tag in each bucket gets.
    pub fn tags(&self) -> impl Iterator<Item = (&Bucket, &Tag, &Sums)> {
        self.tags.iter().map(|((bucket, tag), sums)| (bucket, tag, sums))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_hour_reads_back_and_nothing_else_does() {
        let hour = Hour::of(at("2026-11-22T16:59:59.999999Z"));
        assert_eq!(hour.to_string(), "2026-11-22T16");
        assert_eq!(Hour::parse("2026-11-22T16"), Some(hour));
        assert_eq!((hour.begins(), hour.ends()), (at("2026-11-22T16:00:00Z"), at("2026-11-22T17:00:00Z")));
        for junk in
            ["", "2026-11-22", "2026-11-22T24", "2026-11-22T1", "2026-11-22T16:00", "zz", "2026-11-22T+1"]
        {
            assert_eq!(Hour::parse(junk), None, "{junk}");
        }
    }

    #[test]
    fn entries_add_up_by_hour_and_by_tag() {
        let entry = |time, status, decision| Entry {
            time: at(time),
            project: "p".into(),
            count: 2,
            status,
            decision,
            output_tokens: u64::MAX,
            cost_usd: NanoUsd::MAX,
            tags: [("team".to_owned(), "search".to_owned())].into(),
            ..Entry::default()
        };
        let mut rollup = Rollup::default();
        rollup.add(&entry("2026-11-22T16:00:00Z", Some(200), Decision::Allowed));
        rollup.add(&entry("2026-11-22T16:30:00Z", Some(500), Decision::Allowed));
        rollup.add(&entry("2026-11-22T16:59:00Z", None, Decision::Allowed));
        rollup.add(&entry("2026-11-22T16:59:00Z", Some(403), Decision::Denied));
        rollup.add(&entry("2026-11-22T17:00:00Z", Some(200), Decision::Allowed));
        let sums: Vec<_> = rollup.buckets().map(|(bucket, sums)| (bucket.hour.to_string(), *sums)).collect();
        assert_eq!(sums.len(), 2);
        let first = sums[0].1;
        assert_eq!((first.entries, first.requests, first.denied, first.failed), (4, 8, 2, 4));
        assert_eq!((first.output_tokens, first.cost), (4 * COUNT_MAX, COST_MAX.times(4)));
        let tags: Vec<_> = rollup.tags().map(|(_, tag, sums)| (tag.1.as_str(), sums.entries)).collect();
        assert_eq!(tags, [("search", 4), ("search", 1)]);
    }
}
