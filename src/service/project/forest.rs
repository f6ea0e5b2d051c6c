//! The projects in memory: what binds a request beside its own sub-key, without I/O, and what stops it at once.
//!
//! A change of a project is committed, then [`Forest::changed`] takes it in and cuts what is in flight below it, and
//! only then the call that made the change returns. A request keeps the [`Lineage`] that it was decided by; once any
//! project of it has changed, that is not the current one any more, and the admission is decided anew.

use super::lineage::{Lineage, Node, Standing};
use crate::service::Rates;
use crate::subkey::{DEPTH_MAX, Project, ProjectState};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// All projects that can be used.
#[derive(Debug, Default)]
pub struct Forest {
    inner: RwLock<Inner>,
    /// One change or reading at a time, so that an older one never replaces a newer one.
    pub(super) changing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Inner {
    nodes: HashMap<String, Arc<Node>>,
    /// What projects have counted that cannot be used now: once they can again, they go on from there.
    counted: HashMap<String, Arc<Rates>>,
    lineages: HashMap<String, Arc<Lineage>>,
}

impl Forest {
    /// The project and those above it. One that is not known is nobody's, and nothing is admitted for it.
    pub fn lineage(&self, slug: &str) -> Arc<Lineage> {
        let found = self.read(|inner| inner.lineages.get(slug).cloned());
        found.unwrap_or_else(|| {
            let stopped = CancellationToken::new();
            stopped.cancel();
            Arc::new(Lineage::new(Vec::new(), Standing::Unusable { project: slug.to_owned() }, stopped))
        })
    }

    /// Whether the lineage is what is known now, and may be used.
    pub fn is_current(&self, lineage: &Arc<Lineage>) -> bool {
        let slug = lineage.slug();
        lineage.standing() == &Standing::Active
            && self.read(|inner| {
                slug.and_then(|slug| inner.lineages.get(slug)).is_some_and(|now| Arc::ptr_eq(now, lineage))
            })
    }

    /// The projects below these, these themselves left out.
    pub fn below(&self, projects: &[String]) -> Vec<String> {
        let is_below = |lineage: &Lineage| projects.iter().any(|project| lineage.stands_below(project));
        self.read(|inner| {
            let found = inner.lineages.iter().filter(|(_, lineage)| is_below(lineage));
            found.map(|(slug, _)| slug.clone()).collect()
        })
    }

    /// Takes in a project that was just committed. What is in flight below one that was stopped is told to stop.
    pub(super) fn changed(&self, project: &Project) {
        self.write(|inner| inner.put(project));
    }

    /// The projects in which requests are admitted.
    pub(super) fn admitting(&self) -> HashSet<String> {
        self.read(|inner| {
            let admitting = inner.lineages.iter().filter(|(_, lineage)| !lineage.stopped.is_cancelled());
            admitting.map(|(slug, _)| slug.clone()).collect()
        })
    }

    /// Whether there are projects in which none is.
    pub(super) fn is_any_stopped(&self) -> bool {
        self.read(|inner| inner.lineages.values().any(|lineage| lineage.stopped.is_cancelled()))
    }

    /// Takes in all projects as they were read: those that can be used. Whether one is not there any more.
    pub(super) fn replace(&self, projects: &[Project]) -> bool {
        let there: HashSet<&str> = projects
            .iter()
            .filter(|project| project.state != ProjectState::Deleted)
            .map(|project| project.definition.slug.as_str())
            .collect();
        self.write(|inner| {
            let gone = inner.nodes.extract_if(|slug, _| !there.contains(slug.as_str()));
            let gone: Vec<_> = gone.map(|(slug, node)| (slug, Arc::clone(&node.rates))).collect();
            let some_went = !gone.is_empty();
            inner.counted.extend(gone);
            for project in projects {
                inner.put(project);
            }
            some_went
        })
    }

    fn read<T>(&self, look: impl FnOnce(&Inner) -> T) -> T {
        look(&self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        // What panics half-way leaves lineages that are not current.
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let told = change(&mut inner);
        inner.draw_lines();
        told
    }
}

impl Inner {
    fn put(&mut self, project: &Project) {
        let slug = &project.definition.slug;
        if project.state == ProjectState::Deleted {
            self.nodes.remove(slug);
            self.counted.remove(slug);
            return;
        }
        let old = self.nodes.get(slug);
        if old.is_none_or(|old| old.project.version != project.version) {
            let rates = old.map(|old| Arc::clone(&old.rates)).or_else(|| self.counted.remove(slug));
            let node = Node::new(project.clone(), rates.as_deref());
            self.nodes.insert(slug.clone(), Arc::new(node));
        }
    }

    /// Draws each lineage anew that is not as it was, and stops what is below a project that is stopped.
    fn draw_lines(&mut self) {
        let mut before = std::mem::take(&mut self.lineages);
        for slug in self.nodes.keys() {
            let (nodes, standing) = self.way_up(slug);
            let old = before.remove(slug);
            if let Some(same) = old.as_ref().filter(|old| old.is_of(&nodes, &standing)) {
                self.lineages.insert(slug.clone(), Arc::clone(same));
                continue;
            }
            let stopped = old.map(|old| old.stopped.clone()).unwrap_or_default();
            let stopped = match standing {
                Standing::Active if stopped.is_cancelled() => CancellationToken::new(),
                Standing::Active => stopped,
                Standing::Suspended { .. } | Standing::Unusable { .. } => {
                    stopped.cancel();
                    stopped
                }
            };
            self.lineages.insert(slug.clone(), Arc::new(Lineage::new(nodes, standing, stopped)));
        }
        for gone in before.into_values() {
            gone.stopped.cancel();
        }
    }

    /// The project and those above it, and what they come to.
    fn way_up(&self, slug: &str) -> (Vec<Arc<Node>>, Standing) {
        let (mut nodes, mut standing, mut next) = (Vec::new(), Standing::Active, Some(slug));
        while let Some(slug) = next {
            let Some(node) = self.nodes.get(slug).filter(|_| nodes.len() < DEPTH_MAX) else {
                return (nodes, Standing::Unusable { project: slug.to_owned() });
            };
            if standing == Standing::Active && node.project.state != ProjectState::Active {
                standing = Standing::Suspended { project: slug.to_owned() };
            }
            nodes.push(Arc::clone(node));
            next = node.project.definition.parent.as_deref();
        }
        (nodes, standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subkey::ProjectDefinition;
    use chrono::DateTime;

    fn project(slug: &str, parent: Option<&str>, version: i64, state: ProjectState) -> Project {
        let definition =
            ProjectDefinition { parent: parent.map(str::to_owned), ..ProjectDefinition::named(slug, None) };
        Project { definition, state, version, created_at: DateTime::UNIX_EPOCH }
    }

    fn forest() -> Forest {
        let forest = Forest::default();
        let active = ProjectState::Active;
        let all = [
            project("top", None, 1, active),
            project("mid", Some("top"), 1, active),
            project("leaf", Some("mid"), 1, active),
            project("other", None, 1, active),
        ];
        forest.replace(&all);
        forest
    }

    #[test]
    fn what_is_below_a_stopped_project_stops_and_nothing_else() {
        let forest = forest();
        let all = ["top", "mid", "leaf", "other"].map(|slug| forest.lineage(slug));
        assert!(all.iter().all(|one| forest.is_current(one) && !one.stopped.is_cancelled()));
        forest.changed(&project("mid", Some("top"), 2, ProjectState::Suspended));
        assert_eq!(all.each_ref().map(|one| one.stopped.is_cancelled()), [false, true, true, false]);
        assert_eq!(all.each_ref().map(|one| forest.is_current(one)), [true, false, false, true]);
        let leaf = forest.lineage("leaf");
        assert_eq!(leaf.standing(), &Standing::Suspended { project: "mid".into() });
        forest.changed(&project("mid", Some("top"), 3, ProjectState::Active));
        let leaf = forest.lineage("leaf");
        assert!(forest.is_current(&leaf) && !leaf.stopped.is_cancelled());
        assert!(all[2].stopped.is_cancelled(), "what was cut stays cut");
    }

    #[test]
    fn what_was_admitted_before_a_project_moved_stops_with_its_new_parents() {
        let forest = forest();
        let leaf = forest.lineage("leaf");
        forest.changed(&project("leaf", Some("other"), 2, ProjectState::Active));
        assert!(!leaf.stopped.is_cancelled() && !forest.is_current(&leaf));
        forest.changed(&project("other", None, 2, ProjectState::Suspended));
        assert!(leaf.stopped.is_cancelled());
    }

    #[test]
    fn a_project_that_is_not_known_admits_nothing() {
        let forest = forest();
        let leaf = forest.lineage("leaf");
        forest.replace(&[
            project("mid", Some("top"), 1, ProjectState::Active),
            project("leaf", Some("mid"), 1, ProjectState::Active),
        ]);
        assert!(leaf.stopped.is_cancelled());
        for slug in ["leaf", "mid", "top", "nobody"] {
            let lineage = forest.lineage(slug);
            assert!(matches!(lineage.standing(), Standing::Unusable { .. }), "{slug}");
            assert!(!forest.is_current(&lineage) && lineage.stopped.is_cancelled());
        }
        forest.changed(&project("top", None, 1, ProjectState::Active));
        assert_eq!(forest.lineage("leaf").standing(), &Standing::Active);
        forest.changed(&project("leaf", None, 2, ProjectState::Deleted));
        assert!(matches!(forest.lineage("leaf").standing(), Standing::Unusable { .. }));
    }

    #[test]
    fn what_a_project_counted_outlasts_its_being_unusable_for_a_while() {
        let limited = |version| {
            let mut one = project("top", None, version, ProjectState::Active);
            let limit = serde_json::json!([{"metric": "requests", "limit": 1, "per": "day"}]);
            one.definition.rate_limits = serde_json::from_value(limit).unwrap();
            one
        };
        let enter = |forest: &Forest| {
            let metered: Vec<_> = forest.lineage("top").metered().collect();
            let entered = crate::service::InFlight::enter(&metered, DateTime::UNIX_EPOCH);
            entered.map(|mut sent| sent.mark_sent()).is_ok()
        };
        let forest = Forest::default();
        forest.replace(&[limited(1)]);
        assert!(enter(&forest) && !enter(&forest));
        forest.replace(&[]);
        assert!(matches!(forest.lineage("top").standing(), Standing::Unusable { .. }));
        for version in [1, 2] {
            forest.replace(&[limited(version)]);
            assert!(!enter(&forest), "it opens no fresh window");
        }
    }

    #[test]
    fn below_is_everything_below() {
        let mut below = forest().below(&["top".to_owned()]);
        below.sort();
        assert_eq!(below, ["leaf", "mid"]);
        assert_eq!(forest().below(&["leaf".to_owned(), "nobody".to_owned()]), [""; 0]);
    }

    #[test]
    fn what_did_not_change_keeps_its_lineage() {
        let forest = forest();
        let leaf = forest.lineage("leaf");
        forest.changed(&project("other", None, 2, ProjectState::Active));
        forest.changed(&project("leaf", Some("mid"), 1, ProjectState::Active));
        assert!(forest.is_current(&leaf));
        forest.changed(&project("top", None, 2, ProjectState::Active));
        assert!(!forest.is_current(&leaf));
        assert!(!leaf.stopped.is_cancelled());
    }
}
