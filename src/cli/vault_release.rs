//! `bitting vault release`: ends a quarantine. With logs that are newer than the database, what was taken away and
//! spent after the backup is found by comparing them with the server's own, shown, and done again first.

use super::client::{Client, Query, path};
use super::render::{self, Form};
use super::{CliError, UsageError};
use crate::base::NanoUsd;
use chrono::{DateTime, DurationRound, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

pub(super) const RELEASE_NOTES: &str =
    "The newer logs are JSON Lines: bitting log export, and bitting log export --admin.";

/// Of a part of an order: well below what an admin plane takes of a body, and done well before an answer is late.
const PART_BYTES_MAX: usize = 32 * 1024;

/// Arguments of `vault release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// An export of a newer access log: what was spent since the backup is posted
    #[arg(long, value_name = "FILE")]
    access_log: Option<PathBuf>,
    /// An export of a newer admin log: what was revoked or suspended since the backup is so again
    #[arg(long, value_name = "FILE")]
    admin_log: Option<PathBuf>,
    /// Show what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    form: Form,
}

/// What the newer logs have and the server's own do not.
#[derive(Default)]
struct Missed {
    /// Of each sub-key the last word.
    stopped: BTreeMap<String, &'static str>,
    spend: BTreeMap<(String, DateTime<Utc>), NanoUsd>,
    /// Other changes, which nobody does again by themselves.
    others: Vec<Vec<String>>,
}

pub(super) async fn run(args: ReleaseArgs, client: &Client) -> Result<(), CliError> {
    let mut missed = Missed::default();
    if let Some(file) = &args.admin_log {
        newer(client, "admin-log", file, |entry| missed.take_change(entry)).await?;
    }
    if let Some(file) = &args.access_log {
        newer(client, "access-log", file, |entry| missed.take_spend(entry)).await?;
    }
    if args.dry_run && args.form.json {
        return render::print_json(&missed.order());
    }
    if !args.form.json {
        render::print(&missed.tables())?;
    }
    if args.dry_run {
        return Ok(());
    }
    if !args.yes {
        confirm()?;
    }
    let done = release(client, &missed).await?;
    render::print_object(&done, args.form, &["released", "reason", "detail", "revoked", "suspended", "spend"])
}

/// Sends the order part by part, and returns what all of it came to. Cut off, it can be done again.
async fn release(client: &Client, missed: &Missed) -> Result<Value, CliError> {
    let (path, parts) = (path(&["vault", "release"]), missed.parts());
    let (mut whole, count) = (Value::Null, parts.len());
    for (index, part) in parts.into_iter().enumerate() {
        if count > 1 && io::stderr().is_terminal() {
            eprint!("\rpart {} of {count} ", index + 1);
        }
        let done = client.post(&path, Some(&part)).await?;
        whole = joined(&whole, done);
    }
    if count > 1 && io::stderr().is_terminal() {
        eprintln!();
    }
    Ok(whole)
}

/// The later answer, with the lists of both.
fn joined(earlier: &Value, mut later: Value) -> Value {
    for (name, value) in later.as_object_mut().into_iter().flatten() {
        if let (Value::Array(items), Some(Value::Array(before))) = (value, earlier.get(name)) {
            let there: HashSet<String> = items.iter().map(Value::to_string).collect();
            let more = before.iter().filter(|item| !there.contains(&item.to_string()));
            items.splice(0..0, more.cloned());
        }
    }
    later
}

impl Missed {
    fn take_change(&mut self, entry: &Value) {
        let word = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let (action, target) = (word("action"), word("target"));
        let is_revoked = self.stopped.get(&target) == Some(&"revoke");
        match action.as_str() {
            "subkey.revoke" => _ = self.stopped.insert(target, "revoke"),
            "subkey.suspend" if !is_revoked => _ = self.stopped.insert(target, "suspend"),
            "subkey.resume" if !is_revoked => _ = self.stopped.remove(&target),
            // Reads change nothing, what is said of a revoked key is no matter, and one minted later is not in the database.
            "subkey.suspend" | "subkey.resume" | "subkey.mint" => {}
            read if matches!(read.rsplit_once('.'), Some((_, "read" | "export"))) => {}
            _ => self.others.push(vec![word("time"), word("actor"), action, target]),
        }
    }

    fn take_spend(&mut self, entry: &Value) {
        // Below zero in an entry that takes back what another of the same hour charged.
        let cost = entry["cost_usd"].as_str().and_then(|cost| NanoUsd::parse_signed(cost).ok());
        let hour = time_of(entry).and_then(|time| time.duration_trunc(TimeDelta::hours(1)).ok());
        let (Some(cost), Some(hour), Some(id)) = (cost, hour, entry["subkey_id"].as_str()) else { return };
        if cost != NanoUsd::ZERO {
            let sum = self.spend.entry((id.to_owned(), hour)).or_default();
            *sum = sum.saturating_add(cost);
        }
    }

    /// What was spent and not taken back, by key and hour.
    fn spent(&self) -> impl Iterator<Item = (&(String, DateTime<Utc>), &NanoUsd)> {
        self.spend.iter().filter(|(_, cost)| **cost > NanoUsd::ZERO)
    }

    /// Each thing to do, under the name of its list.
    fn items(&self) -> Vec<(&'static str, Value)> {
        let stopped = self.stopped.iter().map(|(id, what)| (*what, json!(id)));
        let spend = self.spent().map(|((id, hour), cost)| {
            ("spend", json!({"subkey_id": id, "time": instant(*hour), "cost_usd": cost}))
        });
        stopped.chain(spend).collect()
    }

    fn order(&self) -> Value {
        order(self.items())
    }

    /// The order in requests that an admin plane takes, all but the last saying that more follows.
    fn parts(&self) -> Vec<Value> {
        let (mut parts, mut bytes) = (vec![Vec::new()], 0);
        for item in self.items() {
            let item_bytes = item.1.to_string().len();
            if bytes + item_bytes > PART_BYTES_MAX
                && let Some(last) = parts.last()
                && !last.is_empty()
            {
                parts.push(Vec::new());
                bytes = 0;
            }
            bytes += item_bytes;
            parts.last_mut().into_iter().for_each(|part| part.push(item.clone()));
        }
        let last = parts.len() - 1;
        let part = |(index, items): (usize, Vec<_>)| {
            let mut part = order(items);
            if index < last {
                part["more"] = json!(true);
            }
            part
        };
        parts.into_iter().enumerate().map(part).collect()
    }

    fn tables(&self) -> String {
        let safe = |text: &str| crate::base::clip(text, usize::MAX);
        let stopped =
            self.stopped.iter().map(|(id, what)| vec![safe(id), (*what).to_owned(), "-".into(), "-".into()]);
        let spend = self.spent().map(|((id, hour), cost)| {
            vec![safe(id), "post spend".to_owned(), instant(*hour), cost.to_string()]
        });
        let rows: Vec<_> = stopped.chain(spend).collect();
        let mut text = if rows.is_empty() {
            "Nothing is known to have been revoked, suspended or spent after the backup.\n".to_owned()
        } else {
            render::table(&["SUBKEY", "WILL", "HOUR", "USD"], rows) + "\n"
        };
        if !self.others.is_empty() {
            let rows = self.others.iter().map(|row| row.iter().map(|cell| safe(cell)).collect()).collect();
            text += "\nAlso changed after the backup, and to be done again by hand:\n";
            text += &render::table(&["TIME", "ACTOR", "ACTION", "TARGET"], rows);
            text.push('\n');
        }
        text
    }
}

fn order(items: Vec<(&'static str, Value)>) -> Value {
    let mut lists = [("revoke", vec![]), ("suspend", vec![]), ("spend", vec![])];
    for (name, item) in items {
        lists.iter_mut().filter(|(list, _)| *list == name).for_each(|(_, list)| list.push(item.clone()));
    }
    Value::Object(lists.into_iter().map(|(name, list)| (name.to_owned(), Value::Array(list))).collect())
}

/// Hands each entry of the file that the server's own log does not have to `take`, in order.
async fn newer(
    client: &Client,
    log: &str,
    file: &Path,
    mut take: impl FnMut(&Value),
) -> Result<(), CliError> {
    let mut times: Option<(DateTime<Utc>, DateTime<Utc>)> = None;
    for_each_line(file, |entry| {
        if let Some(time) = time_of(entry) {
            let (first, last) = times.unwrap_or((time, time));
            times = Some((first.min(time), last.max(time)));
        }
    })?;
    let Some((first, last)) = times else { return Ok(()) };
    let query: Query = vec![
        ("format", "jsonl".to_owned()),
        ("from", instant(first)),
        ("to", instant(last + TimeDelta::seconds(1))),
    ];
    let (mut own, mut rest): (HashSet<String>, Vec<u8>) = (HashSet::new(), Vec::new());
    client
        .stream(&path(&[log, "export"]), &query, |piece| {
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                rest.extend(part);
                if rest.ends_with(b"\n") {
                    let entry: Value = serde_json::from_slice(&rest).map_err(|_| client.lacking())?;
                    own.insert(identity(&entry));
                    rest.clear();
                }
            }
            Ok(())
        })
        .await?;
    for_each_line(file, |entry| {
        if !own.contains(&identity(entry)) {
            take(entry);
        }
    })
}

/// Tells entries of a log apart.
fn identity(entry: &Value) -> String {
    match entry["action"].as_str() {
        Some(action) => json!([entry["time"], action, entry["target"], entry["request_id"]]).to_string(),
        None => entry["request_id"].as_str().unwrap_or_default().to_owned(),
    }
}

fn time_of(entry: &Value) -> Option<DateTime<Utc>> {
    entry["time"].as_str()?.parse().ok()
}

fn instant(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn for_each_line(file: &Path, mut each: impl FnMut(&Value)) -> Result<(), CliError> {
    let failed = |source| CliError::File { doing: "read", path: file.to_owned(), source };
    for line in BufReader::new(File::open(file).map_err(failed)?).lines() {
        let line = line.map_err(failed)?;
        if !line.trim().is_empty() {
            let entry = serde_json::from_str(&line).map_err(|error| failed(io::Error::from(error)))?;
            each(&entry);
        }
    }
    Ok(())
}

fn confirm() -> Result<(), CliError> {
    if !io::stdin().is_terminal() {
        return Err(UsageError::NotConfirmed.into());
    }
    eprint!("Every sub-key that is active works again afterwards. Type yes to release: ");
    io::stderr().flush().map_err(CliError::output)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(CliError::Input)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(UsageError::NotConfirmed.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_order_goes_in_parts_that_hold_all_of_it_once() {
        let mut missed = Missed::default();
        assert_eq!(missed.parts(), vec![json!({"revoke": [], "suspend": [], "spend": []})]);
        for n in 0..10_000 {
            let id = format!("{n:016}");
            let action = if n % 2 == 0 { "subkey.revoke" } else { "subkey.suspend" };
            missed.take_change(&json!({"action": action, "target": id}));
            let time = "2026-01-01T10:59:00Z";
            missed.take_spend(&json!({"time": time, "subkey_id": id, "cost_usd": "0.5"}));
        }
        let parts = missed.parts();
        assert!(parts.len() > 10 && parts.iter().all(|part| part.to_string().len() < 2 * PART_BYTES_MAX));
        let (last, before) = parts.split_last().unwrap();
        assert!(last["more"].is_null() && before.iter().all(|part| part["more"] == true));
        let mut all = Value::Null;
        for mut part in parts {
            part.as_object_mut().unwrap().remove("more");
            all = joined(&all, part);
        }
        assert_eq!(all, missed.order());
    }

    #[test]
    fn the_last_word_about_a_key_counts_and_revoked_is_for_ever() {
        let mut missed = Missed::default();
        for (action, target) in [
            ("subkey.suspend", "a"),
            ("subkey.resume", "a"),
            ("subkey.suspend", "b"),
            ("subkey.revoke", "c"),
            ("subkey.resume", "c"),
            ("admin_log.read", "d"),
            ("subkey.patch", "e"),
        ] {
            missed.take_change(&json!({"action": action, "target": target}));
        }
        for (id, cost) in [("a", "0.5"), ("a", "0.25"), ("a", "0"), ("a", "2"), ("a", "-2"), ("b", "-1")] {
            let time = "2026-01-01T10:59:00Z";
            missed.take_spend(&json!({"time": time, "subkey_id": id, "cost_usd": cost}));
        }
        assert_eq!(
            missed.order(),
            json!({"revoke": ["c"], "suspend": ["b"], "spend": [
                {"subkey_id": "a", "time": "2026-01-01T10:00:00.000000Z", "cost_usd": "0.75"},
            ]})
        );
        assert_eq!(missed.others.len(), 1);
        assert!(missed.tables().contains("subkey.patch"));
    }
}
