//! `bitting usage`: requests, tokens and cost, grouped.

use super::CliError;
use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Column, Form, cell};
use super::values::Moment;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::Value;

/// Arguments of `usage`.
#[derive(Debug, Args)]
#[command(after_help = "Example: bitting usage --by model,tag:team --from 30d")]
pub struct UsageArgs {
    /// Group by model, provider, project, subkey, day or tag:NAME; several with commas
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    by: Vec<String>,
    /// From this time on: RFC 3339, a day, or a duration back like 30d
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(args: UsageArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let mut query = Query::new();
    if let Some(from) = &args.from {
        query.push(("from", from.before(now)?));
    }
    if let Some(to) = &args.to {
        query.push(("to", to.before(now)?));
    }
    if !args.by.is_empty() {
        query.push(("group_by", args.by.join(",")));
    }
    let listing = Listing::read(client, &path(&["usage"]), &query, Extent::ALL).await?;
    let heads: Vec<String> = args.by.iter().map(|by| by.to_uppercase()).collect();
    let groups: Vec<_> = args.by.iter().map(|by| move |row: &Value| cell(&row[by.as_str()])).collect();
    let grouped =
        heads.iter().zip(&groups).map(|(head, find)| (head.as_str(), find as &dyn Fn(&Value) -> String));
    let columns: Vec<Column> = grouped
        .chain([
            ("REQUESTS", &(|row: &Value| cell(&row["requests"])) as &dyn Fn(&Value) -> String),
            ("DENIED", &|row: &Value| cell(&row["denied"])),
            ("INPUT", &|row: &Value| cell(&row["input_tokens"])),
            ("CACHED", &|row: &Value| cell(&row["cached_input_tokens"])),
            ("OUTPUT", &|row: &Value| cell(&row["output_tokens"])),
            ("COST USD", &|row: &Value| cell(&row["cost_usd"])),
        ])
        .collect();
    render::print_listing(&listing, args.form, &columns)
}
