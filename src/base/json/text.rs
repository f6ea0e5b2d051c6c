//! What is between the quotes of a string. Only for text that the parser has accepted: here nothing
//! is refused any more.

/// The text with its escapes resolved.
pub(super) fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        out.push_str(&rest[..at]);
        let (ch, len) = escape(&rest[at..]);
        out.push(ch);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    out
}

/// How many bytes [`unescape`] gives, without giving them.
pub(super) fn unescaped_len(raw: &str) -> usize {
    let (mut len, mut rest) = (0, raw);
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        let (ch, consumed) = escape(&rest[at..]);
        len += at + ch.len_utf8();
        rest = &rest[at + consumed..];
    }
    len + rest.len()
}

/// The character that the escape at the start of `text` stands for, and the escape's length.
fn escape(text: &str) -> (char, usize) {
    let plain = match text.as_bytes()[1] {
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => return unicode_escape(text),
        other => char::from(other),
    };
    (plain, 2)
}

fn unicode_escape(text: &str) -> (char, usize) {
    let unit = |at: usize| hex4(text.as_bytes(), at).map_or(0, u32::from);
    match unit(2) {
        high @ 0xd800..=0xdbff => {
            let code = 0x1_0000 + ((high - 0xd800) << 10) + (unit(8).saturating_sub(0xdc00) & 0x3ff);
            (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
        }
        code => (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 6),
    }
}

/// Four hexadecimal digits.
pub(super) fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 4)?.iter().try_fold(0_u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(value).ok()?)
    })
}
