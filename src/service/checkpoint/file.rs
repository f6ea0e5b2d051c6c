//! The checkpoint's file: its form, its signature, and how it is replaced.
//!
//! Form 2 holds the hash of the signed register besides the figures; form 1, which lacks it, is still read.

use crate::store::meta::{Figures, figures};
use crate::store::{Snapshot, StoreError, register};
use crate::vault::Keyring;
use chrono::{DateTime, Utc};
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 2;
const FIRST_FORMAT: u32 = 1;
const LABEL: &[u8] = b"bitting/checkpoint/v1";
const BYTES_MAX: u64 = 16 * 1024;

/// How far a database has come, and by which change it came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Mark {
    pub(super) figures: Figures,
    /// The SHA-256 of what is signed of the register; `None` where a file of the first form does not tell, or where the
    /// database has none that can be read.
    pub(super) register: Option<[u8; 32]>,
}

impl Mark {
    /// Where a database stands, at one moment.
    pub(super) async fn read(moment: &mut Snapshot) -> Result<Self, StoreError> {
        let figures = figures(&mut moment.conn()).await?;
        let register = match register::get(&mut moment.conn()).await {
            Ok(signed) => signed.map(|signed| sha256(&signed.register.canonical())),
            Err(StoreError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { figures, register })
    }

    /// Whether a database that stands at `self` lacks what one at `other` had: it is lower in any figure, or as far by
    /// other changes.
    pub(super) fn is_older(&self, other: &Self) -> bool {
        self.is_lower(other) || self.is_another_way(other)
    }

    fn is_lower(&self, other: &Self) -> bool {
        self.pairs(other).iter().any(|(ours, theirs)| ours < theirs)
    }

    fn is_another_way(&self, other: &Self) -> bool {
        let is_as_far = self.figures.register_seq == other.figures.register_seq;
        is_as_far && other.register.is_some() && self.register != other.register
    }

    /// Whoever is older than one of the two is older than this.
    pub(super) fn highest(&self, other: &Self) -> Self {
        let [epoch, register_seq, access_log_seq, admin_log_seq] =
            self.pairs(other).map(|(one, other)| one.max(other));
        let figures = Figures { epoch, register_seq, access_log_seq, admin_log_seq };
        let is_behind = self.figures.register_seq < other.figures.register_seq;
        Self { figures, register: if is_behind { other.register } else { self.register } }
    }

    /// What makes it older, for people.
    pub(super) fn told(&self, other: &Self) -> String {
        let [epoch, register, access, admin] = self.pairs(other);
        if !self.is_lower(other) {
            return format!(
                "the database is not the checkpoint's: its change {} is another one than the checkpoint tells of",
                register.0
            );
        }
        format!(
            "the database is older than the checkpoint: epoch {} of {}, change {} of {}, access log {} of {}, admin log {} of {}",
            epoch.0, epoch.1, register.0, register.1, access.0, access.1, admin.0, admin.1
        )
    }

    fn pairs(&self, other: &Self) -> [(i64, i64); 4] {
        let (ours, theirs) = (&self.figures, &other.figures);
        [
            (ours.epoch, theirs.epoch),
            (ours.register_seq, theirs.register_seq),
            (ours.access_log_seq, theirs.access_log_seq),
            (ours.admin_log_seq, theirs.admin_log_seq),
        ]
    }
}

/// Whose word the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// This keyring's.
    Ours,
    /// That of a term that the keyring had once: nobody can tell any more.
    OfALostTerm,
    /// Nobody's.
    Nobodys,
}

/// What is in the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    format: u32,
    pub(super) installation: String,
    epoch: i64,
    register_seq: i64,
    access_log_seq: i64,
    admin_log_seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    register_sha256: Option<String>,
    written_at: DateTime<Utc>,
    pub(super) term: u32,
    mac: String,
}

impl Document {
    /// What is written now, signed.
    pub(super) fn new(installation: &str, mark: &Mark, now: DateTime<Utc>, keyring: &Keyring) -> Self {
        let Figures { epoch, register_seq, access_log_seq, admin_log_seq } = mark.figures;
        let register_sha256 = mark.register.map(|hash| HEXLOWER.encode(&hash));
        let document = Self {
            // Without a register to tell of, all that is known is what the first form holds.
            format: if register_sha256.is_some() { FORMAT } else { FIRST_FORMAT },
            installation: installation.to_owned(),
            epoch,
            register_seq,
            access_log_seq,
            admin_log_seq,
            register_sha256,
            written_at: now,
            term: 0,
            mac: String::new(),
        };
        document.signed(keyring)
    }

    /// What it tells; `None` when it is of no known form.
    pub(super) fn mark(&self) -> Option<Mark> {
        let register = match (self.format, &self.register_sha256) {
            (FIRST_FORMAT, None) => None,
            (FORMAT, Some(text)) => Some(HEXLOWER.decode(text.as_bytes()).ok()?.as_slice().try_into().ok()?),
            _ => return None,
        };
        let figures = Figures {
            epoch: self.epoch,
            register_seq: self.register_seq,
            access_log_seq: self.access_log_seq,
            admin_log_seq: self.admin_log_seq,
        };
        Some(Mark { figures, register })
    }

    /// Whose word it is.
    pub(super) fn word(&self, keyring: &Keyring) -> Word {
        let mac = HEXLOWER.decode(self.mac.as_bytes()).unwrap_or_default();
        if keyring.row_is_signed(&self.canonical(), &mac, self.term) {
            Word::Ours
        } else if keyring.row_mac(&[], self.term).is_none() {
            Word::OfALostTerm
        } else {
            Word::Nobodys
        }
    }

    fn canonical(&self) -> Vec<u8> {
        let numbers = [self.epoch, self.register_seq, self.access_log_seq, self.admin_log_seq];
        let mut bytes = LABEL.to_vec();
        bytes.extend(self.format.to_be_bytes());
        bytes.extend(numbers.into_iter().flat_map(i64::to_be_bytes));
        // Of one length in each form, so no two documents read alike.
        bytes.extend(self.register_sha256.as_deref().unwrap_or_default().as_bytes());
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
pub(super) enum Found {
    Nothing,
    Damaged(String),
    Document(Document),
}

pub(super) async fn read(path: PathBuf) -> Found {
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

pub(super) async fn write(path: PathBuf, document: Document) -> io::Result<()> {
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

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Entropy;

    fn mark(numbers: [i64; 4], register: Option<u8>) -> Mark {
        let [epoch, register_seq, access_log_seq, admin_log_seq] = numbers;
        let figures = Figures { epoch, register_seq, access_log_seq, admin_log_seq };
        Mark { figures, register: register.map(|byte| [byte; 32]) }
    }

    #[test]
    fn older_is_lower_in_any_figure() {
        let ours = mark([2, 10, 20, 30], Some(1));
        assert!(!ours.is_older(&ours));
        assert!(!ours.is_older(&mark([1, 9, 19, 29], Some(2))));
        for numbers in [[3, 1, 1, 1], [1, 11, 1, 1], [1, 1, 21, 1], [1, 1, 1, 31]] {
            let theirs = mark(numbers, Some(2));
            assert!(ours.is_older(&theirs), "{theirs:?}");
            assert!(!ours.highest(&theirs).is_older(&ours));
            assert!(!ours.highest(&theirs).is_older(&theirs));
        }
    }

    #[test]
    fn as_far_by_another_change_is_older_too() {
        let ours = mark([2, 10, 20, 30], Some(1));
        assert!(ours.is_older(&mark([2, 10, 20, 30], Some(2))));
        assert!(ours.is_older(&mark([1, 10, 1, 1], Some(2))));
        assert!(ours.told(&mark([2, 10, 20, 30], Some(2))).contains("another one"));
        assert!(!ours.is_older(&mark([2, 10, 20, 30], None)), "the first form does not tell");
        assert!(mark([2, 10, 20, 30], None).is_older(&ours), "a register that cannot be read is none");
    }

    #[test]
    fn every_part_of_the_file_is_signed_in_both_forms() {
        let keyring = Keyring::generate(&Entropy::new());
        let now = DateTime::UNIX_EPOCH;
        for register in [None, Some(7)] {
            let whole = mark([1, 2, 3, 4], register);
            let document = Document::new("inst_1", &whole, now, &keyring);
            assert_eq!((document.mark(), document.word(&keyring)), (Some(whole), Word::Ours));
            let changes: [fn(&mut Document); 8] = [
                |one| one.format += 1,
                |one| one.installation.push('x'),
                |one| one.epoch += 1,
                |one| one.register_seq += 1,
                |one| one.access_log_seq += 1,
                |one| one.admin_log_seq += 1,
                |one| one.register_sha256 = Some(HEXLOWER.encode(&[8; 32])),
                |one| one.written_at += chrono::TimeDelta::seconds(1),
            ];
            for change in changes {
                let mut other = document.clone();
                change(&mut other);
                assert_eq!(other.word(&keyring), Word::Nobodys, "{other:?}");
            }
            let mut bare = document.clone();
            bare.register_sha256 = None;
            assert_eq!(bare.mark().is_some(), register.is_none(), "no form is taken for the other");
            let another = Keyring::generate(&Entropy::new());
            assert_eq!(document.word(&another), Word::Nobodys);
        }
    }

    #[test]
    fn a_file_of_the_first_form_is_read() {
        let text = r#"{"format":1,"installation":"inst_1","epoch":1,"register_seq":2,"access_log_seq":3,
            "admin_log_seq":4,"written_at":"2026-11-22T16:00:00Z","term":1,"mac":"00"}"#;
        let document: Document = serde_json::from_str(text).unwrap();
        assert_eq!(document.mark(), Some(mark([1, 2, 3, 4], None)));
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
