//! `init`.

use super::migrate::bring_up_to_date;
use super::{AppError, files, kek, settings};
use crate::base::{Clock, Entropy};
use crate::service;
use serde_json::json;
use std::path::PathBuf;

/// Sets an installation up and prints the first operator token and the log's key, once.
pub async fn init(data_dir: Option<PathBuf>, as_json: bool) -> Result<(), AppError> {
    let settings = settings(data_dir, None)?;
    let (clock, entropy) = (Clock::system(), Entropy::new());
    files::make_data_dir(&settings.data_dir)?;
    let store = files::open_store(&settings).await?;
    bring_up_to_date(&store).await?;
    if service::is_installed(&store).await? {
        return Err(service::InstallError::AlreadyInstalled.into());
    }
    let source = kek::source(&settings)?;
    let installed = service::install(&store, source.as_ref(), &clock, &entropy).await?;
    let data_dir = settings.data_dir.display().to_string();
    let token = installed.operator_token.expose();
    if as_json {
        println!("{}", json!({"operator_token": token, "data_dir": data_dir, "log_key": installed.log_key}));
    } else {
        println!("data directory  {data_dir}");
        println!("KEK             {}  (keep a copy apart from the database)", source.describe());
        println!("log key         {}", installed.log_key);
        println!("operator token  {token}  (shown once)");
        println!("next            bitting serve --data {data_dir}");
    }
    Ok(())
}
