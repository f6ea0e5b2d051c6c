//! `bitting log ...`: the access log, or with `--admin` the admin log: a page to look at, or an export as it streams.
//!
//! An export to a file is written beside it and takes its name when it is whole: a file by that name is never a part.

use super::CliError;
use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form, cell, field};
use super::values::Moment;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// How many entries pass between two words of progress.
const PROGRESS_ENTRIES: usize = 1_000;

/// What can be done with the logs.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Show entries, newest first
    List(Box<ListArgs>),
    /// Write all entries that match, one JSON object a line
    #[command(
        after_help = "Example: bitting log export --from 2026-11-01 --to 2026-12-01 --output november.jsonl"
    )]
    Export(Box<ExportArgs>),
}

/// Arguments of `log list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    filter: FilterFlags,
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `log export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    filter: FilterFlags,
    /// The format
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Write to this file [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// JSON Lines
    Jsonl,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Decision {
    /// Admitted
    Allowed,
    /// Refused
    Denied,
}

/// Which log, and which of its entries; all that are given must match.
#[derive(Debug, Args)]
struct FilterFlags {
    /// The admin log: who changed what
    #[arg(long)]
    admin: bool,
    /// From this time on: RFC 3339, a day, or a duration back like 24h
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    from: Option<Moment>,
    /// Before this time
    #[arg(long, value_name = "TIME", help_heading = "Filters")]
    to: Option<Moment>,
    /// The project
    #[arg(long, help_heading = "Filters")]
    project: Option<String>,
    /// The sub-key's id
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    subkey: Option<String>,
    /// The provider
    #[arg(long, help_heading = "Filters")]
    provider: Option<String>,
    /// The model as sent
    #[arg(long, help_heading = "Filters")]
    model: Option<String>,
    /// Admitted or refused
    #[arg(long, value_enum, help_heading = "Filters")]
    decision: Option<Decision>,
    /// The HTTP status answered
    #[arg(long, help_heading = "Filters")]
    status: Option<u16>,
    /// One request
    #[arg(long, value_name = "ID", help_heading = "Filters")]
    request_id: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP", help_heading = "Filters")]
    client_ip: Option<IpAddr>,
}

impl FilterFlags {
    fn log(&self) -> &'static str {
        if self.admin { "admin-log" } else { "access-log" }
    }

    fn query(&self, now: DateTime<Utc>) -> Result<Query, CliError> {
        let decision = self.decision.map(|decision| match decision {
            Decision::Allowed => "allowed".to_owned(),
            Decision::Denied => "denied".to_owned(),
        });
        let all = [
            ("from", self.from.as_ref().map(|from| from.before(now)).transpose()?),
            ("to", self.to.as_ref().map(|to| to.before(now)).transpose()?),
            ("project", self.project.clone()),
            ("subkey", self.subkey.clone()),
            ("provider", self.provider.clone()),
            ("model", self.model.clone()),
            ("decision", decision),
            ("status", self.status.map(|status| status.to_string())),
            ("request_id", self.request_id.clone()),
            ("client_ip", self.client_ip.map(|ip| ip.to_string())),
        ];
        Ok(all.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect())
    }
}

pub(super) async fn run(command: LogCommand, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    match command {
        LogCommand::List(args) => list(*args, client, now).await,
        LogCommand::Export(args) => export(*args, client, now).await,
    }
}

async fn list(args: ListArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let listing =
        Listing::read(client, &path(&[args.filter.log()]), &args.filter.query(now)?, args.extent).await?;
    if args.filter.admin {
        return render::print_listing(
            &listing,
            args.form,
            &[
                ("TIME", &field("time")),
                ("ACTOR", &field("actor")),
                ("ACTION", &field("action")),
                ("TARGET", &field("target")),
                ("REQUEST", &field("request_id")),
            ],
        );
    }
    render::print_listing(
        &listing,
        args.form,
        &[
            ("TIME", &field("time")),
            ("SUBKEY", &field("subkey_name")),
            ("CLIENT", &field("client_ip")),
            ("OPERATION", &field("operation")),
            ("PROVIDER", &field("provider")),
            ("MODEL", &|entry| first_known(entry, ["model", "model_requested"])),
            ("DECISION", &field("decision")),
            ("STATUS", &field("status")),
            ("WHY", &|entry| first_known(entry, ["rule", "outcome"])),
            ("INPUT", &input_tokens),
            ("OUTPUT", &field("output_tokens")),
            ("COST USD", &field("cost_usd")),
            ("REQUEST", &field("request_id")),
        ],
    )
}

fn first_known(entry: &Value, names: [&str; 2]) -> String {
    cell(names.iter().map(|name| &entry[*name]).find(|value| !value.is_null()).unwrap_or(&Value::Null))
}

/// All input, cached or not: the classes are disjoint.
fn input_tokens(entry: &Value) -> String {
    let classes = ["input_tokens", "cached_input_tokens", "cache_write_tokens"];
    let sum = classes.iter().filter_map(|class| entry[*class].as_u64()).fold(0, u64::saturating_add);
    sum.to_string()
}

async fn export(args: ExportArgs, client: &Client, now: DateTime<Utc>) -> Result<(), CliError> {
    let mut query = args.filter.query(now)?;
    let format = match args.format {
        Format::Jsonl => "jsonl",
    };
    query.push(("format", format.to_owned()));
    let path = path(&[args.filter.log(), "export"]);
    let mut progress = Progress::new(io::stderr().is_terminal());
    match &args.output {
        None => {
            let mut out = io::stdout().lock();
            client
                .stream(&path, &query, |piece| {
                    progress.passed(piece);
                    out.write_all(piece).map_err(CliError::output)
                })
                .await?;
            out.flush().map_err(CliError::output)?;
        }
        Some(target) => {
            let mut file = PartFile::create(target)?;
            client
                .stream(&path, &query, |piece| {
                    progress.passed(piece);
                    file.write(piece)
                })
                .await?;
            file.finish()?;
        }
    }
    Ok(())
}

/// Counts entries on a terminal; silent elsewhere.
struct Progress {
    shown: bool,
    entries: usize,
    told: usize,
}

impl Progress {
    fn new(shown: bool) -> Self {
        Self { shown, entries: 0, told: 0 }
    }

    fn passed(&mut self, piece: &[u8]) {
        self.entries += memchr::memchr_iter(b'\n', piece).count();
        if self.shown && self.entries >= self.told + PROGRESS_ENTRIES {
            self.told = self.entries;
            eprint!("\r{} entries", self.entries);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            eprintln!("\r{} entries", self.entries);
        }
    }
}

/// A file under a temporary name until it is whole. A device or pipe is written as it is.
struct PartFile {
    file: File,
    path: PathBuf,
    target: PathBuf,
    whole: bool,
}

impl PartFile {
    fn create(target: &Path) -> Result<Self, CliError> {
        let special = std::fs::metadata(target).is_ok_and(|there| !there.is_file());
        let path = if special {
            target.to_owned()
        } else {
            let mut name = target.file_name().unwrap_or_default().to_owned();
            name.push(".part");
            target.with_file_name(name)
        };
        match OpenOptions::new().write(true).create(true).truncate(!special).open(&path) {
            Ok(file) => Ok(Self { file, path, target: target.to_owned(), whole: special }),
            Err(source) => Err(CliError::File { doing: "create", path, source }),
        }
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), CliError> {
        let path = &self.path;
        self.file.write_all(piece).map_err(|source| CliError::File {
            doing: "write",
            path: path.clone(),
            source,
        })
    }

    fn finish(mut self) -> Result<(), CliError> {
        if self.path == self.target {
            return Ok(());
        }
        let renamed = self.file.sync_all().and_then(|()| std::fs::rename(&self.path, &self.target));
        self.whole = renamed.is_ok();
        renamed.map_err(|source| CliError::File { doing: "write", path: self.target.clone(), source })
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.whole {
            _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Remote};
    use clap::Parser as _;
    use serde_json::json;

    #[test]
    fn filters_are_the_ones_of_the_contract_and_durations_count_back() {
        let line = "bitting log list --admin --from 24h --to 2026-11-22 --project p --subkey s --provider a --model m \
                    --decision denied --status 403 --request-id r --client-ip ::1";
        let Command::Remote(Remote::Log(LogCommand::List(args))) =
            Cli::try_parse_from(line.split_whitespace()).unwrap().command
        else {
            panic!("another command is read")
        };
        let query = args.filter.query("2026-11-22T16:00:00Z".parse().unwrap()).unwrap();
        let wanted = [
            ("from", "2026-11-21T16:00:00Z"),
            ("to", "2026-11-22T00:00:00Z"),
            ("project", "p"),
            ("subkey", "s"),
            ("provider", "a"),
            ("model", "m"),
            ("decision", "denied"),
            ("status", "403"),
            ("request_id", "r"),
            ("client_ip", "::1"),
        ];
        assert_eq!(query, wanted.map(|(name, value)| (name, value.to_owned())));
        assert_eq!(args.filter.log(), "admin-log");
    }

    #[test]
    fn an_export_takes_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("log.jsonl");
        std::fs::write(&target, "old").unwrap();
        let mut broken = PartFile::create(&target).unwrap();
        broken.write(b"half").unwrap();
        drop(broken);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "old");
        let mut whole = PartFile::create(&target).unwrap();
        whole.write(b"new\n").unwrap();
        whole.finish().unwrap();
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "new\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);

        let device = folder.path().join("device");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        PartFile::create(&device).unwrap().finish().unwrap();
        assert!(!std::fs::metadata(&device).unwrap().is_file(), "a device is not replaced by a file");
    }

    #[test]
    fn entries_are_counted_across_pieces_and_input_over_its_classes() {
        let mut progress = Progress::new(false);
        for piece in ["{}\n{", "}\n", "{}\n"] {
            progress.passed(piece.as_bytes());
        }
        assert_eq!(progress.entries, 3);
        let entry = json!({"input_tokens": 5, "cached_input_tokens": 7, "cache_write_tokens": 1, "model_requested": "m"});
        assert_eq!(input_tokens(&entry), "13");
        assert_eq!(first_known(&entry, ["model", "model_requested"]), "m");
    }
}
