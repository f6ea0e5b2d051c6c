//! What a provider says it counted: the reports of its usage API and the files of its console, read into lines by day
//! and model.
//!
//! A report tells what it tells: tokens and requests, or amounts of money, by model or for a whole day. What it does not
//! tell is `None` and is not compared. Input tokens are taken apart as ours are: plain, read from a cache, written to one.

mod anthropic;
mod compare;
mod csv;
mod number;
mod openai;

pub use compare::{Comparison, Difference, Place, Tolerance, ToleranceError, What, compare};

use crate::base::NanoUsd;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

/// Why a file is not a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Neither JSON nor CSV of a known kind.
    #[error(
        "this is no usage or cost report of OpenAI or Anthropic: give the JSON that their usage API answers, or the CSV that their console exports"
    )]
    Unknown,
    /// JSON that is none.
    #[error("the JSON does not read: {0}")]
    Json(String),
    /// A line of a CSV file does not read.
    #[error("line {line}: {why}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A value in a report does not read.
    #[error("a bucket from {bucket}: {why}")]
    Bucket {
        /// When it begins, as it is written.
        bucket: String,
        /// What is wrong.
        why: &'static str,
    },
    /// There are more pages.
    #[error(
        "the last page says that there are more: fetch those too (page = next_page) and put all of them into one JSON array"
    )]
    MorePages,
    /// Not in USD.
    #[error("an amount is in {0}, and only USD can be compared")]
    Currency(String),
}

/// What was counted; `None` where a report does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Requests that were answered.
    pub requests: Option<i64>,
    /// Input tokens at the plain price.
    pub input_tokens: Option<i64>,
    /// Input tokens read from a cache.
    pub cached_input_tokens: Option<i64>,
    /// Input tokens written to a cache.
    pub cache_write_tokens: Option<i64>,
    /// Output tokens.
    pub output_tokens: Option<i64>,
    /// Money.
    pub cost: Option<NanoUsd>,
}

impl Counted {
    /// Adds what another line tells.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.requests, other.requests),
            (&mut self.input_tokens, other.input_tokens),
            (&mut self.cached_input_tokens, other.cached_input_tokens),
            (&mut self.cache_write_tokens, other.cache_write_tokens),
            (&mut self.output_tokens, other.output_tokens),
        ] {
            if let Some(more) = more {
                *sum = Some(sum.unwrap_or(0).saturating_add(more));
            }
        }
        if let Some(more) = other.cost {
            self.cost = Some(self.cost.unwrap_or_default().saturating_add(more));
        }
    }
}

/// A day in UTC, and a model. `None` is all of them, or what belongs to none.
pub type Key = (NaiveDate, Option<String>);

/// A report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// What was counted.
    pub lines: BTreeMap<Key, Counted>,
    /// The days that it is about, also those on which nothing was counted.
    pub days: BTreeSet<NaiveDate>,
}

impl Export {
    /// Whether it tells models apart.
    pub fn is_by_model(&self) -> bool {
        self.lines.keys().any(|(_, model)| model.is_some())
    }

    fn add(&mut self, day: NaiveDate, model: Option<&str>, counted: &Counted) {
        self.days.insert(day);
        let model = model.map(str::trim).filter(|model| !model.is_empty()).map(without_date);
        self.lines.entry((day, model)).or_default().add(counted);
    }
}

/// The name of a model without the date of its version: providers report by the version that served, and applications
/// often name none.
pub fn without_date(model: &str) -> String {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_date = |at: usize| {
        model.get(at..).is_some_and(|tail| match tail.len() {
            // -20250514
            9 => tail.starts_with('-') && is_digits(&tail[1..]),
            // -2024-07-18
            11 => {
                let parts: Vec<&str> = tail.split('-').collect();
                matches!(parts[..], ["", year, month, day]
                    if (year.len(), month.len(), day.len()) == (4, 2, 2)
                        && [year, month, day].into_iter().all(is_digits))
            }
            _ => false,
        })
    };
    let cut =
        [11, 9].into_iter().filter_map(|length| model.len().checked_sub(length)).find(|at| is_date(*at));
    cut.map_or(model, |at| &model[..at]).to_owned()
}

/// Reads a report, whichever it is.
pub fn read(text: &str) -> Result<Export, ExportError> {
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.starts_with(['{', '[']) {
        return read_json(text);
    }
    let rows = csv::read(text)?;
    if let Some(export) = openai::read_csv(&rows)? {
        return Ok(export);
    }
    anthropic::read_csv(&rows)?.ok_or(ExportError::Unknown)
}

/// A page of either API: they differ in how a bucket names its time and in its results.
#[derive(Deserialize)]
struct Page {
    data: Vec<Bucket>,
    #[serde(default)]
    has_more: bool,
}

#[derive(Deserialize)]
struct Bucket {
    start_time: Option<i64>,
    end_time: Option<i64>,
    starting_at: Option<DateTime<Utc>>,
    ending_at: Option<DateTime<Utc>>,
    // The older name of the same.
    #[serde(alias = "result")]
    results: Vec<Box<serde_json::value::RawValue>>,
}

fn read_json(text: &str) -> Result<Export, ExportError> {
    let pages: Vec<Page> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|error| not_json(&error))?
    } else {
        vec![serde_json::from_str(text).map_err(|error| not_json(&error))?]
    };
    if pages.last().is_some_and(|page| page.has_more) {
        return Err(ExportError::MorePages);
    }
    let mut export = Export::default();
    for bucket in pages.into_iter().flat_map(|page| page.data) {
        let (begins, ends, is_anthropic) = match (bucket.start_time, bucket.starting_at) {
            (Some(start), None) => {
                let at = |seconds| DateTime::from_timestamp(seconds, 0);
                (at(start), bucket.end_time.and_then(at), false)
            }
            (None, Some(starting)) => (Some(starting), bucket.ending_at, true),
            (Some(_), Some(_)) | (None, None) => return Err(ExportError::Unknown),
        };
        let day = begins.zip(ends).and_then(|(begins, ends)| day_of(begins, ends)).ok_or_else(|| {
            let bucket = begins.map_or_else(|| "?".to_owned(), |begins| begins.to_rfc3339());
            ExportError::Bucket { bucket, why: "it does not lie within one day in UTC" }
        })?;
        export.days.insert(day);
        for result in &bucket.results {
            if is_anthropic {
                anthropic::read_result(&mut export, day, result.get())?;
            } else {
                openai::read_result(&mut export, day, result.get())?;
            }
        }
    }
    Ok(export)
}

fn not_json(error: &serde_json::Error) -> ExportError {
    if error.is_data() { ExportError::Unknown } else { ExportError::Json(error.to_string()) }
}

fn day_of(begins: DateTime<Utc>, ends: DateTime<Utc>) -> Option<NaiveDate> {
    let last = ends.checked_sub_signed(TimeDelta::microseconds(1))?;
    (begins < ends && begins.date_naive() == last.date_naive()).then(|| begins.date_naive())
}

#[cfg(test)]
mod tests;
