//! `POST embeddings`: input only.

use super::{Ask, AskError, Field, Role};
use crate::{base::json::Value, policy::Feature};

/// The fields of an embeddings request.
pub const EMBEDDINGS: &[Field] = &[
    f("dimensions", Role::Neutral),
    f("encoding_format", Role::Neutral),
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("input", Role::Own),
    f("input_type", Role::Neutral),
    f("metadata", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("output_dimension", Role::Neutral),
    f("output_dtype", Role::Neutral),
    f("provider", Role::Priced),
    f("route", Role::NamesModel),
    f("service_tier", Role::Own),
    f("task", Role::Input),
    f("text_type", Role::Neutral),
    f("truncate", Role::Uses(Feature::Truncation)),
    f("truncate_prompt_tokens", Role::Uses(Feature::Truncation)),
    f("truncation", Role::Uses(Feature::Truncation)),
    f("user", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.read_service_tier(root)?;
    ask.input.messages = match root.get("input") {
        Some(input) => ask.read_prompts(input, "input")?,
        None => 0,
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use crate::provider::operation::ROWS;

    #[test]
    fn inputs_are_counted_and_nothing_streams() {
        let read = |members: &str| {
            let ask = read(&ROWS[2], format!(r#"{{"model":"m",{members}}}"#).as_bytes()).unwrap();
            (ask.input.messages, ask.input.text_bytes, ask.stream, ask.output.candidates)
        };
        assert_eq!(read(r#""input":"hello""#), (1, 6, false, 1));
        assert_eq!(read(r#""input":["a","bc"],"encoding_format":"base64""#), (2, 5, false, 1));
        assert_eq!(read(r#""input":[[1,2],[3]]"#), (2, 3, false, 1));
    }

    #[test]
    fn pictures_as_input_are_not_bounded_by_the_body() {
        let ask = read(&ROWS[2], br#"{"model":"m","input":[{"image":"https://x"}]}"#).unwrap();
        assert!(ask.input.beyond_body);
        assert_eq!(ask.unknown_fields, ["input"]);
    }
}
