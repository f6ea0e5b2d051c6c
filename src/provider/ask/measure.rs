//! How much text a body can become, at most.
//!
//! A tokenizer that works on bytes makes at most one token of a byte, so counting bytes bounds tokens;
//! the question is only which bytes a provider can put before its model. Texts go in unescaped. Structure
//! (tool schemas, arguments) is written anew by the provider's template, perhaps with other escapes and
//! spaces. So: every string and key counts with its unescaped bytes, every number with its longest usual
//! spelling, every value with one byte more; and where JSON itself goes in, at least the bytes as written,
//! with every non-ASCII byte tripled (`\u00e4` for two bytes). Only media payloads are taken out again.

use super::InputMeasure;
use crate::base::json::{Kind, Value};

/// `1e20` may be written out in full.
const NUMBER_SPELLING_BYTES: usize = 24;

impl InputMeasure {
    /// Counts a value whose texts become input.
    pub(super) fn add_text(&mut self, value: Value<'_>) {
        self.text_bytes = self.text_bytes.saturating_add(text_bytes(value));
        self.note_cache_lifetime(value);
    }

    /// Counts a field of a form.
    pub(super) fn add_plain(&mut self, text: &str) {
        self.text_bytes = self.text_bytes.saturating_add(wide(text.len())).saturating_add(1);
    }

    /// Counts a value that becomes input as JSON, written anew.
    pub(super) fn add_rewritten(&mut self, value: Value<'_>) {
        self.text_bytes = self.text_bytes.saturating_add(rewritten_bytes(value));
        self.note_cache_lifetime(value);
    }

    /// Raises what [`InputMeasure::add_text`] has counted for the value to what it is as JSON.
    pub(super) fn raise_to_rewritten(&mut self, value: Value<'_>) {
        let more = rewritten_bytes(value).saturating_sub(text_bytes(value));
        self.text_bytes = self.text_bytes.saturating_add(more);
    }

    /// Takes out a media payload that [`InputMeasure::add_text`] has counted.
    pub(super) fn take_out(&mut self, payload: Value<'_>) {
        self.text_bytes = self.text_bytes.saturating_sub(text_bytes(payload));
    }

    /// Something billed is not in the body, and may hold pictures.
    pub(super) fn reach_beyond_body(&mut self) {
        self.beyond_body = true;
        self.uncounted_pictures = true;
    }

    fn note_cache_lifetime(&mut self, value: Value<'_>) {
        let mut controls = value.walk_members().filter(|(key, _)| key.is_str("cache_control"));
        self.cache_1h |= controls.any(|(_, control)| control.get("ttl").is_some_and(is_long));
    }
}

/// Any lifetime but the plain one is taken for the dear one.
fn is_long(ttl: Value<'_>) -> bool {
    !ttl.is_null() && !ttl.is_str("5m")
}

fn text_bytes(value: Value<'_>) -> u64 {
    value.walk().map(own_text_bytes).fold(0, u64::saturating_add)
}

/// The bytes of a value without what is inside it.
fn own_text_bytes(value: Value<'_>) -> u64 {
    let bytes = match value.kind() {
        Kind::String => value.text_len().unwrap_or(0),
        Kind::Number if value.raw().contains(['e', 'E']) => value.span().len().max(NUMBER_SPELLING_BYTES),
        Kind::Number | Kind::Null | Kind::Bool => value.span().len(),
        Kind::Array | Kind::Object => 0,
    };
    wide(bytes) + 1
}

fn rewritten_bytes(value: Value<'_>) -> u64 {
    let raw = value.raw();
    let beyond_ascii = raw.bytes().filter(|byte| !byte.is_ascii()).count();
    let written = wide(raw.len()) + 2 * wide(beyond_ascii) + wide(value.walk().count());
    written.max(text_bytes(value))
}

fn wide(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
