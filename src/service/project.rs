//! Projects for operators: looking, making and removing. Changing is in `change`; what binds requests in [`Forest`].
//!
//! Whatever is changed is committed, then in force in memory, and only then the call returns.

mod change;
mod forest;
mod lineage;
mod place;

use super::budget::BudgetState;
use super::vault::{Change, Projects};
use super::{Actor, AlreadyDone, GuardError, OutOfReach, Services, StoreError};
use crate::store::budget::BudgetOwner;
use crate::store::{self, Conn};
use crate::subkey::{
    DEFAULT_PROJECT, DefinitionError, PROJECTS_MAX, Project, ProjectDefinition, ProjectState,
};
use crate::vault::{Keyring, PowerTable};
use serde_json::{Map, Value, json};

pub use change::ChangeProjectError;
pub use forest::Forest;
pub use lineage::{Lineage, Standing};
pub use place::ExceedsCeiling;
use place::{Tree, check_place};
pub(super) use place::{lineage_in, within_ceilings};

/// A project, and where its budgets stand.
#[derive(Clone, Debug)]
pub struct ProjectStanding {
    /// The project.
    pub project: Project,
    /// Its budgets, in the order of its definition.
    pub budgets: Vec<BudgetState>,
}

/// Why a project was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateProjectError {
    /// A field makes no sense.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// Its parent is not one of the operator's; or it would be a root, which is nobody's who is bound to projects; or the
    /// slug was a project's before, whose entries and revoked keys only those may take over who reach everything.
    #[error(transparent)]
    OutOfReach(#[from] OutOfReach),
    /// There is one.
    #[error("there is a project of this slug")]
    SlugTaken {
        /// The slug.
        slug: String,
    },
    /// There are as many as there may be.
    #[error("there are {PROJECTS_MAX} projects, as many as there may be")]
    TooMany,
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

/// Why a project was not removed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteProjectError {
    /// There is none, or none within the operator's reach.
    #[error("there is no such project")]
    NotFound,
    /// It is not at the version that the call named.
    #[error("the project was changed; it is at version {version} now")]
    Moved {
        /// Its version.
        version: i64,
    },
    /// It always exists.
    #[error("the project default always exists")]
    IsDefault,
    /// Something still belongs to it or names it.
    #[error("the project has {by}; take them away first, or suspend it instead")]
    InUse {
        /// What.
        by: &'static str,
    },
    /// The vault is sealed, or a row was changed outside of Bitting.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// The projects that the operator reaches, by slug.
    pub async fn list_projects(&self, actor: &Actor) -> Result<Vec<ProjectStanding>, StoreError> {
        let mut read = self.store.read().await?;
        let all = store::project::list(&mut read.conn()).await?;
        let reached = all.iter().filter(|one| actor.operator.reaches(&one.slug));
        // What makes no sense hides no other; it is alarmed where the rows are watched.
        let mut projects: Vec<Project> = reached.filter_map(|one| one.read().ok()).collect();
        projects.retain(|project| project.state != ProjectState::Deleted);
        self.with_project_budgets(&mut read.conn(), projects).await
    }

    /// The project, if there is one within the operator's reach.
    pub async fn project(&self, actor: &Actor, slug: &str) -> Result<Option<ProjectStanding>, StoreError> {
        let mut read = self.store.read().await?;
        let found = store::project::get(&mut read.conn(), slug).await?;
        let found = found.filter(|one| actor.operator.reaches(&one.slug));
        let project = found.map(|one| one.read()).transpose()?;
        let project = project.filter(|project| project.state != ProjectState::Deleted);
        Ok(self.with_project_budgets(&mut read.conn(), project.into_iter().collect()).await?.pop())
    }

    /// The fields that a sub-key of the project has where it says nothing of them: of each, what the nearest project says.
    pub fn subkey_defaults(&self, project: &str) -> Map<String, Value> {
        let mut defaults = Map::new();
        for definition in self.projects.lineage(project).definitions() {
            for (field, value) in &definition.defaults {
                defaults.entry(field.as_str()).or_insert_with(|| value.clone());
            }
        }
        defaults
    }

    /// Makes a project. In force when this returns.
    pub async fn create_project(
        &self,
        actor: &Actor,
        mut definition: ProjectDefinition,
    ) -> Result<ProjectStanding, CreateProjectError> {
        definition.validate_new()?;
        let is_reached = |parent: &String| actor.operator.reaches(parent);
        if !definition.parent.as_ref().map_or(actor.operator.projects.is_none(), is_reached) {
            return Err(OutOfReach.into());
        }
        let _turn = self.projects.changing.lock().await;
        let mut tx = self.change().await?;
        self.claim(&mut tx.conn(), actor, &definition.slug).await??;
        let tree = Tree::read(&mut tx.conn()).await?;
        let slug = definition.slug.clone();
        let earlier = store::project::get(&mut tx.conn(), &slug).await?;
        if earlier.as_ref().is_some_and(|one| one.status != ProjectState::Deleted.as_str()) {
            return Err(CreateProjectError::SlugTaken { slug });
        }
        // Its past comes with it: the keys that it had, and their entries.
        if earlier.is_some() && actor.operator.projects.is_some() {
            return Err(OutOfReach.into());
        }
        if tree.len() >= PROJECTS_MAX {
            return Err(CreateProjectError::TooMany);
        }
        check_place(&mut tx, &tree, &definition).await??;
        let owner = BudgetOwner::project(&slug);
        self.succeed_removed(&mut tx.conn(), &owner, (&[], definition.budgets.as_mut_slice())).await?;
        let made = if let Some(deleted) = earlier {
            // What was spent under this name is not forgotten, and neither is how often it was changed.
            tx.check_project(&deleted).await?;
            let active = ProjectState::Active;
            store::project::update(&mut tx.conn(), deleted.version, &definition, active).await?.is_some()
        } else {
            let (state, created_at) = (ProjectState::Active, self.clock.now());
            let project = Project { definition: definition.clone(), state, version: 1, created_at };
            store::project::insert(&mut tx.conn(), &project).await?;
            true
        };
        if !made {
            return Err(CreateProjectError::SlugTaken { slug });
        }
        self.rewrite_budgets(&mut tx.conn(), &owner, (&[], &definition.budgets)).await?;
        self.note(&mut tx.conn(), actor, "project.create", &slug, json!({"definition": definition})).await?;
        let new = self.sign_and_read(&mut tx, &slug).await?.ok_or(CreateProjectError::SlugTaken { slug })?;
        tx.commit().await?;
        self.projects.changed(&new.project);
        Ok(new)
    }

    /// Removes a project that nothing belongs to. What was spent in its budgets is not forgotten.
    pub async fn delete_project(
        &self,
        actor: &Actor,
        slug: &str,
        expected: Option<i64>,
    ) -> Result<(), DeleteProjectError> {
        if !actor.operator.reaches(slug) {
            return Err(DeleteProjectError::NotFound);
        }
        if slug == DEFAULT_PROJECT {
            return Err(DeleteProjectError::IsDefault);
        }
        let _turn = self.projects.changing.lock().await;
        let mut tx = self.change().await?;
        let old = store::project::get(&mut tx.conn(), slug).await?;
        let old = old.filter(|one| one.status != ProjectState::Deleted.as_str());
        let old = old.ok_or(DeleteProjectError::NotFound)?;
        if expected.is_some_and(|expected| expected != old.version) {
            return Err(DeleteProjectError::Moved { version: old.version });
        }
        tx.check_project(&old).await?;
        if let Some(by) = user_of(&mut tx.conn(), slug).await? {
            return Err(DeleteProjectError::InUse { by });
        }
        let before = old.read()?.definition;
        let bare = ProjectDefinition::named(slug, before.name.clone());
        let deleted =
            store::project::update(&mut tx.conn(), old.version, &bare, ProjectState::Deleted).await?;
        if deleted.is_none() {
            return Err(DeleteProjectError::Moved { version: old.version });
        }
        let owner = BudgetOwner::project(slug);
        self.rewrite_budgets(&mut tx.conn(), &owner, (&before.budgets, &[])).await?;
        self.note(&mut tx.conn(), actor, "project.delete", slug, json!({"before": before})).await?;
        let gone = self.sign_and_read(&mut tx, slug).await?.ok_or(DeleteProjectError::NotFound)?;
        tx.commit().await?;
        self.projects.changed(&gone.project);
        Ok(())
    }

    /// Signs a project as the change leaves it, and reads it with its budgets.
    async fn sign_and_read(
        &self,
        tx: &mut Change,
        slug: &str,
    ) -> Result<Option<ProjectStanding>, StoreError> {
        let Some(record) = tx.sign_project(slug).await? else { return Ok(None) };
        let project = record.read()?;
        Ok(self.with_project_budgets(&mut tx.conn(), vec![project]).await?.pop())
    }

    async fn with_project_budgets(
        &self,
        conn: &mut Conn<'_>,
        projects: Vec<Project>,
    ) -> Result<Vec<ProjectStanding>, StoreError> {
        let owner = |project: &Project| BudgetOwner::project(&project.definition.slug);
        let owners: Vec<_> =
            projects.iter().map(|one| (owner(one), one.definition.budgets.as_slice())).collect();
        let budgets = self.budgets_of(conn, &owners).await?;
        let with = |(project, budgets)| ProjectStanding { project, budgets };
        Ok(projects.into_iter().zip(budgets).map(with).collect())
    }

    /// Takes all projects into force as the database has them. Nothing is admitted below one that was changed outside of
    /// Bitting, or that cannot be read.
    pub(super) async fn reload_projects_with(&self, keyring: &Keyring) -> Result<(), StoreError> {
        let _turn = self.projects.changing.lock().await;
        let (records, wrong) = self.look(keyring, &Projects).await?;
        let is_wrong =
            |slug: &str| wrong.iter().any(|row| row.table == PowerTable::Projects.as_str() && row.id == slug);
        let good = records.iter().filter(|record| !is_wrong(&record.slug));
        let projects: Vec<Project> = good.filter_map(|record| record.read().ok()).collect();
        let some_went = self.projects.replace(&projects);
        if some_went || self.projects.is_any_stopped() {
            self.stop_keys_below_stopped();
        }
        Ok(())
    }

    /// Cuts the requests in flight of keys that were moved below a project after they began, too.
    fn stop_keys_below_stopped(&self) {
        self.registry.stop_outside(&self.projects.admitting());
    }
}

/// What still belongs to the project or names it.
async fn user_of(conn: &mut Conn<'_>, slug: &str) -> Result<Option<&'static str>, StoreError> {
    let names_it =
        |projects: Option<&Vec<String>>| projects.is_some_and(|list| list.iter().any(|one| one == slug));
    if store::project::has_keys(conn, slug).await? {
        return Ok(Some("sub-keys that are not revoked"));
    }
    if Tree::read(conn).await?.children(slug).next().is_some() {
        return Ok(Some("projects below it"));
    }
    if store::credential::list(conn).await?.iter().any(|one| names_it(one.projects.as_ref())) {
        return Ok(Some("credentials that are limited to it"));
    }
    let operators = store::operator::list(conn).await?;
    Ok(operators.iter().any(|one| names_it(one.projects.as_ref())).then_some("operators who are bound to it"))
}
