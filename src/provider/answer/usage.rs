//! Usage as providers report it, into disjoint classes; or nothing, when it cannot be true.

use crate::{
    base::{
        Decimal, NanoUsd, clip,
        json::{Kind, Value},
    },
    provider::{Reading, Usage},
};

/// No single call costs more.
const COST_MAX: NanoUsd = NanoUsd::from_nano(10_000_000_000_000);

/// No single call uses more tokens of a class.
pub(super) const TOKENS_MAX: u64 = u32::MAX as u64;

/// An answer tells of no more kinds of tools.
const KINDS_MAX: usize = 32;

/// A usage object of the `OpenAI` dialect: `prompt_tokens` includes cached, sound and pictures, `completion_tokens`
/// includes reasoning, sound and pictures. `None` for what cannot be believed.
///
/// Some providers leave reasoning out of `completion_tokens` and have it in `total_tokens` only; what the
/// total has beyond both is output.
pub(super) fn openai(usage: Value<'_>) -> Option<Usage> {
    if usage.kind() != Kind::Object {
        return None;
    }
    let prompt = tokens(usage, "prompt_tokens")?.filled()?;
    let total = tokens(usage, "total_tokens")?;
    let completion = tokens(usage, "completion_tokens")?;
    if completion.0.is_none() && total.0.is_none() {
        return None;
    }
    let (prompt_details, completion_details) =
        (details(usage, "prompt_tokens_details")?, details(usage, "completion_tokens_details")?);
    let of = |object: Option<Value<'_>>, field| {
        object.map_or(Some(0), |object| Some(tokens(object, field)?.or_zero()))
    };

    let cached =
        of(prompt_details, "cached_tokens")?.max(tokens(usage, "prompt_cache_hit_tokens")?.or_zero());
    let cache_write = of(prompt_details, "cache_write_tokens")?;
    let sound_in = of(prompt_details, "audio_tokens")?;
    let pictures_in = of(prompt_details, "image_tokens")?;
    if [cached, cache_write, sound_in, pictures_in].into_iter().any(|part| part > prompt) {
        return None;
    }
    // Classes may overlap (cached sound): each takes what the earlier ones left.
    let rest = prompt - cached;
    let cache_write = cache_write.min(rest);
    let rest = rest - cache_write;
    let audio_input = sound_in.min(rest);
    let rest = rest - audio_input;
    let image_input = pictures_in.min(rest);

    let output_all = completion.or_zero().max(total.or_zero().saturating_sub(prompt));
    let hidden = output_all - completion.or_zero();
    let reasoning = of(completion_details, "reasoning_tokens")?.max(hidden);
    let audio_output = of(completion_details, "audio_tokens")?;
    let image_output = of(completion_details, "image_tokens")?;
    let output = output_all.checked_sub(audio_output)?.checked_sub(image_output)?;
    (reasoning <= output).then_some(Usage {
        input: rest - image_input,
        cached_input: cached,
        cache_write,
        cache_write_1h: 0,
        audio_input,
        image_input,
        output,
        reasoning,
        audio_output,
        image_output,
        ..Usage::default()
    })
}

/// Notes how many calls of hosted tools a usage object reports: `server_tool_use.web_search_requests` and others alike.
/// Counts only grow in a stream, so the larger one holds.
pub(super) fn note_hosted_calls(usage: Value<'_>, reading: &mut Reading) {
    let Some(told) = usage.get("server_tool_use").filter(|told| told.kind() == Kind::Object) else { return };
    let calls = &mut reading.hosted_calls.get_or_insert_default().reported;
    for member in told.members() {
        let name = member.name();
        let Some(kind) = name.strip_suffix("_requests") else { continue };
        let Some(count) = member.value.as_u64().filter(|count| *count <= TOKENS_MAX) else { continue };
        if calls.len() < KINDS_MAX || calls.contains_key(kind) {
            let so_far = calls.entry(clip(kind, 64)).or_default();
            *so_far = count.max(*so_far);
        }
    }
}

/// Notes a call of a hosted tool in the answer's content.
pub(super) fn note_seen_call(kind: String, reading: &mut Reading) {
    let calls = &mut reading.hosted_calls.get_or_insert_default().seen;
    if calls.len() < KINDS_MAX || calls.contains_key(&kind) {
        *calls.entry(kind).or_default() += 1;
    }
}

/// What a reseller says that the call cost, as OpenRouter has it: `cost` in USD. With the customer's own key at the
/// provider behind it that is the reseller's fee alone, and what that provider takes comes on top. Read from the number's
/// text and rounded up. `None` for what is not told or cannot be believed.
pub(super) fn cost(usage: Value<'_>) -> Option<NanoUsd> {
    let usd = |object: Value<'_>, field| {
        let number = object.get(field).filter(|value| value.kind() == Kind::Number)?;
        let nano = Decimal::parse(number.raw())?.shifted_up(9)?;
        Some(NanoUsd::from_nano(nano)).filter(|cost| *cost <= COST_MAX)
    };
    let cost = usd(usage, "cost")?;
    if usage.get("is_byok").and_then(Value::as_bool) != Some(true) {
        return Some(cost);
    }
    let behind = usage.get("cost_details").and_then(|details| usd(details, "upstream_inference_cost"));
    Some(cost.saturating_add(behind?))
}

/// A usage object of the Anthropic dialect, laid over what came earlier in the stream: every count is
/// cumulative, so the larger one holds. `None` for what cannot be believed.
pub(super) fn anthropic(usage: Value<'_>, earlier: Usage) -> Option<Usage> {
    if usage.kind() != Kind::Object {
        return None;
    }
    let input = tokens(usage, "input_tokens")?;
    let output = tokens(usage, "output_tokens")?;
    if input.0.is_none() && output.0.is_none() {
        return None;
    }
    let written = tokens(usage, "cache_creation_input_tokens")?.or_zero();
    let split = details(usage, "cache_creation")?;
    let of = |field| split.map_or(Some(0), |split| Some(tokens(split, field)?.or_zero()));
    let for_an_hour = of("ephemeral_1h_input_tokens")?;
    let for_minutes = of("ephemeral_5m_input_tokens")?.max(written.saturating_sub(for_an_hour));
    Some(Usage {
        input: input.or_zero().max(earlier.input),
        cached_input: tokens(usage, "cache_read_input_tokens")?.or_zero().max(earlier.cached_input),
        // A later total without the split says nothing new about what is known to be for an hour.
        cache_write: if split.is_some() || earlier.cache_write_1h == 0 {
            for_minutes.max(earlier.cache_write)
        } else {
            written.saturating_sub(earlier.cache_write_1h).max(earlier.cache_write)
        },
        cache_write_1h: for_an_hour.max(earlier.cache_write_1h),
        output: output.or_zero().max(earlier.output),
        ..Usage::default()
    })
}

/// A usage object of the responses API: the input includes what was cached and written, the output what was thought.
/// `None` for what cannot be believed.
pub(super) fn responses(usage: Value<'_>) -> Option<Usage> {
    if usage.kind() != Kind::Object {
        return None;
    }
    let all = tokens(usage, "input_tokens")?.filled()?;
    let output = tokens(usage, "output_tokens")?.filled()?;
    let details = details(usage, "input_tokens_details")?;
    let of = |object: Option<Value<'_>>, field| {
        object.map_or(Some(0), |object| Some(tokens(object, field)?.or_zero()))
    };
    let cached = of(details, "cached_tokens")?;
    let written = of(details, "cache_write_tokens")?;
    let split = match details {
        Some(details) => self::details(details, "cache_write_tokens_details")?,
        None => None,
    };
    let for_long = of(split, "ttl_12h_tokens")?;
    let sound = of(details, "audio_tokens")?;
    let pictures = of(details, "image_tokens")?;
    let rest = all.checked_sub(cached)?;
    let written = written.max(for_long);
    let rest = rest.checked_sub(written)?;
    let (sound, pictures) = (sound.min(rest), pictures.min(rest - sound.min(rest)));
    let output_details = self::details(usage, "output_tokens_details")?;
    let reasoning = of(output_details, "reasoning_tokens")?;
    (reasoning <= output).then_some(Usage {
        input: rest - sound - pictures,
        cached_input: cached,
        cache_write: written - for_long,
        cache_write_1h: for_long,
        audio_input: sound,
        image_input: pictures,
        output,
        reasoning,
        ..Usage::default()
    })
}

/// Google's usage of a generation: the prompt includes what is cached, thoughts and what tools brought are told beside
/// it. `None` for what cannot be believed.
pub(super) fn gemini(usage: Value<'_>) -> Option<Usage> {
    if usage.kind() != Kind::Object {
        return None;
    }
    let prompt = tokens(usage, "promptTokenCount")?;
    let candidates = tokens(usage, "candidatesTokenCount")?;
    let total = tokens(usage, "totalTokenCount")?;
    if prompt.0.is_none() || candidates.0.is_none() && total.0.is_none() {
        return None;
    }
    let prompt = prompt.or_zero();
    let tools = tokens(usage, "toolUsePromptTokenCount")?.or_zero();
    let cached = tokens(usage, "cachedContentTokenCount")?.or_zero();
    let thoughts = tokens(usage, "thoughtsTokenCount")?.or_zero();
    let sound_cached = of_modality(usage, "cacheTokensDetails", "AUDIO")?;
    let pictures_cached = of_modality(usage, "cacheTokensDetails", "IMAGE")?;
    let rest = prompt.checked_sub(cached)?;
    let audio_input =
        of_modality(usage, "promptTokensDetails", "AUDIO")?.saturating_sub(sound_cached).min(rest);
    let rest = rest - audio_input;
    let image_input =
        of_modality(usage, "promptTokensDetails", "IMAGE")?.saturating_sub(pictures_cached).min(rest);

    let told = candidates.or_zero().checked_add(thoughts)?;
    let output_all = told.max(total.or_zero().saturating_sub(prompt.saturating_add(tools)));
    let audio_output = of_modality(usage, "candidatesTokensDetails", "AUDIO")?;
    let image_output = of_modality(usage, "candidatesTokensDetails", "IMAGE")?;
    let output = output_all.checked_sub(audio_output)?.checked_sub(image_output)?;
    (thoughts <= output).then_some(Usage {
        input: rest - image_input + tools,
        cached_input: cached,
        audio_input,
        image_input,
        output,
        reasoning: thoughts,
        audio_output,
        image_output,
        ..Usage::default()
    })
}

/// Google's usage of embeddings, which is input alone.
pub(super) fn gemini_input(usage: Value<'_>) -> Option<Usage> {
    let input = tokens(usage, "promptTokenCount")?.filled()?;
    Some(Usage { input, ..Usage::default() })
}

/// The tokens of one modality in a list of details; absent is none.
fn of_modality(usage: Value<'_>, field: &str, modality: &str) -> Option<u64> {
    let details = usage.get(field).into_iter().flat_map(Value::items);
    let of = details.filter(|one| one.get("modality").is_some_and(|told| told.is_str(modality)));
    of.map(|one| Some(tokens(one, "tokenCount")?.or_zero()))
        .try_fold(0, |sum: u64, one| sum.checked_add(one?))
}

/// A count that may be absent.
#[derive(Clone, Copy)]
pub(super) struct Count(Option<u64>);

impl Count {
    pub(super) fn or_zero(self) -> u64 {
        self.0.unwrap_or(0)
    }

    pub(super) fn filled(self) -> Option<u64> {
        self.0
    }
}

/// A member that counts tokens; absent and null are no count. `None` for a number that cannot be one.
pub(super) fn tokens(object: Value<'_>, field: &str) -> Option<Count> {
    match object.get(field) {
        None => Some(Count(None)),
        Some(value) if value.is_null() => Some(Count(None)),
        Some(value) => {
            value.as_u64().filter(|tokens| *tokens <= TOKENS_MAX).map(|tokens| Count(Some(tokens)))
        }
    }
}

/// A member that holds details; absent and null are none. `None` for what is not an object.
#[expect(clippy::option_option, reason = "not believed, absent, there")]
pub(super) fn details<'d>(usage: Value<'d>, field: &str) -> Option<Option<Value<'d>>> {
    match usage.get(field) {
        None => Some(None),
        Some(value) if value.is_null() => Some(None),
        Some(value) => (value.kind() == Kind::Object).then_some(Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::json::{Document, Limits};
    use proptest::prelude::*;

    fn read(text: &str) -> Option<Usage> {
        openai(Document::parse(text.as_bytes(), Limits::REQUEST).unwrap().root())
    }

    fn read_anthropic(texts: &[&str]) -> Option<Usage> {
        texts.iter().try_fold(Usage::default(), |earlier, text| {
            anthropic(Document::parse(text.as_bytes(), Limits::REQUEST).unwrap().root(), earlier)
        })
    }

    #[test]
    fn a_resellers_cost_is_read_to_the_nano_and_rounded_up() {
        let cost = |text: &str| {
            super::cost(Document::parse(text.as_bytes(), Limits::REQUEST).unwrap().root())
                .map(NanoUsd::as_nano)
        };
        for (text, nano) in [
            (r#"{"cost":0.0000067}"#, Some(6_700)),
            (
                r#"{"cost":6.7e-06,"is_byok":false,"cost_details":{"upstream_inference_cost":0.0000067}}"#,
                Some(6_700),
            ),
            (r#"{"cost":0.00000670000000001}"#, Some(6_701)),
            (r#"{"cost":0}"#, Some(0)),
            (
                r#"{"cost":0.05,"is_byok":true,"cost_details":{"upstream_inference_cost":1}}"#,
                Some(1_050_000_000),
            ),
            (r#"{"cost":0.05,"is_byok":true,"cost_details":{"upstream_inference_cost":null}}"#, None),
            (r#"{"cost":10000.000000001}"#, None),
            (r#"{"cost":-1}"#, None),
            (r#"{"cost":"0.1"}"#, None),
            (r#"{"cost":{"total_cost":0.1}}"#, None),
            (r#"{"cost":null}"#, None),
            ("{}", None),
        ] {
            assert_eq!(cost(text), nano, "{text}");
        }
    }

    #[test]
    fn openai_totals_are_split_into_disjoint_classes() {
        let usage = read(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":30,"audio_tokens":20},
                "completion_tokens_details":{"reasoning_tokens":15,"audio_tokens":5,"rejected_prediction_tokens":0}}"#,
        );
        let wanted = Usage {
            input: 50,
            cached_input: 30,
            audio_input: 20,
            output: 45,
            reasoning: 15,
            audio_output: 5,
            ..Usage::default()
        };
        assert_eq!(usage, Some(wanted));
        let pictures = r#"{"prompt_tokens":100,"completion_tokens":50,"prompt_tokens_details":{"cached_tokens":30,"image_tokens":60},
            "completion_tokens_details":{"image_tokens":40}}"#;
        let wanted = Usage {
            input: 10,
            cached_input: 30,
            image_input: 60,
            output: 10,
            image_output: 40,
            ..Usage::default()
        };
        assert_eq!(read(pictures), Some(wanted));
        let deepseek = r#"{"prompt_tokens":9,"completion_tokens":1,"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":5}"#;
        let wanted = Usage { input: 5, cached_input: 4, output: 1, ..Usage::default() };
        assert_eq!(read(deepseek), Some(wanted));
        let overlap = r#"{"prompt_tokens":10,"completion_tokens":0,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":6}}"#;
        let wanted = Usage { cached_input: 8, audio_input: 2, ..Usage::default() };
        assert_eq!(read(overlap), Some(wanted));
    }

    #[test]
    fn reasoning_that_only_the_total_has_is_output() {
        let usage = read(
            r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":115,"completion_tokens_details":{"reasoning_tokens":100}}"#,
        );
        assert_eq!(usage, Some(Usage { input: 10, output: 105, reasoning: 100, ..Usage::default() }));
    }

    #[test]
    fn what_cannot_be_true_is_not_believed() {
        for usage in [
            "{}",
            "[]",
            r#"{"prompt_tokens":5}"#,
            r#"{"completion_tokens":5}"#,
            r#"{"prompt_tokens":-1,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1,"completion_tokens":-1}"#,
            r#"{"prompt_tokens":1.5,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1e3,"completion_tokens":1}"#,
            r#"{"prompt_tokens":"1","completion_tokens":1}"#,
            r#"{"prompt_tokens":99999999999999999999,"completion_tokens":1}"#,
            r#"{"prompt_tokens":1,"completion_tokens":18446744073709551615}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":6}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_cache_hit_tokens":6}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"audio_tokens":6}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":[]}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
            r#"{"prompt_tokens":5,"completion_tokens":1,"completion_tokens_details":{"audio_tokens":2}}"#,
        ] {
            assert_eq!(read(usage), None, "{usage}");
        }
        for usage in [
            "{}",
            "7",
            r#"{"input_tokens":-1}"#,
            r#"{"output_tokens":1.5}"#,
            r#"{"input_tokens":1,"cache_creation":1}"#,
        ] {
            assert_eq!(read_anthropic(&[usage]), None, "{usage}");
        }
    }

    #[test]
    fn anthropic_counts_are_disjoint_and_grow() {
        let start = r#"{"input_tokens":10,"output_tokens":1,"cache_read_input_tokens":7,"cache_creation_input_tokens":9,
            "cache_creation":{"ephemeral_5m_input_tokens":4,"ephemeral_1h_input_tokens":5}}"#;
        let wanted = Usage {
            input: 10,
            cached_input: 7,
            cache_write: 4,
            cache_write_1h: 5,
            output: 1,
            ..Usage::default()
        };
        assert_eq!(read_anthropic(&[start]), Some(wanted));
        let end = r#"{"output_tokens":25}"#;
        assert_eq!(read_anthropic(&[start, end]), Some(Usage { output: 25, ..wanted }));
        let all_again = r#"{"input_tokens":12,"output_tokens":25,"cache_creation_input_tokens":9,"cache_read_input_tokens":7}"#;
        assert_eq!(read_anthropic(&[start, all_again]), Some(Usage { input: 12, output: 25, ..wanted }));
        let unsplit = r#"{"input_tokens":1,"output_tokens":1,"cache_creation_input_tokens":9}"#;
        let wanted = Usage { input: 1, cache_write: 9, output: 1, ..Usage::default() };
        assert_eq!(read_anthropic(&[unsplit]), Some(wanted));
    }

    proptest! {
        /// Whatever is believed adds up to what was reported: nothing is counted twice or lost.
        #[test]
        fn classes_add_up(
            prompt in 0..50_u64, completion in 0..50_u64, cached in 0..60_u64, sound in 0..60_u64,
            written in 0..60_u64, pictures in 0..60_u64, reasoning in 0..60_u64,
        ) {
            let text = format!(
                r#"{{"prompt_tokens":{prompt},"completion_tokens":{completion},
                    "prompt_tokens_details":{{"cached_tokens":{cached},"audio_tokens":{sound},"cache_write_tokens":{written},"image_tokens":{pictures}}},
                    "completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}"#
            );
            if let Some(usage) = read(&text) {
                let inputs = [usage.input, usage.cached_input, usage.audio_input, usage.cache_write, usage.image_input];
                prop_assert_eq!(inputs.iter().sum::<u64>(), prompt);
                prop_assert_eq!(usage.output + usage.audio_output, completion);
                prop_assert!(usage.reasoning <= usage.output);
            } else {
                prop_assert!(cached.max(sound).max(written).max(pictures) > prompt || reasoning > completion);
            }
        }
    }
}
