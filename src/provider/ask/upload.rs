//! `POST files`: a file that the provider keeps. Nothing of it is read: what it costs, it costs where it is used.

use super::{Ask, AskError, Field, Multipart, Role};
use crate::policy::Feature;

/// The fields of an upload in the `OpenAI` dialect.
pub const UPLOAD: &[Field] = &[
    f("expires_after[anchor]", Role::Neutral),
    f("expires_after[seconds]", Role::Neutral),
    f("file", Role::File),
    f("purpose", Role::Neutral),
];

/// The fields of an upload to Anthropic.
pub const UPLOAD_ANTHROPIC: &[Field] = &[f("expires_in_seconds", Role::Neutral), f("file", Role::File)];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(form: &Multipart<'_>, ask: &mut Ask) -> Result<(), AskError> {
    if form.files(&["file"]).count() != 1 {
        return Err(AskError::expected("file", "there, once, as a file with a name"));
    }
    ask.features.insert(Feature::Files);
    ask.features.insert(Feature::Store);
    Ok(())
}
