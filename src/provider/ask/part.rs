//! Content parts of the `OpenAI` dialect: text, pictures, sound, files.
//!
//! A part is read by the members it has, not only by its `type`: lenient servers look at those.

use super::{Ask, AskError, read::present};
use crate::{
    base::json::{Kind, Value},
    policy::Feature,
};

/// Part types whose members are all known here.
const KNOWN_TYPES: [&str; 13] = [
    "audio_url",
    "document_url",
    "file",
    "image_url",
    "input_audio",
    "input_text",
    "output_text",
    "reasoning",
    "refusal",
    "text",
    "thinking",
    "video",
    "video_url",
];

impl Ask {
    /// Reads a message's content: a text, or parts. The field list has counted all of it as text.
    pub(super) fn read_openai_content(&mut self, content: Value<'_>) -> Result<(), AskError> {
        const FIELD: &str = "messages.content";
        match content.kind() {
            Kind::Null | Kind::String => {}
            Kind::Array => {
                for part in content.items() {
                    match part.kind() {
                        Kind::String => {}
                        Kind::Object => self.read_openai_part(part)?,
                        Kind::Null | Kind::Bool | Kind::Number | Kind::Array => {
                            return Err(AskError::expected(FIELD, "parts, each an object"));
                        }
                    }
                }
            }
            Kind::Bool | Kind::Number | Kind::Object => {
                return Err(AskError::expected(FIELD, "a string or an array of parts"));
            }
        }
        Ok(())
    }

    fn read_openai_part(&mut self, part: Value<'_>) -> Result<(), AskError> {
        for member in part.members() {
            match &*member.name() {
                "image_url" | "image" => self.read_image_url(member.value)?,
                "input_audio" | "audio" => self.read_sound(member.value),
                "audio_url" => {
                    self.read_sound(member.value);
                    self.features.insert(Feature::RemoteUrls);
                }
                "file" => self.read_file(member.value)?,
                "document_url" => {
                    self.read_file(member.value)?;
                    self.features.insert(Feature::RemoteUrls);
                }
                "video_url" | "video" => self.read_video(member.value),
                "file_id" => {
                    self.features.insert(Feature::Files);
                    self.add_objects("messages.content.file_id", member.value)?;
                }
                _ => {}
            }
        }
        let is_known = match present(part, "type") {
            Some(kind) => KNOWN_TYPES.iter().any(|known| kind.is_str(known)),
            None => part.get("text").is_some(),
        };
        if !is_known {
            self.add_unknown_part(part);
        }
        Ok(())
    }

    /// A part that is not known: all of it counts, and more than is in the body may be billed.
    pub(super) fn add_unknown_part(&mut self, part: Value<'_>) {
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        self.add_unknown(&format!("messages.content.type={kind}"));
        self.input.raise_to_rewritten(part);
        self.input.reach_beyond_body();
        let is_url =
            |value: Value<'_>| !value.is_key() && value.as_str().is_some_and(|text| is_remote(&text));
        if part.walk().any(is_url) {
            self.features.insert(Feature::RemoteUrls);
        }
    }

    /// A picture: in the body as a `data:` URL, or to be fetched from elsewhere.
    pub(super) fn read_image_url(&mut self, value: Value<'_>) -> Result<(), AskError> {
        self.features.insert(Feature::Images);
        self.input.images += 1;
        if let Some(id) = present(value, "file_id") {
            self.add_picture("messages.content.image_url.file_id", id)?;
        }
        let url = if value.kind() == Kind::Object { value.get("url") } else { Some(value) };
        let text = url.and_then(Value::as_str).unwrap_or_default();
        match url {
            Some(payload) if text.starts_with("data:image/") => self.input.take_out(payload),
            Some(_) if !text.is_empty() && !text.starts_with("data:") => {
                self.features.insert(Feature::RemoteUrls);
                self.input.beyond_body = true;
            }
            Some(_) | None => self.input.beyond_body = true,
        }
        Ok(())
    }

    /// Notes a picture that is kept by the provider, and counted.
    pub(super) fn add_picture(&mut self, field: &str, id: Value<'_>) -> Result<(), AskError> {
        let uncounted_pictures = self.input.uncounted_pictures;
        self.add_objects(field, id)?;
        self.input.uncounted_pictures = uncounted_pictures;
        Ok(())
    }

    fn read_sound(&mut self, value: Value<'_>) {
        self.features.insert(Feature::Audio);
        self.input.beyond_body = true;
        self.take_out_payload(value, &["data", "url"]);
    }

    fn read_file(&mut self, value: Value<'_>) -> Result<(), AskError> {
        self.features.insert(Feature::Files);
        self.input.reach_beyond_body();
        if let Some(id) = present(value, "file_id") {
            self.add_objects("messages.content.file.file_id", id)?;
        }
        self.take_out_payload(value, &["file_data", "file_url", "url"]);
        Ok(())
    }

    fn read_video(&mut self, value: Value<'_>) {
        self.features.insert(Feature::Images);
        self.input.reach_beyond_body();
        self.take_out_payload(value, &["url"]);
        let frames = value.items().filter_map(Value::as_str);
        if frames.into_iter().any(|frame| is_remote(&frame)) {
            self.features.insert(Feature::RemoteUrls);
        }
    }

    /// Takes out what the media member holds, itself a string or in one of its `fields`; what is not in
    /// the body but a URL is fetched.
    fn take_out_payload(&mut self, value: Value<'_>, fields: &[&str]) {
        let inside = fields.iter().filter_map(|field| value.get(field));
        for payload in inside.chain([value]) {
            if let Some(text) = payload.as_str() {
                self.input.take_out(payload);
                if is_remote(&text) {
                    self.features.insert(Feature::RemoteUrls);
                }
            }
        }
    }
}

/// Whether a text names something to be fetched.
pub(super) fn is_remote(text: &str) -> bool {
    let scheme = text.trim_start().split_once(':').map_or("", |(scheme, _)| scheme);
    ["http", "https", "gs", "s3", "ftp", "file"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::operation::ROWS;

    fn parts(parts: &str) -> Result<Ask, AskError> {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":{parts}}}]}}"#);
        read(&ROWS[0], body.as_bytes())
    }

    fn features(ask: &Ask) -> Vec<Feature> {
        ask.features.iter().collect()
    }

    #[test]
    fn a_picture_in_the_body_is_counted_as_a_picture_not_as_text() {
        let payload = "A".repeat(10_000);
        let data = format!("data:image/png;base64,{payload}");
        for part in [
            format!(r#"[{{"type":"image_url","image_url":{{"url":"{data}"}}}}]"#),
            format!(r#"[{{"type":"image_url","image_url":"{data}"}}]"#),
        ] {
            let ask = parts(&part).unwrap();
            assert_eq!(features(&ask), [Feature::Images]);
            assert_eq!(ask.input.images, 1);
            assert!(!ask.input.beyond_body);
            assert!(ask.input.text_bytes < 200);
        }
        let text = format!(r#"[{{"type":"text","text":"{data}"}}]"#);
        assert!(parts(&text).unwrap().input.text_bytes > 10_000);
    }

    #[test]
    fn what_the_provider_fetches_is_said() {
        for url in ["https://x/y.png", "HTTP://x", "gs://bucket/x", " https://x"] {
            let ask = parts(&format!(r#"[{{"type":"image_url","image_url":{{"url":"{url}"}}}}]"#)).unwrap();
            assert_eq!(features(&ask), [Feature::Images, Feature::RemoteUrls], "{url}");
            assert!(ask.input.beyond_body);
        }
        let unknown = parts(r#"[{"type":"hologram","where":{"url":"https://x"}}]"#).unwrap();
        assert_eq!(features(&unknown), [Feature::RemoteUrls]);
        assert_eq!(unknown.unknown_fields, ["messages.content.type=hologram"]);
        assert!(unknown.input.beyond_body);
        let text = parts(r#"[{"type":"text","text":"see https://x"}, "https://y"]"#).unwrap();
        assert_eq!(features(&text), []);
    }

    #[test]
    fn sound_and_files_are_not_bounded_by_the_body() {
        let sound =
            parts(r#"[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]"#).unwrap();
        assert_eq!(features(&sound), [Feature::Audio]);
        assert!(sound.input.beyond_body);
        let inline = r#"[{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}]"#;
        let inline = parts(inline).unwrap();
        assert_eq!(features(&inline), [Feature::Files]);
        assert!(inline.input.beyond_body && inline.objects.is_empty());
        let stored = parts(r#"[{"type":"file","file":{"file_id":"file_1"}}]"#).unwrap();
        assert_eq!(
            (stored.objects[0].field.as_str(), stored.objects[0].id.as_str()),
            ("messages.content.file.file_id", "file_1")
        );
        let remote = parts(r#"[{"type":"file","file":{"file_data":"https://x/a.pdf"}}]"#).unwrap();
        assert_eq!(features(&remote), [Feature::Files, Feature::RemoteUrls]);
        let hidden = parts(r#"[{"type":"text","text":"x","image_url":{"url":"https://x"}}]"#).unwrap();
        assert_eq!(features(&hidden), [Feature::Images, Feature::RemoteUrls]);
    }

    #[test]
    fn pictures_that_cannot_be_counted_are_said() {
        let picture = r#"{"type":"image_url","image_url":{"url":"https://x/y.png"}}"#;
        for (part, is_uncounted) in [
            (r#"{"type":"video_url","video_url":{"url":"https://x/y.mp4"}}"#, true),
            (r#"{"type":"file","file":{"file_data":"data:application/pdf;base64,AAAA"}}"#, true),
            (r#"{"type":"file","file_id":"file_1"}"#, true),
            (r#"{"type":"hologram"}"#, true),
            (r#"{"type":"image_url","image_url":{"file_id":"file_1"}}"#, false),
            (r#"{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}"#, false),
            (r#"{"type":"text","text":"x"}"#, false),
        ] {
            let ask = parts(&format!("[{picture},{part}]")).unwrap();
            assert_eq!(ask.input.uncounted_pictures, is_uncounted, "{part}");
        }
    }

    #[test]
    fn content_of_another_form_is_refused() {
        for content in ["1", "{}", "true", "[1]", "[null]", "[[]]"] {
            assert!(parts(content).is_err(), "{content}");
        }
    }
}
