//! `sandbox-rates`: the model that bills every class of tokens apart, hosted tools by the call, and by the service
//! tier, speed and region in which it served. For all others see [`super::prices`].

use super::bill::Usage;
use super::call::Call;
use super::directive::Directive;
use super::models::Model;
use super::refusal::Dialect;
use crate::base::NanoUsd;
use serde_json::{Value, json};

/// The model's name.
pub(super) const MODEL: &str = "sandbox-rates";

/// In thousandths of a USD for a million tokens.
const INPUT: i64 = 1_000;
const CACHED: i64 = 100;
const CACHE_WRITE: i64 = 1_250;
const CACHE_WRITE_1H: i64 = 2_000;
const AUDIO_INPUT: i64 = 3_000;
const IMAGE_INPUT: i64 = 1_500;
const OUTPUT: i64 = 5_000;
const REASONING: i64 = 7_000;
const AUDIO_OUTPUT: i64 = 12_000;
const IMAGE_OUTPUT: i64 = 8_000;
/// For each request, each search and each container of the code interpreter, in nano-USD.
const REQUEST: NanoUsd = NanoUsd::from_nano(100_000);
const SEARCH: NanoUsd = NanoUsd::from_nano(10_000_000);
const CONTAINER: NanoUsd = NanoUsd::from_nano(30_000_000);

/// What a call used beside plain and cached input, visible output and reasoning. Classes are disjoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extras {
    pub(super) cache_write: u64,
    pub(super) cache_write_1h: u64,
    pub(super) audio_input: u64,
    pub(super) image_input: u64,
    pub(super) audio_output: u64,
    pub(super) image_output: u64,
    pub(super) searches: u64,
    pub(super) containers: u64,
    /// Pictures made, where they are billed by the piece.
    pub(super) pictures: u64,
    /// Characters read aloud, where they are billed so.
    pub(super) characters: u64,
    /// Seconds of sound heard, where they are billed so.
    pub(super) seconds: u64,
}

impl Extras {
    /// Input tokens.
    pub(super) fn input(self) -> u64 {
        [self.cache_write, self.cache_write_1h, self.audio_input, self.image_input]
            .into_iter()
            .fold(0, u64::saturating_add)
    }

    /// Output tokens.
    pub(super) fn output(self) -> u64 {
        self.audio_output.saturating_add(self.image_output)
    }
}

/// The circumstances in which a call was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    tier: Tier,
    fast: bool,
    us: bool,
    told: Told,
}

/// What an answer says of its tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Its name.
    Truly,
    /// A name that nobody knows.
    Unknown,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Default,
    Flex,
    Priority,
}

impl Served {
    /// As everybody is served who asks for nothing.
    pub(super) const PLAIN: Self = Self { tier: Tier::Default, fast: false, us: false, told: Told::Truly };

    /// As the request asks, unless a directive has it otherwise. Other models know one way of serving.
    pub(super) fn decide(call: &Call) -> Self {
        if call.model.as_ref().map(Model::base) != Some(MODEL) {
            return Self::PLAIN;
        }
        let asks = |field: &str, value: &str| call.body.get(field).and_then(Value::as_str) == Some(value);
        let told = |directive| call.directives.has(directive);
        let tier = match () {
            () if told(Directive::ServePriority) => Tier::Priority,
            () if told(Directive::ServeFlex) => Tier::Flex,
            () if told(Directive::ServeDefault) => Tier::Default,
            () if asks("service_tier", "priority") => Tier::Priority,
            () if asks("service_tier", "flex") => Tier::Flex,
            () => Tier::Default,
        };
        Self {
            tier,
            fast: asks("speed", "fast") && !told(Directive::ServeDefault),
            us: asks("inference_geo", "us") || told(Directive::ServeUs),
            told: match () {
                () if told(Directive::UnreportedTier) => Told::Nothing,
                () if told(Directive::UnknownTier) => Told::Unknown,
                () => Told::Truly,
            },
        }
    }

    /// The tier's name in an answer; null where it is not told.
    pub(super) fn tier(self, dialect: Dialect) -> Value {
        let plain = if dialect == Dialect::Anthropic { "standard" } else { "default" };
        match (self.told, self.tier) {
            (Told::Nothing, _) => Value::Null,
            (Told::Unknown, _) => "turbo".into(),
            (Told::Truly, Tier::Default) => plain.into(),
            (Told::Truly, Tier::Flex) => "flex".into(),
            (Told::Truly, Tier::Priority) => "priority".into(),
        }
    }

    /// What Anthropic's usage says of speed and region; nothing where all is plain.
    pub(super) fn note(self, usage: &mut Value) {
        if self.fast || self.us {
            usage["speed"] = json!(if self.fast { "fast" } else { "standard" });
            usage["inference_geo"] = json!(if self.us { "us" } else { "global" });
        }
    }

    /// The price of a million tokens.
    fn price(self, thousandths: i64) -> NanoUsd {
        let (times, over) = match self.tier {
            Tier::Default => (1, 1),
            Tier::Flex => (1, 2),
            Tier::Priority => (2, 1),
        };
        let fast = if self.fast { 3 } else { 1 };
        let (us, of) = if self.us { (11, 10) } else { (1, 1) };
        NanoUsd::from_nano(thousandths * 1_000_000 * times * fast * us / (over * of))
    }
}

/// What a call of the model costs.
pub(super) fn cost(usage: &Usage) -> NanoUsd {
    let Extras {
        cache_write,
        cache_write_1h,
        audio_input,
        image_input,
        audio_output,
        image_output,
        searches,
        containers,
        ..
    } = usage.extras;
    [
        (usage.input, INPUT),
        (usage.cached, CACHED),
        (cache_write, CACHE_WRITE),
        (cache_write_1h, CACHE_WRITE_1H),
        (audio_input, AUDIO_INPUT),
        (image_input, IMAGE_INPUT),
        (usage.output, OUTPUT),
        (usage.reasoning.saturating_add(usage.unreported), REASONING),
        (audio_output, AUDIO_OUTPUT),
        (image_output, IMAGE_OUTPUT),
    ]
    .into_iter()
    .map(|(tokens, price)| usage.served.price(price).per_million(tokens))
    .fold(
        REQUEST.saturating_add(SEARCH.times(searches)).saturating_add(CONTAINER.times(containers)),
        NanoUsd::saturating_add,
    )
}
