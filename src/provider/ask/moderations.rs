//! `POST moderations`: texts and pictures that are classified. The model may be left out; the provider then takes its own.

use super::{Ask, AskError, Field, Role, read::present};
use crate::base::json::{Kind, Value};

/// The fields of a moderation request.
pub const MODERATIONS: &[Field] = &[
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("input", Role::Own),
    f("metadata", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("provider", Role::Priced),
    f("route", Role::NamesModel),
    f("safety_identifier", Role::Neutral),
    f("user", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

/// A text, several texts, or the parts of one input. Where one of several is a part, all are read as parts: each is
/// counted as an input of its own, which they are at most.
pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(input) = present(root, "input") else { return Ok(()) };
    let has_parts = input.items().any(|item| item.kind() == Kind::Object);
    ask.input.messages = if has_parts {
        ask.input.add_text(input);
        ask.read_openai_content(input)?;
        u64::try_from(input.items().count()).unwrap_or(u64::MAX)
    } else {
        ask.read_prompts(input, "input")?
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Ask, AskError, read};
    use crate::policy::Feature;
    use crate::provider::operation::find;
    use crate::provider::{Dialect, ask::FieldProblem};
    use http::Method;

    fn moderation(members: &str) -> Result<Ask, AskError> {
        let row = find(&Method::POST, "/v1/moderations", Dialect::OpenAi).unwrap().row;
        read(row, format!(r#"{{"model":"m",{members}}}"#).as_bytes())
    }

    #[test]
    fn texts_are_inputs_of_their_own() {
        let of = |input: &str| {
            let ask = moderation(&format!(r#""input":{input}"#)).unwrap();
            (ask.input.messages, ask.input.text_bytes, ask.stream)
        };
        assert_eq!(of(r#""hello""#), (1, 6, false));
        assert_eq!(of(r#"["a","bc"]"#), (2, 5, false));
        assert_eq!(of("null"), (0, 0, false), "that it is missing is for the provider to say");
    }

    #[test]
    fn pictures_are_seen_wherever_they_stand() {
        let picture = r#"{"type":"image_url","image_url":{"url":"https://x/y.png"}}"#;
        for input in [format!("[{picture}]"), format!(r#"["a",{picture}]"#)] {
            let ask = moderation(&format!(r#""input":{input}"#)).unwrap();
            assert_eq!(ask.features.iter().collect::<Vec<_>>(), [Feature::Images, Feature::RemoteUrls]);
            assert!(ask.input.images == 1 && ask.input.beyond_body, "{input}");
        }
        let data = format!(
            r#"[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]"#,
            "A".repeat(9_000)
        );
        let ask = moderation(&format!(r#""input":{data}"#)).unwrap();
        assert!(ask.features.iter().eq([Feature::Images]) && ask.input.text_bytes < 200);
    }

    #[test]
    fn input_of_another_form_is_refused() {
        for input in ["1", "{}", "true", "[null]", r#"[{"type":"text","text":"x"},1]"#] {
            assert!(moderation(&format!(r#""input":{input}"#)).is_err(), "{input}");
        }
        let other = moderation(r#""input":"x","Input":"y""#).unwrap_err();
        assert!(matches!(other, AskError::Field { problem: FieldProblem::CaseVariant("input"), .. }));
    }
}
