//! `POST /v1/completions`, the legacy endpoint: every prompt of the list gets `n` answers.

use super::bill::{Reported, Usage};
use super::call::{Answer, Call, Work, bound, times};
use super::chat::{includes_usage, usage};
use super::refusal::Refusal;
use super::reply::{Ask, Finish, Reply, Want, text_of};
use super::stream::{Event, Template, quoted};
use super::tokens::{InputCount, count};
use serde_json::{Value, json};

/// What the endpoint answers when no bound is given, as the real one does.
const OUTPUT_TOKENS_MAX: u64 = 16;
const PROMPTS_MAX: usize = 128;

/// Reads the request, answers it, and says what it uses.
pub(super) fn work(call: &Call) -> Result<Work, Refusal> {
    let ask = read(call)?;
    let reply = Reply::compose(&ask, &call.directives, &call.key);
    let usage = Usage::new(ask.input.total(), reply.tokens() * ask.candidates_made, &call.directives);
    let reported = usage.reported(&call.directives);
    let answer = if ask.stream {
        Answer::sse(events(call, reply, reported))
    } else {
        Answer::Json(json(call, &reply, reported))
    };
    Ok(Work { answer, usage: Some(usage) })
}

fn read(call: &Call) -> Result<Ask, Refusal> {
    let body = &call.body;
    let mut input = InputCount::default();
    let is_tokens = |list: &[Value]| list.first().is_some_and(Value::is_number);
    let prompts: Vec<&Value> = match &body["prompt"] {
        Value::Array(list) if !is_tokens(list) => list.iter().collect(),
        prompt => vec![prompt],
    };
    if prompts.is_empty() || prompts.len() > PROMPTS_MAX {
        return Err(Refusal::param("prompt", format!("Invalid 'prompt': give 1 to {PROMPTS_MAX} prompts.")));
    }
    input.messages(prompts.iter().copied());
    let topic = prompts.last().map(|prompt| text_of(prompt)).unwrap_or_default();
    let candidates = times(body, "n")?;
    let made = times(body, "best_of")?;
    if body.get("best_of").is_some_and(|best_of| !best_of.is_null()) && made < candidates {
        return Err(Refusal::param("best_of", "Invalid 'best_of': it must not be less than 'n'."));
    }
    let prompts = count(prompts.len());
    let wanted =
        if call.directives.has(super::directive::Directive::Tokens) { u64::MAX } else { OUTPUT_TOKENS_MAX };
    Ok(Ask {
        input,
        topic,
        want: Want::Words,
        output_tokens_max: Some(bound(body, "max_tokens")?.unwrap_or(wanted)),
        candidates: candidates * prompts,
        candidates_made: made.max(candidates) * prompts,
        stream: call.streams(),
    })
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::Tool => "stop",
        Finish::Length => "length",
    }
}

fn json(call: &Call, reply: &Reply, reported: Option<Reported>) -> Value {
    let choice = |index| {
        json!({
            "index": index, "text": reply.pieces.text(index), "logprobs": null,
            "finish_reason": finish_reason(reply.finish),
        })
    };
    let mut answer = json!({
        "id": call.id("cmpl"), "object": "text_completion", "created": call.created, "model": call.model_name(),
        "choices": (0..reply.candidates).map(choice).collect::<Vec<_>>(), "system_fingerprint": "fp_sandbox",
    });
    if reported.is_some() {
        answer["usage"] = usage(reported);
    }
    answer
}

fn events(call: &Call, reply: Reply, reported: Option<Reported>) -> impl Iterator<Item = Event> + use<> {
    let with_usage = includes_usage(call, reported);
    let mut chunk = json!({
        "id": call.id("cmpl"), "object": "text_completion", "created": call.created, "model": call.model_name(),
        "choices": [{
            "index": Template::hole(0), "text": Template::hole(1), "logprobs": null,
            "finish_reason": Template::hole(2),
        }],
        "system_fingerprint": "fp_sandbox",
    });
    if with_usage {
        chunk["usage"] = Value::Null;
    }
    let template = Template::new("data: ", &chunk);
    let reason = quoted(finish_reason(reply.finish));
    let ends = (0..reply.candidates).map(|index| template.fill(&[&index.to_string(), "\"\"", &reason]));
    let mut closing: Vec<Event> = ends.collect();
    if with_usage {
        chunk["choices"] = json!([]);
        chunk["usage"] = usage(reported);
        closing.push(Event::data(&chunk));
    }
    closing.push(Event::raw("data: [DONE]\n\n"));
    let pieces = reply.pieces.into_each_candidate(reply.candidates);
    pieces
        .map(move |(index, piece)| template.fill(&[&index.to_string(), &quoted(&piece), "null"]).carrying(1))
        .chain(closing)
}
