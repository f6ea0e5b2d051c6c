//! Operators: who asks the admin API, and what each may do.
//!
//! A role grants permissions and a route needs one. An operator that is bound to projects reaches nothing
//! outside them, and nothing that concerns the whole installation.

use super::install::{operator_token, operator_token_hash};
use super::vault::Holder;
use super::{AlreadyDone, GuardError, Services, StoreError};
use crate::base::Secret;
use crate::store;
use crate::store::operator::{OperatorRecord, TokenHolder, TokenRecord};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

/// A role, as the contract names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything.
    Owner,
    /// Providers and their keys, which it can write and not read.
    VaultAdmin,
    /// What sub-keys may do, their budgets, and prices.
    PolicyAdmin,
    /// Mints, changes, rotates and stops sub-keys.
    Issuer,
    /// Stops anything, creates nothing.
    Responder,
    /// Reads and exports evidence, changes nothing.
    Auditor,
    /// Looks, without evidence.
    Viewer,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::Owner,
        Self::VaultAdmin,
        Self::PolicyAdmin,
        Self::Issuer,
        Self::Responder,
        Self::Auditor,
        Self::Viewer,
    ];

    /// The name in the store and the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::VaultAdmin => "vault_admin",
            Self::PolicyAdmin => "policy_admin",
            Self::Issuer => "issuer",
            Self::Responder => "responder",
            Self::Auditor => "auditor",
            Self::Viewer => "viewer",
        }
    }

    /// Reads the name back; `None` grants nothing.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    fn grants(self, permission: Permission) -> bool {
        use Permission as P;
        match (self, permission) {
            (Self::Owner, _)
            | (_, P::View | P::ViewAlarms)
            | (
                Self::VaultAdmin,
                P::ChangeProviders
                | P::StopProviders
                | P::WriteCredentials
                | P::StopCredentials
                | P::CloseAlarms
                | P::Seal
                | P::Unseal
                | P::RotateVault,
            )
            | (
                Self::PolicyAdmin,
                P::ChangeSubkeys
                | P::ChangeProjects
                | P::StopProjects
                | P::SetPrices
                | P::ViewUsage
                | P::ReleaseCharges,
            )
            | (Self::Issuer, P::IssueSubkeys | P::ChangeSubkeys | P::StopSubkeys | P::ViewUsage)
            | (
                Self::Responder,
                P::StopSubkeys
                | P::StopProjects
                | P::StopProviders
                | P::StopCredentials
                | P::CloseAlarms
                | P::Seal,
            )
            | (Self::Auditor, P::ReadAccessLog | P::ReadAdminLog | P::ViewUsage)
            | (Self::Viewer, P::ViewUsage) => true,
            (
                Self::VaultAdmin
                | Self::PolicyAdmin
                | Self::Issuer
                | Self::Responder
                | Self::Auditor
                | Self::Viewer,
                _,
            ) => false,
        }
    }
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Look at providers, credentials without secrets, models, sub-keys, metrics.
    View,
    /// Sums of the access log.
    ViewUsage,
    /// Entries of the access log.
    ReadAccessLog,
    /// Entries of the admin log.
    ReadAdminLog,
    /// Register, change, resume and remove providers.
    ChangeProviders,
    /// Suspend providers.
    StopProviders,
    /// Put provider keys in.
    WriteCredentials,
    /// Disable provider keys.
    StopCredentials,
    /// Rotate the keyring and wrap anew.
    RotateVault,
    /// Set models and prices.
    SetPrices,
    /// Mint, rotate and resume sub-keys.
    IssueSubkeys,
    /// Patch sub-keys.
    ChangeSubkeys,
    /// Suspend and revoke sub-keys.
    StopSubkeys,
    /// Make, change, resume and remove projects, with their budgets, ceilings and defaults.
    ChangeProjects,
    /// Suspend projects.
    StopProjects,
    /// Look at alarms.
    ViewAlarms,
    /// Close alarms.
    CloseAlarms,
    /// Seal the vault.
    Seal,
    /// Unseal the vault.
    Unseal,
    /// End a quarantine.
    ReleaseQuarantine,
    /// Take back what was charged after a crash.
    ReleaseCharges,
}

impl Permission {
    /// Concerns everybody, so operators that are bound to projects do not have it.
    fn is_installation_wide(self) -> bool {
        match self {
            Self::View
            | Self::ViewUsage
            | Self::ReadAccessLog
            | Self::IssueSubkeys
            | Self::ChangeSubkeys
            | Self::StopSubkeys
            | Self::ChangeProjects
            | Self::StopProjects => false,
            Self::ReadAdminLog
            | Self::ChangeProviders
            | Self::StopProviders
            | Self::WriteCredentials
            | Self::StopCredentials
            | Self::RotateVault
            | Self::SetPrices
            | Self::ViewAlarms
            | Self::CloseAlarms
            | Self::Seal
            | Self::Unseal
            | Self::ReleaseQuarantine
            | Self::ReleaseCharges => true,
        }
    }
}

/// A known operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its id.
    pub id: String,
    /// Its name, by which entries and sub-keys name it.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Its own projects; `None` is all.
    pub projects: Option<Vec<String>>,
    /// The projects below its own, which it reaches too.
    pub below: Vec<String>,
}

/// The operator does not reach the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("your operator does not reach this project; name one of its own by `project`")]
pub struct OutOfReach;

impl Operator {
    /// Whether one of its roles grants the permission.
    pub fn may(&self, permission: Permission) -> bool {
        let bound = self.projects.is_some() && permission.is_installation_wide();
        !bound && self.roles.iter().any(|role| role.grants(permission))
    }

    /// Whether the project is one of its own or below one.
    pub fn reaches(&self, project: &str) -> bool {
        let is_own = |projects: &Vec<String>| projects.iter().chain(&self.below).any(|one| one == project);
        self.projects.as_ref().is_none_or(is_own)
    }

    /// Every project that it reaches; `None` is all.
    pub fn reached(&self) -> Option<Vec<String>> {
        self.projects.as_ref().map(|projects| projects.iter().chain(&self.below).cloned().collect())
    }
}

/// Who makes a change, and by which request.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The operator.
    pub operator: Operator,
    /// The request; empty for commands run beside the data.
    pub request_id: String,
    /// The request's own name for what it makes: a repeat makes nothing.
    pub idempotency_key: Option<String>,
}

impl Actor {
    /// Whoever runs a command beside the data: holds the KEK, so may do everything.
    pub fn local() -> Self {
        let operator = Operator {
            id: "local".to_owned(),
            name: "local".to_owned(),
            roles: vec![Role::Owner],
            projects: None,
            below: Vec::new(),
        };
        Self { operator, request_id: String::new(), idempotency_key: None }
    }
}

/// Why nobody was recognised by an operator token.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No such token, or it has expired. Nothing tells which.
    #[error("the token is nobody's")]
    Unknown,
    /// It could not be looked up.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an operator was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateOperatorError {
    /// The name makes no sense.
    #[error("a name has 1 to 128 bytes, no control characters and no spaces around it")]
    Name,
    /// There is one of that name.
    #[error("there is an operator of this name")]
    NameTaken,
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

const NAME_BYTES_MAX: usize = 128;
/// How exactly the last use of a token is known.
const LAST_USED_EVERY: TimeDelta = TimeDelta::minutes(1);
const TOKEN_BYTES_MAX: usize = 128;

impl Services {
    /// Recognises the operator that a token (`bo_...`) belongs to.
    pub async fn authenticate_operator(&self, token: &str) -> Result<Operator, OperatorError> {
        if !token.starts_with("bo_") || token.len() > TOKEN_BYTES_MAX {
            return Err(OperatorError::Unknown);
        }
        let hash = operator_token_hash(token);
        // While the vault is sealed nothing can be checked, and little can be done.
        let found = match self.vault.keyring() {
            Ok(keyring) => {
                let (found, wrong) = self.look(&keyring, &Holder(&hash)).await?;
                found.filter(|_| wrong.is_empty())
            }
            Err(_) => store::operator::find_by_token(&mut self.store.read().await?.conn(), &hash).await?,
        };
        let holder = found.ok_or(OperatorError::Unknown)?;
        let now = self.clock.now();
        if holder.expires_at.is_some_and(|end| now >= end) {
            return Err(OperatorError::Unknown);
        }
        if holder.last_used_at.is_none_or(|at| now - at >= LAST_USED_EVERY)
            && let Err(error) = self.touch_operator_token(&holder.token_id).await
        {
            tracing::warn!(%error, "the last use of an operator token was not written down");
        }
        let mut operator = Operator::from(holder);
        operator.below = operator.projects.as_deref().map(|own| self.projects.below(own)).unwrap_or_default();
        Ok(operator)
    }

    /// Makes an operator with one token, which is nowhere else.
    pub async fn create_operator(
        &self,
        actor: &Actor,
        name: &str,
        roles: &[Role],
        projects: Option<Vec<String>>,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(Operator, Secret<String>), CreateOperatorError> {
        let name_fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if !name_fits || name.trim() != name {
            return Err(CreateOperatorError::Name);
        }
        let (now, token) = (self.clock.now(), operator_token(&self.entropy));
        let record = OperatorRecord {
            id: self.entropy.id("op"),
            name: name.to_owned(),
            roles: roles.iter().map(|role| role.as_str().to_owned()).collect(),
            projects,
            version: 1,
            created_at: now,
            created_by: actor.operator.name.clone(),
        };
        let token_record = TokenRecord {
            id: self.entropy.id("ot"),
            operator_id: record.id.clone(),
            sha256: operator_token_hash(token.expose()),
            created_at: now,
            expires_at,
        };
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, &record.id).await??;
        match store::operator::insert(&mut tx.conn(), &record).await {
            Err(StoreError::Conflict { .. }) => return Err(CreateOperatorError::NameTaken),
            inserted => inserted?,
        }
        store::operator::insert_token(&mut tx.conn(), &token_record).await?;
        tx.sign_operator(&record).await?;
        let detail = json!({"name": name, "roles": record.roles, "projects": record.projects, "expires_at": expires_at});
        self.note(&mut tx.conn(), actor, "operator.create", &record.id, detail).await?;
        tx.commit().await?;
        Ok((record.into(), token))
    }

    async fn touch_operator_token(&self, token_id: &str) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        store::operator::touch_token(&mut tx.conn(), token_id, self.clock.now()).await?;
        tx.commit().await
    }
}

impl From<TokenHolder> for Operator {
    fn from(TokenHolder { operator, .. }: TokenHolder) -> Self {
        operator.into()
    }
}

impl From<OperatorRecord> for Operator {
    fn from(operator: OperatorRecord) -> Self {
        let roles = operator.roles.iter().filter_map(|role| Role::parse(role)).collect();
        Self { id: operator.id, name: operator.name, roles, projects: operator.projects, below: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(roles: &[Role], projects: Option<&[&str]>) -> Operator {
        let projects = projects.map(|list| list.iter().map(|one| (*one).to_owned()).collect());
        Operator { id: "op_1".into(), name: "ana".into(), roles: roles.to_vec(), projects, below: vec![] }
    }

    #[test]
    fn an_operator_without_roles_may_nothing_and_an_owner_everything() {
        assert!(!operator(&[], None).may(Permission::View));
        assert!(operator(&[Role::Owner], None).may(Permission::WriteCredentials));
    }

    #[test]
    fn an_auditor_and_a_viewer_change_nothing_and_a_responder_creates_nothing() {
        use Permission as P;
        for role in [Role::Auditor, Role::Viewer] {
            for permission in
                [P::ChangeProviders, P::StopSubkeys, P::SetPrices, P::IssueSubkeys, P::ChangeSubkeys]
            {
                assert!(!operator(&[role], None).may(permission), "{role:?} {permission:?}");
            }
        }
        let responder = operator(&[Role::Responder], None);
        assert!(responder.may(P::StopSubkeys) && responder.may(P::StopProviders) && responder.may(P::Seal));
        assert!(
            !responder.may(P::IssueSubkeys)
                && !responder.may(P::ChangeProviders)
                && !responder.may(P::Unseal)
        );
    }

    #[test]
    fn an_operator_bound_to_projects_reaches_nothing_else() {
        let bound = operator(&[Role::Owner], Some(&["search"]));
        assert!(bound.may(Permission::IssueSubkeys) && !bound.may(Permission::WriteCredentials));
        assert!(bound.reaches("search") && !bound.reaches("default"));
        assert_eq!(bound.reached(), Some(vec!["search".to_owned()]));
        assert_eq!(operator(&[Role::Owner], Some(&[])).reached(), Some(Vec::new()));
        assert_eq!(operator(&[Role::Owner], None).reached(), None);
        let above = Operator { below: vec!["images".into()], ..operator(&[Role::Owner], Some(&["search"])) };
        assert!(above.reaches("search") && above.reaches("images") && !above.reaches("default"));
        assert_eq!(above.reached(), Some(vec!["search".to_owned(), "images".to_owned()]));
    }
}
