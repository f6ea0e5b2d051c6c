//! Looks for secrets in bytes, in every form in which a program is likely to write them down.
//!
//! A search that finds nothing proves nothing until it was seen to find: each form is planted in each kind of place below.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER, HEXUPPER};
use memchr::memmem::Finder;
use std::collections::BTreeSet;

/// What is looked for.
#[derive(Default)]
pub(super) struct Search {
    /// The secret's name, the form, and its bytes.
    needles: Vec<(String, &'static str, Finder<'static>)>,
}

impl Search {
    /// Looks for this secret, too.
    pub(super) fn know(&mut self, name: &str, secret: &[u8]) {
        assert!(secret.len() >= 12, "{name} is too short to be told from chance");
        let forms = forms(secret).into_iter();
        self.needles
            .extend(forms.map(|(form, bytes)| (name.to_owned(), form, Finder::new(&bytes).into_owned())));
    }

    /// What of it stands in these bytes.
    pub(super) fn found_in(&self, bytes: &[u8]) -> BTreeSet<String> {
        let found = self.needles.iter().filter(|(_, _, needle)| needle.find(bytes).is_some());
        found.map(|(name, form, _)| format!("{name} ({form})")).collect()
    }
}

/// The forms of a secret. Base64 of a text that holds it has one of three forms, by where it begins in there; the
/// characters at its ends, which its neighbours have a part in, are left out.
pub(super) fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("hexadecimal", HEXLOWER.encode(secret).into_bytes()),
        ("hexadecimal, upper case", HEXUPPER.encode(secret).into_bytes()),
        ("percent-encoded", each(secret, "%", |byte| format!("{byte:02X}"))),
        ("percent-encoded, lower case", each(secret, "%", |byte| format!("{byte:02x}"))),
        ("a list of numbers", joined(secret, ", ")),
        ("a list of numbers, close", joined(secret, ",")),
        ("escaped for JSON", each(secret, "\\u", |byte| format!("{byte:04x}"))),
        ("escaped as a string of bytes", secret.escape_ascii().to_string().into_bytes()),
        ("as `Bytes` shows it", shown_by_bytes(secret)),
        ("escaped as PostgreSQL does", secret.iter().flat_map(|byte| octal(*byte)).collect()),
        ("as `COPY` writes it", secret.iter().flat_map(|byte| copied(*byte)).collect()),
        ("base64", BASE64.encode(secret).trim_end_matches('=').as_bytes()[..secret.len() / 3 * 4].to_vec()),
    ];
    if let Ok(text) = std::str::from_utf8(secret) {
        let quoted = serde_json::to_string(text).unwrap();
        forms.push(("a text of JSON", quoted[1..quoted.len() - 1].into()));
    }
    for (skipped, standard, url) in [
        (0, "base64 in the middle, 0", "base64url in the middle, 0"),
        (1, "base64 in the middle, 1", "base64url in the middle, 1"),
        (2, "base64 in the middle, 2", "base64url in the middle, 2"),
    ] {
        let whole = &secret[skipped..];
        let whole = &whole[..whole.len() / 3 * 3];
        forms.push((standard, BASE64_NOPAD.encode(whole).into_bytes()));
        forms.push((url, BASE64URL_NOPAD.encode(whole).into_bytes()));
    }
    let mut seen = BTreeSet::new();
    forms.retain(|(_, bytes)| seen.insert(bytes.clone()));
    forms
}

fn each(secret: &[u8], before: &str, write: impl Fn(u8) -> String) -> Vec<u8> {
    secret.iter().flat_map(|byte| [before.to_owned(), write(*byte)]).collect::<String>().into_bytes()
}

fn joined(secret: &[u8], between: &str) -> Vec<u8> {
    secret.iter().map(u8::to_string).collect::<Vec<_>>().join(between).into_bytes()
}

fn shown_by_bytes(secret: &[u8]) -> Vec<u8> {
    let shown = format!("{:?}", bytes::Bytes::copy_from_slice(secret));
    shown[2..shown.len() - 1].into()
}

fn copied(byte: u8) -> Vec<u8> {
    if byte == b'\\' { b"\\\\".to_vec() } else { vec![byte] }
}

fn octal(byte: u8) -> Vec<u8> {
    if (0x20..0x7f).contains(&byte) && byte != b'\\' {
        vec![byte]
    } else {
        format!("\\{byte:03o}").into_bytes()
    }
}

#[test]
fn a_secret_is_found_wherever_it_begins_in_base64_and_in_every_form() {
    for secret in
        [&b"sandbox-canary-5f8b2c91d7e64a03b1c2"[..], &[0x00, 0xff, 0x5c, 0x22, 0x3e, 0x3f].repeat(5)]
    {
        let mut search = Search::default();
        search.know("canary", secret);
        for before in ["", "a", "ab", "abc"] {
            let text = [before.as_bytes(), secret, b"after"].concat();
            for encoded in [BASE64.encode(&text), BASE64URL_NOPAD.encode(&text), HEXLOWER.encode(&text)] {
                assert!(!search.found_in(encoded.as_bytes()).is_empty(), "{before:?} {encoded}");
            }
        }
        let bytes = bytes::Bytes::from([b"ab", secret, b"c"].concat());
        for debug in [format!("{secret:?}"), serde_json::to_string(secret).unwrap(), format!("{bytes:?}")] {
            assert!(!search.found_in(debug.as_bytes()).is_empty(), "{debug}");
        }
        assert!(search.found_in(b"nothing of the kind").is_empty());
    }
}
