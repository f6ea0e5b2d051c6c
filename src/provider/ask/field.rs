//! What each top-level field of a body is. A field list is a table: one line per field.
//!
//! A field that no list knows passes (providers add harmless ones weekly) and is counted as input, but a
//! field that differs from a known one only by case does not: some servers would take one for the other.

use super::{Ask, AskError, FieldProblem, Named};
use crate::provider::ObjectKind;
use crate::{
    base::{
        clip,
        json::{Kind, Member, Value},
    },
    policy::Feature,
};

/// A known field and what it is.
#[derive(Debug)]
pub struct Field {
    /// The name; lower case, so that it is its own folded form.
    pub name: &'static str,
    /// What it is.
    pub role: Role,
}

/// What a field is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changes neither the price, nor what is reached, nor the input.
    Neutral,
    /// The operation's own code reads it; it does not become input.
    Own,
    /// Becomes input; the operation's own code may read more of it.
    Input,
    /// Uses a feature, unless it is off.
    Uses(Feature),
    /// Changes the price in a way for which no bound is known, unless it is off.
    Priced,
    /// Makes the provider run a tool of this kind, unless it is off.
    Hosted(&'static str),
    /// Names another model, or something that stands for one.
    NamesModel,
    /// Names an object that the provider keeps: its id, or an object with an `id`, or several of either.
    NamesObject,
    /// A file of a form; the operation's own code reads it.
    File,
}

/// Unknown fields are listed up to this number; one is enough to refuse.
const UNKNOWN_FIELDS_MAX: usize = 32;

/// No request needs more objects; each one costs a look-up.
const OBJECTS_MAX: usize = 256;
/// Items that a request writes out.
const MENTIONS_MAX: usize = 4_096;

/// Names of fields that choose the upstream or its key, folded and without `_` and `-`.
const NAMES_UPSTREAM: [&str; 13] = [
    "apibase",
    "apikey",
    "apitype",
    "apiversion",
    "azureadtoken",
    "azureendpoint",
    "baseurl",
    "customhost",
    "customllmprovider",
    "endpointurl",
    "extraheaders",
    "litellmparams",
    "xportkeycustomhost",
];

/// Judges one top-level member and notes what its role says.
pub(super) fn note(fields: &'static [Field], member: &Member<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let name = member.name();
    let value = member.value;
    let Some(field) = fields.iter().find(|field| field.name == name) else {
        return note_unknown(fields, &name, value, ask);
    };
    apply(field, value, ask)
}

/// Notes what a known field's role says.
pub(super) fn apply(field: &'static Field, value: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    match field.role {
        Role::Input => ask.input.add_text(value),
        Role::Uses(feature) if !is_off(value) => ask.features.insert(feature),
        Role::Priced if !is_off(value) => {
            ask.input.add_rewritten(value);
            ask.unbounded_prices.push(field.name.into());
        }
        Role::Hosted(kind) if !is_off(value) => {
            ask.input.add_text(value);
            ask.add_hosted(kind, None);
        }
        Role::NamesModel if !is_off(value) => {
            return Err(AskError::field(field.name, FieldProblem::NamesModel));
        }
        Role::NamesObject => ask.add_objects(field.name, value)?,
        Role::Neutral
        | Role::Own
        | Role::File
        | Role::Uses(_)
        | Role::Priced
        | Role::Hosted(_)
        | Role::NamesModel => {}
    }
    Ok(())
}

fn note_unknown(
    fields: &'static [Field],
    name: &str,
    value: Value<'_>,
    ask: &mut Ask,
) -> Result<(), AskError> {
    let folded = fold(name);
    if let Some(known) = fields.iter().find(|field| field.name == folded) {
        return Err(AskError::field(name, FieldProblem::CaseVariant(known.name)));
    }
    note_unlisted(name, value, ask)
}

/// Notes a field that is known under no spelling.
pub(super) fn note_unlisted(name: &str, value: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    if is_upstream_name(name) {
        return Err(AskError::field(name, FieldProblem::NamesUpstream));
    }
    ask.input.add_rewritten(value);
    ask.add_unknown(name);
    Ok(())
}

/// Whether a field of this name would choose the upstream or its key, for some server.
pub(super) fn is_upstream_name(name: &str) -> bool {
    let bare: String = fold(name).chars().filter(|ch| !matches!(ch, '_' | '-')).collect();
    NAMES_UPSTREAM.contains(&bare.as_str())
}

impl Ask {
    pub(super) fn add_unknown(&mut self, name: &str) {
        if self.unknown_fields.len() < UNKNOWN_FIELDS_MAX {
            self.unknown_fields.push(clip(name, 256));
        }
    }

    /// Notes one object. What is kept elsewhere is not in the body.
    pub(super) fn add_object(&mut self, field: &str, id: &str) -> Result<(), AskError> {
        self.add_named(field, id, None)
    }

    /// Notes one object of a kind.
    pub(super) fn add_named(
        &mut self,
        field: &str,
        id: &str,
        kind: Option<ObjectKind>,
    ) -> Result<(), AskError> {
        if self.objects.len() >= OBJECTS_MAX {
            return Err(AskError::expected(field, "one of at most 256 ids in a request"));
        }
        self.objects.push(Named { field: field.to_owned(), id: id.to_owned(), kind });
        self.input.reach_beyond_body();
        Ok(())
    }

    /// Notes an id that stands beside what it names.
    pub(super) fn mention(&mut self, id: &str) -> Result<(), AskError> {
        if self.mentions.len() >= MENTIONS_MAX {
            return Err(AskError::expected("input", "of at most 4096 items with ids"));
        }
        self.mentions.push(id.to_owned());
        Ok(())
    }

    /// Notes the objects that a value names. What is kept elsewhere is not in the body.
    pub(super) fn add_objects(&mut self, field: &str, value: Value<'_>) -> Result<(), AskError> {
        const WANTED: &str = "an id, or an object with an `id`";
        match value.kind() {
            Kind::Null => Ok(()),
            Kind::String => self.add_object(field, &value.as_str().unwrap_or_default()),
            Kind::Object => {
                let Some(id) = value.get("id") else { return Err(AskError::expected(field, WANTED)) };
                self.add_objects(&format!("{field}.id"), id)
            }
            Kind::Array => {
                for item in value.items() {
                    if !matches!(item.kind(), Kind::String | Kind::Object) {
                        return Err(AskError::expected(field, WANTED));
                    }
                    self.add_objects(field, item)?;
                }
                Ok(())
            }
            Kind::Bool | Kind::Number => Err(AskError::expected(field, WANTED)),
        }
    }
}

/// Whether a switch is off: `null`, `false`, an empty array, or a word that says so.
fn is_off(value: Value<'_>) -> bool {
    match value.kind() {
        Kind::Null => true,
        Kind::Bool => value.as_bool() == Some(false),
        Kind::Array => value.is_empty(),
        Kind::String => ["disabled", "none", "NONE", "off"].iter().any(|word| value.is_str(word)),
        Kind::Number | Kind::Object => false,
    }
}

/// The name as the most lenient parsers compare it: ASCII letters without case, and the two letters
/// outside ASCII that fold to ASCII ones (long s, Kelvin sign).
pub(super) fn fold(name: &str) -> String {
    name.chars()
        .map(|ch| match ch {
            '\u{17f}' => 's',
            '\u{212a}' => 'k',
            other => other.to_ascii_lowercase(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{
        CHAT, COMPLETIONS, EMBEDDINGS, IMAGE_EDIT, IMAGE_VARIATION, IMAGES, MESSAGES, SPEECH, TRANSCRIPTION,
        TRANSLATION, read,
    };
    use super::*;
    use crate::provider::operation::ROWS;

    fn chat(member: &str) -> Result<Ask, AskError> {
        read(&ROWS[0], format!(r#"{{"model":"m",{member}}}"#).as_bytes())
    }

    fn problem(member: &str) -> FieldProblem {
        match chat(member) {
            Err(AskError::Field { problem, .. }) => problem,
            other => panic!("{member}: {other:?}"),
        }
    }

    #[test]
    fn no_list_names_a_field_twice_or_forgets_the_model() {
        let media = [IMAGES, IMAGE_EDIT, IMAGE_VARIATION, SPEECH, TRANSCRIPTION, TRANSLATION];
        for fields in [CHAT, COMPLETIONS, EMBEDDINGS, MESSAGES].into_iter().chain(media) {
            let mut names: Vec<_> = fields.iter().map(|field| field.name).collect();
            assert!(names.iter().all(|name| fold(name) == *name));
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            assert!(fields.iter().any(|field| field.name == "model" && field.role == Role::Own));
        }
    }

    #[test]
    fn a_field_that_differs_only_by_case_is_refused() {
        assert_eq!(problem(r#""Model":"x""#), FieldProblem::CaseVariant("model"));
        assert_eq!(problem(r#""\u004dAX_tokens":1"#), FieldProblem::CaseVariant("max_tokens"));
        assert_eq!(problem(r#""ſtream":true"#), FieldProblem::CaseVariant("stream"));
        assert_eq!(problem(r#""max_to\u212aens":1"#), FieldProblem::CaseVariant("max_tokens"));
    }

    #[test]
    fn a_field_that_chooses_the_upstream_is_refused() {
        for name in
            ["base_url", "api_base", "api_key", "API-Key", "baseURL", "custom_llm_provider", "api_base_"]
        {
            assert_eq!(problem(&format!(r#""{name}":"http://evil""#)), FieldProblem::NamesUpstream, "{name}");
        }
    }

    #[test]
    fn further_models_are_refused_unless_empty() {
        for member in
            [r#""models":["a","b"]"#, r#""route":"fallback""#, r#""fallbacks":[{}]"#, r#""preset":"x""#]
        {
            assert_eq!(problem(member), FieldProblem::NamesModel, "{member}");
        }
        assert!(chat(r#""models":[],"route":null"#).is_ok());
    }

    #[test]
    fn unknown_fields_pass_are_listed_and_counted() {
        let ask = chat(r#""new_thing":{"text":"0123456789"},"modelo":1"#).unwrap();
        assert_eq!(ask.unknown_fields, ["new_thing", "modelo"]);
        assert!(ask.input.text_bytes >= 20);
        let many: Vec<String> = (0..100).map(|n| format!(r#""u{n}":0"#)).collect();
        assert_eq!(chat(&many.join(",")).unwrap().unknown_fields.len(), UNKNOWN_FIELDS_MAX);
    }

    #[test]
    fn switches_count_only_when_they_are_on() {
        let on = chat(r#""store":true,"transforms":["middle-out"],"web_search_options":{}"#).unwrap();
        assert!(on.features.contains(Feature::Store) && on.features.contains(Feature::Truncation));
        assert_eq!(on.hosted_tools[0].kind, "web_search");
        let off = r#""store":false,"transforms":[],"truncation":"disabled","web_search_options":null"#;
        let off = chat(off).unwrap();
        assert_eq!(off.features.iter().count(), 0);
        assert!(off.hosted_tools.is_empty());
    }

    #[test]
    fn objects_are_named_in_every_form() {
        let ask =
            chat(r#""conversation":{"id":"conv_1"},"previous_response_id":"resp_1","file_ids":["f1","f2"]"#);
        let ask = ask.unwrap();
        let ids: Vec<_> = ask.objects.iter().map(|one| (one.field.as_str(), one.id.as_str())).collect();
        let wanted = [
            ("conversation.id", "conv_1"),
            ("previous_response_id", "resp_1"),
            ("file_ids", "f1"),
            ("file_ids", "f2"),
        ];
        assert_eq!(ids, wanted);
        assert!(ask.input.beyond_body);
        let many = vec![r#""f""#; OBJECTS_MAX + 1].join(",");
        for member in [
            &format!(r#""file_ids":[{many}]"#),
            r#""conversation":{}"#,
            r#""conversation":1"#,
            r#""file_ids":[null]"#,
        ] {
            assert!(matches!(problem(member), FieldProblem::Expected(_)), "{member}");
        }
    }
}
