//! Requests as their senders know them: what the providers' documentation goes by.

use super::Dice;
use serde_json::{Value, json};

/// A request as its sender knows it: what the provider's documentation goes by.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts of a request, each by itself")]
pub(super) struct Sent {
    pub(super) body: serde_json::Map<String, Value>,
    /// Bytes of each text that becomes input of its own.
    pub(super) texts: Vec<u64>,
    pub(super) pictures: u64,
    pub(super) tools: u64,
    /// Tokens of tool definitions that the provider writes.
    pub(super) defined: u64,
    pub(super) beyond: bool,
    /// Pictures may come that nobody sees in the request.
    pub(super) hides_pictures: bool,
    pub(super) sound: bool,
    pub(super) an_hour: bool,
    pub(super) speaks: bool,
    pub(super) searches_max: Option<u64>,
    pub(super) candidates: u64,
    pub(super) bounds: Vec<u64>,
}

impl Sent {
    fn add_text(&mut self, text: &str) {
        self.texts.push(u64::try_from(text.len()).unwrap());
    }

    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.body.insert(field.to_owned(), value.into());
    }

    fn bound(&mut self, field: &str, dice: &mut Dice) {
        let tokens = dice.below(6_000);
        self.bounds.push(tokens);
        self.set(field, tokens);
    }

    pub(super) fn asked(&self, field: &str) -> Option<&str> {
        self.body.get(field).and_then(Value::as_str)
    }
}

pub(super) fn chat(dice: &mut Dice) -> Sent {
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
            (sent.beyond, sent.hides_pictures) = (true, true);
            parts.push(json!({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}));
        }
        5 => return Value::from(text),
        _ => {}
    }
    parts.into()
}

pub(super) fn message(dice: &mut Dice) -> Sent {
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
        (sent.beyond, sent.hides_pictures) = (true, true);
        content.push(json!({"type": "document", "source": {"type": "base64", "data": "AAAA"}}));
    }
    sent.set("messages", json!([{"role": "user", "content": content}]));
    sent.bound("max_tokens", dice);
    if dice.one_in(3) {
        let calls = dice.below(4);
        (sent.searches_max, sent.beyond, sent.tools) = (Some(calls), true, 1);
        sent.hides_pictures = true;
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

pub(super) fn prompts(dice: &mut Dice, field: &str) -> Sent {
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

pub(super) fn response(dice: &mut Dice) -> Sent {
    let mut sent = Sent { candidates: 1, ..Sent::default() };
    let mut items = Vec::new();
    for _ in 0..=dice.below(3) {
        let text = dice.text();
        sent.add_text(&text);
        let mut content = vec![json!({"type": "input_text", "text": text})];
        match dice.below(6) {
            0 => {
                sent.pictures += 1;
                content.push(json!({"type": "input_image", "image_url": "data:image/png;base64,AAAA"}));
            }
            1 => {
                (sent.beyond, sent.hides_pictures) = (true, true);
                content.push(json!({"type": "input_file", "filename": "a.pdf", "file_data": "AAAA"}));
            }
            _ => {}
        }
        items.push(json!({"role": "user", "content": content}));
    }
    sent.set("input", items);
    if dice.one_in(2) {
        sent.bound("max_output_tokens", dice);
    }
    if dice.one_in(4) {
        (sent.beyond, sent.hides_pictures) = (true, true);
        sent.set("previous_response_id", "resp_1");
    }
    if dice.one_in(3) {
        sent.an_hour = true;
        sent.set("prompt_cache_options", json!({"ttl": "12h"}));
    }
    if dice.one_in(3) {
        let calls = dice.below(4);
        (sent.searches_max, sent.beyond, sent.tools) = (Some(calls), true, 1);
        sent.hides_pictures = true;
        sent.set("tools", json!([{"type": "web_search"}]));
        sent.set("max_tool_calls", calls);
    } else if dice.one_in(2) {
        let description = dice.text();
        sent.tools = 1;
        sent.add_text(&description);
        sent.set("tools", json!([{"type": "function", "name": "f", "description": description}]));
    }
    if dice.one_in(2) {
        sent.set("service_tier", dice.pick(&["auto", "default", "flex", "priority", "scale"]));
    }
    sent
}

pub(super) fn generation(dice: &mut Dice) -> Sent {
    let mut sent = Sent { candidates: 1, ..Sent::default() };
    let mut contents = Vec::new();
    for _ in 0..=dice.below(3) {
        let text = dice.text();
        sent.add_text(&text);
        let mut parts = vec![json!({"text": text})];
        let inline = |kind: &str| json!({"inlineData": {"mimeType": kind, "data": "AAAA"}});
        match dice.below(8) {
            0 => {
                sent.pictures += 1;
                parts.push(inline("image/png"));
            }
            1 => {
                (sent.sound, sent.beyond) = (true, true);
                parts.push(inline("audio/wav"));
            }
            2 => {
                (sent.beyond, sent.hides_pictures) = (true, true);
                parts.push(inline("application/pdf"));
            }
            _ => {}
        }
        contents.push(json!({"role": "user", "parts": parts}));
    }
    sent.set("contents", contents);
    let mut config = serde_json::Map::new();
    let spelt = dice.one_in(2);
    let name = |camel: &str, snake: &str| if spelt { camel.to_owned() } else { snake.to_owned() };
    if dice.one_in(2) {
        let tokens = dice.below(6_000);
        sent.bounds.push(tokens);
        config.insert(name("maxOutputTokens", "max_output_tokens"), tokens.into());
    }
    if dice.one_in(3) {
        sent.candidates = 1 + dice.below(4);
        config.insert(name("candidateCount", "candidate_count"), sent.candidates.into());
    }
    if dice.one_in(6) {
        sent.speaks = true;
        config.insert(name("responseModalities", "response_modalities"), json!(["AUDIO"]));
    }
    sent.set(&name("generationConfig", "generation_config"), config);
    if dice.one_in(3) {
        let description = dice.text();
        sent.tools = 1;
        sent.add_text(&description);
        sent.set("tools", json!([{"functionDeclarations": [{"name": "f", "description": description}]}]));
    }
    if dice.one_in(2) {
        sent.set("serviceTier", dice.pick(&["standard", "flex", "priority"]));
    }
    sent
}
