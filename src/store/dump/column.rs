//! What a table's columns are, as they are listed: a name, what it holds, whether it can be NULL, and since when.

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// Bytes.
    Bytes,
    /// A moment, in whole microseconds.
    Time,
    /// A JSON document.
    Json,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it can be NULL.
    pub optional: bool,
    /// The migration that made it.
    pub since: i64,
}

const fn column(name: &'static str, kind: Kind) -> Column {
    Column { name, kind, optional: false, since: 1 }
}

pub(super) const fn text(name: &'static str) -> Column {
    column(name, Kind::Text)
}

pub(super) const fn int(name: &'static str) -> Column {
    column(name, Kind::Int)
}

pub(super) const fn boolean(name: &'static str) -> Column {
    column(name, Kind::Bool)
}

pub(super) const fn bytes(name: &'static str) -> Column {
    column(name, Kind::Bytes)
}

pub(super) const fn time(name: &'static str) -> Column {
    column(name, Kind::Time)
}

pub(super) const fn json(name: &'static str) -> Column {
    column(name, Kind::Json)
}

impl Column {
    pub(super) const fn or_null(mut self) -> Self {
        self.optional = true;
        self
    }

    pub(super) const fn since(mut self, migration: i64) -> Self {
        self.since = migration;
        self
    }
}
