//! `bitting credential ...`: the real keys of providers. A key comes from standard input or a file, never from an
//! argument, and no command shows one.

use super::CliError;
use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form, field};
use super::secret_file::read_key;
use super::values::{Duration, Rate};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

const FIRST: [&str; 4] = ["id", "name", "provider", "status"];

const KEY_NOTES: &str = "\
The key is read from standard input or from --secret-file, never from an argument:
    bitting credential add openai --name main < openai.key
    read -rs KEY; printf %s \"$KEY\" | bitting credential add openai --name main; unset KEY";

const ROTATE_NOTES: &str = "\
The provider must take the new key: it is asked for its free model list. Then new requests go out with the new key, and
the old one is used only where the provider refuses the new one, until it has drained. Then it is destroyed.
The key is read from standard input or from --secret-file, never from an argument:
    bitting credential rotate openai cred_... < openai.key";

/// What can be done with the real keys.
#[derive(Debug, Subcommand)]
pub enum CredentialCommand {
    /// List the credentials of a provider, without their keys
    List(ListArgs),
    /// Put a provider's key into the vault
    #[command(after_help = KEY_NOTES)]
    Add(AddArgs),
    /// Put a new key in the place of an old one, which drains
    #[command(after_help = ROTATE_NOTES)]
    Rotate(RotateArgs),
    /// Change what may be sent with one
    Update(UpdateArgs),
    /// Stop using one
    Disable(OneArgs),
}

/// Arguments of `credential list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The provider's slug, like openai
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    provider: String,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `credential add`.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The provider's slug, like openai
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    provider: String,
    /// Its name, for people
    #[arg(long)]
    name: String,
    /// Its share of the requests beside the provider's other credentials [default: 1]
    #[arg(long)]
    weight: Option<u32>,
    /// Only for these projects [default: all]
    #[arg(long, num_args = 1..)]
    project: Vec<String>,
    #[arg(long, value_name = "ID", help = "The OpenAI organization to name upstream")]
    organization: Option<String>,
    #[arg(long, value_name = "ID", help = "The OpenAI project to name upstream")]
    openai_project: Option<String>,
    /// A limit for all who use it, like 500/minute, tokens:200000/minute or concurrent:32
    #[arg(long, value_name = "RATE")]
    rate: Vec<Rate>,
    /// The file that holds the key [default: standard input]
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// One credential.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The provider's slug, like openai
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    provider: String,
    /// The credential's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `credential update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The limits for all who use it, instead of those it has, like 500/minute, tokens:200000/minute or concurrent:32
    #[arg(long, value_name = "RATE", required_unless_present = "no_rate")]
    rate: Vec<Rate>,
    /// Limit nothing
    #[arg(long, conflicts_with = "rate")]
    no_rate: bool,
    /// Only if it is still at this version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
}

/// Arguments of `credential rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    one: OneArgs,
    /// The file that holds the new key [default: standard input]
    #[arg(long, value_name = "PATH")]
    secret_file: Option<PathBuf>,
    /// How long the old key may still be used, at most 1d; 0s ends it at once [default: the server's, 15m]
    #[arg(long, value_name = "DURATION")]
    drain: Option<Duration>,
    /// Do not ask the provider whether it takes the new key
    #[arg(long)]
    no_probe: bool,
}

impl RotateArgs {
    /// The request but for the key itself.
    fn document(&self) -> Value {
        let mut document = json!({});
        if let Some(drain) = self.drain {
            document["drain_seconds"] = json!(drain.seconds());
        }
        if self.no_probe {
            document["probe"] = json!(false);
        }
        document
    }
}

impl UpdateArgs {
    fn document(&self) -> Value {
        json!({"rate_limits": self.rate.iter().map(Rate::document).collect::<Vec<_>>()})
    }
}

impl AddArgs {
    /// The request but for the key itself.
    fn document(&self) -> Value {
        let mut document = json!({"name": self.name});
        let optional = [
            ("weight", self.weight.map(|weight| json!(weight))),
            ("projects", (!self.project.is_empty()).then(|| json!(self.project))),
            ("organization", self.organization.as_ref().map(|id| json!(id))),
            ("openai_project", self.openai_project.as_ref().map(|id| json!(id))),
            ("rate_limits", (!self.rate.is_empty()).then(|| self.rate.iter().map(Rate::document).collect())),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                document[name] = value;
            }
        }
        document
    }
}

pub(super) async fn run(command: CredentialCommand, client: &Client) -> Result<(), CliError> {
    match command {
        CredentialCommand::List(args) => {
            let path = path(&["providers", &args.provider, "credentials"]);
            let listing = Listing::read(client, &path, &Query::new(), args.extent).await?;
            render::print_listing(
                &listing,
                args.form,
                &[
                    ("ID", &field("id")),
                    ("NAME", &field("name")),
                    ("STATUS", &field("status")),
                    ("WEIGHT", &field("weight")),
                    ("PROJECTS", &field("projects")),
                    ("VERSION", &field("secret_version")),
                    ("DRAINING", &draining),
                    ("ROTATION DUE", &field("rotation_due")),
                    ("CREATED", &field("created_at")),
                ],
            )
        }
        CredentialCommand::Add(args) => {
            let mut document = args.document();
            document["secret"] = json!(read_key(args.secret_file.as_deref())?.expose());
            let path = path(&["providers", &args.provider, "credentials"]);
            let credential = client.post(&path, Some(&document)).await?;
            render::print_object(&credential, args.form, &FIRST)
        }
        CredentialCommand::Rotate(args) => {
            let mut document = args.document();
            document["secret"] = json!(read_key(args.secret_file.as_deref())?.expose());
            let path = path(&["providers", &args.one.provider, "credentials", &args.one.id, "rotate"]);
            let credential = client.post(&path, Some(&document)).await?;
            render::print_object(&credential, args.one.form, &FIRST)
        }
        CredentialCommand::Update(args) => {
            let path = path(&["providers", &args.one.provider, "credentials", &args.one.id]);
            let credential = client.patch(&path, &args.document(), args.if_match).await?;
            render::print_object(&credential, args.one.form, &FIRST)
        }
        CredentialCommand::Disable(args) => {
            let path = path(&["providers", &args.provider, "credentials", &args.id, "disable"]);
            let answer = client.post(&path, None).await?;
            if args.form.json {
                return render::print_json(&answer);
            }
            render::print(&format!("disabled {} of {}", args.id, args.provider))
        }
    }
}

/// The version that drains, and until when.
fn draining(credential: &Value) -> String {
    let draining = &credential["draining"];
    if draining.is_null() {
        return render::cell(draining);
    }
    format!("{} until {}", render::cell(&draining["secret_version"]), render::cell(&draining["until"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Remote};
    use clap::Parser as _;

    #[test]
    fn only_what_was_said_is_sent() {
        let document = |line: &str| match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Remote(Remote::Credential(CredentialCommand::Add(args))) => args.document(),
            other => panic!("{other:?}"),
        };
        assert_eq!(document("bitting credential add openai --name main"), json!({"name": "main"}));
        let line = "bitting credential add openai --name main --weight 3 --project a b --organization org-1 \
                    --openai-project proj_1 --rate tokens:9/day --secret-file f";
        let wanted = json!({
            "name": "main", "weight": 3, "projects": ["a", "b"], "organization": "org-1", "openai_project": "proj_1",
            "rate_limits": [{"metric": "tokens", "limit": 9, "per": "day"}],
        });
        assert_eq!(document(line), wanted);
    }

    #[test]
    fn limits_are_replaced_whole_or_taken_away() {
        let parsed = |line: &str| Cli::try_parse_from(line.split_whitespace());
        let document = |line: &str| match parsed(line).unwrap().command {
            Command::Remote(Remote::Credential(CredentialCommand::Update(args))) => args.document(),
            other => panic!("{other:?}"),
        };
        let limits = json!({"rate_limits": [
            {"metric": "requests", "limit": 5, "per": "second"}, {"metric": "concurrent_requests", "limit": 2},
        ]});
        assert_eq!(
            document("bitting credential update p cred_1 --rate 5/second --rate concurrent:2"),
            limits
        );
        assert_eq!(document("bitting credential update p cred_1 --no-rate"), json!({"rate_limits": []}));
        assert!(parsed("bitting credential update p cred_1").is_err());
    }

    #[test]
    fn a_rotation_says_how_the_old_key_goes() {
        let document = |line: &str| match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
            Command::Remote(Remote::Credential(CredentialCommand::Rotate(args))) => args.document(),
            other => panic!("{other:?}"),
        };
        assert_eq!(document("bitting credential rotate openai cred_1"), json!({}));
        let line = "bitting credential rotate openai cred_1 --drain 5m --no-probe";
        assert_eq!(document(line), json!({"drain_seconds": 300, "probe": false}));
        let shown = draining(&json!({"draining": {"secret_version": 2, "until": "2026-11-22T16:15:00Z"}}));
        assert_eq!(shown, "2 until 2026-11-22T16:15:00Z");
    }
}
