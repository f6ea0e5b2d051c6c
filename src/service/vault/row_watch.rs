//! The watch over a running server: what SQL does to rows that are in memory already is noticed within seconds.
//!
//! Each turn re-reads providers, credentials, models, operators and projects, the sub-keys in memory that were used
//! since the turn before, and, as seldom as its cost asks for, all MACs with the register. What is not as it was
//! written is unusable from then on, and usable again once it is as it was.

use super::look::{AllButSubKeys, SubKeyPage, SubKeys};
use super::{Book, Standing, Tampered};
use crate::log::AlarmKind;
use crate::service::{Services, StoreError};
use crate::subkey::SubKeyId;
use crate::vault::{Keyring, PowerTable};
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::time::{Duration, Instant};

/// Sub-keys looked at in one turn.
const SUBKEYS_PER_TURN: usize = 500;
/// A look at everything waits so many times as long as the last one took.
const REST: u32 = 100;

/// The watch, between its turns.
pub struct RowWatch {
    services: Services,
    turn: u64,
    directory: Pace,
    register: Pace,
    is_mismatched: bool,
}

/// When something costly may be done again.
#[derive(Default)]
struct Pace {
    not_before: Option<Instant>,
}

impl Pace {
    fn is_due(&self) -> bool {
        self.not_before.is_none_or(|at| Instant::now() >= at)
    }

    fn took(&mut self, began: Instant) {
        let took: Duration = began.elapsed();
        self.not_before = Some(Instant::now() + took * REST);
    }
}

impl RowWatch {
    /// Begins one.
    pub fn new(services: Services) -> Self {
        let (directory, register) = (Pace::default(), Pace::default());
        Self { services, turn: 0, directory, register, is_mismatched: false }
    }

    /// One turn. While the vault is sealed there is nothing to watch: all is read anew when it opens.
    pub async fn turn(&mut self) -> Result<(), StoreError> {
        let Ok(keyring) = self.services.vault.keyring() else { return Ok(()) };
        self.turn += 1;
        let mut looked = vec![self.services.look_at_used_subkeys(&keyring, self.turn).await];
        if self.directory.is_due() {
            let began = Instant::now();
            looked.push(self.services.look(&keyring, &AllButSubKeys).await.map(drop));
            looked.push(self.services.reload_projects_with(&keyring).await);
            looked.push(self.services.reload_directory_with(&keyring).await);
            self.directory.took(began);
        }
        if self.register.is_due() {
            let began = Instant::now();
            looked.push(self.look_at_the_register(&keyring).await);
            self.register.took(began);
        }
        // What cannot be read hides nothing else.
        looked.into_iter().try_for_each(|looked| self.services.unless_unreadable(looked))
    }

    async fn look_at_the_register(&mut self, keyring: &Arc<Keyring>) -> Result<(), StoreError> {
        let services = self.services.clone();
        let mismatch = services.register_mismatch(keyring).await?;
        let is_news = mismatch.is_some() && !self.is_mismatched;
        self.is_mismatched = mismatch.is_some();
        if let Some(detail) = mismatch.filter(|_| is_news) {
            let installation = &services.installation;
            services.alarms.raise(AlarmKind::RegisterMismatch, installation, &json!({"detail": detail}));
            if services.quarantine().is_none() {
                // In force now; over a restart only if the register can be written. If not, it is found again then.
                if let Err(error) = services.enter_quarantine("register_mismatch", detail).await {
                    tracing::error!(%error, "the quarantine could not be written down");
                }
            }
        }
        Ok(())
    }
}

impl Services {
    async fn look_at_used_subkeys(&self, keyring: &Keyring, turn: u64) -> Result<(), StoreError> {
        let ids = self.registry.to_look_at(turn, SUBKEYS_PER_TURN);
        if ids.is_empty() {
            return Ok(());
        }
        match self.look_at_subkeys(keyring, &ids).await {
            // One row that cannot be read hides no other.
            Err(StoreError::Corrupt { .. }) => {
                for id in &ids {
                    match self.look_at_subkeys(keyring, std::slice::from_ref(id)).await {
                        Err(StoreError::Corrupt { .. }) => self.condemn(id),
                        looked => looked?,
                    }
                }
                Ok(())
            }
            looked => looked,
        }
    }

    async fn look_at_subkeys(&self, keyring: &Keyring, ids: &[SubKeyId]) -> Result<(), StoreError> {
        let (found, wrong) = self.look(keyring, &SubKeys(ids)).await?;
        let wrong: HashSet<&str> = wrong.iter().map(|row| row.id.as_str()).collect();
        let there: HashSet<&str> = found.iter().map(|subkey| subkey.id.as_str()).collect();
        for id in ids.iter().filter(|id| wrong.contains(id.as_str()) || !there.contains(id.as_str())) {
            self.condemn(id);
        }
        for subkey in found {
            if !wrong.contains(subkey.id.as_str()) && self.registry.is_condemned(&subkey.id) {
                tracing::info!(
                    subkey = subkey.id.as_str(),
                    "the row of this sub-key is as it was written again"
                );
                self.registry.reinstate(subkey);
            }
        }
        Ok(())
    }

    fn condemn(&self, id: &SubKeyId) {
        self.registry.condemn(id);
        let table = PowerTable::Subkeys.as_str();
        self.doubts.tell(&[Tampered { table, id: id.as_str().to_owned() }]);
    }

    /// Why the MACs and the register in the database are not the book's; `None` when they are.
    async fn register_mismatch(&self, keyring: &Keyring) -> Result<Option<&'static str>, StoreError> {
        let (found, standing) = Book::read(&mut self.store.snapshot().await?, keyring).await?;
        if standing == Standing::Sound && self.book.lock().await.is_as(&found) {
            return Ok(None);
        }
        // A change may have been committed between; while the book is locked none is under way.
        let mut book = self.book.lock().await;
        let newer = self.vault.keyring().ok();
        let keyring = newer.as_deref().unwrap_or(keyring);
        let _ = self.catch_up(keyring, &mut book).await?;
        let (found, standing) = Book::read(&mut self.store.snapshot().await?, keyring).await?;
        Ok(match standing {
            Standing::Sound if book.is_as(&found) => None,
            Standing::Sound => Some("the signed rows in the database are those of an earlier time"),
            Standing::RegisterUnsigned => Some("the register of signed rows is missing or was changed"),
            Standing::DoesNotAddUp => Some("rows that grant power were taken away, put in or put back"),
        })
    }

    /// A row that cannot be read was not written by Bitting: alarmed, and no reason to stop.
    fn unless_unreadable(&self, looked: Result<(), StoreError>) -> Result<(), StoreError> {
        match looked {
            Err(StoreError::Corrupt { table, column }) => {
                self.doubts.tell(&[Tampered { table, id: format!("unreadable {column}") }]);
                Ok(())
            }
            looked => looked,
        }
    }

    /// Every row of every table against the book. What is wrong is alarmed here and refused where it is used.
    pub(super) async fn check_every_row(&self, keyring: &Keyring) -> Result<(), StoreError> {
        let began = Instant::now();
        let looked = self.look(keyring, &AllButSubKeys).await.map(|((), wrong)| wrong.len());
        let mut wrong = 0;
        self.unless_unreadable(looked.map(|found| wrong = found))?;
        let (mut seen, mut after) = (HashSet::new(), None);
        loop {
            let looked = self.look(keyring, &SubKeyPage(after)).await;
            let ((ids, next), tampered) = match looked {
                Ok(found) => found,
                // The rest is looked at when it is used.
                Err(error) => return self.unless_unreadable(Err(error)),
            };
            wrong += tampered.len();
            seen.extend(ids);
            after = next;
            if after.is_none() {
                break;
            }
        }
        let missing = self.book.lock().await.missing(PowerTable::Subkeys, |id| seen.contains(id));
        self.doubts.tell(&missing);
        wrong += missing.len();
        let milliseconds = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::info!(subkeys = seen.len(), wrong, milliseconds, "the rows that grant power were checked");
        Ok(())
    }
}
