//! Sub-keys for operators: minting and looking. Changing is in `change`, telling why in `explain`.

mod change;
mod explain;

use super::budget::{self, BudgetState};
use super::project::{ExceedsCeiling, lineage_in, within_ceilings};
use super::{Actor, AlreadyDone, GuardError, OutOfReach, Services, StoreError};
use crate::base::{NanoUsd, Secret};
use crate::store::budget::BudgetOwner;
use crate::store::subkey::{Status, SubKeyFilter};
use crate::store::{self, Conn, Cursor, Page};
use crate::subkey::{
    Definition, DefinitionError, Project, SecretRecord, State, SubKey, SubKeyId, SubKeyToken,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

pub(super) use change::difference;
pub use change::{ChangeSubkeyError, RotateRefusal, Rotated, StateRefusal};
pub use explain::{Asked, Explanation, Question, Step};

/// A sub-key, and where its budgets stand.
#[derive(Clone, Debug)]
pub struct SubKeyState {
    /// The sub-key.
    pub subkey: SubKey,
    /// Its budgets, in the order of its definition.
    pub budgets: Vec<BudgetState>,
}

impl SubKeyState {
    /// The word for people: `revoked`, `suspended`, `expired`, `exhausted` or `active`.
    pub fn status(&self, now: DateTime<Utc>) -> &'static str {
        let exhausted = || self.budgets.iter().any(|budget| budget.balance.remaining() == NanoUsd::ZERO);
        match self.subkey.status(now) {
            "active" if exhausted() => "exhausted",
            status => status,
        }
    }
}

/// A fresh sub-key with its token, which is nowhere else.
pub struct Minted {
    /// The sub-key.
    pub subkey: SubKeyState,
    /// The whole token, to be shown once.
    pub token: Secret<String>,
}

/// Why a sub-key was not minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// A field makes no sense.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The project is not one of the operator's.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
    /// It asks for more than a project above it allows.
    #[error(transparent)]
    ExceedsCeiling(#[from] ExceedsCeiling),
    /// A sub-key of the project that is not revoked has the name.
    #[error("the project has a sub-key of this name")]
    NameTaken {
        /// That sub-key.
        id: String,
    },
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which sub-keys a list holds; every part given must match.
#[derive(Clone, Debug, Default)]
pub struct SubKeyQuery {
    /// Of this project.
    pub project: Option<String>,
    /// With this status.
    pub status: Option<SubKeyStatus>,
    /// With this label; `None` as value is any value.
    pub label: Option<(String, Option<String>)>,
    /// With this text in the name, or with exactly this id.
    pub q: Option<String>,
    /// Not used for so long.
    pub unused_for: Option<TimeDelta>,
    /// With an expiry before this time.
    pub expires_before: Option<DateTime<Utc>>,
}

/// What a list can be cut to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubKeyStatus {
    /// Usable.
    Active,
    /// Stopped.
    Suspended,
    /// Stopped for ever.
    Revoked,
    /// Past its time.
    Expired,
    /// A budget has nothing left.
    Exhausted,
}

impl SubKeyStatus {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
        }
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        let all = [Self::Active, Self::Suspended, Self::Revoked, Self::Expired, Self::Exhausted];
        all.into_iter().find(|status| status.as_str() == text)
    }

    /// The nearest that the database can tell: it does not know which budgets are spent.
    fn stored(self, now: DateTime<Utc>) -> Status {
        match self {
            Self::Active | Self::Exhausted => Status::Active { now },
            Self::Suspended => Status::Suspended,
            Self::Revoked => Status::Revoked,
            Self::Expired => Status::Expired { now },
        }
    }
}

/// How many stored pages one list may read to fill its own: a rare status ends in a short page and a cursor.
const PAGES_READ_MAX: usize = 10;

impl Services {
    /// Mints a sub-key. In force when this returns.
    pub async fn mint_subkey(&self, actor: &Actor, definition: Definition) -> Result<Minted, MintError> {
        definition.validate_new()?;
        if !actor.operator.reaches(&definition.project) {
            return Err(OutOfReach.into());
        }
        let now = self.clock.now();
        let token = SubKeyToken::generate(SubKeyId::generate(&self.entropy), &self.entropy);
        let subkey = SubKey {
            id: token.id().clone(),
            version: 1,
            definition,
            state: State::Active,
            secrets: vec![self.secret_record(&token, now)?],
            created_at: now,
            created_by: actor.operator.name.clone(),
            last_used_at: None,
        };
        match self.insert_subkey(actor, &subkey).await {
            Err(MintError::Store(StoreError::Conflict { table: "subkeys" })) => {
                Err(MintError::NameTaken { id: self.holder_of_name(&subkey.definition).await? })
            }
            Err(error) => Err(error),
            Ok(()) => {
                self.registry.changed(subkey.clone());
                // Its windows are new, as its id is: nothing is asked, so nothing can fail with the token in hand.
                let owner = BudgetOwner::subkey(&subkey.id);
                let budgets = budget::untouched(&owner, &subkey.definition.budgets, self.ledger.now());
                Ok(Minted { subkey: SubKeyState { subkey, budgets }, token: token.reveal() })
            }
        }
    }

    async fn insert_subkey(&self, actor: &Actor, subkey: &SubKey) -> Result<(), MintError> {
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, subkey.id.as_str()).await??;
        subkey.secrets.iter().try_for_each(|secret| tx.vouch_for(secret))?;
        let above = lineage_in(&mut tx, &subkey.definition.project).await?.ok_or_else(no_project)?;
        check_references(&mut tx.conn(), &subkey.definition, &above).await??;
        within_ceilings(&above, &subkey.definition, subkey.created_at, |_| true)?;
        store::subkey::insert(&mut tx.conn(), subkey).await.map_err(unknown_project)?;
        let owner = BudgetOwner::subkey(&subkey.id);
        self.rewrite_budgets(&mut tx.conn(), &owner, (&[], &subkey.definition.budgets)).await?;
        tx.sign_subkey(&subkey.id).await?;
        let detail = json!({"version": subkey.version, "definition": subkey.definition});
        self.note(&mut tx.conn(), actor, "subkey.mint", subkey.id.as_str(), detail).await?;
        Ok(tx.commit().await?)
    }

    /// The sub-key, if there is one within the operator's reach.
    pub async fn subkey(&self, actor: &Actor, id: &SubKeyId) -> Result<Option<SubKeyState>, StoreError> {
        let mut read = self.store.read().await?;
        let found = store::subkey::get(&mut read.conn(), id).await?;
        let found = found.filter(|subkey| actor.operator.reaches(&subkey.definition.project));
        Ok(self.with_budgets(&mut read.conn(), found.into_iter().collect()).await?.pop())
    }

    /// Sub-keys, newest first. A page of a rare status can be short though more follow.
    pub async fn list_subkeys(
        &self,
        actor: &Actor,
        query: &SubKeyQuery,
        after: Option<Cursor<String>>,
        limit: u32,
    ) -> Result<Page<SubKeyState, String>, ListSubkeysError> {
        let now = self.clock.now();
        let operator = &actor.operator;
        if query.project.as_ref().is_some_and(|asked| !operator.reaches(asked)) {
            return Err(OutOfReach.into());
        }
        let filter = SubKeyFilter {
            project: query.project.clone(),
            within: operator.reached(),
            created_by: None,
            status: query.status.map(|status| status.stored(now)),
            label: query.label.clone(),
            q: query.q.clone(),
            unused_since: query.unused_for.map(|unused| now - unused),
            expires_before: query.expires_before,
        };
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut page = Page { items: Vec::new(), next: after };
        for _ in 0..PAGES_READ_MAX {
            let mut read = self.store.read().await?;
            let stored = store::subkey::list(&mut read.conn(), &filter, page.next.as_ref(), limit).await?;
            page.next = stored.next;
            for state in self.with_budgets(&mut read.conn(), stored.items).await? {
                let (at, key) = (state.subkey.created_at, state.subkey.id.as_str().to_owned());
                if page.items.len() == wanted {
                    break;
                }
                if query.status.is_none_or(|status| status.as_str() == state.status(now)) {
                    page.items.push(state);
                    if page.items.len() == wanted && page.next.is_some() {
                        page.next = Some(Cursor { at, key });
                    }
                }
            }
            if page.next.is_none() || page.items.len() == wanted {
                break;
            }
        }
        Ok(page)
    }

    /// Adds where the budgets stand, all by one statement.
    async fn with_budgets(
        &self,
        conn: &mut Conn<'_>,
        subkeys: Vec<SubKey>,
    ) -> Result<Vec<SubKeyState>, StoreError> {
        let owner = |subkey: &SubKey| BudgetOwner::subkey(&subkey.id);
        let owners: Vec<_> =
            subkeys.iter().map(|one| (owner(one), one.definition.budgets.as_slice())).collect();
        let budgets = self.budgets_of(conn, &owners).await?;
        let with = |(subkey, budgets)| SubKeyState { subkey, budgets };
        Ok(subkeys.into_iter().zip(budgets).map(with).collect())
    }

    fn secret_record(&self, token: &SubKeyToken, now: DateTime<Utc>) -> Result<SecretRecord, GuardError> {
        let (mac, mac_term) = self.vault.keyring()?.mac(&token.mac_input());
        Ok(SecretRecord {
            id: self.entropy.id("sec"),
            mac,
            mac_term: i64::from(mac_term),
            created_at: now,
            expires_at: None,
            last_used_at: None,
        })
    }

    async fn holder_of_name(&self, definition: &Definition) -> Result<String, StoreError> {
        let mut read = self.store.read().await?;
        let found =
            store::subkey::find_by_name(&mut read.conn(), &definition.project, &definition.name).await?;
        Ok(found.map(|id| id.as_str().to_owned()).unwrap_or_default())
    }
}

/// Why sub-keys are not listed.
#[derive(Debug, thiserror::Error)]
pub enum ListSubkeysError {
    /// Another project's.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether what the definition names exists: providers, and the credential with its project, which is `above` with those
/// above it.
async fn check_references(
    conn: &mut Conn<'_>,
    definition: &Definition,
    above: &[Project],
) -> Result<Result<(), DefinitionError>, StoreError> {
    let wrong = |field: String, detail: &str| Ok(Err(DefinitionError { field, detail: detail.to_owned() }));
    for (index, slug) in definition.provider_order.iter().enumerate() {
        if store::provider::get(conn, slug).await?.is_none() {
            return wrong(format!("/provider_order/{index}"), "there is no provider of this slug");
        }
    }
    if let Some(id) = &definition.credential {
        let Some(credential) = store::credential::get(conn, id).await? else {
            return wrong("/credential".to_owned(), "there is no credential of this id");
        };
        let is_above = |slug: &String| above.iter().any(|project| project.definition.slug == *slug);
        if credential.projects.is_some_and(|projects| !projects.iter().any(is_above)) {
            return wrong("/credential".to_owned(), "this credential is not for the sub-key's project");
        }
    }
    Ok(Ok(()))
}

/// The project is the only thing that a row of sub-keys refers to.
fn unknown_project(error: StoreError) -> MintError {
    match error {
        StoreError::Reference { table: "subkeys" } => MintError::Definition(no_project()),
        error => MintError::Store(error),
    }
}

fn no_project() -> DefinitionError {
    DefinitionError { field: "/project".to_owned(), detail: "there is no project of this slug".to_owned() }
}
