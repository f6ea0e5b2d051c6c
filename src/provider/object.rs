//! What a provider keeps for us under an id: the kinds, the shape of an id, and what a list shows of one.
//!
//! Ids come from clients as well as from providers, and stand in paths: one that could lead anywhere else than to its
//! object is no id.

mod list;

pub(in crate::provider) use list::decode;
pub use list::{ListAsk, ListAskError, ObjectOrder, PagePlace, render_page, undescribed};

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest id.
pub const OBJECT_ID_BYTES_MAX: usize = 256;
/// The largest document that is kept of an object.
pub const OBJECT_DOCUMENT_BYTES_MAX: usize = 4_096;

/// Names that are made of two segments begin so.
const NAME_PREFIX: &str = "cachedContents/";

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $word:literal;)*) => {
        /// What is kept.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ObjectKind {
            $($(#[$doc])* $name,)*
        }

        impl ObjectKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word for it, in the store and in logs.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

kinds! {
    /// A file that was uploaded, or that a tool wrote.
    File = "file";
    /// A stored response.
    Response = "response";
    /// A message, a call or a piece of reasoning in a response or conversation.
    Item = "item";
    /// A conversation, to which responses add.
    Conversation = "conversation";
    /// Where hosted tools run.
    Container = "container";
    /// A prompt's beginning that is kept ready.
    CachedContent = "cached_content";
    /// Files made searchable.
    VectorStore = "vector_store";
    /// A prompt that is kept with the provider.
    Prompt = "prompt";
    /// Requests that are answered later.
    Batch = "batch";
    /// Instructions and files that hosted tools use.
    Skill = "skill";
}

impl ObjectKind {
    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

/// An id that a provider may have given: 1 to 256 printable ASCII characters that are one segment of a path and nothing
/// else in it. `cachedContents/` may stand before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(Arc<str>);

/// The text cannot be the id of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an id is 1 to 256 printable ASCII characters without space, slash, backslash, ?, #, % and dots that lead away"
)]
pub struct ObjectIdError;

impl ObjectId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ObjectId {
    type Err = ObjectIdError;

    fn from_str(text: &str) -> Result<Self, ObjectIdError> {
        let segment = text.strip_prefix(NAME_PREFIX).unwrap_or(text);
        let is_plain =
            |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'\\' | b'?' | b'#' | b'%');
        let leads_away = segment == "." || segment.contains("..");
        let is_fine = !segment.is_empty()
            && text.len() <= OBJECT_ID_BYTES_MAX
            && segment.bytes().all(is_plain)
            && !leads_away;
        if is_fine { Ok(Self(text.into())) } else { Err(ObjectIdError) }
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a list shows of an object: a JSON object in the provider's own bytes, at most 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectDocument(Box<str>);

impl ObjectDocument {
    /// Reads one; `None` where it is too large or no JSON object. What cannot be kept is left out, and the object is kept.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t', '\r', '\n']);
        let is_object = text.starts_with('{')
            && text.len() <= OBJECT_DOCUMENT_BYTES_MAX
            && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        is_object.then(|| Self(text.into()))
    }

    /// The bytes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_kind_reads_back_from_its_word() {
        for kind in ObjectKind::ALL {
            assert_eq!(ObjectKind::parse(kind.as_str()), Some(*kind));
        }
        assert_eq!(ObjectKind::parse("File"), None);
    }

    #[test]
    fn ids_of_providers_are_ids() {
        let longest = "a".repeat(256);
        for good in [
            "file-abc123",
            "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
            "msg.1:2",
            "a.b",
            "cachedContents/abc-1",
            &longest,
        ] {
            assert_eq!(good.parse::<ObjectId>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn what_leads_elsewhere_in_a_path_is_no_id() {
        let too_long = "a".repeat(257);
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "a/b",
            "/a",
            "a/",
            "a\\b",
            "a?b",
            "a#b",
            "a%2fb",
            "a b",
            "a\n",
            "a\0",
            "ä",
            "cachedContents/",
            "cachedContents/a/b",
            "cachedContents/..",
            "cachedContents/cachedContents/a",
            "cachedcontents/a",
            "files/a",
            &too_long,
        ] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_document_is_an_object_in_the_bytes_that_came() {
        let odd = r#"{"z": 1.50, "a": "\u0000\ud800", "a": 2}"#;
        assert_eq!(ObjectDocument::parse(&format!(" {odd}\n")).unwrap().as_str(), odd);
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(OBJECT_DOCUMENT_BYTES_MAX - 8));
        assert_eq!(large.len(), OBJECT_DOCUMENT_BYTES_MAX);
        assert!(ObjectDocument::parse(&large).is_some());
        let too_large = format!("{{\"a\":\"{}\"}}", "x".repeat(OBJECT_DOCUMENT_BYTES_MAX - 7));
        for bad in ["", "[]", "1", "{", "{}x", too_large.as_str()] {
            assert!(ObjectDocument::parse(bad).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_id_in_a_path_adds_its_own_segments_and_no_others(text in "(cachedContents/)?[ -~]{0,12}") {
            let Ok(id) = text.parse::<ObjectId>() else { return Ok(()) };
            let path = format!("/v1/files/{id}");
            let uri: http::Uri = match path.parse() {
                Ok(uri) => uri,
                // What is no path goes nowhere.
                Err(_) => return Ok(()),
            };
            prop_assert_eq!(uri.path(), path.as_str());
            prop_assert_eq!(uri.query(), None);
            let extra = usize::from(text.starts_with("cachedContents/"));
            prop_assert_eq!(uri.path().split('/').count(), 4 + extra);
            prop_assert!(uri.path().split('/').all(|segment| segment != "." && segment != ".."));
        }
    }
}
