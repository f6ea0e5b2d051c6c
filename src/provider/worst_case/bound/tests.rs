//! How much input there can be that is not seen in a request.

use super::super::tests::{ask, chat, facts, model, prices, terms, version};
use super::super::worst_case;
use super::*;
use crate::provider::ask::{HostedTool, InputMeasure};
use crate::provider::model::ModelFacts;

#[test]
fn p3_pictures_that_nobody_counted_may_be_billed_beyond_the_window() {
    let small =
        ModelFacts { max_image_tokens: Some(48_169), image_window_factor: NonZeroU64::new(34), ..facts() };
    let of = |facts: &ModelFacts, input| {
        chat(facts.clone(), &Ask { input, ..ask(1, 1) }).map(|estimate| estimate.input_tokens)
    };
    let measure = ask(1, 1).input;
    let beyond = InputMeasure { beyond_body: true, ..measure };
    let earlier = InputMeasure { uncounted_pictures: true, ..beyond };
    assert_eq!(of(&small, beyond), Ok(100_000), "what is known to hold no picture");
    assert_eq!(of(&small, earlier), Ok(3_400_000));
    assert_eq!(of(&facts(), earlier), Ok(100_000), "where a picture is billed as what it takes");
    assert_eq!(of(&small, InputMeasure { images: 2, ..beyond }), Ok(100_000 + 2 * 48_169));
    assert_eq!(of(&small, InputMeasure { images: 2, ..earlier }), Ok(3_400_000 + 2 * 48_169));
    let plain = of(&small, measure).unwrap();
    assert_eq!(of(&small, InputMeasure { images: 2, ..measure }), Ok(plain + 2 * 48_169));
    let unsized_pictures = ModelFacts { max_image_tokens: None, ..small.clone() };
    for input in [measure, beyond] {
        assert_eq!(of(&unsized_pictures, InputMeasure { images: 1, ..input }), Ok(3_400_000));
    }
    let no_window = ModelFacts { context_window: None, ..small.clone() };
    assert!(of(&no_window, earlier).is_err());
    // What a tool brings may be pictures, too.
    let fee = [("web_search".to_owned(), NanoUsd::ZERO)].into();
    let priced = version(Prices { hosted_tool_per_call_usd: fee, ..prices() });
    let tool = HostedTool { kind: "web_search".into(), max_uses: Some(1) };
    let asked = Ask { hosted_tools: vec![tool], ..ask(1, 1) };
    let estimate = worst_case(&model(small), &priced, Operation::Chat, &asked, terms(None)).unwrap();
    assert_eq!(estimate.input_tokens, 2 * 3_400_000);
}
