//! Where a project stands in the tree, and what the projects above a sub-key allow it: asked in the change that writes.

use crate::service::vault::Change;
use crate::service::{GuardError, StoreError};
use crate::store::{self, Conn};
use crate::subkey::{DEPTH_MAX, Definition, DefinitionError, Project, ProjectDefinition, ProjectState};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, HashMap};

/// A sub-key asks for more than a project above it allows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the project {project} allows its sub-keys {field} {allowed}; write that, or give the project a default"
)]
pub struct ExceedsCeiling {
    /// The project.
    pub project: String,
    /// The field of the sub-key.
    pub field: &'static str,
    /// What is allowed.
    pub allowed: String,
}

/// All projects that are not deleted, as the database has them.
pub(super) struct Tree {
    projects: BTreeMap<String, Project>,
    below: HashMap<String, Vec<String>>,
}

impl Tree {
    /// Reads it. What makes no sense is left out, as if it were not there.
    pub(super) async fn read(conn: &mut Conn<'_>) -> Result<Self, StoreError> {
        let all = store::project::list(conn).await?;
        let projects = all.iter().filter_map(|record| record.read().ok());
        let there = projects.filter(|project| project.state != ProjectState::Deleted);
        let projects: BTreeMap<String, Project> =
            there.map(|project| (project.definition.slug.clone(), project)).collect();
        let mut below: HashMap<String, Vec<String>> = HashMap::new();
        for (slug, project) in &projects {
            if let Some(parent) = &project.definition.parent {
                below.entry(parent.clone()).or_default().push(slug.clone());
            }
        }
        Ok(Self { projects, below })
    }

    pub(super) fn len(&self) -> usize {
        self.projects.len()
    }

    /// The projects right below one.
    pub(super) fn children(&self, slug: &str) -> impl Iterator<Item = &str> {
        self.below.get(slug).into_iter().flatten().map(String::as_str)
    }
}

/// Whether a project can stand where its definition says; those above it have to be as they were written.
pub(super) async fn check_place(
    tx: &mut Change,
    tree: &Tree,
    definition: &ProjectDefinition,
) -> Result<Result<(), DefinitionError>, GuardError> {
    let placed = Project::check_place(
        definition,
        |slug| tree.projects.get(slug),
        |slug| tree.children(slug).collect(),
    );
    if placed.is_ok()
        && let Some(parent) = &definition.parent
    {
        lineage_in(tx, parent).await?;
    }
    Ok(placed)
}

/// The project and those above it, nearest first, each as it was written. `None` when it is not there.
pub(in crate::service) async fn lineage_in(
    tx: &mut Change,
    slug: &str,
) -> Result<Option<Vec<Project>>, GuardError> {
    let (mut lineage, mut next) = (Vec::new(), Some(slug.to_owned()));
    while let Some(slug) = next.take().filter(|_| lineage.len() < DEPTH_MAX) {
        let record = store::project::get(&mut tx.conn(), &slug).await?;
        let record = record.filter(|record| record.status != ProjectState::Deleted.as_str());
        let Some(record) = record else { return Ok(None) };
        tx.check_project(&record).await?;
        let project = record.read()?;
        next.clone_from(&project.definition.parent);
        lineage.push(project);
    }
    Ok(Some(lineage))
}

/// Refuses what exceeds any of the projects, the nearest first, in a field that `is_asked`.
pub(in crate::service) fn within_ceilings(
    lineage: &[Project],
    definition: &Definition,
    minted_at: DateTime<Utc>,
    is_asked: impl Fn(&str) -> bool,
) -> Result<(), ExceedsCeiling> {
    for project in lineage {
        let excesses = project.definition.excesses(definition, minted_at).into_iter();
        if let Some(excess) = excesses.into_iter().find(|excess| is_asked(excess.field)) {
            let project = project.definition.slug.clone();
            return Err(ExceedsCeiling { project, field: excess.field, allowed: excess.allowed });
        }
    }
    Ok(())
}
