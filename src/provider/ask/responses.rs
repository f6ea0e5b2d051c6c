//! `POST responses`, what compacts one, and what counts its tokens.
//!
//! An item of the input may be written out or only named. What is only named is looked up by the provider among all that
//! the account has, so it must be the caller's; an item that is written out must not be somebody else's.

use super::{Ask, AskError, Field, Role, part::is_remote, read::flag, read::present};
use crate::base::json::{Kind, Value};
use crate::policy::Feature;
use crate::provider::ObjectKind;

/// The fields of a response, and of the operations on what one would be.
pub const RESPONSES: &[Field] = &[
    f("background", Role::Own),
    f("client_metadata", Role::Neutral),
    f("context_management", Role::Priced),
    f("conversation", Role::NamesObject),
    f("extra_body", Role::Priced),
    f("fallbacks", Role::NamesModel),
    f("include", Role::Neutral),
    f("input", Role::Input),
    f("instructions", Role::Input),
    f("max_output_tokens", Role::Own),
    f("max_tool_calls", Role::Own),
    f("metadata", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("moderation", Role::NamesModel),
    f("parallel_tool_calls", Role::Neutral),
    f("plugins", Role::Priced),
    f("preset", Role::NamesModel),
    f("previous_response_id", Role::NamesObject),
    f("prompt", Role::NamesObject),
    f("prompt_cache_key", Role::Neutral),
    f("prompt_cache_options", Role::Own),
    f("prompt_cache_retention", Role::Neutral),
    f("provider", Role::Priced),
    f("reasoning", Role::Neutral),
    f("route", Role::NamesModel),
    f("safety_identifier", Role::Neutral),
    f("service_tier", Role::Own),
    f("store", Role::Own),
    f("stream", Role::Own),
    f("stream_options", Role::Neutral),
    f("temperature", Role::Neutral),
    f("text", Role::Input),
    f("tool_choice", Role::Input),
    f("tools", Role::Input),
    f("top_logprobs", Role::Neutral),
    f("top_p", Role::Neutral),
    f("transforms", Role::Uses(Feature::Truncation)),
    f("truncation", Role::Uses(Feature::Truncation)),
    f("user", Role::Neutral),
    f("verbosity", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

/// Tools that the client executes.
const CLIENT_TOOLS: [&str; 6] =
    ["apply_patch", "computer", "computer_use_preview", "custom", "function", "local_shell"];

/// Reads a response, and what would be counted of one.
pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.read_stream(root)?;
    ask.in_background = flag(root, "background")?;
    ask.read_service_tier(root)?;
    ask.read_bound(root, "max_output_tokens")?;
    ask.read_tools(root, "tools", is_client_tool)?;
    count_grouped_tools(root, ask);
    read_tool_bound(root, ask)?;
    let ttl = root.get("prompt_cache_options").and_then(|options| options.get("ttl"));
    ask.input.cache_1h |= ttl.is_some_and(|ttl| !ttl.is_null() && !ttl.is_str("30m"));
    // Kept unless the request says otherwise.
    let is_kept = match present(root, "store") {
        None => true,
        Some(store) => store.as_bool().ok_or_else(|| AskError::expected("store", "true or false"))?,
    };
    if is_kept {
        ask.features.insert(Feature::Store);
    }
    if let Some(text) = root.get("text") {
        ask.input.raise_to_rewritten(text);
    }
    for field in ["input", "instructions"] {
        if let Some(input) = present(root, field) {
            read_input(input, field, ask)?;
        }
    }
    Ok(())
}

/// Reads what is to be made shorter. Nothing of it is kept.
pub(super) fn read_compact(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    read(root, ask)?;
    if present(root, "store").is_none() {
        ask.features.remove(Feature::Store);
    }
    // It has no bound, so none that is stated counts.
    ask.output.bounds.clear();
    ask.null_bounds.clear();
    Ok(())
}

/// Whether the client executes the tool, or all of a group of tools.
fn is_client_tool(tool: Value<'_>) -> bool {
    let says =
        |tool: Value<'_>, field: &str, word: &str| tool.get(field).is_some_and(|value| value.is_str(word));
    let is_local =
        |tool: Value<'_>| tool.get("environment").is_some_and(|place| says(place, "type", "local"));
    let is_plain = |tool: Value<'_>| CLIENT_TOOLS.iter().any(|known| says(tool, "type", known));
    is_plain(tool)
        || says(tool, "type", "shell") && is_local(tool)
        || says(tool, "type", "tool_search") && says(tool, "execution", "client")
        || says(tool, "type", "namespace") && grouped(tool).is_some_and(|tools| tools.items().all(is_plain))
}

fn grouped(tool: Value<'_>) -> Option<Value<'_>> {
    tool.get("tools").filter(|tools| tools.kind() == Kind::Array)
}

/// The tools of a group are tools like others.
fn count_grouped_tools(root: Value<'_>, ask: &mut Ask) {
    let tools = root.get("tools").filter(|tools| tools.kind() == Kind::Array);
    let inside = tools.into_iter().flat_map(Value::items).filter_map(grouped);
    let count = inside.map(|tools| tools.items().count()).sum::<usize>();
    ask.input.tools = ask.input.tools.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
}

/// `max_tool_calls` bounds the calls of all hosted tools together, so each is called at most so often.
fn read_tool_bound(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(bound) = present(root, "max_tool_calls") else { return Ok(()) };
    let calls = bound.as_u64();
    let calls = calls.ok_or_else(|| AskError::expected("max_tool_calls", "a plain non-negative integer"))?;
    for tool in &mut ask.hosted_tools {
        tool.max_uses = Some(tool.max_uses.map_or(calls, |own| own.min(calls)));
    }
    Ok(())
}

fn read_input(input: Value<'_>, field: &str, ask: &mut Ask) -> Result<(), AskError> {
    const WANTED: &str = "a string or an array of items, each an object";
    match input.kind() {
        Kind::String => ask.input.messages += 1,
        Kind::Array => {
            for item in input.items() {
                if item.kind() != Kind::Object {
                    return Err(AskError::expected(field, WANTED));
                }
                ask.input.messages += 1;
                read_item(item, ask)?;
            }
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::Object => {
            return Err(AskError::expected(field, WANTED));
        }
    }
    Ok(())
}

/// Members of an item that hold what it says: without one of them it is only named.
const SAYS: [&str; 12] = [
    "action",
    "arguments",
    "code",
    "content",
    "encrypted_content",
    "input",
    "operation",
    "output",
    "queries",
    "result",
    "results",
    "tools",
];

fn read_item(item: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let kind = present(item, "type").and_then(Value::as_str).unwrap_or_default();
    let is_written_out = match &*kind {
        "item_reference" => false,
        // A summary is not what was thought.
        "reasoning" => ["content", "encrypted_content"].iter().any(|field| says(item, field)),
        _ => SAYS.iter().any(|field| says(item, field)),
    };
    if let Some(id) = present(item, "id") {
        let id = id.as_str().ok_or_else(|| AskError::expected("input.id", "a string"))?;
        if is_written_out {
            ask.mention(&id)?;
        } else {
            ask.add_named("input.id", &id, Some(ObjectKind::Item))?;
        }
    }
    if let Some(id) = present(item, "approval_request_id").and_then(Value::as_str) {
        ask.mention(&id)?;
    }
    if let Some(container) = present(item, "container_id") {
        ask.add_objects("input.container_id", container)?;
    }
    let place = present(item, "environment").and_then(|environment| present(environment, "container_id"));
    if let Some(container) = place {
        ask.add_objects("input.environment.container_id", container)?;
    }
    for field in ["content", "output"] {
        if let Some(content) = present(item, field) {
            read_content(content, ask)?;
        }
    }
    if &*kind == "image_generation_call" && says(item, "result") {
        // What was made in an earlier turn is a picture in the input like any other.
        ask.features.insert(Feature::Images);
        ask.input.images += 1;
        // It is a picture, and so no text.
        if let Some(result) = present(item, "result").filter(|result| result.kind() == Kind::String) {
            ask.input.take_out(result);
        }
    }
    // Tools that were searched for are loaded by an item.
    for tool in grouped(item).into_iter().flat_map(Value::items) {
        if present(tool, "type").is_some() && !is_client_tool(tool) {
            ask.read_hosted(tool, "input.tools", "type")?;
        }
    }
    for field in ["arguments", "action", "operation", "tools", "summary"] {
        if let Some(value) = present(item, field) {
            ask.input.raise_to_rewritten(value);
        }
    }
    Ok(())
}

fn says(item: Value<'_>, field: &str) -> bool {
    present(item, field).is_some_and(|value| value.kind() != Kind::Array || !value.is_empty())
}

/// A message's content or a tool's output: a text, parts, or one part by itself.
fn read_content(content: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    match content.kind() {
        Kind::Array => content.items().try_for_each(|part| match part.kind() {
            Kind::Object => read_part(part, ask),
            Kind::String => Ok(()),
            Kind::Null | Kind::Bool | Kind::Number | Kind::Array => {
                Err(AskError::expected("input.content", "parts, each an object"))
            }
        }),
        Kind::Object => read_part(content, ask),
        Kind::Null | Kind::String => Ok(()),
        Kind::Bool | Kind::Number => {
            Err(AskError::expected("input.content", "a string or an array of parts"))
        }
    }
}

/// Parts whose members are all known here.
const KNOWN_PARTS: [&str; 12] = [
    "computer_screenshot",
    "input_audio",
    "input_file",
    "input_image",
    "input_text",
    "logs",
    "output_text",
    "reasoning_text",
    "refusal",
    "summary_text",
    "text",
    "tool_result",
];

fn read_part(part: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let kind = present(part, "type").and_then(Value::as_str).unwrap_or_default();
    for member in part.members().filter(|member| !member.value.is_null()) {
        match &*member.name() {
            "image_url" => read_picture(member.value, ask),
            "file_id" => {
                if matches!(&*kind, "input_image" | "computer_screenshot") {
                    ask.features.insert(Feature::Images);
                    ask.input.images += 1;
                    ask.add_picture("input.content.file_id", member.value)?;
                } else {
                    ask.features.insert(Feature::Files);
                    ask.add_objects("input.content.file_id", member.value)?;
                }
            }
            "file_data" => {
                ask.features.insert(Feature::Files);
                ask.input.take_out(member.value);
                ask.input.reach_beyond_body();
            }
            "file_url" => {
                ask.features.insert(Feature::Files);
                ask.features.insert(Feature::RemoteUrls);
                ask.input.reach_beyond_body();
            }
            "input_audio" | "audio" => {
                ask.features.insert(Feature::Audio);
                ask.input.beyond_body = true;
                if let Some(data) = member.value.get("data") {
                    ask.input.take_out(data);
                }
            }
            _ => {}
        }
    }
    if !KNOWN_PARTS.contains(&&*kind) {
        ask.add_unknown_part(part);
    }
    Ok(())
}

/// A picture: in the body as a `data:` URL, or to be fetched from elsewhere.
fn read_picture(url: Value<'_>, ask: &mut Ask) {
    ask.features.insert(Feature::Images);
    ask.input.images += 1;
    let text = url.as_str().unwrap_or_default();
    if text.starts_with("data:image/") {
        ask.input.take_out(url);
        return;
    }
    ask.input.beyond_body = true;
    if !text.starts_with("data:") || is_remote(&text) {
        ask.features.insert(Feature::RemoteUrls);
    }
}

#[cfg(test)]
mod tests;
