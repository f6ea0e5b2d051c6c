//! Answers and stream chunks of the `OpenAI` dialect.

use super::{text, usage, written_bytes};
use crate::{
    base::json::{Kind, Value},
    provider::{Made, ObjectKind, Reading},
};
use chrono::TimeDelta;
use std::{collections::BTreeMap, ops::Range};

/// Longer than any sound is kept to be named again; its `expires_at` says about an hour.
const SOUND_KEPT: TimeDelta = TimeDelta::days(1);

/// Reads a whole answer.
pub(super) fn read_body(root: Value<'_>, reading: &mut Reading) {
    read_common(root, reading);
    read_choices(root, "message", reading);
}

/// What a stream has told of its choices.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Which have begun, and whether they have ended.
    choices: BTreeMap<u64, bool>,
}

/// Where a chunk has what a choice goes on with.
const DELTA: &str = "delta";

/// No request makes more choices.
const CHOICES_MAX: usize = 128;

impl Tally {
    /// The stream has ended well, but without the mark by which the dialect ends one: it is whole where each choice was
    /// said to have ended.
    pub(super) fn end(&self, reading: &mut Reading) {
        if !reading.complete && self.all_ended() {
            reading.complete = true;
            // Another choice may not have begun.
            reading.usage_is_partial = true;
        }
    }

    fn all_ended(&self) -> bool {
        !self.choices.is_empty() && self.choices.values().all(|ended| *ended)
    }

    fn read(&mut self, root: Value<'_>) {
        for choice in root.get("choices").into_iter().flat_map(Value::items) {
            let index = choice.get("index").and_then(Value::as_u64).unwrap_or(0);
            if self.choices.len() < CHOICES_MAX || self.choices.contains_key(&index) {
                let goes_on = [DELTA, "text"]
                    .iter()
                    .filter_map(|field| choice.get(field))
                    .any(|more| written_bytes(more) > 0);
                let ended = self.choices.entry(index).or_default();
                *ended = finish_reason(choice).is_some() || *ended && !goes_on;
            }
        }
    }
}

/// Why a choice ended. Some servers write the text `null` while it goes on.
fn finish_reason(choice: Value<'_>) -> Option<String> {
    text(choice, "finish_reason").filter(|reason| reason != "null")
}

/// Reads one chunk of a stream.
pub(super) fn read_chunk(root: Value<'_>, tally: &mut Tally, reading: &mut Reading) {
    let seen = reading.visible_output_bytes;
    read_common(root, reading);
    read_choices(root, DELTA, reading);
    tally.read(root);
    if root.get("usage").is_some_and(|usage| !usage.is_null()) {
        reading.usage_is_final = reading.usage.is_some() && reading.finish_reason.is_some();
    } else if reading.visible_output_bytes > seen {
        reading.usage_is_final = false;
    }
    reading.failed |= root.get("error").is_some_and(|error| !error.is_null());
}

/// What makes a chunk look as if usage had not been asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Strip {
    /// Nothing: it has no usage.
    Nothing,
    /// The whole event: it is there for the usage only.
    Event,
    /// These bytes: the usage member with its comma.
    Bytes(Range<usize>),
}

/// Says how to take the usage out of a chunk.
pub(super) fn strip_usage(root: Value<'_>) -> Strip {
    let Some(usage) = root.members().find(|member| member.key.is_str("usage")) else {
        return Strip::Nothing;
    };
    let has_no_choices =
        root.get("choices").is_some_and(|choices| choices.kind() == Kind::Array && choices.is_empty());
    if has_no_choices && usage.value.kind() == Kind::Object { Strip::Event } else { Strip::Bytes(usage.cut) }
}

fn read_common(root: Value<'_>, reading: &mut Reading) {
    if reading.model.is_none() {
        reading.model = text(root, "model");
    }
    if let Some(tier) = text(root, "service_tier") {
        reading.service_tier = Some(tier);
    }
    if let Some(reported) = root.get("usage").filter(|usage| !usage.is_null()) {
        reading.usage = usage::openai(reported);
        usage::note_hosted_calls(reported, reading);
        reading.reported_cost = usage::cost(reported);
    }
}

/// `message_field` is where a choice has what was written: `message`, or in a stream `delta`. Legacy
/// completions have `text` in both.
fn read_choices(root: Value<'_>, message_field: &str, reading: &mut Reading) {
    let Some(choices) = root.get("choices") else { return };
    for choice in choices.items() {
        let sound = choice.get(message_field).and_then(|message| message.get("audio"));
        if let Some(id) = sound.and_then(|sound| sound.get("id")).and_then(Value::as_str) {
            // Said again in a later request, it stands for what was spoken.
            let made = Made::new(ObjectKind::Item, id.into_owned());
            reading.make(Made { expires_after: Some(SOUND_KEPT), ..made });
        }
        for written in [message_field, "text"].into_iter().filter_map(|field| choice.get(field)) {
            let bytes = written_bytes(written);
            reading.visible_output_bytes = reading.visible_output_bytes.saturating_add(bytes);
        }
        if reading.finish_reason.is_none()
            && choice.get("index").is_none_or(|index| index.as_u64() == Some(0))
        {
            reading.finish_reason = finish_reason(choice);
        }
    }
}
