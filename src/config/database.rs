//! Where state is kept. A Postgres URL may hold a password, so it is never shown whole.

use super::source::Source;
use super::{ConfigError, read::text_of};
use crate::base::Secret;
use std::fmt;
use std::path::{Path, PathBuf};

/// The database.
pub enum Database {
    /// One file, by the built-in library.
    Sqlite {
        /// The file; it is made where it is not there.
        file: PathBuf,
    },
    /// A server that replicas share.
    Postgres {
        /// The URL as it was written.
        url: Secret<String>,
    },
}

impl fmt::Display for Database {
    /// Without user, password and parameters: `postgres://db.internal:5432/bitting`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { file } => write!(f, "sqlite://{}", file.display()),
            Self::Postgres { url } => {
                let rest = url.expose().split_once("://").map_or("", |(_, rest)| rest);
                let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                if path.contains('@') {
                    // A password with an unescaped `/`, perhaps: what is the host cannot be told.
                    return f.write_str("postgres://...");
                }
                let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
                write!(f, "postgres://{host}{}", path.split(['?', '#']).next().unwrap_or(""))
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads `database_url`. Errors do not repeat it.
pub(super) fn database(source: &Source, data_dir: &Path) -> Result<Database, ConfigError> {
    let Some(given) = source.get("database_url") else {
        return Ok(Database::Sqlite { file: data_dir.join("bitting.db") });
    };
    let written = text_of(given)?;
    let invalid = |problem: &str| {
        let write = "sqlite://PATH or postgres://USER:PASSWORD@HOST/DATABASE";
        ConfigError::invalid(&given.origin, problem, write)
    };
    match written.split_once("://") {
        Some(("sqlite", file)) if file.contains(['?', '#']) => {
            Err(invalid("a SQLite URL takes no parameters here"))
        }
        Some(("sqlite", "" | ":memory:")) => Err(invalid("the SQLite URL names no file")),
        Some(("sqlite", file)) => Ok(Database::Sqlite { file: file.into() }),
        Some(("postgres" | "postgresql", rest)) if !rest.is_empty() => {
            Ok(Database::Postgres { url: Secret::new(written.to_owned()) })
        }
        _ => Err(invalid("it is neither a SQLite nor a PostgreSQL URL")),
    }
}
