//! CSV as consoles write it (RFC 4180): a line of names, then rows of as many fields, quoted where they hold commas.

use super::ExportError;
use std::collections::HashMap;

/// A file's rows by the names of its columns.
pub(super) struct Rows {
    columns: HashMap<String, usize>,
    rows: Vec<(usize, Vec<String>)>,
}

/// A row.
#[derive(Clone, Copy)]
pub(super) struct Row<'r> {
    rows: &'r Rows,
    /// Counted from 1.
    pub(super) line: usize,
    fields: &'r [String],
}

impl Rows {
    /// Whether there are such columns.
    pub(super) fn has(&self, names: &[&str]) -> bool {
        names.iter().all(|name| self.columns.contains_key(*name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|(line, fields)| Row { rows: self, line: *line, fields })
    }
}

impl<'r> Row<'r> {
    /// A field; empty where the file has no such column.
    pub(super) fn get(&self, name: &str) -> &'r str {
        let rows = self.rows;
        rows.columns.get(name).and_then(|at| self.fields.get(*at)).map_or("", |field| field.trim())
    }

    /// The row is not as it should be.
    pub(super) fn wrong(&self, why: &'static str) -> ExportError {
        ExportError::Line { line: self.line, why }
    }
}

/// Reads a file.
pub(super) fn read(text: &str) -> Result<Rows, ExportError> {
    let mut records = records(text)?.into_iter();
    let (_, names) = records.next().ok_or(ExportError::Unknown)?;
    let columns = names.iter().enumerate().map(|(at, name)| (name.trim().to_lowercase(), at)).collect();
    let rows: Vec<(usize, Vec<String>)> =
        records.filter(|(_, fields)| fields.iter().any(|f| !f.is_empty())).collect();
    if let Some((line, _)) = rows.iter().find(|(_, fields)| fields.len() != names.len()) {
        return Err(ExportError::Line { line: *line, why: "it has not as many fields as the first line" });
    }
    Ok(Rows { columns, rows })
}

fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, ExportError> {
    let (mut records, mut fields, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun_at, mut is_quoted, mut was_quoted) = (1, 1, false, false);
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        line += usize::from(ch == '\n');
        match ch {
            '"' if is_quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if is_quoted => is_quoted = false,
            _ if is_quoted => field.push(ch),
            '"' if field.is_empty() && !was_quoted => (is_quoted, was_quoted) = (true, true),
            ',' => {
                fields.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            '\n' => {
                fields.push(std::mem::take(&mut field));
                records.push((begun_at, std::mem::take(&mut fields)));
                (begun_at, was_quoted) = (line, false);
            }
            '\r' if chars.peek() == Some(&'\n') => {}
            _ => field.push(ch),
        }
    }
    if is_quoted {
        return Err(ExportError::Line { line: begun_at, why: "a quoted field does not end" });
    }
    if !field.is_empty() || !fields.is_empty() {
        fields.push(field);
        records.push((begun_at, fields));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_quoted_where_they_hold_what_ends_them() {
        let rows = read("a,\"b\"\r\n1,\"x, \"\"y\"\"\nz\"\r\n\n2,\n").unwrap();
        let read: Vec<_> =
            rows.iter().map(|row| (row.line, row.get("a"), row.get("b"), row.get("c"))).collect();
        assert_eq!(read, [(2, "1", "x, \"y\"\nz", ""), (5, "2", "", "")]);
        assert!(rows.has(&["a", "b"]) && !rows.has(&["c"]));
    }

    #[test]
    fn a_file_that_is_cut_is_refused() {
        for (text, line) in [("a,b\n1", 2), ("a,b\n1,\"2", 2), ("a\n1\n1,2", 3)] {
            assert!(matches!(read(text), Err(ExportError::Line { line: at, .. }) if at == line), "{text}");
        }
        assert!(matches!(read(""), Err(ExportError::Unknown)));
    }
}
