//! A provider's key in its two envelopes: a data key of its own, wrapped by the keyring.

use super::envelope::{self, OpenError, Purpose};
use super::keyring::Keyring;
use crate::base::{Entropy, Secret};
use crate::policy::{Permit, Whole};

/// Where a provider's key belongs. Any change of it and the ciphertext no longer opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The installation.
    pub installation: String,
    /// The credential.
    pub credential: String,
    /// The version of its secret.
    pub version: i64,
    /// The provider's slug.
    pub provider: String,
    /// Every origin that the provider's dialects point to, and how the key is presented there.
    pub origins: Vec<String>,
}

/// The envelopes of one version of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedCredential {
    /// The keyring term of the wrap.
    pub term: u32,
    /// The data key under the wrap key.
    pub wrapped_dek: Vec<u8>,
    /// The provider's key under the data key.
    pub sealed: Vec<u8>,
}

/// A provider's key, opened for one admitted request.
pub struct ProviderKey(Secret<String>);

impl ProviderKey {
    /// Lends the key out, for the line that writes it into the upstream request or searches an answer for it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    #[cfg(test)]
    pub(super) fn for_test(key: &str) -> Self {
        Self(Secret::new(key.to_owned()))
    }
}

/// Seals a provider's key under a fresh data key.
///
/// # Panics
/// Never: the current term is in the keyring.
pub fn seal_credential(
    entropy: &Entropy,
    keyring: &Keyring,
    binding: &Binding,
    key: &Secret<String>,
) -> SealedCredential {
    let term = keyring.current_term();
    let wrap = keyring.wrap_key(term).expect("the current term is in the keyring");
    let dek = Secret::new(entropy.bytes::<32>());
    let place = binding.place();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    SealedCredential {
        term,
        wrapped_dek: envelope::seal(entropy, wrap, Purpose::DataKey, term, &place, dek.expose()),
        sealed: envelope::seal(entropy, &dek, Purpose::ProviderKey, term, &place, key.expose().as_bytes()),
    }
}

/// Opens a provider's key. It takes the permit of an admitted request: no check, no key.
pub fn open_credential(
    _permit: &Permit<Whole>,
    keyring: &Keyring,
    binding: &Binding,
    sealed: &SealedCredential,
) -> Result<ProviderKey, OpenError> {
    open(keyring, binding, sealed).map(ProviderKey)
}

/// Whether a provider's key would open where it is. Nobody gets it.
pub fn opens_there(keyring: &Keyring, binding: &Binding, sealed: &SealedCredential) -> bool {
    open(keyring, binding, sealed).is_ok()
}

/// Moves a provider's key to another place (the provider's URL was changed by an operator) without
/// showing it to anyone.
pub fn reseal_credential(
    entropy: &Entropy,
    keyring: &Keyring,
    from: &Binding,
    to: &Binding,
    sealed: &SealedCredential,
) -> Result<SealedCredential, OpenError> {
    let key = open(keyring, from, sealed)?;
    Ok(seal_credential(entropy, keyring, to, &key))
}

/// Wraps a credential's data key in the current term. The provider's key is not opened, and its ciphertext stays as it is.
pub fn rewrap_credential(
    entropy: &Entropy,
    keyring: &Keyring,
    binding: &Binding,
    sealed: &SealedCredential,
) -> Result<SealedCredential, OpenError> {
    let place = binding.place();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    let dek = open_data_key(keyring, &place, sealed)?;
    let term = keyring.current_term();
    let wrap = keyring.wrap_key(term)?;
    let wrapped_dek = envelope::seal(entropy, wrap, Purpose::DataKey, term, &place, dek.expose());
    Ok(SealedCredential { term, wrapped_dek, sealed: sealed.sealed.clone() })
}

fn open(
    keyring: &Keyring,
    binding: &Binding,
    sealed: &SealedCredential,
) -> Result<Secret<String>, OpenError> {
    let place = binding.place();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    let dek = open_data_key(keyring, &place, sealed)?;
    let key = envelope::open(&dek, Purpose::ProviderKey, &place, &sealed.sealed)?;
    let key = std::str::from_utf8(key.expose()).map_err(|_| OpenError::UnknownForm)?;
    Ok(Secret::new(key.to_owned()))
}

/// The term is said twice, beside the envelope and in it; where the two differ, somebody else wrote one of them.
fn open_data_key(
    keyring: &Keyring,
    place: &[&str],
    sealed: &SealedCredential,
) -> Result<envelope::Key, OpenError> {
    let wrap_term = envelope::term_of(&sealed.wrapped_dek)?;
    if wrap_term != sealed.term {
        return Err(OpenError::Refused);
    }
    let dek = envelope::open(keyring.wrap_key(wrap_term)?, Purpose::DataKey, place, &sealed.wrapped_dek)?;
    Ok(Secret::new(<[u8; 32]>::try_from(dek.expose().as_slice()).map_err(|_| OpenError::UnknownForm)?))
}

impl Binding {
    fn place(&self) -> Vec<String> {
        let mut place = vec![
            self.installation.clone(),
            self.credential.clone(),
            self.version.to_string(),
            self.provider.clone(),
        ];
        place.extend(self.origins.iter().cloned());
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::KeyUse;
    use proptest::prelude::*;

    fn binding() -> Binding {
        Binding {
            installation: "inst".into(),
            credential: "cred_1".into(),
            version: 1,
            provider: "openai".into(),
            origins: vec!["openai https://api.openai.com:443 bearer".into()],
        }
    }

    fn opens(keyring: &Keyring, binding: &Binding, sealed: &SealedCredential) -> Option<String> {
        open(keyring, binding, sealed).ok().map(|key| key.expose().clone())
    }

    #[test]
    fn a_key_opens_only_at_its_place() {
        let (entropy, secret) = (Entropy::new(), Secret::new("sk-real".to_owned()));
        let keyring = Keyring::generate(&entropy);
        let sealed = seal_credential(&entropy, &keyring, &binding(), &secret);
        assert_eq!(opens(&keyring, &binding(), &sealed).as_deref(), Some("sk-real"));
        let moved: [fn(&mut Binding); 5] = [
            |b| b.installation = "other".into(),
            |b| b.credential = "cred_2".into(),
            |b| b.version = 2,
            |b| b.provider = "mistral".into(),
            |b| b.origins[0] = "openai https://evil.example:443 bearer".into(),
        ];
        for change in moved {
            let mut place = binding();
            change(&mut place);
            assert_eq!(opens(&keyring, &place, &sealed), None, "{place:?}");
        }
        assert_eq!(opens(&Keyring::generate(&entropy), &binding(), &sealed), None);
    }

    #[test]
    fn a_key_moves_with_its_provider_and_leaves_the_old_place() {
        let (entropy, secret) = (Entropy::new(), Secret::new("sk-real".to_owned()));
        let keyring = Keyring::generate(&entropy);
        let sealed = seal_credential(&entropy, &keyring, &binding(), &secret);
        let to = Binding { origins: vec!["openai https://eu.api.openai.com:443 bearer".into()], ..binding() };
        let moved = reseal_credential(&entropy, &keyring, &binding(), &to, &sealed).expect("moves");
        assert_eq!(opens(&keyring, &to, &moved).as_deref(), Some("sk-real"));
        assert_eq!(opens(&keyring, &binding(), &moved), None);
    }

    #[test]
    fn halves_of_two_credentials_do_not_fit_together() {
        let entropy = Entropy::new();
        let keyring = Keyring::generate(&entropy);
        let one = seal_credential(&entropy, &keyring, &binding(), &Secret::new("one".to_owned()));
        let two = seal_credential(&entropy, &keyring, &binding(), &Secret::new("two".to_owned()));
        let mixed = SealedCredential { wrapped_dek: one.wrapped_dek, ..two };
        assert_eq!(opens(&keyring, &binding(), &mixed), None);
    }

    #[test]
    fn a_rewrapped_key_opens_without_the_term_it_came_from() {
        let entropy = Entropy::new();
        let first = Keyring::generate(&entropy);
        let sealed = seal_credential(&entropy, &first, &binding(), &Secret::new("sk-real".to_owned()));
        let both = first.with_new_term(&entropy);
        assert_eq!(opens(&both, &binding(), &sealed).as_deref(), Some("sk-real"));
        let moved = rewrap_credential(&entropy, &both, &binding(), &sealed).expect("rewraps");
        assert_eq!((moved.term, &moved.sealed), (2, &sealed.sealed), "only the wrap is another");
        let elsewhere = Binding { version: 2, ..binding() };
        assert!(rewrap_credential(&entropy, &both, &elsewhere, &sealed).is_err());
        assert!(
            rewrap_credential(&entropy, &both, &binding(), &SealedCredential { term: 2, ..sealed.clone() })
                .is_err()
        );

        let alone = both.without(1, KeyUse::Wrap);
        assert_eq!(opens(&alone, &binding(), &moved).as_deref(), Some("sk-real"));
        assert_eq!(opens(&alone, &binding(), &sealed), None);
        assert_eq!(rewrap_credential(&entropy, &alone, &binding(), &sealed), Err(OpenError::UnknownTerm(1)));
    }

    proptest! {
        /// After any number of rotations and rewraps the key is what went in; any changed bit, and any other term, and
        /// it does not open.
        #[test]
        fn what_was_sealed_opens_after_any_rotation_and_never_changed(
            secret in "[!-~]{1,64}", rotations in 0..4_u32, rewrap in any::<bool>(),
            flip in any::<prop::sample::Index>(), bit in 0..8_u8, term in any::<u32>(),
        ) {
            let entropy = Entropy::new();
            let mut keyring = Keyring::generate(&entropy);
            let mut sealed = seal_credential(&entropy, &keyring, &binding(), &Secret::new(secret.clone()));
            for _ in 0..rotations {
                keyring = keyring.with_new_term(&entropy);
                if rewrap {
                    sealed = rewrap_credential(&entropy, &keyring, &binding(), &sealed).expect("rewraps");
                }
            }
            prop_assert_eq!(opens(&keyring, &binding(), &sealed), Some(secret));
            let mut changed = sealed.clone();
            let at = flip.index(sealed.wrapped_dek.len() + sealed.sealed.len());
            match at.checked_sub(sealed.wrapped_dek.len()) {
                None => changed.wrapped_dek[at] ^= 1 << bit,
                Some(at) => changed.sealed[at] ^= 1 << bit,
            }
            prop_assert_eq!(opens(&keyring, &binding(), &changed), None);
            prop_assume!(term != sealed.term);
            prop_assert_eq!(opens(&keyring, &binding(), &SealedCredential { term, ..sealed }), None);
        }
    }
}
