//! Where the key-encryption key comes from: one file for each kind of source.

mod file;

pub use file::FileKek;

use crate::config::Settings;
use crate::service::KekSource;
use std::sync::Arc;

/// The source that the settings name.
pub(super) fn source(settings: &Settings) -> Arc<dyn KekSource> {
    Arc::new(FileKek::new(settings.kek_file.clone()))
}
