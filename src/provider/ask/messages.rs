//! Anthropic's `POST /v1/messages`, and counting its tokens.

use super::read::{present, word};
use super::{Ask, AskError, Field, Role, tool::is_anthropic_client_tool};
use crate::{
    base::json::{Kind, Value},
    policy::Feature,
};
use std::borrow::Cow;

/// The fields of a message request.
pub const MESSAGES: &[Field] = &[
    f("anthropic_beta", Role::Own),
    f("betas", Role::Own),
    f("cache_control", Role::Own),
    f("container", Role::Own),
    f("context_management", Role::Own),
    f("fallbacks", Role::NamesModel),
    f("inference_geo", Role::Own),
    f("max_tokens", Role::Own),
    f("mcp_servers", Role::Input),
    f("messages", Role::Input),
    f("metadata", Role::Neutral),
    f("model", Role::Own),
    f("models", Role::NamesModel),
    f("output_config", Role::Input),
    f("output_format", Role::Input),
    f("service_tier", Role::Own),
    f("speed", Role::Own),
    f("stop_sequences", Role::Neutral),
    f("stream", Role::Own),
    f("system", Role::Input),
    f("temperature", Role::Neutral),
    f("thinking", Role::Own),
    f("tool_choice", Role::Input),
    f("tools", Role::Input),
    f("top_k", Role::Neutral),
    f("top_p", Role::Neutral),
];

const fn f(name: &'static str, role: Role) -> Field {
    Field { name, role }
}

/// Content blocks that hold nothing but text, JSON, and blocks.
const PLAIN_BLOCKS: [&str; 16] = [
    "bash_code_execution_output",
    "bash_code_execution_tool_result",
    "code_execution_output",
    "code_execution_tool_result",
    "mcp_tool_result",
    "mcp_tool_use",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "text",
    "text_editor_code_execution_tool_result",
    "thinking",
    "tool_reference",
    "tool_result",
    "tool_use",
    "web_search_tool_result",
];

/// Blocks hold blocks (a tool's result, a document); deeper than this no provider reads them.
const BLOCK_DEPTH_MAX: usize = 8;

/// What the results of code that the provider ran end with. They tell of the files that the code wrote, which may be
/// deleted by the time that they are sent back with the rest of the conversation.
const CODE_RESULT: &str = "code_execution_tool_result";
const CODE_OUTPUT: &str = "code_execution_output";

/// Where a block stands.
#[derive(Clone, Copy, Default)]
struct Stand {
    depth: usize,
    /// Below the results of code that ran.
    is_of_code: bool,
}

impl Stand {
    /// Where the content of a block of this kind stands.
    fn below(self, kind: &str) -> Self {
        Self { depth: self.depth + 1, is_of_code: self.is_of_code || kind.ends_with(CODE_RESULT) }
    }
}

pub(super) fn read(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    ask.read_stream(root)?;
    ask.read_service_tier(root)?;
    ask.speed = word(root, "speed")?;
    ask.region = word(root, "inference_geo")?;
    ask.read_bound(root, "max_tokens")?;
    ask.read_beta_field(root, "anthropic_beta")?;
    ask.read_beta_field(root, "betas")?;
    read_thinking(root, ask);
    ask.read_tools(root, "tools", is_anthropic_client_tool)?;
    read_whole_cache_control(root, ask);
    read_container(root, ask)?;
    read_context_management(root, ask);
    read_mcp_servers(root, ask)?;
    for schema in ["output_config", "output_format"].into_iter().filter_map(|field| root.get(field)) {
        ask.input.raise_to_rewritten(schema);
    }
    if let Some(system) = root.get("system") {
        read_content(system, "system", Stand::default(), ask)?;
    }
    read_messages(root, ask)
}

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
            read_content(content, "messages.content", Stand::default(), ask)?;
        }
    }
    Ok(())
}

fn read_content(content: Value<'_>, field: &str, at: Stand, ask: &mut Ask) -> Result<(), AskError> {
    match content.kind() {
        Kind::Null | Kind::String => Ok(()),
        Kind::Array if at.depth < BLOCK_DEPTH_MAX => {
            content.items().try_for_each(|block| match block.kind() {
                Kind::Object => read_block(block, at, ask),
                Kind::String => Ok(()),
                Kind::Null | Kind::Bool | Kind::Number | Kind::Array => {
                    Err(AskError::expected(field, "blocks, each an object"))
                }
            })
        }
        // A server tool's error stands where its results would.
        Kind::Object if at.depth > 0 => read_block(content, at, ask),
        Kind::Array | Kind::Bool | Kind::Number | Kind::Object => {
            Err(AskError::expected(field, "a string or an array of blocks"))
        }
    }
}

fn read_block(block: Value<'_>, at: Stand, ask: &mut Ask) -> Result<(), AskError> {
    let kind = block.get("type").and_then(Value::as_str).unwrap_or_default();
    match &*kind {
        "image" => {
            ask.features.insert(Feature::Images);
            ask.input.images += 1;
            read_source(block, at, ask)?;
        }
        "document" => {
            ask.features.insert(Feature::Files);
            read_source(block, at, ask)?;
        }
        "container_upload" => ask.features.insert(Feature::Files),
        _ if at.depth > 0 && kind.ends_with("_result") || PLAIN_BLOCKS.contains(&&*kind) => {}
        _ => ask.add_unknown_part(block),
    }
    for member in block.members() {
        match &*member.name() {
            "content" => read_content(member.value, "messages.content", at.below(&kind), ask)?,
            "input" => ask.input.raise_to_rewritten(member.value),
            "file_id"
                if at.is_of_code && kind.ends_with(CODE_OUTPUT) && member.value.kind() == Kind::String =>
            {
                ask.mention(&member.value.as_str().unwrap_or_default())?;
                ask.input.reach_beyond_body();
            }
            "file_id" => ask.add_objects("messages.content.file_id", member.value)?,
            "source" if kind != "image" && kind != "document" && member.value.kind() == Kind::Object => {
                read_source(block, at, ask)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where a picture or document comes from.
fn read_source(block: Value<'_>, at: Stand, ask: &mut Ask) -> Result<(), AskError> {
    let source = block.get("source");
    let of = |field: &str| source.and_then(|source| source.get(field));
    let is_image = block.get("type").is_some_and(|kind| kind.is_str("image"));
    match of("type").and_then(Value::as_str).as_deref() {
        Some("base64") => {
            if let Some(data) = of("data") {
                ask.input.take_out(data);
            }
            if !is_image {
                ask.input.reach_beyond_body();
            }
        }
        Some("text") if !is_image => {}
        Some("content") if !is_image => {
            if let Some(content) = of("content") {
                read_content(content, "messages.content", at.below(""), ask)?;
            }
        }
        Some("url") => {
            ask.features.insert(Feature::RemoteUrls);
            ask.input.beyond_body = true;
            ask.input.uncounted_pictures |= !is_image;
        }
        Some("file") => match of("file_id") {
            Some(id) if is_image => ask.add_picture("messages.content.source.file_id", id)?,
            Some(id) => ask.add_objects("messages.content.source.file_id", id)?,
            None => ask.input.reach_beyond_body(),
        },
        Some(_) | None => ask.add_unknown_part(block),
    }
    // Whatever the source says it is, these are what they are.
    if of("url").is_some() {
        ask.features.insert(Feature::RemoteUrls);
        ask.input.beyond_body = true;
        ask.input.uncounted_pictures |= !is_image;
    }
    Ok(())
}

/// `cache_control` for the whole request.
fn read_whole_cache_control(root: Value<'_>, ask: &mut Ask) {
    let ttl = root.get("cache_control").and_then(|control| control.get("ttl"));
    ask.input.cache_1h |= ttl.is_some_and(|ttl| !ttl.is_null() && !ttl.is_str("5m"));
}

/// A container is kept by the provider; one with skills runs code.
fn read_container(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(container) = present(root, "container") else { return Ok(()) };
    match container.kind() {
        Kind::String => ask.add_objects("container", container)?,
        Kind::Object => {
            if let Some(id) = present(container, "id") {
                ask.add_objects("container.id", id)?;
            }
            if let Some(skills) = present(container, "skills").filter(|skills| !skills.is_empty()) {
                ask.add_hosted("skills", None);
                ask.input.add_rewritten(skills);
                ask.input.reach_beyond_body();
                let custom = skills
                    .items()
                    .filter(|skill| !skill.get("type").is_some_and(|kind| kind.is_str("anthropic")));
                for id in custom.filter_map(|skill| skill.get("skill_id")) {
                    ask.add_objects("container.skills.skill_id", id)?;
                }
            }
        }
        Kind::Null | Kind::Bool | Kind::Number | Kind::Array => {
            return Err(AskError::expected("container", "an id or an object"));
        }
    }
    Ok(())
}

/// Thinking between calls of tools may pass the output bound: its budget then goes for all of it.
fn read_thinking(root: Value<'_>, ask: &mut Ask) {
    let budget = present(root, "thinking").and_then(|thinking| thinking.get("budget_tokens"));
    ask.output.floor = budget.and_then(Value::as_u64).unwrap_or(0);
}

/// Clearing drops input; compaction generates, and bills, beside the output bound.
fn read_context_management(root: Value<'_>, ask: &mut Ask) {
    let Some(management) = present(root, "context_management") else { return };
    ask.input.add_rewritten(management);
    let edits = management.get("edits").filter(|edits| edits.kind() == Kind::Array);
    let all = |is_so: fn(Value<'_>) -> bool| edits.is_some_and(|edits| edits.items().all(is_so));
    if !all(keeps_all) {
        ask.features.insert(Feature::Truncation);
    }
    if !all(|edit| kind_of(edit).starts_with("clear_")) {
        ask.unbounded_prices.push("context_management".into());
    }
}

/// Whether an edit drops nothing: coding agents say so, because for some models the default is another.
fn keeps_all(edit: Value<'_>) -> bool {
    kind_of(edit).starts_with("clear_thinking_") && edit.get("keep").is_some_and(|keep| keep.is_str("all"))
}

fn kind_of(edit: Value<'_>) -> Cow<'_, str> {
    edit.get("type").and_then(Value::as_str).unwrap_or_default()
}

fn read_mcp_servers(root: Value<'_>, ask: &mut Ask) -> Result<(), AskError> {
    let Some(servers) = present(root, "mcp_servers") else { return Ok(()) };
    if servers.kind() != Kind::Array {
        return Err(AskError::expected("mcp_servers", "an array of servers"));
    }
    for _ in servers.items() {
        ask.add_hosted("mcp", None);
        ask.features.insert(Feature::RemoteUrls);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::operation::ROWS;
    use proptest::prelude::*;

    fn message(members: &str) -> Result<Ask, AskError> {
        read(&ROWS[3], format!(r#"{{"model":"m",{members}}}"#).as_bytes())
    }

    fn blocks(blocks: &str) -> Ask {
        message(&format!(r#""messages":[{{"role":"user","content":[{blocks}]}}]"#)).unwrap()
    }

    fn features(ask: &Ask) -> Vec<Feature> {
        ask.features.iter().collect()
    }

    #[test]
    fn a_plain_message_asks_for_little() {
        let ask = message(
            r#""max_tokens":9,"stream":true,"system":"be kind","messages":[{"role":"user","content":"hello"}]"#,
        );
        let ask = ask.unwrap();
        assert_eq!(features(&ask), [Feature::Streaming]);
        assert_eq!((ask.output.bounds[0].field, ask.output.bounds[0].tokens), ("max_tokens", 9));
        assert!(ask.report_usage.is_none(), "Anthropic streams always report");
        assert!(ask.unknown_fields.is_empty() && !ask.input.beyond_body);
        assert!((12..60).contains(&ask.input.text_bytes));
    }

    #[test]
    fn pictures_and_documents_are_read_by_their_source() {
        let payload = "A".repeat(5000);
        let image = blocks(&format!(
            r#"{{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{payload}"}}}}"#
        ));
        assert_eq!((features(&image), image.input.images), (vec![Feature::Images], 1));
        assert!(!image.input.beyond_body && image.input.text_bytes < 200);
        let remote = blocks(r#"{"type":"image","source":{"type":"url","url":"https://x"}}"#);
        assert_eq!(features(&remote), [Feature::Images, Feature::RemoteUrls]);
        let pdf =
            blocks(&format!(r#"{{"type":"document","source":{{"type":"base64","data":"{payload}"}}}}"#));
        assert_eq!(features(&pdf), [Feature::Files]);
        assert!(pdf.input.beyond_body && pdf.input.text_bytes < 200);
        let text = blocks(&format!(r#"{{"type":"document","source":{{"type":"text","data":"{payload}"}}}}"#));
        assert!(!text.input.beyond_body && text.input.text_bytes > 5000);
        let stored = blocks(r#"{"type":"document","source":{"type":"file","file_id":"file_1"}}"#);
        assert_eq!(
            (stored.objects[0].field.as_str(), stored.objects[0].id.as_str()),
            ("messages.content.source.file_id", "file_1")
        );
        assert!(stored.input.beyond_body);
        let nested = blocks(
            r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"image","source":{"type":"url","url":"x"}}]}"#,
        );
        assert_eq!(features(&nested), [Feature::Images, Feature::RemoteUrls]);
        let disguised = blocks(r#"{"type":"image","source":{"type":"base64","data":"","url":"https://x"}}"#);
        assert_eq!(features(&disguised), [Feature::Images, Feature::RemoteUrls]);
        let unknown = blocks(r#"{"type":"hologram","source":{"type":"url","url":"https://x"}}"#);
        assert!(unknown.input.beyond_body && unknown.features.contains(Feature::RemoteUrls));
        assert_eq!(unknown.unknown_fields, ["messages.content.type=hologram"]);
    }

    #[test]
    fn what_the_provider_keeps_or_runs_is_seen() {
        let ask = message(r#""container":"c_1","mcp_servers":[{"type":"url","url":"https://x","name":"x"}]"#);
        let ask = ask.unwrap();
        assert_eq!((ask.objects[0].field.as_str(), ask.objects[0].id.as_str()), ("container", "c_1"));
        assert_eq!(ask.hosted_tools[0].kind, "mcp");
        assert_eq!(features(&ask), [Feature::RemoteUrls]);
        let skills = r#""container":{"id":"c_2","skills":[{"type":"custom","skill_id":"s_1"},
            {"type":"anthropic","skill_id":"pdf"}]}"#;
        let skills = message(skills).unwrap();
        let ids: Vec<_> = skills.objects.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["c_2", "s_1"]);
        assert_eq!(skills.hosted_tools[0].kind, "skills");
        let upload = blocks(r#"{"type":"container_upload","file_id":"file_1"}"#);
        assert_eq!(upload.objects.len(), 1);
    }

    #[test]
    fn what_code_has_written_is_mentioned_and_not_named() {
        for (result, output) in [
            ("code_execution", "code_execution_output"),
            ("bash_code_execution", "bash_code_execution_output"),
        ] {
            let told = blocks(&format!(
                r#"{{"type":"{result}_tool_result","tool_use_id":"t","content":{{"type":"{result}_result","stdout":"",
                    "content":[{{"type":"{output}","file_id":"file_1"}}]}}}}"#
            ));
            assert_eq!((told.objects.len(), told.mentions.as_slice()), (0, &["file_1".to_owned()][..]));
            assert!(told.unknown_fields.is_empty() && told.features.iter().count() == 0, "{told:?}");
            assert!(told.input.beyond_body, "as before");
        }
        // What the provider would read has to be the caller's, wherever it stands.
        for named in [
            r#"{"type":"code_execution_output","file_id":"file_1"}"#,
            r#"{"type":"tool_result","tool_use_id":"t","content":[{"type":"code_execution_output","file_id":"file_1"}]}"#,
            r#"{"type":"code_execution_tool_result","content":[{"type":"container_upload","file_id":"file_1"}]}"#,
            r#"{"type":"code_execution_tool_result","content":[{"type":"document","source":{"type":"file","file_id":"file_1"}}]}"#,
            r#"{"type":"code_execution_tool_result","content":[{"type":"code_execution_output","file_id":["file_1"]}]}"#,
        ] {
            let told = blocks(named);
            assert_eq!((told.objects.len(), told.mentions.len()), (1, 0), "{named}");
        }
    }

    #[test]
    fn what_changes_the_price_is_seen() {
        let unbounded = |members: &str| message(members).unwrap().unbounded_prices;
        let modified = message(r#""speed":"fast","inference_geo":"us""#).unwrap();
        assert_eq!((modified.speed.as_deref(), modified.region.as_deref()), (Some("fast"), Some("us")));
        let plain = message(r#""speed":null,"inference_geo":null"#).unwrap();
        assert_eq!((plain.speed, plain.region), (None, None));
        let clears =
            message(r#""context_management":{"edits":[{"type":"clear_tool_uses_20250919"}]}"#).unwrap();
        assert_eq!(features(&clears), [Feature::Truncation]);
        assert!(clears.unbounded_prices.is_empty());
        let edits = |edits: &str| {
            let ask = message(&format!(r#""context_management":{{"edits":{edits}}}"#)).unwrap();
            (features(&ask), ask.unbounded_prices.len())
        };
        let keeps = r#"{"type":"clear_thinking_20251015","keep":"all"}"#;
        assert_eq!(edits(&format!("[{keeps}]")), (vec![], 0), "what clears nothing is no truncation");
        for drops in
            [r#"{"type":"clear_thinking_20251015"}"#, r#"{"type":"clear_tool_uses_20250919","keep":"all"}"#]
        {
            assert_eq!(edits(&format!("[{keeps},{drops}]")), (vec![Feature::Truncation], 0), "{drops}");
        }
        assert_eq!(edits(r#"{"type":"x"}"#), (vec![Feature::Truncation], 1));
        let thinks = message(r#""max_tokens":9,"thinking":{"type":"enabled","budget_tokens":20}"#).unwrap();
        assert_eq!((thinks.output.floor, ask_floor(r#""thinking":{"type":"adaptive"}"#)), (20, 0));
        let compacts = r#""context_management":{"edits":[{"type":"compact_20260112"}]}"#;
        assert_eq!(unbounded(compacts), ["context_management"]);
        assert!(message(r#""cache_control":{"type":"ephemeral","ttl":"1h"}"#).unwrap().input.cache_1h);
        assert!(
            message(r#""system":[{"type":"text","text":"x","cache_control":{"ttl":"1h"}}]"#)
                .unwrap()
                .input
                .cache_1h
        );
        assert_eq!(message(r#""service_tier":"auto""#).unwrap().service_tier.as_deref(), Some("auto"));
    }

    fn ask_floor(members: &str) -> u64 {
        message(members).unwrap().output.floor
    }

    #[test]
    fn forms_that_cannot_be_judged_are_refused() {
        for members in [
            r#""messages":{}"#,
            r#""messages":["x"]"#,
            r#""messages":[{"content":{}}]"#,
            r#""messages":[{"content":[1]}]"#,
            r#""system":{}"#,
            r#""container":1"#,
            r#""mcp_servers":{}"#,
            r#""speed":1"#,
            r#""inference_geo":["us"]"#,
        ] {
            assert!(message(members).is_err(), "{members}");
        }
    }

    #[test]
    fn counting_tokens_reads_the_same_body() {
        let body = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        assert_eq!(read(&ROWS[4], body), read(&ROWS[3], body));
    }

    proptest! {
        /// Texts, tool results and the arguments of tool uses count at least their bytes.
        #[test]
        fn text_is_never_counted_short(texts in prop::collection::vec(any::<String>(), 4)) {
            let body = serde_json::json!({
                "model": "m",
                "system": [{"type": "text", "text": texts[0]}],
                "messages": [
                    {"role": "user", "content": texts[1]},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f",
                        "input": {"a": texts[2]}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
                        "content": [{"type": "text", "text": texts[3]}]}]},
                ],
            });
            let ask = read(&ROWS[3], body.to_string().as_bytes()).unwrap();
            let wanted: usize = texts.iter().map(String::len).sum();
            prop_assert!(ask.input.text_bytes >= wanted as u64);
            prop_assert_eq!(ask.input.messages, 3);
        }
    }
}
