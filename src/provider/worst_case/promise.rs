//! The promise of the worst case, from real bodies to real answers: whatever a provider that honours its documentation
//! bills for a request, it was reserved. Requests, models and bills are drawn from numbered seeds, so a failure repeats.

use super::super::answer::read_json;
use super::super::ask;
use super::super::model::{ContextTier, ModelFacts};
use super::super::operation::find;
use super::*;
use crate::provider::Dialect;
use http::Method;
use serde_json::{Value, json};
use std::num::NonZeroU64;

mod bills;
mod media;
mod requests;

use bills::answer;
use requests::{chat, generation, message, prompts, response};

/// Splits one number into many: every draw of a case follows from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        let at = self.below(u64::try_from(of.len()).unwrap());
        of[usize::try_from(at).unwrap()].clone()
    }

    /// At most so much: every second time exactly that.
    fn up_to(&mut self, most: u64) -> u64 {
        if self.one_in(2) { most } else { self.below(most + 1) }
    }

    /// Shares out a whole: every second time to one alone.
    fn shares<const N: usize>(&mut self, whole: u64, allowed: [bool; N]) -> [u64; N] {
        let mut shares = [0; N];
        let open: Vec<usize> = (0..N).filter(|at| allowed[*at]).collect();
        let mut rest = whole;
        while rest > 0 {
            let at = self.pick(&open);
            let part = self.up_to(rest);
            shares[at] += part;
            rest -= part;
        }
        shares
    }

    fn text(&mut self) -> String {
        let words = ["a", "zz top ", "grüße ", "\u{1f511}", "{\"k\": [1]} ", "\n\"quoted\" "];
        (0..self.below(40)).map(|_| self.pick(&words)).collect()
    }

    fn price(&mut self) -> Option<NanoUsd> {
        let nano = if self.one_in(2) { self.below(100_000) } else { self.below(50_000) * 1_000_000 };
        (!self.one_in(4)).then(|| NanoUsd::from_nano(i64::try_from(nano).unwrap()))
    }

    fn factors(&mut self, names: &[&str]) -> Value {
        let known = names.iter().filter(|_| self.one_in(2)).copied().collect::<Vec<_>>();
        let factor = |dice: &mut Self| dice.pick(&["0.5", "1.1", "1.666666667", "2", "6"]);
        known
            .into_iter()
            .map(|name| (name.to_owned(), Value::from(factor(self))))
            .collect::<serde_json::Map<_, _>>()
            .into()
    }
}

const TIERS: [&str; 3] = ["flex", "priority", "scale"];
const REGIONS: [&str; 2] = ["us", "eu"];

fn prices(dice: &mut Dice) -> Prices {
    let multipliers = json!({
        "service_tier": dice.factors(&TIERS), "speed": dice.factors(&["fast"]), "region": dice.factors(&REGIONS),
    });
    let mut above_tokens = 0;
    let mut tier = |dice: &mut Dice| {
        above_tokens += 1 + dice.below(4_000);
        ContextTier {
            above_tokens,
            input_per_mtok_usd: dice.price(),
            cached_input_per_mtok_usd: dice.price(),
            cache_write_1h_per_mtok_usd: dice.price(),
            output_per_mtok_usd: dice.price(),
            ..ContextTier::default()
        }
    };
    Prices {
        context_tiers: (0..dice.below(3)).map(|_| tier(dice)).collect(),
        input_per_mtok_usd: dice.price(),
        cached_input_per_mtok_usd: dice.price(),
        cache_write_per_mtok_usd: dice.price(),
        cache_write_1h_per_mtok_usd: dice.price(),
        output_per_mtok_usd: dice.price(),
        reasoning_per_mtok_usd: dice.price(),
        audio_input_per_mtok_usd: dice.price(),
        audio_output_per_mtok_usd: dice.price(),
        image_input_per_mtok_usd: dice.price(),
        image_output_per_mtok_usd: dice.price(),
        per_request_usd: dice.price(),
        input_per_image_usd: dice.price().filter(|_| dice.one_in(4)),
        hosted_tool_per_call_usd: [("web_search".to_owned(), dice.price().unwrap_or_default())].into(),
        multipliers: serde_json::from_value(multipliers).unwrap(),
        ..Prices::default()
    }
}

fn model(dice: &mut Dice) -> Model {
    let facts = ModelFacts {
        context_window: (!dice.one_in(8)).then(|| 1_000 + dice.below(50_000)),
        max_output_tokens: (!dice.one_in(4)).then(|| 1 + dice.below(5_000)),
        max_reasoning_tokens: (!dice.one_in(2)).then(|| dice.below(5_000)),
        max_image_tokens: (!dice.one_in(2)).then(|| dice.below(5_000)),
        image_window_factor: if dice.one_in(2) { NonZeroU64::new(1 + dice.below(40)) } else { None },
        bound_covers_reasoning: dice.one_in(2),
        capabilities: if dice.one_in(2) { vec!["reasoning".to_owned()] } else { Vec::new() },
        ..ModelFacts::default()
    };
    Model::new("p".parse().unwrap(), "m".into(), facts)
}

/// One request and its bill; whether it was priced.
fn play(seed: u64) -> bool {
    let mut dice = Dice(seed);
    let path = dice.pick(&[
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/messages",
        "/v1/responses",
        "/v1beta/models/m:generateContent",
    ]);
    let row = find(&Method::POST, path, Dialect::OpenAi).unwrap().row;
    let mut sent = match path {
        "/v1/chat/completions" => chat(&mut dice),
        "/v1/completions" => prompts(&mut dice, "prompt"),
        "/v1/embeddings" => prompts(&mut dice, "input"),
        "/v1/messages" => message(&mut dice),
        "/v1/responses" => response(&mut dice),
        _ => generation(&mut dice),
    };
    if row.dialect != Dialect::Gemini {
        sent.set("model", "m");
    }
    let body = Value::from(sent.body.clone()).to_string();
    let ask = ask::read(row, body.as_bytes()).unwrap();
    let (model, prices) = (model(&mut dice), prices(&mut dice));
    let effective_from = "2026-01-01T00:00:00Z".parse().unwrap();
    let version = PriceVersion { prices, effective_from, version: "v".into() };
    let keys: BTreeSet<String> =
        TIERS.iter().filter(|_| dice.one_in(4)).map(|tier| (*tier).to_owned()).collect();
    let terms = Terms { default_max_output_tokens: None, service_tiers: &keys };
    let Ok(estimate) = worst_case(&model, &version, row.operation, &ask, terms) else { return false };

    let answer = answer(&mut dice, &model, &version, row, &sent, &keys);
    let reading = read_json(row, answer.to_string().as_bytes());
    let usage = reading.usage.unwrap_or_else(|| panic!("seed {seed}: {answer}"));
    let charge = estimate.charge(&version.prices, &usage, &reading);
    let charge = charge.unwrap_or_else(|error| panic!("seed {seed}: {error}: {answer}"));
    assert!(
        charge <= estimate.total,
        "seed {seed}: {charge} > {}\n{body}\n{answer}\n{version:?}\n{model:?}",
        estimate.total
    );
    // The same answer, broken off before it told its usage: each token of text shows a byte at least, no other does.
    let visible_output_bytes = usage.output.saturating_sub(usage.reasoning);
    let broken = Reading { visible_output_bytes, ..Reading::default() };
    let guessed = estimate.without_usage(&model, &broken).cost;
    assert!(
        charge <= guessed && guessed <= estimate.total,
        "seed {seed}: {charge} is billed and {guessed} of {} charged without usage\n{body}\n{answer}\n{version:?}\n{model:?}",
        estimate.total
    );
    true
}

#[test]
fn p3_no_bill_that_the_documentation_allows_is_above_the_worst_case() {
    let priced = (0..30_000).filter(|seed| play(*seed)).count();
    assert!(priced > 8_000, "only {priced} of the requests had a price");
}
