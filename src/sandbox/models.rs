//! The sandbox's models: their names, and their list in each dialect.

use super::call::Call;
use super::refusal::{Dialect, Refusal};
use serde_json::{Value, json};

/// What a model name of the sandbox begins with. Any such name works; these are on the list.
const PREFIX: &str = "sandbox-";
const LISTED: [&str; 12] = [
    "sandbox-mini",
    "sandbox-large",
    "sandbox-reasoning",
    "sandbox-vision",
    "sandbox-embedding",
    "sandbox-image",
    "sandbox-image-each",
    "sandbox-speech",
    "sandbox-tts",
    "sandbox-transcribe",
    "sandbox-whisper",
    "sandbox-moderation",
];
/// Answers as a dated snapshot of itself, as aliases of real models do.
const DATED: (&str, &str) = ("sandbox-dated", "sandbox-dated-2026-01-01");
/// What answers in the place of another model.
pub(super) const OTHER: &str = "sandbox-other";
const NAME_BYTES_MAX: usize = 512;
const CONTEXT_TOKENS: u64 = 128_000;
const OUTPUT_TOKENS: u64 = 16_384;
/// 2026-01-01, when all of them came to be.
const CREATED: i64 = 1_767_225_600;
const CREATED_AT: &str = "2026-01-01T00:00:00Z";

/// A model as a request names it.
#[derive(Clone, Debug)]
pub(super) struct Model {
    asked: String,
    base_bytes: usize,
}

impl Model {
    /// Takes a name apart: what is before `+` is the model, what is after are directives.
    pub(super) fn parse(name: &str) -> Result<Self, Refusal> {
        let base = name.split_once('+').map_or(name, |(base, _)| base);
        let plain = name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || !base.starts_with(PREFIX) {
            return Err(Refusal::UnknownModel(crate::base::clip(base, 128)));
        }
        Ok(Self { asked: name.to_owned(), base_bytes: base.len() })
    }

    /// The model's own name, which has a price.
    pub(super) fn base(&self) -> &str {
        &self.asked[..self.base_bytes]
    }

    /// The directives in the name.
    pub(super) fn directives(&self) -> &str {
        self.asked[self.base_bytes..].trim_start_matches('+')
    }

    /// The name that the answer reports.
    pub(super) fn reported(&self) -> &str {
        if self.base() == DATED.0 { DATED.1 } else { &self.asked }
    }
}

/// The list of models.
pub(super) fn list(call: &Call) -> Value {
    let each = LISTED.iter().map(|id| entry(call.dialect, id));
    match call.dialect {
        Dialect::OpenAi | Dialect::Azure => json!({"object": "list", "data": each.collect::<Vec<_>>()}),
        Dialect::Anthropic => json!({
            "data": each.collect::<Vec<_>>(),
            "has_more": false,
            "first_id": LISTED.first(),
            "last_id": LISTED.last(),
        }),
        Dialect::Gemini => json!({"models": each.collect::<Vec<_>>()}),
    }
}

/// One model.
pub(super) fn one(call: &Call) -> Value {
    entry(call.dialect, call.model.as_ref().map_or(LISTED[0], Model::reported))
}

fn entry(dialect: Dialect, id: &str) -> Value {
    match dialect {
        Dialect::OpenAi | Dialect::Azure => {
            json!({"id": id, "object": "model", "created": CREATED, "owned_by": "sandbox"})
        }
        Dialect::Anthropic => json!({
            "type": "model", "id": id, "display_name": id, "created_at": CREATED_AT, "lifecycle": "active",
            "max_input_tokens": CONTEXT_TOKENS, "max_tokens": OUTPUT_TOKENS,
        }),
        Dialect::Gemini => {
            let methods: &[&str] = if id.starts_with("sandbox-embedding") {
                &["embedContent", "countTokens"]
            } else {
                &["generateContent", "countTokens"]
            };
            json!({
                "name": format!("models/{id}"), "version": "001", "displayName": id,
                "description": "A simulated model.",
                "inputTokenLimit": CONTEXT_TOKENS, "outputTokenLimit": OUTPUT_TOKENS,
                "supportedGenerationMethods": methods,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_model_and_its_directives() {
        let model = Model::parse("sandbox-mini+status=500,cut=3").unwrap();
        assert_eq!((model.base(), model.directives()), ("sandbox-mini", "status=500,cut=3"));
        assert_eq!(model.reported(), "sandbox-mini+status=500,cut=3");
        let dated = Model::parse("sandbox-dated+drain").unwrap();
        assert_eq!(dated.reported(), "sandbox-dated-2026-01-01");
        assert_eq!(Model::parse("sandbox-mine").unwrap().directives(), "");
    }

    #[test]
    fn other_names_are_no_models() {
        for name in ["", "gpt-4o", "Sandbox-mini", "sandbox-\u{1}0", &"sandbox-".repeat(99)] {
            assert!(matches!(Model::parse(name), Err(Refusal::UnknownModel(_))), "{name:?}");
        }
    }
}
