//! OpenAI: the usage API (`/v1/organization/usage/...`), the costs API (`/v1/organization/costs`), and what the dashboard
//! exports, which has the same fields as columns.
//!
//! `input_tokens` counts what was read from a cache or written to one, too. Costs name no model.

use super::csv::{Row, Rows};
use super::number::{amount, count};
use super::{Counted, Export, ExportError, day_of};
use chrono::{DateTime, NaiveDate};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct UsageResult {
    #[serde(default)]
    input_tokens: i64,
    #[serde(default)]
    input_cached_tokens: Option<i64>,
    #[serde(default)]
    input_cache_write_tokens: Option<i64>,
    #[serde(default)]
    output_tokens: Option<i64>,
    #[serde(default)]
    num_model_requests: i64,
    #[serde(default)]
    model: Option<String>,
}

#[derive(Deserialize)]
struct CostResult {
    amount: Amount,
}

#[derive(Deserialize)]
struct Amount {
    value: Box<RawValue>,
    currency: String,
}

/// Adds one result of a bucket.
pub(super) fn read_result(export: &mut Export, day: NaiveDate, json: &str) -> Result<(), ExportError> {
    if let Ok(CostResult { amount: Amount { value, currency } }) = serde_json::from_str(json) {
        is_usd(&currency)?;
        let cost = amount(value.get().trim_matches('"'), 0)
            .ok_or_else(|| ExportError::Bucket { bucket: day.to_string(), why: "an amount does not read" })?;
        export.add(day, None, &Counted { cost: Some(cost), ..Counted::default() });
        return Ok(());
    }
    let result: UsageResult = serde_json::from_str(json).map_err(|_| ExportError::Unknown)?;
    let (cached, written) =
        (result.input_cached_tokens.unwrap_or(0), result.input_cache_write_tokens.unwrap_or(0));
    let counted = Counted {
        requests: Some(result.num_model_requests),
        input_tokens: Some(result.input_tokens.saturating_sub(cached).saturating_sub(written)),
        cached_input_tokens: Some(cached),
        cache_write_tokens: result.input_cache_write_tokens,
        output_tokens: Some(result.output_tokens.unwrap_or(0)),
        cost: None,
    };
    export.add(day, result.model.as_deref(), &counted);
    Ok(())
}

fn is_usd(currency: &str) -> Result<(), ExportError> {
    if currency.eq_ignore_ascii_case("usd") {
        Ok(())
    } else {
        Err(ExportError::Currency(currency.to_owned()))
    }
}

/// Reads a file of the dashboard. `None` when it is another's.
pub(super) fn read_csv(rows: &Rows) -> Result<Option<Export>, ExportError> {
    let is_cost = rows.has(&["start_time", "end_time", "amount_value", "amount_currency"]);
    if !is_cost && !rows.has(&["start_time", "end_time", "num_model_requests", "input_tokens"]) {
        return Ok(None);
    }
    let mut export = Export::default();
    for row in rows.iter() {
        let time = |name| count(row.get(name)).and_then(|seconds| DateTime::from_timestamp(seconds, 0));
        let day = time("start_time").zip(time("end_time")).and_then(|(begins, ends)| day_of(begins, ends));
        let day = day.ok_or_else(|| row.wrong("its time does not lie within one day in UTC"))?;
        export.days.insert(day);
        if is_cost {
            // Days without costs have no amount.
            if !row.get("amount_value").is_empty() {
                is_usd(row.get("amount_currency"))?;
                let cost = amount(row.get("amount_value"), 0).ok_or_else(|| row.wrong("no amount"))?;
                export.add(day, None, &Counted { cost: Some(cost), ..Counted::default() });
            }
        } else if !row.get("num_model_requests").is_empty() {
            export.add(day, Some(row.get("model")), &counted(row)?);
        }
    }
    Ok(Some(export))
}

fn counted(row: Row<'_>) -> Result<Counted, ExportError> {
    let number = |name| count(row.get(name)).ok_or_else(|| row.wrong("a count does not read"));
    let (cached, written) = (number("input_cached_tokens")?, number("input_cache_write_tokens")?);
    let tells_written = !row.get("input_cache_write_tokens").is_empty();
    Ok(Counted {
        requests: Some(number("num_model_requests")?),
        input_tokens: Some(number("input_tokens")?.saturating_sub(cached).saturating_sub(written)),
        cached_input_tokens: Some(cached),
        cache_write_tokens: tells_written.then_some(written),
        output_tokens: Some(number("output_tokens")?),
        cost: None,
    })
}
