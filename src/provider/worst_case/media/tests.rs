use super::super::tests::{model, terms};
use super::super::worst_case;
use super::*;
use crate::policy::Feature;
use crate::provider::ask::InputMeasure;
use crate::provider::model::ModelFacts;
use crate::provider::price::tests::usd;
use crate::provider::{Reading, Usage};

fn by_token() -> Prices {
    Prices {
        input_per_mtok_usd: usd("5"),
        image_input_per_mtok_usd: usd("10"),
        output_per_mtok_usd: usd("10"),
        image_output_per_mtok_usd: usd("40"),
        ..Prices::default()
    }
}

fn by_piece() -> Prices {
    Prices {
        output_per_image_usd: usd("0.04"),
        input_per_character_usd: usd("0.000015"),
        input_per_second_usd: usd("0.0001"),
        ..Prices::default()
    }
}

fn facts() -> ModelFacts {
    ModelFacts {
        context_window: Some(10_000),
        max_output_tokens: Some(6_240),
        max_image_tokens: Some(323),
        picture_tokens: [("low", 408), ("low/1024x1024", 272), ("medium", 1_584)]
            .map(|(name, tokens)| (name.to_owned(), tokens))
            .into(),
        max_input_seconds: Some(1_500),
        ..ModelFacts::default()
    }
}

fn ask(media: Media) -> Ask {
    Ask {
        input: InputMeasure { text_bytes: 744, ..InputMeasure::default() },
        media: Some(media),
        ..Ask::default()
    }
}

fn wanted(quality: Option<&str>, size: Option<&str>) -> PicturesAsk {
    PicturesAsk { count: 2, quality: quality.map(str::to_owned), size: size.map(str::to_owned), partial: 0 }
}

fn of(facts: ModelFacts, prices: Prices, ask: &Ask) -> Result<Estimate, Unpriced> {
    let effective_from = "2026-01-01T00:00:00Z".parse().unwrap();
    let version = PriceVersion { prices, effective_from, version: "v".into() };
    let operation =
        if matches!(ask.media, Some(Media::Pictures(_))) { Operation::Images } else { Operation::Audio };
    worst_case(&model(facts), &version, operation, ask, terms(None))
}

fn pictures(facts: ModelFacts, prices: Prices, wanted: PicturesAsk) -> Result<Estimate, Unpriced> {
    of(facts, prices, &ask(Media::Pictures(wanted)))
}

/// Without what surrounds texts.
fn text_cost(estimate: &Estimate) -> i64 {
    assert_eq!(estimate.input_tokens, 744 + 256);
    5_000 * 1_000
}

#[test]
fn pictures_are_bounded_by_what_is_known_of_their_quality_and_size() {
    for (quality, size, each) in [
        (Some("low"), Some("1024x1024"), 272),
        (Some("low"), Some("1024x1536"), 408),
        (Some("low"), Some("auto"), 408),
        (Some("low"), None, 408),
        (Some("medium"), Some("1024x1024"), 1_584),
        (Some("high"), Some("1024x1024"), 6_240),
        (Some("auto"), Some("1024x1024"), 6_240),
        (None, None, 6_240),
    ] {
        let estimate = pictures(facts(), by_token(), wanted(quality, size)).unwrap();
        assert_eq!((estimate.candidates, estimate.output_tokens), (2, 2 * each), "{quality:?} {size:?}");
        let tokens = i64::try_from(2 * each).unwrap();
        assert_eq!(estimate.total.as_nano(), text_cost(&estimate) + tokens * 40_000);
    }
    let shown = PicturesAsk { count: 1, partial: 3, ..wanted(Some("low"), None) };
    assert_eq!(pictures(facts(), by_token(), shown).unwrap().output_tokens, 408 + 300);
    let unknown = ModelFacts { max_output_tokens: None, ..facts() };
    assert!(pictures(unknown.clone(), by_token(), wanted(Some("low"), None)).is_ok());
    for quality in [None, Some("auto"), Some("high")] {
        let refused = pictures(unknown.clone(), by_token(), wanted(quality, None));
        assert!(matches!(refused, Err(Unpriced::Unbounded { .. })), "{quality:?}");
    }
}

#[test]
fn pictures_to_go_by_are_input_at_the_price_of_pictures() {
    let mut edit = ask(Media::Pictures(wanted(Some("low"), None)));
    edit.input.images = 3;
    edit.features.insert(Feature::Images);
    let estimate = of(facts(), by_token(), &edit).unwrap();
    assert_eq!(estimate.input_tokens, 1_000 + 3 * 323);
    assert_eq!(estimate.total.as_nano(), 1_969 * 10_000 + 816 * 40_000);
    let fee = Prices { input_per_image_usd: usd("0.01"), ..by_token() };
    assert_eq!(
        of(facts(), fee.clone(), &edit).unwrap().total.as_nano(),
        1_969 * 10_000 + 816 * 40_000 + 30_000_000
    );
    edit.input.uncounted_pictures = true;
    assert!(of(facts(), fee, &edit).is_err());
    let unknown = ModelFacts { max_image_tokens: None, context_window: None, ..facts() };
    assert!(matches!(of(unknown, by_token(), &edit), Err(Unpriced::Unbounded { .. })));
}

#[test]
fn a_price_for_a_picture_is_that_of_a_plain_one() {
    for (quality, size) in [
        (None, None),
        (Some("auto"), Some("auto")),
        (Some("standard"), Some("1024x1024")),
        (None, Some("256x256")),
    ] {
        let estimate = pictures(ModelFacts::default(), by_piece(), wanted(quality, size)).unwrap();
        assert_eq!(
            (estimate.total.as_nano(), estimate.output_tokens),
            (80_000_000, 0),
            "{quality:?} {size:?}"
        );
        assert_eq!(estimate.visible_bytes_max(1), u64::MAX);
    }
    for (quality, size) in [
        (Some("hd"), None),
        (Some("high"), None),
        (None, Some("1792x1024")),
        (None, Some("1024x99999999999999999999")),
        (None, Some("4K")),
    ] {
        let refused = pictures(ModelFacts::default(), by_piece(), wanted(quality, size));
        assert!(matches!(refused, Err(Unpriced::Feature { .. })), "{quality:?} {size:?}");
        assert!(pictures(facts(), by_token(), wanted(quality, size)).is_ok());
    }
    let shown = PicturesAsk { partial: 1, ..wanted(None, None) };
    assert!(pictures(ModelFacts::default(), by_piece(), shown).is_err());
    let thinks = ModelFacts { capabilities: vec!["reasoning".into()], ..ModelFacts::default() };
    assert!(matches!(pictures(thinks, by_piece(), wanted(None, None)), Err(Unpriced::Model { .. })));
}

#[test]
fn what_has_no_price_of_any_kind_is_never_0() {
    let input_only = Prices { input_per_mtok_usd: usd("5"), ..Prices::default() };
    let output_only = Prices { output_per_mtok_usd: usd("5"), ..Prices::default() };
    for media in [Media::Pictures(wanted(None, None)), Media::Speech { characters: 5 }, Media::Hearing] {
        for prices in [Prices::default(), input_only.clone(), output_only.clone()] {
            assert!(
                matches!(of(facts(), prices, &ask(media.clone())), Err(Unpriced::Model { .. })),
                "{media:?}"
            );
        }
    }
    let both = Prices { output_per_image_usd: usd("0.04"), ..input_only };
    let estimate = pictures(facts(), both, wanted(None, None)).unwrap();
    assert_eq!(
        estimate.total.as_nano(),
        text_cost(&estimate) + 80_000_000,
        "the text by tokens, pictures by piece"
    );
}

#[test]
fn speech_is_bounded_by_its_characters_or_by_a_ceiling_on_its_tokens() {
    let speech = ask(Media::Speech { characters: 13 });
    let estimate = of(ModelFacts::default(), by_piece(), &speech).unwrap();
    assert_eq!((estimate.total.as_nano(), estimate.characters), (13 * 15_000, 13));
    let prices = Prices { audio_output_per_mtok_usd: usd("12"), ..by_token() };
    let refused = of(ModelFacts { max_output_tokens: None, ..facts() }, prices.clone(), &speech);
    assert!(matches!(refused, Err(Unpriced::Unbounded { .. })), "no bound on a sound is documented");
    let estimate = of(facts(), prices, &speech).unwrap();
    assert_eq!(estimate.total.as_nano(), text_cost(&estimate) + 6_240 * 12_000);
    assert_eq!(estimate.characters, 0, "they have no price");
}

#[test]
fn a_transcript_is_bounded_by_the_window_or_by_a_ceiling_on_the_seconds() {
    let mut heard = ask(Media::Hearing);
    heard.input.beyond_body = true;
    heard.features.insert(Feature::Audio);
    let by_second = of(facts(), by_piece(), &heard).unwrap();
    assert_eq!(by_second.total.as_nano(), 1_500 * 100_000);
    let unknown = ModelFacts { max_input_seconds: None, ..facts() };
    assert!(matches!(of(unknown.clone(), by_piece(), &heard), Err(Unpriced::Unbounded { .. })));
    let prices = Prices { audio_input_per_mtok_usd: usd("6"), image_output_per_mtok_usd: None, ..by_token() };
    let estimate = of(unknown, prices.clone(), &heard).unwrap();
    assert_eq!(estimate.total.as_nano(), 10_000 * 6_000 + 6_240 * 10_000);
    assert!(of(ModelFacts { context_window: None, ..facts() }, prices, &heard).is_err());
}

#[test]
fn without_usage_the_whole_bound_is_charged_and_characters_beside_tokens() {
    for media in [Media::Pictures(wanted(None, None)), Media::Speech { characters: 5 }, Media::Hearing] {
        let estimate = of(facts(), by_piece(), &ask(media)).unwrap();
        let guessed = estimate.without_usage(&model(facts()), &Reading::default());
        assert_eq!(guessed.cost, estimate.total);
        assert_eq!(estimate.clamp(NanoUsd::from_nano(1)), None, "nothing of it can be lowered");
    }
    let both = Prices { input_per_character_usd: usd("0.000015"), ..by_token() };
    let estimate = of(facts(), both.clone(), &ask(Media::Speech { characters: 13 })).unwrap();
    let told = Usage { input: 1, audio_output: 1, ..Usage::default() };
    let charged = estimate.charge(&both, &told, &Reading::default()).unwrap();
    assert_eq!(charged.as_nano(), 13 * 15_000 + 5_000 + 40_000);
}
