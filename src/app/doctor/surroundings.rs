//! What `doctor` says of the files beside the data, and of what the system lets others see of the process.

use super::Report;
use crate::app::logging;
use crate::config::{Database, Settings};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Nobody else may look into the data directory or at the database, and a crash leaves nothing behind.
pub(super) fn check(report: &mut Report, settings: &Settings) {
    report.say("data directory", directory(&settings.data_dir));
    if let Database::Sqlite { file } = &settings.database {
        let files =
            [file.clone(), beside(file, "-wal"), beside(file, "-shm"), file.with_added_extension("lock")];
        let wrong = files.iter().filter(|file| file.exists()).find_map(|file| private(file).err());
        report.say("database files", wrong.map_or_else(|| Ok("for their owner alone".to_owned()), Err));
    }
    let hardened = logging::harden().map(|()| "none; the memory is closed to other processes".to_owned());
    report.say("core dumps", hardened.map_err(|error| error.to_string()));
}

fn beside(file: &Path, tail: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// Whoever can write into it can put another database or another configuration into the place of ours.
fn directory(path: &Path) -> Result<String, String> {
    let shown = path.display();
    match mode(path)? {
        mode if mode & 0o022 != 0 => {
            Err(format!("others can put files into {shown} (mode {mode:o}); run: chmod 700 {shown}"))
        }
        mode if mode & 0o055 != 0 => {
            Ok(format!("{shown}; others can see the names of its files (mode {mode:o})"))
        }
        _ => Ok(format!("{shown} is for its owner alone")),
    }
}

fn private(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match mode(path)? {
        mode if mode & 0o077 != 0 => {
            Err(format!("others have a part in {shown} (mode {mode:o}); run: chmod 600 {shown}"))
        }
        _ => Ok(()),
    }
}

fn mode(path: &Path) -> Result<u32, String> {
    let shown = path.display();
    let known = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{shown} is not there; run: bitting init, or set BITTING_DATA_DIR to where it is")
        }
        _ => format!("{shown}: {error}"),
    })?;
    Ok(known.permissions().mode() & 0o777)
}
