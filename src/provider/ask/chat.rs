//! `POST chat/completions`, as `OpenAI` and the many who speak like it understand it.

use super::{Ask, AskError, Field, Role, read::present, tool::is_openai_client_tool};
use crate::{
    base::json::{Kind, Value},
    policy::Feature,
};

/// The fields of a chat completion.
pub const CHAT: &[Field] = &[
    f("audio", Role::Own),
    f("best_of", Role::Own),
    f("cache_control", Role::Input),
    f("cached_content", Role::NamesObject),
    f("chat_template", Role::Priced),
    f("chat_template_kwargs", Role::Input),
    f("container", Role::NamesObject),
    f("conversation", Role::NamesObject),
    f("deferred", Role::Priced),
    f("document_image_limit", Role::Neutral),
    f("document_page_limit", Role::Neutral),
    f("documents", Role::Input),
    f("enable_search", Role::Hosted("web_search")),
    f("enable_thinking", Role::Neutral),
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("file_ids", Role::NamesObject),
    f("frequency_penalty", Role::Neutral),
    f("function_call", Role::Input),
    f("functions", Role::Input),
    f("ignore_eos", Role::Neutral),
    f("include_reasoning", Role::Neutral),
    f("logit_bias", Role::Neutral),
    f("logprobs", Role::Neutral),
    f("max_completion_tokens", Role::Own),
    f("max_tokens", Role::Own),
    f("messages", Role::Input),
    f("metadata", Role::Neutral),
    f("min_p", Role::Neutral),
    f("min_tokens", Role::Neutral),
    f("modalities", Role::Own),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("n", Role::Own),
    f("parallel_tool_calls", Role::Neutral),
    f("plugins", Role::Input),
    // Rejected predictions are billed as output beside the bound.
    f("prediction", Role::Priced),
    f("presence_penalty", Role::Neutral),
    f("preset", Role::NamesModel),
    f("previous_response_id", Role::NamesObject),
    f("prompt", Role::NamesObject),
    f("prompt_cache_key", Role::Neutral),
    f("prompt_cache_retention", Role::Neutral),
    f("prompt_mode", Role::Neutral),
    f("provider", Role::Priced),
    f("random_seed", Role::Neutral),
    f("reasoning", Role::Neutral),
    f("reasoning_effort", Role::Neutral),
    f("repetition_penalty", Role::Neutral),
    f("response_format", Role::Input),
    f("route", Role::NamesModel),
    // Adds a text of the provider's own.
    f("safe_prompt", Role::Priced),
    f("safety_identifier", Role::Neutral),
    f("search_options", Role::Hosted("web_search")),
    f("search_parameters", Role::Hosted("web_search")),
    f("seed", Role::Neutral),
    f("service_tier", Role::Own),
    f("stop", Role::Neutral),
    f("stop_token_ids", Role::Neutral),
    f("store", Role::Uses(Feature::Store)),
    f("stream", Role::Own),
    f("stream_options", Role::Own),
    f("temperature", Role::Neutral),
    f("thinking", Role::Neutral),
    f("thinking_budget", Role::Neutral),
    f("tool_choice", Role::Input),
    f("tools", Role::Input),
    f("top_a", Role::Neutral),
    f("top_k", Role::Neutral),
    f("top_logprobs", Role::Neutral),
    f("top_p", Role::Neutral),
    f("transforms", Role::Uses(Feature::Truncation)),
    f("truncate", Role::Uses(Feature::Truncation)),
    f("truncate_prompt_tokens", Role::Uses(Feature::Truncation)),
    f("truncation", Role::Uses(Feature::Truncation)),
    f("usage", Role::Neutral),
    f("use_beam_search", Role::Priced),
    f("user", Role::Neutral),
    f("verbosity", Role::Neutral),
    f("web_search_options", Role::Hosted("web_search")),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.read_stream(root)?;
    ask.read_stream_options(root)?;
    ask.read_service_tier(root)?;
    ask.read_bound(root, "max_completion_tokens")?;
    ask.read_bound(root, "max_tokens")?;
    ask.read_candidates(root, 1)?;
    ask.read_tools(root, "tools", is_openai_client_tool)?;
    ask.read_tools(root, "functions", |_| true)?;
    read_plugins(root, ask)?;
    read_modalities(root, ask)?;
    if let Some(format) = root.get("response_format") {
        ask.input.raise_to_rewritten(format);
    }
    read_messages(root, ask)
}

/// Files that a system message names by `fileid://ID` in its text, several with commas, as Qwen's long context takes them.
fn read_file_ids(content: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let texts = content.walk().filter_map(Value::as_str);
    for text in texts.filter(|text| text.contains(FILE_ID)) {
        let words = text.split(|ch: char| ch == ',' || ch.is_whitespace());
        for id in words.filter_map(|word| word.strip_prefix(FILE_ID)) {
            ask.features.insert(Feature::Files);
            ask.add_object("messages.content", id)?;
        }
    }
    Ok(())
}

const FILE_ID: &str = "fileid://";

fn read_messages(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    const WANTED: &str = "an array of messages, each an object";
    let Some(messages) = present(root, "messages") else { return Ok(()) };
    if messages.kind() != Kind::Array {
        return Err(AskError::expected("messages", WANTED));
    }
    for message in messages.items() {
        if message.kind() != Kind::Object {
            return Err(AskError::expected("messages", WANTED));
        }
        ask.input.messages += 1;
        if let Some(content) = message.get("content") {
            ask.read_openai_content(content)?;
            if message.get("role").is_some_and(|role| role.is_str("system")) {
                read_file_ids(content, ask)?;
            }
        }
        if let Some(sound) = present(message, "audio") {
            ask.features.insert(Feature::Audio);
            ask.add_objects("messages.audio", sound)?;
        }
        for calls in ["tool_calls", "function_call"].into_iter().filter_map(|field| message.get(field)) {
            ask.input.raise_to_rewritten(calls);
        }
    }
    Ok(())
}

/// Sound as output has a price of its own, and its tokens count within the bounds (`completion_tokens` includes
/// `audio_tokens`); of pictures no provider documents how many there can be.
fn read_modalities(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    if present(root, "audio").is_some() {
        ask.features.insert(Feature::Audio);
    }
    let Some(modalities) = present(root, "modalities") else { return Ok(()) };
    if modalities.kind() != Kind::Array {
        return Err(AskError::expected("modalities", "an array of strings"));
    }
    for modality in modalities.items().filter(|modality| !modality.is_str("text")) {
        if modality.is_str("audio") {
            ask.features.insert(Feature::Audio);
            ask.output.sound = true;
        } else {
            ask.unbounded_prices.push("modalities".into());
        }
    }
    Ok(())
}

/// `OpenRouter` runs plugins itself.
fn read_plugins(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(plugins) = present(root, "plugins") else { return Ok(()) };
    if plugins.kind() != Kind::Array {
        return Err(AskError::expected("plugins", "an array of objects"));
    }
    plugins.items().try_for_each(|plugin| ask.read_hosted(plugin, "plugins", "id"))
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::operation::ROWS;
    use proptest::prelude::*;

    fn chat(members: &str) -> Ask {
        read(&ROWS[0], format!(r#"{{"model":"m",{members}}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn a_plain_chat_asks_for_little() {
        let ask = chat(r#""messages":[{"role":"user","content":"hello"}],"max_tokens":5,"temperature":1"#);
        assert_eq!(ask.features.iter().count(), 0);
        assert!(ask.hosted_tools.is_empty() && ask.unbounded_prices.is_empty() && ask.objects.is_empty());
        assert!(ask.unknown_fields.is_empty() && ask.report_usage.is_none());
        assert_eq!(ask.input.messages, 1);
        assert!((5..50).contains(&ask.input.text_bytes), "{}", ask.input.text_bytes);
    }

    #[test]
    fn every_output_bound_and_the_candidates_are_read() {
        let ask = chat(r#""max_tokens":5,"max_completion_tokens":7,"n":3,"best_of":2"#);
        let bounds: Vec<_> = ask.output.bounds.iter().map(|bound| (bound.field, bound.tokens)).collect();
        assert_eq!(bounds, [("max_completion_tokens", 7), ("max_tokens", 5)]);
        assert_eq!(ask.output.candidates, 3);
        assert_eq!(chat(r#""n":128"#).output.candidates, 128);
    }

    #[test]
    fn sound_is_output_by_the_token_and_pictures_have_no_known_bound() {
        let ask = chat(r#""modalities":["text","audio"],"audio":{"voice":"x","format":"wav"}"#);
        assert!(ask.features.contains(Feature::Audio) && ask.output.sound);
        assert!(ask.unbounded_prices.is_empty());
        assert_eq!(chat(r#""modalities":["text","image"]"#).unbounded_prices, ["modalities"]);
        assert!(chat(r#""modalities":["text"]"#).unbounded_prices.is_empty());
        for member in [r#""prediction":{"type":"content","content":"x"}"#, r#""provider":{"order":["x"]}"#] {
            assert_eq!(chat(member).unbounded_prices.len(), 1, "{member}");
        }
    }

    #[test]
    fn plugins_and_earlier_sound_are_seen() {
        assert_eq!(chat(r#""plugins":[{"id":"web","max_results":3}]"#).hosted_tools[0].kind, "web");
        let routed = br#"{"model":"m","plugins":[{"id":"auto-router","allowed_models":["*"]}]}"#;
        assert!(read(&ROWS[0], routed).is_err());
        let ask = chat(r#""messages":[{"role":"assistant","audio":{"id":"audio_1"}}]"#);
        assert_eq!(
            (ask.objects[0].field.as_str(), ask.objects[0].id.as_str()),
            ("messages.audio.id", "audio_1")
        );
        assert!(ask.features.contains(Feature::Audio) && ask.input.beyond_body);
    }

    #[test]
    fn an_hour_in_the_cache_is_seen_wherever_it_is_said() {
        let message = |ttl: &str| {
            let part = format!(r#"{{"type":"text","text":"x","cache_control":{{"type":"ephemeral"{ttl}}}}}"#);
            chat(&format!(r#""messages":[{{"role":"user","content":[{part}]}}]"#)).input.cache_1h
        };
        assert!(message(r#","ttl":"1h""#));
        assert!(message(r#","ttl":"1\u0068""#));
        assert!(!message(r#","ttl":"5m""#));
        assert!(!message(""));
        assert!(
            chat(r#""tools":[{"type":"function","function":{},"cache_control":{"ttl":"1h"}}]"#)
                .input
                .cache_1h
        );
    }

    #[test]
    fn legacy_functions_are_the_clients_tools() {
        let ask = chat(r#""functions":[{"name":"f","parameters":{}}]"#);
        assert!(ask.features.contains(Feature::Tools));
        assert_eq!(ask.input.tools, 1);
    }

    #[test]
    fn messages_of_another_form_are_refused() {
        for messages in ["{}", r#""x""#, "[1]", r#"["x"]"#] {
            let body = format!(r#"{{"model":"m","messages":{messages}}}"#);
            assert!(read(&ROWS[0], body.as_bytes()).is_err(), "{messages}");
        }
    }

    fn escaped(text: &str) -> String {
        let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        units.concat()
    }

    proptest! {
        /// However it is written, a text counts at least its bytes; so does a schema written anew.
        #[test]
        fn text_is_never_counted_short(
            texts in prop::collection::vec(any::<String>(), 1..6), as_parts: bool, escape: bool,
        ) {
            let quoted = |text: &String| {
                if escape { format!("\"{}\"", escaped(text)) } else { serde_json::json!(text).to_string() }
            };
            let messages: Vec<String> = texts.iter().map(|text| {
                let text = quoted(text);
                let content = if as_parts { format!(r#"[{{"type":"text","text":{text}}}]"#) } else { text };
                format!(r#"{{"role":"user","content":{content}}}"#)
            }).collect();
            let ask = chat(&format!(r#""messages":[{}]"#, messages.join(",")));
            let wanted: usize = texts.iter().map(String::len).sum();
            prop_assert!(ask.input.text_bytes >= wanted as u64);
            prop_assert_eq!(ask.input.messages, texts.len() as u64);

            let tools: Vec<serde_json::Value> = texts.iter().map(|text|
                serde_json::json!({"type": "function", "function": {"name": "f", "description": text}})
            ).collect();
            let plain = serde_json::json!(tools).to_string();
            let ascii: usize = plain.chars().map(|ch| if ch.is_ascii() { 1 } else { 6 * ch.len_utf16() }).sum();
            let ask = chat(&format!(r#""tools":{plain}"#));
            prop_assert!(ask.input.text_bytes >= ascii as u64);
        }
    }
}
