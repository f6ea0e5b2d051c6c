//! `POST /v1/embeddings`: unit vectors that depend on the text alone.

use super::bill::Usage;
use super::call::{Answer, Call, Work, bound};
use super::refusal::Refusal;
use super::tokens::{count, tokens};
use data_encoding::BASE64;
use serde_json::{Value, json};

const DIMENSIONS: u64 = 256;
const DIMENSIONS_MAX: u64 = 4096;
const INPUTS_MAX: usize = 2048;

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let body = &call.body;
    let dimensions = dimensions(bound(body, "dimensions")?)?;
    let inputs: Vec<&Value> = match &body["input"] {
        Value::Array(list) if !list.first().is_some_and(Value::is_number) => list.iter().collect(),
        Value::Null => vec![],
        input => vec![input],
    };
    if inputs.is_empty() || inputs.len() > INPUTS_MAX {
        return Err(Refusal::param("input", format!("Invalid 'input': give 1 to {INPUTS_MAX} texts.")));
    }
    let base64 = match body.get("encoding_format").and_then(Value::as_str) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(Refusal::param("encoding_format", "Invalid 'encoding_format'.")),
    };
    let mut used = 0;
    let mut data = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.into_iter().enumerate() {
        let vector = match input {
            Value::String(text) => {
                used += tokens(text.len());
                vector(text, dimensions)
            }
            Value::Array(list) => {
                used += count(list.len());
                vector(&input.to_string(), dimensions)
            }
            _ => return Err(Refusal::param("input", "Invalid 'input': give texts or arrays of tokens.")),
        };
        let embedding = if base64 {
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            Value::from(BASE64.encode(&bytes))
        } else {
            Value::from(vector)
        };
        data.push(json!({"object": "embedding", "index": index, "embedding": embedding}));
    }
    let usage = Usage::new(used.max(1), 0, &call.directives);
    let mut answer = json!({"object": "list", "data": data, "model": call.model_name()});
    if let Some(reported) = usage.reported(&call.directives) {
        answer["usage"] = json!({"prompt_tokens": reported.input, "total_tokens": reported.input});
    }
    if call.directives.echoes() {
        answer["echo"] = Value::from(call.key.as_str());
    }
    Ok(Work { answer: Answer::Json(answer), usage: Some(usage) })
}

/// The length of a vector: what was asked for, within bounds.
pub(super) fn dimensions(asked: Option<u64>) -> Result<usize, Refusal> {
    let dimensions = asked.unwrap_or(DIMENSIONS);
    usize::try_from(dimensions)
        .ok()
        .filter(|_| dimensions <= DIMENSIONS_MAX)
        .ok_or_else(|| Refusal::param("dimensions", format!("'dimensions' is at most {DIMENSIONS_MAX}.")))
}

/// A vector of length one, drawn from the text (xorshift, seeded by FNV-1a).
pub(super) fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut raw: Vec<f32> = (0..dimensions)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let [high, low, ..] = state.to_be_bytes();
            f32::from(i16::from_be_bytes([high, low]))
        })
        .collect();
    let length = raw.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in &mut raw {
            *value /= length;
        }
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one_and_depend_on_the_text_alone() {
        let one = vector("hello", 64);
        assert!((one.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-4);
        assert_eq!(one, vector("hello", 64));
        assert_ne!(one, vector("hellp", 64));
    }
}
