//! `bitting project ...`: the tree of projects, and what each sets for everything below it.

use super::client::{Client, Query, path};
use super::listing::{Extent, Listing};
use super::render::{self, Form, cell, field};
use super::values::{self, Cap, Duration, Field, Rate};
use super::{CliError, UsageError};
use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

const FIRST: [&str; 6] = ["slug", "name", "parent", "status", "owner", "budgets"];

const NOTES: &str = "\
Example: bitting project create search --parent products --cap 500/month --ceiling-file ceiling.json

A ceiling is JSON: fields of a sub-key that none below may exceed, like {\"models\": [\"openai/*\"]}. Defaults are JSON, too:
fields that sub-keys get which say nothing of them, like {\"max_output_tokens\": 4096}. A file given as - is standard input.";

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub enum ProjectCommand {
    /// List projects, each below its parent
    List(ListArgs),
    /// Show one, with what is spent of its budgets
    Show(OneArgs),
    /// Make one
    #[command(after_help = NOTES)]
    Create(Box<WriteArgs>),
    /// Change one; a list that is given replaces the whole list
    #[command(after_help = NOTES)]
    Update(Box<UpdateArgs>),
    /// Admit nothing below it; what is in flight is cut
    Suspend(OneArgs),
    /// Let a suspended one work again
    Resume(OneArgs),
    /// Delete one that nothing belongs to
    Delete(OneArgs),
}

/// Arguments of `project list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    #[command(flatten)]
    extent: Extent,
    #[command(flatten)]
    form: Form,
}

/// One project.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// The project's slug, like search
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    slug: String,
    #[command(flatten)]
    form: Form,
}

/// Arguments of `project create`.
#[derive(Debug, Args)]
pub struct WriteArgs {
    #[command(flatten)]
    one: OneArgs,
    /// Its name for people [default: the slug]
    #[arg(long)]
    name: Option<String>,
    /// Who answers for it
    #[arg(long, value_name = "WHO")]
    owner: Option<String>,
    /// The project above it
    #[arg(long, value_name = "SLUG")]
    parent: Option<String>,
    /// USD per hour, day, week, month or total for everything below it together; repeat for more windows
    #[arg(long, value_name = "USD/WINDOW")]
    cap: Vec<Cap>,
    /// Like 60/minute, tokens:100000/minute or concurrent:8, for everything below it together; repeat for more
    #[arg(long, value_name = "RATE")]
    rate: Vec<Rate>,
    /// How long a sub-key below it lives at most, like 90d
    #[arg(long, value_name = "DURATION")]
    max_subkey_ttl: Option<Duration>,
    /// What no sub-key below it may exceed, as JSON
    #[arg(long, value_name = "PATH")]
    ceiling_file: Option<PathBuf>,
    /// Fields of sub-keys that say nothing of them, as JSON
    #[arg(long, value_name = "PATH")]
    defaults_file: Option<PathBuf>,
    /// The whole document as JSON; what flags say wins
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Any field by its name in the API; wins over the flags. Repeat for more
    #[arg(long, value_name = "FIELD=JSON")]
    set: Vec<Field>,
}

/// Arguments of `project update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    #[command(flatten)]
    write: WriteArgs,
    /// Only if it is still at this version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
}

impl WriteArgs {
    fn fields(self) -> Result<Map<String, Value>, CliError> {
        let mut document = match &self.file {
            Some(file) => object_in(file)?,
            None => Map::new(),
        };
        let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
        for (name, text) in [("name", self.name), ("owner", self.owner), ("parent", self.parent)] {
            text.map(|text| put(name, json!(text)));
        }
        if !self.cap.is_empty() {
            put("budgets", self.cap.iter().map(Cap::document).collect());
        }
        if !self.rate.is_empty() {
            put("rate_limits", self.rate.iter().map(Rate::document).collect());
        }
        self.max_subkey_ttl.map(|ttl| put("max_subkey_ttl_seconds", json!(ttl.seconds())));
        for (name, file) in [("ceiling", &self.ceiling_file), ("defaults", &self.defaults_file)] {
            if let Some(file) = file {
                put(name, Value::Object(object_in(file)?));
            }
        }
        document.extend(self.set.into_iter().map(|field| (field.name, field.value)));
        Ok(document)
    }
}

pub(super) async fn run(command: ProjectCommand, client: &Client) -> Result<(), CliError> {
    match command {
        ProjectCommand::List(args) => list(args, client).await,
        ProjectCommand::Show(args) => {
            let project = client.get(&path(&["projects", &args.slug]), &[]).await?;
            render::print_object(&project, args.form, &FIRST)
        }
        ProjectCommand::Create(args) => {
            let (slug, form) = (args.one.slug.clone(), args.one.form);
            let mut document = args.fields()?;
            document.insert("slug".to_owned(), json!(slug));
            let project = client.post(&path(&["projects"]), Some(&Value::Object(document))).await?;
            render::print_object(&project, form, &FIRST)
        }
        ProjectCommand::Update(args) => {
            let (slug, form) = (args.write.one.slug.clone(), args.write.one.form);
            let patch = args.write.fields()?;
            if patch.is_empty() {
                return Err(UsageError::NothingToChange.into());
            }
            let target = path(&["projects", &slug]);
            let project = client.patch(&target, &Value::Object(patch), args.if_match).await?;
            render::print_object(&project, form, &FIRST)
        }
        ProjectCommand::Suspend(args) => {
            let answer = client.post(&path(&["projects", &args.slug, "suspend"]), None).await?;
            told("suspended", &args, &answer)
        }
        ProjectCommand::Resume(args) => {
            let answer = client.post(&path(&["projects", &args.slug, "resume"]), None).await?;
            told("resumed", &args, &answer)
        }
        ProjectCommand::Delete(args) => {
            let answer = client.delete(&path(&["projects", &args.slug])).await?;
            told("deleted", &args, &answer)
        }
    }
}

async fn list(args: ListArgs, client: &Client) -> Result<(), CliError> {
    let mut listing = Listing::read(client, &path(&["projects"]), &Query::new(), args.extent).await?;
    if !args.form.json {
        listing.items = as_tree(&listing.items);
    }
    render::print_listing(
        &listing,
        args.form,
        &[
            ("SLUG", &indented),
            ("NAME", &field("name")),
            ("STATUS", &field("status")),
            ("OWNER", &field("owner")),
            ("SPENT USD", &values::caps),
        ],
    )
}

const DEPTH: &str = "depth";

/// Each project behind its parent, with how deep it stands. What has no parent here stands at the top.
fn as_tree(items: &[Value]) -> Vec<Value> {
    let is_there = |slug: &Value| items.iter().any(|one| one["slug"] == *slug);
    let mut waiting: Vec<(usize, &Value)> =
        items.iter().rev().filter(|one| !is_there(&one["parent"])).map(|one| (0, one)).collect();
    let mut ordered = Vec::with_capacity(items.len());
    while let Some((depth, project)) = waiting.pop() {
        let below = items.iter().rev().filter(|one| one["parent"] == project["slug"]);
        waiting.extend(below.map(|one| (depth + 1, one)));
        let mut project = project.clone();
        project[DEPTH] = json!(depth);
        ordered.push(project);
    }
    ordered
}

fn indented(project: &Value) -> String {
    let depth = project[DEPTH].as_u64().and_then(|depth| usize::try_from(depth).ok()).unwrap_or_default();
    format!("{}{}", "  ".repeat(depth), cell(&project["slug"]))
}

fn told(done: &str, args: &OneArgs, answer: &Value) -> Result<(), CliError> {
    if args.form.json { render::print_json(answer) } else { render::print(&format!("{done} {}", args.slug)) }
}

/// The JSON object in a file, or on standard input.
fn object_in(file: &Path) -> Result<Map<String, Value>, CliError> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).map_err(CliError::Input)?
    } else {
        let failed = |source| CliError::File { doing: "read", path: file.to_owned(), source };
        std::fs::read_to_string(file).map_err(failed)?
    };
    serde_json::from_str(&text).map_err(|_| UsageError::NoObject(file.to_owned()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command, Remote};
    use clap::Parser as _;

    fn document(words: &[&str]) -> Result<Value, CliError> {
        let line = ["bitting", "project", "create", "search"].iter().chain(words);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Remote(Remote::Project(ProjectCommand::Create(args))) => {
                args.fields().map(Value::Object)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flags_come_to_the_document_and_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (whole, ceiling) = (folder.path().join("p.json"), folder.path().join("c.json"));
        std::fs::write(&whole, r#"{"owner": "ana", "name": "Search", "ceiling": {"models": []}}"#).unwrap();
        std::fs::write(&ceiling, r#"{"models": ["openai/*"]}"#).unwrap();
        let sent = document(&[
            "--file",
            whole.to_str().unwrap(),
            "--ceiling-file",
            ceiling.to_str().unwrap(),
            "--name",
            "Find",
            "--parent",
            "products",
            "--cap",
            "25/month",
            "--rate",
            "60/minute",
            "--max-subkey-ttl",
            "1h",
            "--set",
            "owner=null",
        ]);
        let wanted = json!({
            "owner": null, "name": "Find", "parent": "products", "ceiling": {"models": ["openai/*"]},
            "budgets": [{"limit_usd": "25.00", "window": "month"}],
            "rate_limits": [{"metric": "requests", "limit": 60, "per": "minute"}], "max_subkey_ttl_seconds": 3600,
        });
        assert_eq!(sent.unwrap(), wanted);
        std::fs::write(&ceiling, "[]").unwrap();
        let refused = document(&["--ceiling-file", ceiling.to_str().unwrap()]).unwrap_err();
        assert_eq!(refused.exit_code(), 2);
        assert_eq!(document(&["--file", "/nowhere/at/all"]).unwrap_err().exit_code(), 1);
    }

    #[test]
    fn a_list_shows_the_tree() {
        let project = |slug: &str, parent: Option<&str>| json!({"slug": slug, "parent": parent});
        let items = vec![
            project("a", Some("c")),
            project("b", Some("a")),
            project("c", None),
            project("d", Some("out-of-reach")),
            project("e", Some("c")),
        ];
        let shown: Vec<String> = as_tree(&items).iter().map(indented).collect();
        assert_eq!(shown, ["c", "  a", "    b", "  e", "d"]);
    }
}
