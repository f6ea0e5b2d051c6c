//! The echo guard: looks for the live key in what a provider sends back.
//!
//! It holds back only a suffix that could be the key's beginning, so events are not delayed, and it
//! finds the key across any chunk borders.

use super::ProviderKey;
use memchr::memmem;
use zeroize::Zeroize;

/// Scans one answer for one key.
pub struct EchoGuard {
    finder: memmem::Finder<'static>,
    needle: zeroize::Zeroizing<Vec<u8>>,
    held: Vec<u8>,
}

/// The provider sent our key back. The answer must be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the provider's answer contains the credential")]
pub struct Echoed;

impl EchoGuard {
    /// A guard for this key.
    pub fn new(key: &ProviderKey) -> Self {
        let needle = zeroize::Zeroizing::new(key.expose().as_bytes().to_vec());
        Self { finder: memmem::Finder::new(&*needle).into_owned(), needle, held: Vec::new() }
    }

    /// Whether a whole text (a header's value) contains the key.
    pub fn is_in(&self, text: &[u8]) -> bool {
        !self.needle.is_empty() && self.finder.find(text).is_some()
    }

    /// Passes a chunk: appends to `out` all that cannot be part of the key.
    pub fn push(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), Echoed> {
        self.held.extend_from_slice(chunk);
        if self.is_in(&self.held) {
            self.held.zeroize();
            return Err(Echoed);
        }
        let keep = self.key_prefix_at_end();
        let pass = self.held.len() - keep;
        out.extend_from_slice(&self.held[..pass]);
        self.held.drain(..pass);
        Ok(())
    }

    /// The end of the answer: what was held back is not the key after all.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    /// The length of the longest end of `held` that the key begins with.
    fn key_prefix_at_end(&self) -> usize {
        let longest = self.needle.len().saturating_sub(1).min(self.held.len());
        let ends_with = |len: &usize| self.held[self.held.len() - len..] == self.needle[..*len];
        (1..=longest).rev().find(ends_with).unwrap_or(0)
    }
}

impl Drop for EchoGuard {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn guard(key: &str) -> EchoGuard {
        EchoGuard::new(&ProviderKey::for_test(key))
    }

    #[test]
    fn an_events_end_is_never_held_back() {
        let mut out = vec![];
        let mut guard = guard("sk-canary");
        guard.push(b"data: {\"x\":\"sk-can\"}\n\n", &mut out).unwrap();
        assert!(out.ends_with(b"\n\n"));
        guard.push(b"data: sk-", &mut out).unwrap();
        assert!(out.ends_with(b"data: "), "only what could be the key's beginning waits");
    }

    proptest! {
        /// However an answer is cut into chunks: without the key it passes whole, with it nothing of it passes.
        #[test]
        fn any_chunking_gives_the_same(
            before in "[a-c]{0,12}", after in "[a-c]{0,12}", echo in any::<bool>(), cuts in prop::collection::vec(0..30_usize, 0..6),
        ) {
            let key = "abcab-abcac";
            let text = if echo { format!("{before}{key}{after}") } else { format!("{before}{after}") };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut guard, mut out) = (guard(key), vec![]);
            let found = cuts.windows(2).any(|pair| guard.push(&text.as_bytes()[pair[0]..pair[1]], &mut out).is_err());
            prop_assert_eq!(found, echo);
            if echo {
                prop_assert!(out.len() <= before.len() && before.as_bytes().starts_with(&out));
            } else {
                guard.finish(&mut out);
                prop_assert_eq!(out, text.as_bytes());
            }
        }
    }
}
