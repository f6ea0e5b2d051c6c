//! Protocol-buffer JSON, which Google reads: a field may be spelt `maxOutputTokens` or `max_output_tokens`, and no
//! other way. Both at once would be two answers to one question.

use super::field::{self, fold};
use super::{Ask, AskError, Field, FieldProblem};
use crate::base::json::{Kind, Member, Value};

/// What a name is among those that are known.
#[derive(Debug, PartialEq, Eq)]
enum Spelling {
    Known(&'static str),
    /// Differs from a known one by letter case or underscores alone, and is none of its two spellings.
    Variant(&'static str),
    Unknown,
}

/// Judges the members of a request or of a part of it that is a request itself, each by its role.
pub(super) fn note(fields: &'static [Field], object: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let mut seen: Vec<&'static str> = Vec::new();
    for member in object.members() {
        let name = member.name();
        match spelling(&name, fields.iter().map(|field| field.name)) {
            Spelling::Known(known) => {
                once(known, &mut seen)?;
                if let Some(field) = fields.iter().find(|field| field.name == known) {
                    field::apply(field, member.value, ask)?;
                }
            }
            Spelling::Variant(known) => {
                return Err(AskError::field(&name, FieldProblem::CaseVariant(known)));
            }
            Spelling::Unknown => field::note_unlisted(&name, member.value, ask)?,
        }
    }
    Ok(())
}

/// The members of a message of the protocol, by their known names; `None` is a name that is not known.
pub(super) fn members<'d>(
    object: Value<'d>,
    known: &'static [&'static str],
) -> Result<Vec<(Option<&'static str>, Member<'d>)>, AskError> {
    let mut seen: Vec<&'static str> = Vec::new();
    let mut found = Vec::new();
    for member in object.members() {
        let name = member.name();
        let known = match spelling(&name, known.iter().copied()) {
            Spelling::Known(known) => {
                once(known, &mut seen)?;
                Some(known)
            }
            Spelling::Variant(known) => {
                return Err(AskError::field(&name, FieldProblem::CaseVariant(known)));
            }
            Spelling::Unknown => None,
        };
        found.push((known, member));
    }
    Ok(found)
}

/// The member in either of its spellings, unless it is absent or null.
pub(super) fn get<'d>(object: Value<'d>, camel: &'static str) -> Option<Value<'d>> {
    let value = object.get(camel).or_else(|| object.get(&snake(camel)));
    value.filter(|value| !value.is_null())
}

/// The same, where it must be an object.
pub(super) fn object<'d>(holder: Value<'d>, camel: &'static str) -> Result<Option<Value<'d>>, AskError> {
    match get(holder, camel) {
        Some(value) if value.kind() != Kind::Object => Err(AskError::expected(camel, "an object")),
        found => Ok(found),
    }
}

fn once(known: &'static str, seen: &mut Vec<&'static str>) -> Result<(), AskError> {
    if seen.contains(&known) {
        return Err(AskError::field(known, FieldProblem::SpeltTwice));
    }
    seen.push(known);
    Ok(())
}

fn spelling(name: &str, mut known: impl Iterator<Item = &'static str>) -> Spelling {
    let bare = bare(name);
    match known.find(|known| self::bare(known) == bare) {
        Some(known) if name == known || name == snake(known) => Spelling::Known(known),
        Some(known) => Spelling::Variant(known),
        None => Spelling::Unknown,
    }
}

fn bare(name: &str) -> String {
    fold(name).replace('_', "")
}

/// `maxOutputTokens` as `max_output_tokens`.
fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for ch in camel.chars() {
        if ch.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(ch.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_two_spellings_and_no_third() {
        let of = |name: &str| spelling(name, ["maxOutputTokens", "n"].into_iter());
        for name in ["maxOutputTokens", "max_output_tokens"] {
            assert_eq!(of(name), Spelling::Known("maxOutputTokens"));
        }
        for name in
            ["MaxOutputTokens", "max_outputTokens", "maxoutputtokens", "max_output_token\u{17f}", "N", "_n"]
        {
            assert!(matches!(of(name), Spelling::Variant(_)), "{name}");
        }
        assert_eq!(of("max-output-tokens"), Spelling::Unknown);
    }
}
