//! Anthropic: the Admin API (`usage_report/messages`, `cost_report`), and what the console exports.
//!
//! Amounts of the API are in cents. Reports do not count requests. The console's file of costs names models for people,
//! not by id, so its costs are by day.

use super::csv::Rows;
use super::number::{amount, count};
use super::{Counted, Export, ExportError};
use chrono::NaiveDate;
use serde::Deserialize;

/// Amounts of the API are in hundredths.
const CENTS: i32 = -2;

#[derive(Deserialize)]
struct UsageResult {
    uncached_input_tokens: i64,
    #[serde(default)]
    cache_creation: Option<CacheCreation>,
    #[serde(default)]
    cache_read_input_tokens: i64,
    output_tokens: i64,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Default, Deserialize)]
struct CacheCreation {
    #[serde(default)]
    ephemeral_1h_input_tokens: i64,
    #[serde(default)]
    ephemeral_5m_input_tokens: i64,
}

#[derive(Deserialize)]
struct CostResult {
    amount: String,
    currency: String,
    #[serde(default)]
    model: Option<String>,
}

/// Adds one result of a bucket.
pub(super) fn read_result(export: &mut Export, day: NaiveDate, json: &str) -> Result<(), ExportError> {
    if let Ok(result) = serde_json::from_str::<CostResult>(json) {
        if !result.currency.eq_ignore_ascii_case("usd") {
            return Err(ExportError::Currency(result.currency));
        }
        let cost = amount(&result.amount, CENTS)
            .ok_or_else(|| ExportError::Bucket { bucket: day.to_string(), why: "an amount does not read" })?;
        export.add(day, result.model.as_deref(), &Counted { cost: Some(cost), ..Counted::default() });
        return Ok(());
    }
    let result: UsageResult = serde_json::from_str(json).map_err(|_| ExportError::Unknown)?;
    let written = result.cache_creation.unwrap_or_default();
    let counted = Counted {
        input_tokens: Some(result.uncached_input_tokens),
        cached_input_tokens: Some(result.cache_read_input_tokens),
        cache_write_tokens: Some(
            written.ephemeral_1h_input_tokens.saturating_add(written.ephemeral_5m_input_tokens),
        ),
        output_tokens: Some(result.output_tokens),
        ..Counted::default()
    };
    export.add(day, result.model.as_deref(), &counted);
    Ok(())
}

/// Reads a file of the console. `None` when it is another's.
pub(super) fn read_csv(rows: &Rows) -> Result<Option<Export>, ExportError> {
    let is_cost = rows.has(&["usage_date_utc", "token_type", "cost_usd"]);
    if !is_cost && !rows.has(&["usage_date_utc", "model_version", "usage_input_tokens_no_cache"]) {
        return Ok(None);
    }
    let mut export = Export::default();
    for row in rows.iter() {
        // Files by the hour have the hour behind the day.
        let day = row
            .get("usage_date_utc")
            .get(..10)
            .and_then(|day| NaiveDate::parse_from_str(day, "%Y-%m-%d").ok());
        let day = day.ok_or_else(|| row.wrong("no day"))?;
        if is_cost {
            let cost = amount(row.get("cost_usd"), 0).ok_or_else(|| row.wrong("no amount"))?;
            export.add(day, None, &Counted { cost: Some(cost), ..Counted::default() });
            continue;
        }
        let number = |name| count(row.get(name)).ok_or_else(|| row.wrong("a count does not read"));
        let written = number("usage_input_tokens_cache_write_5m")?
            .saturating_add(number("usage_input_tokens_cache_write_1h")?);
        let counted = Counted {
            input_tokens: Some(number("usage_input_tokens_no_cache")?),
            cached_input_tokens: Some(number("usage_input_tokens_cache_read")?),
            cache_write_tokens: Some(written),
            output_tokens: Some(number("usage_output_tokens")?),
            ..Counted::default()
        };
        export.add(day, Some(row.get("model_version")), &counted);
    }
    Ok(Some(export))
}
