//! `bitting subkey mint` and `rotate`: a new secret is printed once, or goes to a file of its owner.

use super::client::{Client, path};
use super::definition::DefinitionFlags;
use super::render::{self, Form, cell};
use super::secret_file::SecretFile;
use super::subkey::{FIRST, plain_id};
use super::values::Duration;
use super::{CliError, UsageError};
use crate::base::Secret;
use chrono::{DateTime, Utc};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// How to mint.
pub(super) const EXAMPLES: &str = "\
Examples:
  A key for one model, 25 USD a month, for 90 days:
    bitting subkey mint --name ci --model openai/gpt-4o-mini --cap 25/month --expires 90d

  All of one provider from one network, 60 requests a minute, the secret in a file:
    bitting subkey mint --name search --model 'anthropic/*' --ip 10.20.0.0/16 \\
      --rate 60/minute --label team=search --secret-file search.key

  For a script:
    bitting subkey mint --name job --model openai/gpt-4o-mini --cap 1/total --json | jq -r .secret

Quote model globs: the shell would expand them.";

/// Arguments of `subkey mint`.
#[derive(Debug, Args)]
pub struct MintArgs {
    /// Its name, unique in its project
    #[arg(long)]
    name: String,
    /// The project that owns it
    #[arg(long)]
    project: Option<String>,
    /// Models admitted, like openai/gpt-4o-mini or "anthropic/*"; "*" is all [default: what the project gives its keys]
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    model: Vec<String>,
    #[command(flatten)]
    definition: DefinitionFlags,
    #[command(flatten)]
    form: Form,
    /// Write the secret to this new file, for you alone, instead of showing it
    #[arg(long, value_name = "PATH", conflicts_with = "json")]
    secret_file: Option<PathBuf>,
}

/// Arguments of `subkey rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// The sub-key's id: the 16 characters after bk_, never the secret
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// How long the old secret works on [default: 24h], at most 7d; 0s ends it at once
    #[arg(long, value_name = "DURATION")]
    overlap: Option<Duration>,
    #[command(flatten)]
    form: Form,
    /// Write the secret to this new file, for you alone, instead of showing it
    #[arg(long, value_name = "PATH", conflicts_with = "json")]
    secret_file: Option<PathBuf>,
}

impl MintArgs {
    fn document(self, now: DateTime<Utc>) -> Result<Value, UsageError> {
        let mut document = Map::new();
        document.insert("name".to_owned(), json!(self.name));
        if !self.model.is_empty() {
            document.insert("models".to_owned(), json!(self.model));
        }
        self.project.map(|project| document.insert("project".to_owned(), json!(project)));
        self.definition.add_to(&mut document, now)?;
        Ok(Value::Object(document))
    }
}

pub(super) async fn mint(mut args: MintArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let (form, wanted) = (args.form, args.secret_file.take());
    let document = args.document(now)?;
    let file = wanted.as_deref().map(SecretFile::create).transpose()?;
    let minted = client.post(&path(&["subkeys"]), Some(&document)).await?;
    hand_over(minted, form, file, client)
}

pub(super) async fn rotate(args: RotateArgs, client: &Client) -> Result<(), CliError> {
    let path = path(&["subkeys", plain_id(&args.id)?, "rotate"]);
    let body =
        args.overlap.map_or_else(|| json!({}), |overlap| json!({"overlap_seconds": overlap.seconds()}));
    let file = args.secret_file.as_deref().map(SecretFile::create).transpose()?;
    let rotated = client.post(&path, Some(&body)).await?;
    hand_over(rotated, args.form, file, client)
}

/// Shows a new secret once, or puts it in its file.
fn hand_over(mut made: Value, form: Form, file: Option<SecretFile>, client: &Client) -> Result<(), CliError> {
    let id = cell(&made["subkey"]["id"]);
    // A reader that closed the pipe did not get the secret: that is a failure here.
    let lost = |error: CliError| CliError::SecretLost {
        id: id.clone(),
        place: "standard output".to_owned(),
        reason: error.to_string(),
    };
    if form.json {
        return render::print_json(&made).map_err(lost);
    }
    let Value::String(secret) = made["secret"].take() else { return Err(client.lacking()) };
    let secret = Secret::new(secret);
    let subkey = &made["subkey"];
    let block = render::block(subkey, &FIRST);
    if let Some(file) = file {
        file.keep(&secret, &id)?;
        render::print(&block)
    } else {
        render::print(&format!("{block}\nsecret: {}\n", secret.expose())).map_err(lost)?;
        eprintln!("\nThis is the only time the secret is shown. It goes where the SDK puts its API key.");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::subkey::SubkeyCommand;
    use crate::cli::{Cli, Command, Remote};
    use crate::subkey::Definition;
    use clap::Parser as _;

    fn document(line: &str) -> Value {
        match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Remote(Remote::Subkey(SubkeyCommand::Mint(args))) => {
                args.document("2026-11-22T16:00:00Z".parse().unwrap()).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_least_mint_sends_only_what_was_said() {
        let sent = document("bitting subkey mint --name ci --model openai/*");
        assert_eq!(sent, json!({"name": "ci", "models": ["openai/*"]}));
        // What the project gives its keys is not overruled by saying nothing.
        let sent = document("bitting subkey mint --name ci --project p");
        assert_eq!(sent, json!({"name": "ci", "project": "p"}));
    }

    #[test]
    fn every_flag_of_mint_becomes_the_field_of_the_contract() {
        let line = "bitting subkey mint --name ci --project p --model openai/gpt-4o-mini anthropic/* --model a/b --operation chat \
            --operation embeddings --ip 10.0.0.0/8 --cap 25/month --cap 5/day@Europe/Berlin --expires 90d --label team=search \
            --label env=ci --description d --owner o --deny-model a/x --deny-beta context-1m-* --not-before 2026-12-01 --provider-order a b \
            --credential c --rate 60/minute --rate concurrent:8 --max-request-usd 0.5 --max-output-tokens 4096 \
            --default-max-output-tokens 1024 --clamp-output --clamp-to-budget --no-streaming --no-tools --no-images \
            --no-audio --no-files --no-remote-urls --no-store --allow-truncation --hosted-tool web_search --service-tier flex \
            --strict-fields --share-objects";
        let sent = document(line);
        let wanted = json!({
            "name": "ci", "project": "p", "models": ["openai/gpt-4o-mini", "anthropic/*", "a/b"],
            "operations": ["chat", "embeddings"], "ip_allow": ["10.0.0.0/8"],
            "budgets": [
                {"limit_usd": "25.00", "window": "month"},
                {"limit_usd": "5.00", "window": "day", "timezone": "Europe/Berlin"},
            ],
            "expires_at": "2027-02-20T16:00:00Z", "labels": {"team": "search", "env": "ci"}, "description": "d", "owner": "o",
            "deny_models": ["a/x"], "deny_betas": ["context-1m-*"], "not_before": "2026-12-01T00:00:00Z", "provider_order": ["a", "b"], "credential": "c",
            "rate_limits": [
                {"metric": "requests", "limit": 60, "per": "minute"}, {"metric": "concurrent_requests", "limit": 8},
            ],
            "max_request_usd": "0.50", "max_output_tokens": 4096, "default_max_output_tokens": 1024,
            "clamp_output": true, "clamp_to_budget": true, "allow_streaming": false, "allow_tools": false,
            "allow_images": false, "allow_audio": false, "allow_files": false, "allow_remote_urls": false,
            "allow_store": false, "allow_truncation": true, "hosted_tools": ["web_search"], "service_tiers": ["flex"],
            "strict_fields": true, "share_objects": true,
        });
        assert_eq!(sent, wanted);
        let definition: Definition = serde_json::from_value(sent).unwrap();
        definition.validate().unwrap();
    }
}
