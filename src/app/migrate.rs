//! `migrate`, and what `init` and `quickstart` do about a schema that is there already.

use super::{AppError, files, settings};
use crate::store::{MigrateError, SchemaState, Store, WriterError, migrations};

/// Brings the schema up to date, or prints the SQL that would.
pub async fn migrate(plan: bool) -> Result<(), AppError> {
    let settings = settings(None, None)?;
    let store = files::open_store(&settings).await?;
    if plan {
        return print_plan(&store).await;
    }
    let applied = bring_up_to_date(&store).await?;
    match applied.as_slice() {
        [] => println!("the schema is up to date"),
        names => names.iter().for_each(|name| println!("applied {name}")),
    }
    Ok(())
}

/// Prints what is pending as SQL; what is not SQL is a comment.
async fn print_plan(store: &Store) -> Result<(), AppError> {
    match store.schema_state().await? {
        SchemaState::UpToDate => println!("-- the schema is up to date"),
        SchemaState::Pending(names) => {
            for name in names {
                let sql = store.migration_sql(&name).unwrap_or_default();
                println!("-- {name}\n{}\n", sql.trim_end());
            }
        }
        state => return Err(files::schema_error(&state)),
    }
    Ok(())
}

/// Applies what is pending, while no server uses the database. One that holds something is copied first where that is
/// ours to do, and stderr says where the copy is.
pub(super) async fn bring_up_to_date(store: &Store) -> Result<Vec<String>, AppError> {
    if store.schema_state().await? == SchemaState::UpToDate {
        return Ok(Vec::new());
    }
    // The right of a server: a running one would go on with the schema that it knows.
    let alone = store.writer().await.map_err(|error| match error {
        WriterError::HeldByAnother => AppError::InUse,
        error @ WriterError::LockFile(_) => AppError::setup("the schema", error),
        WriterError::Store(error) => error.into(),
    })?;
    if let Some(first) = first_change(store).await? {
        match store.copy_aside(&first).await? {
            Some(copy) => eprintln!("the database as it was is in {}", copy.display()),
            None => eprintln!(
                "note: bitting makes no copy of a PostgreSQL database before it changes the schema; pg_dump does, and it is yours to run"
            ),
        }
    }
    let applied = store.migrate().await.map_err(|error| match error {
        MigrateError::Refused(state) => files::schema_error(&state),
        error @ (MigrateError::Failed(_) | MigrateError::Store(_)) => error.into(),
    })?;
    alone.release().await?;
    Ok(applied)
}

/// The first migration that would change a schema that is there; `None` where there is none, or nothing to change.
async fn first_change(store: &Store) -> Result<Option<String>, AppError> {
    Ok(match store.schema_state().await? {
        SchemaState::Pending(names) if names.len() < migrations().len() => names.into_iter().next(),
        SchemaState::Pending(_)
        | SchemaState::UpToDate
        | SchemaState::Newer(_)
        | SchemaState::HalfMigrated(_)
        | SchemaState::Changed(_) => None,
    })
}
