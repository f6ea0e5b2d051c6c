//! The table of what can be asked for: method and path template on one side, operation on the other.
//!
//! A request that matches no row reaches nobody. Matching is exact on the raw path: nothing is decoded,
//! folded or cleaned up, so there is no second reading of a path. The one exception is a model in a
//! path, which is decoded strictly, once. What is sent upstream is the row's own path, never the
//! client's. A new operation is a row in `rows.rs`, a field list beside its reader, and a test.

mod query;
mod rows;
mod template;

pub use query::{Parameter, QueryError};
pub use rows::ROWS;
pub(in crate::provider) use template::encode;
pub use template::{Hole, Template};

use super::ask::{Ask, Field};
use super::{Dialect, ObjectKind, Slug};
use crate::policy::Operation;
use http::{HeaderMap, Method};

/// One thing that can be asked for.
#[derive(Debug)]
pub struct Row {
    /// What it does.
    pub operation: Operation,
    /// The dialect of request, answer and errors.
    pub dialect: Dialect,
    /// The method.
    pub method: Method,
    /// The path below the origin.
    pub template: Template,
    /// Where it goes, below the dialect's base URL (`OpenAI`'s includes `/v1`, the others do not); what the client's
    /// path names stands in its hole.
    pub upstream: Template,
    /// How its body reads.
    pub form: Form,
    /// What each known field of the body is.
    pub fields: &'static [Field],
    /// The query parameters that it can have; any other is refused.
    pub query: &'static [Parameter],
    /// What comes of it.
    pub effect: Effect,
    /// What its answer is made of, where it is no stream of events.
    pub answer: Answer,
}

/// What an answer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// JSON: read whole, then passed on.
    Json,
    /// An array of JSON that grows, as Google streams where it is not asked for events: passed on as it comes.
    Array,
    /// Bytes that mean nothing here: passed on as they come.
    Opaque,
    /// JSON where the content type says so, else a text that means nothing here: read whole, then passed on.
    Text,
}

/// What comes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A model is called, and the call is billed.
    Generates,
    /// Tokens are counted, which is free.
    Counts,
    /// Answered here, from the catalog.
    ListsModels,
    /// The provider keeps what is sent as an object of the kind; free.
    Keeps(ObjectKind),
    /// The object in the path is shown, or something of it; free.
    Shows(ObjectKind),
    /// Work on the object in the path is stopped; free.
    Stops(ObjectKind),
    /// The object in the path is deleted; free.
    Deletes(ObjectKind),
    /// Answered here, from our own record of what belongs to the key.
    Lists(ObjectKind),
    /// Known, and not served.
    NotServed,
}

impl Effect {
    /// The kind of the object that the path names.
    pub fn kind(self) -> Option<ObjectKind> {
        match self {
            Self::Shows(kind) | Self::Stops(kind) | Self::Deletes(kind) => Some(kind),
            Self::Generates
            | Self::Counts
            | Self::ListsModels
            | Self::Keeps(_)
            | Self::Lists(_)
            | Self::NotServed => None,
        }
    }
}

/// How a body reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// There is none.
    Empty,
    /// `OpenAI` chat completions.
    Chat,
    /// Legacy completions.
    Completions,
    /// Embeddings.
    Embeddings,
    /// Texts and pictures that are classified.
    Moderations,
    /// Anthropic messages and their token count.
    Messages,
    /// A response, or what is counted of one.
    Responses,
    /// What is made shorter of a response.
    Compaction,
    /// Google's generation.
    Generate,
    /// Google's count of tokens.
    GeminiCount,
    /// One of Google's embeddings.
    Embed,
    /// Several of Google's embeddings.
    EmbedBatch,
    /// Pictures to be made of a text.
    Images,
    /// A text to be read aloud.
    Speech,
    /// A form of several parts.
    Parts(Parts),
}

impl Form {
    /// Whether a body that names no model is refused, where the path names none either. Elsewhere the provider takes a
    /// model of its own.
    pub fn needs_model(self) -> bool {
        match self {
            Self::Moderations => false,
            Self::Parts(parts) => parts.needs_model(),
            Self::Empty
            | Self::Chat
            | Self::Completions
            | Self::Embeddings
            | Self::Messages
            | Self::Responses
            | Self::Compaction
            | Self::Generate
            | Self::GeminiCount
            | Self::Embed
            | Self::EmbedBatch
            | Self::Images
            | Self::Speech => true,
        }
    }
}

/// How a body of several parts (`multipart/form-data`) reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parts {
    /// A file to keep.
    Upload,
    /// Pictures to be changed.
    ImageEdit,
    /// A picture to be made anew.
    ImageVariation,
    /// A sound to be written down.
    Transcript,
}

impl Parts {
    /// Whether it is refused without a model.
    pub fn needs_model(self) -> bool {
        match self {
            Self::Upload => false,
            // What a provider takes where none is named changes with the years.
            Self::ImageEdit | Self::ImageVariation | Self::Transcript => true,
        }
    }
}

/// A row that a request matched, and what its path says.
#[derive(Debug)]
pub struct Matched<'p> {
    /// The row.
    pub row: &'static Row,
    /// The provider that the path names (`/p/{provider}/...`): a well-formed slug, known or not.
    pub provider: Option<&'p str>,
    /// What stands in the template's hole, decoded; empty where it has none.
    named: String,
    /// The path is one of Azure's.
    pub is_azure: bool,
}

/// Finds the row of a request; `None` is an unknown operation. `path` is the raw path without query;
/// `spoken` is [`Dialect::spoken`], which decides only where dialects share a path.
pub fn find<'p>(method: &Method, path: &'p str, spoken: Dialect) -> Option<Matched<'p>> {
    let (provider, below) = split_provider(path)?;
    let (is_azure_v1, below) = split_azure(below);
    let spoken = if is_azure_v1 { Dialect::OpenAi } else { spoken };
    let mut found: Option<Matched<'p>> = None;
    for row in ROWS.iter().filter(|row| row.method == *method) {
        if is_azure_v1 && row.dialect != Dialect::OpenAi {
            continue;
        }
        let Some(named) = row.template.read(below) else { continue };
        let is_azure = is_azure_v1 || row.template.hole() == Some(Hole::Deployment);
        // A path that dialects share goes by what the headers speak; any other by the only row it has.
        if found.is_none() || row.dialect == spoken {
            let is_decided = row.dialect == spoken;
            found = Some(Matched { row, provider, named, is_azure });
            if is_decided {
                break;
            }
        }
    }
    found
}

/// Whether any method and dialect could match the path, by WebSocket too.
pub fn is_known_path(path: &str) -> bool {
    split_provider(path).is_some_and(|(_, below)| {
        let (_, below) = split_azure(below);
        rows::WEBSOCKETS.contains(&below) || ROWS.iter().any(|row| row.template.read(below).is_some())
    })
}

impl Dialect {
    /// The dialect that a request's headers speak.
    pub fn spoken(headers: &HeaderMap) -> Self {
        if headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else if headers.contains_key("x-goog-api-key") {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }
}

impl Row {
    /// Whether the client's output bound has a field, so that one can be given or lowered.
    pub fn takes_bound(&self) -> bool {
        let writes =
            matches!(self.operation, Operation::Chat | Operation::Completions | Operation::Responses);
        writes && self.effect == Effect::Generates && self.form != Form::Compaction
    }

    /// Whether a response that is kept is what its answer tells.
    pub fn shows_response(&self) -> bool {
        matches!(self.effect, Effect::Shows(ObjectKind::Response) | Effect::Stops(ObjectKind::Response))
    }

    /// Whether it costs nothing at the provider.
    pub fn is_free(&self) -> bool {
        self.effect != Effect::Generates
    }
}

impl Matched<'_> {
    /// The model that the path names, decoded; a deployment stands for one.
    pub fn model(&self) -> Option<&str> {
        self.named_by(|hole| matches!(hole, Hole::Model | Hole::Deployment))
    }

    /// Whether there is a model to be found, in the path or in a body that says this: what is done with an object is done
    /// wherever that is, and some operations leave the model to the provider.
    pub fn names_model(&self, ask: &Ask) -> bool {
        self.model().is_some() || !ask.models.is_empty()
    }

    /// The object that the path names.
    pub fn object(&self) -> Option<&str> {
        self.named_by(|hole| hole == Hole::Object)
    }

    /// The path to send upstream, below the dialect's base URL. `model` is the name to send where the path names one.
    pub fn upstream_path(&self, model: &str) -> String {
        match self.row.upstream.hole() {
            Some(Hole::Object) => self.row.upstream.path(&self.named),
            Some(Hole::Model | Hole::Deployment) | None => self.row.upstream.path(model),
        }
    }

    fn named_by(&self, is_it: impl Fn(Hole) -> bool) -> Option<&str> {
        self.row.template.hole().filter(|hole| is_it(*hole)).map(|_| self.named.as_str())
    }
}

/// `/p/{provider}/rest` apart; other paths name no provider. `None` for a malformed slug.
fn split_provider(path: &str) -> Option<(Option<&str>, &str)> {
    let Some(named) = path.strip_prefix("/p/") else { return Some((None, path)) };
    let (slug, _) = named.split_once('/')?;
    slug.parse::<Slug>().is_ok().then(|| (Some(slug), &named[slug.len()..]))
}

/// Azure's newer paths, `/openai/v1/...`, are those of `OpenAI` behind a prefix.
fn split_azure(path: &str) -> (bool, &str) {
    match path.strip_prefix("/openai").filter(|below| below.starts_with("/v1/")) {
        Some(below) => (true, below),
        None => (false, path),
    }
}

#[cfg(test)]
mod tests;
