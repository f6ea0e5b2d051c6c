//! Text that a client controls, made safe to keep and to print.

/// At most `bytes_max` bytes of `text`, cut between characters, control characters escaped as `\u{..}`.
pub fn clip(text: &str, bytes_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for ch in text.chars() {
        let start = out.len();
        if ch.is_control() {
            out.extend(ch.escape_unicode());
        } else {
            out.push(ch);
        }
        if out.len() > bytes_max {
            out.truncate(start);
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::clip;

    #[test]
    fn control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(clip("a\nb\u{1b}[31m", 256), "a\\u{a}b\\u{1b}[31m");
        assert_eq!(clip("ääää", 5), "ää");
        assert_eq!(clip("\n\n", 5), "\\u{a}");
    }
}
