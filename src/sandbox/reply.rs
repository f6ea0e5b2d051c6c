//! What a chat-like request asks for, whatever its dialect, and what the sandbox says to it.
//!
//! An answer depends on the request alone. It is made of pieces of at most four bytes, each one output token,
//! so a stream can be cut anywhere and the count is still right.

use super::directive::{Directive, Directives};
use super::schema;
use super::tokens::{InputCount, count};
use serde_json::Value;

/// Output tokens of a plain answer, when nothing else is said.
const OUTPUT_TOKENS: u64 = 16;
const PIECE_BYTES: usize = 4;
const REFUSED: &str = "I'm sorry, I cannot help with that.";
const TOPIC_BYTES_MAX: usize = 36;
/// Words of three letters and a space: one token each.
const WORDS: [&str; 16] = [
    "and ", "the ", "key ", "was ", "cut ", "for ", "one ", "new ", "old ", "box ", "not ", "two ", "our ",
    "map ", "fit ", "all ",
];

/// A chat-like request, read.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) input: InputCount,
    /// The last text that the user wrote.
    pub(super) topic: String,
    pub(super) want: Want,
    pub(super) output_tokens_max: Option<u64>,
    /// Answers given.
    pub(super) candidates: u64,
    /// Answers made, and billed.
    pub(super) candidates_made: u64,
    pub(super) stream: bool,
}

/// What kind of answer.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// Some words.
    Words,
    /// This JSON, as text.
    Json(String),
    /// A call of this tool with these arguments.
    Tool(ToolCall),
}

/// A tool as the request offers it.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) parameters: Value,
}

impl Tool {
    /// Reads a tool's name and, under `schema`, its parameters; tools without a name are the provider's own.
    pub(super) fn read(given: &Value, schema: &str) -> Option<Self> {
        let name = given.get("name")?.as_str()?.to_owned();
        Some(Self { name, parameters: given.get(schema).cloned().unwrap_or_default() })
    }
}

/// A call of a tool.
#[derive(Clone, Debug)]
pub(super) struct ToolCall {
    pub(super) name: String,
    pub(super) arguments: String,
}

/// Whether a tool must, may or must not be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Called when the user says so.
    Auto,
    /// Never.
    Never,
    /// Always; the first one.
    Any,
    /// Always; this one.
    Named(String),
}

/// How much of the user's text is looked at.
const TOPIC_READ_BYTES: usize = 4096;

/// The text of a message's content: a string, or the texts of its parts. Long ones are not read to their end.
pub(super) fn text_of(content: &Value) -> String {
    let mut text = match content {
        Value::String(text) => head(text).to_owned(),
        Value::Array(parts) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).map(head).collect()
        }
        _ => String::new(),
    };
    text.truncate(head(&text).len());
    text
}

fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(TOPIC_READ_BYTES)]
}

/// Words that make the sandbox call a tool that is offered.
const USE_THE_TOOL: &str = "use the tool";

impl Want {
    /// Decides what to answer. `after_result`: the request ends in a tool's result, which is for telling, not
    /// for calling again.
    pub(super) fn decide(
        tools: &[Tool],
        choice: &Choice,
        topic: &str,
        after_result: bool,
        json: Option<&Value>,
    ) -> Self {
        let chosen = match choice {
            Choice::Never => None,
            Choice::Any => tools.first(),
            Choice::Named(name) => tools.iter().find(|tool| tool.name == *name),
            Choice::Auto => {
                let told = !after_result && topic.to_ascii_lowercase().contains(USE_THE_TOOL);
                tools.first().filter(|_| told)
            }
        };
        match (chosen, json) {
            (Some(tool), _) => {
                let arguments = schema::example(&object(&tool.parameters)).to_string();
                Self::Tool(ToolCall { name: tool.name.clone(), arguments })
            }
            (None, Some(schema)) => Self::Json(schema::example(&object(schema)).to_string()),
            (None, None) => Self::Words,
        }
    }
}

/// A schema that says nothing is an object's, here.
fn object(schema: &Value) -> Value {
    let silent = schema.as_object().is_none_or(serde_json::Map::is_empty);
    if silent { serde_json::json!({"type": "object", "properties": {}}) } else { schema.clone() }
}

/// Why the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// It is complete.
    Stop,
    /// The bound was reached.
    Length,
    /// It is a tool call.
    Tool,
}

/// What is said, and why it ends.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) pieces: Pieces,
    pub(super) finish: Finish,
    /// The tool that is called: the pieces are its arguments.
    pub(super) tool: Option<String>,
    /// It is a polite no.
    pub(super) refuses: bool,
    pub(super) candidates: u64,
}

impl Reply {
    /// Answers `ask`; `key` is what the directives may ask to be shown.
    pub(super) fn compose(ask: &Ask, directives: &Directives, key: &str) -> Self {
        let refuses = directives.has(Directive::Refusal);
        let (mut opening, wanted, tool) = match &ask.want {
            _ if refuses => fixed(REFUSED, None),
            Want::Words => {
                let topic = crate::base::clip(&ask.topic, TOPIC_BYTES_MAX);
                let wanted = directives.number(Directive::Tokens).unwrap_or(OUTPUT_TOKENS);
                (pieces(&format!("You said: {topic}. ")), wanted, None)
            }
            Want::Json(text) => fixed(text, None),
            Want::Tool(call) => fixed(&call.arguments, Some(call.name.clone())),
        };
        let mut first = Vec::new();
        if directives.has(Directive::EchoKey) {
            first.push(key.to_owned());
        }
        if directives.has(Directive::EchoKeySplit) {
            let mut middle = key.len() / 2;
            while !key.is_char_boundary(middle) {
                middle -= 1;
            }
            first.extend([key[..middle].to_owned(), key[middle..].to_owned()]);
        }
        if let Some(bytes) = directives.number(Directive::HugeEvent) {
            first.push("x".repeat(usize::try_from(bytes).unwrap_or(usize::MAX)));
        }
        let wanted = wanted.max(1) + count(first.len());
        first.append(&mut opening);
        let length = ask.output_tokens_max.map_or(wanted, |bound| wanted.min(bound.max(1)));
        let finish = match (length < wanted, &tool) {
            (true, _) => Finish::Length,
            (false, Some(_)) => Finish::Tool,
            (false, None) => Finish::Stop,
        };
        let seed = ask.topic.bytes().fold(7_usize, |sum, byte| sum.wrapping_mul(31) ^ usize::from(byte));
        Self {
            pieces: Pieces { opening: first, seed, length },
            finish,
            tool,
            refuses,
            candidates: ask.candidates,
        }
    }

    /// Output tokens of each candidate.
    pub(super) fn tokens(&self) -> u64 {
        self.pieces.length
    }
}

fn fixed(text: &str, tool: Option<String>) -> (Vec<String>, u64, Option<String>) {
    let opening = pieces(text);
    let wanted = count(opening.len());
    (opening, wanted, tool)
}

/// Cuts a text into tokens, between characters.
fn pieces(text: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for ch in text.chars() {
        match pieces.last_mut() {
            Some(last) if last.len() + ch.len_utf8() <= PIECE_BYTES => last.push(ch),
            _ => pieces.push(ch.to_string()),
        }
    }
    pieces
}

/// The tokens of an answer: an opening, then words as long as it lasts.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    opening: Vec<String>,
    seed: usize,
    length: u64,
}

impl Pieces {
    /// The tokens of one candidate, in order.
    pub(super) fn iter(&self, candidate: u64) -> impl Iterator<Item = &str> {
        (0..self.length).map(move |index| self.piece(index, candidate))
    }

    /// The same, taking the pieces along.
    pub(super) fn into_each_candidate(self, candidates: u64) -> impl Iterator<Item = (u64, String)> + Send {
        (0..self.length).flat_map(move |index| {
            let one = |candidate| (candidate, self.piece(index, candidate).to_owned());
            (0..candidates).map(one).collect::<Vec<_>>()
        })
    }

    /// One candidate's whole text.
    pub(super) fn text(&self, candidate: u64) -> String {
        self.iter(candidate).collect()
    }

    fn piece(&self, index: u64, candidate: u64) -> &str {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let candidate = usize::try_from(candidate).unwrap_or(usize::MAX);
        let word = self.seed.wrapping_add(index.wrapping_mul(5)).wrapping_add(candidate.wrapping_mul(3));
        self.opening.get(index).map_or(WORDS[word % WORDS.len()], String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(topic: &str, want: Want, bound: Option<u64>) -> Ask {
        Ask {
            input: InputCount::default(),
            topic: topic.to_owned(),
            want,
            output_tokens_max: bound,
            candidates: 1,
            candidates_made: 1,
            stream: false,
        }
    }

    fn compose(ask: &Ask, directives: &str) -> Reply {
        let mut read = Directives::default();
        read.add(directives).unwrap();
        Reply::compose(ask, &read, "sk-1234567890")
    }

    #[test]
    fn an_answer_echoes_is_deterministic_and_as_long_as_asked() {
        let hello = ask("hello there", Want::Words, None);
        let reply = compose(&hello, "");
        assert_eq!((reply.tokens(), reply.finish), (16, Finish::Stop));
        assert!(reply.pieces.text(0).starts_with("You said: hello there. "), "{}", reply.pieces.text(0));
        assert_eq!(reply.pieces.text(0), compose(&hello, "").pieces.text(0));
        assert_eq!(compose(&hello, "tokens=40").tokens(), 40);
        let bounded = compose(&ask("hello there", Want::Words, Some(5)), "tokens=40");
        assert_eq!((bounded.tokens(), bounded.finish), (5, Finish::Length));
        assert!(reply.pieces.iter(0).all(|piece| piece.len() <= PIECE_BYTES));
    }

    #[test]
    fn a_key_is_echoed_whole_or_in_two_pieces() {
        let hello = ask("hello", Want::Words, None);
        assert_eq!(compose(&hello, "echo_key").pieces.iter(0).next().unwrap(), "sk-1234567890");
        let split = compose(&hello, "echo_key_split");
        assert_eq!(split.pieces.iter(0).take(2).collect::<Vec<_>>(), ["sk-123", "4567890"]);
        assert_eq!(compose(&hello, "huge_event=5000").pieces.iter(0).next().unwrap().len(), 5000);
    }

    #[test]
    fn a_tool_is_called_when_asked_and_not_after_its_result() {
        let tools = [Tool { name: "look".to_owned(), parameters: json!({}) }];
        let called = |choice, topic, after| matches!(Want::decide(&tools, &choice, topic, after, None), Want::Tool(call) if call.arguments == "{}");
        assert!(called(Choice::Auto, "Please use the tool.", false) && called(Choice::Any, "hi", true));
        assert!(called(Choice::Named("look".to_owned()), "hi", false));
        assert!(!called(Choice::Auto, "Please use the tool.", true) && !called(Choice::Auto, "hi", false));
        assert!(
            !called(Choice::Never, "use the tool", false)
                && !called(Choice::Named("x".to_owned()), "", false)
        );
    }
}
