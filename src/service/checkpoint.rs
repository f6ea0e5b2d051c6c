//! The checkpoint: how far the database had come, kept outside of it, so that an older copy is noticed.
//!
//! It is never ahead of what is durable: its figures are read from the database after the commit that they tell of. It
//! never goes back by itself: figures that are lower than those in the file put the server into quarantine instead, and
//! only a release writes them. In quarantine it stays as it is until an operator changes something; then it tells of
//! the new epoch too, so that the change is not undone by putting the other database back.

use super::quarantine::Gate;
use super::{Alarms, Services, StoreError};
use crate::base::Clock;
use crate::log::AlarmKind;
use crate::store::meta::{Figures, figures};
use crate::store::{self, Store};
use crate::vault::Keyring;
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Mutex;

const FORMAT: u32 = 1;
const LABEL: &[u8] = b"bitting/checkpoint/v1";
const BYTES_MAX: u64 = 16 * 1024;

/// The data directory has the checkpoint of another database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} belongs to the installation {theirs}, and the database is the installation {ours}; use the database that \
     belongs to this data directory, or another data directory, or move the file away",
    path.display()
)]
pub struct ForeignCheckpoint {
    /// The file.
    pub path: PathBuf,
    /// Whose it is.
    pub theirs: String,
    /// Whose the database is.
    pub ours: String,
}

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    installation: String,
    epoch: i64,
    register_seq: i64,
    access_log_seq: i64,
    admin_log_seq: i64,
    written_at: DateTime<Utc>,
    term: u32,
    mac: String,
}

impl Document {
    fn figures(&self) -> Figures {
        Figures {
            epoch: self.epoch,
            register_seq: self.register_seq,
            access_log_seq: self.access_log_seq,
            admin_log_seq: self.admin_log_seq,
        }
    }

    fn canonical(&self) -> Vec<u8> {
        let numbers = [self.epoch, self.register_seq, self.access_log_seq, self.admin_log_seq];
        let mut bytes = LABEL.to_vec();
        bytes.extend(self.format.to_be_bytes());
        bytes.extend(numbers.into_iter().flat_map(i64::to_be_bytes));
        bytes.extend(self.written_at.timestamp_micros().to_be_bytes());
        bytes.extend(self.installation.as_bytes());
        bytes
    }

    fn signed(mut self, keyring: &Keyring) -> Self {
        let (mac, term) = keyring.sign_row(&self.canonical());
        (self.mac, self.term) = (HEXLOWER.encode(&mac), term);
        self
    }
}

/// What was found at the file's place.
enum Found {
    Nothing,
    Damaged(String),
    Document(Document),
}

/// When the checkpoint is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// A change of power was committed and its caller waits.
    Change,
    /// A while has passed.
    Tick,
    /// An operator has ended the quarantine: what the database says now is what holds.
    Release,
}

/// How the database stands to the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// Not older.
    Fine,
    /// Older in some figure; told for people.
    Older(String),
    /// The file tells nothing.
    Unreadable(String),
}

/// The handle on the file. Clones share it.
#[derive(Clone)]
pub(super) struct Checkpoint(Arc<Inner>);

struct Inner {
    path: PathBuf,
    installation: String,
    store: Store,
    clock: Clock,
    alarms: Alarms,
    gate: Arc<Gate>,
    /// Calls so far; one that waited for another's turn may find its work done.
    calls: AtomicU64,
    is_unwritable: AtomicBool,
    turn: Mutex<Turn>,
}

/// What only one at a time has.
struct Turn {
    /// The figures before this process wrote anything, until they are compared.
    at_start: Option<Figures>,
    /// What the file is known to say, and the term of its MAC; `None` before it was compared, or when there is no file.
    written: Option<(Figures, u32)>,
    is_compared: bool,
    calls_done: u64,
}

impl Checkpoint {
    /// Looks at the database and at whose file is there. Nothing is compared yet: that takes the keyring.
    pub(super) async fn begin(
        (path, installation): (PathBuf, String),
        (store, clock, alarms): (Store, Clock, Alarms),
        gate: Arc<Gate>,
    ) -> Result<Result<Self, ForeignCheckpoint>, StoreError> {
        if let Found::Document(found) = read(path.clone()).await
            && found.installation != installation
        {
            return Ok(Err(ForeignCheckpoint { path, theirs: found.installation, ours: installation }));
        }
        let at_start = Some(figures(&mut store.read().await?.conn()).await?);
        Ok(Ok(Self(Arc::new(Inner {
            path,
            installation,
            store,
            clock,
            alarms,
            gate,
            calls: AtomicU64::new(0),
            is_unwritable: AtomicBool::new(false),
            turn: Mutex::new(Turn { at_start, written: None, is_compared: false, calls_done: 0 }),
        }))))
    }

    /// Holds the database, as it was found, against the file.
    async fn compare(&self, keyring: &Keyring) -> Result<Kept, StoreError> {
        let mut turn = self.0.turn.lock().await;
        let ours = match turn.at_start.take() {
            Some(figures) => figures,
            None => figures(&mut self.0.store.read().await?.conn()).await?,
        };
        turn.is_compared = true;
        let path = self.0.path.display();
        let document = match read(self.0.path.clone()).await {
            Found::Nothing => {
                tracing::warn!(file = %path, "there is no checkpoint yet; an older database would not be noticed");
                return Ok(Kept::Fine);
            }
            Found::Damaged(error) => return Ok(Kept::Unreadable(format!("{path}: {error}"))),
            Found::Document(document) => document,
        };
        if document.installation != self.0.installation || document.format != FORMAT {
            return Ok(Kept::Unreadable(format!("{path} is another installation's or another program's")));
        }
        let mac = HEXLOWER.decode(document.mac.as_bytes()).unwrap_or_default();
        let is_signed = keyring.row_is_signed(&document.canonical(), &mac, document.term);
        // After a rotation a term may be gone: then nobody can tell, and the figures alone count.
        let is_of_a_lost_term = keyring.row_mac(&[], document.term).is_none();
        if !is_signed && !is_of_a_lost_term {
            return Ok(Kept::Unreadable(format!("{path} is not signed by this installation's keyring")));
        }
        turn.written = Some((document.figures(), document.term));
        if is_older(&ours, &document.figures()) {
            return Ok(Kept::Older(told(&ours, &document.figures())));
        }
        if is_of_a_lost_term {
            tracing::warn!(file = %path, term = document.term, "the checkpoint is signed by a term that is gone; its figures are not ahead, and it is written anew");
        }
        Ok(Kept::Fine)
    }

    /// Brings the file up to what is committed. What cannot be written is alarmed; the change holds all the same.
    pub(super) async fn keep(&self, keyring: &Keyring, occasion: Occasion) -> Kept {
        let inner = &self.0;
        let call = inner.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let mut turn = inner.turn.lock().await;
        let is_done = turn.calls_done >= call && occasion != Occasion::Release;
        let is_quarantined = inner.gate.is_closed();
        let is_left = occasion == Occasion::Tick && is_quarantined;
        if is_done || is_left || !turn.is_compared {
            return Kept::Fine;
        }
        let covered = inner.calls.load(Ordering::SeqCst);
        let ours = match self.read_figures().await {
            Ok(ours) => ours,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint was not written: the database did not answer");
                return Kept::Fine;
            }
        };
        let next = match turn.written {
            Some((theirs, _)) if occasion == Occasion::Change && is_quarantined => highest(&ours, &theirs),
            Some((theirs, _)) if occasion != Occasion::Release && is_older(&ours, &theirs) => {
                return Kept::Older(told(&ours, &theirs));
            }
            Some(_) | None => ours,
        };
        let term = keyring.current_term();
        if turn.written != Some((next, term)) || inner.is_unwritable.load(Ordering::Relaxed) {
            let document = self.document(&next).signed(keyring);
            match write(inner.path.clone(), document).await {
                Ok(()) => {
                    turn.written = Some((next, term));
                    inner.is_unwritable.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    if occasion == Occasion::Release {
                        // What was released counts from now on, and is written as soon as that is possible.
                        turn.written = Some((next, term));
                    }
                    self.failed(&error);
                }
            }
        }
        turn.calls_done = covered;
        Kept::Fine
    }

    async fn read_figures(&self) -> Result<Figures, StoreError> {
        let mut read = self.0.store.read().await?;
        store::meta::figures(&mut read.conn()).await
    }

    fn document(&self, figures: &Figures) -> Document {
        Document {
            format: FORMAT,
            installation: self.0.installation.clone(),
            epoch: figures.epoch,
            register_seq: figures.register_seq,
            access_log_seq: figures.access_log_seq,
            admin_log_seq: figures.admin_log_seq,
            written_at: self.0.clock.now(),
            term: 0,
            mac: String::new(),
        }
    }

    /// Tells it once, until it can be written again.
    fn failed(&self, error: &io::Error) {
        if !self.0.is_unwritable.swap(true, Ordering::Relaxed) {
            let file = self.0.path.display().to_string();
            tracing::error!(file, %error, "the checkpoint cannot be written");
            let detail = json!({"error": error.to_string()});
            self.0.alarms.raise(AlarmKind::CheckpointUnwritable, &file, &detail);
        }
    }
}

impl Services {
    /// Whether the checkpoint outside of the database lags because its file cannot be written.
    pub fn is_checkpoint_unwritable(&self) -> bool {
        self.checkpoint.0.is_unwritable.load(Ordering::Relaxed)
    }

    /// Brings the checkpoint up to what is committed: logs, other terms of the keyring, changes from beside the data.
    /// A database that is older than it is put into quarantine. Does nothing while the vault is closed.
    pub async fn keep_checkpoint(&self) {
        let Ok(keyring) = self.vault.keyring() else { return };
        if let Kept::Older(detail) = self.checkpoint.keep(&keyring, Occasion::Tick).await
            && let Err(error) = self.enter_quarantine(&keyring, "database_older", &detail).await
        {
            tracing::error!(%error, "the quarantine is not written down yet");
        }
    }

    /// Brings the checkpoint up to a change that was committed and is in force, before its caller is told: what was taken
    /// away is not given back by an older copy. It is asked for by the edge that tells the caller, not between commit
    /// and force, where nothing may be waited for.
    pub async fn keep_change(&self) {
        if let Ok(keyring) = self.vault.keyring() {
            self.keep_change_by(&keyring).await;
        }
    }

    /// The same for a change that leaves the vault closed.
    pub(super) async fn keep_change_by(&self, keyring: &Keyring) {
        self.checkpoint.keep(keyring, Occasion::Change).await;
    }

    /// Holds the database against the checkpoint, once the keyring is open and before anything is served.
    pub(super) async fn hold_against_checkpoint(&self, keyring: &Arc<Keyring>) -> Result<(), StoreError> {
        match self.checkpoint.compare(keyring).await? {
            Kept::Older(detail) => self.enter_quarantine(keyring, "database_older", &detail).await,
            Kept::Unreadable(detail) => {
                self.enter_quarantine(keyring, "checkpoint_unreadable", &detail).await
            }
            Kept::Fine => {
                self.checkpoint.keep(keyring, Occasion::Tick).await;
                Ok(())
            }
        }
    }
}

fn pairs(ours: &Figures, theirs: &Figures) -> [(i64, i64); 4] {
    [
        (ours.epoch, theirs.epoch),
        (ours.register_seq, theirs.register_seq),
        (ours.access_log_seq, theirs.access_log_seq),
        (ours.admin_log_seq, theirs.admin_log_seq),
    ]
}

fn is_older(ours: &Figures, theirs: &Figures) -> bool {
    pairs(ours, theirs).iter().any(|(ours, theirs)| ours < theirs)
}

fn highest(one: &Figures, other: &Figures) -> Figures {
    let [epoch, register_seq, access_log_seq, admin_log_seq] =
        pairs(one, other).map(|(one, other)| one.max(other));
    Figures { epoch, register_seq, access_log_seq, admin_log_seq }
}

fn told(ours: &Figures, theirs: &Figures) -> String {
    let [epoch, register, access, admin] = pairs(ours, theirs);
    format!(
        "the database is older than the checkpoint: epoch {} of {}, change {} of {}, access log {} of {}, admin log {} of {}",
        epoch.0, epoch.1, register.0, register.1, access.0, access.1, admin.0, admin.1
    )
}

async fn read(path: PathBuf) -> Found {
    let read = move || {
        let mut text = String::new();
        match File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text)) {
            Ok(_) => match serde_json::from_str(&text) {
                Ok(document) => Found::Document(document),
                Err(error) => Found::Damaged(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Found::Nothing,
            Err(error) => Found::Damaged(error.to_string()),
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Found::Damaged(error.to_string()))
}

async fn write(path: PathBuf, document: Document) -> io::Result<()> {
    let text = serde_json::to_vec(&document)?;
    tokio::task::spawn_blocking(move || replace(&path, &text)).await.unwrap_or_else(|error| Err(error.into()))
}

/// The whole new file or the old one, whenever the power goes.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let new = path.with_added_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Entropy;

    fn figures_of(numbers: [i64; 4]) -> Figures {
        let [epoch, register_seq, access_log_seq, admin_log_seq] = numbers;
        Figures { epoch, register_seq, access_log_seq, admin_log_seq }
    }

    #[test]
    fn older_is_lower_in_any_figure() {
        let ours = figures_of([2, 10, 20, 30]);
        assert!(!is_older(&ours, &ours));
        assert!(!is_older(&ours, &figures_of([1, 9, 19, 29])));
        for theirs in [[3, 1, 1, 1], [1, 11, 1, 1], [1, 1, 21, 1], [1, 1, 1, 31]] {
            assert!(is_older(&ours, &figures_of(theirs)), "{theirs:?}");
            assert!(!is_older(&highest(&ours, &figures_of(theirs)), &ours));
            assert!(!is_older(&highest(&ours, &figures_of(theirs)), &figures_of(theirs)));
        }
    }

    #[test]
    fn every_part_of_the_file_is_signed() {
        let keyring = Keyring::generate(&Entropy::new());
        let document = Document {
            format: FORMAT,
            installation: "inst_1".into(),
            epoch: 1,
            register_seq: 2,
            access_log_seq: 3,
            admin_log_seq: 4,
            written_at: DateTime::UNIX_EPOCH,
            term: 0,
            mac: String::new(),
        }
        .signed(&keyring);
        let is_signed = |one: &Document| {
            let mac = HEXLOWER.decode(one.mac.as_bytes()).unwrap();
            keyring.row_is_signed(&one.canonical(), &mac, one.term)
        };
        assert!(is_signed(&document));
        let changes: [fn(&mut Document); 7] = [
            |one| one.format += 1,
            |one| one.installation.push('x'),
            |one| one.epoch += 1,
            |one| one.register_seq += 1,
            |one| one.access_log_seq += 1,
            |one| one.admin_log_seq += 1,
            |one| one.written_at += chrono::TimeDelta::seconds(1),
        ];
        for change in changes {
            let mut other = document.clone();
            change(&mut other);
            assert!(!is_signed(&other), "{other:?}");
        }
    }

    #[test]
    fn the_file_is_replaced_whole_and_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("checkpoint");
        fs::write(path.with_added_extension("new"), "left by a crash").unwrap();
        for text in ["one", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
