//! The files beside the data: the directory, the KEK, the database.

use super::AppError;
use crate::base::{Entropy, Secret};
use crate::config::{Database, Settings};
use crate::store::{SchemaState, Store};
use crate::vault::Kek;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
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

/// Reads the KEK, or makes one where the file is missing.
pub(super) fn kek_or_new(path: &Path, entropy: &Entropy) -> Result<Kek, AppError> {
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match created {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return kek(path),
        Err(error) => return Err(AppError::File { path: path.to_owned(), error }),
    };
    let kek = Kek::generate(entropy);
    let written = file.write_all(kek.to_line().expose().as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| AppError::File { path: path.to_owned(), error })?;
    Ok(kek)
}

/// Reads the KEK. Others than its owner may not be able to.
pub(super) fn kek(path: &Path) -> Result<Kek, AppError> {
    let failed = |error| AppError::File { path: path.to_owned(), error };
    let wrong = |reason: &str| AppError::Kek { path: path.to_owned(), reason: reason.to_owned() };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        let path = path.display();
        return Err(wrong(&format!(
            "others than its owner can read it (mode {:o}); run: chmod 600 {path}",
            mode & 0o777
        )));
    }
    let text = Secret::new(fs::read_to_string(path).map_err(failed)?);
    Kek::parse(&text)
        .map_err(|error| wrong(&format!("{error}; put the file back that belongs to this database")))
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
        SchemaState::Pending(names)
            if names.len() > 1 || names.iter().any(|name| name.starts_with("0001")) =>
        {
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
