//! `bitting provider ...`: the upstream APIs and where each speaks its dialects.

use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form, cell, field};
use super::values::{Field, Rate};
use super::{CliError, UsageError};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

const FIRST: [&str; 3] = ["slug", "status", "dialects"];

/// What can be done with providers.
#[derive(Debug, Subcommand)]
pub enum ProviderCommand {
    /// List providers
    List(ListArgs),
    /// Show one
    Show(OneArgs),
    /// Add one
    #[command(
        after_help = "Example: bitting provider create local --openai http://127.0.0.1:9000/v1\n\nA plain http \
        or private address must also be in the server's BITTING_PRIVATE_UPSTREAMS."
    )]
    Create(WriteArgs),
    /// Change one
    Update(UpdateArgs),
    /// Delete one that nothing refers to
    Delete(OneArgs),
    /// Stop sending requests to it
    Suspend(OneArgs),
    /// Send requests to it again
    Resume(OneArgs),
}

/// Arguments of `provider list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// One provider.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The provider's slug, like openai
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    slug: String,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `provider create`.
#[derive(Debug, Args)]
pub struct WriteArgs {
    #[command(flatten)]
    one: OneArgs,
    #[arg(
        long,
        value_name = "URL",
        help = "Where it speaks the OpenAI dialect, like https://api.openai.com/v1"
    )]
    openai: Option<String>,
    /// Where it speaks the Anthropic dialect
    #[arg(long, value_name = "URL")]
    anthropic: Option<String>,
    /// Where it speaks the Gemini dialect
    #[arg(long, value_name = "URL")]
    gemini: Option<String>,
    /// What to do with a stream whose client has gone
    #[arg(long, value_enum)]
    on_client_gone: Option<OnClientGone>,
    /// A limit for all who use it, like 500/minute, tokens:200000/minute or concurrent:32; `--set rate_limits=[]` for none
    #[arg(long, value_name = "RATE")]
    rate: Vec<Rate>,
    /// Any field by its name in the API, like --set 'dialects={"openai":{"base_url":"https://h/v1","auth":"api-key"}}'
    #[arg(long, value_name = "FIELD=JSON")]
    set: Vec<Field>,
}

/// Arguments of `provider update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    write: WriteArgs,
    /// Only if it is still at this version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnClientGone {
    /// Cancel it: for providers that then stop billing
    Cancel,
    /// Read it to its end: for providers that bill on
    Drain,
}

impl WriteArgs {
    fn fields(self) -> Map<String, Value> {
        let mut document = Map::new();
        let dialects = [("openai", self.openai), ("anthropic", self.anthropic), ("gemini", self.gemini)];
        let dialects: Map<_, _> = dialects
            .into_iter()
            .filter_map(|(name, url)| url.map(|url| (name.to_owned(), json!(url))))
            .collect();
        if !dialects.is_empty() {
            document.insert("dialects".to_owned(), Value::Object(dialects));
        }
        self.on_client_gone.map(|choice| {
            let word = match choice {
                OnClientGone::Cancel => "cancel",
                OnClientGone::Drain => "drain",
            };
            document.insert("on_client_gone".to_owned(), json!(word))
        });
        if !self.rate.is_empty() {
            let limits = self.rate.iter().map(Rate::document).collect();
            document.insert("rate_limits".to_owned(), limits);
        }
        document.extend(self.set.into_iter().map(|field| (field.name, field.value)));
        document
    }
}

pub(super) async fn run(command: ProviderCommand, client: &Client) -> Result<(), CliError> {
    match command {
        ProviderCommand::List(args) => {
            let listing = Listing::read(client, &path(&["providers"]), &Query::new(), args.extent).await?;
            render::print_listing(
                &listing,
                args.form,
                &[("SLUG", &field("slug")), ("STATUS", &field("status")), ("DIALECTS", &dialects)],
            )
        }
        ProviderCommand::Show(args) => {
            let provider = client.get(&path(&["providers", &args.slug]), &[]).await?;
            render::print_object(&provider, args.form, &FIRST)
        }
        ProviderCommand::Create(args) => {
            let (slug, form) = (args.one.slug.clone(), args.one.form);
            let mut document = args.fields();
            document.insert("slug".to_owned(), json!(slug));
            let provider = client.post(&path(&["providers"]), Some(&Value::Object(document))).await?;
            render::print_object(&provider, form, &FIRST)
        }
        ProviderCommand::Update(args) => {
            let (slug, form) = (args.write.one.slug.clone(), args.write.one.form);
            let patch = args.write.fields();
            if patch.is_empty() {
                return Err(UsageError::NothingToChange.into());
            }
            let target = path(&["providers", &slug]);
            let provider = client.patch(&target, &Value::Object(patch), args.if_match).await?;
            render::print_object(&provider, form, &FIRST)
        }
        ProviderCommand::Delete(args) => {
            let answer = client.delete(&path(&["providers", &args.slug])).await?;
            told("deleted", &args, &answer)
        }
        ProviderCommand::Suspend(args) => {
            let answer = client.post(&path(&["providers", &args.slug, "suspend"]), None).await?;
            told("suspended", &args, &answer)
        }
        ProviderCommand::Resume(args) => {
            let answer = client.post(&path(&["providers", &args.slug, "resume"]), None).await?;
            told("resumed", &args, &answer)
        }
    }
}

fn told(done: &str, args: &OneArgs, answer: &Value) -> Result<(), CliError> {
    if args.form.json { render::print_json(answer) } else { render::print(&format!("{done} {}", args.slug)) }
}

/// Each dialect with its base URL; a plain string is short for an object.
fn dialects(provider: &Value) -> String {
    let Some(dialects) = provider["dialects"].as_object() else { return cell(&provider["dialects"]) };
    let url = |dialect: &Value| cell(if dialect.is_object() { &dialect["base_url"] } else { dialect });
    dialects.iter().map(|(name, dialect)| format!("{name}={}", url(dialect))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Remote};
    use clap::Parser as _;

    #[test]
    fn flags_name_the_dialects_and_set_names_the_rest() {
        let line = "bitting provider create local --openai http://h/v1 --gemini http://h --on-client-gone drain --rate concurrent:9 --set \
                    supports_stream_options=false";
        let Command::Remote(Remote::Provider(ProviderCommand::Create(args))) =
            Cli::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("another command is read")
        };
        let wanted = json!({
            "dialects": {"openai": "http://h/v1", "gemini": "http://h"}, "on_client_gone": "drain",
            "supports_stream_options": false, "rate_limits": [{"metric": "concurrent_requests", "limit": 9}],
        });
        assert_eq!(Value::Object(args.fields()), wanted);
    }

    #[test]
    fn both_forms_of_a_dialect_show_their_url() {
        let provider =
            json!({"dialects": {"anthropic": {"base_url": "https://a"}, "openai": "https://o/v1"}});
        assert_eq!(dialects(&provider), "anthropic=https://a openai=https://o/v1");
    }
}
