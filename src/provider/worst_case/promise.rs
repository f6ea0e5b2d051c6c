//! The promise of the worst case, from real bodies to real answers: whatever a provider that honours its documentation
//! bills for a request, it was reserved. Requests, models and bills are drawn from numbered seeds, so a failure repeats.

use super::super::answer::read_json;
use super::super::ask;
use super::super::model::{ContextTier, ModelFacts};
use super::super::operation::{ROWS, Row};
use super::*;
use crate::provider::Dialect;
use serde_json::{Value, json};

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
        bound_covers_reasoning: dice.one_in(2),
        capabilities: if dice.one_in(2) { vec!["reasoning".to_owned()] } else { Vec::new() },
        ..ModelFacts::default()
    };
    Model::new("p".parse().unwrap(), "m".into(), facts)
}

/// A request as its sender knows it: what the provider's documentation goes by.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a request, each by itself")]
struct Sent {
    body: serde_json::Map<String, Value>,
    /// Bytes of each text that becomes input of its own.
    texts: Vec<u64>,
    pictures: u64,
    tools: u64,
    /// Tokens of tool definitions that the provider writes.
    defined: u64,
    beyond: bool,
    sound: bool,
    an_hour: bool,
    speaks: bool,
    searches_max: Option<u64>,
    candidates: u64,
    bounds: Vec<u64>,
}

impl Sent {
    fn add_text(&mut self, text: &str) {
        self.texts.push(u64::try_from(text.len()).unwrap());
    }

    fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.body.insert(field.to_owned(), value.into());
    }

    fn bound(&mut self, field: &str, dice: &mut Dice) {
        let tokens = dice.below(6_000);
        self.bounds.push(tokens);
        self.set(field, tokens);
    }

    fn asked(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }
}

fn chat(dice: &mut Dice) -> Sent {
    let mut sent = Sent { candidates: 1, ..Sent::default() };
    let messages: Vec<Value> =
        (0..=dice.below(3)).map(|_| json!({"role": "user", "content": parts(dice, &mut sent)})).collect();
    sent.set("messages", messages);
    for field in ["max_tokens", "max_completion_tokens"] {
        if dice.one_in(2) {
            sent.bound(field, dice);
        }
    }
    if dice.one_in(3) {
        sent.candidates = 1 + dice.below(4);
        sent.set("n", sent.candidates);
    }
    if dice.one_in(6) {
        (sent.sound, sent.speaks) = (true, true);
        sent.set("modalities", json!(["text", "audio"]));
    }
    if dice.one_in(3) {
        sent.tools = 1;
        let description = dice.text();
        sent.add_text(&description);
        sent.set(
            "tools",
            json!([{"type": "function", "function": {"name": "f", "description": description}}]),
        );
    }
    if dice.one_in(2) {
        sent.set("service_tier", dice.pick(&["auto", "default", "flex", "priority", "scale", "turbo"]));
    }
    sent
}

fn parts(dice: &mut Dice, sent: &mut Sent) -> Value {
    let text = dice.text();
    sent.add_text(&text);
    let mut parts = vec![json!({"type": "text", "text": text})];
    match dice.below(8) {
        0 | 1 => {
            sent.pictures += 1;
            parts.push(json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}));
        }
        2 => {
            (sent.pictures, sent.beyond) = (sent.pictures + 1, true);
            parts.push(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}));
        }
        3 => {
            (sent.sound, sent.beyond) = (true, true);
            parts.push(json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}));
        }
        4 => {
            sent.beyond = true;
            parts.push(json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}));
        }
        5 => return Value::from(text),
        _ => {}
    }
    parts.into()
}

fn message(dice: &mut Dice) -> Sent {
    let mut sent = Sent { candidates: 1, ..Sent::default() };
    let mut content = vec![json!({"type": "text", "text": dice.text()})];
    sent.add_text(content[0]["text"].as_str().unwrap());
    if dice.one_in(3) {
        sent.an_hour = true;
        content[0]["cache_control"] = json!({"type": "ephemeral", "ttl": "1h"});
    }
    for _ in 0..dice.below(3) {
        sent.pictures += 1;
        content.push(
            json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
        );
    }
    if dice.one_in(5) {
        sent.beyond = true;
        content.push(json!({"type": "document", "source": {"type": "base64", "data": "AAAA"}}));
    }
    sent.set("messages", json!([{"role": "user", "content": content}]));
    sent.bound("max_tokens", dice);
    if dice.one_in(3) {
        let calls = dice.below(4);
        (sent.searches_max, sent.beyond, sent.tools) = (Some(calls), true, 1);
        sent.set("tools", json!([{"type": "web_search_20250305", "name": "web_search", "max_uses": calls}]));
    } else if dice.one_in(2) {
        let (kind, tokens) = dice.pick(&[
            ("bash_20250124", 245),
            ("text_editor_20250728", 700),
            ("computer_20251124", 735 + 499),
        ]);
        (sent.tools, sent.defined) = (1, tokens);
        sent.set("tools", json!([{"type": kind, "name": "t"}]));
    }
    for (field, values) in [
        ("service_tier", ["auto", "standard_only"].as_slice()),
        ("speed", &["fast", "standard"]),
        ("inference_geo", &["us", "eu", "global"]),
    ] {
        if dice.one_in(2) {
            sent.set(field, dice.pick(values));
        }
    }
    sent
}

fn prompts(dice: &mut Dice, field: &str) -> Sent {
    let mut sent = Sent { candidates: 1, ..Sent::default() };
    let texts: Vec<String> = (0..=dice.below(3)).map(|_| dice.text()).collect();
    for text in &texts {
        sent.add_text(text);
    }
    if field == "prompt" {
        let each = 1 + dice.below(3);
        sent.candidates = each * u64::try_from(texts.len()).unwrap();
        let name = dice.pick(&["n", "best_of"]);
        sent.set(name, each);
        sent.bound("max_tokens", dice);
    }
    sent.set(field, texts);
    sent
}

/// What the provider bills for the request, told in its answer: anything that its documentation allows.
fn answer(
    dice: &mut Dice,
    model: &Model,
    version: &PriceVersion,
    row: &Row,
    sent: &Sent,
    keys: &BTreeSet<String>,
) -> Value {
    let window = model.context_window.unwrap_or(u64::MAX / 1_000);
    let arrays = row.operation != Operation::Chat;
    let each = |bytes: &u64| bytes.saturating_add(8).min(window);
    let searches = dice.up_to(sent.searches_max.unwrap_or(0));
    let input_max = if arrays {
        sent.texts.iter().map(each).sum::<u64>()
    } else if sent.beyond {
        window * (searches + 1)
    } else {
        let pictures = sent.pictures * model.max_image_tokens.unwrap_or(window);
        let text: u64 = sent.texts.iter().map(|bytes| bytes + 8).sum();
        (text + sent.tools * 830 + sent.defined + pictures).min(window)
    };
    let input = dice.up_to(input_max.min(u64::from(u32::MAX)));
    let pictures = sent.pictures > 0 || sent.beyond;
    let openai = row.dialect == Dialect::OpenAi;
    let inputs = dice.shares(
        input,
        [
            true,
            true,
            true,
            sent.an_hour && !openai,
            openai && (sent.sound || sent.beyond),
            openai && pictures,
        ],
    );
    let ceiling = model.max_output_tokens;
    let bound = sent.bounds.iter().copied().max().or(ceiling).unwrap_or(0);
    let visible = sent.candidates * dice.up_to(bound.min(ceiling.unwrap_or(u64::MAX)));
    let thinks = model.can("reasoning");
    let on_top = if thinks && !model.bound_covers_reasoning {
        sent.candidates
            * dice.up_to(model.max_reasoning_tokens.unwrap_or(window).min(u64::from(u32::MAX) / 100))
    } else {
        0
    };
    let draws = openai && version.prices.image_output_per_mtok_usd.is_some();
    let outputs = dice.shares(visible, [true, thinks, openai && sent.speaks, draws]);
    let output = if row.operation == Operation::Embeddings { 0 } else { visible + on_top };
    let reasoning = outputs[1] + on_top;

    let known = &version.prices.multipliers;
    let reported = |dice: &mut Dice, asked: Option<&str>, list: &str, any: Vec<String>| match asked {
        Some(named) if named != "auto" => dice.pick(&[named.to_owned(), list.to_owned()]),
        Some(_) | None => dice.pick(&[any, vec![list.to_owned()]].concat()),
    };
    let tiers =
        known.service_tier.keys().filter(|tier| sent.asked("service_tier").is_some() || keys.contains(*tier));
    let tiers: Vec<String> = tiers.cloned().collect();
    let tier = reported(dice, sent.asked("service_tier"), if openai { "default" } else { "standard" }, tiers);
    if openai {
        let mut usage = json!({"prompt_tokens": input, "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": inputs[1], "cache_write_tokens": inputs[2],
                "audio_tokens": inputs[4], "image_tokens": inputs[5]}});
        if row.operation != Operation::Embeddings {
            usage["completion_tokens_details"] = json!({"reasoning_tokens": reasoning, "audio_tokens": outputs[2], "image_tokens": outputs[3]});
        }
        return json!({"model": "m", "service_tier": tier, "choices": [], "usage": usage});
    }
    let speed = reported(dice, sent.asked("speed"), "standard", Vec::new());
    let region =
        reported(dice, sent.asked("inference_geo"), "global", known.region.keys().cloned().collect());
    json!({"type": "message", "model": "m", "content": [], "usage": {
        "input_tokens": inputs[0], "cache_read_input_tokens": inputs[1],
        "cache_creation_input_tokens": inputs[2] + inputs[3],
        "cache_creation": {"ephemeral_5m_input_tokens": inputs[2], "ephemeral_1h_input_tokens": inputs[3]},
        "output_tokens": output, "service_tier": tier, "speed": speed, "inference_geo": region,
        "server_tool_use": {"web_search_requests": searches},
    }})
}

/// One request and its bill; whether it was priced.
fn play(seed: u64) -> bool {
    let mut dice = Dice(seed);
    let row = &ROWS[usize::try_from(dice.below(4)).unwrap()];
    let mut sent = match &*row.template.to_string() {
        "/v1/chat/completions" => chat(&mut dice),
        "/v1/completions" => prompts(&mut dice, "prompt"),
        "/v1/embeddings" => prompts(&mut dice, "input"),
        _ => message(&mut dice),
    };
    sent.set("model", "m");
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
    let priced = (0..20_000).filter(|seed| play(*seed)).count();
    assert!(priced > 5_000, "only {priced} of the requests had a price");
}
