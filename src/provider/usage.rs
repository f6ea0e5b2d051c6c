//! What a provider says a request used, in disjoint classes: tokens, and what is billed by the piece.

use super::ObjectKind;
use crate::base::NanoUsd;
use chrono::TimeDelta;
use std::collections::BTreeMap;

/// Tokens by class, and pieces. Classes are disjoint (a cached input token is not also an input token), except
/// `reasoning`, which says how many of `output` were reasoning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Input tokens billed at the plain price: neither read from a cache, nor written to one, nor sound or pictures.
    pub input: u64,
    /// Input tokens read from a cache.
    pub cached_input: u64,
    /// Input tokens written to a cache for about five minutes.
    pub cache_write: u64,
    /// Input tokens written to a cache for an hour.
    pub cache_write_1h: u64,
    /// Input tokens of sound.
    pub audio_input: u64,
    /// Input tokens of pictures, where the provider counts them apart.
    pub image_input: u64,
    /// Output tokens, reasoning included, sound and pictures not.
    pub output: u64,
    /// How many of `output` were reasoning.
    pub reasoning: u64,
    /// Output tokens of sound.
    pub audio_output: u64,
    /// Output tokens of pictures, where the provider counts them apart.
    pub image_output: u64,
    /// Pictures made by an operation that makes pictures.
    pub pictures: u64,
    /// Characters read aloud.
    pub characters: u64,
    /// Seconds of sound heard, where the provider tells its time; one that has begun is one.
    pub seconds: u64,
}

/// How often the provider ran its tools for an answer, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostedCalls {
    /// Calls by the usage that the provider reported.
    pub reported: BTreeMap<String, u64>,
    /// Calls in the answer's content; some may have failed, and are not billed.
    pub seen: BTreeMap<String, u64>,
}

impl HostedCalls {
    /// The calls of a tool that are billed: those reported, else those seen.
    pub fn of(&self, kind: &str) -> u64 {
        self.reported.get(kind).or_else(|| self.seen.get(kind)).copied().unwrap_or(0)
    }
}

/// Something that an answer says the provider keeps from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id, as the provider wrote it.
    pub id: String,
    /// The id of what it is a part of.
    pub parent: Option<String>,
    /// How long it is kept, where that is known.
    pub expires_after: Option<TimeDelta>,
    /// What a list shows of it: JSON.
    pub document: Option<String>,
}

/// The most things that one answer is noted to have made. What is beyond belongs to nobody.
const MADE_MAX: usize = 1_000;

impl Reading {
    /// Notes something that the answer says the provider keeps, once.
    pub(super) fn make(&mut self, made: Made) {
        if self.made.len() < MADE_MAX && !self.made.iter().any(|known| known.id == made.id) {
            self.made.push(made);
        }
    }
}

impl Made {
    /// Something that stands by itself and is kept until it is deleted.
    pub fn new(kind: ObjectKind, id: String) -> Self {
        Self { kind, id, parent: None, expires_after: None, document: None }
    }
}

/// What one answer told, read from its JSON or its stream.
#[expect(clippy::struct_excessive_bools, reason = "facts of an answer, each by itself")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The usage that the provider reported; `None` when it reported none that can be believed.
    pub usage: Option<Usage>,
    /// What the provider says the request cost, where it says so: a reseller knows what it took.
    pub reported_cost: Option<NanoUsd>,
    /// The model that the provider says it served.
    pub model: Option<String>,
    /// Why the output ended, in the provider's words; the first candidate's.
    pub finish_reason: Option<String>,
    /// The service tier that the provider says it billed.
    pub service_tier: Option<String>,
    /// The speed that the provider says it billed.
    pub speed: Option<String>,
    /// The region that the provider says it billed.
    pub region: Option<String>,
    /// Calls of hosted tools; `None` where answers of the kind do not tell how many there were.
    pub hosted_calls: Option<HostedCalls>,
    /// What the provider now keeps under an id.
    pub made: Vec<Made>,
    /// The work goes on out of sight: what it used is not known yet.
    pub is_deferred: bool,
    /// The answer says that the work is over, however it ended.
    pub has_ended: bool,
    /// The number of the last event, where events are numbered.
    pub sequence_number: Option<u64>,
    /// Bytes of output that the client could see: texts, tool arguments, refusals.
    pub visible_output_bytes: u64,
    /// The usage was told with the reason why the output of a candidate ended, or after it. Of a single one it is final,
    /// whatever is missing of the rest.
    pub usage_is_final: bool,
    /// The answer is whole without the mark that says so, and more of it may have been made than was told: its usage is the
    /// least that it can be, but where `usage_is_final`.
    pub usage_is_partial: bool,
    /// Output was made that nobody here has read, nobody knows how much.
    pub is_cut_short: bool,
    /// The answer came to its proper end (`[DONE]`, `message_stop`, a whole JSON body).
    pub complete: bool,
    /// The stream carried the provider's own error event.
    pub failed: bool,
}
