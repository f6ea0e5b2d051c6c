//! Coding agents as they call: the shapes that Claude Code and Codex send, through a key as an operator would mint it for
//! them, with a cap and with nothing allowed beyond the defaults. What they send arrives byte for byte.

use super::{also, spoken, still_clock};
use crate::support::server::{CANARY, TestServer};
use crate::support::store::on_both;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

/// Claude Code's header, but for its key.
const CLAUDE_CODE: [(&str, &str); 14] = [
    ("accept", "application/json"),
    ("user-agent", "claude-cli/2.1.69 (external, cli)"),
    ("x-app", "cli"),
    ("x-claude-code-session-id", "b4e5aaaa-9a3e-47c4-84ad-3a70f38c676e"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-timeout", "600"),
    ("x-stainless-lang", "js"),
    ("x-stainless-package-version", "0.74.0"),
    ("x-stainless-runtime", "node"),
    ("anthropic-dangerous-direct-browser-access", "true"),
    ("anthropic-version", "2023-06-01"),
    (
        "anthropic-beta",
        "claude-code-20250219,adaptive-thinking-2026-01-28,context-management-2025-06-27,prompt-caching-scope-2026-01-05,\
         advanced-tool-use-2025-11-20,effort-2025-11-24,interleaved-thinking-2025-05-14",
    ),
    ("accept-language", "*"),
    ("sec-fetch-mode", "cors"),
];

/// What a key for an agent is minted with.
fn agents_key() -> Value {
    json!({"budgets": [{"limit_usd": "25", "window": "month"}], "strict_fields": true})
}

/// A turn in the middle of a session.
fn claude_codes_turn() -> Value {
    let ephemeral = json!({"type": "ephemeral"});
    let hour = json!({"type": "ephemeral", "ttl": "1h", "scope": "global"});
    let tool = |name: &str| {
        json!({
            "name": name, "description": "Does what its name says.",
            "input_schema": {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
                "properties": {"command": {"type": "string"}}, "required": ["command"], "additionalProperties": false},
        })
    };
    let mut deferred = tool("WebSearch");
    deferred["defer_loading"] = json!(true);
    let mut eager = tool("Bash");
    eager["eager_input_streaming"] = json!(true);
    let picture = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}});
    json!({
        "model": "sandbox-mini",
        "messages": [
            {"role": "user", "content": "<available-deferred-tools>\nWebSearch\n</available-deferred-tools>"},
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>\nToday is Monday.\n</system-reminder>"},
                {"type": "text", "text": "fix the tests", "cache_control": ephemeral},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "I look first.", "signature": "EqQBCkYIBxgCKkB="},
                {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
                {"type": "text", "text": "I run them."},
                {"type": "tool_use", "id": "toolu_01A", "name": "Bash", "input": {"command": "cargo test"}, "caller": {"type": "direct"}},
                {"type": "tool_use", "id": "toolu_01B", "name": "ToolSearch", "input": {"query": "select:WebSearch"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_01A", "is_error": true, "content": [
                    {"type": "text", "text": "2 failed"}, picture,
                ]},
                {"type": "tool_result", "tool_use_id": "toolu_01B", "content": [{"type": "tool_reference", "tool_name": "WebSearch"}]},
                {"type": "text", "text": "<system-reminder>\nnothing\n</system-reminder>", "cache_control": ephemeral},
            ]},
            {"role": "system", "content": "The working folder is now another."},
        ],
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.69; cc_entrypoint=cli;"},
            {"type": "text", "text": "You are Claude Code, Anthropic's official CLI for Claude.", "cache_control": hour},
            {"type": "text", "text": "# Tone and style", "cache_control": hour},
        ],
        "tools": [eager, tool("Edit"), deferred],
        "metadata": {"user_id": "user_0784b260_account_261d5434_session_b4e5aaaa"},
        "max_tokens": 32000,
        "thinking": {"type": "adaptive"},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "output_config": {"effort": "medium"},
        "stream": true,
    })
}

fn with(mut body: Value, more: &Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The text without the sandbox's own ids, which count up.
fn without_ids(text: &str) -> String {
    let mut out = text.to_owned();
    for prefix in ["msg_", "resp_", "rs_", "fc_", "toolu_", "cmp_"] {
        let mut pieces = out.split(prefix);
        let first = pieces.next().unwrap_or_default().to_owned();
        out = pieces.fold(first, |text, piece| {
            text + prefix + piece.trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == '_')
        });
    }
    out
}

/// Sends the request through the gate and straight to the provider; what arrived is what was sent, and what came back is
/// what the provider says.
async fn as_if_it_were_the_provider(
    server: &TestServer,
    secret: &str,
    (path, headers): (&str, &[(&str, &str)]),
    body: &Value,
) -> String {
    let sent = body.to_string();
    let request = |origin: &str, key: &str| {
        let request =
            Request::post(format!("{origin}{path}")).header("authorization", format!("Bearer {key}"));
        let request = request.header("content-type", "application/json");
        also(request.body(Full::new(Bytes::from(sent.clone()))).unwrap(), headers)
    };
    let answer = server.call(request(&server.proxy, secret)).await;
    let text = String::from_utf8(answer.bytes.to_vec()).unwrap();
    assert_eq!(answer.status, 200, "{path} {body}: {text}");
    assert_eq!(answer.header("x-bitting-changed"), None, "{path}");
    let arrived = server.sandbox.requests().pop().unwrap();
    assert_eq!(arrived.body, sent, "{path}");
    let (bare, query) = path.split_once('?').map_or((path, None), |(bare, query)| (bare, Some(query)));
    assert_eq!((arrived.path.as_str(), arrived.query.as_deref()), (bare, query));
    for (name, value) in
        headers.iter().filter(|(name, _)| name.ends_with("-beta") || name.starts_with("x-stainless-"))
    {
        assert_eq!(arrived.header(name), Some(*value), "{path}");
    }
    assert!(arrived.headers.iter().all(|(_, value)| !value.contains(secret)));
    assert!(arrived.headers.iter().any(|(_, value)| value.contains(CANARY)));
    let direct = server.call(request(&server.sandbox_url, "another-key")).await;
    assert_eq!(without_ids(&text), without_ids(std::str::from_utf8(&direct.bytes).unwrap()), "{path}");
    text
}

on_both! {
    async fn claude_code_works_as_it_does_with_the_provider(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (id, secret) = server.mint(agents_key()).await;
        let ask = |path: &'static str, body: Value| {
            let (server, secret) = (&server, &secret);
            async move { as_if_it_were_the_provider(server, secret, (path, &CLAUDE_CODE), &body).await }
        };
        let messages = "/v1/messages?beta=true";
        let text = ask(messages, claude_codes_turn()).await;
        for event in ["message_start", "ping", "content_block_start", "content_block_delta", "message_delta", "message_stop"] {
            assert!(text.contains(&format!("event: {event}\n")), "{event}: {text}");
        }
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!((&entry["usage_source"], &entry["outcome"], &entry["streamed"]),
            (&json!("reported"), &json!("completed"), &json!(true)), "{entry}");
        assert_eq!(entry["user_agent"], "claude-cli/2.1.69 (external, cli)");
        // Thinking by a budget, as with models before adaptive thinking.
        let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 31999}, "temperature": 1});
        ask(messages, with(claude_codes_turn(), &budget)).await;
        // The check of the quota, and the title of a session.
        let small = |more: &Value| {
            let body = json!({"model": "sandbox-mini", "max_tokens": 1, "messages": [{"role": "user", "content": "quota"}],
                "metadata": {"user_id": "user_0784b260"}});
            with(body, more)
        };
        ask(messages, small(&json!({}))).await;
        let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"],
            "additionalProperties": false});
        let titled = json!({"max_tokens": 32000, "tools": [], "temperature": 1, "system": [{"type": "text", "text": "Name it."}],
            "output_config": {"format": {"type": "json_schema", "schema": schema}}});
        ask(messages, small(&titled)).await;
        // Counting has the same shape, without what only an answer has.
        let mut counted = claude_codes_turn();
        for field in ["max_tokens", "stream", "metadata", "context_management", "output_config"] {
            counted.as_object_mut().unwrap().remove(field);
        }
        let told = ask("/v1/messages/count_tokens?beta=true", counted).await;
        assert!(serde_json::from_str::<Value>(&told).unwrap()["input_tokens"].as_u64() > Some(0), "{told}");
        // What it looks for before and beside: that somebody is there, and which models there are.
        let models = server.call(also(spoken(&server, "openai", &secret, "/v1/models?limit=1000", &Value::Null), &CLAUDE_CODE)).await;
        assert_eq!(models.status, 200, "{}", models.json());
        assert!(models.json()["data"].as_array().unwrap().iter().any(|model| model["id"] == "sandbox-mini"));
        let mut hello = spoken(&server, "anthropic", &secret, "/api/hello", &Value::Null);
        *hello.method_mut() = Method::HEAD;
        assert_eq!(server.call(hello).await.status, 404);
    }

    async fn codex_works_as_it_does_with_the_provider(test: TestStore) {
        let server = TestServer::start_with(test, still_clock(), &[]).await;
        let (id, secret) = server.mint(agents_key()).await;
        let headers = [
            ("accept", "text/event-stream"),
            ("user-agent", "codex_cli_rs/0.130.0 (Debian 13; x86_64) xterm"),
            ("originator", "codex_cli_rs"),
            ("version", "0.130.0"),
            ("session_id", "0199a213-81c0-7800-8aa1-bbab2a035a53"),
            ("session-id", "0199a213-81c0-7800-8aa1-bbab2a035a53"),
            ("thread-id", "0199a213-81c0-7800-8aa1-bbab2a035a53"),
            ("conversation_id", "0199a213-81c0-7800-8aa1-bbab2a035a53"),
            ("x-client-request-id", "0199a213-81c0-7800-8aa1-bbab2a035a53"),
            ("x-codex-turn-metadata", "{\"turn_id\":\"1\"}"),
            ("openai-beta", "responses=experimental"),
        ];
        // A WebSocket is tried first; the answer is the one on which Codex falls back to HTTP, for the whole session.
        let socket = [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="), ("openai-beta", "responses_websockets=2026-02-06")];
        let tried = also(spoken(&server, "openai", &secret, "/v1/responses", &Value::Null), &socket);
        let tried = server.call(tried).await;
        assert_eq!((tried.refusal(), tried.header("connection")), ((426, "websocket_not_supported".to_owned()), Some("close")));
        assert!(server.sandbox.requests().is_empty());

        let function = |name: &str| json!({"type": "function", "name": name, "description": "d", "strict": false,
            "parameters": {"type": "object", "properties": {"cmd": {"type": "string"}}, "additionalProperties": false}});
        let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: begin_patch"});
        let message = |role: &str, kind: &str, text: &str| json!({"type": "message", "role": role,
            "content": [{"type": kind, "text": text}]});
        let history = json!([
            message("developer", "input_text", "<permissions instructions>"),
            message("user", "input_text", "<environment_context>"),
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "fix it"},
                {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I look."}], "content": null,
                "encrypted_content": "gAAAAABo"},
            message("assistant", "output_text", "I run them."),
            {"type": "function_call", "name": "shell", "arguments": "{\"cmd\":\"cargo test\"}", "call_id": "call_1"},
            {"type": "function_call_output", "call_id": "call_1", "output": "2 failed"},
            {"type": "custom_tool_call", "status": "completed", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin Patch"},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Done!"},
            {"type": "local_shell_call", "call_id": "call_3", "status": "completed",
                "action": {"type": "exec", "command": ["ls"], "timeout_ms": null}},
            {"type": "function_call_output", "call_id": "call_3", "output": [{"type": "input_text", "text": "a.rs"}]},
        ]);
        let turn = json!({
            "model": "sandbox-mini", "instructions": "You are Codex.", "input": history,
            "tools": [
                function("shell"), function("update_plan"), {"type": "local_shell"},
                {"type": "custom", "name": "apply_patch", "description": "d", "format": grammar},
                {"type": "namespace", "name": "mcp__docs", "description": "d", "tools": [function("find")]},
                {"type": "tool_search", "execution": "client", "description": "d", "parameters": {"type": "object"}},
            ],
            "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"effort": "medium", "summary": "auto"},
            "store": false, "stream": true, "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "0199a213-81c0-7800-8aa1-bbab2a035a53", "text": {"verbosity": "low"},
            "client_metadata": {"x-codex-installation-id": "11111111-1111-1111-1111-111111111111"},
        });
        let text = as_if_it_were_the_provider(&server, &secret, ("/v1/responses", &headers), &turn).await;
        assert!(text.contains("event: response.created") && text.contains("event: response.completed"), "{text}");
        let entry = server.entries(&id).await.pop().unwrap();
        assert_eq!((&entry["usage_source"], &entry["outcome"], &entry["operation"]),
            (&json!("reported"), &json!("completed"), &json!("responses")), "{entry}");
        let compacted = json!({"model": "sandbox-mini", "instructions": "You are Codex.", "input": history,
            "tools": turn["tools"], "parallel_tool_calls": true, "reasoning": turn["reasoning"], "text": turn["text"]});
        as_if_it_were_the_provider(&server, &secret, ("/v1/responses/compact", &headers), &compacted).await;
        let models = spoken(&server, "openai", &secret, "/v1/models?client_version=0.130.0", &Value::Null);
        assert_eq!(server.call(also(models, &headers)).await.status, 200);

        // What the provider would run for it is the operator's to allow, and to bound where there is a cap.
        let searches = with(turn, &json!({"tools": [{"type": "web_search", "external_web_access": false}]}));
        let ask = async |secret: &str| server.post(secret, "/v1/responses", &searches).await.refusal();
        assert_eq!(ask(&secret).await, (403, "feature_not_allowed".to_owned()));
        let (_, may) = server.mint(with(agents_key(), &json!({"hosted_tools": ["web_search"]}))).await;
        assert_eq!(ask(&may).await, (403, "feature_unpriced".to_owned()));
        let (_, free) = server.mint(json!({"hosted_tools": ["web_search"]})).await;
        assert_eq!(ask(&free).await.0, 200);
    }
}
