//! How the sandbox counts input: one token for every four bytes of text, rounded up, plus three for each
//! message, never more than the message's bytes of text; at least one for a request.
//!
//! Text is message contents, instructions, tool definitions and schemas (as compact JSON). An image, file or
//! sound is at most 85 tokens, and never more than the bytes of its URL or data. So the count never passes
//! the bytes of text in the request, which is what makes a bound from bytes a true bound, unless the request names
//! what the provider keeps: earlier turns and files count as if they were in it. Output needs no
//! counting: it is made token by token.

use serde_json::Value;

const BYTES_PER_TOKEN: usize = 4;
const MESSAGE_OVERHEAD: u64 = 3;
const MEDIA_MAX: u64 = 85;

/// A running count of input tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InputCount(u64);

impl InputCount {
    /// Adds one message (or instruction, or prompt): its texts together with the overhead.
    pub(super) fn message(&mut self, content: &Value) {
        let (bytes, media) = measure(content);
        self.0 += (tokens(bytes) + if bytes == 0 { 0 } else { MESSAGE_OVERHEAD }).min(count(bytes)) + media;
    }

    /// Adds messages one by one.
    pub(super) fn messages<'a>(&mut self, all: impl IntoIterator<Item = &'a Value>) {
        for content in all {
            self.message(content);
        }
    }

    /// Adds something that is sent as JSON: tools, schemas.
    pub(super) fn json(&mut self, value: &Value) {
        if !value.is_null() {
            self.0 += tokens(value.to_string().len());
        }
    }

    /// Adds tokens that were counted elsewhere.
    pub(super) fn add(&mut self, tokens: u64) {
        self.0 = self.0.saturating_add(tokens);
    }

    /// The whole count.
    pub(super) fn total(self) -> u64 {
        self.0.max(1)
    }
}

/// Tokens of so many bytes of text.
pub(super) fn tokens(bytes: usize) -> u64 {
    count(bytes.div_ceil(BYTES_PER_TOKEN))
}

/// A length as the number that usage reports.
pub(super) fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// Bytes of text and tokens of media in a message's content, whatever the dialect's shape of parts.
fn measure(content: &Value) -> (usize, u64) {
    match content {
        Value::String(text) => (text.len(), 0),
        Value::Array(parts) => {
            parts.iter().map(measure).fold((0, 0), |(b, m), (bytes, media)| (b + bytes, m + media))
        }
        Value::Object(part) => {
            if let Some(source) = MEDIA.iter().find_map(|name| part.get(*name)) {
                return (0, tokens(media_bytes(source)).min(MEDIA_MAX));
            }
            part.iter()
                .filter(|(name, _)| TEXT.contains(&name.as_str()))
                .map(|(_, value)| measure(value))
                .fold((0, 0), |(b, m), (bytes, media)| (b + bytes, m + media))
        }
        Value::Number(number) => (number.to_string().len(), 0),
        Value::Null | Value::Bool(_) => (0, 0),
    }
}

/// Where parts hold text, in any dialect.
const TEXT: &[&str] = &[
    "text",
    "content",
    "parts",
    "input",
    "output",
    "arguments",
    "name",
    "tool_calls",
    "function",
    "functionCall",
    "functionResponse",
    "args",
    "response",
    "result",
];

/// Where parts hold media, in any dialect.
const MEDIA: &[&str] =
    &["image_url", "input_audio", "file", "file_data", "source", "inlineData", "inline_data", "fileData"];

fn media_bytes(source: &Value) -> usize {
    match source {
        Value::String(text) => text.len(),
        Value::Object(fields) => fields.values().map(media_bytes).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn total(messages: &[Value]) -> u64 {
        let mut count = InputCount::default();
        count.messages(messages);
        count.total()
    }

    #[test]
    fn four_bytes_are_a_token_and_a_message_costs_three_more() {
        assert_eq!(total(&[json!("twelve bytes")]), 3 + 3);
        assert_eq!(total(&[json!([{"type": "text", "text": "twelve bytes!"}])]), 4 + 3);
        assert_eq!(total(&[]), 1);
    }

    #[test]
    fn a_count_never_passes_the_bytes_of_text() {
        for bytes in 1..40 {
            let text = "x".repeat(bytes);
            assert!(total(&[json!(text)]) <= count(bytes), "{bytes}");
        }
    }

    #[test]
    fn an_image_costs_at_most_eighty_five() {
        let url = format!("data:image/png;base64,{}", "A".repeat(10_000));
        assert_eq!(total(&[json!([{"type": "image_url", "image_url": {"url": url, "detail": "low"}}])]), 85);
    }
}
