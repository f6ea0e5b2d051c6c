//! Keeps everything that came out, and every secret that there was; in the end the one is searched for the other.

use super::search::Search;
use crate::support::server::Answer;

/// What came out, and what must not have.
#[derive(Default)]
pub(super) struct Witness {
    search: Search,
    saw: Vec<(String, Vec<u8>)>,
}

impl Witness {
    /// This is a secret. What came out before counts, too.
    pub(super) fn know(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        self.search.know(name, secret.as_ref());
    }

    /// A sub-key's token: all of it, what of it is secret, and so much of that as nobody may see.
    pub(super) fn know_token(&mut self, name: &str, token: &str) {
        let (_, secret) = token.rsplit_once('_').unwrap();
        self.know(name, token);
        self.know(&format!("the secret of {name}"), secret);
        self.know(&format!("the beginning of the secret of {name}"), &secret[..20]);
    }

    /// This came out at that place.
    pub(super) fn saw(&mut self, place: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.saw.push((place.into(), bytes.into()));
    }

    /// This came out at the one place where `allowed` may: once.
    #[track_caller]
    pub(super) fn saw_given_out(
        &mut self,
        place: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
        allowed: &str,
    ) {
        let (place, bytes) = (place.into(), bytes.into());
        let at = memchr::memmem::find(&bytes, allowed.as_bytes());
        let at =
            at.unwrap_or_else(|| panic!("{place} gives nothing out: {}", String::from_utf8_lossy(&bytes)));
        self.saw(format!("{place}, before what it gives out"), &bytes[..at]);
        self.saw(format!("{place}, after what it gives out"), &bytes[at + allowed.len()..]);
    }

    /// An answer: its headers and its body.
    pub(super) fn saw_answer(&mut self, place: &str, answer: &Answer) {
        for (name, value) in &answer.headers {
            self.saw(format!("{place}: {} {name}", answer.status), value.as_bytes());
        }
        self.saw(format!("{place}: {} body", answer.status), answer.bytes.to_vec());
    }

    /// Each secret at each place where it was found.
    pub(super) fn leaks(&self) -> Vec<String> {
        let found = self.saw.iter().flat_map(|(place, bytes)| {
            let around = move |what: String| format!("{what} in {place}");
            self.search.found_in(bytes).into_iter().map(around)
        });
        found.collect()
    }

    /// How much was looked at: places and bytes.
    pub(super) fn extent(&self) -> (usize, usize) {
        (self.saw.len(), self.saw.iter().map(|(_, bytes)| bytes.len()).sum())
    }
}
