//! The verbs: what can be done with the nouns, over the store. No HTTP.

mod access_log;
mod admin_log;
mod admission;
mod alarm;
mod authenticate;
pub mod backup;
mod budget;
mod checkpoint;
mod credential;
mod deferred;
mod directory;
mod erase;
mod health;
mod idempotency;
mod import;
mod install;
mod kek;
mod key_probe;
mod last_used;
mod ledger;
mod metrics;
mod model;
mod notice;
mod object;
mod operator;
mod project;
mod provider;
mod quarantine;
mod rates;
mod registry;
mod release;
mod subkey;
mod usage;
mod vault;

use crate::base::{CidrSet, Clock, Entropy};
use crate::provider::Slug;
use crate::store::Store;
use chrono::TimeDelta;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;

pub use crate::provider::ObjectOrder;
pub use crate::store::StoreError;
pub use crate::store::deferred::DeferredCharge;
pub use crate::store::object::{NewObject, ObjectKey, ObjectRecord};
pub use access_log::ReadLogError;
pub use admission::{Case, KeeperError, Kept, Misplaced, Priced, Stopped, Unpayable, read_set_betas};
pub use alarm::{Alarms, CloseAlarmError};
pub use authenticate::{AuthenticateError, Caller};
pub use budget::{BudgetState, ProjectBudgets};
pub use checkpoint::{DoubtError, ForeignCheckpoint, KeepError, doubt_of_database};
pub use credential::{CredentialError, CredentialFault, NewCredential, Rotation};
pub use deferred::{Deferral, WaitingCharge};
pub use directory::{Credential, DrainingVersion, KeyVersion, ProviderEntry, Snapshot, binding};
pub use idempotency::AlreadyDone;
pub use import::{AddedModel, ChangedModel, ImportModelsError, ImportOrder, ImportReport};
pub use install::{
    InstallError, Installed, RecoverError, Recovered, install, is_installed, log_key, recover,
};
pub use kek::{KekSource, KekSourceError};
pub use key_probe::{KeyProbe, ProbeError, Trial};
pub use ledger::{
    AuditError, Blocked, CorrectError, Corrected, Correction, Demand, Durability, Hold, Ledger, LedgerLimits,
    LedgerParts, ObjectChanges, RepairError, Repaired, Reservation, ReserveError, RowSeal, Settled,
    StartLedgerError, ToldUse, Unrecorded,
};
pub use metrics::Metrics;
pub use model::{ModelState, SetModelError};
pub use notice::{DueNotice, NoticeSettings, Undelivered};
pub use object::{ListPlace, ListedObjects, ObjectError, ObjectList, ObjectName};
pub use operator::{Actor, CreateOperatorError, Operator, OperatorError, OutOfReach, Permission, Role};
pub use project::{
    ChangeProjectError, CreateProjectError, DeleteProjectError, ExceedsCeiling, Forest, Lineage,
    ProjectStanding, Standing,
};
pub use provider::{ChangeProviderError, CreateProviderError, DeleteProviderError};
pub use rates::{InFlight, Metered, OverLimit, RateOwner, RateRefusal, RateStanding, Rates};
pub use registry::{ActiveKey, Registry, RegistryLimits};
pub use release::{PostedSpend, ReleaseError, ReleaseOrder, Released, Spend};
pub use subkey::{
    Asked, ChangeSubkeyError, Explanation, ListSubkeysError, MintError, Minted, Question, RotateRefusal,
    Rotated, StateRefusal, Step, SubKeyQuery, SubKeyState, SubKeyStatus,
};
pub use usage::{ChargeRelease, ReleaseChargeError};
pub use vault::{
    Added, ChangeKekError, Confirmed, GuardError, KekLease, OpenVaultError, Opened, Presented, RewrapState,
    RotateVaultError, RowWatch, SealError, SealReason, Sealed, Tampered, TermState, TermsState, UnsealError,
    Vault, VaultStatus, WrapLimits, add_kek, confirm_kek, open_keyring,
};

/// Everything a verb needs. Clones share it.
#[derive(Clone)]
pub struct Services(Arc<Inner>);

/// What [`Services`] shares; verbs reach it through `Deref`.
pub struct Inner {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// The keyring, while it is open.
    pub vault: Arc<Vault>,
    /// Names this installation; ciphertexts are bound to it.
    pub installation: String,
    /// Names this server in entries.
    pub node: String,
    /// Reserve, settle, void.
    pub ledger: Ledger,
    /// Sub-keys in memory.
    pub registry: Registry,
    /// Projects in memory.
    pub projects: Forest,
    /// What the server counts.
    pub metrics: Metrics,
    /// Where alarms are raised.
    pub alarms: Alarms,
    /// Networks that upstreams may be in although they are private.
    pub private_upstreams: CidrSet,
    /// Whom bare model names prefer, after what a key and its projects say.
    pub provider_order: Vec<Slug>,
    kek: Arc<dyn KekSource>,
    book: Arc<Mutex<vault::Book>>,
    doubts: vault::Doubts,
    quarantined: Arc<quarantine::Gate>,
    checkpoint: checkpoint::Checkpoint,
    opening: Mutex<()>,
    key_probe: Arc<dyn KeyProbe>,
    credential_drain: TimeDelta,
    sealing: vault::Sealing,
    terms: vault::Terms,
    directory: directory::Directory,
    erasure: erase::Erasure,
    last_used: last_used::LastUsed,
    loading: authenticate::SingleFlight,
}

impl Deref for Services {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

/// What [`Services::start`] is told.
pub struct Settings {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// Names this server in entries.
    pub node: String,
    /// Networks that upstreams may be in although they are private.
    pub private_upstreams: CidrSet,
    /// Whom bare model names prefer, after what a key and its projects say.
    pub provider_order: Vec<Slug>,
    /// Tries keys before they are used.
    pub key_probe: Arc<dyn KeyProbe>,
    /// How long the key before may be used after a rotation that says nothing else.
    pub credential_drain: TimeDelta,
    /// What the server counts.
    pub metrics: Metrics,
    /// When admissions have to be durable.
    pub durability: Durability,
    /// What leaves the house by the webhook.
    pub notices: NoticeSettings,
    /// Bounds of the ledger.
    pub ledger: LedgerLimits,
    /// Bounds of the registry.
    pub registry: RegistryLimits,
    /// Where the checkpoint is kept, outside of the database.
    pub checkpoint: PathBuf,
}

/// Why the services did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database was never set up.
    #[error("this database has no installation; run `bitting init` first")]
    NotInstalled,
    /// The data directory belongs to another database.
    #[error(transparent)]
    ForeignCheckpoint(#[from] ForeignCheckpoint),
    /// Another server runs on the database, or it cannot be written.
    #[error(transparent)]
    Ledger(#[from] StartLedgerError),
    /// The built-in catalog does not make sense.
    #[error(transparent)]
    Catalog(#[from] crate::provider::CatalogError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// Starts the ledger's tasks and the one that writes alarms on `tasks`, settles what a crash left, and opens the vault.
    /// Where that fails, the services start sealed.
    pub async fn start(
        store: Store,
        kek: Arc<dyn KekSource>,
        settings: Settings,
        tasks: &TaskTracker,
    ) -> Result<Self, StartError> {
        let installation = install::installation(&store).await?.ok_or(StartError::NotInstalled)?;
        let vault = Arc::new(Vault::closed(SealReason::KekUnavailable));
        let outbox = notice::Outbox::new(settings.notices, settings.clock.clone(), settings.entropy.clone());
        outbox.begin(&store).await?;
        let (alarms, alarm_queue) = Alarms::new(settings.metrics.clone(), settings.clock.clone(), outbox);
        tasks.spawn(alarm_queue.run(store.clone(), settings.entropy.clone()));
        let quarantined: Arc<quarantine::Gate> = Arc::default();
        // Before anything is written: the figures of a database that is older must not grow first.
        let checkpoint = checkpoint::Checkpoint::begin(
            (settings.checkpoint, installation.clone()),
            (store.clone(), settings.clock.clone(), alarms.clone()),
            Arc::clone(&quarantined),
        )
        .await??;
        let parts = LedgerParts {
            store: store.clone(),
            clock: settings.clock.clone(),
            alarms: alarms.clone(),
            seal: Arc::<Vault>::clone(&vault),
            node: settings.node.clone(),
            durability: settings.durability,
            limits: settings.ledger,
        };
        let ledger = Ledger::start(parts, tasks).await?;
        let services = Self(Arc::new(Inner {
            store,
            clock: settings.clock.clone(),
            entropy: settings.entropy,
            vault,
            installation,
            node: settings.node,
            ledger,
            registry: Registry::new(settings.registry),
            projects: Forest::default(),
            doubts: vault::Doubts::new(alarms.clone(), settings.clock),
            alarms,
            metrics: settings.metrics,
            private_upstreams: settings.private_upstreams,
            provider_order: settings.provider_order,
            kek,
            book: Arc::default(),
            quarantined,
            checkpoint,
            opening: Mutex::default(),
            key_probe: settings.key_probe,
            credential_drain: settings.credential_drain,
            sealing: vault::Sealing::default(),
            terms: vault::Terms::default(),
            directory: directory::Directory::new()?,
            erasure: erase::Erasure::default(),
            last_used: last_used::LastUsed::default(),
            loading: authenticate::SingleFlight::default(),
        }));
        if let Err(error) = services.open_vault().await {
            tracing::error!(%error, reason = error.reason().as_str(), "the vault is sealed; nothing is served until it is open");
        }
        Ok(services)
    }

    /// The providers, credentials and prices in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.directory.snapshot()
    }
}
