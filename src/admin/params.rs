//! Query parameters: each is taken by name, once, and what nobody takes is refused.

use super::refusal;
use crate::http::Problem;
use axum::extract::Query;
use chrono::{DateTime, TimeDelta, Utc};
use http::Uri;
use std::str::FromStr;

/// The parameters that are not taken yet.
pub(super) struct Params(Vec<(String, String)>);

/// Where a list begins and how long it is.
pub(super) struct PageParams<K> {
    pub(super) after: Option<K>,
    pub(super) limit: u32,
}

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

impl Params {
    pub(super) fn read(uri: &Uri) -> Result<Self, Problem> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| {
            Problem::bad_request("invalid_query", "the query is not a list of name=value in UTF-8")
        })?;
        for (at, (name, _)) in pairs.iter().enumerate() {
            if pairs[..at].iter().any(|(earlier, _)| earlier == name) {
                return Err(refusal::invalid_param(name, "given twice"));
            }
        }
        Ok(Self(pairs))
    }

    /// A parameter as text.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(at).1)
    }

    /// A parameter that reads as a `T`; `what` says what to write.
    pub(super) fn parsed<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Problem> {
        self.with(name, what, |text| text.parse().ok())
    }

    /// A parameter that `read` takes; `what` says what to write.
    pub(super) fn with<T>(
        &mut self,
        name: &str,
        what: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let read = |text: String| read(&text).ok_or_else(|| refusal::invalid_param(name, what));
        self.text(name).map(read).transpose()
    }

    /// A moment.
    pub(super) fn time(&mut self, name: &str) -> Result<Option<DateTime<Utc>>, Problem> {
        let read = |text: &str| DateTime::parse_from_rfc3339(text).ok().map(|time| time.with_timezone(&Utc));
        self.with(name, "a time like 2026-11-22T16:00:00Z", read)
    }

    /// A length of time.
    pub(super) fn duration(&mut self, name: &str) -> Result<Option<TimeDelta>, Problem> {
        self.with(name, "a length of time like 90d, 12h or 30m", duration)
    }

    /// `limit` and `cursor`.
    pub(super) fn page<K: FromStr>(&mut self) -> Result<PageParams<K>, Problem> {
        let limit = self.with("limit", "a number from 1 to 1000", |text| {
            text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit))
        })?;
        let after = self.parsed("cursor", "take next_cursor as it was given")?;
        Ok(PageParams { after, limit: limit.unwrap_or(LIMIT_DEFAULT) })
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), Problem> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(refusal::unknown_param(name)),
        }
    }
}

fn duration(text: &str) -> Option<TimeDelta> {
    let (count, seconds_each) = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400), ("w", 604_800)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|count| (count, seconds)))?;
    let is_plain = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = is_plain.then(|| count.parse::<i64>().ok()?.checked_mul(seconds_each))??;
    // Ten thousand years; times are not counted further back.
    TimeDelta::try_seconds(seconds).filter(|_| seconds < 315_576_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Result<Params, Problem> {
        Params::read(&format!("/x?{query}").parse().unwrap())
    }

    #[test]
    fn what_nobody_takes_and_what_is_given_twice_is_refused() {
        let mut some = params("a=1&b=%C3%A4+x").unwrap();
        assert_eq!(some.text("b").as_deref(), Some("ä x"));
        assert_eq!(some.finish().unwrap_err().code(), "unknown_field");
        assert_eq!(params("a=1&a=2").err().unwrap().code(), "invalid_field");
        assert!(params("").unwrap().finish().is_ok());
    }

    #[test]
    fn pages_are_bounded() {
        for (query, limit) in [
            ("", Some(100)),
            ("limit=1000", Some(1000)),
            ("limit=0", None),
            ("limit=1001", None),
            ("limit=x", None),
        ] {
            let page = params(query).unwrap().page::<i64>();
            assert_eq!(page.ok().map(|page| page.limit), limit, "{query}");
        }
        assert!(params("cursor=junk").unwrap().page::<i64>().is_err());
    }

    #[test]
    fn lengths_of_time_read() {
        assert_eq!(duration("90d"), Some(TimeDelta::days(90)));
        for bad in ["", "d", "90", "-1d", "+1d", "1y", "99999999999999999999s", "9999999999w"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
