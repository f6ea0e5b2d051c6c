//! The lease of a key that a key service holds: whoever takes it back there seals the vault here.
//!
//! While the vault is open the service is asked for the key again and again. No answer changes nothing: what is served
//! does not hang on the service being there. A refusal is alarmed at once, and seals the vault when it has lasted for
//! the lease: long enough to renew a token that was forgotten. The seal is not written down. The service is asked on,
//! as at a start that it refuses, and the vault opens by itself when the key is given again.

use super::SealReason;
use super::open::{OpenVaultError, open_root};
use crate::log::AlarmKind;
use crate::service::{KekSourceError, Services, StoreError};
use crate::store;
use serde_json::json;
use std::time::{Duration, Instant};

/// Questions in the time of one lease.
const QUESTIONS: u32 = 10;

/// The lease, between its turns.
pub struct KekLease {
    services: Services,
    lasts: Duration,
    refused_since: Option<Instant>,
}

/// What a question came to.
enum Answer {
    /// The key was given.
    Given,
    /// It is the same key, and was not given.
    Refused(String),
    /// The vault was not opened by this source, or the source is no longer one that it opens by.
    NotLeased,
    /// Nothing is known.
    None(String),
}

impl KekLease {
    /// A lease of this length; `None` where nobody else holds the key.
    pub fn new(services: Services, lasts: Duration) -> Option<Self> {
        services.kek.is_a_service().then_some(Self { services, lasts, refused_since: None })
    }

    /// From one turn to the next.
    pub fn pause(&self) -> Duration {
        self.lasts / QUESTIONS
    }

    /// One turn. While the vault is sealed nothing is leased.
    pub async fn turn(&mut self) -> Result<(), StoreError> {
        let services = self.services.clone();
        if services.vault.sealed().is_some() {
            self.refused_since = None;
            return Ok(());
        }
        let source = services.kek.describe();
        match services.ask_for_the_key().await? {
            Answer::Given | Answer::NotLeased => self.refused_since = None,
            Answer::None(error) => tracing::warn!(%error, "whether the key is still given is not known"),
            Answer::Refused(error) => {
                let now = Instant::now();
                let since = *self.refused_since.get_or_insert(now);
                let left = self.lasts.saturating_sub(now.duration_since(since));
                if since == now {
                    let detail = json!({"error": error, "seals_in_seconds": left.as_secs()});
                    services.alarms.raise(AlarmKind::KekRefused, &source, &detail);
                } else if left.is_zero() {
                    self.refused_since = None;
                    let _turn = services.opening.lock().await;
                    let detail =
                        json!({"error": error, "detail": "the vault is sealed until the key is given again"});
                    services.alarms.raise(AlarmKind::KekRefused, &source, &detail);
                    services.vault.close(SealReason::KekRefused);
                }
            }
        }
        Ok(())
    }
}

impl Services {
    /// Asks the source for the key that the vault was opened by. What it gives is not kept.
    async fn ask_for_the_key(&self) -> Result<Answer, StoreError> {
        let mut read = self.store.read().await?;
        let wraps = store::keyring::wraps(&mut read.conn()).await?;
        drop(read);
        let Some(opened_by) = self.sealing.opened_by() else { return Ok(Answer::NotLeased) };
        let leased = wraps.iter().find(|wrap| wrap.id == opened_by);
        if leased.is_some_and(|wrap| !self.kek.fits(&wrap.source)) {
            return Ok(Answer::NotLeased);
        }
        let asked = leased.map_or(wraps.as_slice(), std::slice::from_ref);
        Ok(match open_root(self.kek.as_ref(), &self.installation, asked).await {
            Ok((_root, wrap)) => {
                self.sealing.opens_by(wrap.id);
                Answer::Given
            }
            Err(OpenVaultError::Source(error @ KekSourceError::Unavailable { .. })) => {
                Answer::None(error.to_string())
            }
            // The key was changed beside the server, which is to be started anew with the new source.
            Err(error) if leased.is_none() => {
                tracing::warn!(%error, "the keyring is wrapped by another source; start the server with that one");
                Answer::NotLeased
            }
            Err(error) => Answer::Refused(error.to_string()),
        })
    }
}
