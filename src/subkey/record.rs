//! A sub-key as it is kept: its definition, its state, and its one or two live secrets.

use super::{Definition, SubKeyId};
use chrono::{DateTime, Utc};

/// A sub-key as it is kept. It holds no secret, only MACs of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubKey {
    /// Its id.
    pub id: SubKeyId,
    /// Counts the changes; 1 at mint.
    pub version: i64,
    /// What it may do.
    pub definition: Definition,
    /// Whether an operator has stopped it.
    pub state: State,
    /// Live secrets, oldest first.
    pub secrets: Vec<SecretRecord>,
    /// When it was minted.
    pub created_at: DateTime<Utc>,
    /// The operator that minted it.
    pub created_by: String,
    /// The last request admitted or refused with its secret.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// What operators have made of a sub-key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Usable.
    Active,
    /// Stopped, can be resumed.
    Suspended,
    /// Stopped for ever.
    Revoked,
}

impl State {
    /// The word for it in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Revoked].into_iter().find(|state| state.as_str() == text)
    }
}

/// One secret of a sub-key: its MAC, never its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRecord {
    /// Names the secret in logs.
    pub id: String,
    /// `HMAC-SHA256(pepper, "subkey/v1" || id || secret)`.
    pub mac: Vec<u8>,
    /// The keyring term of the pepper.
    pub mac_term: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it dies, once it has been rotated out.
    pub expires_at: Option<DateTime<Utc>>,
    /// The last request that presented it.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl SubKey {
    /// The secrets that are live at `now`.
    pub fn live_secrets(&self, now: DateTime<Utc>) -> impl Iterator<Item = &SecretRecord> {
        self.secrets.iter().filter(move |secret| secret.expires_at.is_none_or(|end| now < end))
    }

    /// The status that people see, before spend is looked at: revoked, suspended, expired or active.
    pub fn status(&self, now: DateTime<Utc>) -> &'static str {
        match self.state {
            State::Active if self.definition.expires_at.is_some_and(|end| now >= end) => "expired",
            state => state.as_str(),
        }
    }
}
