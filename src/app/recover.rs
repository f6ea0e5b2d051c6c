//! `operator recover`: a new owner token, from beside the data.

use super::{AppError, files, kek, settings};
use crate::base::{Clock, Entropy};
use crate::service;
use std::path::PathBuf;

/// Prints a token for a new owner. Needs the KEK; leaves an entry in the admin log. The server may be running.
pub async fn recover(data_dir: PathBuf) -> Result<(), AppError> {
    let settings = settings(Some(data_dir), None)?;
    let source = kek::source(&settings)?;
    let store = files::open_current_store(&settings).await?;
    let token = service::recover(&store, source.as_ref(), &Clock::system(), &Entropy::new()).await?;
    println!("operator token  {}  (shown once)", token.expose());
    Ok(())
}
