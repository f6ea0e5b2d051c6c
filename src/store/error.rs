//! Why a statement did not do what it says. Nothing here prints a URL or a bound value.

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is out of reach, out of room, too slow, or refused the statement. Nothing was changed,
    /// unless this came from a commit: then it is not known.
    #[error("the database failed: {0}")]
    Unavailable(sqlx::Error),
    /// A row makes no sense. It is not used and not repaired.
    #[error("a row of {table} cannot be read: {column} makes no sense")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
    },
    /// Another row of the table already has what must be unique.
    #[error("{table} already has such a row")]
    Conflict {
        /// The table.
        table: &'static str,
    },
    /// The row names one that does not exist, or is still named by another.
    #[error("{table} and the rows it refers to do not fit")]
    Reference {
        /// The table.
        table: &'static str,
    },
    /// The answer would be larger than its bound; a narrower question has an answer.
    #[error("the answer has more than {rows_max} rows")]
    TooManyRows {
        /// The bound.
        rows_max: usize,
    },
}

impl StoreError {
    /// Tells what a driver's error means for a statement on `table`.
    pub(super) fn of(table: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |error| match &error {
            sqlx::Error::ColumnDecode { index, .. } => Self::corrupt(table, index.trim_matches('"')),
            sqlx::Error::Database(refusal) if refusal.is_unique_violation() => Self::Conflict { table },
            sqlx::Error::Database(refusal) if refusal.is_foreign_key_violation() => Self::Reference { table },
            _ => Self::Unavailable(error),
        }
    }

    /// A value that the database holds and the domain does not know.
    pub(super) fn corrupt(table: &'static str, column: &str) -> Self {
        Self::Corrupt { table, column: column.to_owned() }
    }
}
