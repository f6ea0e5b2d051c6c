//! The parser of sub-keys' tokens: it accepts the canonical form alone, checked here by a reading that shares nothing
//! with it, and what it accepts it writes back the same. The input is tried as it is, and as the material of a token
//! that is right but for one character.

#![no_main]

use bitting::subkey::SubKeyToken;
use libfuzzer_sys::fuzz_target;

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// CRC-32 as its polynomial says, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// The number that six digits say, if they are digits.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |sum: u64, digit| {
        let value = DIGITS.iter().position(|known| known == digit)?;
        Some(sum * 62 + u64::try_from(value).ok()?)
    })
}

fn is_canonical(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| DIGITS.contains(byte);
    text.len() == 69
        && text.starts_with(b"bk_")
        && text[3..19].iter().all(is_digit)
        && text[19] == b'_'
        && text[20..63].iter().all(is_digit)
        && number(&text[63..]) == Some(u64::from(crc32(&text[..63])))
}

fn check(text: &str) {
    let parsed = SubKeyToken::parse(text);
    assert_eq!(parsed.is_ok(), is_canonical(text.as_bytes()), "{text:?}");
    if let Ok(token) = parsed {
        assert_eq!(token.reveal().expose(), text, "it is written as it was read");
        assert_eq!(token.id().as_str(), &text[3..19]);
        let input = [b"subkey/v1", &text.as_bytes()[3..19], &text.as_bytes()[20..63]].concat();
        assert_eq!(*token.mac_input().expose(), input, "all of the secret is authenticated");
    }
}

/// A token of this material, right in every character.
fn token(material: &[u8]) -> String {
    let digit = |at: usize| char::from(DIGITS[usize::from(material.get(at).copied().unwrap_or(0)) % 62]);
    let mut text = String::from("bk_");
    text.extend((0..16).map(digit));
    text.push('_');
    text.extend((16..59).map(digit));
    let mut crc = u64::from(crc32(text.as_bytes()));
    let mut checksum = [0; 6];
    for place in checksum.iter_mut().rev() {
        *place = DIGITS[usize::try_from(crc % 62).expect("it is small")];
        crc /= 62;
    }
    text.extend(checksum.map(char::from));
    text
}

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        check(text);
    }
    let right = token(input);
    assert!(SubKeyToken::parse(&right).is_ok());
    check(&right);
    let [at, with, ..] = input else { return };
    let at = usize::from(*at) % right.len();
    for with in
        [char::from(*with).to_string(), String::new(), format!("{}{}", &right[at..=at], char::from(*with))]
    {
        let mut wrong = right.clone();
        wrong.replace_range(at..=at, &with);
        assert_eq!(SubKeyToken::parse(&wrong).is_ok(), wrong == right, "{wrong:?}");
        check(&wrong);
    }
});
