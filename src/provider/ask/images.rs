//! `POST images/generations`, `images/edits` and `images/variations`: what is read of them whatever their form, and of
//! JSON.
//!
//! `allow_images` is about pictures in the input. So an edit and a variation use it, and making a picture of a text does
//! not: that is what the operation `images` is for.

use super::{
    Ask, AskError, Field, Media, PicturesAsk, Role, part::is_remote, read::CANDIDATES_MAX, read::present,
};
use crate::{
    base::json::{Kind, Value},
    policy::Feature,
};

/// The fields of a request for pictures, as JSON.
pub const IMAGES: &[Field] = &[
    f("background", Role::Neutral),
    f("complexity", Role::Priced),
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("frame_count", Role::Priced),
    f("frame_duration_ms", Role::Neutral),
    f("image", Role::Input),
    f("image_url", Role::Input),
    f("images", Role::Input),
    f("input_fidelity", Role::Own),
    f("markup", Role::Input),
    f("mask", Role::Input),
    f("metadata", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("moderation", Role::Neutral),
    f("n", Role::Own),
    f("output_compression", Role::Neutral),
    f("output_format", Role::Own),
    f("partial_images", Role::Own),
    f("prompt", Role::Input),
    f("prompt_rewriter", Role::Priced),
    f("provider", Role::Priced),
    f("quality", Role::Own),
    f("response_format", Role::Neutral),
    f("route", Role::NamesModel),
    f("safety_identifier", Role::Neutral),
    f("size", Role::Own),
    f("stream", Role::Own),
    f("style", Role::Neutral),
    f("svg", Role::NamesModel),
    f("user", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

/// The fields that say how pictures are to be, as they stand in a body.
#[derive(Debug, Default)]
pub(super) struct Wanted<'b> {
    pub(super) n: Option<&'b str>,
    pub(super) partial_images: Option<&'b str>,
    pub(super) size: Option<String>,
    pub(super) quality: Option<String>,
    pub(super) output_format: Option<String>,
    pub(super) input_fidelity: Option<String>,
}

/// More previews than any provider makes of one picture.
const PARTIAL_MAX: u64 = 64;

impl Wanted<'_> {
    /// Notes what is wanted. `stream` is read already.
    pub(super) fn note(self, ask: &mut Ask) -> Result<(), AskError> {
        let count = whole(self.n, 1..=CANDIDATES_MAX)
            .ok_or_else(|| AskError::expected("n", "a whole number from 1 to 128"))?
            .unwrap_or(1);
        let partial = whole(self.partial_images, 0..=PARTIAL_MAX)
            .ok_or_else(|| AskError::expected("partial_images", "a whole number from 0 to 64"))?
            .unwrap_or(0);
        let is = |word: &Option<String>, wanted: &[&str]| {
            word.as_deref().is_none_or(|word| wanted.contains(&word))
        };
        // Frames, and the model that draws by writing, are billed in ways that no list says.
        if !is(&self.output_format, &["png", "webp", "jpeg"]) {
            ask.unbounded_prices.push("output_format".into());
        }
        if !is(&self.input_fidelity, &["low"]) {
            ask.unbounded_prices.push("input_fidelity".into());
        }
        // Each picture of a stream tells its own usage: one that broke off after the first would tell too little.
        if ask.stream && count > 1 {
            ask.unbounded_prices.push("n of a stream".into());
        }
        ask.output.candidates = count;
        let (size, quality) = (self.size, self.quality);
        ask.media = Some(Media::Pictures(PicturesAsk { count, partial, size, quality }));
        Ok(())
    }
}

/// A plain number within these; `Some(None)` where there is none.
#[expect(clippy::option_option, reason = "not in order, absent, there")]
fn whole(text: Option<&str>, among: std::ops::RangeInclusive<u64>) -> Option<Option<u64>> {
    let Some(text) = text else { return Some(None) };
    let is_plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_plain && among.contains(number)).map(Some)
}

/// Reads the JSON form.
pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.read_stream(root)?;
    let number = |field| match present(root, field) {
        None => Ok(None),
        Some(value) if value.kind() == Kind::Number => Ok(Some(value.raw())),
        Some(_) => Err(AskError::expected(field, "a whole number")),
    };
    let wanted = Wanted {
        n: number("n")?,
        partial_images: number("partial_images")?,
        size: super::read::word(root, "size")?,
        quality: super::read::word(root, "quality")?,
        output_format: super::read::word(root, "output_format")?,
        input_fidelity: super::read::word(root, "input_fidelity")?,
    };
    wanted.note(ask)?;
    for field in ["image", "image_url", "images", "markup", "mask"] {
        match present(root, field) {
            None => {}
            Some(list) if list.kind() == Kind::Array => {
                for picture in list.items() {
                    read_picture(field, picture, ask)?;
                }
            }
            Some(picture) => read_picture(field, picture, ask)?,
        }
    }
    Ok(())
}

/// Reads the JSON form of an edit, whose pictures are URLs, or files that the provider keeps.
pub(super) fn read_edit(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.features.insert(Feature::Images);
    read(root, ask)
}

/// A picture to go by: a URL, one in an object, or one that the provider keeps.
fn read_picture(field: &'static str, picture: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    match picture.kind() {
        Kind::String => ask.read_image_url(picture),
        Kind::Object => {
            ask.features.insert(Feature::Images);
            let urls = ["image_url", "url"].into_iter().filter_map(|place| present(picture, place));
            let before = ask.input.images;
            urls.into_iter().try_for_each(|url| ask.read_image_url(url))?;
            if let Some(id) = present(picture, "file_id") {
                ask.add_picture(field, id)?;
            }
            if ask.input.images == before {
                ask.input.images += 1;
            }
            // Whatever else it says, what names something to be fetched does.
            let is_url =
                |value: Value<'_>| !value.is_key() && value.as_str().is_some_and(|text| is_remote(&text));
            if picture.walk().any(is_url) {
                ask.features.insert(Feature::RemoteUrls);
                ask.input.beyond_body = true;
            }
            Ok(())
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::Array => Err(AskError::expected(
            field,
            "a picture: a URL, or an object with an `image_url`, a `url` or a `file_id`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;

    fn ask(members: &str) -> Result<Ask, AskError> {
        let row = find(&http::Method::POST, "/v1/images/generations", Dialect::OpenAi).unwrap().row;
        read(row, format!(r#"{{"model":"m","prompt":"p"{members}}}"#).as_bytes())
    }

    fn wanted(members: &str) -> PicturesAsk {
        match ask(members).unwrap().media {
            Some(Media::Pictures(wanted)) => wanted,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn how_many_pictures_of_what_kind_is_read() {
        assert_eq!(wanted(""), PicturesAsk { count: 1, ..PicturesAsk::default() });
        let all = r#","n":3,"size":"1024x1024","quality":"low","partial_images":0"#;
        let (size, quality) = (Some("1024x1024".into()), Some("low".into()));
        assert_eq!(wanted(all), PicturesAsk { count: 3, partial: 0, size, quality });
        assert_eq!(wanted(r#","n":null,"size":null,"partial_images":2"#).partial, 2);
        for bad in [
            r#","n":0"#,
            r#","n":129"#,
            r#","n":1.0"#,
            r#","n":"1""#,
            r#","n":1e0"#,
            r#","partial_images":-1"#,
            r#","partial_images":true"#,
            r#","size":1"#,
            r#","quality":[]"#,
            r#","stream":"true""#,
            r#","image":1"#,
            r#","images":[[]]"#,
        ] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_has_no_known_price_is_told() {
        for (members, told) in [
            (r#","output_format":"gif","frame_count":3"#, vec!["frame_count", "output_format"]),
            (r#","output_format":"svg""#, vec!["output_format"]),
            (r#","input_fidelity":"high""#, vec!["input_fidelity"]),
            (r#","complexity":"high""#, vec!["complexity"]),
            (r#","stream":true,"n":2"#, vec!["n of a stream"]),
            (
                r#","output_format":"webp","input_fidelity":"low","complexity":null,"stream":true,"n":1"#,
                vec![],
            ),
        ] {
            assert_eq!(ask(members).unwrap().unbounded_prices, told, "{members}");
        }
        assert!(ask(r#","svg":{"model":"dear"}"#).is_err(), "another model");
    }

    #[test]
    fn a_picture_of_a_text_uses_no_feature_and_pictures_to_go_by_do() {
        assert_eq!(ask("").unwrap().features.iter().count(), 0);
        assert!(ask(r#","stream":true"#).unwrap().features.contains(Feature::Streaming));
        let payload = "A".repeat(4_000);
        let given = format!(
            r#","image":"data:image/png;base64,{payload}","images":[{{"image_url":"https://x/y.png"}},{{"file_id":"file-1"}}]"#
        );
        let given = ask(&given).unwrap();
        let used: Vec<_> = given.features.iter().collect();
        assert_eq!(used, [Feature::Images, Feature::RemoteUrls]);
        assert_eq!((given.input.images, given.input.beyond_body), (3, true));
        assert_eq!((given.objects[0].field.as_str(), given.objects[0].id.as_str()), ("images", "file-1"));
        assert!(given.input.text_bytes < 1_000);
    }

    #[test]
    fn a_picture_in_an_object_is_fetched_or_not_like_one_that_is_not() {
        let seen = |picture: &str| {
            let ask = ask(&format!(r#","image":{picture}"#)).unwrap();
            (ask.input.images, ask.features.contains(Feature::RemoteUrls), ask.input.beyond_body)
        };
        for remote in [
            r#""https://x/y.png""#,
            r#"{"image_url":"https://x/y.png"}"#,
            r#"{"url":"https://x/y.png"}"#,
            r#"[{"url":"https://x/y.png"}]"#,
            r#"{"image_url":{"url":"https://x/y.png"}}"#,
            r#"{"source":{"uri":"gs://x/y.png"}}"#,
        ] {
            assert_eq!(seen(remote), (1, true, true), "{remote}");
        }
        let inside = r#"{"url":"data:image/png;base64,AAAA"}"#;
        assert_eq!(seen(inside), (1, false, false));
        assert_eq!(seen(r#"{"b64_json":"AAAA"}"#), (1, false, false));
        assert_eq!(seen(r#"{"url":"https://x/y.png","image_url":"https://x/z.png"}"#), (2, true, true));
    }

    #[test]
    fn an_edit_may_come_as_json_with_pictures_that_are_elsewhere() {
        let row = find(&http::Method::POST, "/v1/images/edits", Dialect::OpenAi).unwrap().row;
        let edit = |body: &str| super::super::read_body(row, Some("application/json"), body.as_bytes());
        let url = |url: &str| format!(r#"{{"model":"m","prompt":"p","images":[{{"image_url":"{url}"}}]}}"#);
        let inside = edit(&url("data:image/png;base64,iVBORw0KGgo=")).unwrap();
        assert_eq!((inside.input.images, inside.models[0].name.as_str()), (1, "m"));
        assert_eq!(inside.features.iter().collect::<Vec<_>>(), [Feature::Images]);
        assert!(edit(&url("https://x.example/a.png")).unwrap().features.contains(Feature::RemoteUrls));
        let kept = edit(
            r#"{"model":"m","prompt":"p","images":[{"file_id":"file-1"}],"mask":{"file_id":"file-2"},"n":2,"size":"1024x1024"}"#,
        )
        .unwrap();
        assert_eq!(kept.objects.iter().map(|one| one.id.as_str()).collect::<Vec<_>>(), ["file-1", "file-2"]);
        assert!(
            kept.features.contains(Feature::Images)
                && kept.input.beyond_body
                && kept.unknown_fields.is_empty()
        );
        assert_eq!(kept.output.candidates, 2);
        assert_eq!(edit(r#"{"prompt":"p"}"#), Err(AskError::ModelRequired));
        let bare = edit(r#"{"model":"m","prompt":"p"}"#).unwrap();
        assert!(bare.features.contains(Feature::Images), "it is an edit");
        let variation = find(&http::Method::POST, "/v1/images/variations", Dialect::OpenAi).unwrap().row;
        let json = super::super::read_body(variation, Some("application/json"), br#"{"model":"m"}"#);
        assert!(matches!(json, Err(AskError::ContentType(_))), "what has only files comes as a form");
    }
}
