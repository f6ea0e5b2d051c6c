//! Which row of the operation table a question is about.

use crate::policy::Operation;
use crate::provider::Dialect;
use crate::provider::operation::{Hole, Matched, ROWS, find};
use http::Method;
use std::fmt;

/// What a request would ask for.
#[derive(Clone, Debug)]
pub enum Asked {
    /// An operation, by the first of its rows that serves the model.
    Operation {
        /// Which.
        operation: Operation,
        /// In this dialect; `None` is in whichever the model is served.
        dialect: Option<Dialect>,
    },
    /// A path, as a client has it.
    Path {
        /// Its method.
        method: Method,
        /// The path, without a query.
        path: String,
        /// The dialect that the client's headers speak, where dialects share the path.
        dialect: Dialect,
    },
}

impl Asked {
    /// Whether the operation's path names the model.
    pub(super) fn needs_model(&self) -> bool {
        let Self::Operation { operation, dialect } = self else { return false };
        ROWS.iter().any(|row| {
            row.operation == *operation
                && dialect.is_none_or(|dialect| dialect == row.dialect)
                && matches!(row.template.hole(), Some(Hole::Model))
        })
    }
}

/// A request line that the operation table has.
#[derive(Debug)]
pub(super) struct Request {
    method: Method,
    path: String,
    dialect: Dialect,
}

impl Request {
    /// Those that are meant, the likeliest first; none where no row has them.
    pub(super) fn all(asked: &Asked, model: Option<&str>) -> Vec<Self> {
        let meant = match asked {
            Asked::Path { method, path, dialect } => {
                vec![Self { method: method.clone(), path: path.clone(), dialect: *dialect }]
            }
            Asked::Operation { operation, dialect: spoken } => {
                let dialects = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
                let dialects = dialects.into_iter().filter(|one| spoken.is_none_or(|spoken| spoken == *one));
                dialects.filter_map(|dialect| Self::of(*operation, dialect, model)).collect()
            }
        };
        meant.into_iter().filter(|request| request.matched().is_some()).collect()
    }

    /// The first row of the operation that needs nothing that is kept, and nobody's deployment.
    fn of(operation: Operation, dialect: Dialect, model: Option<&str>) -> Option<Self> {
        let row = ROWS.iter().find(|row| {
            (row.operation, row.dialect) == (operation, dialect)
                && !matches!(row.template.hole(), Some(Hole::Object | Hole::Deployment))
        })?;
        let path = row.template.path(model.unwrap_or_default());
        Some(Self { method: row.method.clone(), path, dialect })
    }

    pub(super) fn matched(&self) -> Option<Matched<'_>> {
        find(&self.method, &self.path, self.dialect)
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_needs_a_model_where_its_path_names_it() {
        let needs = |operation, dialect| Asked::Operation { operation, dialect }.needs_model();
        assert!(needs(Operation::Chat, Some(Dialect::Gemini)));
        assert!(!needs(Operation::Chat, Some(Dialect::OpenAi)));
        assert!(!needs(Operation::Files, None));
    }
}
