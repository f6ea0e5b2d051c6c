//! The languages that providers speak.

use serde::{Deserialize, Serialize};

/// The shape of requests, answers and errors. Nothing is translated between dialects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `OpenAI`'s, spoken by many.
    OpenAi,
    /// Anthropic's messages API.
    Anthropic,
    /// Google's generative language API.
    Gemini,
}

impl Dialect {
    /// The name in configuration and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
        }
    }
}
