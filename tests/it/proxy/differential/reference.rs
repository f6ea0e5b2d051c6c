//! The answers read once more, plainly: whole, by the standard's words, with another reader of JSON.

use super::ask::Kind;
use serde_json::Value;

/// What an answer tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) has_usage: bool,
    pub(super) input: u64,
    pub(super) cached: u64,
    pub(super) written: u64,
    pub(super) output: u64,
    pub(super) reasoning: u64,
    pub(super) finish: Option<String>,
}

impl Told {
    /// By the prices that the model has in these tests, in nano-USD.
    pub(super) fn cost_nano(&self) -> u64 {
        self.input * 1_000 + self.cached * 500 + self.written * 1_250 + self.output * 2_000
    }
}

/// The data of each event with its name, as the standard for server-sent events has them; the last one counts although
/// its blank line is missing.
fn events(stream: &str) -> Vec<(String, String)> {
    let stream = stream.strip_prefix('\u{feff}').unwrap_or(stream).replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut name, mut data) = (String::new(), None::<String>);
    for line in stream.split('\n').chain([""]) {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" if line.is_empty() => {
                let name = std::mem::take(&mut name);
                events.extend(data.take().map(|data| (name, data)));
            }
            "event" => value.clone_into(&mut name),
            "data" => {
                data = Some(match data.take() {
                    Some(before) => format!("{before}\n{value}"),
                    None => value.to_owned(),
                });
            }
            _ => {}
        }
    }
    events
}

/// Reads an answer that came with status 200.
pub(super) fn told(kind: Kind, is_streamed: bool, answer: &[u8]) -> Told {
    let text = std::str::from_utf8(answer).unwrap();
    let mut told = Told::default();
    if kind == Kind::GenerateArray {
        // What broke off lacks its end.
        let ended = format!("{}]", text.trim_end().trim_end_matches(']').trim_end().trim_end_matches(','));
        let chunks: Vec<Value> = serde_json::from_str(&ended).unwrap();
        for chunk in &chunks {
            told.google(chunk);
        }
    } else if is_streamed {
        for (name, data) in events(text) {
            let Ok(value) = serde_json::from_str::<Value>(&data) else { continue };
            told.event(kind, &name, &value);
        }
    } else {
        let value: Value = serde_json::from_str(text).unwrap();
        match kind {
            Kind::Chat | Kind::Completions | Kind::Embeddings => told.openai(&value),
            Kind::Messages => {
                told.anthropic(&value["usage"]);
                told.has_usage = true;
                told.finish = text_of(&value["stop_reason"]);
            }
            Kind::Responses => told.response(&value),
            Kind::Generate | Kind::GenerateEvents | Kind::GenerateArray => told.google(&value),
        }
    }
    told
}

fn text_of(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

impl Told {
    fn event(&mut self, kind: Kind, name: &str, value: &Value) {
        let event = value["type"].as_str().unwrap_or(name);
        match (kind, event) {
            (Kind::Messages, "message_start") => self.anthropic(&value["message"]["usage"]),
            (Kind::Messages, "message_delta") => {
                self.anthropic(&value["usage"]);
                self.has_usage = true;
                self.finish = text_of(&value["delta"]["stop_reason"]);
            }
            (Kind::Responses, "response.completed") => self.response(&value["response"]),
            (Kind::Messages | Kind::Responses, _) => {}
            (Kind::GenerateEvents, _) => self.google(value),
            _ => self.openai(value),
        }
    }

    fn openai(&mut self, value: &Value) {
        let finish = text_of(&value["choices"][0]["finish_reason"]);
        self.finish = self.finish.take().or(finish);
        let usage = &value["usage"];
        if usage.is_object() {
            self.has_usage = true;
            self.cached = count(&usage["prompt_tokens_details"]["cached_tokens"]);
            self.input = count(&usage["prompt_tokens"]) - self.cached;
            self.output = count(&usage["completion_tokens"]);
            self.reasoning = count(&usage["completion_tokens_details"]["reasoning_tokens"]);
        }
    }

    fn anthropic(&mut self, usage: &Value) {
        self.input = self.input.max(count(&usage["input_tokens"]));
        self.cached = self.cached.max(count(&usage["cache_read_input_tokens"]));
        self.written = self.written.max(count(&usage["cache_creation_input_tokens"]));
        self.output = self.output.max(count(&usage["output_tokens"]));
    }

    fn response(&mut self, value: &Value) {
        let usage = &value["usage"];
        self.has_usage = true;
        self.cached = count(&usage["input_tokens_details"]["cached_tokens"]);
        self.input = count(&usage["input_tokens"]) - self.cached;
        self.output = count(&usage["output_tokens"]);
        self.reasoning = count(&usage["output_tokens_details"]["reasoning_tokens"]);
        self.finish = text_of(&value["status"]);
    }

    fn google(&mut self, value: &Value) {
        self.finish = text_of(&value["candidates"][0]["finishReason"]).or(self.finish.take());
        let usage = &value["usageMetadata"];
        if usage.is_object() {
            self.has_usage = true;
            self.cached = count(&usage["cachedContentTokenCount"]);
            self.input = count(&usage["promptTokenCount"]) - self.cached;
            self.reasoning = count(&usage["thoughtsTokenCount"]);
            self.output = count(&usage["candidatesTokenCount"]) + self.reasoning;
        }
    }
}
