//! `bitting usage reconcile`: a provider's own report beside what was counted here, and what differs.

use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form};
use super::values::Moment;
use super::{CliError, UsageError};
use crate::base::NanoUsd;
use crate::provider::usage_export::{self, Comparison, Counted, Difference, Key, Place, Tolerance};
use chrono::{DateTime, Days, NaiveDate, SecondsFormat, Utc};
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub(super) const RECONCILE_NOTES: &str = "\
Reads what OpenAI's and Anthropic's usage and cost APIs answer (JSON; several pages as one array) and what their consoles
export (CSV). Days are UTC. What is compared is what the file tells: requests that were answered, tokens by class, cost.
Versions of a model that differ by date count as one. Example:
  bitting usage reconcile completions_usage.csv --provider openai --tolerance 0.5%";

/// Arguments of `usage reconcile`.
#[derive(Debug, Args)]
pub(super) struct ReconcileArgs {
    /// The provider's report
    file: PathBuf,
    /// The provider as it is called here
    #[arg(long, value_name = "SLUG")]
    provider: String,
    /// Only from this day on (UTC)
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Only before this day (UTC)
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// How far counts may be apart and still agree
    #[arg(long, value_name = "PERCENT", default_value = "1%")]
    tolerance: Tolerance,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(args: ReconcileArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let text = std::fs::read_to_string(&args.file).map_err(|source| CliError::File {
        doing: "read",
        path: args.file.clone(),
        source,
    })?;
    let mut theirs =
        usage_export::read(&text).map_err(|why| UsageError::Export { path: args.file.clone(), why })?;
    let day = |moment: &Option<Moment>| -> Result<Option<NaiveDate>, CliError> {
        let Some(moment) = moment else { return Ok(None) };
        let time: Result<DateTime<Utc>, _> = moment.before(now)?.parse();
        Ok(time.ok().map(|time| time.date_naive()))
    };
    let (from, to) = (day(&args.from)?, day(&args.to)?);
    let is_asked = |day: &NaiveDate| from.is_none_or(|from| *day >= from) && to.is_none_or(|to| *day < to);
    theirs.days.retain(is_asked);
    theirs.lines.retain(|(day, _), _| is_asked(day));
    let (Some(first), Some(last)) = (theirs.days.first().copied(), theirs.days.last().copied()) else {
        return Err(UsageError::ExportDays { path: args.file }.into());
    };
    let ours = counted_here(client, &args.provider, (first, last)).await?;
    let comparison = usage_export::compare(&theirs, &ours, args.tolerance);
    if args.form.json {
        render::print_json(&document(&comparison, &args, (first, last)))?;
    } else {
        render::print(&table(&comparison, args.tolerance))?;
    }
    let apart = comparison.compared - comparison.agree;
    if apart > 0 { Err(CliError::Apart { apart, compared: comparison.compared }) } else { Ok(()) }
}

/// What was counted here, by day and model.
async fn counted_here(
    client: &Client,
    provider: &str,
    (first, last): (NaiveDate, NaiveDate),
) -> Result<BTreeMap<Key, Counted>, CliError> {
    let begins = |day: NaiveDate| {
        day.and_time(chrono::NaiveTime::MIN).and_utc().to_rfc3339_opts(SecondsFormat::Secs, true)
    };
    let ends = last.checked_add_days(Days::new(1)).ok_or_else(|| UsageError::Time(last.to_string()))?;
    let query: Query = vec![
        ("group_by", "day,model".to_owned()),
        ("provider", provider.to_owned()),
        ("from", begins(first)),
        ("to", begins(ends)),
    ];
    let listing = Listing::read(client, &path(&["usage"]), &query, Extent::ALL).await?;
    let mut ours: BTreeMap<Key, Counted> = BTreeMap::new();
    for row in &listing.items {
        let day = row["day"].as_str().and_then(|day| day.parse().ok());
        let cost = row["cost_usd"].as_str().and_then(|cost| NanoUsd::parse_signed(cost).ok());
        let number = |name: &str| row[name].as_i64();
        let (Some(day), Some(cost), Some(requests)) = (day, cost, number("requests")) else {
            return Err(client.lacking());
        };
        // The provider counts what it answered.
        let answered = requests - number("denied").unwrap_or(0) - number("failed").unwrap_or(0);
        let counted = Counted {
            requests: Some(answered),
            input_tokens: number("input_tokens"),
            cached_input_tokens: number("cached_input_tokens"),
            cache_write_tokens: number("cache_write_tokens"),
            output_tokens: number("output_tokens"),
            cost: Some(cost),
        };
        ours.entry((day, row["model"].as_str().map(str::to_owned))).or_default().add(&counted);
    }
    Ok(ours)
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Both => "both",
        Place::ProviderOnly => "provider only",
        Place::HereOnly => "here only",
    }
}

fn table(comparison: &Comparison, tolerance: Tolerance) -> String {
    let Comparison { compared, agree, differences } = comparison;
    let sum = format!("{agree} of {compared} days and models agree within {tolerance}.");
    if differences.is_empty() {
        return sum;
    }
    let row = |difference: &Difference| {
        let Difference { day, model, place: at, what, theirs, ours } = difference;
        vec![
            day.to_string(),
            model.as_deref().map_or_else(|| "-".to_owned(), |model| crate::base::clip(model, usize::MAX)),
            place(*at).to_owned(),
            what.as_str().to_owned(),
            what.show(*theirs),
            what.show(*ours),
            what.show(ours.saturating_sub(*theirs)),
            difference.percent().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    let heads = ["DAY", "MODEL", "KNOWN TO", "WHAT", "PROVIDER", "HERE", "DIFFERENCE", "PERCENT"];
    render::table_of_numbers(&heads, differences.iter().map(row).collect(), 4) + "\n" + &sum
}

fn document(comparison: &Comparison, args: &ReconcileArgs, (first, last): (NaiveDate, NaiveDate)) -> Value {
    let count = |difference: &Difference, count: i64| match difference.what {
        usage_export::What::Cost => json!(NanoUsd::from_nano(count)),
        _ => json!(count),
    };
    let differences: Vec<Value> = comparison
        .differences
        .iter()
        .map(|one| {
            json!({
                "day": one.day, "model": one.model, "known_to": place(one.place).replace(' ', "_"),
                "what": one.what.as_str(), "provider": count(one, one.theirs), "here": count(one, one.ours),
                "difference": count(one, one.ours.saturating_sub(one.theirs)), "percent": one.percent(),
            })
        })
        .collect();
    json!({
        "provider": args.provider, "from": first, "through": last, "tolerance": args.tolerance.to_string(),
        "compared": comparison.compared, "agree": comparison.agree, "differences": differences,
    })
}
