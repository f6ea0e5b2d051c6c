//! What a request does, whatever its dialect.

use serde::{Deserialize, Serialize};

/// One of the things a request can do. The names are the ones a policy lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Chat completions, Anthropic messages, generateContent.
    Chat,
    /// Legacy text completions.
    Completions,
    /// The OpenAI responses API.
    Responses,
    /// Vectors for texts.
    Embeddings,
    /// Pictures made or edited.
    Images,
    /// Speech and transcription.
    Audio,
    /// Content classification.
    Moderations,
    /// Files kept by the provider.
    Files,
    /// Deferred work.
    Batches,
    /// The model list, answered from the catalog. Free: no policy lists it.
    Models,
    /// Token counting. Free: admitted wherever its model is.
    CountTokens,
}

impl Operation {
    /// Every operation that a policy can list.
    pub const LISTED: [Self; 9] = [
        Self::Chat,
        Self::Completions,
        Self::Responses,
        Self::Embeddings,
        Self::Images,
        Self::Audio,
        Self::Moderations,
        Self::Files,
        Self::Batches,
    ];

    /// The name in policies, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Responses => "responses",
            Self::Embeddings => "embeddings",
            Self::Images => "images",
            Self::Audio => "audio",
            Self::Moderations => "moderations",
            Self::Files => "files",
            Self::Batches => "batches",
            Self::Models => "models",
            Self::CountTokens => "count_tokens",
        }
    }

    /// Costs nothing at the provider and is not listed in policies.
    pub fn is_free(self) -> bool {
        matches!(self, Self::Models | Self::CountTokens)
    }
}
