//! The files beside the data: the directory and the database.

use super::AppError;
use crate::config::{Database, Settings};
use crate::store::{SchemaState, Store};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes the data directory, readable by its owner only, and keeps it out of version control.
pub(super) fn make_data_dir(dir: &Path) -> Result<(), AppError> {
    let failed = |error| AppError::File { path: dir.to_owned(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    match OpenOptions::new().write(true).create_new(true).open(dir.join(".gitignore")) {
        Ok(mut file) => file.write_all(b"*\n").map_err(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Opens the database, whatever its schema.
pub(super) async fn open_store(settings: &Settings) -> Result<Store, AppError> {
    Ok(match &settings.database {
        Database::Sqlite { file } => Store::open(&format!("sqlite://{}", file.display())).await?,
        Database::Postgres { url } => Store::open(url.expose()).await?,
    })
}

/// Opens the database; its schema must be this program's.
pub(super) async fn open_current_store(settings: &Settings) -> Result<Store, AppError> {
    let store = open_store(settings).await?;
    match store.schema_state().await? {
        SchemaState::UpToDate => Ok(store),
        state => Err(schema_error(&state)),
    }
}

/// Why a schema is not this program's, by the names of its migrations, and what to do.
pub(super) fn schema_error(state: &SchemaState) -> AppError {
    AppError::Schema(match state {
        SchemaState::UpToDate => "the schema is up to date".to_owned(),
        SchemaState::Pending(names) if names.iter().any(|name| name.starts_with("0001")) => {
            format!(
                "the database is not set up, or lacks {}; run: bitting init, or: bitting migrate",
                names.join(", ")
            )
        }
        SchemaState::Pending(names) => {
            format!("the database lacks {}; run: bitting migrate", names.join(", "))
        }
        SchemaState::Newer(names) => {
            format!(
                "the database is newer than this program: it has {}; run the newer program",
                names.join(", ")
            )
        }
        SchemaState::HalfMigrated(names) => {
            format!("{} was begun and not finished; restore the database from before it", names.join(", "))
        }
        SchemaState::Changed(names) => {
            format!(
                "{} was applied with another text than this program has; run the program that applied it",
                names.join(", ")
            )
        }
    })
}
