//! A value that satisfies a JSON schema, for structured output and tool arguments.
//!
//! Deterministic, total and bounded: whatever the schema says (references that run in circles, types nobody
//! knows), it answers some value. It reads what SDKs send: objects, arrays, enums, unions, `$ref`, formats,
//! lower bounds; Gemini's upper-case types too.

use serde_json::{Map, Value, json};
use std::cell::Cell;

const DEPTH_MAX: usize = 24;
const VALUES_MAX: usize = 4096;

/// An example of what `schema` describes.
pub(super) fn example(schema: &Value) -> Value {
    Sketch { root: schema, left: Cell::new(VALUES_MAX) }.value(schema, 0)
}

struct Sketch<'a> {
    root: &'a Value,
    /// How many more values may be made: a schema can branch as well as go deep.
    left: Cell<usize>,
}

impl Sketch<'_> {
    fn value(&self, schema: &Value, depth: usize) -> Value {
        if depth > DEPTH_MAX || self.left.get() == 0 {
            return Value::Null;
        }
        self.left.set(self.left.get() - 1);
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return found.map_or(Value::Null, |target| self.value(target, depth + 1));
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        if let Some(first) = schema.get("enum").and_then(|options| options.get(0)) {
            return first.clone();
        }
        for union in ["anyOf", "any_of", "oneOf", "allOf"] {
            if let Some(options) = schema.get(union).and_then(Value::as_array) {
                let is_null = |option: &&Value| option.get("type").and_then(Value::as_str) == Some("null");
                // Deep down a union that may end, ends: a tree's children stop there.
                let ends = depth > DEPTH_MAX / 3 && options.iter().any(|option| is_null(&option));
                let first = options.iter().find(|option| !is_null(option)).filter(|_| !ends);
                return first.map_or(Value::Null, |option| self.value(option, depth + 1));
            }
        }
        self.of_type(schema, depth)
    }

    fn of_type(&self, schema: &Value, depth: usize) -> Value {
        let kind = match schema.get("type") {
            Some(Value::String(kind)) => kind.to_ascii_lowercase(),
            Some(Value::Array(kinds)) => {
                let first = kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null");
                first.unwrap_or("null").to_owned()
            }
            _ if schema.get("properties").is_some() => "object".to_owned(),
            _ if schema.get("items").is_some() => "array".to_owned(),
            _ => "string".to_owned(),
        };
        match kind.as_str() {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, depth),
            "integer" => json!(bound(schema, "minimum").map_or(1, Bound::whole)),
            "number" => bound(schema, "minimum").map_or(json!(1.5), |least| least.0),
            "boolean" => Value::Bool(true),
            "null" => Value::Null,
            _ => Value::String(text(schema)),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> Value {
        let properties = schema.get("properties").and_then(Value::as_object);
        let fields = properties.into_iter().flatten();
        Value::Object(
            fields.map(|(name, inner)| (name.clone(), self.value(inner, depth + 1))).collect::<Map<_, _>>(),
        )
    }

    fn array(&self, schema: &Value, depth: usize) -> Value {
        let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(64);
        // Past a third of the depth an array that may be empty is: recursive schemas end there.
        let wanted = if depth > DEPTH_MAX / 3 && schema.get("minItems").is_none() { 0 } else { least };
        let item = schema.get("items").map_or_else(|| json!("item"), |items| self.value(items, depth + 1));
        Value::Array((0..wanted).map(|_| item.clone()).collect())
    }
}

/// A number given as a bound.
struct Bound(Value);

impl Bound {
    fn whole(self) -> i64 {
        self.0.as_i64().unwrap_or(1)
    }
}

fn bound(schema: &Value, name: &str) -> Option<Bound> {
    schema.get(name).filter(|value| value.is_number()).cloned().map(Bound)
}

fn text(schema: &Value) -> String {
    let sample = match schema.get("format").and_then(Value::as_str) {
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("date") => "2026-01-01",
        Some("time") => "00:00:00Z",
        Some("email") => "sandbox@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "sandbox",
    };
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(4096);
    let mut text = sample.to_owned();
    while super::tokens::count(text.len()) < least {
        text.push('x');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_simple_kind_is_filled_in() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string"}, "age": {"type": "integer", "minimum": 18}, "score": {"type": "number"},
                "ok": {"type": "boolean"}, "colour": {"type": "string", "enum": ["red", "blue"]},
                "tags": {"type": "array", "items": {"type": "string"}},
                "home": {"type": "object", "properties": {"city": {"type": ["null", "string"]}}},
                "kind": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/Kind"}]}
            },
            "$defs": {"Kind": {"const": "person"}}
        });
        insta::assert_json_snapshot!(example(&schema), @r#"
        {
          "age": 18,
          "colour": "red",
          "home": {
            "city": "sandbox"
          },
          "kind": "person",
          "name": "sandbox",
          "ok": true,
          "score": 1.5,
          "tags": [
            "sandbox"
          ]
        }
        "#);
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let tree = json!({"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "object", "properties": {
            "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}}}}});
        assert!(example(&tree).to_string().ends_with("]}]}"));
        assert_eq!(example(&json!({"$ref": "#"})), Value::Null);
        let names = "abcdefghij".chars().map(|name| (name.to_string(), json!({"$ref": "#"}))).collect();
        let bush = json!({"type": "object", "properties": Value::Object(names)});
        assert!(example(&bush).to_string().len() < VALUES_MAX * 64);
    }
}
