//! Google's `generateContent`, and counting its tokens.

use super::proto;
use super::read::{CANDIDATES_MAX, count, present};
use super::{Ask, AskError, BoundSlot, Field, FieldProblem, ModelField, NullBound, Role, part::is_remote};
use crate::base::json::{Kind, Value};
use crate::policy::Feature;

/// The fields of a generation.
pub const GENERATE: &[Field] = &[
    f("cachedContent", Role::NamesObject),
    f("contents", Role::Input),
    f("continuationToken", Role::NamesObject),
    f("generationConfig", Role::Input),
    f("labels", Role::Neutral),
    f("model", Role::Own),
    f("safetySettings", Role::Neutral),
    f("serviceTier", Role::Own),
    f("store", Role::Uses(Feature::Store)),
    f("systemInstruction", Role::Input),
    f("toolConfig", Role::Input),
    f("tools", Role::Input),
];

/// The fields of a count: contents, or a whole generation.
pub const COUNT_TOKENS: &[Field] =
    &[f("contents", Role::Input), f("generateContentRequest", Role::Own), f("model", Role::Own)];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

/// What a part can hold.
const PART: &[&str] = &[
    "codeExecutionResult",
    "executableCode",
    "fileData",
    "functionCall",
    "functionResponse",
    "inlineData",
    "mediaResolution",
    "partMetadata",
    "text",
    "thought",
    "thoughtSignature",
    "toolCall",
    "toolResponse",
    "videoMetadata",
];

/// What a tool can be, and its kind in policies where the provider runs it.
const TOOLS: [(&str, Option<&str>); 10] = [
    ("codeExecution", Some("code_execution")),
    ("computerUse", None),
    ("fileSearch", Some("file_search")),
    ("functionDeclarations", None),
    ("googleMaps", Some("google_maps")),
    ("googleSearch", Some("web_search")),
    ("googleSearchRetrieval", Some("web_search")),
    ("mcpServers", Some("mcp")),
    ("retrieval", Some("retrieval")),
    ("urlContext", Some("url_context")),
];

const TOOL_NAMES: &[&str] = &{
    let mut names = [""; TOOLS.len()];
    let mut at = 0;
    while at < TOOLS.len() {
        names[at] = TOOLS[at].0;
        at += 1;
    }
    names
};

/// What of the configuration is read here.
const CONFIG: &[&str] = &["candidateCount", "maxOutputTokens", "responseModalities"];

/// A function's response holds parts; deeper than this nobody reads them.
const PART_DEPTH_MAX: usize = 4;
const BOUND: &str = "generationConfig.maxOutputTokens";

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    read_model(root, ask)?;
    if let Some(tier) = proto::get(root, "serviceTier") {
        let tier = tier.as_str().ok_or_else(|| AskError::expected("serviceTier", "a string"))?;
        ask.service_tier = Some(crate::base::clip(&tier.to_ascii_lowercase(), 64));
    }
    read_config(root, ask)?;
    if let Some(system) = proto::get(root, "systemInstruction") {
        read_content(system, "systemInstruction", ask)?;
    }
    read_contents(root, ask)?;
    read_tools(root, ask)
}

/// A count names what it counts either way.
pub(super) fn read_count(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    read_model(root, ask)?;
    if let Some(request) = proto::object(root, "generateContentRequest")? {
        proto::note(GENERATE, request, ask)?;
        read(request, ask)?;
    }
    read_contents(root, ask)
}

/// The model in the body, which says again what the path says: `models/NAME`.
pub(super) fn read_model(holder: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(value) = present(holder, "model") else { return Ok(()) };
    let text = value.as_str().ok_or_else(|| AskError::expected("model", "a string"))?;
    let (prefix, name) = match text.strip_prefix(MODELS) {
        Some(name) => (MODELS, name),
        None => ("", &*text),
    };
    if !super::is_model_name(name) {
        return Err(AskError::field("model", FieldProblem::NotAModelName));
    }
    ask.models.push(ModelField { name: name.to_owned(), prefix, span: value.span(), is_json: true });
    Ok(())
}

const MODELS: &str = "models/";

fn read_config(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let slot = |span, before: &str, after: &str| BoundSlot {
        field: BOUND,
        span,
        before: before.to_owned(),
        after: after.to_owned(),
    };
    let spelt = ["generationConfig", "generation_config"].into_iter().find_map(|name| root.get(name));
    let Some(config) = spelt.filter(|config| !config.is_null()) else {
        let after = if ask.is_empty_object { "}" } else { "}," };
        let inserted =
            || slot(ask.insert_at..ask.insert_at, r#""generationConfig":{"maxOutputTokens":"#, after);
        let slot = spelt.map_or_else(inserted, |null| slot(null.span(), r#"{"maxOutputTokens":"#, "}"));
        ask.bound_slot = Some(slot);
        return Ok(());
    };
    if config.kind() != Kind::Object {
        return Err(AskError::expected("generationConfig", "an object"));
    }
    let at = config.span().start + 1;
    let comma = if config.is_empty() { "" } else { "," };
    ask.bound_slot = Some(slot(at..at, r#""maxOutputTokens":"#, comma));
    for (known, member) in proto::members(config, CONFIG)? {
        let value = member.value;
        match known {
            Some("maxOutputTokens") if value.is_null() => {
                ask.bound_slot = Some(slot(value.span(), "", ""));
                ask.null_bounds.push(NullBound { field: BOUND, span: value.span() });
            }
            Some("maxOutputTokens") => {
                let (tokens, span) = (count(value, BOUND)?, value.span());
                ask.output.bounds.push(super::Bound { field: BOUND, tokens, span });
            }
            Some("candidateCount") if !value.is_null() => {
                const FIELD: &str = "generationConfig.candidateCount";
                let wanted = value.as_u64().filter(|count| (1..=CANDIDATES_MAX).contains(count));
                ask.output.candidates =
                    wanted.ok_or_else(|| AskError::expected(FIELD, "a whole number from 1 to 128"))?;
            }
            Some("responseModalities") => {
                let is_sound =
                    |one: Value<'_>| one.as_str().is_some_and(|one| one.eq_ignore_ascii_case("audio"));
                if value.items().any(is_sound) {
                    ask.features.insert(Feature::Audio);
                    ask.output.sound = true;
                }
            }
            _ => {}
        }
    }
    ask.input.raise_to_rewritten(config);
    Ok(())
}

fn read_contents(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(contents) = present(root, "contents") else { return Ok(()) };
    match contents.kind() {
        Kind::Array => contents.items().try_for_each(|content| read_content(content, "contents", ask)),
        Kind::Object => read_content(contents, "contents", ask),
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
            Err(AskError::expected("contents", "an array of contents, each an object"))
        }
    }
}

/// One content, whose texts the field list has counted.
pub(super) fn read_content(content: Value<'_>, field: &'static str, ask: &mut Ask) -> Result<(), AskError> {
    const WANTED: &str = "contents, each an object with `parts`";
    if content.kind() != Kind::Object {
        return Err(AskError::expected(field, WANTED));
    }
    ask.input.messages += 1;
    for (known, member) in proto::members(content, &["parts", "role"])? {
        match known {
            Some("parts") => read_parts(member.value, 0, ask)?,
            Some(_) => {}
            None => ask.add_unknown(&format!("{field}.{}", member.name())),
        }
    }
    Ok(())
}

fn read_parts(parts: Value<'_>, depth: usize, ask: &mut Ask) -> Result<(), AskError> {
    const WANTED: &str = "an array of parts, each an object";
    match parts.kind() {
        Kind::Null => Ok(()),
        Kind::Array if depth < PART_DEPTH_MAX => parts.items().try_for_each(|part| match part.kind() {
            Kind::Object => read_part(part, depth, ask),
            Kind::Null | Kind::Bool | Kind::Number | Kind::String | Kind::Array => {
                Err(AskError::expected("contents.parts", WANTED))
            }
        }),
        Kind::Object if depth < PART_DEPTH_MAX => read_part(parts, depth, ask),
        Kind::Array | Kind::Object | Kind::Bool | Kind::Number | Kind::String => {
            Err(AskError::expected("contents.parts", WANTED))
        }
    }
}

fn read_part(part: Value<'_>, depth: usize, ask: &mut Ask) -> Result<(), AskError> {
    for (known, member) in proto::members(part, PART)? {
        let value = member.value;
        match known {
            Some("inlineData") => read_inline(value, ask),
            Some("fileData") => read_file(value, ask)?,
            Some("functionResponse") => {
                ask.input.raise_to_rewritten(value);
                if let Some(parts) = present(value, "parts") {
                    read_parts(parts, depth + 1, ask)?;
                }
            }
            Some("functionCall" | "toolCall" | "toolResponse" | "partMetadata") => {
                ask.input.raise_to_rewritten(value);
            }
            Some(_) => {}
            None => {
                ask.add_unknown(&format!("contents.parts.{}", member.name()));
                ask.input.raise_to_rewritten(value);
                ask.input.reach_beyond_body();
                let is_url =
                    |value: Value<'_>| !value.is_key() && value.as_str().is_some_and(|text| is_remote(&text));
                if value.walk().any(is_url) {
                    ask.features.insert(Feature::RemoteUrls);
                }
            }
        }
    }
    Ok(())
}

/// What a media type shows, and whether its tokens are bounded by the picture's ceiling.
fn media(value: Value<'_>) -> (Feature, bool) {
    let kind = proto::get(value, "mimeType").and_then(Value::as_str).unwrap_or_default().to_ascii_lowercase();
    if kind.starts_with("image/") {
        (Feature::Images, true)
    } else if kind.starts_with("video/") {
        (Feature::Images, false)
    } else if kind.starts_with("audio/") {
        (Feature::Audio, false)
    } else {
        (Feature::Files, false)
    }
}

fn read_inline(value: Value<'_>, ask: &mut Ask) {
    let (feature, is_picture) = media(value);
    ask.features.insert(feature);
    if let Some(data) = present(value, "data") {
        ask.input.take_out(data);
    }
    if is_picture {
        ask.input.images += 1;
    } else {
        ask.input.reach_beyond_body();
    }
}

/// A file is one of the provider's, named by its URI, or something to be fetched.
fn read_file(value: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let (feature, is_picture) = media(value);
    ask.features.insert(feature);
    ask.input.reach_beyond_body();
    if is_picture {
        ask.input.images += 1;
    }
    let Some(uri) = proto::get(value, "fileUri") else { return Ok(()) };
    let text = uri.as_str().ok_or_else(|| AskError::expected("fileData.fileUri", "a string"))?;
    if is_remote(&text) && !is_google(&text) {
        ask.features.insert(Feature::RemoteUrls);
        return Ok(());
    }
    let id = text.rsplit_once("files/").map_or(&*text, |(_, id)| id);
    ask.add_object("fileData.fileUri", &format!("files/{id}"))
}

/// Whether a URL could lead to what Google keeps, in any way of writing its host.
fn is_google(url: &str) -> bool {
    let below = url.split_once(':').map_or(url, |(_, below)| below).trim_start_matches(['/', '\\']);
    let authority = below.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    authority.contains('%') || authority.to_ascii_lowercase().contains("generativelanguage")
}

fn read_tools(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    const WANTED: &str = "an array of tools, each an object";
    let Some(tools) = present(root, "tools") else { return Ok(()) };
    let tools = match tools.kind() {
        Kind::Array => tools.items().collect(),
        Kind::Object => vec![tools],
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => {
            return Err(AskError::expected("tools", WANTED));
        }
    };
    for tool in tools {
        if tool.kind() != Kind::Object {
            return Err(AskError::expected("tools", WANTED));
        }
        ask.input.raise_to_rewritten(tool);
        for (known, member) in proto::members(tool, TOOL_NAMES)? {
            if member.value.is_null() {
                continue;
            }
            let kind = TOOLS.iter().find(|(name, _)| Some(*name) == known).map(|(_, kind)| *kind);
            match kind {
                Some(None) => {
                    ask.features.insert(Feature::Tools);
                    let declared =
                        if member.value.kind() == Kind::Array { member.value.items().count() } else { 1 };
                    ask.input.tools = ask.input.tools.saturating_add(declared as u64);
                }
                Some(Some(kind)) => read_hosted(kind, member.value, ask)?,
                None => read_hosted(&member.name(), member.value, ask)?,
            }
        }
    }
    Ok(())
}

/// A tool that the provider runs, and what it reaches.
fn read_hosted(kind: &str, tool: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    if matches!(kind, "mcp" | "url_context") {
        ask.features.insert(Feature::RemoteUrls);
    }
    for (key, value) in tool.walk_members() {
        if key.is_str("fileSearchStoreNames") || key.is_str("file_search_store_names") {
            ask.add_objects("tools.fileSearch.fileSearchStoreNames", value)?;
        }
    }
    ask.add_hosted(kind, None);
    Ok(())
}

#[cfg(test)]
mod tests;
