//! Gemini's actions on a model: `generateContent`, `streamGenerateContent`, `embedContent`,
//! `batchEmbedContents` (which its SDK calls to embed) and `countTokens`.
//!
//! Protocol-buffer JSON: a field may be spelt `maxOutputTokens` or `max_output_tokens`.

use super::bill::{Reported, Usage};
use super::call::{Answer, Call, Work, bound, times};
use super::directive::Directive;
use super::embeddings::{dimensions, vector};
use super::images::PICTURE;
use super::refusal::Refusal;
use super::reply::{Ask, Choice, Finish, Reply, Tool, Want, text_of};
use super::stream::{Event, Events};
use super::tokens::InputCount;
use serde_json::{Value, json};

/// What is done with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Generate,
    /// As events, or as one JSON array that grows.
    Stream {
        events: bool,
    },
    Embed,
    EmbedBatch,
    Count,
}

impl Action {
    /// Reads what follows the colon. `events`: the query says `alt=sse`.
    pub(super) fn parse(name: &str, events: bool) -> Option<Self> {
        match name {
            "generateContent" => Some(Self::Generate),
            "streamGenerateContent" => Some(Self::Stream { events }),
            "embedContent" => Some(Self::Embed),
            "batchEmbedContents" => Some(Self::EmbedBatch),
            "countTokens" => Some(Self::Count),
            _ => None,
        }
    }
}

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call, action: Action) -> Result<Work, Refusal> {
    match action {
        Action::Embed => embed(call, std::slice::from_ref(&call.body), false),
        Action::EmbedBatch => {
            let requests = call.body.get("requests").and_then(Value::as_array);
            let requests = requests.ok_or_else(|| Refusal::invalid("* requests: is required"))?;
            embed(call, requests, true)
        }
        Action::Count => count(call),
        Action::Generate | Action::Stream { .. } => generate(call, action),
    }
}

fn generate(call: &Call, action: Action) -> Result<Work, Refusal> {
    let ask = read(&call.body)?;
    let reply = Reply::compose(&ask, &call.directives, &call.key);
    let usage = Usage::new(ask.input.total(), reply.tokens() * ask.candidates_made, &call.directives);
    let beside = Beside::read(call);
    let answer = match action {
        Action::Stream { events: true } => Answer::sse(
            chunks(call, reply, usage).map(|(chunk, tokens)| Event::data(&chunk).carrying(tokens)),
        ),
        Action::Stream { events: false } => Answer::Events {
            content_type: "application/json; charset=UTF-8",
            events: array(chunks(call, reply, usage)),
        },
        Action::Generate | Action::Embed | Action::EmbedBatch | Action::Count => {
            let parts = (0..reply.candidates).map(|index| (index, reply.pieces.text(index)));
            let candidates: Vec<_> =
                parts.map(|(index, text)| candidate(&reply, index, &text, true, true, beside)).collect();
            Answer::Json(chunk(call, &call.id("resp"), &candidates, usage.reported(&call.directives)))
        }
    };
    Ok(Work { answer, usage: Some(usage) })
}

/// A field in either of its spellings.
fn field<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    value.get(camel).or_else(|| value.get(snake)).unwrap_or(&Value::Null)
}

fn read(body: &Value) -> Result<Ask, Refusal> {
    let Some(contents) = body.get("contents").and_then(Value::as_array).filter(|all| !all.is_empty()) else {
        return Err(Refusal::invalid("* GenerateContentRequest.contents: contents is not specified"));
    };
    let mut input = InputCount::default();
    input.message(field(body, "systemInstruction", "system_instruction"));
    input.messages(contents);
    input.json(&body["tools"]);
    let config = field(body, "generationConfig", "generation_config");
    let schemas = [
        field(config, "responseJsonSchema", "response_json_schema"),
        field(config, "responseSchema", "response_schema"),
    ];
    let given = schemas.into_iter().find(|schema| !schema.is_null());
    input.json(given.unwrap_or(&Value::Null));
    let object = json!({"properties": {"answer": {"type": "string"}}});
    let is_json = field(config, "responseMimeType", "response_mime_type") == "application/json";
    let schema = is_json.then(|| given.unwrap_or(&object));
    let users = contents.iter().rev().filter(|content| content["role"].as_str().unwrap_or("user") == "user");
    let topic = users.map(|content| text_of(&content["parts"])).find(|text| !text.is_empty());
    let topic = topic.unwrap_or_default();
    let last = contents.last().and_then(|content| content["parts"].as_array());
    let is_result = |part: &Value| !field(part, "functionResponse", "function_response").is_null();
    let after_result = last.is_some_and(|parts| parts.iter().any(is_result));
    let bound = ["maxOutputTokens", "max_output_tokens"].map(|name| bound(config, name));
    let [camel, snake] = bound;
    let candidates = times(config, "candidateCount")?.max(times(config, "candidate_count")?);
    Ok(Ask {
        input,
        want: Want::decide(&tools(body), &choice(body), &topic, after_result, schema),
        topic,
        output_tokens_max: camel?.or(snake?),
        candidates,
        candidates_made: candidates,
        stream: false,
    })
}

fn tools(body: &Value) -> Vec<Tool> {
    let offered = body.get("tools").and_then(Value::as_array).into_iter().flatten();
    let declared = offered
        .filter_map(|tool| field(tool, "functionDeclarations", "function_declarations").as_array())
        .flatten();
    let read = |function: &Value| {
        let names = ["parametersJsonSchema", "parameters_json_schema", "parameters"];
        let schema = names.into_iter().find(|name| function.get(*name).is_some());
        Tool::read(function, schema.unwrap_or("parameters"))
    };
    declared.filter_map(read).collect()
}

fn choice(body: &Value) -> Choice {
    let config = field(body, "toolConfig", "tool_config");
    let config = field(config, "functionCallingConfig", "function_calling_config");
    let named =
        field(config, "allowedFunctionNames", "allowed_function_names").get(0).and_then(Value::as_str);
    match (config["mode"].as_str(), named) {
        (Some("NONE"), _) => Choice::Never,
        (Some("ANY"), Some(name)) => Choice::Named(name.to_owned()),
        (Some("ANY"), None) => Choice::Any,
        _ => Choice::Auto,
    }
}

/// What comes with the words: thoughts before them, if they are asked for, and pictures after them.
#[derive(Clone, Copy, Debug)]
struct Beside {
    thoughts: bool,
    picture: bool,
}

impl Beside {
    fn read(call: &Call) -> Self {
        let config = field(&call.body, "generationConfig", "generation_config");
        let config = field(config, "thinkingConfig", "thinking_config");
        let number = |directive| call.directives.number(directive).unwrap_or(0);
        Self {
            thoughts: number(Directive::HiddenReasoning) > 0
                && field(config, "includeThoughts", "include_thoughts") == true,
            picture: number(Directive::ImageOutput) > 0,
        }
    }
}

fn candidate(reply: &Reply, index: u64, text: &str, first: bool, last: bool, beside: Beside) -> Value {
    let part = match &reply.tool {
        Some(name) => {
            let args = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
            json!({"functionCall": {"name": name, "args": args}})
        }
        None => json!({"text": text}),
    };
    let mut parts = vec![part];
    if first && beside.thoughts {
        parts.insert(0, json!({"text": "Thought about it.", "thought": true}));
        parts[1]["thoughtSignature"] = json!("c2FuZGJveA==");
    }
    if last && beside.picture {
        parts.push(json!({"inlineData": {"mimeType": "image/png", "data": PICTURE}}));
    }
    let mut candidate = json!({"index": index, "content": {"role": "model", "parts": parts}});
    if last {
        candidate["finishReason"] = json!(match reply.finish {
            Finish::Stop | Finish::Tool => "STOP",
            Finish::Length => "MAX_TOKENS",
        });
    }
    candidate
}

fn chunk(call: &Call, id: &str, candidates: &[Value], reported: Option<Reported>) -> Value {
    let mut chunk = json!({"candidates": candidates, "modelVersion": call.model_name(), "responseId": id});
    if let Some(usage) = reported {
        chunk["usageMetadata"] = metadata(usage);
    }
    chunk
}

/// Usage in Gemini's classes: thoughts beside the candidates.
fn metadata(usage: Reported) -> Value {
    let told = usage.output.saturating_sub(usage.reasoning);
    let mut metadata = json!({
        "promptTokenCount": usage.input,
        "candidatesTokenCount": told,
        "totalTokenCount": usage.input.saturating_add(usage.output),
        "promptTokensDetails": modalities(usage.input, usage.image_input, usage.audio_input),
    });
    if usage.image_output != 0 || usage.audio_output != 0 {
        metadata["candidatesTokensDetails"] = modalities(told, usage.image_output, usage.audio_output);
    }
    if usage.cached != 0 {
        metadata["cachedContentTokenCount"] = json!(usage.cached);
        metadata["cacheTokensDetails"] = modalities(usage.cached, 0, 0);
    }
    if usage.reasoning != 0 {
        metadata["thoughtsTokenCount"] = json!(usage.reasoning);
    }
    metadata
}

/// A count by what its tokens are of.
fn modalities(all: i64, image: i64, audio: i64) -> Value {
    let text = all.saturating_sub(image).saturating_sub(audio);
    let counts = [("TEXT", text), ("IMAGE", image), ("AUDIO", audio)];
    let told = counts.into_iter().filter(|(name, count)| *name == "TEXT" || *count != 0);
    told.map(|(name, count)| json!({"modality": name, "tokenCount": count})).collect()
}

/// The chunks of a stream, each with its tokens and the usage so far. A function call comes whole.
fn chunks(call: &Call, reply: Reply, usage: Usage) -> impl Iterator<Item = (Value, u64)> + Send + use<> {
    let id = call.id("resp");
    let directives = call.directives.clone();
    let last = reply.tokens() * reply.candidates;
    let steps: Box<dyn Iterator<Item = (u64, String, u64)> + Send> = if reply.tool.is_some() {
        Box::new(std::iter::once((0, reply.pieces.text(0), last)))
    } else {
        let pieces = reply.pieces.clone().into_each_candidate(reply.candidates);
        Box::new(pieces.map(|(index, piece)| (index, piece, 1)))
    };
    let beside = Beside::read(call);
    let frame = json!({"modelVersion": call.model_name(), "responseId": id});
    let mut produced = 0;
    steps.map(move |(index, text, tokens)| {
        let begins = produced < reply.candidates;
        produced += tokens;
        let ends = produced + reply.candidates > last;
        let mut chunk = frame.clone();
        chunk["candidates"] = json!([candidate(&reply, index, &text, begins, ends, beside)]);
        if let Some(reported) = (Usage { output: produced, ..usage }).reported(&directives) {
            chunk["usageMetadata"] = metadata(reported);
        }
        (chunk, tokens)
    })
}

/// The same as one JSON array, which the real one sends as it grows.
fn array(chunks: impl Iterator<Item = (Value, u64)> + Send + 'static) -> Events {
    let items = chunks.enumerate().map(|(index, (chunk, tokens))| {
        let before = if index == 0 { "[" } else { ",\r\n" };
        Event::raw(format!("{before}{chunk}")).carrying(tokens)
    });
    Box::new(items.chain([Event::raw("]")]))
}

fn embed(call: &Call, requests: &[Value], batch: bool) -> Result<Work, Refusal> {
    let mut input = InputCount::default();
    let mut embeddings = Vec::with_capacity(requests.len());
    for request in requests {
        let content = &request["content"];
        if content.is_null() {
            return Err(Refusal::invalid("* EmbedContentRequest.content: contents is not specified"));
        }
        input.message(content);
        // Newer clients put the option into a config of its own.
        let config = field(request, "embedContentConfig", "embed_content_config");
        let asked = bound(request, "outputDimensionality")?.or(bound(config, "outputDimensionality")?);
        embeddings.push(json!({"values": vector(&text_of(&content["parts"]), dimensions(asked)?)}));
    }
    let usage = Usage::new(input.total(), 0, &call.directives);
    let mut answer = if batch {
        json!({"embeddings": embeddings})
    } else {
        json!({"embedding": embeddings.into_iter().next()})
    };
    if let Some(reported) = usage.reported(&call.directives) {
        answer["usageMetadata"] = json!({"promptTokenCount": reported.input});
    }
    if call.directives.echoes() {
        answer["echo"] = json!(call.key);
    }
    Ok(Work { answer: Answer::Json(answer), usage: Some(usage) })
}

fn count(call: &Call) -> Result<Work, Refusal> {
    let nested = field(&call.body, "generateContentRequest", "generate_content_request");
    let ask = read(if nested.is_null() { &call.body } else { nested })?;
    let total = ask.input.total();
    let mut answer = json!({
        "totalTokens": total, "promptTokensDetails": [{"modality": "TEXT", "tokenCount": total}],
    });
    if call.directives.echoes() {
        answer["echo"] = json!(call.key);
    }
    Ok(Work { answer: Answer::Json(answer), usage: None })
}
