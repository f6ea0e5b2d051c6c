//! `operator recover`: a new owner token, from beside the data.

use super::{AppError, checkpoint, files, kek, settings};
use crate::base::{Clock, Entropy};
use crate::service::{self, Recovered};
use crate::vault::Quarantine;
use std::path::PathBuf;

/// Prints a token for a new owner. Needs the KEK; leaves an entry in the admin log. The server may be running.
pub async fn recover(data_dir: PathBuf) -> Result<(), AppError> {
    let settings = settings(Some(data_dir), None)?;
    let source = kek::source(&settings)?;
    let store = files::open_current_store(&settings).await?;
    let by = (&Clock::system(), &Entropy::new());
    let Recovered { token, quarantine, unkept } =
        service::recover(&store, source.as_ref(), checkpoint(&settings), by).await?;
    store.close().await;
    if let Some(Quarantine { since, reason, detail }) = quarantine {
        eprintln!(
            "note: nothing is admitted since {since} ({reason}: {detail}); find out why, then: bitting vault release"
        );
    }
    if let Some(error) = unkept {
        eprintln!(
            "note: the checkpoint does not tell of this yet ({error}); until a server has run, an older copy of the database would not be noticed"
        );
    }
    println!("operator token  {}  (shown once)", token.expose());
    Ok(())
}
