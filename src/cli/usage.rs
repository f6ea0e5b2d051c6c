//! `bitting usage`: requests, tokens and cost, grouped; and what was charged after a crash and is taken back.

use super::CliError;
use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form, cell};
use super::usage_reconcile::{self, RECONCILE_NOTES, ReconcileArgs};
use super::values::Moment;
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// Arguments of `usage`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Example: bitting usage --by model,tag:team --from 30d"
)]
pub struct UsageArgs {
    #[command(subcommand)]
    command: Option<UsageCommand>,
    #[command(flatten)]
    report: ReportArgs,
}

/// What else can be done about usage.
#[derive(Debug, Subcommand)]
enum UsageCommand {
    /// Take back what was charged after a crash (rule `crash_charge`, outcome `unknown_outcome`)
    #[command(
        after_help = "Once for each request. See what the provider billed first: bitting usage reconcile"
    )]
    Release(ReleaseArgs),
    /// Compare with a provider's own report; exit code 1 when they differ
    #[command(after_help = RECONCILE_NOTES)]
    Reconcile(ReconcileArgs),
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// Group by model, provider, project, subkey, day or tag:NAME; several with commas
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    by: Vec<String>,
    /// From this time on: RFC 3339, a day, or a duration back like 30d
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Only this project's
    #[arg(long)]
    project: Option<String>,
    /// Only this sub-key's
    #[arg(long, value_name = "ID")]
    subkey: Option<String>,
    /// Only this provider's
    #[arg(long)]
    provider: Option<String>,
    /// Only this model's
    #[arg(long)]
    model: Option<String>,
    #[command(flatten)]
    form: Form,
}

#[derive(Debug, Args)]
struct ReleaseArgs {
    /// The request whose charge is taken back
    #[arg(value_name = "REQUEST_ID", value_parser = NonEmptyStringValueParser::new())]
    request_id: String,
    /// Why it is; kept in the admin log
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// How much of it [default: all]
    #[arg(long, value_name = "USD")]
    amount: Option<NanoUsd>,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(args: UsageArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    match args.command {
        None => report(args.report, client, now).await,
        Some(UsageCommand::Release(args)) => release(args, client).await,
        Some(UsageCommand::Reconcile(args)) => usage_reconcile::run(args, client, now).await,
    }
}

/// The sums of a report, as the server calls them, with their headings.
const SUMS: [(&str, &str); 6] = [
    ("requests", "REQUESTS"),
    ("denied", "DENIED"),
    ("failed", "FAILED"),
    ("input_tokens", "INPUT"),
    ("cached_input_tokens", "CACHED"),
    ("output_tokens", "OUTPUT"),
];
const COST: (&str, &str) = ("cost_usd", "COST USD");

async fn report(args: ReportArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let mut query = Query::new();
    if let Some(from) = &args.from {
        query.push(("from", from.before(now)?));
    }
    if let Some(to) = &args.to {
        query.push(("to", to.before(now)?));
    }
    for (name, value) in [
        ("project", &args.project),
        ("subkey", &args.subkey),
        ("provider", &args.provider),
        ("model", &args.model),
    ] {
        query.extend(value.clone().map(|value| (name, value)));
    }
    if !args.by.is_empty() {
        query.push(("group_by", args.by.join(",")));
    }
    let listing = Listing::read(client, &path(&["usage"]), &query, Extent::ALL).await?;
    if args.form.json {
        return render::print_json(&listing.document());
    }
    render::print(&table(&args.by, &listing.items))
}

/// A line for each group, and one for all of them.
fn table(by: &[String], rows: &[Value]) -> String {
    let is_nothing = |row: &Value| SUMS.iter().all(|(name, _)| row[*name] == 0) && row[COST.0] == "0.00";
    if rows.iter().all(is_nothing) {
        return "Nothing was used in this time.".to_owned();
    }
    let heads: Vec<String> = by.iter().map(|by| by.to_uppercase()).collect();
    let names = SUMS.iter().map(|(_, head)| *head).chain([COST.1]);
    let heads: Vec<&str> = heads.iter().map(String::as_str).chain(names).collect();
    let line = |row: &Value| -> Vec<String> {
        let groups = by.iter().map(|by| cell(&row[by.as_str()]));
        groups
            .chain(SUMS.iter().map(|(name, _)| *name).chain([COST.0]).map(|name| cell(&row[name])))
            .collect()
    };
    let mut lines: Vec<Vec<String>> = rows.iter().map(line).collect();
    if !by.is_empty() {
        let mut total = total(rows);
        total[by[0].as_str()] = json!("TOTAL");
        let mut last = line(&total);
        last.iter_mut().take(by.len()).skip(1).for_each(String::clear);
        lines.push(last);
    }
    render::table_of_numbers(&heads, lines, by.len())
}

fn total(rows: &[Value]) -> Value {
    let mut total = json!({});
    for (name, _) in SUMS {
        let sum = rows.iter().filter_map(|row| row[name].as_i64()).fold(0, i64::saturating_add);
        total[name] = json!(sum);
    }
    let costs = rows.iter().filter_map(|row| NanoUsd::parse_signed(row[COST.0].as_str()?).ok());
    total[COST.0] = json!(costs.fold(NanoUsd::ZERO, NanoUsd::saturating_add));
    total
}

async fn release(args: ReleaseArgs, client: &Client) -> Result<(), CliError> {
    let mut order = json!({"request_id": args.request_id, "reason": args.reason});
    if let Some(amount) = args.amount {
        order["amount_usd"] = json!(amount);
    }
    let done = client.post(&path(&["usage", "releases"]), Some(&order)).await?;
    render::print_object(&done, args.form, &["request_id", "corrects", "charged_usd", "released_usd"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(model: Option<&str>, requests: i64, cost: &str) -> Value {
        json!({"model": model, "day": "2026-11-22", "requests": requests, "denied": 0, "failed": 0, "input_tokens": 10,
               "cached_input_tokens": 0, "output_tokens": 5, "cost_usd": cost})
    }

    #[test]
    fn numbers_are_aligned_and_added_up() {
        let rows = [row(None, 1, "-0.50"), row(Some("gpt-4o"), 12_345, "12.003")];
        insta::assert_snapshot!(table(&["model".to_owned(), "day".to_owned()], &rows), @r"
        MODEL   DAY         REQUESTS  DENIED  FAILED  INPUT  CACHED  OUTPUT  COST USD
        -       2026-11-22         1       0       0     10       0       5     -0.50
        gpt-4o  2026-11-22     12345       0       0     10       0       5    12.003
        TOTAL                  12346       0       0     20       0      10    11.503
        ");
        insta::assert_snapshot!(table(&[], &rows[..1]), @r"
        REQUESTS  DENIED  FAILED  INPUT  CACHED  OUTPUT  COST USD
               1       0       0     10       0       5     -0.50
        ");
    }

    #[test]
    fn nothing_is_said_in_words() {
        for rows in [
            vec![],
            vec![json!({"requests": 0, "denied": 0, "failed": 0, "input_tokens": 0,
            "cached_input_tokens": 0, "output_tokens": 0, "cost_usd": "0.00"})],
        ] {
            assert_eq!(table(&[], &rows), "Nothing was used in this time.");
        }
    }
}
