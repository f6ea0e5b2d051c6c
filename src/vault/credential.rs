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

fn open(
    keyring: &Keyring,
    binding: &Binding,
    sealed: &SealedCredential,
) -> Result<Secret<String>, OpenError> {
    let wrap_term = envelope::term_of(&sealed.wrapped_dek)?;
    if wrap_term != sealed.term {
        return Err(OpenError::Refused);
    }
    let place = binding.place();
    let place: Vec<&str> = place.iter().map(String::as_str).collect();
    let dek = envelope::open(keyring.wrap_key(wrap_term)?, Purpose::DataKey, &place, &sealed.wrapped_dek)?;
    let dek = Secret::new(<[u8; 32]>::try_from(dek.expose().as_slice()).map_err(|_| OpenError::UnknownForm)?);
    let key = envelope::open(&dek, Purpose::ProviderKey, &place, &sealed.sealed)?;
    let key = std::str::from_utf8(key.expose()).map_err(|_| OpenError::UnknownForm)?;
    Ok(Secret::new(key.to_owned()))
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
}
