//! Misbehaviour on demand: what a test asks the sandbox to do wrong.
//!
//! Written `name`, or `name=NUMBER`, separated by commas: in the `x-sandbox` request header, or after a `+`
//! in the model's name (`sandbox-mini+delay=300,cut=3`), which also passes through a proxy. Nothing unknown
//! is ignored: a misspelt directive would make a test pass for the wrong reason.

use std::time::Duration;

/// One way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    /// Answers this status with the dialect's own error body.
    Status,
    /// Milliseconds before the first byte.
    Delay,
    /// Milliseconds between the events of a stream.
    Gap,
    /// Events after which the connection is aborted; a JSON answer is aborted in its middle.
    Cut,
    /// Output tokens of a plain answer.
    Tokens,
    /// Input tokens that count as cached.
    Cached,
    /// Input tokens that count as written to a cache.
    CacheWrite,
    /// Input tokens that count as written to a cache for an hour.
    CacheWrite1h,
    /// Input tokens that count as sound.
    AudioInput,
    /// Input tokens that count as pictures.
    ImageInput,
    /// Output tokens of sound, on top.
    AudioOutput,
    /// Output tokens of pictures, on top.
    ImageOutput,
    /// Calls of the web search.
    Searches,
    /// Calls of the code interpreter, each in a container of its own.
    Containers,
    /// Answers as another model.
    ServeOther,
    /// Declines to answer, politely.
    Refusal,
    /// Fails when everything is said: a response's status is `failed`.
    Fail,
    /// Times that a background response is read before it is complete.
    Polls,
    /// `sandbox-rates` serves, bills and reports this tier whatever was asked for.
    ServePriority,
    /// The same.
    ServeFlex,
    /// The same; also the standard speed.
    ServeDefault,
    /// `sandbox-rates` runs in the USA, bills and reports it.
    ServeUs,
    /// `sandbox-rates` reports a service tier that nobody knows.
    UnknownTier,
    /// `sandbox-rates` does not report its service tier.
    UnreportedTier,
    /// Reasoning tokens that are billed and reported.
    HiddenReasoning,
    /// Reasoning tokens that are billed and not reported.
    UnreportedReasoning,
    /// Reports usage this many times what it is; bills what it is.
    UsageTimes,
    /// Bytes of text that the first piece of the answer has.
    HugeEvent,
    /// Reports a cost beside the usage, as a reseller does: so many nano-USD. Bills what it bills.
    Cost,
    /// Reports usage below zero.
    NegativeUsage,
    /// An error of a `status` bills and reports usage, in `OpenAI`'s words.
    ErrorUsage,
    /// Reports no usage.
    NoUsage,
    /// Answers malformed JSON, or a stream whose third event is malformed.
    Malformed,
    /// Shows the received key in `x-echo` and in the answer.
    EchoKey,
    /// The same, over two events of a stream.
    EchoKeySplit,
    /// Goes on and bills in full after the client is gone.
    Drain,
    /// 302 with a `location`.
    Redirect,
    /// Closes the connection without an answer.
    Close,
    /// Refuses the key.
    BadKey,
    /// Answers after `POST /sandbox/release`, or after a minute.
    Hold,
}

/// The number a directive takes: its least and greatest value. `None`: it takes none.
type Takes = Option<(u64, u64)>;

const KNOWN: &[(&str, Directive, Takes)] = &[
    ("status", Directive::Status, Some((300, 599))),
    ("delay", Directive::Delay, Some((0, 600_000))),
    ("gap", Directive::Gap, Some((0, 60_000))),
    ("cut", Directive::Cut, Some((0, 1_000_000))),
    ("tokens", Directive::Tokens, Some((1, 1_000_000))),
    ("cached", Directive::Cached, Some((0, 1_000_000_000))),
    ("cache_write", Directive::CacheWrite, Some((0, 1_000_000_000))),
    ("cache_write_1h", Directive::CacheWrite1h, Some((0, 1_000_000_000))),
    ("audio_input", Directive::AudioInput, Some((0, 1_000_000_000))),
    ("image_input", Directive::ImageInput, Some((0, 1_000_000_000))),
    ("audio_output", Directive::AudioOutput, Some((0, 1_000_000_000))),
    ("image_output", Directive::ImageOutput, Some((0, 1_000_000_000))),
    ("searches", Directive::Searches, Some((0, 1_000))),
    ("containers", Directive::Containers, Some((0, 100))),
    ("refusal", Directive::Refusal, None),
    ("fail", Directive::Fail, None),
    ("polls", Directive::Polls, Some((0, 1_000))),
    ("serve_priority", Directive::ServePriority, None),
    ("serve_flex", Directive::ServeFlex, None),
    ("serve_default", Directive::ServeDefault, None),
    ("serve_us", Directive::ServeUs, None),
    ("serve_other", Directive::ServeOther, None),
    ("unknown_tier", Directive::UnknownTier, None),
    ("unreported_tier", Directive::UnreportedTier, None),
    ("hidden_reasoning", Directive::HiddenReasoning, Some((0, 1_000_000_000))),
    ("unreported_reasoning", Directive::UnreportedReasoning, Some((0, 1_000_000_000))),
    ("usage_times", Directive::UsageTimes, Some((0, 1_000_000))),
    ("cost", Directive::Cost, Some((0, 1_000_000_000_000))),
    ("huge_event", Directive::HugeEvent, Some((1, 67_108_864))),
    ("negative_usage", Directive::NegativeUsage, None),
    ("error_usage", Directive::ErrorUsage, None),
    ("no_usage", Directive::NoUsage, None),
    ("malformed", Directive::Malformed, None),
    ("echo_key", Directive::EchoKey, None),
    ("echo_key_split", Directive::EchoKeySplit, None),
    ("drain", Directive::Drain, None),
    ("redirect", Directive::Redirect, None),
    ("close", Directive::Close, None),
    ("bad_key", Directive::BadKey, None),
    ("hold", Directive::Hold, None),
];

/// Why a text is not a list of directives.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DirectiveError {
    #[error("the sandbox knows no directive {given:?}; there are: {}", names())]
    Unknown { given: String },
    #[error("the sandbox directive {name} takes a whole number from {least} to {greatest}: {name}=NUMBER")]
    Number { name: &'static str, least: u64, greatest: u64 },
    #[error("the sandbox directive {name} takes no number")]
    NoNumber { name: &'static str },
}

fn names() -> String {
    KNOWN.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

/// The directives of one request. Of two with the same name the later counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives(Vec<(Directive, u64)>);

impl Directives {
    /// Reads `status=500,delay=20,drain` and adds it to what is there. Spaces around commas are allowed.
    pub(super) fn add(&mut self, text: &str) -> Result<(), DirectiveError> {
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (given, value) =
                item.split_once('=').map_or((item, None), |(name, value)| (name, Some(value)));
            let Some((name, directive, takes)) = KNOWN.iter().find(|(name, ..)| *name == given) else {
                return Err(DirectiveError::Unknown { given: crate::base::clip(given, 64) });
            };
            let number = match (takes, value) {
                (None, None) => 0,
                (None, Some(_)) => return Err(DirectiveError::NoNumber { name }),
                (Some((least, greatest)), value) => value
                    .and_then(|digits| digits.parse().ok())
                    .filter(|number| (least..=greatest).contains(&number))
                    .ok_or(DirectiveError::Number { name, least: *least, greatest: *greatest })?,
            };
            self.0.push((*directive, number));
        }
        Ok(())
    }

    /// Whether the directive was given.
    pub(super) fn has(&self, directive: Directive) -> bool {
        self.number(directive).is_some()
    }

    /// The directive's number, 0 for one that takes none; `None` when it was not given.
    pub(super) fn number(&self, directive: Directive) -> Option<u64> {
        self.0.iter().rev().find(|(given, _)| *given == directive).map(|(_, number)| *number)
    }

    /// The directive's number of milliseconds.
    pub(super) fn millis(&self, directive: Directive) -> Option<Duration> {
        self.number(directive).map(Duration::from_millis)
    }

    /// Whether the received key is to be shown, whole or in two parts.
    pub(super) fn echoes(&self) -> bool {
        self.has(Directive::EchoKey) || self.has(Directive::EchoKeySplit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_add_up_and_the_later_counts() {
        let mut directives = Directives::default();
        directives.add("status=500, drain").unwrap();
        directives.add("status=429").unwrap();
        assert_eq!(directives.number(Directive::Status), Some(429));
        assert!(directives.has(Directive::Drain) && !directives.has(Directive::Hold));
    }

    #[test]
    fn nothing_unknown_is_ignored() {
        let error = |text: &str| Directives::default().add(text).unwrap_err().to_string();
        assert!(
            error("statsu=500").contains("\"statsu\"; there are: status, delay"),
            "{}",
            error("statsu=500")
        );
        for bad in ["status", "status=", "status=20", "status=+500x", "cut=-1", "tokens=0"] {
            assert!(error(bad).contains("takes a whole number"), "{bad}");
        }
        assert!(error("drain=1").contains("takes no number"));
    }

    #[test]
    fn every_name_is_read_as_its_directive() {
        for (name, directive, takes) in KNOWN {
            let text = takes.map_or_else(|| (*name).to_owned(), |(least, _)| format!("{name}={least}"));
            let mut directives = Directives::default();
            directives.add(&text).unwrap();
            assert!(directives.has(*directive), "{name}");
        }
    }
}
