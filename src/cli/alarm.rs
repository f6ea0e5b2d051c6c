//! `bitting alarm ...`: what an operator has to look at.

use super::CliError;
use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form, field};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::json;

const FIRST: [&str; 4] = ["id", "kind", "subject", "status"];

/// What can be done with alarms.
#[derive(Debug, Subcommand)]
pub enum AlarmCommand {
    /// List alarms, newest first
    List(ListArgs),
    /// Close one, once it was looked at
    #[command(after_help = "\
Closing an alarm of the kind books_do_not_add_up sets the budget's books right by the log and admits again.")]
    Close(CloseArgs),
}

/// Arguments of `alarm list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those that are open
    #[arg(long)]
    open: bool,
    /// Only of this kind, like `row_tampered`
    #[arg(long)]
    kind: Option<String>,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `alarm close`.
#[derive(Debug, Args)]
pub struct CloseArgs {
    /// The alarm's id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: String,
    /// Why it can be closed; kept with it
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    #[command(flatten)]
    form: Form,
}

pub(super) async fn run(command: AlarmCommand, client: &Client) -> Result<(), CliError> {
    match command {
        AlarmCommand::List(args) => {
            let mut query = Query::new();
            if args.open {
                query.push(("status", "open".to_owned()));
            }
            query.extend(args.kind.map(|kind| ("kind", kind)));
            let listing = Listing::read(client, &path(&["alarms"]), &query, args.extent).await?;
            render::print_listing(
                &listing,
                args.form,
                &[
                    ("ID", &field("id")),
                    ("KIND", &field("kind")),
                    ("SUBJECT", &field("subject")),
                    ("STATUS", &field("status")),
                    ("COUNT", &field("count")),
                    ("OPENED", &field("opened_at")),
                    ("LAST SEEN", &field("last_seen_at")),
                ],
            )
        }
        AlarmCommand::Close(args) => {
            let path = path(&["alarms", &args.id, "close"]);
            let alarm = client.post(&path, Some(&json!({"reason": args.reason}))).await?;
            render::print_object(&alarm, args.form, &FIRST)
        }
    }
}
