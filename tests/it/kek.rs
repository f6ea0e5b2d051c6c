//! The sources of the key-encryption key, as the settings name them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod files;
mod openbao;
mod transit;

use bitting::app::kek;
use bitting::base::Entropy;
use bitting::config::{Overrides, Settings};
use bitting::service::{KekSource, KekSourceError};
use bitting::vault::Kek;
use serde_json::Value;
use std::io;
use std::sync::Arc;

const INSTALLATION: &str = "inst_of-the-test";

/// The source that this environment names.
pub(crate) fn source<V: ToString>(environment: &[(&str, V)]) -> Arc<dyn KekSource> {
    kek::source(&settings(environment)).unwrap()
}

fn settings<V: ToString>(environment: &[(&str, V)]) -> Settings {
    let overrides = Overrides { config: None, data_dir: Some("/nowhere".into()) };
    let environment =
        environment.iter().map(|(name, value)| ((*name).to_owned(), value.to_string())).collect();
    let nothing = |_: &std::path::Path| Err(io::ErrorKind::NotFound.into());
    Settings::from_parts(&overrides, &environment, nothing).unwrap()
}

async fn create(source: &dyn KekSource) -> Result<(String, Value), KekSourceError> {
    let (kek, kept) = source.create(&Entropy::new(), INSTALLATION).await?;
    Ok((text(&kek), kept))
}

async fn open(source: &dyn KekSource, kept: &Value) -> Result<String, KekSourceError> {
    source.open(kept, INSTALLATION).await.map(|kek| text(&kek))
}

/// Tells one key from another.
fn text(kek: &Kek) -> String {
    kek.to_line().expose().clone()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(result: Result<T, KekSourceError>, part: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, KekSourceError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains(part), "{part:?} is not in {error}");
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(result: Result<T, KekSourceError>, part: &str) {
    let error = result.unwrap_err();
    assert!(matches!(error, KekSourceError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains(part), "{part:?} is not in {error}");
}
