//! Path templates: which raw paths a row has, and where it goes upstream.
//!
//! Matching is exact on raw bytes. What stands in a template's hole is read strictly, once: a model's name may be
//! percent-encoded (it may hold slashes), an id or a deployment may not.

use super::super::ask;
use std::fmt::{self, Write as _};

/// The paths of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// One path.
    Fixed(&'static str),
    /// Paths that name something between two fixed parts.
    With {
        /// What stands before the hole.
        before: &'static str,
        /// What the path names.
        hole: Hole,
        /// What stands after it.
        after: &'static str,
    },
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// A model: the rest of the path up to the template's end, slashes and escapes allowed.
    Model,
    /// A deployment that stands for a model: one plain segment.
    Deployment,
    /// The id of an object that the provider keeps: one plain segment.
    Object,
}

/// The longest id or deployment, in bytes.
const SEGMENT_BYTES_MAX: usize = 256;

impl Template {
    /// What stands in the hole (empty where there is none), decoded, if the path is one of these.
    pub(super) fn read(self, path: &str) -> Option<String> {
        match self {
            Self::Fixed(fixed) => (path == fixed).then(String::new),
            Self::With { before, hole, after } => {
                let raw = path.strip_prefix(before)?.strip_suffix(after)?;
                match hole {
                    Hole::Model => decode_model(raw),
                    Hole::Deployment | Hole::Object => is_plain_segment(raw).then(|| raw.to_owned()),
                }
            }
        }
    }

    /// What the path names.
    pub fn hole(self) -> Option<Hole> {
        match self {
            Self::Fixed(_) => None,
            Self::With { hole, .. } => Some(hole),
        }
    }

    /// The path with `value` in its hole, as one segment: whatever could end it is percent-encoded.
    pub fn path(self, value: &str) -> String {
        match self {
            Self::Fixed(fixed) => fixed.to_owned(),
            Self::With { before, after, .. } => format!("{before}{}{after}", encode(value)),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(fixed) => f.write_str(fixed),
            Self::With { before, hole, after } => {
                let name = match hole {
                    Hole::Model => "model",
                    Hole::Deployment => "deployment",
                    Hole::Object => "id",
                };
                write!(f, "{before}{{{name}}}{after}")
            }
        }
    }
}

/// A segment that every server reads in one way: nothing in it is escaped, and it leads nowhere else.
fn is_plain_segment(raw: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    (1..=SEGMENT_BYTES_MAX).contains(&raw.len())
        && raw.bytes().all(is_plain)
        && raw.bytes().any(|byte| byte != b'.')
}

/// Decodes a model's name. `None` for anything that two readers could take for different names or paths: a bad escape,
/// an empty or dot segment, a raw byte that URLs escape.
fn decode_model(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'?' | b'#' | b'\\' | 0..=0x20 | 0x7f.. => return None,
            plain => plain,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    let is_plain = name.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    (is_plain && ask::is_model_name(&name)).then_some(name)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The value as one segment of a path: whatever could end it is percent-encoded.
pub(in crate::provider) fn encode(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GENERATE: Template =
        Template::With { before: "/v1beta/models/", hole: Hole::Model, after: ":generateContent" };
    const CANCEL: Template =
        Template::With { before: "/v1/responses/", hole: Hole::Object, after: "/cancel" };

    #[test]
    fn what_a_path_names_stands_between_its_fixed_parts() {
        let model = |path: &str| GENERATE.read(path);
        assert_eq!(model("/v1beta/models/gemini-3:generateContent").as_deref(), Some("gemini-3"));
        assert_eq!(model("/v1beta/models/gemini/g%3A1:generateContent").as_deref(), Some("gemini/g:1"));
        for path in [
            "/v1beta/models/:generateContent",
            "/v1beta/models/g:countTokens",
            "/v1beta/models/g:generateContent/",
            "/v1beta/models/g/../h:generateContent",
            "/v1beta/models/g%3AgenerateContent",
        ] {
            assert_eq!(model(path), None, "{path}");
        }
        assert_eq!(CANCEL.read("/v1/responses/resp_1/cancel").as_deref(), Some("resp_1"));
        for id in ["", ".", "..", "a/b", "a%2Fb", "a%62", "a b", "ä", "a:b", "a?b", &"a".repeat(257)] {
            assert_eq!(CANCEL.read(&format!("/v1/responses/{id}/cancel")), None, "{id}");
        }
        assert_eq!(CANCEL.to_string(), "/v1/responses/{id}/cancel");
        assert_eq!(GENERATE.to_string(), "/v1beta/models/{model}:generateContent");
    }

    proptest! {
        /// Whatever a name holds, the path that it makes is one segment, and reads as that name again.
        #[test]
        fn a_name_in_a_path_is_one_segment(name in any::<String>()) {
            let path = GENERATE.path(&name);
            let inside = &path["/v1beta/models/".len()..path.len() - ":generateContent".len()];
            prop_assert!(!inside.contains(['/', ':', '?', '#', '\\', ' ']));
            if let Some(read) = GENERATE.read(&path) {
                prop_assert_eq!(read, name);
            }
        }
    }
}
