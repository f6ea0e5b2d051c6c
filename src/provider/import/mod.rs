//! Price lists that others keep, read as models of ours: LiteLLM's price map, models.dev's `api.json`, OpenRouter's model
//! list.
//!
//! Nothing is dropped silently. A price that we have no field for is named in [`Import::unmapped`], what had to be taken
//! for something dearer in [`Import::approximated`], and models of providers that are not here are counted in
//! [`Import::skipped`]. Amounts are read from their text, never through floats, and rounded up. A price of 0 beside the
//! price of its direction means "not billed apart" in these lists, so it is left out, and the class costs the dearest.

mod class;
mod draft;
mod litellm;
mod merge;
mod models_dev;
mod openrouter;

use merge::dearer;
pub use merge::{Change, changes, merged, zeros_over_prices};

use super::model::ModelDocument;
use super::slug::Slug;
use crate::base::clip;
use crate::base::json::{Document, JsonError, Kind, Limits, Value};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a price list may hold: the largest known has about half a million values.
const LIMITS: Limits = Limits { depth: 32, nodes: 3_000_000, prune: &["description", "benchmarks"] };

/// Whose format a price list has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// LiteLLM's `model_prices_and_context_window.json`.
    Litellm,
    /// The `api.json` of models.dev.
    ModelsDev,
    /// OpenRouter's `GET /api/v1/models`.
    Openrouter,
}

impl Source {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Litellm => "litellm",
            Self::ModelsDev => "models_dev",
            Self::Openrouter => "openrouter",
        }
    }

    /// Whose the list is by what stands in it; `None` for what is none of them.
    ///
    /// # Errors
    /// What is not JSON.
    pub fn guess(text: &str) -> Result<Option<Self>, ImportError> {
        let document = Document::parse(text.as_bytes(), LIMITS).map_err(|error| not_json(text, error))?;
        let root = document.root();
        if root.get("data").is_some_and(|data| data.kind() == Kind::Array) {
            return Ok(Some(Self::Openrouter));
        }
        let mut entries = root.members().map(|member| member.value);
        Ok(entries.find_map(|entry| {
            let is_litellm = entry.get("litellm_provider").is_some_and(|name| name.kind() == Kind::String);
            let is_models_dev = entry.get("models").is_some_and(|models| models.kind() == Kind::Object);
            is_litellm.then_some(Self::Litellm).or(is_models_dev.then_some(Self::ModelsDev))
        }))
    }
}

/// What of a list is wanted, and which provider of ours each provider of it is.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// As the caller says; goes first.
    pub named: BTreeMap<String, Slug>,
    /// The providers that are here.
    pub registered: BTreeSet<Slug>,
    /// Only models like these: `openai/gpt-4o`, or `openai/*`. Empty is all.
    pub only: Vec<String>,
}

/// What the lists call providers that have another slug here.
const OTHER_NAMES: [(&str, &str); 4] =
    [("text-completion-openai", "openai"), ("google", "gemini"), ("dashscope", "qwen"), ("alibaba", "qwen")];

impl Selection {
    fn provider(&self, name: &str) -> Option<Slug> {
        if let Some(slug) = self.named.get(name) {
            return Some(slug.clone());
        }
        let other = OTHER_NAMES.iter().find(|(other, _)| *other == name).map(|(_, slug)| *slug);
        self.registered.get(other.unwrap_or(name)).cloned()
    }

    fn wants(&self, provider: &Slug, name: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => format!("{provider}/{name}").starts_with(start),
            None => {
                pattern.strip_prefix(provider.as_str()).and_then(|rest| rest.strip_prefix('/')) == Some(name)
            }
        };
        self.only.is_empty() || self.only.iter().any(fits)
    }
}

/// A price list as models of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The models, by provider and name.
    pub models: Vec<Imported>,
    /// What of the list has no place here.
    pub unmapped: Vec<Remark>,
    /// What was taken for something dearer.
    pub approximated: Vec<Remark>,
    /// How many models of providers that are not here, by the provider's name in the list.
    pub skipped: BTreeMap<String, u64>,
}

/// A model of a list. What the list says nothing of is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Our provider.
    pub provider: Slug,
    /// The name that is sent to the provider.
    pub name: String,
    /// What the list says.
    pub document: ModelDocument,
}

/// Something that has to be said about a model of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// The model as the list names it.
    pub model: String,
    /// The field of the list that it is about; `None` for the whole model, which then is not imported.
    pub field: Option<String>,
    /// What is to be said.
    pub why: String,
}

/// Why a list is not read. Nothing of it counts then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is not JSON that everybody reads the same way.
    #[error("line {line}, column {column}: {error}")]
    NotJson {
        /// Where, from 1.
        line: usize,
        /// Where in the line, in bytes from 1.
        column: usize,
        /// What is wrong.
        error: JsonError,
    },
    /// It is JSON of another shape.
    #[error("{field}: {why}")]
    Shape {
        /// A JSON pointer into the list.
        field: String,
        /// What should stand there.
        why: &'static str,
    },
}

/// Reads a list.
///
/// # Errors
/// What is not JSON, or not of the source's shape. One odd model is a remark, not an error.
pub fn read(source: Source, text: &str, selection: &Selection) -> Result<Import, ImportError> {
    let document = Document::parse(text.as_bytes(), LIMITS).map_err(|error| not_json(text, error))?;
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(ImportError::Shape { field: String::new(), why: "a JSON object should stand there" });
    }
    let mut import = Import::default();
    match source {
        Source::Litellm => litellm::read(root, selection, &mut import)?,
        Source::ModelsDev => models_dev::read(root, selection, &mut import)?,
        Source::Openrouter => openrouter::read(root, selection, &mut import)?,
    }
    import.settle();
    Ok(import)
}

fn not_json(text: &str, error: JsonError) -> ImportError {
    let at = error.at().unwrap_or(0).min(text.len());
    let before = &text.as_bytes()[..at];
    let line = memchr::memchr_iter(b'\n', before).count() + 1;
    let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1) + 1;
    ImportError::NotJson { line, column, error }
}

impl Import {
    /// A model that is not imported.
    fn leave_out(&mut self, model: &str, why: impl Into<String>) {
        self.unmapped.push(Remark { model: clip(model, 256), field: None, why: why.into() });
    }

    fn skip(&mut self, provider: &str) {
        *self.skipped.entry(clip(provider, 64)).or_default() += 1;
    }

    /// Brings the models into order. Of two entries for one model that differ each price is the dearer.
    fn settle(&mut self) {
        let mut models: BTreeMap<(Slug, String), ModelDocument> = BTreeMap::new();
        for Imported { provider, name, document } in std::mem::take(&mut self.models) {
            match models.entry((provider, name)) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(document),
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    if *entry.get() == document {
                        continue;
                    }
                    let (provider, name) = entry.key();
                    self.approximated.push(Remark {
                        model: format!("{provider}/{name}"),
                        field: None,
                        why: "the list has it twice, and not the same; of each price the dearer is taken"
                            .to_owned(),
                    });
                    let both = dearer(entry.get(), &document);
                    entry.insert(both);
                }
            }
        }
        let imported = |((provider, name), document)| Imported { provider, name, document };
        self.models = models.into_iter().map(imported).collect();
    }
}

/// A name as it stands in a JSON pointer.
fn in_pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A text member that is not empty.
fn text(entry: Value<'_>, field: &str) -> Option<String> {
    entry.get(field)?.as_str().map(std::borrow::Cow::into_owned).filter(|text| !text.is_empty())
}

fn is_true(entry: Value<'_>, field: &str) -> bool {
    entry.get(field).and_then(Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests;
