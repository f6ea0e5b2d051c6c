//! The small languages of the flags: caps, rates, labels, times, fields. What is read here is valid by form; whether
//! it makes sense is for the server to say.

use super::UsageError;
use super::render::cell;
use crate::base::NanoUsd;
use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use std::str::FromStr;

/// Why the value of a flag does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ValueError {
    #[error(
        "a cap is an amount in USD per hour, day, week, month or total, like 25/month or 5/day@Europe/Berlin"
    )]
    Cap,
    #[error("{0}")]
    Amount(#[from] crate::base::MoneyError),
    #[error("a rate is like 60/minute, tokens:100000/minute (second, minute, hour or day) or concurrent:8")]
    Rate,
    #[error("a label is NAME=VALUE")]
    Label,
    #[error("a duration is a number and a unit: 30s, 15m, 12h, 90d or 2w")]
    Duration,
    #[error(
        "a time is a duration like 90d, a day like 2027-01-31 (UTC), or RFC 3339 like 2027-01-31T08:00:00Z"
    )]
    Time,
    #[error(
        "write FIELD=JSON, like --set 'owner=\"ana\"', --set max_output_tokens=4096 or --set ip_allow=null"
    )]
    Field,
    #[error("write PROVIDER/MODEL, like openai/gpt-4o-mini")]
    Model,
}

/// A cap: `AMOUNT/WINDOW[@ZONE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cap {
    limit_usd: NanoUsd,
    window: String,
    zone: Option<String>,
}

impl FromStr for Cap {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (amount, rest) = text.split_once('/').ok_or(ValueError::Cap)?;
        let (window, zone) = match rest.split_once('@') {
            Some((window, zone)) if !zone.is_empty() => (window, Some(zone.to_owned())),
            Some(_) => return Err(ValueError::Cap),
            None => (rest, None),
        };
        if !["hour", "day", "week", "month", "total"].contains(&window) {
            return Err(ValueError::Cap);
        }
        Ok(Self { limit_usd: amount.parse()?, window: window.to_owned(), zone })
    }
}

impl Cap {
    /// The entry of `budgets`.
    pub(super) fn document(&self) -> Value {
        let mut budget = json!({"limit_usd": self.limit_usd, "window": self.window});
        if let Some(zone) = &self.zone {
            budget["timezone"] = json!(zone);
        }
        budget
    }
}

/// What is spent of each cap of a sub-key or project.
pub(super) fn caps(owner: &Value) -> String {
    let budgets = owner["budgets"].as_array().map(Vec::as_slice).unwrap_or_default();
    let cap = |budget: &Value| {
        format!(
            "{} of {}/{}",
            cell(&budget["spent_usd"]),
            cell(&budget["limit_usd"]),
            cell(&budget["window"])
        )
    };
    if budgets.is_empty() {
        "no cap".to_owned()
    } else {
        budgets.iter().map(cap).collect::<Vec<_>>().join(", ")
    }
}

/// A rate: `[requests:|tokens:]N/PERIOD` or `concurrent:N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    metric: &'static str,
    limit: u64,
    per: Option<String>,
}

impl FromStr for Rate {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (metric, rest) = text.split_once(':').unwrap_or(("requests", text));
        let count = |digits: &str| whole_number(digits).ok_or(ValueError::Rate);
        if metric == "concurrent" {
            return Ok(Self { metric: "concurrent_requests", limit: count(rest)?, per: None });
        }
        let metric =
            ["requests", "tokens"].into_iter().find(|known| *known == metric).ok_or(ValueError::Rate)?;
        let (limit, per) = rest.split_once('/').ok_or(ValueError::Rate)?;
        if !["second", "minute", "hour", "day"].contains(&per) {
            return Err(ValueError::Rate);
        }
        Ok(Self { metric, limit: count(limit)?, per: Some(per.to_owned()) })
    }
}

impl Rate {
    /// The entry of `rate_limits`.
    pub(super) fn document(&self) -> Value {
        match &self.per {
            Some(per) => json!({"metric": self.metric, "limit": self.limit, "per": per}),
            None => json!({"metric": self.metric, "limit": self.limit}),
        }
    }
}

/// A label: `NAME=VALUE`; the value may be empty and may hold `=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) name: String,
    pub(super) value: String,
}

impl FromStr for Label {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            Some(_) | None => Err(ValueError::Label),
        }
    }
}

/// A length of time: `30s`, `15m`, `12h`, `90d`, `2w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Duration(TimeDelta);

impl FromStr for Duration {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let unit = text.chars().last().ok_or(ValueError::Duration)?;
        let seconds_each = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return Err(ValueError::Duration),
        };
        let count = whole_number(&text[..text.len() - 1]).ok_or(ValueError::Duration)?;
        let seconds = i64::try_from(count).ok().and_then(|count| count.checked_mul(seconds_each));
        seconds.and_then(TimeDelta::try_seconds).map(Self).ok_or(ValueError::Duration)
    }
}

impl Duration {
    /// In whole seconds.
    pub(super) fn seconds(self) -> i64 {
        self.0.num_seconds()
    }
}

/// A duration that the server reads as it was written.
pub(super) fn duration_text(text: &str) -> Result<String, ValueError> {
    text.parse::<Duration>().map(|_| text.to_owned())
}

/// A moment: a duration from now, a day's first moment in UTC, or RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// So far from now; ahead or back is for the flag to say.
    Away(Duration, String),
    /// Exactly then.
    At(DateTime<Utc>),
}

impl FromStr for Moment {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(duration) = text.parse() {
            return Ok(Self::Away(duration, text.to_owned()));
        }
        if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
            return Ok(Self::At(day.and_time(NaiveTime::MIN).and_utc()));
        }
        DateTime::parse_from_rfc3339(text).map(|at| Self::At(at.to_utc())).map_err(|_| ValueError::Time)
    }
}

impl Moment {
    /// As RFC 3339, durations counted ahead.
    pub(super) fn ahead_of(&self, now: DateTime<Utc>) -> Result<String, UsageError> {
        self.resolve(|duration| now.checked_add_signed(duration.0))
    }

    /// As RFC 3339, durations counted back.
    pub(super) fn before(&self, now: DateTime<Utc>) -> Result<String, UsageError> {
        self.resolve(|duration| now.checked_sub_signed(duration.0))
    }

    fn resolve(&self, away: impl Fn(Duration) -> Option<DateTime<Utc>>) -> Result<String, UsageError> {
        let at = match self {
            Self::Away(duration, text) => away(*duration).ok_or_else(|| UsageError::Time(text.clone()))?,
            Self::At(at) => *at,
        };
        Ok(at.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// One field of a document: `FIELD=JSON`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Value,
}

impl FromStr for Field {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (name, value) = text.split_once('=').ok_or(ValueError::Field)?;
        let value = serde_json::from_str(value).map_err(|_| ValueError::Field)?;
        if name.is_empty() { Err(ValueError::Field) } else { Ok(Self { name: name.to_owned(), value }) }
    }
}

/// A model of a provider: `PROVIDER/MODEL`; the model may hold slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ModelName {
    pub(super) provider: String,
    pub(super) model: String,
}

impl FromStr for ModelName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once('/') {
            Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
                Ok(Self { provider: provider.to_owned(), model: model.to_owned() })
            }
            Some(_) | None => Err(ValueError::Model),
        }
    }
}

fn whole_number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caps_read_as_budgets() {
        for (text, budget) in [
            ("25/month", json!({"limit_usd": "25.00", "window": "month"})),
            ("0.5/hour", json!({"limit_usd": "0.50", "window": "hour"})),
            ("100/total", json!({"limit_usd": "100.00", "window": "total"})),
            (
                "5/day@Europe/Berlin",
                json!({"limit_usd": "5.00", "window": "day", "timezone": "Europe/Berlin"}),
            ),
        ] {
            assert_eq!(text.parse::<Cap>().unwrap().document(), budget, "{text}");
        }
        for bad in [
            "", "25", "25/", "/month", "25/year", "25/Month", "-1/day", "1e3/day", "$5/day", "5/day@",
            "5 /day",
        ] {
            assert!(bad.parse::<Cap>().is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_read_as_rate_limits() {
        for (text, limit) in [
            ("60/minute", json!({"metric": "requests", "limit": 60, "per": "minute"})),
            ("requests:5/second", json!({"metric": "requests", "limit": 5, "per": "second"})),
            ("tokens:100000/day", json!({"metric": "tokens", "limit": 100_000, "per": "day"})),
            ("concurrent:8", json!({"metric": "concurrent_requests", "limit": 8})),
        ] {
            assert_eq!(text.parse::<Rate>().unwrap().document(), limit, "{text}");
        }
        for bad in [
            "",
            "60",
            "60/week",
            "+6/minute",
            "usd:6/minute",
            "concurrent:8/minute",
            "concurrent:",
            "/minute",
        ] {
            assert_eq!(bad.parse::<Rate>(), Err(ValueError::Rate), "{bad}");
        }
    }

    #[test]
    fn labels_and_fields_split_at_the_first_equals_sign() {
        let label: Label = "team=a=b".parse().unwrap();
        assert_eq!((label.name.as_str(), label.value.as_str()), ("team", "a=b"));
        assert!(
            "team=".parse::<Label>().is_ok()
                && "=x".parse::<Label>().is_err()
                && "team".parse::<Label>().is_err()
        );
        let field: Field = "labels={\"a\": \"b=c\"}".parse().unwrap();
        assert_eq!((field.name.as_str(), field.value), ("labels", json!({"a": "b=c"})));
        for bad in ["owner", "owner=ana", "=1", "owner="] {
            assert_eq!(bad.parse::<Field>(), Err(ValueError::Field), "{bad}");
        }
        let name: ModelName = "openrouter/openai/gpt-4o".parse().unwrap();
        assert_eq!((name.provider.as_str(), name.model.as_str()), ("openrouter", "openai/gpt-4o"));
    }

    #[test]
    fn times_are_durations_days_or_moments() {
        let now: DateTime<Utc> = "2026-11-22T16:00:00Z".parse().unwrap();
        for (text, ahead, before) in [
            ("90d", "2027-02-20T16:00:00Z", "2026-08-24T16:00:00Z"),
            ("12h", "2026-11-23T04:00:00Z", "2026-11-22T04:00:00Z"),
            ("30m", "2026-11-22T16:30:00Z", "2026-11-22T15:30:00Z"),
            ("2w", "2026-12-06T16:00:00Z", "2026-11-08T16:00:00Z"),
            ("0s", "2026-11-22T16:00:00Z", "2026-11-22T16:00:00Z"),
            ("2027-01-31", "2027-01-31T00:00:00Z", "2027-01-31T00:00:00Z"),
            ("2027-01-31T08:00:00+02:00", "2027-01-31T06:00:00Z", "2027-01-31T06:00:00Z"),
        ] {
            let moment: Moment = text.parse().unwrap();
            assert_eq!(moment.ahead_of(now).unwrap(), ahead, "{text}");
            assert_eq!(moment.before(now).unwrap(), before, "{text}");
        }
        for bad in
            ["", "d", "90", "1d12h", "-1d", "1.5h", "9é", "tomorrow", "2027-02-30", "2027-01-31T08:00:00"]
        {
            assert_eq!(bad.parse::<Moment>(), Err(ValueError::Time), "{bad}");
        }
        let far: Moment = "99999999999d".parse().unwrap();
        assert!(matches!(far.ahead_of(now), Err(UsageError::Time(_))));
        assert!("99999999999999999999d".parse::<Duration>().is_err());
        assert!("9223372036854775807w".parse::<Duration>().is_err());
    }
}
