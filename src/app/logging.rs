//! The server's own log, on stderr, and what a crash may say.

use super::AppError;
use crate::config::{LogFormat, Settings};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Begins to log.
pub(super) fn start(settings: &Settings) -> Result<(), AppError> {
    let filter = EnvFilter::try_new(&settings.log).map_err(|error| AppError::setup("BITTING_LOG", error))?;
    let is_terminal = std::io::stderr().is_terminal();
    let format = settings.log_format.unwrap_or(if is_terminal { LogFormat::Text } else { LogFormat::Json });
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(is_terminal);
    let started = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    started.map_err(|error| AppError::setup("logging", error))
}

/// Says where a panic happened and never what it said: the text could hold a secret. No core dumps, no memory open
/// to other processes, and as many open files as the system allows.
pub fn harden() -> Result<(), AppError> {
    std::panic::set_hook(Box::new(|panic| {
        if let Some(at) = panic.location() {
            tracing::error!(file = at.file(), line = at.line(), "panic");
        } else {
            tracing::error!("panic");
        }
    }));
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)
        .map_err(|error| AppError::setup("core dumps cannot be switched off", error))?;
    // Every connection is a file; the default soft limit of many systems is 1,024.
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: files.maximum, maximum: files.maximum };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, all) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| AppError::setup("the process's memory cannot be closed to others", error))?;
    Ok(())
}
