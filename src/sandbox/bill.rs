//! What the sandbox charges: a running bill, and a meter for each call.
//!
//! A meter posts exactly once, when it is finished or dropped: a call that is broken off (the client hung up,
//! the stream was cut) is billed for its input and for the text that was produced, or in full if it drains; pictures
//! and sound are begun whole, and billed so. It posts
//! before the answer's last byte is handed over, so whoever has read an answer finds it on the bill.

use super::call::Call;
use super::directive::{Directive, Directives};
use super::prices;
use super::rates::{self, Extras, Served};
use crate::base::NanoUsd;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Names of models and paths are the callers'; beyond this many they share the row `(other)`.
const ROWS_MAX: usize = 256;

/// What one call used, in disjoint classes, as the bill sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Input tokens that were not cached.
    pub(super) input: u64,
    /// Input tokens that were.
    pub(super) cached: u64,
    /// Output tokens that the client sees.
    pub(super) output: u64,
    /// Reasoning tokens that usage reports.
    pub(super) reasoning: u64,
    /// Reasoning tokens that usage does not report.
    pub(super) unreported: u64,
    /// All other classes.
    pub(super) extras: Extras,
    /// In which circumstances.
    pub(super) served: Served,
}

/// Usage as the answer reports it, true or not. Input is whole, output includes reasoning, as `OpenAI` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reported {
    pub(super) input: i64,
    pub(super) cached: i64,
    pub(super) output: i64,
    pub(super) reasoning: i64,
    pub(super) cache_write: i64,
    pub(super) cache_write_1h: i64,
    pub(super) audio_input: i64,
    pub(super) image_input: i64,
    pub(super) audio_output: i64,
    pub(super) image_output: i64,
    pub(super) searches: i64,
    pub(super) served: Served,
    /// What a reseller says it took.
    pub(super) cost: Option<NanoUsd>,
}

impl Usage {
    /// Splits the input and adds what the directives ask for beside it.
    pub(super) fn new(input: u64, output: u64, directives: &Directives) -> Self {
        let number = |directive| directives.number(directive).unwrap_or(0);
        let mut rest = input;
        let mut take = |directive| {
            let part = number(directive).min(rest);
            rest -= part;
            part
        };
        let cached = take(Directive::Cached);
        let extras = Extras {
            cache_write: take(Directive::CacheWrite),
            cache_write_1h: take(Directive::CacheWrite1h),
            audio_input: take(Directive::AudioInput),
            image_input: take(Directive::ImageInput),
            audio_output: number(Directive::AudioOutput),
            image_output: number(Directive::ImageOutput),
            searches: number(Directive::Searches),
            containers: number(Directive::Containers),
            ..Extras::default()
        };
        Self {
            input: rest,
            cached,
            output,
            reasoning: number(Directive::HiddenReasoning),
            unreported: number(Directive::UnreportedReasoning),
            extras,
            served: Served::PLAIN,
        }
    }

    /// The same, served as the call asks.
    pub(super) fn served(self, call: &Call) -> Self {
        Self { served: Served::decide(call), ..self }
    }

    /// What the answer says of it: `None` when it is to say nothing.
    pub(super) fn reported(self, directives: &Directives) -> Option<Reported> {
        if directives.has(Directive::NoUsage) {
            return None;
        }
        let times = directives.number(Directive::UsageTimes).unwrap_or(1);
        let sign = if directives.has(Directive::NegativeUsage) { -1 } else { 1 };
        let shown = |tokens: u64| i64::try_from(tokens.saturating_mul(times)).unwrap_or(i64::MAX) * sign;
        let extras = self.extras;
        Some(Reported {
            input: shown(self.input + self.cached + extras.input()),
            cached: shown(self.cached),
            output: shown(self.output + self.reasoning + extras.output()),
            reasoning: shown(self.reasoning),
            cache_write: shown(extras.cache_write),
            cache_write_1h: shown(extras.cache_write_1h),
            audio_input: shown(extras.audio_input),
            image_input: shown(extras.image_input),
            audio_output: shown(extras.audio_output),
            image_output: shown(extras.image_output),
            searches: shown(extras.searches),
            served: self.served,
            cost: directives
                .number(Directive::Cost)
                .and_then(|nano| i64::try_from(nano).ok())
                .map(NanoUsd::from_nano),
        })
    }

    fn cost(self, model: &str) -> NanoUsd {
        if model == rates::MODEL {
            return rates::cost(&self);
        }
        prices::cost(model, &self)
    }

    fn all_output(self) -> u64 {
        [self.output, self.reasoning, self.unreported, self.extras.output()]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// The sandbox's bill at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Bill {
    /// Requests received on any path but `/sandbox/...`, refused ones too.
    pub requests: u64,
    /// Requests being worked on now.
    pub in_flight: u64,
    /// The most that were ever worked on at once.
    pub in_flight_max: u64,
    /// Requests that wait for `POST /sandbox/release` now.
    pub held: u64,
    /// The sum over all models.
    pub cost_usd: NanoUsd,
    /// By model, without directives.
    pub models: BTreeMap<String, ModelBill>,
    /// Requests by path.
    pub paths: BTreeMap<String, u64>,
}

/// What one model was used for. Token classes are disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModelBill {
    /// Calls that were charged.
    pub requests: u64,
    /// Input tokens that were not cached.
    pub input_tokens: u64,
    /// Cached input tokens.
    pub cached_input_tokens: u64,
    /// Output tokens, reasoning included whether it was reported or not.
    pub output_tokens: u64,
    /// Of the input tokens, those of sound. These and what follows are left out where they are none.
    #[serde(skip_serializing_if = "is_none")]
    pub audio_input_tokens: u64,
    /// Of the input tokens, those of pictures.
    #[serde(skip_serializing_if = "is_none")]
    pub image_input_tokens: u64,
    /// Of the output tokens, those of sound.
    #[serde(skip_serializing_if = "is_none")]
    pub audio_output_tokens: u64,
    /// Of the output tokens, those of pictures.
    #[serde(skip_serializing_if = "is_none")]
    pub image_output_tokens: u64,
    /// Searches of the web.
    #[serde(skip_serializing_if = "is_none")]
    pub searches: u64,
    /// Containers of the code interpreter.
    #[serde(skip_serializing_if = "is_none")]
    pub containers: u64,
    /// Pictures made by a model that is billed by the piece.
    #[serde(skip_serializing_if = "is_none")]
    pub pictures: u64,
    /// Characters read aloud by a model that is billed by the character.
    #[serde(skip_serializing_if = "is_none")]
    pub characters: u64,
    /// Seconds heard by a model that is billed by the second.
    #[serde(skip_serializing_if = "is_none")]
    pub seconds: u64,
    /// Every class rounded up to a nano-USD, call by call.
    pub cost_usd: NanoUsd,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// The running bill, shared by all calls.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger(Arc<Mutex<Bill>>);

impl Ledger {
    fn with<T>(&self, act: impl FnOnce(&mut Bill) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The bill as it stands.
    pub(super) fn bill(&self) -> Bill {
        self.with(|bill| bill.clone())
    }

    /// Forgets all but what is in flight.
    pub(super) fn reset(&self) {
        self.with(|bill| {
            let in_flight = bill.in_flight;
            *bill = Bill { in_flight, in_flight_max: in_flight, ..Bill::default() };
        });
    }

    /// Counts a request that arrived, until the guard is dropped.
    pub(super) fn arrive(&self, path: &str) -> InFlight {
        self.with(|bill| {
            bill.requests += 1;
            bill.in_flight += 1;
            bill.in_flight_max = bill.in_flight_max.max(bill.in_flight);
            *row(&mut bill.paths, path) += 1;
        });
        InFlight(self.clone())
    }
}

fn row<'a, T: Default>(rows: &'a mut BTreeMap<String, T>, name: &str) -> &'a mut T {
    let known = rows.len() < ROWS_MAX || rows.contains_key(name);
    rows.entry(if known { name } else { "(other)" }.to_owned()).or_default()
}

/// One request that is being worked on.
#[derive(Debug)]
pub(super) struct InFlight(Ledger);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.with(|bill| bill.in_flight -= 1);
    }
}

/// Measures one call, and posts it when it ends. Holds the request's place in flight.
#[derive(Debug)]
pub(super) struct Meter {
    flight: InFlight,
    model: String,
    whole: Usage,
    produced: u64,
    drains: bool,
}

impl Meter {
    /// Begins a call that uses `whole` if nothing stops it.
    pub(super) fn begin(flight: InFlight, model: &str, whole: Usage, drains: bool) -> Self {
        Self { flight, model: model.to_owned(), whole, produced: 0, drains }
    }

    /// Counts output that is handed over.
    pub(super) fn produce(&mut self, tokens: u64) {
        self.produced += tokens;
    }

    /// Posts the whole call and gives up its place in flight.
    pub(super) fn finish(mut self) {
        self.produced = self.whole.output;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let output = if self.drains { self.whole.output } else { self.produced.min(self.whole.output) };
        let used = Usage { output, ..self.whole };
        self.flight.0.with(|bill| {
            let cost = used.cost(&self.model);
            let model = row(&mut bill.models, &self.model);
            model.requests += 1;
            model.input_tokens =
                model.input_tokens.saturating_add(used.input).saturating_add(used.extras.input());
            model.cached_input_tokens = model.cached_input_tokens.saturating_add(used.cached);
            model.output_tokens = model.output_tokens.saturating_add(used.all_output());
            let extras = used.extras;
            for (sum, count) in [
                (&mut model.audio_input_tokens, extras.audio_input),
                (&mut model.image_input_tokens, extras.image_input),
                (&mut model.audio_output_tokens, extras.audio_output),
                (&mut model.image_output_tokens, extras.image_output),
                (&mut model.searches, extras.searches),
                (&mut model.containers, extras.containers),
                (&mut model.pictures, extras.pictures),
                (&mut model.characters, extras.characters),
                (&mut model.seconds, extras.seconds),
            ] {
                *sum = sum.saturating_add(count);
            }
            model.cost_usd = model.cost_usd.saturating_add(cost);
            bill.cost_usd = bill.cost_usd.saturating_add(cost);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input: u64, output: u64, directives: &str) -> (Usage, Directives) {
        let mut read = Directives::default();
        read.add(directives).unwrap();
        (Usage::new(input, output, &read), read)
    }

    #[test]
    fn a_call_costs_its_classes_at_their_prices() {
        let (used, _) = usage(1_000_000, 1_000_000, "cached=400000");
        assert_eq!(used.cost("sandbox-mini").to_string(), "0.72");
        assert_eq!(used.cost("sandbox-of-a-test").to_string(), "0.72");
        assert_eq!(used.cost("sandbox-large").to_string(), "12.00");
        assert_eq!(used.cost("sandbox-embedding").to_string(), "0.02");
        let (used, _) = usage(
            100,
            10,
            "cached=10,cache_write=20,cache_write_1h=30,audio_input=5,image_input=4,searches=2,hidden_reasoning=3,audio_output=6,image_output=7",
        );
        let inputs = 31_000 + 1_000 + 25_000 + 60_000 + 15_000 + 6_000;
        let outputs = 50_000 + 21_000 + 72_000 + 56_000;
        assert_eq!(used.cost("sandbox-rates").as_nano(), inputs + outputs + 100_000 + 20_000_000);
        let extras = Extras { containers: 3, pictures: 2, characters: 5, seconds: 7, ..Extras::default() };
        let pieces = Usage { extras, ..usage(0, 0, "").0 };
        assert_eq!(pieces.cost("sandbox-rates").as_nano(), 100_000 + 90_000_000);
        assert_eq!(pieces.cost("sandbox-image-each").to_string(), "0.08");
        assert_eq!(pieces.cost("sandbox-tts").to_string(), "0.000075");
        assert_eq!(pieces.cost("sandbox-whisper").to_string(), "0.0007");
        let (used, _) = usage(100, 10, "image_input=40,image_output=7");
        assert_eq!(used.cost("sandbox-image").as_nano(), 300_000 + 400_000 + 100_000 + 280_000);
        let (used, _) = usage(100, 10, "audio_input=40,audio_output=7");
        assert_eq!(used.cost("sandbox-transcribe").as_nano(), 150_000 + 240_000 + 100_000 + 70_000);
        assert_eq!(used.cost("sandbox-moderation").as_nano(), 0);
    }

    #[test]
    fn what_is_reported_may_lie_and_the_bill_does_not() {
        let (used, directives) = usage(10, 4, "usage_times=3,hidden_reasoning=5,unreported_reasoning=7");
        let reported = used.reported(&directives).unwrap();
        assert_eq!((reported.input, reported.output, reported.reasoning), (30, 27, 15));
        let ledger = Ledger::default();
        Meter::begin(ledger.arrive("/"), "sandbox-mini", used, false).finish();
        assert_eq!(ledger.bill().models["sandbox-mini"].output_tokens, 4 + 5 + 7);
        assert_eq!(usage(10, 4, "no_usage").0.reported(&usage(1, 1, "no_usage").1), None);
        let (used, directives) = usage(10, 4, "negative_usage");
        assert_eq!(used.reported(&directives).unwrap().input, -10);
    }

    #[test]
    fn a_call_that_is_broken_off_is_billed_for_what_was_produced_or_drains() {
        for (drains, output) in [(false, 3), (true, 16)] {
            let ledger = Ledger::default();
            let mut meter = Meter::begin(ledger.arrive("/"), "sandbox-mini", usage(10, 16, "").0, drains);
            meter.produce(3);
            drop(meter);
            let bill = ledger.bill();
            assert_eq!((bill.models["sandbox-mini"].output_tokens, bill.in_flight), (output, 0));
        }
    }

    #[test]
    fn rows_are_bounded_and_reset_keeps_what_is_in_flight() {
        let ledger = Ledger::default();
        let kept = ledger.arrive("/kept");
        (0..1000).for_each(|n| drop(ledger.arrive(&format!("/{n}"))));
        assert_eq!(ledger.bill().paths.len(), ROWS_MAX + 1);
        assert_eq!(ledger.bill().in_flight_max, 2);
        ledger.reset();
        assert_eq!(ledger.bill(), Bill { in_flight: 1, in_flight_max: 1, ..Bill::default() });
        drop(kept);
        assert_eq!(ledger.bill().in_flight, 0);
    }
}
