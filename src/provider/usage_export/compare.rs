//! A provider's report beside our own sums: what differs by more than is tolerated, by name.

use super::{Counted, Export, Key};
use crate::base::NanoUsd;
use chrono::NaiveDate;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// How much of the greater amount may be missing from the smaller, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance(u32);

/// A text that is no tolerance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tolerance is a percentage from 0% to 100%, like 1% or 0.5%, with at most four decimals")]
pub struct ToleranceError;

impl FromStr for Tolerance {
    type Err = ToleranceError;

    fn from_str(text: &str) -> Result<Self, ToleranceError> {
        let number = text.strip_suffix('%').ok_or(ToleranceError)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !is_digits(whole) || !is_digits(fraction) || fraction.len() > 4 || whole.len() > 3 {
            return Err(ToleranceError);
        }
        let fraction: u32 = format!("{fraction:0<4}").parse().map_err(|_| ToleranceError)?;
        let whole: u32 = whole.parse().map_err(|_| ToleranceError)?;
        Some(whole * 10_000 + fraction).filter(|parts| *parts <= 1_000_000).map(Self).ok_or(ToleranceError)
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:04}", self.0 % 10_000);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{fraction}%", self.0 / 10_000)
    }
}

impl Tolerance {
    fn covers(self, theirs: i64, ours: i64) -> bool {
        let (theirs, ours) = (i128::from(theirs), i128::from(ours));
        (theirs - ours).abs() * 1_000_000 <= i128::from(self.0) * theirs.abs().max(ours.abs())
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Requests that were answered.
    Requests,
    /// Input tokens at the plain price.
    InputTokens,
    /// Input tokens read from a cache.
    CachedInputTokens,
    /// Input tokens written to a cache.
    CacheWriteTokens,
    /// Output tokens.
    OutputTokens,
    /// Money, in nano-USD.
    Cost,
}

impl What {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::CachedInputTokens => "cached_input_tokens",
            Self::CacheWriteTokens => "cache_write_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Cost => "cost_usd",
        }
    }

    /// A count as it is shown.
    pub fn show(self, count: i64) -> String {
        match self {
            Self::Cost => NanoUsd::from_nano(count).to_string(),
            Self::Requests
            | Self::InputTokens
            | Self::CachedInputTokens
            | Self::CacheWriteTokens
            | Self::OutputTokens => count.to_string(),
        }
    }
}

/// Who knows of a day's model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Both.
    Both,
    /// The provider alone.
    ProviderOnly,
    /// We alone.
    HereOnly,
}

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The day in UTC.
    pub day: NaiveDate,
    /// The model; `None` for all of the day, or for what belongs to none.
    pub model: Option<String>,
    /// Who knows of it.
    pub place: Place,
    /// What.
    pub what: What,
    /// What the provider counted.
    pub theirs: i64,
    /// What we did.
    pub ours: i64,
}

impl Difference {
    /// How much more we counted, of what the provider did, in per cent with one decimal. `None` of nothing.
    pub fn percent(&self) -> Option<String> {
        let (theirs, ours) = (i128::from(self.theirs), i128::from(self.ours));
        let tenths = (ours - theirs).checked_mul(1_000)?.checked_div(theirs.abs())?;
        let sign = if tenths < 0 { "-" } else { "+" };
        Some(format!("{sign}{}.{}%", tenths.abs() / 10, tenths.abs() % 10))
    }
}

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Days and models that were compared.
    pub compared: usize,
    /// How many of them agree.
    pub agree: usize,
    /// What does not, by day and model.
    pub differences: Vec<Difference>,
}

/// Compares a report with our sums for the days that it is about. Ours are by day and model, with every count.
pub fn compare(theirs: &Export, ours: &BTreeMap<Key, Counted>, tolerance: Tolerance) -> Comparison {
    let is_by_model = theirs.is_by_model();
    let mut here: BTreeMap<Key, Counted> = BTreeMap::new();
    for ((day, model), counted) in ours {
        if theirs.days.contains(day) {
            let model = model.as_deref().filter(|_| is_by_model).map(super::without_date);
            here.entry((*day, model)).or_default().add(counted);
        }
    }
    let told = theirs.lines.values().fold(Counted::default(), |mut told, counted| {
        told.add(counted);
        told
    });
    let mut comparison = Comparison::default();
    let keys: BTreeSet<&Key> = theirs.lines.keys().chain(here.keys()).collect();
    for key in keys {
        let (their, our) = (theirs.lines.get(key), here.get(key));
        let counts = counts(&told, their, our);
        if counts.iter().all(|(_, their, our)| (*their, *our) == (0, 0)) {
            continue;
        }
        let is_nothing = |side: fn(&(What, i64, i64)) -> i64| counts.iter().all(|count| side(count) == 0);
        let place = match (is_nothing(|count| count.1), is_nothing(|count| count.2)) {
            (true, _) => Place::HereOnly,
            (_, true) => Place::ProviderOnly,
            (false, false) => Place::Both,
        };
        let wrong = counts.into_iter().filter(|(_, their, our)| !tolerance.covers(*their, *our));
        let (day, model) = key.clone();
        let before = comparison.differences.len();
        comparison.differences.extend(wrong.map(|(what, theirs, ours)| Difference {
            day,
            model: model.clone(),
            place,
            what,
            theirs,
            ours,
        }));
        comparison.compared += 1;
        comparison.agree += usize::from(comparison.differences.len() == before);
    }
    comparison
}

/// What the report tells at all, of both sides.
fn counts(told: &Counted, theirs: Option<&Counted>, ours: Option<&Counted>) -> Vec<(What, i64, i64)> {
    type Find = fn(&Counted) -> Option<i64>;
    let all: [(What, Find); 6] = [
        (What::Requests, |counted| counted.requests),
        (What::InputTokens, |counted| counted.input_tokens),
        (What::CachedInputTokens, |counted| counted.cached_input_tokens),
        (What::CacheWriteTokens, |counted| counted.cache_write_tokens),
        (What::OutputTokens, |counted| counted.output_tokens),
        (What::Cost, |counted| counted.cost.map(NanoUsd::as_nano)),
    ];
    let of = |side: Option<&Counted>, find: Find| side.and_then(find).unwrap_or(0);
    let told = all.into_iter().filter(|(_, find)| find(told).is_some());
    told.map(|(what, find)| (what, of(theirs, find), of(ours, find))).collect()
}
