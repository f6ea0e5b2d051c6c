//! Changes of projects: patch, suspend, resume.
//!
//! As with sub-keys, nothing is waited for between the commit and its coming into force; then whatever the writer had
//! begun by the old state is committed or refused before the call returns.

use super::ProjectStanding;
use super::place::{Tree, check_place};
use crate::service::subkey::difference;
use crate::service::{Actor, AlreadyDone, GuardError, OutOfReach, Services, StoreError};
use crate::store;
use crate::store::budget::BudgetOwner;
use crate::subkey::{DefinitionError, Project, ProjectDefinition, ProjectState, succeed_budgets};
use serde_json::{Value, json};
use std::convert::Infallible;

/// Why a project was not changed. `R` is the change's own reason to refuse.
#[derive(Debug, thiserror::Error)]
pub enum ChangeProjectError<R> {
    /// There is none, or none within the operator's reach.
    #[error("there is no such project")]
    NotFound,
    /// It is not at the version that the change was made for.
    #[error("the project was changed; it is at version {version} now")]
    Moved {
        /// Its version.
        version: i64,
    },
    /// The change refuses.
    #[error("{0}")]
    Refused(R),
    /// A field makes no sense.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// The new parent is not one of the operator's, or what binds the project is up to those above it.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
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

/// What a change comes to.
struct Plan {
    definition: ProjectDefinition,
    state: ProjectState,
    detail: Value,
}

/// Whether what a project may spend and allow changes. Whoever is bound to it has to live with that: it is for those
/// to change who reach its parent.
fn is_bound_otherwise(old: &ProjectDefinition, new: &ProjectDefinition) -> bool {
    old.parent != new.parent
        || old.budgets != new.budgets
        || old.ceiling != new.ceiling
        || old.rate_limits != new.rate_limits
        || old.policies != new.policies
        || old.max_subkey_ttl_seconds != new.max_subkey_ttl_seconds
}

impl Services {
    /// Changes the definition to what `change` makes of it.
    pub async fn change_project<R: Send>(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
        change: impl Fn(&ProjectDefinition) -> Result<ProjectDefinition, R> + Send + Sync,
    ) -> Result<ProjectStanding, ChangeProjectError<R>> {
        let plan = |project: &Project| {
            let old = &project.definition;
            let mut definition = change(old).map_err(ChangeProjectError::Refused)?;
            if definition.slug != old.slug {
                let detail = "a slug cannot be changed; make another project".to_owned();
                return Err(DefinitionError { field: "/slug".to_owned(), detail }.into());
            }
            definition.validate()?;
            succeed_budgets(&mut definition.budgets, &old.budgets, self.ledger.now());
            let is_reached = |parent: &String| actor.operator.reaches(parent);
            let may_stand_there =
                definition.parent.as_ref().map_or(actor.operator.projects.is_none(), is_reached);
            let reaches_above = old.parent.as_ref().map_or(actor.operator.projects.is_none(), is_reached);
            if definition.parent != old.parent && !may_stand_there
                || is_bound_otherwise(old, &definition) && !reaches_above
            {
                return Err(OutOfReach.into());
            }
            let detail = json!({"changed": difference(old, &definition)});
            Ok((definition != *old).then_some(Plan { definition, state: project.state, detail }))
        };
        self.rewrite_project(actor, slug, expected, "project.patch", plan).await
    }

    /// Suspends or resumes a project with everything below it. What is so already stays so.
    pub async fn set_project_suspended(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
        suspended: bool,
    ) -> Result<ProjectStanding, ChangeProjectError<Infallible>> {
        let (action, state) = if suspended {
            ("project.suspend", ProjectState::Suspended)
        } else {
            ("project.resume", ProjectState::Active)
        };
        let plan = |project: &Project| {
            let definition = project.definition.clone();
            let detail = json!({"before": project.state.as_str(), "after": state.as_str()});
            Ok((project.state != state).then_some(Plan { definition, state, detail }))
        };
        self.rewrite_project(actor, slug, expected, action, plan).await
    }

    async fn rewrite_project<R: Send>(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
        action: &'static str,
        plan: impl Fn(&Project) -> Result<Option<Plan>, ChangeProjectError<R>> + Send + Sync,
    ) -> Result<ProjectStanding, ChangeProjectError<R>> {
        let _turn = self.projects.changing.lock().await;
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, slug).await??;
        let record = store::project::get(&mut tx.conn(), slug).await?;
        let record = record
            .filter(|one| one.status != ProjectState::Deleted.as_str() && actor.operator.reaches(&one.slug));
        let record = record.ok_or(ChangeProjectError::NotFound)?;
        if expected.is_some_and(|expected| expected != record.version) {
            return Err(ChangeProjectError::Moved { version: record.version });
        }
        tx.check_project(&record).await?;
        let old = record.read()?;
        let changed = if let Some(Plan { mut definition, state, mut detail }) = plan(&old)? {
            if definition.parent != old.definition.parent {
                let tree = Tree::read(&mut tx.conn()).await?;
                check_place(&mut tx, &tree, &definition).await??;
            }
            let owner = BudgetOwner::project(slug);
            let budgets = (old.definition.budgets.as_slice(), definition.budgets.as_mut_slice());
            self.succeed_removed(&mut tx.conn(), &owner, budgets).await?;
            let version = store::project::update(&mut tx.conn(), old.version, &definition, state).await?;
            let moved = ChangeProjectError::Moved { version: old.version };
            detail["version"] = json!(version.ok_or(moved)?);
            if definition.budgets != old.definition.budgets {
                let budgets = (old.definition.budgets.as_slice(), definition.budgets.as_slice());
                self.rewrite_budgets(&mut tx.conn(), &owner, budgets).await?;
            }
            self.note(&mut tx.conn(), actor, action, slug, detail).await?;
            self.sign_and_read(&mut tx, slug).await?.ok_or(ChangeProjectError::NotFound)?
        } else {
            // So already, perhaps by a call whose end nobody saw.
            let standing = self.with_project_budgets(&mut tx.conn(), vec![old]).await?.pop();
            standing.ok_or(ChangeProjectError::NotFound)?
        };
        tx.commit().await?;
        self.projects.changed(&changed.project);
        self.stop_keys_below_stopped();
        self.ledger.pass().await;
        Ok(changed)
    }
}
