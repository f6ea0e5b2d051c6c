//! JSON merge patch (RFC 7396): a member that is null goes back to its default, an object is merged, everything else,
//! arrays too, is replaced whole.

use crate::http::Problem;
use crate::http::json::parse_strict;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The patched document, read like a new one.
pub(super) fn patched<T: DeserializeOwned>(old: Value, patch: &Map<String, Value>) -> Result<T, Problem> {
    let merged = merge(old, patch);
    parse_strict(merged.to_string().as_bytes())
}

fn merge(old: Value, patch: &Map<String, Value>) -> Value {
    let mut object = match old {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    };
    for (name, value) in patch {
        match value {
            Value::Null => drop(object.remove(name)),
            Value::Object(inner) => {
                let merged = merge(object.remove(name).unwrap_or_default(), inner);
                object.insert(name.clone(), merged);
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                object.insert(name.clone(), value.clone());
            }
        }
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The examples of RFC 7396 whose patch is an object.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        let cases = [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!({"a": "b"}), json!({"a": "b"})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ];
        for (old, patch, wanted) in cases {
            let Value::Object(patch) = patch else { panic!("a patch is an object") };
            assert_eq!(merge(old, &patch), wanted);
        }
    }
}
