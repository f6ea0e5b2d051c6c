//! `POST images/edits` and `images/variations`: pictures to go by, as files of a form.

use super::images::Wanted;
use super::{Ask, AskError, Field, Multipart, Role};
use crate::policy::Feature;

/// The fields of an edit.
pub const IMAGE_EDIT: &[Field] = &[
    f("background", Role::Neutral),
    f("complexity", Role::Priced),
    f("frame_count", Role::Priced),
    f("frame_duration_ms", Role::Neutral),
    f("image", Role::File),
    f("image[]", Role::File),
    f("input_fidelity", Role::Own),
    f("markup", Role::File),
    f("mask", Role::File),
    f("model", Role::Own),
    f("moderation", Role::Neutral),
    f("n", Role::Own),
    f("output_compression", Role::Neutral),
    f("output_format", Role::Own),
    f("partial_images", Role::Own),
    f("prompt", Role::Input),
    f("prompt_rewriter", Role::Priced),
    f("quality", Role::Own),
    f("response_format", Role::Neutral),
    f("safety_identifier", Role::Neutral),
    f("size", Role::Own),
    f("stream", Role::Own),
    f("svg", Role::NamesModel),
    f("svg[model]", Role::NamesModel),
    f("user", Role::Neutral),
];

/// The fields of a variation.
pub const IMAGE_VARIATION: &[Field] = &[
    f("image", Role::File),
    f("model", Role::Own),
    f("n", Role::Own),
    f("prompt", Role::Input),
    f("quality", Role::Own),
    f("response_format", Role::Neutral),
    f("size", Role::Own),
    f("stream", Role::Own),
    f("user", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

/// Every file of these is a picture in the input.
const PICTURES: [&str; 4] = ["image", "image[]", "markup", "mask"];

pub(super) fn read(form: &Multipart<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.features.insert(Feature::Images);
    ask.stream = form.flag("stream")?;
    if ask.stream {
        ask.features.insert(Feature::Streaming);
    }
    let pictures = form.files(&PICTURES).count();
    ask.input.images = ask.input.images.saturating_add(u64::try_from(pictures).unwrap_or(u64::MAX));
    let word = |name| Ok::<_, AskError>(form.text(name)?.map(|text| crate::base::clip(text, 64)));
    let wanted = Wanted {
        n: form.text("n")?,
        partial_images: form.text("partial_images")?,
        size: word("size")?,
        quality: word("quality")?,
        output_format: word("output_format")?,
        input_fidelity: word("input_fidelity")?,
    };
    wanted.note(ask)
}

#[cfg(test)]
mod tests {
    use super::super::{FieldProblem, Media, PicturesAsk, read_body};
    use super::*;
    use crate::provider::Dialect;
    use crate::provider::operation::find;

    const FILE: &str = "\r\n\r\n\u{1}\r\n";

    fn ask(path: &str, parts: &[(&str, &str)]) -> Result<Ask, AskError> {
        let row = find(&http::Method::POST, path, Dialect::OpenAi).unwrap().row;
        let part = |(name, text): &(&str, &str)| match *text {
            FILE => {
                format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"f.png\"{FILE}")
            }
            text => Multipart::written("b", name, text),
        };
        let body: String = parts.iter().map(part).collect();
        read_body(row, Some("multipart/form-data; boundary=b"), (body + "--b--\r\n").as_bytes())
    }

    fn edit(parts: &[(&str, &str)]) -> Result<Ask, AskError> {
        ask("/v1/images/edits", &[&[("model", "m"), ("prompt", "blue")], parts].concat())
    }

    #[test]
    fn every_file_is_a_picture_in_the_input() {
        let one = edit(&[("image", FILE), ("n", "2"), ("quality", "low"), ("size", "1024x1024")]).unwrap();
        assert_eq!((one.input.images, one.models[0].name.as_str()), (1, "m"));
        assert_eq!(one.features.iter().collect::<Vec<_>>(), [Feature::Images]);
        let (quality, size) = (Some("low".into()), Some("1024x1024".into()));
        assert_eq!(one.media, Some(Media::Pictures(PicturesAsk { count: 2, partial: 0, size, quality })));
        let many = edit(&[
            ("image[]", FILE),
            ("image[]", FILE),
            ("mask", FILE),
            ("stream", "true"),
            ("partial_images", "1"),
        ]);
        let many = many.unwrap();
        assert_eq!((many.input.images, many.stream), (3, true));
        assert!(many.features.contains(Feature::Streaming));
        let varied = ask("/v1/images/variations", &[("image", FILE), ("model", "m"), ("n", "3")]).unwrap();
        assert_eq!((varied.input.images, varied.output.candidates), (1, 3));
    }

    #[test]
    fn a_form_that_can_be_read_in_two_ways_is_refused() {
        let both = edit(&[("image", FILE), ("image[]", FILE)]);
        assert_eq!(both.unwrap_err(), AskError::field("image", FieldProblem::SpeltTwice));
        for bad in [
            ("n", "01x"),
            ("n", "+1"),
            ("n", "0"),
            ("n", "2.0"),
            ("stream", "True"),
            ("stream", "1"),
            ("partial_images", "one"),
            ("image[0]", FILE),
            ("model", "other"),
            ("Model", "other"),
            ("svg[model]", "dear"),
            ("image", "https://x/y.png"),
        ] {
            assert!(edit(&[bad]).is_err(), "{bad:?}");
        }
        for path in ["/v1/images/edits", "/v1/images/variations"] {
            assert_eq!(ask(path, &[("image", FILE), ("prompt", "p")]), Err(AskError::ModelRequired));
        }
        let deployed = "/openai/deployments/d/images/edits";
        assert!(ask(deployed, &[("image", FILE), ("prompt", "p")]).is_ok(), "the path names it");
    }

    #[test]
    fn what_has_no_known_price_is_told() {
        for (part, told) in [
            (("output_format", "gif"), vec!["output_format"]),
            (("input_fidelity", "high"), vec!["input_fidelity"]),
            (("complexity", "high"), vec!["complexity"]),
            (("output_format", "webp"), vec![]),
        ] {
            assert_eq!(edit(&[part]).unwrap().unbounded_prices, told, "{part:?}");
        }
        assert_eq!(edit(&[("n", "2"), ("stream", "true")]).unwrap().unbounded_prices, ["n of a stream"]);
    }
}
