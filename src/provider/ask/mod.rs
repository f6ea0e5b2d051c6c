//! The ask: all of a request that policy, price and forwarding need to know, read once from its body.
//!
//! Reading never changes the body. What must change is named by byte range ([`Splice`]) and put in
//! when the request is forwarded, so every other byte reaches the provider as the application wrote it.

mod beta;
mod chat;
mod completions;
mod embeddings;
mod error;
mod escaped;
mod field;
mod form;
mod gemini;
mod gemini_embeddings;
mod image_form;
mod images;
mod measure;
mod messages;
mod moderations;
mod multipart;
mod part;
mod plain;
mod proto;
mod read;
mod responses;
mod speech;
mod splice;
mod tool;
mod transcript;
mod upload;

pub use beta::{BETA_HEADERS, betas_beyond};
pub use chat::CHAT;
pub use completions::COMPLETIONS;
pub use embeddings::EMBEDDINGS;
pub use error::{AskError, FieldProblem};
pub use field::{Field, Role};
pub use gemini::{COUNT_TOKENS, GENERATE};
pub use gemini_embeddings::{EMBED, EMBED_BATCH};
pub use image_form::{IMAGE_EDIT, IMAGE_VARIATION};
pub use images::IMAGES;
pub use messages::MESSAGES;
pub use moderations::MODERATIONS;
pub use multipart::{HeadProblem, Multipart, MultipartError, Part};
pub use plain::Plain;
pub use read::{is_in_parts, is_model_name, read, read_body};
pub use responses::RESPONSES;
pub use speech::SPEECH;
#[cfg(test)]
pub use splice::splice;
pub use splice::{SpliceError, pieces};
pub use transcript::{TRANSCRIPTION, TRANSLATION};
pub use upload::{UPLOAD, UPLOAD_ANTHROPIC};

use super::ObjectKind;
use crate::policy::FeatureSet;
use std::ops::Range;

/// What one request asks for.
#[expect(clippy::struct_excessive_bools, reason = "facts of a request, each by itself")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// Every place in which the body names the model; none where it names none (the path may).
    pub models: Vec<ModelField>,
    /// Where the body has a place for the model and leaves it open: the byte range of the `null` or empty string.
    pub open_model: Option<Range<usize>>,
    /// The answer is wanted as a stream.
    pub stream: bool,
    /// The work is to go on whether or not anybody waits for it; its use is told when it is read.
    pub in_background: bool,
    /// The features that the request uses.
    pub features: FeatureSet,
    /// Tools that the provider would execute.
    pub hosted_tools: Vec<HostedTool>,
    /// The beta values asked for, in lower case.
    pub betas: Vec<String>,
    /// The beta values that the provider's own headers add to those asked for.
    pub set_betas: Vec<SetBeta>,
    /// The service tier asked for.
    pub service_tier: Option<String>,
    /// The speed asked for (Anthropic's `speed`).
    pub speed: Option<String>,
    /// The region asked for (Anthropic's `inference_geo`).
    pub region: Option<String>,
    /// The bounds on the output that the request states.
    pub output: OutputAsk,
    /// What the request wants of pictures or sound, where that is its operation.
    pub media: Option<Media>,
    /// How much input the request carries.
    pub input: InputMeasure,
    /// Fields that change the price and for which no bound is known; refused under a cap.
    pub unbounded_prices: Vec<String>,
    /// Objects kept by the provider that the request names (file, conversation, container, ...): each must be the caller's.
    pub objects: Vec<Named>,
    /// Ids that stand beside what they name: none may be somebody else's.
    pub mentions: Vec<String>,
    /// Top-level fields that no list knows; refused under `strict_fields`.
    pub unknown_fields: Vec<String>,
    /// What to put in so that a stream reports its usage; `None` when it will by itself.
    pub report_usage: Option<Splice>,
    /// Where an output bound can be put that the request does not state, if that is not a member of the body itself.
    pub bound_slot: Option<BoundSlot>,
    /// Output bounds given as `null`: they bound nothing, but one put in must take the place of the `null`.
    pub null_bounds: Vec<NullBound>,
    /// Where a new member can be put into the body's object: just after its `{`.
    pub insert_at: usize,
    /// The body's object has no members, so an inserted one takes no comma after it.
    pub is_empty_object: bool,
    /// What separates the parts, where the body is a form.
    pub boundary: Option<String>,
    /// The body is a form that is escaped as URLs are.
    pub is_escaped: bool,
}

/// An object that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The field that names it.
    pub field: String,
    /// Its id.
    pub id: String,
    /// What it must be, where the field says so.
    pub kind: Option<ObjectKind>,
}

/// The model as written, and where it stands in the body: a JSON string with its quotes, or the plain text of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelField {
    /// The unescaped text, without the prefix.
    pub name: String,
    /// What stands before the name: Google's `models/`.
    pub prefix: &'static str,
    /// The byte range of the value in the body.
    pub span: Range<usize>,
    /// It is written as a JSON string.
    pub is_json: bool,
}

/// A beta value that an operator has a provider asked for with every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetBeta {
    /// The header that carries it.
    pub header: &'static str,
    /// In lower case.
    pub value: String,
}

/// A tool that the provider executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedTool {
    /// Its kind without version or date: `web_search`, `code_interpreter`, `file_search`, `mcp`, ...
    pub kind: String,
    /// How often the provider may call it, where the request bounds that.
    pub max_uses: Option<u64>,
}

/// What the request says about its output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputAsk {
    /// Every output bound stated: field, tokens, and where the number stands in the body.
    pub bounds: Vec<Bound>,
    /// How many candidates are generated and billed (`n`, `best_of`, prompts in an array); at least 1.
    pub candidates: u64,
    /// Sound is wanted; its tokens count within the bounds.
    pub sound: bool,
    /// Of the candidates only the best are given out.
    pub is_withheld: bool,
    /// What a candidate may come to whatever bounds are stated: a budget for thinking that is larger than they are.
    pub floor: u64,
}

impl Default for OutputAsk {
    fn default() -> Self {
        Self { bounds: Vec::new(), candidates: 1, sound: false, is_withheld: false, floor: 0 }
    }
}

/// What an operation on pictures or sound is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// Pictures are made.
    Pictures(PicturesAsk),
    /// A text is read aloud.
    Speech {
        /// Its Unicode scalar values.
        characters: u64,
    },
    /// A sound is written down.
    Hearing,
}

/// The pictures that are to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PicturesAsk {
    /// How many.
    pub count: u64,
    /// How often each is shown before it is done.
    pub partial: u64,
    /// Their size, where it is named.
    pub size: Option<String>,
    /// Their quality, where it is named.
    pub quality: Option<String>,
}

/// One stated output bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The field that states it.
    pub field: &'static str,
    /// Tokens.
    pub tokens: u64,
    /// The byte range of the number in the body.
    pub span: Range<usize>,
}

/// An output bound that is stated as `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NullBound {
    /// The field.
    pub field: &'static str,
    /// The byte range of the `null` in the body.
    pub span: Range<usize>,
}

/// A place for an output bound inside another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundSlot {
    /// The field, for `x-bitting-changed`.
    pub field: &'static str,
    /// The byte range replaced; empty for an insertion.
    pub span: Range<usize>,
    /// What is written before the number.
    pub before: String,
    /// What is written after it.
    pub after: String,
}

/// How much input a request carries: an upper bound is computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InputMeasure {
    /// Bytes of everything that can become input text, media in the body excepted, never fewer than
    /// the bytes of the texts themselves; a byte is at most one token. A token given as a number is 1.
    pub text_bytes: u64,
    /// Messages or prompts: each carries the chat template's overhead.
    pub messages: u64,
    /// Tool definitions: each carries the tool overhead.
    pub tools: u64,
    /// Pictures in the body.
    pub images: u64,
    /// Something billed is not in the body (a URL, a stored file, a PDF, sound): the context window is the bound.
    pub beyond_body: bool,
    /// Pictures may come beside those that are counted: in a film, a file, something kept by the provider.
    pub uncounted_pictures: bool,
    /// Some input is written to a cache for an hour.
    pub cache_1h: bool,
}

/// A change of the body: the bytes of `span` give way to `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Names the change in `x-bitting-changed`: the field.
    pub field: &'static str,
    /// The byte range replaced; empty for an insertion.
    pub span: Range<usize>,
    /// The new bytes.
    pub with: String,
}
