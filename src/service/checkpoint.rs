//! The checkpoint: how far the database had come, kept outside of it, so that an older copy is noticed.
//!
//! It is never ahead of what is durable: its figures are read from the database after the commit that they tell of. It
//! never goes back by itself: figures that are lower than those in the file put the server into quarantine instead, and
//! only a release writes them. In quarantine it stays as it is until an operator changes something; then it tells of
//! the new epoch too, so that the change is not undone by putting the other database back.
//!
//! Besides figures it holds the hash of the signed register, so a database that came as far by other changes is noticed
//! too. A command beside the data that changes what grants power keeps it as a server does.

mod file;

use super::quarantine::Gate;
use super::{Alarms, Opened, Services, StoreError};
use crate::base::Clock;
use crate::log::AlarmKind;
use crate::store::{Snapshot, Store};
use crate::vault::Keyring;
use chrono::{DateTime, Utc};
use file::{Document, Found, Mark, Word, read, write};
use serde_json::json;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::Mutex;

const OLDER: &str = "database_older";
const UNREADABLE: &str = "checkpoint_unreadable";

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
    /// Where the database stood before this process wrote anything, until they are compared.
    at_start: Option<Mark>,
    /// What the file is known to say, and the term of its MAC; `None` before it was compared, or when there is no file.
    written: Option<(Mark, u32)>,
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
        if let Err(foreign) = refuse_foreign(&path, &installation).await {
            return Ok(Err(foreign));
        }
        let at_start = Some(Mark::read(&mut store.snapshot().await?).await?);
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
            Some(mark) => mark,
            None => self.read_mark().await?,
        };
        turn.is_compared = true;
        let path = self.0.path.display();
        let (theirs, term, word) = match told_by(&self.0.path, &self.0.installation, keyring).await {
            Told::Nothing => {
                tracing::warn!(file = %path, "there is no checkpoint yet; an older database would not be noticed");
                return Ok(Kept::Fine);
            }
            Told::Unreadable(why) => return Ok(Kept::Unreadable(why)),
            Told::Mark(theirs, term, word) => (theirs, term, word),
        };
        turn.written = Some((theirs, term));
        if ours.is_older(&theirs) {
            return Ok(Kept::Older(ours.told(&theirs)));
        }
        if word == Word::OfALostTerm {
            tracing::warn!(file = %path, term, "the checkpoint is signed by a term that is gone; its figures are not ahead, and it is written anew");
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
        let ours = match self.read_mark().await {
            Ok(ours) => ours,
            Err(error) => {
                tracing::warn!(%error, "the checkpoint was not written: the database did not answer");
                return Kept::Fine;
            }
        };
        let next = match turn.written {
            Some((theirs, _)) if occasion == Occasion::Change && is_quarantined => ours.highest(&theirs),
            Some((theirs, _)) if occasion != Occasion::Release && ours.is_older(&theirs) => {
                return Kept::Older(ours.told(&theirs));
            }
            Some(_) | None => ours,
        };
        let term = keyring.current_term();
        if turn.written != Some((next, term)) || inner.is_unwritable.load(Ordering::Relaxed) {
            let document = Document::new(&inner.installation, &next, inner.clock.now(), keyring);
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

    async fn read_mark(&self) -> Result<Mark, StoreError> {
        Mark::read(&mut self.0.store.snapshot().await?).await
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
            && let Err(error) = self.enter_quarantine(OLDER, &detail).await
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
            Kept::Older(detail) => self.open_quarantined(keyring, OLDER, &detail).await,
            Kept::Unreadable(detail) => self.open_quarantined(keyring, UNREADABLE, &detail).await,
            Kept::Fine => {
                self.checkpoint.keep(keyring, Occasion::Tick).await;
                Ok(())
            }
        }
    }
}

/// What the file at a path says to this keyring.
enum Told {
    Nothing,
    Unreadable(String),
    /// How far the database had come, the term of the signature, and whose it is.
    Mark(Mark, u32, Word),
}

async fn told_by(path: &Path, installation: &str, keyring: &Keyring) -> Told {
    let shown = path.display();
    let document = match read(path.to_owned()).await {
        Found::Nothing => return Told::Nothing,
        Found::Damaged(error) => return Told::Unreadable(format!("{shown}: {error}")),
        Found::Document(document) => document,
    };
    let Some(mark) = document.mark().filter(|_| document.installation == installation) else {
        return Told::Unreadable(format!("{shown} is another installation's or another program's"));
    };
    match document.word(keyring) {
        Word::Nobodys => Told::Unreadable(format!("{shown} is not signed by this installation's keyring")),
        word @ (Word::Ours | Word::OfALostTerm) => Told::Mark(mark, document.term, word),
    }
}

/// The checkpoint, for a command beside the data that changes what grants power.
pub(super) struct Beside {
    path: PathBuf,
    told: Told,
}

impl Beside {
    /// Reads the file. To be done before the database is read: the file is never ahead of it.
    pub(super) async fn read(
        path: PathBuf,
        installation: &str,
        keyring: &Keyring,
    ) -> Result<Self, ForeignCheckpoint> {
        refuse_foreign(&path, installation).await?;
        let told = told_by(&path, installation, keyring).await;
        Ok(Self { path, told })
    }

    /// Why a database at this moment is not the one that was written last; reason and detail.
    pub(super) async fn doubt(
        &self,
        moment: &mut Snapshot,
    ) -> Result<Option<(&'static str, String)>, StoreError> {
        let ours = Mark::read(moment).await?;
        Ok(match &self.told {
            Told::Unreadable(why) => Some((UNREADABLE, why.clone())),
            Told::Mark(theirs, ..) if ours.is_older(theirs) => Some((OLDER, ours.told(theirs))),
            Told::Nothing | Told::Mark(..) => None,
        })
    }

    /// Has the file tell of what was committed. What is quarantined keeps what the file knew, and one that says nothing
    /// stays for an operator to look at.
    pub(super) async fn keep(
        &self,
        store: &Store,
        (installation, keyring): (&str, &Keyring),
        is_quarantined: bool,
        now: DateTime<Utc>,
    ) -> Result<(), KeepError> {
        let ours = Mark::read(&mut store.snapshot().await?).await?;
        let next = match &self.told {
            Told::Unreadable(_) => return Ok(()),
            Told::Mark(theirs, ..) if is_quarantined => ours.highest(theirs),
            Told::Nothing | Told::Mark(..) => ours,
        };
        let document = Document::new(installation, &next, now, keyring);
        Ok(write(self.path.clone(), document).await?)
    }
}

/// Why a database could not be held against the checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum DoubtError {
    /// It is the checkpoint of another database.
    #[error(transparent)]
    Foreign(#[from] ForeignCheckpoint),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a server would not take this database for the one that was written last, by the checkpoint at a path; `None` when
/// it would. Nothing is changed.
pub async fn doubt_of_database(
    store: &Store,
    checkpoint: PathBuf,
    opened: &Opened,
) -> Result<Option<String>, DoubtError> {
    let checkpoint = Beside::read(checkpoint, &opened.installation, &opened.keyring).await?;
    let doubt = checkpoint.doubt(&mut store.snapshot().await?).await?;
    Ok(doubt.map(|(_, detail)| detail))
}

/// Why the checkpoint does not tell of a change.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The file cannot be written.
    #[error(transparent)]
    Write(#[from] io::Error),
    /// The database did not say how far it is.
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn refuse_foreign(path: &Path, installation: &str) -> Result<(), ForeignCheckpoint> {
    match read(path.to_owned()).await {
        Found::Document(found) if found.installation != installation => Err(ForeignCheckpoint {
            path: path.to_owned(),
            theirs: found.installation,
            ours: installation.to_owned(),
        }),
        Found::Document(_) | Found::Damaged(_) | Found::Nothing => Ok(()),
    }
}
