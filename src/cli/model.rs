//! `bitting model ...`: the catalog. `set` keeps what it does not name: it reads the model's document, changes what
//! the flags say, and puts the whole back.

use super::client::{Client, Query, path};
use super::import::{self, ImportArgs, SyncArgs};
use super::listing::{Extent, Listing};
use super::render::{self, Form, cell, field};
use super::values::{Field, ModelName, Moment};
use super::{CliError, UsageError};
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

/// What of a listed model goes back into its document. The rest is the server's to say; the time from which its
/// prices hold belongs to those prices, not to the next.
const DOCUMENT: [&str; 12] = [
    "operations",
    "aliases",
    "capabilities",
    "context_window",
    "max_output_tokens",
    "max_reasoning_tokens",
    "max_image_tokens",
    "image_window_factor",
    "picture_tokens",
    "max_input_seconds",
    "bound_covers_reasoning",
    "prices",
];

/// What can be done with the catalog.
#[derive(Debug, Subcommand)]
pub enum ModelCommand {
    /// List models with their prices in USD for a million tokens
    List(ListArgs),
    /// Set what a model can do and what it costs; what is not named stays
    #[command(
        after_help = "Examples:\n  bitting model set openai/gpt-4o-mini --input 0.15 --cached-input 0.075 \
        --output 0.60\n  bitting model set local/llama --operation chat --context-window 131072 --max-output-tokens 8192 \
        --input 0 --output 0\n\nA price that is not known is not 0: under a cap, a model without a price is refused."
    )]
    Set(Box<SetArgs>),
    /// Take over the models and prices of a list: LiteLLM's, models.dev's or OpenRouter's
    Import(ImportArgs),
    /// Fetch a provider's own model list, in OpenRouter's format, and take it over
    Sync(SyncArgs),
}

/// Arguments of `model list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this provider
    #[arg(long)]
    provider: Option<String>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `model set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The model, like openai/gpt-4o-mini
    #[arg(value_name = "PROVIDER/MODEL")]
    model: ModelName,
    /// What it serves: chat, completions, embeddings, ...
    #[arg(long, num_args = 1..)]
    operation: Vec<String>,
    /// Other names for it
    #[arg(long, num_args = 1..)]
    alias: Vec<String>,
    /// What it can do: tools, vision, reasoning, ...
    #[arg(long, num_args = 1..)]
    capability: Vec<String>,
    /// The most input it takes
    #[arg(long, value_name = "TOKENS")]
    context_window: Option<u64>,
    /// The most output it gives
    #[arg(long, value_name = "TOKENS")]
    max_output_tokens: Option<u64>,
    /// A request's output bound also bounds reasoning
    #[arg(long, value_name = "BOOL")]
    bound_covers_reasoning: Option<bool>,
    /// USD for a million tokens of input
    #[arg(long, value_name = "USD", help_heading = "Prices")]
    input: Option<NanoUsd>,
    /// USD for a million tokens of input read from a cache
    #[arg(long, value_name = "USD", help_heading = "Prices")]
    cached_input: Option<NanoUsd>,
    /// USD for a million tokens of input written to a cache
    #[arg(long, value_name = "USD", help_heading = "Prices")]
    cache_write: Option<NanoUsd>,
    /// USD for a million tokens of output
    #[arg(long, value_name = "USD", help_heading = "Prices")]
    output: Option<NanoUsd>,
    /// USD for a request, on top
    #[arg(long, value_name = "USD", help_heading = "Prices")]
    per_request: Option<NanoUsd>,
    /// When the prices begin to hold [default: now]
    #[arg(long, value_name = "TIME", help_heading = "Prices")]
    effective_from: Option<Moment>,
    /// Any field by its name in the API; wins over the flags
    #[arg(long, value_name = "FIELD=JSON")]
    set: Vec<Field>,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(command: ModelCommand, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    match command {
        ModelCommand::List(args) => list(args, client).await,
        ModelCommand::Set(args) => set(*args, client, now).await,
        ModelCommand::Import(args) => import::import(args, client).await,
        ModelCommand::Sync(args) => import::sync(args, client).await,
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let listing = match &args.provider {
        None => Listing::read(client, &path(&["models"]), &Query::new(), args.extent).await?,
        Some(provider) => {
            let mut all = Listing::read(client, &path(&["models"]), &Query::new(), Extent::ALL).await?;
            all.items.retain(|model| model["provider"] == provider.as_str());
            all.items.truncate(args.extent.items_max());
            all
        }
    };
    render::print_listing(
        &listing,
        args.form,
        &[
            ("PROVIDER", &field("provider")),
            ("MODEL", &field("model")),
            ("OPERATIONS", &field("operations")),
            ("CONTEXT", &field("context_window")),
            ("MAX OUTPUT", &field("max_output_tokens")),
            ("INPUT USD", &|model| cell(&model["prices"]["input_per_mtok_usd"])),
            ("CACHED USD", &|model| cell(&model["prices"]["cached_input_per_mtok_usd"])),
            ("OUTPUT USD", &|model| cell(&model["prices"]["output_per_mtok_usd"])),
        ],
    )
}

async fn set(args: SetArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let (name, form) = (args.model.clone(), args.form);
    let changes = args.changes(now)?;
    let all = Listing::read(client, &path(&["models"]), &Query::new(), Extent::ALL).await?;
    let document = changed(known(&all, &name), changes);
    let model = client.put(&path(&["models", &name.provider, &name.model]), &document).await?;
    render::print_object(&model, form, &["provider", "model"])
}

/// The document of a model in the catalog; of one that is not in it, nothing.
fn known(all: &Listing, name: &ModelName) -> Map<String, Value> {
    let is_it =
        |item: &&Value| item["provider"] == name.provider.as_str() && item["model"] == name.model.as_str();
    let Some(item) = all.items.iter().find(is_it) else { return Map::new() };
    let kept = DOCUMENT.iter().map(|key| ((*key).to_owned(), item[*key].clone()));
    kept.filter(|(_, value)| !value.is_null()).collect()
}

/// `document` with `changes`; prices are changed one by one.
fn changed(mut document: Map<String, Value>, mut changes: Map<String, Value>) -> Value {
    if let Some(Value::Object(new)) = changes.remove("prices") {
        match document.get_mut("prices") {
            Some(Value::Object(prices)) => prices.extend(new),
            Some(_) | None => _ = document.insert("prices".to_owned(), Value::Object(new)),
        }
    }
    document.extend(changes);
    Value::Object(document)
}

impl SetArgs {
    fn changes(self, now: DateTime<Utc>) -> Result<Map<String, Value>, UsageError> {
        let mut changes = Map::new();
        let lists =
            [("operations", self.operation), ("aliases", self.alias), ("capabilities", self.capability)];
        for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
            changes.insert(name.to_owned(), json!(list));
        }
        let singles = [
            ("context_window", self.context_window.map(|tokens| json!(tokens))),
            ("max_output_tokens", self.max_output_tokens.map(|tokens| json!(tokens))),
            ("bound_covers_reasoning", self.bound_covers_reasoning.map(|covers| json!(covers))),
        ];
        let prices = [
            ("input_per_mtok_usd", self.input),
            ("cached_input_per_mtok_usd", self.cached_input),
            ("cache_write_per_mtok_usd", self.cache_write),
            ("output_per_mtok_usd", self.output),
            ("per_request_usd", self.per_request),
        ];
        let given =
            |(name, price): (&str, Option<NanoUsd>)| price.map(|price| (name.to_owned(), json!(price)));
        let prices: Map<_, _> = prices.into_iter().filter_map(given).collect();
        if !prices.is_empty() {
            changes.insert("prices".to_owned(), Value::Object(prices));
        }
        changes.extend(
            singles.into_iter().filter_map(|(name, value)| value.map(|value| (name.to_owned(), value))),
        );
        if let Some(moment) = self.effective_from {
            changes.insert("effective_from".to_owned(), json!(moment.ahead_of(now)?));
        }
        changes.extend(self.set.into_iter().map(|field| (field.name, field.value)));
        if changes.is_empty() { Err(UsageError::NothingToChange) } else { Ok(changes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Remote};
    use clap::Parser as _;

    fn changes(line: &str) -> Result<Map<String, Value>, UsageError> {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Remote(Remote::Model(ModelCommand::Set(args))) => {
                args.changes("2026-11-22T16:00:00Z".parse().unwrap())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_price_is_changed_and_all_else_of_the_document_stays() {
        let listed = json!({
            "provider": "openrouter", "model": "openai/gpt-4o", "operations": ["chat"], "context_window": 128_000,
            "max_output_tokens": null, "prices": {"input_per_mtok_usd": "2.50", "output_per_mtok_usd": "10.00"},
            "effective_from": "2026-01-01T00:00:00Z", "source": "https://example.com", "version": 3,
        });
        let all = Listing {
            items: vec![json!({"provider": "openai", "model": "openai/gpt-4o"}), listed],
            next_cursor: None,
        };
        let name: ModelName = "openrouter/openai/gpt-4o".parse().unwrap();
        let sent = changed(
            known(&all, &name),
            changes("bitting model set openrouter/openai/gpt-4o --input 2").unwrap(),
        );
        let wanted = json!({
            "operations": ["chat"], "context_window": 128_000,
            "prices": {"input_per_mtok_usd": "2.00", "output_per_mtok_usd": "10.00"},
        });
        assert_eq!(sent, wanted);
    }

    #[test]
    fn a_new_model_is_what_the_flags_say() {
        let line = "bitting model set local/llama --operation chat completions --context-window 8192 --input 0 --output 0 \
                    --bound-covers-reasoning true --effective-from 2027-01-01";
        let name: ModelName = "local/llama".parse().unwrap();
        let wanted = json!({
            "operations": ["chat", "completions"], "context_window": 8192, "bound_covers_reasoning": true,
            "prices": {"input_per_mtok_usd": "0.00", "output_per_mtok_usd": "0.00"}, "effective_from": "2027-01-01T00:00:00Z",
        });
        assert_eq!(changed(known(&Listing::default(), &name), changes(line).unwrap()), wanted);
        assert!(matches!(changes("bitting model set local/llama"), Err(UsageError::NothingToChange)));
    }
}
