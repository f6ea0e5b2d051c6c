//! Random requests, and what the provider has to receive of each.

use super::json::{Member, Object};
use super::random::Random;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completions,
    Embeddings,
    Messages,
    Responses,
    Generate,
    /// Google's stream, as events.
    GenerateEvents,
    /// Google's stream, as an array that grows.
    GenerateArray,
}

const KINDS: [Kind; 8] = [
    Kind::Chat,
    Kind::Completions,
    Kind::Embeddings,
    Kind::Messages,
    Kind::Responses,
    Kind::Generate,
    Kind::GenerateEvents,
    Kind::GenerateArray,
];

/// What the sub-key does to output bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// Nothing.
    Plain,
    /// States one of [`BOUND`] where there is none.
    Defaulted,
    /// Lowers those above [`BOUND`], too.
    Clamped,
}

pub(super) const BOUND: u64 = 7;

/// The model as the catalog and the provider know it.
pub(super) const MODEL: &str = "odd-1.x";

/// One request.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) kind: Kind,
    pub(super) key: Key,
    pub(super) path: String,
    /// Where it goes at the provider.
    pub(super) upstream_path: String,
    pub(super) sent: Vec<u8>,
    /// What must arrive: one of these.
    pub(super) arrives: Vec<Vec<u8>>,
    /// The fields that `x-bitting-changed` names, sorted.
    pub(super) changed: Vec<&'static str>,
    pub(super) is_streamed: bool,
    /// Without a length.
    pub(super) is_chunked: bool,
    pub(super) pieces: Vec<Vec<u8>>,
}

impl Ask {
    /// Whether the usage was asked for by the gate alone.
    pub(super) fn strips(&self) -> bool {
        self.changed.contains(&REPORT)
    }
}

impl Kind {
    pub(super) fn is_google(self) -> bool {
        matches!(self, Self::Generate | Self::GenerateEvents | Self::GenerateArray)
    }
}

const REPORT: &str = "stream_options.include_usage";
const GOOGLES_BOUND: &str = "generationConfig.maxOutputTokens";

/// The body, and what is done to it.
struct Draft {
    object: Object,
    /// Fields whose values change: the member, what it becomes, and how that is called.
    values: Vec<(String, String, &'static str)>,
    /// Members that are put in first.
    inserted: Vec<(String, &'static str)>,
}

pub(super) fn ask(random: &mut Random) -> Ask {
    let kind = random.pick(&KINDS);
    let bounded = kind != Kind::Embeddings;
    let key = if bounded {
        random.pick(&[Key::Plain, Key::Plain, Key::Defaulted, Key::Clamped])
    } else {
        Key::Plain
    };
    let is_prefixed = !kind.is_google() && random.one_in(3);
    let mut draft = Draft { object: Object::default(), values: Vec::new(), inserted: Vec::new() };
    let (mut members, mut is_streamed) = content(random, kind);
    if !kind.is_google() {
        let name = if is_prefixed { format!("fuzz/{MODEL}") } else { MODEL.to_owned() };
        let value = random.quoted(&name);
        members.push(random.member("model", value));
        if is_prefixed {
            draft.values.push(("model".to_owned(), format!("\"{MODEL}\""), "model"));
        }
    }
    if matches!(kind, Kind::Chat | Kind::Completions | Kind::Messages | Kind::Responses) {
        is_streamed = random.one_in(2);
        if is_streamed || random.one_in(3) {
            let value = if is_streamed { "true" } else { random.pick(&["false", "null"]) };
            members.push(random.member("stream", value));
        }
    }
    if matches!(kind, Kind::Chat | Kind::Completions) {
        members.extend(stream_options(random, is_streamed, &mut draft));
    }
    members.extend(if kind.is_google() {
        googles_bound(random, key, &mut draft)
    } else {
        bound(random, kind, key, &mut draft)
    });
    let before = random.pick(&["", "", " ", "\r\n", "\t\n "]);
    let after = random.pick(&["", "", " ", "\r\n", "\n\n"]);
    draft.object = Object { before, after, ..random.padded(members) };
    let (path, upstream_path) = paths(random, kind, is_prefixed);
    let sent = draft.object.text().into_bytes();
    let pieces = random.pieces(&sent);
    let (arrives, changed) = draft.done();
    let is_chunked = random.one_in(2);
    Ask { kind, key, path, upstream_path, sent, arrives, changed, is_streamed, is_chunked, pieces }
}

impl Draft {
    /// What arrives, whichever member is put in first, and what is said to have changed.
    fn done(self) -> (Vec<Vec<u8>>, Vec<&'static str>) {
        let mut changed: Vec<&str> = self
            .values
            .iter()
            .map(|value| value.2)
            .chain(self.inserted.iter().map(|member| member.1))
            .collect();
        changed.sort_unstable();
        let inside = self.object.inside();
        let object =
            self.values.into_iter().fold(self.object, |object, (name, value, _)| object.with(&name, value));
        let text = object.text();
        let mut orders = vec![self.inserted.iter().map(|member| member.0.as_str()).collect::<String>()];
        orders.push(self.inserted.iter().rev().map(|member| member.0.as_str()).collect());
        let whole =
            |inserted: String| format!("{}{inserted}{}", &text[..inside], &text[inside..]).into_bytes();
        (orders.into_iter().map(whole).collect(), changed)
    }
}

/// What an operation is about, and whether its path alone says that it streams.
fn content(random: &mut Random, kind: Kind) -> (Vec<Member>, bool) {
    let text = |random: &mut Random| {
        let text = if random.one_in(60) { random.text(3).repeat(9_000) } else { random.text(6) };
        random.quoted(&text)
    };
    let mut members = Vec::new();
    match kind {
        Kind::Chat | Kind::Messages => {
            let count = random.between(1, 4);
            let messages = (0..count).map(|_| {
                let said = if random.one_in(2) { text(random) } else { parts(random) };
                let role = random.quoted("user");
                let members = vec![random.member("role", role), random.member("content", said)];
                random.padded(members).text()
            });
            let messages = messages.collect();
            let messages = random.array(messages);
            members.push(random.member("messages", messages));
            if random.one_in(2) {
                let temperature = random.number();
                members.push(random.member("temperature", temperature));
            }
        }
        Kind::Completions => {
            let prompt = text(random);
            members.push(random.member("prompt", prompt));
        }
        Kind::Embeddings => {
            let inputs = vec![text(random), text(random)];
            let input = if random.one_in(2) { text(random) } else { random.array(inputs) };
            members.push(random.member("input", input));
        }
        Kind::Responses => {
            let input = text(random);
            members.push(random.member("input", input));
            members.push(random.member("store", "false"));
        }
        Kind::Generate | Kind::GenerateEvents | Kind::GenerateArray => {
            let said = text(random);
            let part = vec![random.member("text", said)];
            let part = random.padded(part).text();
            let parts = random.array(vec![part]);
            let content = vec![random.member("parts", parts), random.member("role", "\"user\"")];
            let content = random.padded(content).text();
            let contents = random.array(vec![content]);
            members.push(random.member("contents", contents));
        }
    }
    (members, matches!(kind, Kind::GenerateEvents | Kind::GenerateArray))
}

fn parts(random: &mut Random) -> String {
    let count = random.between(1, 3);
    let parts = (0..count).map(|_| {
        let text = random.text(5);
        let text = random.quoted(&text);
        let members = vec![random.member("type", "\"text\""), random.member("text", text)];
        random.padded(members).text()
    });
    let parts = parts.collect();
    random.array(parts)
}

/// Asks for usage, or not, or in another way.
fn stream_options(random: &mut Random, is_streamed: bool, draft: &mut Draft) -> Option<Member> {
    const ASKS: &str = r#"{"include_usage":true}"#;
    let space = random.space();
    let (value, becomes) = match random.below(7) {
        0..=2 => {
            if is_streamed {
                draft.inserted.push((format!(r#""stream_options":{ASKS},"#), REPORT));
            }
            return None;
        }
        3 => ("null".to_owned(), ASKS.to_owned()),
        4 => (format!("{{{space}}}"), format!(r#"{{"include_usage":true{space}}}"#)),
        5 => (
            format!(r#"{{{space}"zz":[1.0]{space}}}"#),
            format!(r#"{{"include_usage":true,{space}"zz":[1.0]{space}}}"#),
        ),
        _ => {
            let was = random.pick(&["true", "false", "null"]);
            let options =
                |value: &str| format!(r#"{{{space}"include\u005fusage"{space}:{space}{value}{space}}}"#);
            if was == "true" {
                return Some(random.member("stream_options", options(was)));
            }
            (options(was), options("true"))
        }
    };
    if is_streamed {
        draft.values.push(("stream_options".to_owned(), becomes, REPORT));
    }
    Some(random.member("stream_options", value))
}

/// An output bound, or none, and what the key makes of that.
fn bound(random: &mut Random, kind: Kind, key: Key, draft: &mut Draft) -> Option<Member> {
    let field = match kind {
        Kind::Embeddings => return None,
        Kind::Responses => "max_output_tokens",
        _ => "max_tokens",
    };
    let (stated, becomes) = match random.below(4) {
        0 | 1 => (random.pick(&["16", "3", "200"]), BOUND.to_string()),
        2 => ("null", BOUND.to_string()),
        _ => {
            if key != Key::Plain {
                draft.inserted.push((format!("\"{field}\":{BOUND},"), field));
            }
            return None;
        }
    };
    if changes(key, stated) {
        draft.values.push((field.to_owned(), becomes, field));
    }
    Some(random.member(field, stated))
}

fn changes(key: Key, stated: &str) -> bool {
    match (key, stated.parse::<u64>()) {
        (Key::Plain, _) => false,
        (Key::Defaulted, stated) => stated.is_err(),
        (Key::Clamped, stated) => stated.map_or(true, |tokens| tokens > BOUND),
    }
}

/// The same where Google has it, in either spelling.
fn googles_bound(random: &mut Random, key: Key, draft: &mut Draft) -> Option<Member> {
    let (config, field) = random.pick(&[
        ("generationConfig", "maxOutputTokens"),
        ("generation_config", "max_output_tokens"),
        ("generationConfig", "max_output_tokens"),
    ]);
    let space = random.space();
    let inside = |first: &str| format!(r#"{{{first}{space}"temperature"{space}:{space}0.70{space}}}"#);
    let with = |bound: &str| inside(&format!(r#"{space}"{field}":{space}{bound},"#));
    let (value, becomes) = match random.below(6) {
        0 | 1 => {
            let stated = random.pick(&["16", "3", "200"]);
            let becomes = if changes(key, stated) { with(&BOUND.to_string()) } else { with(stated) };
            (with(stated), becomes)
        }
        2 => (with("null"), with(&BOUND.to_string())),
        3 => (inside(""), inside(&format!("\"maxOutputTokens\":{BOUND},"))),
        4 => ("null".to_owned(), format!("{{\"maxOutputTokens\":{BOUND}}}")),
        _ => {
            if key != Key::Plain {
                let member = format!("\"generationConfig\":{{\"maxOutputTokens\":{BOUND}}},");
                draft.inserted.push((member, GOOGLES_BOUND));
            }
            return None;
        }
    };
    if key != Key::Plain && becomes != value {
        draft.values.push((config.to_owned(), becomes, GOOGLES_BOUND));
    }
    Some(random.member(config, value))
}

/// The path as the client asks, and as the provider sees it.
fn paths(random: &mut Random, kind: Kind, is_prefixed: bool) -> (String, String) {
    let models = "/models/odd-1.x";
    let (version, operation) = match kind {
        Kind::Chat => ("/v1", "/chat/completions".to_owned()),
        Kind::Completions => ("/v1", "/completions".to_owned()),
        Kind::Embeddings => ("/v1", "/embeddings".to_owned()),
        Kind::Messages => ("/v1", "/messages".to_owned()),
        Kind::Responses => ("/v1", "/responses".to_owned()),
        Kind::Generate => (random.pick(&["/v1beta", "/v1"]), format!("{models}:generateContent")),
        Kind::GenerateEvents => ("/v1beta", format!("{models}:streamGenerateContent?alt=sse")),
        Kind::GenerateArray => ("/v1beta", format!("{models}:streamGenerateContent")),
    };
    let path = format!("{version}{operation}");
    (if is_prefixed { path.clone() } else { format!("/p/fuzz{path}") }, path)
}
