//! A project and those above it, as a request is held against them: the nearest first.

use crate::base::NanoUsd;
use crate::policy::{Bounds, Ceiling, Scope};
use crate::provider::Slug;
use crate::service::{Hold, Metered, RateOwner, Rates};
use crate::store::budget::BudgetOwner;
use crate::subkey::{Project, ProjectDefinition};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// One project with what the hot path needs of it, computed once.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) project: Project,
    ceiling: Option<Ceiling>,
    pub(super) rates: Arc<Rates>,
}

/// A project and those above it.
#[derive(Debug)]
pub struct Lineage {
    nodes: Vec<Arc<Node>>,
    standing: Standing,
    ceilings: Vec<Ceiling>,
    versions: Arc<[(String, i64)]>,
    /// Cancelled when one of them is stopped; requests in flight listen to it.
    pub stopped: CancellationToken,
}

/// Whether anything is admitted below a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Active,
    /// An operator stopped this one.
    Suspended {
        /// Its slug.
        project: String,
    },
    /// This one is not there as Bitting wrote it.
    Unusable {
        /// Its slug.
        project: String,
    },
}

impl Node {
    /// The project as it is now; what its rates have counted goes on.
    pub(super) fn new(project: Project, counted: Option<&Rates>) -> Self {
        let ProjectDefinition { slug, ceiling, rate_limits, .. } = &project.definition;
        let scope = ceiling.as_ref().map(crate::subkey::Ceiling::scope);
        let ceiling = scope.map(|scope| Ceiling { project: slug.clone(), scope });
        let rates = match counted {
            Some(counted) => counted.carry_over(rate_limits.clone(), u64::MAX),
            None => Rates::new(rate_limits.clone(), u64::MAX),
        };
        Self { project, ceiling, rates: Arc::new(rates) }
    }
}

impl Lineage {
    pub(super) fn new(nodes: Vec<Arc<Node>>, standing: Standing, stopped: CancellationToken) -> Self {
        let ceilings = nodes.iter().filter_map(|node| node.ceiling.clone()).collect();
        let version = |node: &Arc<Node>| (node.project.definition.slug.clone(), node.project.version);
        let versions = nodes.iter().map(version).collect();
        Self { nodes, standing, ceilings, versions, stopped }
    }

    /// Whether it is made of these.
    pub(super) fn is_of(&self, nodes: &[Arc<Node>], standing: &Standing) -> bool {
        self.standing == *standing
            && self.nodes.len() == nodes.len()
            && self.nodes.iter().zip(nodes).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Whether anything is admitted.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// The project itself; `None` when it is not there.
    pub(super) fn slug(&self) -> Option<&str> {
        self.slugs().next()
    }

    /// The project and those above it, by slug.
    pub fn slugs(&self) -> impl Iterator<Item = &str> {
        self.definitions().map(|definition| definition.slug.as_str())
    }

    /// What they set.
    pub fn definitions(&self) -> impl Iterator<Item = &ProjectDefinition> {
        self.nodes.iter().map(|node| &node.project.definition)
    }

    /// Whether the project is this one or below it.
    pub fn is_within(&self, slug: &str) -> bool {
        self.slugs().any(|one| one == slug)
    }

    pub(super) fn stands_below(&self, slug: &str) -> bool {
        self.slugs().skip(1).any(|one| one == slug)
    }

    /// Slug and version of each: an admission is written only while these are the current ones.
    pub fn versions(&self) -> Arc<[(String, i64)]> {
        Arc::clone(&self.versions)
    }

    /// Whom bare model names prefer: a sub-key's own order, then what each project gives its keys.
    pub fn provider_order(&self, own: &[String]) -> Vec<Slug> {
        let given =
            self.definitions().filter_map(|project| project.defaults.get("provider_order")?.as_array());
        let given = given.flatten().filter_map(serde_json::Value::as_str);
        own.iter().map(String::as_str).chain(given).filter_map(|slug| slug.parse().ok()).collect()
    }

    /// A sub-key's scope under the ceilings.
    pub fn bounds<'a>(&'a self, own: &'a Scope) -> Bounds<'a> {
        Bounds::new(own, &self.ceilings)
    }

    /// The dearest single request that is admitted, at its worst case, and the project whose ceiling says so; `None` of a
    /// sub-key's own bound.
    pub fn request_cap(&self, own: Option<NanoUsd>) -> Option<(Option<&str>, NanoUsd)> {
        let own = own.map(|max| (None, max)).into_iter();
        own.chain(self.request_caps().map(|(project, max)| (Some(project), max))).min_by_key(|(_, max)| *max)
    }

    /// The ceilings' bounds on a single request, by project.
    pub fn request_caps(&self) -> impl Iterator<Item = (&str, NanoUsd)> {
        self.definitions().filter_map(|one| Some((one.slug.as_str(), one.ceiling.as_ref()?.max_request_usd?)))
    }

    /// Whether anything here caps what is spent: then whatever has no price is refused.
    pub fn is_capped(&self) -> bool {
        self.request_caps().next().is_some() || self.definitions().any(|one| !one.budgets.is_empty())
    }

    /// What `amount` takes from each budget at `now`: project by project upwards, each by window.
    pub fn holds(&self, now: DateTime<Utc>, amount: NanoUsd) -> impl Iterator<Item = Hold> {
        self.definitions().flat_map(move |one| {
            let owner = BudgetOwner::project(&one.slug);
            Hold::of_all(&owner, &one.budgets, now, amount)
        })
    }

    /// The rates of each, upwards.
    pub fn metered(&self) -> impl Iterator<Item = Metered> {
        self.nodes.iter().map(|node| Metered {
            owner: RateOwner::Project(node.project.definition.slug.clone()),
            rates: Arc::clone(&node.rates),
        })
    }
}
