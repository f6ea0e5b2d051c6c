//! `POST audio/transcriptions` and `audio/translations`: a sound written down. Sound is its input, so it uses
//! `allow_audio`.
//!
//! No number of bytes says how long a sound is, so all of the input counts as what is not in the body.

use super::{Ask, AskError, Field, Media, Multipart, Role, part::is_remote};
use crate::base::json::{Document, Kind, Limits, Member};
use crate::policy::Feature;

/// The fields of a transcription.
pub const TRANSCRIPTION: &[Field] = &[
    // Cut into pieces, a sound is more than one call of the model.
    f("chunking_strategy", Role::Priced),
    f("chunking_strategy[prefix_padding_ms]", Role::Priced),
    f("chunking_strategy[silence_duration_ms]", Role::Priced),
    f("chunking_strategy[threshold]", Role::Priced),
    f("chunking_strategy[type]", Role::Priced),
    f("context_bias", Role::Input),
    f("context_bias[]", Role::Input),
    f("diarize", Role::Neutral),
    f("file", Role::File),
    f("file_id", Role::NamesObject),
    f("file_url", Role::Uses(Feature::RemoteUrls)),
    f("include", Role::Neutral),
    f("include[]", Role::Neutral),
    f("keywords", Role::Input),
    f("keywords[]", Role::Input),
    f("known_speaker_names", Role::Input),
    f("known_speaker_names[]", Role::Input),
    f("known_speaker_references", Role::Own),
    f("known_speaker_references[]", Role::Own),
    f("language", Role::Neutral),
    f("languages", Role::Neutral),
    f("languages[]", Role::Neutral),
    f("model", Role::Own),
    f("prompt", Role::Input),
    f("response_format", Role::Neutral),
    f("speaker_references", Role::Own),
    f("stream", Role::Own),
    f("temperature", Role::Neutral),
    f("timestamp_granularities", Role::Neutral),
    f("timestamp_granularities[]", Role::Neutral),
    f("url", Role::Uses(Feature::RemoteUrls)),
    f("user", Role::Neutral),
];

/// The fields of a translation.
pub const TRANSLATION: &[Field] = &[
    f("file", Role::File),
    f("language", Role::Neutral),
    f("model", Role::Own),
    f("prompt", Role::Input),
    f("response_format", Role::Neutral),
    f("stream", Role::Own),
    f("temperature", Role::Neutral),
    f("url", Role::Uses(Feature::RemoteUrls)),
    f("user", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(form: &Multipart<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.features.insert(Feature::Audio);
    ask.stream = form.flag("stream")?;
    if ask.stream {
        ask.features.insert(Feature::Streaming);
    }
    for part in form.parts.iter().filter(|part| part.name.starts_with("known_speaker_references")) {
        if is_remote(part.text()?) {
            ask.features.insert(Feature::RemoteUrls);
        }
    }
    if form.text("speaker_references")?.is_some_and(refers_elsewhere) {
        ask.features.insert(Feature::RemoteUrls);
    }
    ask.input.beyond_body = true;
    ask.media = Some(Media::Hearing);
    Ok(())
}

/// Whether sounds of known speakers, as JSON by name, are to be fetched; what is none could be anything.
fn refers_elsewhere(text: &str) -> bool {
    let Ok(document) = Document::parse(text.as_bytes(), Limits::REQUEST) else { return true };
    let root = document.root();
    let is_elsewhere = |member: Member<'_>| member.value.as_str().is_none_or(|sound| is_remote(&sound));
    root.kind() != Kind::Object || root.members().any(is_elsewhere)
}

#[cfg(test)]
mod tests {
    use super::super::read_body;
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;

    fn ask(path: &str, parts: &[(&str, &str)]) -> Result<Ask, AskError> {
        let row = find(&http::Method::POST, path, Dialect::OpenAi).unwrap().row;
        let fields: String = parts.iter().map(|(name, text)| Multipart::written("b", name, text)).collect();
        let file = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\nRIFF\r\n--b--\r\n";
        read_body(row, Some("multipart/form-data; boundary=b"), (fields + file).as_bytes())
    }

    fn transcription(parts: &[(&str, &str)]) -> Result<Ask, AskError> {
        ask("/v1/audio/transcriptions", &[&[("model", "m")], parts].concat())
    }

    #[test]
    fn a_sound_is_not_bounded_by_its_bytes() {
        for path in ["/v1/audio/transcriptions", "/v1/audio/translations"] {
            let heard = ask(path, &[("model", "m"), ("prompt", "p"), ("response_format", "vtt")]).unwrap();
            assert_eq!(
                (heard.media, heard.input.beyond_body, heard.stream),
                (Some(Media::Hearing), true, false)
            );
            assert_eq!(heard.features.iter().collect::<Vec<_>>(), [Feature::Audio]);
        }
        let listed = [
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities[]", "segment"),
            ("include[]", "logprobs"),
        ];
        let listed = transcription(&listed).unwrap();
        assert!(listed.unknown_fields.is_empty() && listed.unbounded_prices.is_empty());
        let streamed = transcription(&[("stream", "true")]).unwrap();
        assert!(streamed.stream && streamed.features.contains(Feature::Streaming));
    }

    #[test]
    fn what_is_elsewhere_or_cut_into_pieces_is_told() {
        for parts in [
            [("file_url", "https://x/a.mp3")],
            [("known_speaker_references[]", "https://x/a.mp3")],
            [("speaker_references", r#"{"ana": "https://x/a.mp3"}"#)],
            [("speaker_references", r#"{"ana": ["UklGRg=="]}"#)],
            [("speaker_references", "https://x/a.mp3")],
        ] {
            assert!(transcription(&parts).unwrap().features.contains(Feature::RemoteUrls), "{parts:?}");
        }
        let inside = transcription(&[("known_speaker_references[]", "data:audio/wav;base64,AAAA")]).unwrap();
        assert!(!inside.features.contains(Feature::RemoteUrls));
        let inside = transcription(&[("speaker_references", r#"{"ana": "UklGRg=="}"#)]).unwrap();
        assert!(!inside.features.contains(Feature::RemoteUrls) && inside.unknown_fields.is_empty());
        assert_eq!(transcription(&[("file_id", "file-1")]).unwrap().objects[0].id, "file-1");
        let cut = transcription(&[("chunking_strategy", "auto")]).unwrap();
        assert_eq!(cut.unbounded_prices, ["chunking_strategy"]);
        let cut = transcription(&[("chunking_strategy[type]", "server_vad")]).unwrap();
        assert_eq!(cut.unbounded_prices, ["chunking_strategy[type]"]);
        for bad in [("stream", "yes"), ("model", "other"), ("Stream", "true")] {
            assert!(transcription(&[bad]).is_err(), "{bad:?}");
        }
    }
}
