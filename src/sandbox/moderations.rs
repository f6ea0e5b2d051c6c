//! `POST /v1/moderations`: what says `violence` is flagged for it. Free.

use super::bill::Usage;
use super::call::{Call, Work};
use super::refusal::Refusal;
use super::tokens::InputCount;
use serde_json::{Map, Value, json};

/// With those that a picture can be flagged for, too.
const CATEGORIES: [(&str, bool); 13] = [
    ("harassment", false),
    ("harassment/threatening", false),
    ("hate", false),
    ("hate/threatening", false),
    ("illicit", false),
    ("illicit/violent", false),
    ("self-harm", true),
    ("self-harm/instructions", true),
    ("self-harm/intent", true),
    ("sexual", true),
    ("sexual/minors", false),
    ("violence", true),
    ("violence/graphic", true),
];
const FLAGGED: &str = "violence";

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let inputs: Vec<&Value> = match &call.body["input"] {
        // Parts of one input, of which each is a text or a picture.
        parts @ Value::Array(list) if list.first().is_some_and(Value::is_object) => vec![parts],
        Value::Array(list) if !list.is_empty() && list.iter().all(Value::is_string) => list.iter().collect(),
        text @ Value::String(_) => vec![text],
        Value::Null => return Err(Refusal::param("input", "Missing required parameter: 'input'.")),
        _ => return Err(Refusal::param("input", "Invalid type for 'input': give a text, texts or parts.")),
    };
    let mut count = InputCount::default();
    count.messages(inputs.iter().copied());
    let results: Vec<Value> = inputs.into_iter().map(result).collect();
    let answer = json!({
        "id": call.id("modr").replacen('_', "-", 1), "model": call.model_name(), "results": results,
    });
    // What is counted is on the bill, at no price; no answer tells it.
    let usage = Usage::new(count.total(), 0, &call.directives);
    Ok(Work { answer: call.answer(answer), usage: Some(usage) })
}

fn result(input: &Value) -> Value {
    let has =
        |kind: &str| input.as_array().is_some_and(|parts| parts.iter().any(|part| part["type"] == kind));
    let (text, picture) = (input.is_string() || has("text"), has("image_url"));
    let told =
        match input {
            Value::String(text) => text.contains(FLAGGED),
            parts => parts.as_array().into_iter().flatten().any(|part| {
                part.get("text").and_then(Value::as_str).is_some_and(|text| text.contains(FLAGGED))
            }),
        };
    let each = |value: &dyn Fn(&str, bool) -> Value| -> Map<String, Value> {
        CATEGORIES.iter().map(|(name, pictures)| ((*name).to_owned(), value(name, *pictures))).collect()
    };
    let is_flagged = |name: &str| told && name == FLAGGED;
    json!({
        "flagged": told,
        "categories": each(&|name, _| json!(is_flagged(name))),
        "category_scores": each(&|name, _| json!(if is_flagged(name) { 0.875 } else { 0.125 })),
        "category_applied_input_types": each(&|_, pictures| {
            let mut types = Vec::new();
            if text {
                types.push("text");
            }
            if picture && pictures {
                types.push("image");
            }
            json!(types)
        }),
    })
}
