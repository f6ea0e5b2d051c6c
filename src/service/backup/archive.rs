//! The form of a backup: JSON Lines, in one order, so that it is written and read in one pass.
//!
//! First a header, then a line `{"t": table, "r": [values]}` for each row, then the manifest, which says what was before
//! it and its hash, and last a signature over the manifest's bytes. Bytes are base64, times RFC 3339 with microseconds.
//! A reader that got to the end has read exactly what was written, or knows that it has not; only the signature, for
//! which the vault must be open, is left to its caller.

use crate::store::dump::{self, Cell, Column, Kind, TABLES, Table};
use crate::store::migrations;
use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::{BASE64, HEXLOWER};
use ring::digest::{Context, SHA256};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};

/// What the first line names.
const FORMAT: &str = "bitting-backup/1";
/// The longest line that is read: a row with a body of the largest size, several times over.
const LINE_BYTES_MAX: u64 = 64 << 20;

const ROW: &[u8] = br#"{"t":"#;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    schema: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RowLine<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
    #[serde(borrow)]
    r: Vec<&'a RawValue>,
}

#[derive(Serialize)]
struct RowOut<'a> {
    t: &'a str,
    #[serde(serialize_with = "cells")]
    r: &'a [Cell],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    ed25519: String,
}

/// What a backup says about itself, signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form of the file.
    pub format: String,
    /// The installation that it is a backup of.
    pub installation: String,
    /// When it was begun; everything from before is in it.
    pub created_at: DateTime<Utc>,
    /// The kind of database that it was taken from.
    pub backend: String,
    /// The migrations that its tables come from, by name.
    pub schema: Vec<String>,
    /// Its tables.
    pub tables: BTreeMap<String, TableSum>,
    /// How many changes the register of signed rows had seen.
    pub register_seq: i64,
    /// The last entry of the access log.
    pub log_seq: i64,
    /// The SHA-256 of every line before the manifest.
    pub sha256: String,
}

/// What a backup has of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableSum {
    /// The columns, in the order of their values in a line.
    pub columns: Vec<String>,
    /// How many rows.
    pub rows: u64,
    /// The SHA-256 of their lines.
    pub sha256: String,
}

/// Why a file is not a whole and unchanged backup that this program understands.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It does not begin like one.
    #[error("this is no backup of bitting")]
    NotABackup,
    /// It is one of another form.
    #[error("the backup has the form {0}, which this version does not know; use a newer one")]
    UnknownForm(String),
    /// It has tables that this program does not know.
    #[error("the backup is newer than this program: it has {}; use the newer program", .0.join(", "))]
    NewerSchema(Vec<String>),
    /// It has a list of migrations that no version of this program has.
    #[error("the backup has the migrations {}, which is not how any version began", .0.join(", "))]
    ForeignSchema(Vec<String>),
    /// It ends before its end.
    #[error("the backup is not whole: it ends after line {line}")]
    Truncated {
        /// The last whole line.
        line: u64,
    },
    /// It is not as it was written.
    #[error("the backup was changed after it was written: {what} (line {line})")]
    Altered {
        /// Where.
        line: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// It cannot be read.
    #[error("the backup cannot be read: {0}")]
    Read(io::Error),
}

/// Writes a backup, line after line.
pub(super) struct ArchiveWriter<'w> {
    out: &'w mut (dyn Write + Send),
    sums: Sums,
    line: Vec<u8>,
}

/// Reads a backup, line after line, and holds it to its manifest.
pub(super) struct ArchiveReader<'r> {
    file: &'r mut (dyn BufRead + Send),
    sums: Sums,
    line: Vec<u8>,
    number: u64,
    /// The migrations that the backup's tables come from.
    pub(super) schema: Vec<String>,
    /// The newest of them.
    pub(super) version: i64,
    table: usize,
    columns: Vec<&'static Column>,
}

/// What stands next in a backup.
pub(super) enum Item {
    /// A row.
    Row(&'static Table, Vec<Cell>),
    /// The end: everything before is as the manifest says. Whose word that is, the signature tells.
    End(Box<Manifest>, Signed),
}

/// The manifest as it stands in the file, and the signature below it.
pub(super) struct Signed {
    pub(super) manifest: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

/// Hashes and counts what goes by.
struct Sums {
    whole: Context,
    tables: BTreeMap<String, (u64, Context)>,
}

impl Sums {
    fn new() -> Self {
        Self { whole: Context::new(&SHA256), tables: BTreeMap::new() }
    }

    fn add_row(&mut self, table: &str, line: &[u8]) {
        self.whole.update(line);
        if !self.tables.contains_key(table) {
            self.tables.insert(table.to_owned(), (0, Context::new(&SHA256)));
        }
        if let Some((rows, sum)) = self.tables.get_mut(table) {
            *rows += 1;
            sum.update(line);
        }
    }

    fn whole(&self) -> String {
        HEXLOWER.encode(self.whole.clone().finish().as_ref())
    }

    /// Every table that there is after the migration `version`, the empty ones too.
    fn tables(&self, version: i64) -> BTreeMap<String, TableSum> {
        let tables = TABLES.iter().map(|table| (table, table.columns_at(version)));
        let sum = |(table, columns): (&Table, Vec<&Column>)| {
            let (rows, sum) =
                self.tables.get(table.name).cloned().unwrap_or_else(|| (0, Context::new(&SHA256)));
            let columns = columns.iter().map(|column| column.name.to_owned()).collect();
            let sum = TableSum { columns, rows, sha256: HEXLOWER.encode(sum.finish().as_ref()) };
            (table.name.to_owned(), sum)
        };
        tables.filter(|(_, columns)| !columns.is_empty()).map(sum).collect()
    }
}

impl<'w> ArchiveWriter<'w> {
    /// Begins a backup of tables as these migrations left them.
    pub(super) fn begin(out: &'w mut (dyn Write + Send), schema: &[String]) -> io::Result<Self> {
        let mut this = Self { out, sums: Sums::new(), line: Vec::new() };
        this.render(&Header { format: FORMAT.to_owned(), schema: schema.to_vec() })?;
        this.sums.whole.update(&this.line);
        this.out.write_all(&this.line)?;
        Ok(this)
    }

    /// Adds a row. Tables come in the order of their list.
    pub(super) fn row(&mut self, table: &Table, row: &[Cell]) -> io::Result<()> {
        self.render(&RowOut { t: table.name, r: row })?;
        self.sums.add_row(table.name, &self.line);
        self.out.write_all(&self.line)
    }

    /// Ends the backup with its manifest, whose form, sums and hash are filled in here, and `sign`'s signature.
    pub(super) fn end(
        mut self,
        manifest: Manifest,
        version: i64,
        sign: impl FnOnce(&[u8]) -> Vec<u8>,
    ) -> io::Result<Manifest> {
        let (tables, sha256) = (self.sums.tables(version), self.sums.whole());
        let manifest = Manifest { format: FORMAT.to_owned(), tables, sha256, ..manifest };
        self.render(&manifest)?;
        self.out.write_all(&self.line)?;
        let signature = sign(self.line.trim_ascii_end());
        self.render(&Signature { ed25519: BASE64.encode(&signature) })?;
        self.out.write_all(&self.line)?;
        self.out.flush()?;
        Ok(manifest)
    }

    fn render(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        Ok(())
    }
}

impl<'r> ArchiveReader<'r> {
    /// Reads the header.
    pub(super) fn begin(file: &'r mut (dyn BufRead + Send)) -> Result<Self, ArchiveError> {
        let mut this = Self {
            file,
            sums: Sums::new(),
            line: Vec::new(),
            number: 0,
            schema: Vec::new(),
            version: 0,
            table: 0,
            columns: Vec::new(),
        };
        match this.next_line() {
            Err(ArchiveError::Truncated { .. } | ArchiveError::Altered { .. }) => {
                return Err(ArchiveError::NotABackup);
            }
            read => read?,
        }
        let header: Header = serde_json::from_slice(&this.line).map_err(|_| ArchiveError::NotABackup)?;
        if header.format != FORMAT {
            return Err(ArchiveError::UnknownForm(header.format));
        }
        let known = migrations();
        let newer = |name: &&String| !known.iter().any(|(_, known)| known == *name);
        let newer: Vec<_> = header.schema.iter().filter(newer).cloned().collect();
        if !newer.is_empty() {
            return Err(ArchiveError::NewerSchema(newer));
        }
        let begins_alike = header.schema.iter().zip(&known).all(|(name, (_, known))| name == known);
        match known.get(header.schema.len().wrapping_sub(1)) {
            Some((version, _)) if begins_alike => this.version = *version,
            _ => return Err(ArchiveError::ForeignSchema(header.schema)),
        }
        this.sums.whole.update(&this.line);
        this.columns = TABLES[0].columns_at(this.version);
        this.schema = header.schema;
        Ok(this)
    }

    /// What stands next.
    pub(super) fn next(&mut self) -> Result<Item, ArchiveError> {
        self.next_line()?;
        if self.line.starts_with(ROW) { self.row() } else { self.end() }
    }

    fn row(&mut self) -> Result<Item, ArchiveError> {
        let altered = |what| ArchiveError::Altered { line: self.number, what };
        let row: RowLine<'_> =
            serde_json::from_slice(&self.line).map_err(|_| altered("a row cannot be read"))?;
        let (place, table) = dump::table(&row.t).ok_or_else(|| altered("a row of no known table"))?;
        if place < self.table {
            return Err(altered("a row out of its order"));
        }
        if place > self.table {
            (self.table, self.columns) = (place, table.columns_at(self.version));
        }
        if row.r.len() != self.columns.len() || row.r.is_empty() {
            return Err(altered("a row with another number of values than its table has columns"));
        }
        let cells = self.columns.iter().zip(&row.r).map(|(column, value)| cell(column, value));
        let cells: Option<Vec<_>> = cells.collect();
        let cells = cells.ok_or_else(|| altered("a value of another kind than its column"))?;
        self.sums.add_row(table.name, &self.line);
        Ok(Item::Row(table, cells))
    }

    fn end(&mut self) -> Result<Item, ArchiveError> {
        let line = self.number;
        let altered = |what| ArchiveError::Altered { line, what };
        let manifest: Manifest =
            serde_json::from_slice(&self.line).map_err(|_| altered("a line that cannot be read"))?;
        if manifest.format != FORMAT || manifest.schema != self.schema {
            return Err(altered("the manifest and the header differ"));
        }
        if manifest.tables != self.sums.tables(self.version) || manifest.sha256 != self.sums.whole() {
            return Err(altered("the rows are not those of the manifest"));
        }
        let signed = self.line.trim_ascii_end().to_vec();
        self.next_line()?;
        let signature: Signature = serde_json::from_slice(&self.line)
            .map_err(|_| ArchiveError::Altered { line: self.number, what: "there is no signature" })?;
        let signature = BASE64
            .decode(signature.ed25519.as_bytes())
            .map_err(|_| ArchiveError::Altered { line: self.number, what: "the signature is not one" })?;
        match self.next_line() {
            Err(ArchiveError::Truncated { .. }) if self.line.is_empty() => {}
            Err(error @ ArchiveError::Read(_)) => return Err(error),
            Err(_) | Ok(()) => {
                return Err(ArchiveError::Altered { line: self.number, what: "something after the end" });
            }
        }
        Ok(Item::End(Box::new(manifest), Signed { manifest: signed, signature }))
    }

    /// Reads the next line, with its end.
    fn next_line(&mut self) -> Result<(), ArchiveError> {
        self.line.clear();
        let mut bounded = (&mut *self.file).take(LINE_BYTES_MAX);
        let read = bounded.read_until(b'\n', &mut self.line).map_err(ArchiveError::Read)?;
        if self.line.last() == Some(&b'\n') {
            self.number += 1;
            return Ok(());
        }
        let line = self.number;
        if u64::try_from(read).unwrap_or(u64::MAX) == LINE_BYTES_MAX {
            return Err(ArchiveError::Altered { line: line + 1, what: "a line without an end" });
        }
        Err(ArchiveError::Truncated { line })
    }
}

fn cells<S: Serializer>(row: &&[Cell], serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(Some(row.len()))?;
    for cell in *row {
        match cell {
            Cell::Null => list.serialize_element(&())?,
            Cell::Text(text) => list.serialize_element(text)?,
            Cell::Int(number) => list.serialize_element(number)?,
            Cell::Bool(yes) => list.serialize_element(yes)?,
            Cell::Bytes(bytes) => list.serialize_element(&BASE64.encode(bytes))?,
            Cell::Time(time) => {
                list.serialize_element(&time.to_rfc3339_opts(SecondsFormat::Micros, true))?;
            }
            Cell::Json(json) => list.serialize_element(json)?,
        }
    }
    list.end()
}

/// A value of `column`; `None` when it is of another kind. A `null` where NULL cannot be is JSON's own.
fn cell(column: &Column, value: &RawValue) -> Option<Cell> {
    fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
        serde_json::from_str(value.get()).ok()
    }
    if value.get() == "null" && column.optional {
        return Some(Cell::Null);
    }
    match column.kind {
        Kind::Text => read(value).map(Cell::Text),
        Kind::Int => read(value).map(Cell::Int),
        Kind::Bool => read(value).map(Cell::Bool),
        Kind::Bytes => {
            read::<String>(value).and_then(|text| BASE64.decode(text.as_bytes()).ok()).map(Cell::Bytes)
        }
        Kind::Time => read(value).map(Cell::Time),
        Kind::Json => Some(Cell::Json(value.to_owned())),
    }
}
