//! `bitting model import` and `bitting model sync`: price lists that others keep, and what they change.
//!
//! A file is sent as it is written; nothing here reads a price. The report names every price that changes, with what it
//! was before.

use super::client::{Client, path};
use super::render::{self, Form, cell, print, table};
use super::{CliError, UsageError};
use crate::provider::Slug;
use crate::provider::import::Source;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Arguments of `model import`.
#[derive(Debug, Args)]
#[command(
    after_help = "Formats:\n  litellm     LiteLLM's model_prices_and_context_window.json\n  models-dev  api.json of \
    models.dev\n  openrouter  what https://openrouter.ai/api/v1/models answers\n\nExamples:\n  bitting model import \
    model_prices_and_context_window.json --dry-run\n  bitting model import api.json --provider azure=my-azure\n\nA price that \
    has no place here is reported, never taken for 0. What was set by hand (`model set`) stays without --replace."
)]
pub struct ImportArgs {
    /// The list
    file: PathBuf,
    /// Whose list it is [default: by what stands in it]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Which provider here a provider of the list is, like azure=my-azure
    #[arg(long, value_name = "NAME=SLUG", value_parser = named_provider)]
    provider: Vec<(String, Slug)>,
    /// Only these models, like openai/gpt-4o or 'openai/*'
    #[arg(long, value_name = "PROVIDER/MODEL")]
    only: Vec<String>,
    #[command(flatten)]
    how: How,
}

/// Arguments of `model sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// The provider whose model list has OpenRouter's format
    provider: Slug,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Say what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Replace also what was set by hand
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    form: Form,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Litellm,
    ModelsDev,
    Openrouter,
}

impl From<Format> for Source {
    fn from(format: Format) -> Self {
        match format {
            Format::Litellm => Self::Litellm,
            Format::ModelsDev => Self::ModelsDev,
            Format::Openrouter => Self::Openrouter,
        }
    }
}

fn named_provider(text: &str) -> Result<(String, Slug), String> {
    let (name, slug) = text.split_once('=').ok_or("write it as NAME=SLUG")?;
    Ok((name.to_owned(), slug.parse().map_err(|error: crate::provider::SlugError| error.to_string())?))
}

pub(super) async fn import(args: ImportArgs, client: &Client) -> Result<(), CliError> {
    let ImportArgs { file, format, provider, only, how } = args;
    let list = std::fs::read_to_string(&file).map_err(|source| {
        let path = file.clone();
        CliError::File { doing: "read", path, source }
    })?;
    // Read here too: an error names a line of the file, and nothing is sent.
    let guessed =
        Source::guess(&list).map_err(|error| CliError::List { path: file, reason: error.to_string() })?;
    let source = format.map(Source::from).or(guessed).ok_or(UsageError::ListFormat)?;
    let rest = json!({
        "source": source, "providers": provider.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "only": only, "dry_run": how.dry_run, "replace_set": how.replace,
    });
    let report = client.post_text(&path(&["models", "import"]), with_document(&rest, &list)).await?;
    show(&report, how.form)
}

pub(super) async fn sync(args: SyncArgs, client: &Client) -> Result<(), CliError> {
    let SyncArgs { provider, how } = args;
    let body = json!({"provider": provider, "dry_run": how.dry_run, "replace_set": how.replace});
    let report = client.post(&path(&["models", "sync"]), Some(&body)).await?;
    show(&report, how.form)
}

/// An object with the list in it as it is written.
fn with_document(rest: &Value, list: &str) -> String {
    let rest = rest.to_string();
    let open = rest.strip_suffix('}').unwrap_or(&rest);
    format!("{open},\"document\":{list}}}")
}

fn show(report: &Value, form: Form) -> Result<(), CliError> {
    if form.json { render::print_json(report) } else { print(&told(report)) }
}

/// The report for people.
fn told(report: &Value) -> String {
    let list = |name: &str| report[name].as_array().map_or(&[][..], Vec::as_slice);
    let mut text = String::new();
    let mut section = |heading: &str, heads: &[&str], rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            _ = write!(text, "{heading}\n{}\n\n", table(heads, rows));
        }
    };
    let added = list("added").iter().map(|one| vec![cell(&one["model"]), prices(&one["document"]["prices"])]);
    section("Added:", &["MODEL", "PRICES"], added.collect());
    for (name, heading) in
        [("changed", "Changed:"), ("kept", "Kept, because it was set by hand (--replace takes the list's):")]
    {
        let rows = list(name).iter().flat_map(|one| {
            let changes = one["changes"].as_array().map_or(&[][..], Vec::as_slice);
            changes.iter().map(|change| {
                let field = cell(&change["field"]).trim_start_matches('/').to_owned();
                vec![
                    cell(&one["model"]),
                    field,
                    cell(&change["before"]),
                    "->".to_owned(),
                    cell(&change["after"]),
                ]
            })
        });
        section(heading, &["MODEL", "FIELD", "WAS", "", "IS"], rows.collect());
    }
    let remarks = |name: &str| -> Vec<Vec<String>> {
        let row = |one: &Value| vec![cell(&one["model"]), cell(&one["field"]), cell(&one["why"])];
        list(name).iter().map(row).collect()
    };
    section("Taken for something dearer:", &["MODEL", "FIELD", "WHY"], remarks("approximated"));
    section(
        "Without a place here (no field: the whole model):",
        &["MODEL", "FIELD", "WHY"],
        remarks("unmapped"),
    );
    if let Some(skipped) = report["skipped"].as_object().filter(|skipped| !skipped.is_empty()) {
        let rows = skipped.iter().map(|(name, count)| vec![cell(&json!(name)), cell(count)]).collect();
        section("Providers that are not here (--provider NAME=SLUG):", &["NAME", "MODELS"], rows);
    }
    let count = |name: &str| list(name).len();
    _ = writeln!(
        text,
        "{} added, {} changed, {} kept, {} unchanged.",
        count("added"),
        count("changed"),
        count("kept"),
        cell(&report["unchanged"])
    );
    if report["dry_run"] == true {
        text.push_str("Nothing was changed: this is what would be.\n");
    }
    text
}

/// Prices in one line.
fn prices(prices: &Value) -> String {
    let empty = Map::new();
    let prices = prices.as_object().unwrap_or(&empty);
    let short = |name: &str| name.trim_end_matches("_usd").trim_end_matches("_per_mtok").to_owned();
    let known = prices.iter().filter(|(_, price)| price.is_string());
    known.map(|(name, price)| format!("{}={}", short(name), cell(price))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_every_price_that_changes() {
        let report = json!({
            "source": "litellm", "dry_run": true, "unchanged": 7,
            "added": [{"model": "openai/new", "document": {"prices": {"input_per_mtok_usd": "1.00", "output_per_mtok_usd": "2.00",
                "context_tiers": []}}}],
            "changed": [{"model": "openai/gpt-4o", "changes": [
                {"field": "/prices/input_per_mtok_usd", "before": "2.50", "after": "2.00"},
                {"field": "/prices/cached_input_per_mtok_usd", "before": "1.25", "after": null}]}],
            "kept": [{"model": "openai/mine", "changes": [{"field": "/context_window", "before": 1, "after": 2}]}],
            "unmapped": [{"model": "gpt-x", "field": "input_cost_per_pixel", "why": "there is no price of this kind here"}],
            "approximated": [], "skipped": {"azure": 12},
        });
        insta::assert_snapshot!(told(&report), @r#"
        Added:
        MODEL       PRICES
        openai/new  input=1.00 output=2.00

        Changed:
        MODEL          FIELD                             WAS       IS
        openai/gpt-4o  prices/input_per_mtok_usd         2.50  ->  2.00
        openai/gpt-4o  prices/cached_input_per_mtok_usd  1.25  ->  -

        Kept, because it was set by hand (--replace takes the list's):
        MODEL        FIELD           WAS      IS
        openai/mine  context_window  1    ->  2

        Without a place here (no field: the whole model):
        MODEL  FIELD                 WHY
        gpt-x  input_cost_per_pixel  there is no price of this kind here

        Providers that are not here (--provider NAME=SLUG):
        NAME   MODELS
        azure  12

        1 added, 1 changed, 1 kept, 7 unchanged.
        Nothing was changed: this is what would be.
        "#);
    }

    #[test]
    fn a_list_goes_out_as_it_is_written() {
        let body = with_document(&json!({"source": "litellm"}), "{\"m\": {\"x\": 1.50e-07}}");
        assert_eq!(body, "{\"source\":\"litellm\",\"document\":{\"m\": {\"x\": 1.50e-07}}}");
    }
}
