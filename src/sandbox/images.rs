//! `/v1/images/generations`, `/edits` and `/variations`. Every picture is the same point.
//!
//! `sandbox-image` is billed by tokens, as `gpt-image-1` is: the prompt's, those of the pictures given (one for every four
//! bytes, 323 at most, for each), and those of the pictures made, by their quality and size; `auto` is the dearest. A
//! partial picture is 100 more. `sandbox-image-each` is billed by the picture, and reports no usage, as `dall-e-3`.

use super::bill::{Reported, Usage};
use super::call::{Answer, Call, Work, bound, times};
use super::directive::Directive;
use super::models::Model;
use super::multipart::Part;
use super::refusal::Refusal;
use super::stream::Event;
use super::tokens::tokens;
use serde_json::{Value, json};

const EACH: &str = "sandbox-image-each";
const PICTURES_MAX: u64 = 10;
const GIVEN_MAX: usize = 16;
const PROMPT_CHARACTERS_MAX: usize = 32_000;
const PARTIAL_MAX: u64 = 3;
const PARTIAL_TOKENS: u64 = 100;
const GIVEN_TOKENS_MAX: u64 = 323;
/// A PNG of one point.
pub(super) const PICTURE: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Generate,
    Edit,
    Vary,
}

impl Action {
    /// Reads what follows `images` in the path.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "generations" => Some(Self::Generate),
            "edits" => Some(Self::Edit),
            "variations" => Some(Self::Vary),
            _ => None,
        }
    }

    /// The model where the request names none.
    pub(super) fn model(self) -> &'static str {
        match self {
            Self::Generate | Self::Edit => "sandbox-image",
            Self::Vary => EACH,
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Generate => "image_generation",
            Self::Edit | Self::Vary => "image_edit",
        }
    }
}

/// What is asked for.
struct Ask {
    pictures: u64,
    partial: u64,
    /// Tokens of one picture.
    tokens: u64,
    quality: &'static str,
    size: String,
    format: String,
    is_url: bool,
}

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call, action: Action) -> Result<Work, Refusal> {
    let prompt = call.body["prompt"].as_str().unwrap_or_default();
    if prompt.is_empty() && action != Action::Vary {
        return Err(Refusal::param("prompt", "Missing required parameter: 'prompt'."));
    }
    if prompt.chars().count() > PROMPT_CHARACTERS_MAX {
        let told = format!(
            "Invalid 'prompt': string too long. Expected at most {PROMPT_CHARACTERS_MAX} characters."
        );
        return Err(Refusal::param("prompt", told));
    }
    let given: Vec<&Part> = call.form.files("image").chain(call.form.file("mask")).collect();
    if given.is_empty() && action != Action::Generate {
        return Err(Refusal::param("image", "Missing required parameter: 'image'."));
    }
    if given.len() > GIVEN_MAX {
        return Err(Refusal::param("image", format!("Too many images: at most {GIVEN_MAX} are allowed.")));
    }
    let ask = Ask::read(call)?;
    let is_each = call.model.as_ref().is_some_and(|model| model.base() == EACH);
    let mut usage = if is_each {
        let mut usage = Usage::new(0, 0, &call.directives);
        usage.extras.pictures = ask.pictures;
        usage
    } else {
        let mut usage = Usage::new(tokens(prompt.len()), 0, &call.directives);
        let given = given.iter().map(|part| tokens(part.bytes.len()).min(GIVEN_TOKENS_MAX));
        usage.extras.image_input += given.sum::<u64>();
        usage.extras.image_output += ask.pictures * ask.tokens + ask.partial * PARTIAL_TOKENS;
        usage
    };
    usage = usage.served(call);
    let reported = usage.reported(&call.directives).filter(|_| !is_each);
    let answer = if call.streams() {
        Answer::sse(ask.events(call, action, reported).into_iter())
    } else {
        ask.answer(call, prompt, reported)
    };
    Ok(Work { answer, usage: Some(usage) })
}

impl Ask {
    fn read(call: &Call) -> Result<Self, Refusal> {
        let body = &call.body;
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        let size = text("size").filter(|size| *size != "auto").unwrap_or("1024x1536");
        let is_square = size.split_once('x').is_some_and(|(width, height)| width == height);
        let (quality, tokens) = match (text("quality"), is_square) {
            (Some("low"), true) => ("low", 272),
            (Some("low"), false) => ("low", 408),
            (Some("medium"), true) => ("medium", 1_056),
            (Some("medium"), false) => ("medium", 1_584),
            (_, true) => ("high", 4_160),
            (_, false) => ("high", 6_240),
        };
        let pictures = times(body, "n")?;
        if pictures > PICTURES_MAX || (pictures > 1 && call.streams()) {
            let most = if call.streams() { 1 } else { PICTURES_MAX };
            return Err(Refusal::param("n", format!("Invalid 'n': integer above maximum value {most}.")));
        }
        let partial = match body.get("partial_images") {
            Some(Value::Number(zero)) if zero.as_u64() == Some(0) => 0,
            _ => bound(body, "partial_images")?.unwrap_or(0),
        };
        if partial > PARTIAL_MAX {
            let told = format!("Invalid 'partial_images': integer above maximum value {PARTIAL_MAX}.");
            return Err(Refusal::param("partial_images", told));
        }
        Ok(Self {
            pictures,
            partial: if call.streams() { partial } else { 0 },
            tokens: call.directives.number(Directive::Tokens).unwrap_or(tokens),
            quality,
            size: size.to_owned(),
            format: text("output_format").unwrap_or("png").to_owned(),
            is_url: text("response_format") == Some("url"),
        })
    }

    fn answer(&self, call: &Call, prompt: &str, reported: Option<Reported>) -> Answer {
        let is_each = call.model.as_ref().map(Model::base) == Some(EACH);
        let picture = |_| {
            let mut picture = json!({});
            if self.is_url {
                picture["url"] = json!(format!("https://sandbox.invalid/{}.png", call.id("img")));
            } else {
                picture["b64_json"] = json!(PICTURE);
            }
            if is_each {
                picture["revised_prompt"] = json!(prompt);
            }
            picture
        };
        let data: Vec<Value> = (0..self.pictures).map(picture).collect();
        let mut answer = json!({"created": call.created, "data": data});
        if !is_each {
            answer["background"] = json!("opaque");
            answer["output_format"] = json!(self.format);
            answer["quality"] = json!(self.quality);
            answer["size"] = json!(self.size);
        }
        if let Some(reported) = reported {
            answer["usage"] = usage(reported);
        }
        call.answer(answer)
    }

    /// The picture as it becomes clearer, then whole.
    fn events(&self, call: &Call, action: Action, reported: Option<Reported>) -> Vec<Event> {
        let event = |step: &str| {
            json!({
                "type": format!("{}.{step}", action.event()), "b64_json": PICTURE, "background": "opaque",
                "created_at": call.created, "output_format": self.format, "quality": self.quality, "size": self.size,
            })
        };
        let named = |event: Value| Event::named(event["type"].as_str().unwrap_or_default(), &event);
        let mut events: Vec<Event> = (0..self.partial)
            .map(|index| {
                let mut partial = event("partial_image");
                partial["partial_image_index"] = json!(index);
                named(partial)
            })
            .collect();
        let mut last = event("completed");
        if let Some(reported) = reported {
            last["usage"] = usage(reported);
        }
        events.push(named(last));
        events
    }
}

fn usage(reported: Reported) -> Value {
    json!({
        "input_tokens": reported.input,
        "input_tokens_details": {
            "image_tokens": reported.image_input,
            "text_tokens": reported.input.saturating_sub(reported.image_input),
        },
        "output_tokens": reported.output,
        "output_tokens_details": {
            "image_tokens": reported.image_output,
            "text_tokens": reported.output.saturating_sub(reported.image_output),
        },
        "total_tokens": reported.input.saturating_add(reported.output),
    })
}
