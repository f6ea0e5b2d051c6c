//! Text that a client controls, made safe to keep and to print.

use serde_json::Value;
use std::borrow::Cow;

/// At most `bytes_max` bytes of `text`, cut between characters, control characters escaped as `\u{..}`, tokens hidden.
pub fn clip(text: &str, bytes_max: usize) -> String {
    let text = hide_tokens(text);
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

/// `text` without the secret of anything in it that has the shape of a token of ours. Clients send their own where it does
/// not belong: in a path, as a model, as their name. Of a sub-key's the id stays, which is public.
pub fn hide_tokens(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let (mut begin, mut from) = (0, 0);
    while let Some(at) = text[from..].find("bk_").into_iter().chain(text[from..].find("bo_")).min() {
        let after = from + at + PREFIX_LEN;
        let rest = &text.as_bytes()[after..];
        let is_word = text[..from + at].ends_with(|ch: char| ch.is_ascii_alphanumeric());
        let has_id = text[..after].ends_with("bk_") && rest.get(ID_LEN) == Some(&b'_');
        let public = if has_id { ID_LEN + 1 } else { 0 };
        let secret = rest[public..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if is_word || secret < HIDDEN_LEN_MIN {
            from = after;
            continue;
        }
        shown.push_str(&text[begin..after + public]);
        shown.push_str("***");
        (begin, from) = (after + public + secret, after + public + secret);
    }
    if begin == 0 { Cow::Borrowed(text) } else { Cow::Owned(shown + &text[begin..]) }
}

const PREFIX_LEN: usize = 3;
/// Of a sub-key's token, after `bk_`.
const ID_LEN: usize = 16;
/// So much of a secret, or more, is hidden; a part that is shorter gives nothing away, and words are not mistaken for one.
const HIDDEN_LEN_MIN: usize = 20;

/// [`hide_tokens`] in every text of a JSON value, and in its keys.
pub fn hide_tokens_in(value: &mut Value) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => {
            if let Cow::Owned(shown) = hide_tokens(text) {
                *text = shown;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide_tokens_in),
        Value::Object(fields) => {
            fields.values_mut().for_each(hide_tokens_in);
            if fields.keys().any(|key| matches!(hide_tokens(key), Cow::Owned(_))) {
                let kept = std::mem::take(fields).into_iter();
                *fields = kept.map(|(key, value)| (hide_tokens(&key).into_owned(), value)).collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{clip, hide_tokens, hide_tokens_in};
    use serde_json::json;

    #[test]
    fn a_token_keeps_its_public_part_wherever_it_stands() {
        let (id, secret) = ("0123456789abcdef", "S".repeat(49));
        let token = format!("bk_{id}_{secret}");
        assert_eq!(hide_tokens(&token), format!("bk_{id}_***"));
        assert_eq!(
            hide_tokens(&format!("/v1/{token}?a={token}&b")),
            format!("/v1/bk_{id}_***?a=bk_{id}_***&b")
        );
        assert_eq!(hide_tokens(&format!("é{token}é")), format!("ébk_{id}_***é"));
        assert_eq!(hide_tokens(&format!("bo_{secret}, bk_bo_{secret}")), "bo_***, bk_bo_***");
        assert_eq!(hide_tokens(&token[..45]), format!("bk_{id}_***"), "cut off");
        assert_eq!(clip(&token, 64), format!("bk_{id}_***"));
        for kept in [
            "",
            "bk_",
            "bo_",
            "bk_0123456789abcdef",
            "bk_0123456789abcdef_",
            "bo_a_model-of-ours",
            "turbo_16k",
            "turbo_0123456789012345678901",
            "bk_é",
            "bk_0123456789abcde_0123456789",
        ] {
            assert_eq!(hide_tokens(kept), kept);
        }
        let mut value = json!({"a": [token], token.as_str(): 1, "n": null});
        hide_tokens_in(&mut value);
        assert_eq!(value, json!({"a": [format!("bk_{id}_***")], format!("bk_{id}_***"): 1, "n": null}));
    }

    #[test]
    fn control_characters_are_escaped_and_length_is_bounded() {
        assert_eq!(clip("a\nb\u{1b}[31m", 256), "a\\u{a}b\\u{1b}[31m");
        assert_eq!(clip("ääää", 5), "ää");
        assert_eq!(clip("\n\n", 5), "\\u{a}");
    }
}
