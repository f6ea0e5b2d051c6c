//! `POST audio/speech`: a text read aloud. Sound is its output, so it uses `allow_audio`.

use super::{Ask, AskError, Field, Media, Role, read::present};
use crate::{
    base::json::{Kind, Value},
    policy::Feature,
};

/// The fields of a request for speech.
pub const SPEECH: &[Field] = &[
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("input", Role::Input),
    f("instructions", Role::Input),
    f("language", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("provider", Role::Priced),
    f("response_format", Role::Neutral),
    f("route", Role::NamesModel),
    f("sample_rate", Role::Neutral),
    f("speed", Role::Neutral),
    f("stream", Role::Own),
    f("stream_format", Role::Own),
    f("user", Role::Neutral),
    f("voice", Role::Own),
    f("voice_id", Role::NamesObject),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.features.insert(Feature::Audio);
    ask.read_stream(root)?;
    if super::read::word(root, "stream_format")?.is_some_and(|format| format == "sse") {
        ask.stream = true;
        ask.features.insert(Feature::Streaming);
    }
    let text = match present(root, "input") {
        None => None,
        Some(text) => Some(text.as_str().ok_or_else(|| AskError::expected("input", "a string"))?),
    };
    match present(root, "voice") {
        // A voice that somebody made of samples.
        Some(voice) if voice.kind() == Kind::Object => ask.add_objects("voice", voice)?,
        Some(voice) if voice.kind() != Kind::String => {
            return Err(AskError::expected("voice", "a voice's name, or an object with an `id`"));
        }
        Some(_) | None => {}
    }
    let characters = text.map_or(0, |text| text.chars().count());
    ask.media = Some(Media::Speech { characters: u64::try_from(characters).unwrap_or(u64::MAX) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;

    fn ask(members: &str) -> Result<Ask, AskError> {
        let row = find(&http::Method::POST, "/v1/audio/speech", Dialect::OpenAi).unwrap().row;
        read(row, format!(r#"{{"model":"m",{members}}}"#).as_bytes())
    }

    #[test]
    fn the_characters_of_the_text_are_counted_unescaped() {
        let of = |input: &str| ask(&format!(r#""input":{input},"voice":"alloy""#)).unwrap().media;
        for (input, characters) in
            [(r#""Good m\u00f6rning.""#, 13), ("\"\u{1f511}\\n\"", 2), ("\"\"", 0), ("null", 0)]
        {
            assert_eq!(of(input), Some(Media::Speech { characters }), "{input}");
        }
        assert!(ask(r#""input":["a"]"#).is_err() && ask(r#""input":1"#).is_err());
    }

    #[test]
    fn speech_is_sound_and_events_are_a_stream() {
        let plain = ask(r#""input":"a","voice":"alloy","stream_format":"audio""#).unwrap();
        assert_eq!((plain.features.iter().collect::<Vec<_>>(), plain.stream), (vec![Feature::Audio], false));
        for streamed in [r#""stream_format":"sse""#, r#""stream":true"#] {
            let streamed = ask(&format!(r#""input":"a",{streamed}"#)).unwrap();
            assert!(streamed.stream && streamed.features.contains(Feature::Streaming));
        }
    }

    #[test]
    fn a_voice_that_is_kept_is_an_object() {
        let made = ask(r#""input":"a","voice":{"id":"voice_1234"}"#).unwrap();
        assert_eq!((made.objects[0].field.as_str(), made.objects[0].id.as_str()), ("voice.id", "voice_1234"));
        assert!(ask(r#""voice":1"#).is_err() && ask(r#""voice":{}"#).is_err());
    }
}
