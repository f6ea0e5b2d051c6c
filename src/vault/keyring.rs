//! The keyring: for each term, separate random keys for separate purposes, and the key that signs the log.
//!
//! Sealed form, version 2: `2 || log signing seed(32) || { term(4, big endian) || which(1) || keys(32 each) }`, where
//! `which` has a bit for each key that is still there: 1 wrap, 2 pepper, 4 row MAC. Version 1 was a list of
//! `term(4) || wrap || pepper || row MAC || log signing seed`, sealed by the key-encryption key itself.

use super::envelope::{self, Key, OpenError, Purpose};
use super::kek::Kek;
use super::root::Root;
use crate::base::{Entropy, Secret};
use ring::{hmac, signature};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

const KEY_LEN: usize = 32;
const VERSION: u8 = 2;
const KEYRING_TERM: u32 = 0;
const FIRST_FORM_RECORD_LEN: usize = 4 + 4 * KEY_LEN;
const SHARE_LABEL: &[u8] = b"bitting/register-share/v1";

/// The keys of all live terms; the newest makes what is made now, each of them opens and verifies what it made.
pub struct Keyring {
    terms: BTreeMap<u32, Term>,
    log_signing_seed: Key,
}

/// One term's keys, each for one purpose, until nothing needs it any more.
#[derive(Default)]
struct Term {
    wrap: Option<Key>,
    pepper: Option<Key>,
    row_mac: Option<Key>,
}

/// What a term's key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// Wraps the data keys of credentials.
    Wrap,
    /// Makes the MACs of sub-keys' secrets.
    Pepper,
    /// Makes the MACs of rows.
    RowMac,
}

impl KeyUse {
    /// Every use, in the order of the sealed form.
    pub const ALL: [Self; 3] = [Self::Wrap, Self::Pepper, Self::RowMac];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrap => "wrap",
            Self::Pepper => "pepper",
            Self::RowMac => "row_mac",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Wrap => 1,
            Self::Pepper => 2,
            Self::RowMac => 4,
        }
    }
}

impl Term {
    fn fresh(entropy: &Entropy) -> Self {
        let key = || Some(Secret::new(entropy.bytes()));
        Self { wrap: key(), pepper: key(), row_mac: key() }
    }

    fn key(&self, key_use: KeyUse) -> Option<&Key> {
        match key_use {
            KeyUse::Wrap => self.wrap.as_ref(),
            KeyUse::Pepper => self.pepper.as_ref(),
            KeyUse::RowMac => self.row_mac.as_ref(),
        }
    }

    fn slot(&mut self, key_use: KeyUse) -> &mut Option<Key> {
        match key_use {
            KeyUse::Wrap => &mut self.wrap,
            KeyUse::Pepper => &mut self.pepper,
            KeyUse::RowMac => &mut self.row_mac,
        }
    }
}

impl Keyring {
    /// A keyring with one fresh term.
    pub fn generate(entropy: &Entropy) -> Self {
        Self {
            terms: BTreeMap::from([(1, Term::fresh(entropy))]),
            log_signing_seed: Secret::new(entropy.bytes()),
        }
    }

    /// Wraps the keyring under the root key, for this installation only.
    pub fn seal(&self, entropy: &Entropy, root: &Root, installation: &str) -> Vec<u8> {
        // Room for all of it: a buffer that grows would leave copies behind.
        let capacity = 1 + KEY_LEN + self.terms.len() * (5 + 3 * KEY_LEN);
        let mut plain = Zeroizing::new(Vec::with_capacity(capacity));
        plain.push(VERSION);
        plain.extend(self.log_signing_seed.expose());
        for (number, term) in &self.terms {
            plain.extend(number.to_be_bytes());
            plain.push(KeyUse::ALL.iter().filter(|one| term.key(**one).is_some()).map(|one| one.bit()).sum());
            for key in KeyUse::ALL.iter().filter_map(|one| term.key(*one)) {
                plain.extend(key.expose());
            }
        }
        envelope::seal(entropy, root.key(), Purpose::Keyring, KEYRING_TERM, &[installation], &plain)
    }

    /// Opens what [`Keyring::seal`] made.
    pub fn open(root: &Root, installation: &str, sealed: &[u8]) -> Result<Self, OpenError> {
        let plain = envelope::open(root.key(), Purpose::Keyring, &[installation], sealed)?;
        let (version, mut rest) = plain.expose().split_first().ok_or(OpenError::UnknownForm)?;
        if *version != VERSION {
            return Err(OpenError::UnknownForm);
        }
        let log_signing_seed = take_key(&mut rest)?;
        let mut terms = BTreeMap::new();
        while let Some((number, after)) = rest.split_first_chunk::<4>() {
            let (which, keys) = after.split_first().ok_or(OpenError::UnknownForm)?;
            rest = keys;
            let mut term = Term::default();
            for key_use in KeyUse::ALL.into_iter().filter(|one| which & one.bit() != 0) {
                *term.slot(key_use) = Some(take_key(&mut rest)?);
            }
            terms.insert(u32::from_be_bytes(*number), term);
        }
        whole(Self { terms, log_signing_seed }, rest)
    }

    /// Opens a keyring as the first version of the format sealed it: by the key-encryption key itself.
    pub fn open_first_form(kek: &Kek, installation: &str, sealed: &[u8]) -> Result<Self, OpenError> {
        let plain = envelope::open(kek.key(), Purpose::FirstKeyring, &[installation], sealed)?;
        let (mut terms, mut log_signing_seed) = (BTreeMap::new(), None);
        for record in plain.expose().chunks(FIRST_FORM_RECORD_LEN) {
            let (number, mut keys) = record.split_first_chunk::<4>().ok_or(OpenError::UnknownForm)?;
            let mut term = Term::default();
            for key_use in KeyUse::ALL {
                *term.slot(key_use) = Some(take_key(&mut keys)?);
            }
            log_signing_seed = Some(take_key(&mut keys)?);
            terms.insert(u32::from_be_bytes(*number), term);
        }
        let log_signing_seed = log_signing_seed.ok_or(OpenError::UnknownForm)?;
        whole(Self { terms, log_signing_seed }, &[])
    }

    /// The same keyring with a fresh term, which makes everything from now on. The log's key stays.
    #[must_use]
    pub fn with_new_term(mut self, entropy: &Entropy) -> Self {
        let number = self.current_term() + 1;
        self.terms.insert(number, Term::fresh(entropy));
        self
    }

    /// The same keyring without one key of an old term; a term without keys is gone. The current term keeps its keys.
    #[must_use]
    pub fn without(mut self, number: u32, key_use: KeyUse) -> Self {
        if number != self.current_term()
            && let Some(term) = self.terms.get_mut(&number)
        {
            *term.slot(key_use) = None;
            self.terms.retain(|_, term| KeyUse::ALL.iter().any(|one| term.key(*one).is_some()));
        }
        self
    }

    /// The terms, oldest first, each with the uses whose key it still has.
    pub fn terms(&self) -> impl Iterator<Item = (u32, Vec<KeyUse>)> {
        let uses = |term: &Term| KeyUse::ALL.into_iter().filter(|one| term.key(*one).is_some()).collect();
        self.terms.iter().map(move |(number, term)| (*number, uses(term)))
    }

    /// Whether a term's key for this use is still there.
    pub fn has(&self, term: u32, key_use: KeyUse) -> bool {
        self.terms.get(&term).is_some_and(|keys| keys.key(key_use).is_some())
    }

    /// The term that makes what is made now.
    pub fn current_term(&self) -> u32 {
        self.terms.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The MAC by which a presented secret is recognised, and the term of its pepper.
    ///
    /// # Panics
    /// Never: the current term has all keys.
    pub fn mac(&self, message: &Secret<Vec<u8>>) -> (Vec<u8>, u32) {
        let term = self.current_term();
        let key = self.hmac_key(term, KeyUse::Pepper).expect("the current term has all keys");
        (hmac::sign(&key, message.expose()).as_ref().to_vec(), term)
    }

    /// Whether `mac`, made in `term`, is the message's; in constant time. An unknown term recognises nothing.
    pub fn recognises(&self, message: &Secret<Vec<u8>>, mac: &[u8], term: u32) -> bool {
        self.hmac_key(term, KeyUse::Pepper)
            .is_some_and(|key| hmac::verify(&key, message.expose(), mac).is_ok())
    }

    /// Signs the canonical bytes of a row (or of the register): the MAC and its term.
    ///
    /// # Panics
    /// Never: the current term has all keys, and an HMAC-SHA256 has 32 bytes.
    pub fn sign_row(&self, canonical: &[u8]) -> ([u8; 32], u32) {
        let term = self.current_term();
        (self.row_mac(canonical, term).expect("the current term has all keys"), term)
    }

    /// The MAC that a row had to have in `term`; none for a term that is gone.
    pub fn row_mac(&self, canonical: &[u8], term: u32) -> Option<[u8; 32]> {
        let key = self.hmac_key(term, KeyUse::RowMac)?;
        hmac::sign(&key, canonical).as_ref().try_into().ok()
    }

    /// Whether `mac` is the row's, in constant time.
    pub fn row_is_signed(&self, canonical: &[u8], mac: &[u8], term: u32) -> bool {
        self.hmac_key(term, KeyUse::RowMac).is_some_and(|key| hmac::verify(&key, canonical, mac).is_ok())
    }

    /// What a signed row adds to the register's sum. Whoever reads the database does not know it.
    pub fn share(&self, mac: &[u8], term: u32) -> Option<[u8; 32]> {
        let key = self.hmac_key(term, KeyUse::RowMac)?;
        let mut context = hmac::Context::with_key(&key);
        context.update(SHARE_LABEL);
        context.update(mac);
        context.sign().as_ref().try_into().ok()
    }

    /// The Ed25519 public key by which the log's signatures are checked.
    pub fn log_public_key(&self) -> Vec<u8> {
        signature::KeyPair::public_key(&self.log_pair()).as_ref().to_vec()
    }

    /// Signs with the log's key.
    pub fn sign_log(&self, message: &[u8]) -> Vec<u8> {
        self.log_pair().sign(message).as_ref().to_vec()
    }

    /// # Panics
    /// Never: any 32 bytes are a seed.
    fn log_pair(&self) -> signature::Ed25519KeyPair {
        signature::Ed25519KeyPair::from_seed_unchecked(self.log_signing_seed.expose())
            .expect("any 32 bytes are an Ed25519 seed")
    }

    pub(super) fn wrap_key(&self, term: u32) -> Result<&Key, OpenError> {
        self.terms.get(&term).and_then(|keys| keys.wrap.as_ref()).ok_or(OpenError::UnknownTerm(term))
    }

    fn hmac_key(&self, term: u32, key_use: KeyUse) -> Option<hmac::Key> {
        let key = self.terms.get(&term)?.key(key_use)?;
        Some(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }
}

fn take_key(bytes: &mut &[u8]) -> Result<Key, OpenError> {
    let (key, rest) = bytes.split_first_chunk::<KEY_LEN>().ok_or(OpenError::UnknownForm)?;
    *bytes = rest;
    Ok(Secret::new(*key))
}

/// A keyring was read to its end, and its newest term has every key.
fn whole(keyring: Keyring, rest: &[u8]) -> Result<Keyring, OpenError> {
    let newest = keyring.terms.last_key_value().map(|(_, term)| term);
    let is_whole = newest.is_some_and(|term| KeyUse::ALL.iter().all(|one| term.key(*one).is_some()));
    if is_whole && rest.is_empty() { Ok(keyring) } else { Err(OpenError::UnknownForm) }
}

/// Whether the log's key with this public half signed `message`.
pub fn verify_log(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    signature::UnparsedPublicKey::new(&signature::ED25519, public_key).verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_opens_only_with_its_root_in_its_installation() {
        let entropy = Entropy::new();
        let (root, keyring) = (Root::generate(&entropy), Keyring::generate(&entropy));
        let sealed = keyring.seal(&entropy, &root, "inst_a");
        let opened = Keyring::open(&root, "inst_a", &sealed).unwrap_or_else(|_| panic!("opens"));
        assert_eq!(opened.log_public_key(), keyring.log_public_key());
        assert!(Keyring::open(&root, "inst_b", &sealed).is_err());
        assert!(Keyring::open(&Root::generate(&entropy), "inst_a", &sealed).is_err());
    }

    #[test]
    fn a_secret_is_recognised_by_its_mac_and_term_alone() {
        let entropy = Entropy::new();
        let keyring = Keyring::generate(&entropy);
        let message = |text: &str| Secret::new(text.as_bytes().to_vec());
        let (mac, term) = keyring.mac(&message("right"));
        assert!(keyring.recognises(&message("right"), &mac, term));
        assert!(!keyring.recognises(&message("right"), &mac, term + 1));
        assert!(!keyring.recognises(&message("wrong"), &mac, term));
        assert!(!Keyring::generate(&entropy).recognises(&message("right"), &mac, term));
    }

    #[test]
    fn an_old_term_verifies_until_its_keys_are_taken_out_one_by_one() {
        let entropy = Entropy::new();
        let root = Root::generate(&entropy);
        let message = Secret::new(b"right".to_vec());
        let first = Keyring::generate(&entropy);
        let log_key = first.log_public_key();
        let ((mac, _), (row, _)) = (first.mac(&message), first.sign_row(b"row"));
        let again = |keyring: Keyring| {
            let sealed = keyring.seal(&entropy, &root, "inst");
            Keyring::open(&root, "inst", &sealed).unwrap_or_else(|_| panic!("opens"))
        };

        let both = again(first.with_new_term(&entropy));
        assert_eq!((both.current_term(), both.log_public_key()), (2, log_key));
        assert_eq!(both.mac(&message).1, 2);
        assert!(both.recognises(&message, &mac, 1) && both.row_is_signed(b"row", &row, 1));

        let less = again(both.without(1, KeyUse::RowMac).without(2, KeyUse::Pepper));
        assert!(less.recognises(&message, &mac, 1) && !less.row_is_signed(b"row", &row, 1));
        assert!(less.share(&row, 1).is_none() && less.wrap_key(1).is_ok());
        assert_eq!(less.mac(&message).1, 2, "the current term keeps its keys");

        let gone = again(less.without(1, KeyUse::Pepper).without(1, KeyUse::Wrap));
        assert_eq!(gone.terms().collect::<Vec<_>>(), [(2, KeyUse::ALL.to_vec())]);
    }

    #[test]
    fn a_keyring_of_the_first_form_is_read_by_its_kek() {
        let entropy = Entropy::new();
        let kek = Kek::generate(&entropy);
        let mut plain = Vec::new();
        for (number, byte) in [(1_u32, 7_u8), (2, 9)] {
            plain.extend(number.to_be_bytes());
            plain.extend([byte; 4 * KEY_LEN]);
        }
        let sealed =
            envelope::seal(&entropy, kek.key(), Purpose::FirstKeyring, KEYRING_TERM, &["inst"], &plain);
        let keyring = Keyring::open_first_form(&kek, "inst", &sealed).unwrap_or_else(|_| panic!("opens"));
        assert_eq!(keyring.current_term(), 2);
        assert_eq!(keyring.wrap_key(1).map(|key| *key.expose()), Ok([7; 32]));
        assert!(Keyring::open_first_form(&Kek::generate(&entropy), "inst", &sealed).is_err());
        assert!(Keyring::open_first_form(&kek, "other", &sealed).is_err());
    }

    #[test]
    fn bytes_that_are_too_few_or_too_many_are_no_keyring() {
        let entropy = Entropy::new();
        let root = Root::generate(&entropy);
        let key = [1_u8; KEY_LEN];
        let current: Vec<u8> = [&[VERSION][..], &key, &[0, 0, 0, 1, 7], &key, &key, &key].concat();
        let read = |plain: &[u8]| {
            let sealed =
                envelope::seal(&entropy, root.key(), Purpose::Keyring, KEYRING_TERM, &["inst"], plain);
            Keyring::open(&root, "inst", &sealed).is_ok()
        };
        assert!(read(&current));
        assert!(!read(&[&current[..], &[0]].concat()), "something after the end");
        assert!((0..current.len()).all(|end| !read(&current[..end])), "cut off");
        assert!(!read(&[&[3], &current[1..]].concat()), "a version of the future");
        assert!(
            !read(&[&current[..KEY_LEN + 5], &[3], &key[..], &key].concat()),
            "the newest term lacks a key"
        );
    }

    #[test]
    fn the_log_key_signs_and_only_its_own_signatures_hold() {
        let entropy = Entropy::new();
        let (keyring, other) = (Keyring::generate(&entropy), Keyring::generate(&entropy));
        let signature = keyring.sign_log(b"manifest");
        assert!(verify_log(&keyring.log_public_key(), b"manifest", &signature));
        assert!(!verify_log(&keyring.log_public_key(), b"manifesto", &signature));
        assert!(!verify_log(&keyring.log_public_key(), b"manifest", &signature[1..]));
        assert!(!verify_log(&other.log_public_key(), b"manifest", &signature));
    }
}
