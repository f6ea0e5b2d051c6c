//! Answers for people: plain columns for lists, `key: value` lines for one object; and JSON for programs.
//!
//! Text from the server is escaped, so that nothing in it can steer a terminal. No borders or colours: the columns
//! go through pipes as they are, and an empty cell is `-`.

use super::CliError;
use super::listing::Listing;
use crate::base::clip;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Map, Value};
use std::io::{self, Write as _};

/// Whether to print for people or for programs.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Form {
    /// Print the server's JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Prints text, and a newline where it has none.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let end = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush())
        .map_err(CliError::output)
}

/// Prints bytes as they are.
pub(super) fn print_bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(CliError::output)
}

/// Prints JSON, indented.
pub(super) fn print_json(value: &Value) -> Result<(), CliError> {
    print(&format!("{value:#}"))
}

/// Prints one object: as JSON, or as lines with the keys of `first` at the top.
pub(super) fn print_object(value: &Value, form: Form, first: &[&str]) -> Result<(), CliError> {
    if form.json { print_json(value) } else { print(&block(value, first)) }
}

/// Prints a list: as JSON, or as a table of `columns` (a heading, and how to find the cell in an item).
pub(super) fn print_listing(listing: &Listing, form: Form, columns: &[Column]) -> Result<(), CliError> {
    if form.json {
        return print_json(&listing.document());
    }
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let row = |item: &Value| columns.iter().map(|(_, find)| find(item)).collect();
    print(&table(&heads, listing.items.iter().map(row).collect()))?;
    if listing.next_cursor.is_some() {
        eprintln!("There are more: raise --limit, or give --all.");
    }
    Ok(())
}

/// A column: its heading, and the text of an item's cell.
pub(super) type Column<'a> = (&'a str, &'a dyn Fn(&Value) -> String);

/// The text of one field of an item.
pub(super) fn field(name: &'static str) -> impl Fn(&Value) -> String {
    move |item| cell(&item[name])
}

/// A table of plain columns.
pub(super) fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    table_of_numbers(heads, rows, heads.len())
}

/// A table whose columns from `numbers_from` on are numbers, aligned by their last digit.
pub(super) fn table_of_numbers(heads: &[&str], rows: Vec<Vec<String>>, numbers_from: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.to_vec()).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= numbers_from {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// A value in one line.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => clip(text, usize::MAX),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(","),
        Value::Object(map) if map.is_empty() => "none".to_owned(),
        Value::Object(map) => pairs(map),
    }
}

/// What leads inside a budget, a rate limit or a secret.
const LEADING: [&str; 4] = ["id", "metric", "limit_usd", "limit"];

fn pairs(map: &Map<String, Value>) -> String {
    let leading = LEADING.iter().filter_map(|key| map.get_key_value(*key));
    let rest = map.iter().filter(|(key, _)| !LEADING.contains(&key.as_str()));
    let known = leading.chain(rest).filter(|(_, value)| !value.is_null());
    known
        .map(|(key, value)| format!("{}={}", clip(key, usize::MAX), cell(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// One object as `key: value` lines, the keys of `first` at the top; a list of objects takes a line for each.
pub(super) fn block(value: &Value, first: &[&str]) -> String {
    let Value::Object(map) = value else { return cell(value) };
    let leading = first.iter().filter_map(|key| map.get_key_value(*key));
    let rest = map.iter().filter(|(key, _)| !first.contains(&key.as_str()));
    let fields: Vec<_> = leading.chain(rest).collect();
    let width = fields.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0) + 1;
    let mut text = String::new();
    for (key, value) in fields {
        let lines: Vec<String> = match value {
            Value::Array(values) if values.iter().any(Value::is_object) => values.iter().map(cell).collect(),
            single => vec![cell(single)],
        };
        let mut head = format!("{}:", clip(key, usize::MAX));
        for line in lines {
            text.push_str(format!("{head:<width$} {line}").trim_end());
            text.push('\n');
            head.clear();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn tables_are_plain_columns_without_trailing_blanks() {
        let rows = vec![vec!["a".into(), "x y".into()], vec!["longer".into(), "-".into()]];
        assert_eq!(table(&["ID", "NAME"], rows), "ID      NAME\na       x y\nlonger  -");
    }

    #[test]
    fn an_object_is_a_line_for_each_key_with_the_known_ones_first() {
        let value = json!({
            "budgets": [{"held_usd": "0.00", "limit_usd": "25.00", "window": "month", "alert": null}, {"limit_usd": "1.00", "window": "day"}],
            "id": "0123456789abcdef", "ip_allow": null, "labels": {"team": "search"}, "models": ["openai/*", "a/b"], "on": true,
        });
        insta::assert_snapshot!(block(&value, &["id", "missing", "models"]), @r"
        id:       0123456789abcdef
        models:   openai/*,a/b
        budgets:  limit_usd=25.00 held_usd=0.00 window=month
                  limit_usd=1.00 window=day
        ip_allow: -
        labels:   team=search
        on:       yes
        ");
    }

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        let value = json!({"\u{1b}k": "\u{1b}[31m\n\u{9b}x", "list": ["\u{7}"]});
        let text = block(&value, &[]);
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{7}']), "{text:?}");
        assert_eq!(text.lines().count(), 2);
    }
}
