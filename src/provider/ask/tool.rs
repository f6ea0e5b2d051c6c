//! Tools: which ones the client executes, and which ones the provider does, at a price.
//!
//! A tool type that is not known to be the client's counts as the provider's, under its own name.

use super::{Ask, AskError, FieldProblem, HostedTool, read::present};
use crate::{
    base::{
        clip,
        json::{Kind, Value},
    },
    policy::Feature,
};

/// Fields of a provider's tool that name objects.
const OBJECT_FIELDS: [&str; 7] = [
    "container_id",
    "file_id",
    "file_ids",
    "knowledge_id",
    "skill_id",
    "vector_store_id",
    "vector_store_ids",
];

/// Anthropic's own tools that the client executes, without their dates, and the tokens of the definitions that the provider
/// writes for them, which are not in the body ("Tool use pricing"; for `computer` with what its prompt is longer; of
/// `memory` nothing is said).
const CLIENT_KINDS: [(&str, u64); 4] =
    [("bash", 245), ("computer", 735 + 499), ("memory", 1_024), ("text_editor", 700)];

/// Whether a tool of the `OpenAI` dialect is executed by the client.
pub(super) fn is_openai_client_tool(tool: Value<'_>) -> bool {
    match present(tool, "type") {
        Some(kind) => kind.is_str("function") || kind.is_str("custom"),
        None => tool.get("function").is_some(),
    }
}

/// Whether a tool of the Anthropic dialect is executed by the client.
pub(super) fn is_anthropic_client_tool(tool: Value<'_>) -> bool {
    present(tool, "type").is_none_or(|kind| kind.is_str("custom") || hidden_tokens(tool).is_some())
}

/// The tokens that a tool of the provider's own that the client executes comes to beside what is in the body; `None` for
/// any other tool.
fn hidden_tokens(tool: Value<'_>) -> Option<u64> {
    let kind = present(tool, "type")?.as_str()?;
    CLIENT_KINDS.iter().find(|(known, _)| *known == without_version(&kind)).map(|(_, tokens)| *tokens)
}

impl Ask {
    /// Reads an array of tools that the field list has already counted as text.
    pub(super) fn read_tools(
        &mut self,
        root: Value<'_>,
        field: &'static str,
        is_client_tool: fn(Value<'_>) -> bool,
    ) -> Result<(), AskError> {
        let Some(tools) = present(root, field) else { return Ok(()) };
        if tools.kind() != Kind::Array {
            return Err(AskError::expected(field, "an array of tools"));
        }
        self.input.raise_to_rewritten(tools);
        for tool in tools.items() {
            if tool.kind() != Kind::Object {
                return Err(AskError::expected(field, "an array of tools, each an object"));
            }
            self.input.tools += 1;
            if is_client_tool(tool) {
                self.features.insert(Feature::Tools);
                let hidden = hidden_tokens(tool).unwrap_or(0);
                self.input.text_bytes = self.input.text_bytes.saturating_add(hidden);
            } else {
                self.read_hosted(tool, field, "type")?;
            }
        }
        Ok(())
    }

    /// Reads something that the provider runs; its kind stands in the member `kind_field`.
    pub(super) fn read_hosted(
        &mut self,
        tool: Value<'_>,
        field: &str,
        kind_field: &str,
    ) -> Result<(), AskError> {
        let kind = tool
            .get(kind_field)
            .and_then(Value::as_str)
            .ok_or_else(|| AskError::expected(&format!("{field}.{kind_field}"), "a string"))?;
        let max_uses = present(tool, "max_uses")
            .map(|uses| {
                let wanted =
                    || AskError::expected(&format!("{field}.max_uses"), "a plain non-negative integer");
                uses.as_u64().ok_or_else(wanted)
            })
            .transpose()?;
        for (key, value) in tool.walk_members() {
            let name = key.as_str().unwrap_or_default();
            match &*name {
                "model" | "models" | "allowed_models" if !value.is_null() => {
                    return Err(AskError::field(&format!("{field}.{name}"), FieldProblem::NamesModel));
                }
                "server_url" => self.features.insert(Feature::RemoteUrls),
                "container" if value.kind() == Kind::String => self.add_objects("container", value)?,
                name if OBJECT_FIELDS.contains(&name) => self.add_objects(name, value)?,
                _ => {}
            }
        }
        self.add_hosted(&kind, max_uses);
        Ok(())
    }

    /// Notes a tool that the provider executes.
    pub(super) fn add_hosted(&mut self, kind: &str, max_uses: Option<u64>) {
        self.hosted_tools.push(HostedTool { kind: clip(without_version(kind), 64), max_uses });
    }
}

/// A tool's type without date and `preview`: `web_search_20250305` is `web_search`.
fn without_version(kind: &str) -> &str {
    let stem = kind.trim_end_matches(|ch: char| ch.is_ascii_digit() || matches!(ch, '_' | '-'));
    let digits = kind[stem.len()..].bytes().filter(u8::is_ascii_digit).count();
    let undated = if digits == 8 { stem } else { kind };
    undated.strip_suffix("_preview").unwrap_or(undated)
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::operation::ROWS;

    fn with_tools(row: usize, tools: &str) -> Result<Ask, AskError> {
        read(&ROWS[row], format!(r#"{{"model":"m","tools":{tools}}}"#).as_bytes())
    }

    fn hosted(ask: &Ask) -> Vec<(&str, Option<u64>)> {
        ask.hosted_tools.iter().map(|tool| (tool.kind.as_str(), tool.max_uses)).collect()
    }

    #[test]
    fn openai_functions_are_the_clients_all_else_is_the_providers() {
        let ask =
            with_tools(0, r#"[{"type":"function","function":{"name":"f"}},{"type":"custom"}]"#).unwrap();
        assert!(ask.features.contains(Feature::Tools) && ask.hosted_tools.is_empty());
        assert_eq!(ask.input.tools, 2);
        let tools = r#"[{"type":"web_search_preview_2025_03_11"},{"type":"mcp","server_url":"https://x"},
            {"type":"file_search","vector_store_ids":["vs_1"]},{"type":"brand_new"},
            {"type":"code_interpreter","container":{"type":"auto","file_ids":["file_1"]}}]"#;
        let ask = with_tools(0, tools).unwrap();
        assert_eq!(
            hosted(&ask),
            [
                ("web_search", None),
                ("mcp", None),
                ("file_search", None),
                ("brand_new", None),
                ("code_interpreter", None)
            ]
        );
        assert!(!ask.features.contains(Feature::Tools) && ask.features.contains(Feature::RemoteUrls));
        let ids: Vec<_> = ask.objects.iter().map(|one| one.id.as_str()).collect();
        assert_eq!(ids, ["vs_1", "file_1"]);
    }

    #[test]
    fn anthropic_tools_are_told_apart_by_their_undated_type() {
        let tools = r#"[{"name":"f","input_schema":{}},{"type":"custom","name":"g"},{"type":"bash_20250124"},
            {"type":"text_editor_20250728"},{"type":"computer_20251124"},{"type":"memory_20250818"}]"#;
        let ask = with_tools(3, tools).unwrap();
        assert!(ask.features.contains(Feature::Tools) && ask.hosted_tools.is_empty());
        assert!(ask.input.text_bytes > 245 + 700 + 735 + 499, "their definitions are the provider's");
        let tools = r#"[{"type":"web_search_20250305","max_uses":3},{"type":"web_fetch_20250910"},
            {"type":"code_execution_20250825"},{"type":"mcp_toolset"},{"type":"bash_evil_20250101"}]"#;
        let ask = with_tools(3, tools).unwrap();
        assert_eq!(
            hosted(&ask),
            [
                ("web_search", Some(3)),
                ("web_fetch", None),
                ("code_execution", None),
                ("mcp_toolset", None),
                ("bash_evil", None)
            ]
        );
    }

    #[test]
    fn tools_that_cannot_be_judged_are_refused() {
        for tools in ["{}", "[1]", r#"[{"type":1}]"#, "[{}]", r#"[{"type":"x","max_uses":1.5}]"#] {
            assert!(with_tools(0, tools).is_err(), "{tools}");
        }
        let advisor = r#"[{"type":"advisor_20260301","name":"advisor","model":"dearer"}]"#;
        let Err(AskError::Field { field, problem }) = with_tools(3, advisor) else { panic!() };
        assert_eq!((field.as_str(), problem), ("tools.model", FieldProblem::NamesModel));
        assert!(with_tools(3, r#"[{"name":"f","input_schema":{"properties":{"model":{}}}}]"#).is_ok());
    }
}
