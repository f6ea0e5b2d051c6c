//! `POST audio/speech`: a text read aloud. Sound is its output, so it uses `allow_audio`.

use super::{Ask, AskError, Field, Media, Role, part::is_remote, read::present};
use crate::{
    base::json::{Kind, Value},
    policy::Feature,
};

/// The fields of a request for speech.
pub const SPEECH: &[Field] = &[
    // No list says what it costs to read what was said before.
    f("conversation_history", Role::Priced),
    f("expressiveness", Role::Neutral),
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("input", Role::Input),
    f("instructions", Role::Input),
    f("language", Role::Neutral),
    f("metadata", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("phoneme_hints", Role::Input),
    f("prompt_cache_key", Role::Neutral),
    f("provider", Role::Priced),
    f("ref_audio", Role::Own),
    f("response_format", Role::Neutral),
    f("route", Role::NamesModel),
    f("sample_rate", Role::Neutral),
    f("speed", Role::Neutral),
    f("stream", Role::Own),
    f("stream_format", Role::Own),
    f("user", Role::Neutral),
    f("voice", Role::Own),
    f("voice_id", Role::Own),
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
    if let Some(voice) = present(root, "voice_id")
        && !voice.as_str().is_some_and(|id| is_preset(&id))
    {
        ask.add_objects("voice_id", voice)?;
    }
    if let Some(sound) = present(root, "ref_audio")
        && sound.as_str().is_none_or(|sound| is_remote(&sound))
    {
        ask.features.insert(Feature::RemoteUrls);
    }
    let characters = text.map_or(0, |text| text.chars().count());
    ask.media = Some(Media::Speech { characters: u64::try_from(characters).unwrap_or(u64::MAX) });
    Ok(())
}

/// Whether it is a voice that Mistral gives everybody: a number of the third generation's, or one of the second's speakers
/// with a mood. Any other is one that somebody made in the account.
fn is_preset(id: &str) -> bool {
    const SPEAKERS: [&str; 4] = ["en_paul_", "fr_marie_", "gb_jane_", "gb_oliver_"];
    let is_number =
        |rest: &str| (1..=4).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit());
    let is_mood = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_lowercase());
    id.strip_prefix("voice_").is_some_and(is_number)
        || SPEAKERS.iter().any(|speaker| id.strip_prefix(speaker).is_some_and(is_mood))
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
    fn mistrals_own_voices_are_anybodys_and_others_are_objects() {
        for preset in ["voice_478", "voice_592", "gb_jane_neutral", "en_paul_happy", "fr_marie_sad"] {
            let ask = ask(&format!(r#""input":"a","voice_id":"{preset}""#)).unwrap();
            assert!(ask.objects.is_empty() && ask.unknown_fields.is_empty(), "{preset}");
        }
        for made in [
            "voice_12345",
            "voice_",
            "voice_478a",
            "voice_4_8",
            "gb_jane_",
            "gb_jane_Neutral",
            "gb_jane_a_b",
            "de_hans_sad",
            "my-voice",
            "5940190b-f58a-4c3e-8264-a40d63fd6883",
            "",
        ] {
            let ask = ask(&format!(r#""input":"a","voice_id":"{made}""#)).unwrap();
            assert_eq!((ask.objects[0].field.as_str(), ask.objects[0].id.as_str()), ("voice_id", made));
        }
        assert!(ask(r#""input":"a","voice_id":1"#).is_err());
        assert!(ask(r#""input":"a","voice_id":null"#).unwrap().objects.is_empty());
    }

    #[test]
    fn all_that_mistrals_library_sends_is_known() {
        let all = r#""input":"a","metadata":{},"stream":false,"prompt_cache_key":"k","expressiveness":1.5,
            "phoneme_hints":{"a":["b"]},"conversation_history":[],"response_format":"mp3","ref_audio""#;
        let inside = ask(&format!(r#"{all}:"UklGRg==""#)).unwrap();
        assert!(inside.unknown_fields.is_empty() && !inside.features.contains(Feature::RemoteUrls));
        assert!(
            ask(&format!(r#"{all}:"https://x.example/a.wav""#))
                .unwrap()
                .features
                .contains(Feature::RemoteUrls)
        );
    }

    #[test]
    fn a_voice_that_is_kept_is_an_object() {
        let made = ask(r#""input":"a","voice":{"id":"voice_1234"}"#).unwrap();
        assert_eq!((made.objects[0].field.as_str(), made.objects[0].id.as_str()), ("voice.id", "voice_1234"));
        assert!(ask(r#""voice":1"#).is_err() && ask(r#""voice":{}"#).is_err());
    }
}
