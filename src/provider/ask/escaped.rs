//! `application/x-www-form-urlencoded`, as a client library sends a transcription that has no file (Mistral's, of a sound
//! at a URL), read strictly.
//!
//! As with forms of parts, the provider reads it again with another reader: what two could take for two things is refused.

use super::{Ask, AskError, Multipart, Part, form};
use crate::provider::operation::{Parts, Row};
use std::ops::Range;

const FIELDS_MAX: usize = 128;
const NAME_BYTES_MAX: usize = 128;

/// One field, its value decoded.
struct Field {
    name: String,
    value: String,
    /// Where the value stands in the body, as it is written.
    span: Range<usize>,
}

/// Reads the body of a request that matched `row`, where it is such a form.
pub(super) fn read(row: &Row, parts: Parts, body: &[u8]) -> Result<Ask, AskError> {
    let fields = fields(body)?;
    let parts_of = fields.iter().map(|Field { name, value, span }| Part {
        name,
        is_file: false,
        bytes: value.as_bytes(),
        span: span.clone(),
    });
    let form = Multipart { boundary: String::new(), parts: parts_of.collect() };
    let mut ask = form::read_parts(row, parts, &form)?;
    (ask.is_escaped, ask.is_empty_object) = (true, fields.is_empty());
    Ok(ask)
}

fn fields(body: &[u8]) -> Result<Vec<Field>, AskError> {
    let mut fields = Vec::new();
    let mut at = 0;
    for pair in body.split(|byte| *byte == b'&').filter(|_| !body.is_empty()) {
        let equals = memchr::memchr(b'=', pair).ok_or(AskError::Escape { at })?;
        let value_at = at + equals + 1;
        if fields.len() == FIELDS_MAX {
            return Err(AskError::Escape { at });
        }
        let name = decode(&pair[..equals]).filter(|name| is_name(name)).ok_or(AskError::Escape { at })?;
        let value = decode(&pair[equals + 1..]).ok_or(AskError::Escape { at: value_at })?;
        fields.push(Field { name, value, span: value_at..at + pair.len() });
        at += pair.len() + 1;
    }
    Ok(fields)
}

/// Printable ASCII that no reader decodes once more.
fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"%\"\\+&=;".contains(&byte))
}

/// What the text stands for. `None` for a byte that is to be escaped and is not, and for what is no UTF-8.
fn decode(text: &[u8]) -> Option<String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter().copied();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => (digit(rest.next()?)? << 4) | digit(rest.next()?)?,
            plain if plain.is_ascii_alphanumeric() || b"-._~*".contains(&plain) => plain,
            _ => return None,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Media, read_body, splice};
    use super::*;
    use crate::policy::Feature;
    use crate::provider::Dialect;
    use crate::provider::operation::find;

    const TYPE: &str = "application/x-www-form-urlencoded";

    fn ask_at(path: &str, body: &str) -> Result<Ask, AskError> {
        let row = find(&http::Method::POST, path, Dialect::OpenAi).unwrap().row;
        read_body(row, Some(TYPE), body.as_bytes())
    }

    fn ask(body: &str) -> Result<Ask, AskError> {
        ask_at("/v1/audio/transcriptions", body)
    }

    #[test]
    fn a_transcription_of_a_sound_elsewhere_is_read_as_a_form_of_parts_is() {
        let body = "model=m%2F1&file_url=https%3A%2F%2Fx.example%2Fa.mp3&stream=true&diarize=false\
                    &timestamp_granularities=segment&timestamp_granularities=word";
        let ask = ask(body).unwrap();
        assert_eq!((ask.models[0].name.as_str(), ask.media), ("m/1", Some(Media::Hearing)));
        assert!(ask.input.beyond_body && ask.stream && ask.unknown_fields.is_empty());
        let features = [Feature::Streaming, Feature::Audio, Feature::RemoteUrls];
        assert!(features.into_iter().all(|feature| ask.features.contains(feature)));
    }

    #[test]
    fn another_model_is_put_in_escaped() {
        let put_in = |path: &str, body: &str, name: &str| {
            let splices = ask_at(path, body).unwrap().model_splices(name).collect();
            String::from_utf8(splice(body.as_bytes(), splices).unwrap().to_vec()).unwrap()
        };
        let path = "/v1/audio/transcriptions";
        assert_eq!(
            put_in(path, "file_id=f&model=p%2Fm&language=en", "a b&c"),
            "file_id=f&model=a%20b%26c&language=en"
        );
        assert_eq!(put_in(path, "model=m", "m"), "model=m");
        let deployed = "/openai/deployments/d/audio/transcriptions";
        assert_eq!(put_in(deployed, "file_id=f", "m/1"), "model=m%2F1&file_id=f");
        assert_eq!(put_in(deployed, "", "m"), "model=m");
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for body in [
            "model",
            "model=m&",
            "&model=m",
            "model=m&&language=en",
            "model=m;language=en",
            "model=m&=x",
            "model=m&a%",
            "model=m&a=%4",
            "model=m&a=%zz",
            "model=m&a=%ff",
            "model=m&a=b c",
            "model=m&a=\u{e4}",
            "model=m&a=b\n",
            "model=m&a=b=c",
            "model=m&a%20b=c",
            "model=m&a%2525=c",
        ] {
            assert!(matches!(ask(body), Err(AskError::Escape { .. })), "{body}");
        }
        for body in
            ["model=m&model=n", "model=m&Language=en", "model=m&language=en&language=de", "model=m&file=x"]
        {
            assert!(matches!(ask(body), Err(AskError::Field { .. })), "{body}");
        }
        assert_eq!(ask("language=en"), Err(AskError::ModelRequired));
        for path in ["/v1/images/edits", "/v1/files", "/v1/chat/completions"] {
            assert!(matches!(ask_at(path, "model=m"), Err(AskError::ContentType(_))), "{path}");
        }
    }
}
