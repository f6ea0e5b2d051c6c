//! Rows that grant power, in the one form in which they are signed.

use chrono::{DateTime, Utc};
use serde::Serialize;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// The tables whose rows grant power.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum PowerTable {
            $($(#[$doc])* $name,)*
        }

        impl PowerTable {
            /// Every table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in the database.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

tables! {
    /// Sub-keys, with their secrets and budgets.
    Subkeys = "subkeys";
    /// Providers.
    Providers = "providers";
    /// Credentials, with their versions.
    Credentials = "credentials";
    /// What operators said about models and prices.
    Models = "models";
    /// Operators, with their tokens.
    Operators = "operators";
    /// Projects.
    Projects = "projects";
}

const LABEL: &[u8] = b"bitting/row/v1";

/// A row in the form in which it is signed: table, id, version, everything that grants power, and its children. What
/// changes without granting anything (last used, posted, held, why a rotation is due) is not in it.
///
/// Bytes: the label, then each part with its length before it: no two rows read alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerRow {
    /// Its table.
    pub table: PowerTable,
    /// Its id within the table.
    pub id: String,
    canonical: Vec<u8>,
}

impl PowerRow {
    /// Begins with what every row has.
    pub fn new(table: PowerTable, id: impl Into<String>, version: i64) -> Self {
        let id = id.into();
        let row = Self { table, id: id.clone(), canonical: LABEL.to_vec() };
        row.text(table.as_str()).text(&id).number(version)
    }

    /// Adds a text.
    #[must_use]
    pub fn text(self, text: &str) -> Self {
        self.part(text.as_bytes())
    }

    /// Adds a text that may be missing; missing is not empty.
    #[must_use]
    pub fn optional(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.part(b"+").text(text),
            None => self.part(b"-"),
        }
    }

    /// Adds a number.
    #[must_use]
    pub fn number(self, number: i64) -> Self {
        self.part(&number.to_be_bytes())
    }

    /// Adds a time, to the microsecond that both databases keep.
    #[must_use]
    pub fn time(self, time: DateTime<Utc>) -> Self {
        self.number(time.timestamp_micros())
    }

    /// Adds a time that may be missing.
    #[must_use]
    pub fn optional_time(self, time: Option<DateTime<Utc>>) -> Self {
        match time {
            Some(time) => self.part(b"+").time(time),
            None => self.part(b"-"),
        }
    }

    /// Adds bytes.
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.part(bytes)
    }

    /// Adds a document. Its objects are written with sorted names, so what the database did to their order is the same.
    ///
    /// # Panics
    /// Never: what is signed has text for names and no number that JSON lacks.
    #[must_use]
    pub fn json(self, document: &impl Serialize) -> Self {
        let value = serde_json::to_value(document).expect("a document is JSON");
        let text = serde_json::to_vec(&value).expect("a value is JSON");
        self.part(&text)
    }

    /// Adds children, each a text made of what counts of it, in an order that does not change.
    #[must_use]
    pub fn children(self, kind: &str, children: impl IntoIterator<Item = String>) -> Self {
        let mut children: Vec<String> = children.into_iter().collect();
        children.sort_unstable();
        let count = i64::try_from(children.len()).unwrap_or(i64::MAX);
        children.iter().fold(self.text(kind).number(count), |row, child| row.text(child))
    }

    /// What is signed.
    pub fn canonical(&self) -> &[u8] {
        &self.canonical
    }

    fn part(mut self, part: &[u8]) -> Self {
        self.canonical.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        self.canonical.extend(part);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn row() -> PowerRow {
        PowerRow::new(PowerTable::Subkeys, "a", 1)
    }

    #[test]
    fn the_order_of_names_and_of_children_does_not_count() {
        let one = row().json(&json!({"a": 1, "b": {"c": [1, 2], "d": null}}));
        let two = row()
            .json(&serde_json::from_str::<serde_json::Value>(r#"{"b":{"d":null,"c":[1,2]},"a":1}"#).unwrap());
        assert_eq!(one, two);
        assert_ne!(one, row().json(&json!({"a": 1, "b": {"c": [2, 1], "d": null}})));
        let children = |list: [&str; 2]| row().children("x", list.map(str::to_owned));
        assert_eq!(children(["p", "q"]), children(["q", "p"]));
        assert_ne!(children(["p", "q"]), row().children("x", ["p".to_owned()]));
    }

    #[test]
    fn a_missing_text_is_not_an_empty_one() {
        assert_ne!(row().optional(None), row().optional(Some("")));
        assert_ne!(row().optional_time(None), row().optional_time(Some(DateTime::UNIX_EPOCH)));
    }

    proptest! {
        /// Texts cannot be moved over the border between two parts.
        #[test]
        fn no_two_rows_read_alike(one in ".{0,6}", two in ".{0,6}", three in ".{0,6}", four in ".{0,6}") {
            let same = (&one, &two) == (&three, &four);
            prop_assert_eq!(row().text(&one).text(&two) == row().text(&three).text(&four), same);
        }
    }
}
