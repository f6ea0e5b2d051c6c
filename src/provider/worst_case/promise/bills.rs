//! What a provider bills for a request, told in its answer: anything that its documentation allows.

use super::super::{Model, PriceVersion};
use super::Dice;
use super::requests::Sent;
use crate::policy::Operation;
use crate::provider::Dialect;
use crate::provider::operation::Row;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::num::NonZeroU64;

/// The bill of one request.
pub(super) fn answer(
    dice: &mut Dice,
    model: &Model,
    version: &PriceVersion,
    row: &Row,
    sent: &Sent,
    keys: &BTreeSet<String>,
) -> Value {
    let window = model.context_window.unwrap_or(u64::MAX / 1_000);
    let arrays = matches!(row.operation, Operation::Embeddings | Operation::Completions);
    let each = |bytes: &u64| bytes.saturating_add(8).min(window);
    let searches = dice.up_to(sent.searches_max.unwrap_or(0));
    let factor = model.image_window_factor.map_or(1, NonZeroU64::get);
    let pictures = sent.pictures * model.max_image_tokens.unwrap_or(window);
    // Billed beside all that fills the window, as many as take hardly any of it.
    let beyond_window = match model.max_image_tokens {
        Some(each) if factor > 1 => sent.pictures * each,
        None if sent.pictures > 0 => window * (factor - 1),
        Some(_) | None => 0,
    };
    let input_max = if arrays {
        sent.texts.iter().map(each).sum::<u64>()
    } else if sent.hides_pictures {
        // All of the window is pictures, each token of it billed as several.
        window * factor * (searches + 1)
    } else if sent.beyond {
        (window + beyond_window) * (searches + 1)
    } else {
        let text: u64 = sent.texts.iter().map(|bytes| bytes + 8).sum();
        let text = text + sent.tools * 830 + sent.defined;
        if factor > 1 { text.min(window) + beyond_window } else { (text + pictures).min(window) }
    };
    let input = dice.up_to(input_max.min(u64::from(u32::MAX)));
    let pictures = sent.pictures > 0 || sent.beyond;
    let responses = row.operation == Operation::Responses;
    let openai = row.dialect == Dialect::OpenAi && !responses;
    let google = row.dialect == Dialect::Gemini;
    let inputs = dice.shares(
        input,
        [
            true,
            true,
            // Google tells of no writing.
            !google,
            sent.an_hour && !openai && !google,
            (openai || google) && (sent.sound || sent.beyond),
            (openai || google || responses) && pictures,
        ],
    );
    let ceiling = model.max_output_tokens;
    let bound = sent.bounds.iter().copied().max().or(ceiling).unwrap_or(0);
    let visible = sent.candidates * dice.up_to(bound.min(ceiling.unwrap_or(u64::MAX)));
    let thinks = model.can("reasoning");
    let on_top = if thinks && !model.bound_covers_reasoning {
        sent.candidates
            * dice.up_to(model.max_reasoning_tokens.unwrap_or(window).min(u64::from(u32::MAX) / 100))
    } else {
        0
    };
    let draws = (openai || google) && version.prices.image_output_per_mtok_usd.is_some();
    let outputs = dice.shares(visible, [true, thinks, (openai || google) && sent.speaks, draws]);
    let output = if row.operation == Operation::Embeddings { 0 } else { visible + on_top };
    let reasoning = outputs[1] + on_top;

    let known = &version.prices.multipliers;
    let reported = |dice: &mut Dice, asked: Option<&str>, list: &str, any: Vec<String>| match asked {
        Some(named) if named != "auto" => dice.pick(&[named.to_owned(), list.to_owned()]),
        Some(_) | None => dice.pick(&[any, vec![list.to_owned()]].concat()),
    };
    let asked = sent.asked(if google { "serviceTier" } else { "service_tier" });
    let tiers = known.service_tier.keys().filter(|tier| asked.is_some() || keys.contains(*tier));
    let tiers: Vec<String> = tiers.cloned().collect();
    let tier = reported(dice, asked, if openai || responses { "default" } else { "standard" }, tiers);
    if google {
        let of = |modality: &str, tokens: u64| json!([{"modality": modality, "tokenCount": tokens}]);
        let details = |sound: u64, pictures: u64| {
            let [sound, pictures] = [of("AUDIO", sound), of("IMAGE", pictures)];
            [sound.as_array().unwrap().clone(), pictures.as_array().unwrap().clone()].concat()
        };
        return json!({"candidates": [], "modelVersion": "m", "usageMetadata": {
            "promptTokenCount": input, "cachedContentTokenCount": inputs[1],
            "promptTokensDetails": details(inputs[4], inputs[5]),
            "candidatesTokenCount": visible - outputs[1], "thoughtsTokenCount": reasoning,
            "candidatesTokensDetails": details(outputs[2], outputs[3]), "serviceTier": tier,
        }});
    }
    if responses {
        let calls: Vec<Value> = (0..searches).map(|_| json!({"type": "web_search_call"})).collect();
        return json!({"status": "completed", "model": "m", "service_tier": tier, "output": calls, "usage": {
            "input_tokens": input, "output_tokens": output,
            "input_tokens_details": {"cached_tokens": inputs[1], "cache_write_tokens": inputs[2] + inputs[3],
                "cache_write_tokens_details": {"ttl_12h_tokens": inputs[3], "ttl_30m_tokens": inputs[2]},
                "image_tokens": inputs[5]},
            "output_tokens_details": {"reasoning_tokens": reasoning},
        }});
    }
    if openai {
        let mut usage = json!({"prompt_tokens": input, "completion_tokens": output,
            "prompt_tokens_details": {"cached_tokens": inputs[1], "cache_write_tokens": inputs[2],
                "audio_tokens": inputs[4], "image_tokens": inputs[5]}});
        if row.operation != Operation::Embeddings {
            usage["completion_tokens_details"] = json!({"reasoning_tokens": reasoning, "audio_tokens": outputs[2], "image_tokens": outputs[3]});
        }
        return json!({"model": "m", "service_tier": tier, "choices": [], "usage": usage});
    }
    let speed = reported(dice, sent.asked("speed"), "standard", Vec::new());
    let region =
        reported(dice, sent.asked("inference_geo"), "global", known.region.keys().cloned().collect());
    json!({"type": "message", "model": "m", "content": [], "usage": {
        "input_tokens": inputs[0], "cache_read_input_tokens": inputs[1],
        "cache_creation_input_tokens": inputs[2] + inputs[3],
        "cache_creation": {"ephemeral_5m_input_tokens": inputs[2], "ephemeral_1h_input_tokens": inputs[3]},
        "output_tokens": output, "service_tier": tier, "speed": speed, "inference_geo": region,
        "server_tool_use": {"web_search_requests": searches},
    }})
}
