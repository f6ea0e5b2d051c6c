//! A project: a node of the tree that owns sub-keys. What it sets binds everything below it.
//!
//! Its document is validated as a whole; that the tree stays a tree is [`Project::check_place`].

use super::ceiling::moment;
use super::definition::{validate_budgets, validate_new_budgets, validate_rates};
use super::{Ceiling, Definition, DefinitionError, Excess};
use crate::budget::{BudgetSpec, RateLimit};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

/// The root that always exists.
pub const DEFAULT_PROJECT: &str = "default";
/// Projects on the way from a root to a leaf, both counted.
pub const DEPTH_MAX: usize = 8;
/// Projects there may be.
pub const PROJECTS_MAX: usize = 10_000;

/// The document of a project. Fields and defaults are the contract's; unknown ones are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectDefinition {
    /// Names it for ever: lower-case letters, digits and hyphens.
    pub slug: String,
    /// For people; the slug where there is none.
    #[serde(default)]
    pub name: Option<String>,
    /// Who answers for it.
    #[serde(default)]
    pub owner: Option<String>,
    /// The project above it; a root has none.
    #[serde(default)]
    pub parent: Option<String>,
    /// Caps on everything below it together; at most one for each window.
    #[serde(default)]
    pub budgets: Vec<BudgetSpec>,
    /// Rates of everything below it together.
    #[serde(default)]
    pub rate_limits: Vec<RateLimit>,
    /// Named policies that apply too.
    #[serde(default)]
    pub policies: Vec<Value>,
    /// What no sub-key below it may exceed.
    #[serde(default)]
    pub ceiling: Option<Ceiling>,
    /// How long a sub-key below it lives at most, from its minting on.
    #[serde(default)]
    pub max_subkey_ttl_seconds: Option<u64>,
    /// Fields of sub-keys that say nothing of them at mint.
    #[serde(default)]
    pub defaults: Map<String, Value>,
}

/// A project as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// What it sets.
    pub definition: ProjectDefinition,
    /// Whether an operator has stopped it.
    pub state: ProjectState,
    /// Counts the changes; 1 at first.
    pub version: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// What operators have made of a project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectState {
    /// Its keys are usable.
    Active,
    /// Nothing below it is admitted.
    Suspended,
    /// Gone; kept because revoked keys and what was spent name it.
    Deleted,
}

impl ProjectState {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Deleted => "deleted",
        }
    }

    /// Reads the word back.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Active, Self::Suspended, Self::Deleted].into_iter().find(|state| state.as_str() == text)
    }
}

impl ProjectDefinition {
    /// A project that sets nothing.
    pub fn named(slug: impl Into<String>, name: Option<String>) -> Self {
        Self {
            slug: slug.into(),
            name,
            owner: None,
            parent: None,
            budgets: Vec::new(),
            rate_limits: Vec::new(),
            policies: Vec::new(),
            ceiling: None,
            max_subkey_ttl_seconds: None,
            defaults: Map::new(),
        }
    }

    /// Its name for people.
    pub fn shown_name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.slug)
    }

    /// Checks what types alone cannot.
    pub fn validate(&self) -> Result<(), DefinitionError> {
        if !is_slug(&self.slug) {
            return wrong("/slug", "1 to 63 lower-case letters, digits and hyphens, and no hyphen first");
        }
        if let Some(name) = &self.name {
            let fits = (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
            if !fits || name.trim() != name {
                return wrong(
                    "/name",
                    "a name has 1 to 128 bytes, no control characters and no spaces around it",
                );
            }
        }
        if self.owner.as_ref().is_some_and(|text| text.len() > 1024 || text.contains('\0')) {
            return wrong("/owner", "at most 1,024 bytes, and no NUL");
        }
        if self.slug == DEFAULT_PROJECT && self.parent.is_some() {
            return wrong("/parent", "the project default is a root");
        }
        if self.parent.as_ref() == Some(&self.slug) {
            return wrong("/parent", "a project is not its own parent");
        }
        validate_budgets(&self.budgets)?;
        validate_rates(&self.rate_limits)?;
        if !self.policies.is_empty() {
            return wrong("/policies/0", "this version has no named policies; leave the list empty");
        }
        if let Some(ceiling) = &self.ceiling {
            ceiling.validate().map_err(|error| within("/ceiling", error))?;
        }
        if self.max_subkey_ttl_seconds.is_some_and(|seconds| seconds == 0 || seconds > TTL_SECONDS_MAX) {
            return wrong("/max_subkey_ttl_seconds", "1 to 3153600000 seconds");
        }
        self.validate_defaults()
    }

    /// Checks what only a new definition has to keep to: what is told of budgets and never set.
    pub fn validate_new(&self) -> Result<(), DefinitionError> {
        self.validate()?;
        validate_new_budgets(&self.budgets)
    }

    /// The defaults have to make a sense by themselves, in a sub-key that says nothing else.
    fn validate_defaults(&self) -> Result<(), DefinitionError> {
        if let Some(field) = ["name", "project"].into_iter().find(|field| self.defaults.contains_key(*field))
        {
            return wrong(&format!("/defaults/{field}"), "each sub-key says this itself");
        }
        let mut document = self.defaults.clone();
        document.insert("name".to_owned(), Value::from("name"));
        document.entry("models").or_insert_with(|| Value::Array(Vec::new()));
        let read = serde_path_to_error::deserialize::<_, Definition>(Value::Object(document));
        let definition = read.map_err(|error| {
            let detail = error.inner().to_string();
            DefinitionError { field: pointer(error.path()), detail }
        });
        definition
            .and_then(|definition| definition.validate_new())
            .map_err(|error| within("/defaults", error))
    }

    /// The latest expiry of a sub-key that was minted at `minted_at`; `None` when it may have none.
    pub fn latest_expiry(&self, minted_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let seconds = i64::try_from(self.max_subkey_ttl_seconds?).ok()?;
        minted_at.checked_add_signed(TimeDelta::try_seconds(seconds)?)
    }

    /// Where a definition exceeds what the project allows: its ceiling, and how long a sub-key lives.
    pub fn excesses(&self, definition: &Definition, minted_at: DateTime<Utc>) -> Vec<Excess> {
        let mut found = self.ceiling.as_ref().map(|ceiling| ceiling.excesses(definition)).unwrap_or_default();
        if let Some(latest) = self.latest_expiry(minted_at)
            && definition.expires_at.is_none_or(|end| end > latest)
        {
            found.push(Excess { field: "/expires_at", allowed: format!("{} or sooner", moment(latest)) });
        }
        found
    }
}

impl Project {
    /// Whether the project can stand where its definition says, among all projects as they are: its parent exists, is
    /// not below it, and no way down from a root gets too long.
    pub fn check_place<'p>(
        definition: &ProjectDefinition,
        all: impl Fn(&str) -> Option<&'p Self>,
        children: impl Fn(&str) -> Vec<&'p str>,
    ) -> Result<(), DefinitionError> {
        let (mut above, mut next) = (0, definition.parent.as_deref());
        while let Some(slug) = next {
            if slug == definition.slug {
                return wrong("/parent", "this project is above that one; the tree would have a circle");
            }
            let Some(parent) = all(slug).filter(|project| project.state != ProjectState::Deleted) else {
                return wrong("/parent", "there is no project of this slug");
            };
            above += 1;
            if above >= DEPTH_MAX {
                break;
            }
            next = parent.definition.parent.as_deref();
        }
        let mut below = 0;
        let mut level = children(&definition.slug);
        while !level.is_empty() && above + below < DEPTH_MAX {
            below += 1;
            level = level.iter().flat_map(|slug| children(slug)).collect();
        }
        if above + 1 + below > DEPTH_MAX {
            return wrong("/parent", "projects stand at most 8 deep");
        }
        Ok(())
    }
}

/// A hundred years.
const TTL_SECONDS_MAX: u64 = 3_153_600_000;

fn is_slug(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}

fn wrong<T>(field: &str, detail: &str) -> Result<T, DefinitionError> {
    Err(DefinitionError { field: field.to_owned(), detail: detail.to_owned() })
}

fn within(place: &str, error: DefinitionError) -> DefinitionError {
    DefinitionError { field: format!("{place}{}", error.field), ..error }
}

/// RFC 6901. Keys of ours need no escapes, and others are cut.
fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter().fold(String::new(), |pointer, segment| match segment {
        Segment::Seq { index } => format!("{pointer}/{index}"),
        Segment::Map { key } => format!("{pointer}/{}", crate::base::clip(key, 28)),
        Segment::Enum { .. } | Segment::Unknown => pointer,
    })
}

#[cfg(test)]
mod tests;
