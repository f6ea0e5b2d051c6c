//! `bitting subkey ...`: look, change, stop, explain; what makes secrets is in [`mint`].

use super::client::{Client, Query, path};
use super::definition::DefinitionFlags;
use super::listing::{Extent, Listing};
use super::render::{self, Form, cell, field};
use super::values::{self, Label, Moment, caps};
use super::{CliError, UsageError, mint};
use chrono::{DateTime, Utc};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The keys of a sub-key that matter first.
pub(super) const FIRST: [&str; 9] =
    ["id", "name", "project", "status", "models", "operations", "ip_allow", "budgets", "expires_at"];

const UPDATE_NOTES: &str = "\
A list that is given (--model, --cap, --ip, ...) replaces the whole list; --label adds to the labels. Use --set for
what no flag says, like --set ip_allow=null (any network) or --set allow_tools=true.";

/// What can be done with sub-keys.
#[derive(Debug, Subcommand)]
pub enum SubkeyCommand {
    /// Mint a sub-key; its secret is shown once
    #[command(after_help = mint::EXAMPLES)]
    Mint(Box<mint::MintArgs>),
    /// List sub-keys
    List(ListArgs),
    /// Show one
    Show(OneArgs),
    /// Change what it may do
    #[command(after_help = UPDATE_NOTES)]
    Update(Box<UpdateArgs>),
    /// Make a new secret for it; the old one works on for a while
    Rotate(mint::RotateArgs),
    /// Stop it; it can be resumed
    Suspend(OneArgs),
    /// Let a suspended one work again
    Resume(OneArgs),
    /// Stop it for ever, its requests in flight too; returns when that is in force
    Revoke(OneArgs),
    /// Say whether a request would be admitted, and by which rule not; spends nothing
    Explain(ExplainArgs),
}

/// Arguments of `subkey list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those of this project
    #[arg(long)]
    project: Option<String>,
    /// Only active, suspended, revoked, expired or exhausted ones
    #[arg(long)]
    status: Option<String>,
    /// Only those with this label
    #[arg(long, value_name = "NAME=VALUE")]
    label: Option<Label>,
    /// Only those with this text in their name
    #[arg(long, value_name = "TEXT")]
    q: Option<String>,
    /// Only those not used for so long, like 30d
    #[arg(long, value_name = "DURATION", value_parser = values::duration_text)]
    unused_for: Option<String>,
    /// Only those that expire before, like 7d or 2027-01-31
    #[arg(long, value_name = "TIME")]
    expires_before: Option<Moment>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// One sub-key.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The sub-key's id: the 16 characters after bk_, never the secret
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `subkey update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Only if it is still at this version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    /// A new name
    #[arg(long)]
    name: Option<String>,
    /// Models admitted
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    model: Vec<String>,
    #[command(flatten)]
    definition: DefinitionFlags,
}

/// Arguments of `subkey explain`: a request that might come.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Its operation
    #[arg(long, default_value = "chat", conflicts_with = "path")]
    operation: String,
    /// The path that it asks for, instead of an operation, like /v1/audio/speech
    #[arg(long)]
    path: Option<String>,
    /// How it asks for that path [default: POST]
    #[arg(long, requires = "path")]
    method: Option<String>,
    /// The dialect that it speaks: openai, anthropic or gemini
    #[arg(long)]
    dialect: Option<String>,
    /// Its model
    #[arg(long)]
    model: Option<String>,
    /// Where it comes from
    #[arg(long, value_name = "IP")]
    client_ip: Option<IpAddr>,
    /// How long its input is
    #[arg(long, value_name = "TOKENS")]
    input_tokens: Option<u64>,
    /// The output bound it states
    #[arg(long, value_name = "TOKENS")]
    max_output_tokens: Option<u64>,
}

pub(super) async fn run(command: SubkeyCommand, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    match command {
        SubkeyCommand::Mint(args) => mint::mint(*args, client, now).await,
        SubkeyCommand::List(args) => list(args, client, now).await,
        SubkeyCommand::Show(args) => {
            let subkey = client.get(&path(&["subkeys", plain_id(&args.id)?]), &[]).await?;
            render::print_object(&subkey, args.form, &FIRST)
        }
        SubkeyCommand::Update(args) => {
            let (id, form, version) = (args.one.id.clone(), args.one.form, args.if_match);
            let patch = args.document(now)?;
            let subkey = client.patch(&path(&["subkeys", plain_id(&id)?]), &patch, version).await?;
            render::print_object(&subkey, form, &FIRST)
        }
        SubkeyCommand::Rotate(args) => mint::rotate(args, client).await,
        SubkeyCommand::Suspend(args) => act("suspend", "suspended", &args, client).await,
        SubkeyCommand::Resume(args) => act("resume", "resumed", &args, client).await,
        SubkeyCommand::Revoke(args) => act("revoke", "revoked", &args, client).await,
        SubkeyCommand::Explain(args) => explain(args, client).await,
    }
}

impl UpdateArgs {
    fn document(self, now: DateTime<Utc>) -> Result<Value, UsageError> {
        let mut document = Map::new();
        self.name.map(|name| document.insert("name".to_owned(), json!(name)));
        if !self.model.is_empty() {
            document.insert("models".to_owned(), json!(self.model));
        }
        self.definition.add_to(&mut document, now)?;
        if document.is_empty() { Err(UsageError::NothingToChange) } else { Ok(Value::Object(document)) }
    }
}

async fn list(args: ListArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let mut query = Query::new();
    query.extend(args.project.map(|project| ("project", project)));
    query.extend(args.status.map(|status| ("status", status)));
    query.extend(args.label.map(|label| ("label", format!("{}={}", label.name, label.value))));
    query.extend(args.q.map(|text| ("q", text)));
    query.extend(args.unused_for.map(|duration| ("unused_for", duration)));
    if let Some(moment) = args.expires_before {
        query.push(("expires_before", moment.ahead_of(now)?));
    }
    let listing = Listing::read(client, &path(&["subkeys"]), &query, args.extent).await?;
    render::print_listing(
        &listing,
        args.form,
        &[
            ("ID", &field("id")),
            ("NAME", &field("name")),
            ("PROJECT", &field("project")),
            ("STATUS", &status),
            ("MODELS", &|subkey| few(&subkey["models"])),
            ("SPENT USD", &caps),
            ("EXPIRES", &field("expires_at")),
            ("LAST USED", &field("last_used_at")),
        ],
    )?;
    if listing.items.iter().any(|subkey| subkey["quarantined"] == true) {
        eprintln!(
            "This gateway is in quarantine: nothing is admitted. bitting vault status says why, bitting vault release ends it."
        );
    }
    Ok(())
}

/// The status, and whether it counts.
fn status(subkey: &Value) -> String {
    let status = cell(&subkey["status"]);
    if subkey["quarantined"] == true { format!("{status} (quarantined)") } else { status }
}

async fn act(verb: &str, done: &str, args: &OneArgs, client: &Client) -> Result<(), CliError> {
    let answer = client.post(&path(&["subkeys", plain_id(&args.id)?, verb]), None).await?;
    if args.form.json { render::print_json(&answer) } else { render::print(&format!("{done} {}", args.id)) }
}

async fn explain(args: ExplainArgs, client: &Client) -> Result<(), CliError> {
    let path = path(&["subkeys", plain_id(&args.one.id)?, "explain"]);
    let explained = client.post(&path, Some(&args.document())).await?;
    if args.one.form.json {
        return render::print_json(&explained);
    }
    let verdict = match explained["allowed"].as_bool() {
        Some(true) => "allowed".to_owned(),
        Some(false) | None => format!("denied by {}", cell(&explained["denied_by"])),
    };
    let trace = explained["trace"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |step: &Value| ["rule", "value", "verdict"].map(|key| cell(&step[key])).to_vec();
    let table = render::table(&["RULE", "VALUE", "VERDICT"], trace.iter().map(row).collect());
    render::print(&format!("{verdict}\n\n{table}"))
}

impl ExplainArgs {
    fn document(&self) -> Value {
        let mut document = match &self.path {
            Some(path) => json!({"path": path}),
            None => json!({"operation": self.operation}),
        };
        let optional = [
            ("method", self.method.as_ref().map(|method| json!(method))),
            ("dialect", self.dialect.as_ref().map(|dialect| json!(dialect))),
            ("model", self.model.as_ref().map(|model| json!(model))),
            ("client_ip", self.client_ip.map(|ip| json!(ip))),
            ("input_tokens", self.input_tokens.map(|tokens| json!(tokens))),
            ("max_output_tokens", self.max_output_tokens.map(|tokens| json!(tokens))),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                document[name] = value;
            }
        }
        document
    }
}

/// The id, unless a whole secret was given for it. The text is not repeated in the error.
pub(super) fn plain_id(text: &str) -> Result<&str, UsageError> {
    if text.starts_with("bk_") || text.starts_with("bo_") { Err(UsageError::SecretAsId) } else { Ok(text) }
}

fn few(models: &Value) -> String {
    match models.as_array() {
        Some(models) if models.len() > 2 => {
            format!("{},{},+{}", cell(&models[0]), cell(&models[1]), models.len() - 2)
        }
        Some(_) | None => cell(models),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Remote};
    use clap::Parser as _;

    fn now() -> DateTime<Utc> {
        "2026-11-22T16:00:00Z".parse().unwrap()
    }

    fn document(words: &[&str]) -> Result<Value, UsageError> {
        let line = ["bitting", "subkey"].iter().chain(words);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Remote(Remote::Subkey(SubkeyCommand::Update(args))) => args.document(now()),
            Command::Remote(Remote::Subkey(SubkeyCommand::Explain(args))) => Ok(args.document()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_update_is_a_merge_patch_and_set_wins() {
        let sent = document(&[
            "update",
            "0123456789abcdef",
            "--if-match",
            "3",
            "--expires",
            "never",
            "--owner",
            "ana",
            "--set",
            "owner=null",
            "--set",
            "models=[]",
        ]);
        assert_eq!(sent.unwrap(), json!({"expires_at": null, "owner": null, "models": []}));
        assert!(matches!(document(&["update", "x"]), Err(UsageError::NothingToChange)));
    }

    #[test]
    fn explain_describes_a_request() {
        let sent =
            document(&["explain", "x", "--model", "a/b", "--client-ip", "::1", "--max-output-tokens", "5"]);
        let wanted = json!({"operation": "chat", "model": "a/b", "client_ip": "::1", "max_output_tokens": 5});
        assert_eq!(sent.unwrap(), wanted);
    }

    #[test]
    fn a_secret_given_for_an_id_is_not_sent_and_not_repeated() {
        for secret in ["bk_0123456789abcdef_secret", "bo_secret"] {
            let error = CliError::from(plain_id(secret).unwrap_err());
            assert_eq!(error.exit_code(), 2);
            assert!(!error.render().contains(secret));
        }
        assert!(plain_id("0123456789abcdef").is_ok());
    }

    #[test]
    fn lists_show_what_was_spent_of_each_cap() {
        let subkey = json!({
            "models": ["a/*", "b/*", "c/*", "d/*"],
            "budgets": [{"limit_usd": "25.00", "window": "month", "spent_usd": "3.20"}],
        });
        assert_eq!(
            (few(&subkey["models"]).as_str(), caps(&subkey).as_str()),
            ("a/*,b/*,+2", "3.20 of 25.00/month")
        );
        assert_eq!(caps(&json!({"budgets": []})), "no cap");
        assert_eq!(status(&json!({"status": "active", "quarantined": false})), "active");
        assert_eq!(status(&json!({"status": "active", "quarantined": true})), "active (quarantined)");
    }
}
