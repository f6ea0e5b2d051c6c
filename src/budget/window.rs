//! Windows of time: calendar-aligned in a budget's time zone, named by their start, never reset.

use crate::base::NanoUsd;
use chrono::{
    DateTime, Datelike, Days, Months, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long an amount lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// From one full hour to the next.
    Hour,
    /// From midnight to midnight.
    Day,
    /// From Monday's midnight.
    Week,
    /// From the first of the month.
    Month,
    /// For ever.
    Total,
}

impl Window {
    /// The name in a budget.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// Reads the name.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Hour, Self::Day, Self::Week, Self::Month, Self::Total];
        all.into_iter().find(|window| window.as_str() == name)
    }

    /// When the window that holds `now` began. [`Window::Total`] began with the epoch.
    pub fn start(self, zone: Tz, now: DateTime<Utc>) -> DateTime<Utc> {
        let local = now.with_timezone(&zone).naive_local();
        match self {
            Self::Hour => now - TimeDelta::nanoseconds(nanos_into_hour(local)),
            Self::Day => resolve(zone, midnight(local.date())),
            Self::Week => {
                let back = Days::new(u64::from(local.weekday().num_days_from_monday()));
                resolve(zone, midnight(local.date().checked_sub_days(back).unwrap_or(local.date())))
            }
            Self::Month => resolve(zone, midnight(local.date().with_day(1).unwrap_or(local.date()))),
            Self::Total => DateTime::UNIX_EPOCH,
        }
    }

    /// When the window that began at `start` ends; `None` when it never does.
    pub fn end(self, zone: Tz, start: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let date = start.with_timezone(&zone).date_naive();
        let next = match self {
            Self::Hour => return Some(start + TimeDelta::hours(1)),
            Self::Day => date.checked_add_days(Days::new(1))?,
            Self::Week => date.checked_add_days(Days::new(7))?,
            Self::Month => date.checked_add_months(Months::new(1))?,
            Self::Total => return None,
        };
        Some(resolve(zone, midnight(next)))
    }
}

fn midnight(date: NaiveDate) -> NaiveDateTime {
    date.and_time(NaiveTime::MIN)
}

fn nanos_into_hour(local: NaiveDateTime) -> i64 {
    use chrono::Timelike;
    (i64::from(local.minute()) * 60 + i64::from(local.second())) * 1_000_000_000
        + i64::from(local.nanosecond())
}

/// The moment a zone's clocks first show `local`; where they skip it, the moment after the gap.
fn resolve(zone: Tz, local: NaiveDateTime) -> DateTime<Utc> {
    let mut at = local;
    // No zone has ever skipped more than a day and a bit.
    for _ in 0..=(26 * 4) {
        if let Some(moment) = zone.from_local_datetime(&at).earliest() {
            return moment.with_timezone(&Utc);
        }
        at += TimeDelta::minutes(15);
    }
    Utc.from_utc_datetime(&local)
}

/// A budget as a sub-key or project states it. Its identity is (owner, window).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpec {
    /// The cap.
    pub limit_usd: NanoUsd,
    /// How long it lasts.
    pub window: Window,
    /// Whose midnight it follows.
    #[serde(default = "utc", serialize_with = "zone_out", deserialize_with = "zone_in")]
    pub timezone: Tz,
    /// Shares of the cap at which to alert, as decimals above 0 and up to 1.
    #[serde(default)]
    pub alert_at: Vec<Share>,
    /// Whose midnight it follows until its window ends, where the zone was changed within one. Told, never set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone_before: Option<ZoneBefore>,
}

/// A time zone that holds on until the window ends in which it was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZoneBefore {
    /// The zone.
    #[serde(serialize_with = "zone_out", deserialize_with = "zone_in")]
    pub timezone: Tz,
    /// When the window ends.
    pub until: DateTime<Utc>,
}

impl BudgetSpec {
    /// The window that holds `now`: when it began, and when it ends.
    pub fn window_at(&self, now: DateTime<Utc>) -> (DateTime<Utc>, Option<DateTime<Utc>>) {
        let zone = self.zone_at(now);
        let start = self.window.start(zone, now);
        (start, self.window.end(zone, start))
    }

    /// Takes the place of `old`, a budget with the same window, at `now`: a window that has begun ends as it would have,
    /// so that another time zone opens no fresh one.
    pub fn succeed(&mut self, old: &Self, now: DateTime<Utc>) {
        let timezone = old.zone_at(now);
        let (_, end) = old.window_at(now);
        self.timezone_before =
            end.filter(|_| timezone != self.timezone).map(|until| ZoneBefore { timezone, until });
    }

    /// Whose midnight it follows at `now`.
    pub fn zone_at(&self, now: DateTime<Utc>) -> Tz {
        let before = self.timezone_before.as_ref().filter(|before| now < before.until);
        before.map_or(self.timezone, |before| before.timezone)
    }
}

/// A share above 0 and up to 1, written as a decimal string like `"0.8"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    text: String,
    nano: i64,
}

impl Share {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In thousand-millionths: 1,000,000,000 is the whole.
    pub fn as_nano(&self) -> i64 {
        self.nano
    }
}

impl Serialize for Share {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // It is written as an amount is, and has as many decimals.
        let amount: NanoUsd =
            text.parse().map_err(|_| serde::de::Error::custom("a share is a decimal like \"0.8\""))?;
        let valid = amount > NanoUsd::ZERO && amount <= NanoUsd::from_nano(1_000_000_000);
        if valid {
            Ok(Self { nano: amount.as_nano(), text })
        } else {
            Err(serde::de::Error::custom("a share is above 0 and at most 1"))
        }
    }
}

fn utc() -> Tz {
    Tz::UTC
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn zone_out<S: Serializer>(zone: &Tz, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(zone.name())
}

fn zone_in<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tz, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(|_| {
        serde::de::Error::custom(format!(
            "{name:?} is not a time zone; write a name like \"UTC\" or \"Europe/Berlin\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn another_time_zone_opens_no_window_before_the_present_one_ends() {
        let spec = |zone: &str| -> BudgetSpec {
            serde_json::from_value(serde_json::json!({"limit_usd": "1", "window": "day", "timezone": zone}))
                .unwrap()
        };
        let (old, noon) = (spec("UTC"), at("2026-11-22T12:00:00Z"));
        let mut new = spec("Asia/Tokyo");
        new.succeed(&old, noon);
        let midnight = at("2026-11-23T00:00:00Z");
        assert_eq!(new.window_at(noon), old.window_at(noon));
        assert_eq!(new.window_at(at("2026-11-22T23:59:59Z")), old.window_at(noon));
        assert_eq!(new.window_at(midnight), (at("2026-11-22T15:00:00Z"), Some(at("2026-11-23T15:00:00Z"))));
        let mut back = spec("UTC");
        back.succeed(&new, noon);
        assert_eq!(back, old, "taken back before it took hold");
        let mut third = spec("Europe/Berlin");
        third.succeed(&new, noon);
        assert_eq!(third.window_at(noon), old.window_at(noon));
        let mut after = spec("Europe/Berlin");
        after.succeed(&new, midnight);
        assert_eq!(after.window_at(midnight), new.window_at(midnight));
    }

    fn window(kind: Window, zone: &str, now: &str) -> (String, Option<String>) {
        let zone: Tz = zone.parse().unwrap();
        let start = kind.start(zone, at(now));
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        (text(start), kind.end(zone, start).map(text))
    }

    #[test]
    fn windows_follow_the_calendar_of_their_zone() {
        let cases = [
            (
                Window::Hour,
                "UTC",
                "2026-11-22T16:07:01Z",
                "2026-11-22T16:00:00Z",
                Some("2026-11-22T17:00:00Z"),
            ),
            (
                Window::Hour,
                "Asia/Kolkata",
                "2026-11-22T16:07:01Z",
                "2026-11-22T15:30:00Z",
                Some("2026-11-22T16:30:00Z"),
            ),
            (
                Window::Day,
                "UTC",
                "2026-11-22T00:00:00Z",
                "2026-11-22T00:00:00Z",
                Some("2026-11-23T00:00:00Z"),
            ),
            // Clocks go forward: 23 hours. Back: 25 hours.
            (
                Window::Day,
                "Europe/Berlin",
                "2026-03-29T12:00:00Z",
                "2026-03-28T23:00:00Z",
                Some("2026-03-29T22:00:00Z"),
            ),
            (
                Window::Day,
                "Europe/Berlin",
                "2026-10-25T12:00:00Z",
                "2026-10-24T22:00:00Z",
                Some("2026-10-25T23:00:00Z"),
            ),
            // Midnight itself is skipped here.
            (
                Window::Day,
                "Africa/Cairo",
                "2026-04-24T10:00:00Z",
                "2026-04-23T22:00:00Z",
                Some("2026-04-24T21:00:00Z"),
            ),
            (
                Window::Week,
                "UTC",
                "2026-11-22T16:00:00Z",
                "2026-11-16T00:00:00Z",
                Some("2026-11-23T00:00:00Z"),
            ),
            (
                Window::Month,
                "America/New_York",
                "2026-12-01T03:00:00Z",
                "2026-11-01T04:00:00Z",
                Some("2026-12-01T05:00:00Z"),
            ),
            (Window::Total, "UTC", "2026-12-01T03:00:00Z", "1970-01-01T00:00:00Z", None),
        ];
        for (kind, zone, now, start, end) in cases {
            assert_eq!(
                window(kind, zone, now),
                (start.to_owned(), end.map(str::to_owned)),
                "{kind:?} {zone} {now}"
            );
        }
    }

    proptest! {
        /// Windows tile time: a moment is in its window, and the end of one is the start of the next.
        #[test]
        fn windows_tile_time(
            seconds in 1_500_000_000_i64..2_500_000_000,
            kind in prop::sample::select(vec![Window::Hour, Window::Day, Window::Week, Window::Month]),
            zone in prop::sample::select(vec![Tz::UTC, Tz::Europe__Berlin, Tz::America__New_York, Tz::Africa__Cairo,
                Tz::Asia__Kathmandu, Tz::Australia__Lord_Howe, Tz::America__Santiago]),
        ) {
            let now = DateTime::from_timestamp(seconds, 0).unwrap();
            let start = kind.start(zone, now);
            let end = kind.end(zone, start).unwrap();
            prop_assert!(start <= now && now < end, "{start} {now} {end}");
            // An hour that a half-hour clock change cuts short may share its start's label; days and up never do.
            if kind != Window::Hour {
                prop_assert_eq!(kind.start(zone, end), end);
                prop_assert_eq!(kind.start(zone, end - TimeDelta::seconds(1)), start);
            }
        }
    }
}
