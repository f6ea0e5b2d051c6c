//! Random answers of every dialect, and what of each the client has to receive.

use super::ask::{Ask, Kind, MODEL};
use super::events::{Event, Said, Written, written};
use super::json::{Member, Object};
use super::random::Random;

/// How the provider says where its answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    /// By closing the connection.
    Close,
}

/// One answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) content_type: &'static str,
    pub(super) framing: Framing,
    pub(super) bytes: Vec<u8>,
    pub(super) pieces: Vec<Vec<u8>>,
    /// What the client gets of it.
    pub(super) passes: Vec<u8>,
    /// The stream comes to its proper end, or to one that is as good, or says itself that it does not.
    pub(super) is_whole: bool,
    /// It ends in the middle of an event: nothing can be said behind that.
    pub(super) ends_inside: bool,
}

/// Tokens that are told, as every dialect has them.
#[derive(Clone, Copy)]
struct Told {
    input: usize,
    cached: usize,
    written: usize,
    output: usize,
    reasoning: usize,
}

pub(super) fn answer(random: &mut Random, ask: &Ask, unique: &str) -> Answer {
    let told = Told {
        input: random.below(900),
        cached: random.below(50),
        written: random.below(50),
        output: random.between(30, 900),
        reasoning: random.below(30),
    };
    let is_refusal = random.one_in(25);
    let mut answer = if is_refusal {
        let error = random.padded(Vec::new()).text();
        whole(random, &format!("{{\"error\":{error}}}"), 400)
    } else if ask.kind == Kind::GenerateArray {
        array(random, told)
    } else if ask.is_streamed {
        stream(random, ask, told, unique)
    } else {
        let members = body(random, ask.kind, told, unique);
        let before = random.pick(&["", "", "\n", " \r\n"]);
        let after = random.pick(&["", "\n", "\r\n "]);
        let body = Object { before, after, ..random.padded(members) }.text();
        whole(random, &body, 200)
    };
    answer.framing = match random.below(5) {
        0 if answer.content_type.starts_with("application/json") => Framing::Length,
        1 => Framing::Close,
        _ => Framing::Chunked,
    };
    answer.pieces = random.pieces(&answer.bytes);
    answer
}

/// An answer that is not streamed.
fn whole(random: &mut Random, body: &str, status: u16) -> Answer {
    let content_type = random.pick(&["application/json", "application/json; charset=utf-8"]);
    let bytes = body.as_bytes().to_vec();
    let (framing, pieces) = (Framing::Length, Vec::new());
    Answer {
        status,
        content_type,
        framing,
        passes: bytes.clone(),
        bytes,
        pieces,
        is_whole: true,
        ends_inside: false,
    }
}

fn number(random: &mut Random, name: &str, tokens: usize) -> Member {
    random.member(name, tokens.to_string())
}

fn member(random: &mut Random, name: &str, members: Vec<Member>) -> Member {
    let object = random.padded(members).text();
    random.member(name, object)
}

/// What a model says, as a string: now and then more of it than is held of an event.
fn words(random: &mut Random, scraps_max: usize) -> String {
    let text = random.text(scraps_max);
    let text = random.quoted(&text);
    let inside = &text[1..text.len() - 1];
    if inside.is_empty() || !random.one_in(100) {
        text
    } else {
        format!("\"{}\"", inside.repeat(300_000 / inside.len()))
    }
}

/// The usage of a chat, a completion, or embeddings.
fn openai_usage(random: &mut Random, told: Told, has_output: bool) -> String {
    let details = vec![number(random, "cached_tokens", told.cached)];
    let mut members = vec![
        number(random, "prompt_tokens", told.input + told.cached),
        number(random, "total_tokens", told.input + told.cached + if has_output { told.output } else { 0 }),
        member(random, "prompt_tokens_details", details),
    ];
    if has_output {
        let details = vec![number(random, "reasoning_tokens", told.reasoning)];
        members.push(number(random, "completion_tokens", told.output));
        members.push(member(random, "completion_tokens_details", details));
    }
    random.padded(members).text()
}

fn anthropic_usage(random: &mut Random, told: Told, output: usize) -> String {
    let members = vec![
        number(random, "input_tokens", told.input),
        number(random, "cache_read_input_tokens", told.cached),
        number(random, "cache_creation_input_tokens", told.written),
        number(random, "output_tokens", output),
    ];
    random.padded(members).text()
}

fn responses_usage(random: &mut Random, told: Told) -> String {
    let (cached, reasoning) = (number(random, "cached_tokens", told.cached), told.reasoning);
    let reasoning = number(random, "reasoning_tokens", reasoning);
    let members = vec![
        number(random, "input_tokens", told.input + told.cached),
        number(random, "output_tokens", told.output),
        member(random, "input_tokens_details", vec![cached]),
        member(random, "output_tokens_details", vec![reasoning]),
    ];
    random.padded(members).text()
}

fn google_usage(random: &mut Random, told: Told) -> String {
    let members = vec![
        number(random, "promptTokenCount", told.input + told.cached),
        number(random, "cachedContentTokenCount", told.cached),
        number(random, "candidatesTokenCount", told.output - told.reasoning),
        number(random, "thoughtsTokenCount", told.reasoning),
    ];
    random.padded(members).text()
}

/// The members of a body that is not streamed.
fn body(random: &mut Random, kind: Kind, told: Told, unique: &str) -> Vec<Member> {
    let text = words(random, 8);
    match kind {
        Kind::Chat | Kind::Completions => {
            let usage = openai_usage(random, told, true);
            let choice = choice(random, kind, "message", Some(&text), Some("stop"));
            let choices = random.array(vec![choice]);
            vec![named(random, "model"), random.member("choices", choices), random.member("usage", usage)]
        }
        Kind::Embeddings => {
            let usage = openai_usage(random, told, false);
            let vector = vec![random.number(), random.number()];
            let vector = random.array(vector);
            let item = vec![random.member("embedding", vector), random.member("index", "0")];
            let item = random.padded(item).text();
            let data = random.array(vec![item]);
            vec![named(random, "model"), random.member("data", data), random.member("usage", usage)]
        }
        Kind::Messages => {
            let usage = anthropic_usage(random, told, told.output);
            let block = vec![random.member("type", "\"text\""), random.member("text", text)];
            let block = random.padded(block).text();
            let content = random.array(vec![block]);
            vec![
                named(random, "model"),
                random.member("type", "\"message\""),
                random.member("content", content),
                random.member("stop_reason", "\"end_turn\""),
                random.member("usage", usage),
            ]
        }
        Kind::Responses => response(random, told, unique, "completed"),
        Kind::Generate | Kind::GenerateEvents | Kind::GenerateArray => {
            let usage = google_usage(random, told);
            chunk_of_google(random, Some(&text), Some("STOP"), Some(usage))
        }
    }
}

/// The model, as it was asked for or a version of it.
fn named(random: &mut Random, field: &str) -> Member {
    let version = random.pick(&["", "-2026-01-02"]);
    let name = random.quoted(&format!("{MODEL}{version}"));
    random.member(field, name)
}

fn choice(random: &mut Random, kind: Kind, place: &str, text: Option<&str>, finish: Option<&str>) -> String {
    let finish = finish.map_or_else(|| "null".to_owned(), |finish| format!("\"{finish}\""));
    let mut members = vec![random.member("index", "0"), random.member("finish_reason", finish)];
    let text = text.unwrap_or("\"\"");
    if kind == Kind::Completions {
        members.push(random.member("text", text));
    } else {
        let content = vec![random.member("content", text)];
        members.push(member(random, place, content));
    }
    random.padded(members).text()
}

fn response(random: &mut Random, told: Told, unique: &str, status: &str) -> Vec<Member> {
    let usage = responses_usage(random, told);
    let id = if random.one_in(2) { format!("\"resp_{unique}\"") } else { "\"r\"".to_owned() };
    let status = random.quoted(status);
    let mut members = vec![
        named(random, "model"),
        random.member("id", id),
        random.member("status", status),
        random.member("output", "[]"),
        random.member("usage", usage),
    ];
    if random.one_in(2) {
        members.push(random.member("store", "false"));
    }
    members
}

fn chunk_of_google(
    random: &mut Random,
    text: Option<&str>,
    finish: Option<&str>,
    usage: Option<String>,
) -> Vec<Member> {
    let mut candidate = vec![random.member("index", "0")];
    if let Some(text) = text {
        let part = vec![random.member("text", text)];
        let part = random.padded(part).text();
        let parts = random.array(vec![part]);
        let content = vec![random.member("parts", parts)];
        candidate.push(member(random, "content", content));
    }
    if let Some(finish) = finish {
        candidate.push(random.member("finishReason", format!("\"{finish}\"")));
    }
    let candidate = random.padded(candidate).text();
    let candidates = random.array(vec![candidate]);
    let mut members = vec![named(random, "modelVersion"), random.member("candidates", candidates)];
    members.extend(usage.map(|usage| random.member("usageMetadata", usage)));
    members
}

/// A stream as Google sends it where it is not asked for events.
fn array(random: &mut Random, told: Told) -> Answer {
    let is_whole = !random.one_in(10);
    let count = random.between(1, 6);
    let mut chunks = Vec::new();
    for at in 1..=count {
        let text = words(random, 6);
        let is_last = at == count;
        let usage = (is_last || random.one_in(3)).then(|| google_usage(random, told));
        let members = chunk_of_google(random, Some(&text), is_last.then_some("STOP"), usage);
        let before = random.pick(&["", "\n", "\r\n  ", " "]);
        let after = random.pick(&["", "\n", "\r\n"]);
        chunks.push(Object { before, after, ..random.padded(members) }.text());
    }
    let end = if is_whole { random.pick(&["]", "]\n", "]\r\n "]) } else { random.pick(&["", ",", "\n"]) };
    let bytes = format!("{}[{}{end}", random.pick(&["", "\n"]), chunks.join(",")).into_bytes();
    Answer {
        status: 200,
        content_type: random.pick(&["application/json", "application/json; charset=UTF-8"]),
        framing: Framing::Chunked,
        passes: bytes.clone(),
        bytes,
        pieces: Vec::new(),
        is_whole,
        ends_inside: false,
    }
}

/// A stream of events.
fn stream(random: &mut Random, ask: &Ask, told: Told, unique: &str) -> Answer {
    let mut events = match ask.kind {
        Kind::Messages => anthropic_events(random, told),
        Kind::Responses => responses_events(random, told, unique),
        Kind::GenerateEvents => google_events(random, told),
        _ => openai_events(random, ask, told),
    };
    let is_whole = !random.one_in(10);
    if !is_whole {
        events.pop();
        if random.one_in(3) {
            events.truncate(random.below(events.len() + 1));
        }
    }
    for _ in 0..random.pick(&[0, 0, 1, 4]) {
        let junk =
            random.pick(&["[1,2", "{\"a\":NaN}", "junk: yes", "{\"zz\":1,\"zz\":1}", "\u{feff}{}", "😀", ""]);
        // Nothing counts after the end, and before it this is nothing.
        let at = random.below(events.len() + 1);
        events.insert(at, Event::of(Said::Text(junk.to_owned())));
    }
    let Written { bytes, passes, ends_inside } = written(random, &events, ask.strips());
    let is_whole = is_whole || !ends_inside && events.iter().any(|event| event.tells_end);
    let content_type = random.pick(&["text/event-stream", "text/event-stream; charset=utf-8"]);
    Answer {
        status: 200,
        content_type,
        framing: Framing::Chunked,
        bytes,
        pieces: Vec::new(),
        passes,
        is_whole,
        ends_inside,
    }
}

fn openai_events(random: &mut Random, ask: &Ask, told: Told) -> Vec<Event> {
    let count = random.below(8);
    let (says_null, is_with_last) = (random.one_in(2), random.one_in(4));
    let mut events = Vec::new();
    for at in 0..=count {
        let text = words(random, 6);
        let is_last = at == count;
        let choice = choice(random, ask.kind, "delta", Some(&text), is_last.then_some("stop"));
        let choices = random.array(vec![choice]);
        let mut members = vec![named(random, "model"), random.member("choices", choices)];
        if is_last && is_with_last {
            let usage = openai_usage(random, told, true);
            members.push(random.member("usage", usage));
        } else if says_null {
            members.push(random.member("usage", "null"));
        }
        let event = Event::of(Said::Object(random.padded(members)));
        events.push(Event { strips: Some("usage"), tells_end: is_last, ..event });
    }
    if !is_with_last && !random.one_in(8) {
        let usage = openai_usage(random, told, true);
        let members = vec![random.member("choices", "[]"), random.member("usage", usage)];
        events.push(Event { is_of_usage: true, ..Event::of(Said::Object(random.padded(members))) });
    }
    events.push(Event::of(Said::Text("[DONE]".to_owned())));
    events
}

fn typed(random: &mut Random, kind: &'static str, mut members: Vec<Member>) -> Event {
    // The event's name says it too, and one of them is enough.
    let said = random.below(3);
    if said != 0 {
        let kind = random.quoted(kind);
        members.push(random.member("type", kind));
    }
    let name = (said != 1).then_some(kind);
    Event { name, ..Event::of(Said::Object(random.padded(members))) }
}

fn anthropic_events(random: &mut Random, told: Told) -> Vec<Event> {
    let usage = anthropic_usage(random, told, 1);
    let message = vec![named(random, "model"), random.member("usage", usage)];
    let message = vec![member(random, "message", message)];
    let mut events = vec![typed(random, "message_start", message)];
    for _ in 0..random.below(8) {
        if random.one_in(4) {
            events.push(typed(random, "ping", Vec::new()));
        }
        let text = words(random, 6);
        let delta = vec![random.member("type", "\"text_delta\""), random.member("text", text)];
        let members = vec![random.member("index", "0"), member(random, "delta", delta)];
        events.push(typed(random, "content_block_delta", members));
    }
    let delta = vec![random.member("stop_reason", "\"end_turn\"")];
    let usage = vec![number(random, "output_tokens", told.output)];
    let members = vec![member(random, "delta", delta), member(random, "usage", usage)];
    events.push(typed(random, "message_delta", members));
    events.push(typed(random, "message_stop", Vec::new()));
    events
}

fn responses_events(random: &mut Random, told: Told, unique: &str) -> Vec<Event> {
    let mut events = Vec::new();
    for at in 0..random.below(8) {
        let text = words(random, 6);
        let members = vec![random.member("delta", text), random.member("sequence_number", at.to_string())];
        events.push(typed(random, "response.output_text.delta", members));
    }
    let members = response(random, told, unique, "completed");
    let members = vec![member(random, "response", members)];
    events.push(typed(random, "response.completed", members));
    events
}

fn google_events(random: &mut Random, told: Told) -> Vec<Event> {
    let count = random.between(1, 8);
    let mut events = Vec::new();
    for at in 1..=count {
        let text = words(random, 6);
        let is_last = at == count;
        let usage = (is_last || random.one_in(3)).then(|| google_usage(random, told));
        let members = chunk_of_google(random, Some(&text), is_last.then_some("STOP"), usage);
        events.push(Event::of(Said::Object(random.padded(members))));
    }
    events
}
