//! What a response, a compaction and a count ask for.

use super::super::{Named, read};
use super::*;
use crate::provider::Dialect;
use crate::provider::operation::find;
use http::Method;

fn at(path: &str, members: &str) -> Result<Ask, AskError> {
    let row = find(&Method::POST, path, Dialect::OpenAi).unwrap().row;
    read(row, format!(r#"{{"model":"m",{members}}}"#).as_bytes())
}

fn ask(members: &str) -> Result<Ask, AskError> {
    at("/v1/responses", members)
}

fn items(items: &str) -> Ask {
    ask(&format!(r#""store":false,"input":[{items}]"#)).unwrap()
}

fn features(ask: &Ask) -> Vec<Feature> {
    ask.features.iter().collect()
}

fn named(ask: &Ask) -> Vec<&str> {
    ask.objects.iter().map(|Named { id, .. }| id.as_str()).collect()
}

#[test]
fn a_plain_response_asks_for_little_and_is_kept() {
    let one = ask(r#""input":"hello","max_output_tokens":9,"stream":true"#).unwrap();
    assert_eq!(features(&one), [Feature::Streaming, Feature::Store]);
    assert_eq!((one.input.messages, one.output.bounds[0].tokens), (1, 9));
    assert!(one.report_usage.is_none() && one.unknown_fields.is_empty() && !one.input.beyond_body);
    assert!(features(&ask(r#""input":"x","store":false"#).unwrap()).is_empty());
    assert!(features(&at("/v1/responses/compact", r#""input":"x""#).unwrap()).is_empty());
    let counted = at("/v1/responses/input_tokens", r#""input":"x","previous_response_id":"resp_1""#);
    assert_eq!(named(&counted.unwrap()), ["resp_1"]);
}

#[test]
fn what_is_only_named_must_be_the_callers_and_what_is_written_out_nobody_elses() {
    for only_named in [
        r#"{"type":"item_reference","id":"msg_1"}"#,
        r#"{"id":"msg_1"}"#,
        r#"{"type":"reasoning","id":"msg_1","summary":[{"type":"summary_text","text":"x"}]}"#,
        r#"{"type":"message","id":"msg_1","role":"assistant","content":[]}"#,
        r#"{"type":"image_generation_call","id":"msg_1","status":"completed"}"#,
    ] {
        let one = items(only_named);
        assert_eq!((named(&one), one.mentions.len()), (vec!["msg_1"], 0), "{only_named}");
        assert!(one.input.beyond_body);
    }
    for written_out in [
        r#"{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"gAAA"}"#,
        r#"{"type":"message","id":"rs_1","role":"assistant","content":[{"type":"output_text","text":"x"}]}"#,
        r#"{"type":"function_call","id":"rs_1","call_id":"c","name":"f","arguments":"{}"}"#,
        r#"{"type":"mcp_approval_response","approval_request_id":"rs_1","approve":true}"#,
    ] {
        let one = items(written_out);
        assert_eq!((named(&one), one.mentions.clone()), (vec![], vec!["rs_1".to_owned()]), "{written_out}");
        assert!(!one.input.beyond_body);
    }
    let many = ask(
        r#""previous_response_id":"resp_1","conversation":{"id":"conv_1"},"prompt":{"id":"pmpt_1"},
           "input":[{"type":"code_interpreter_call","id":"ci_1","code":"1","container_id":"cntr_1"},
            {"role":"user","content":[{"type":"input_file","file_id":"file_1"},{"type":"input_image","file_id":"file_2"}]},
            {"type":"computer_call_output","call_id":"c","output":{"type":"computer_screenshot","file_id":"file_3"}}]"#,
    );
    let mut ids: Vec<String> = named(&many.unwrap()).into_iter().map(str::to_owned).collect();
    ids.sort();
    assert_eq!(ids, ["cntr_1", "conv_1", "file_1", "file_2", "file_3", "pmpt_1", "resp_1"]);
}

#[test]
fn pictures_sound_and_files_are_read() {
    let payload = "A".repeat(5000);
    let part = |part: &str| items(&format!(r#"{{"role":"user","content":[{part}]}}"#));
    let picture = part(&format!(r#"{{"type":"input_image","image_url":"data:image/png;base64,{payload}"}}"#));
    assert_eq!((features(&picture), picture.input.images), (vec![Feature::Images], 1));
    assert!(!picture.input.beyond_body && picture.input.text_bytes < 200);
    let remote = part(r#"{"type":"input_image","image_url":"https://x"}"#);
    assert_eq!(features(&remote), [Feature::Images, Feature::RemoteUrls]);
    let file = part(&format!(r#"{{"type":"input_file","filename":"a.pdf","file_data":"{payload}"}}"#));
    assert_eq!(features(&file), [Feature::Files]);
    assert!(file.input.beyond_body && file.input.text_bytes < 200);
    let fetched = part(r#"{"type":"input_file","file_url":"https://x"}"#);
    assert_eq!(features(&fetched), [Feature::Files, Feature::RemoteUrls]);
    let sound =
        part(&format!(r#"{{"type":"input_audio","input_audio":{{"data":"{payload}","format":"wav"}}}}"#));
    assert!(features(&sound) == [Feature::Audio] && sound.input.text_bytes < 200);
    let made = items(r#"{"type":"image_generation_call","id":"ig_1","result":"iVBORw0K"}"#);
    assert_eq!((features(&made), made.input.images), (vec![Feature::Images], 1));
    let larger = items(&format!(r#"{{"type":"image_generation_call","id":"ig_1","result":"{payload}"}}"#));
    assert_eq!(
        (larger.input.images, larger.input.text_bytes),
        (1, made.input.text_bytes),
        "its bytes are a picture's, and no text"
    );
    let unknown = part(r#"{"type":"hologram","url":"https://x"}"#);
    assert!(unknown.input.beyond_body && features(&unknown) == [Feature::RemoteUrls]);
    assert_eq!(unknown.unknown_fields.len(), 1);
}

#[test]
fn tools_are_the_clients_or_the_providers_and_one_bound_holds_for_all() {
    let tools = r#""tools":[{"type":"function","name":"f"},{"type":"custom","name":"g"},{"type":"local_shell"},
        {"type":"shell","environment":{"type":"local"}},{"type":"apply_patch"}]"#;
    let one = ask(tools).unwrap();
    assert!(one.features.contains(Feature::Tools) && one.hosted_tools.is_empty());
    let tools = r#""max_tool_calls":3,"tools":[{"type":"web_search"},{"type":"shell"},{"type":"image_generation"},
        {"type":"code_interpreter","container":{"type":"auto","file_ids":["file_1"]}}]"#;
    let one = ask(tools).unwrap();
    let hosted: Vec<_> = one.hosted_tools.iter().map(|tool| (tool.kind.as_str(), tool.max_uses)).collect();
    let bound = Some(3);
    assert_eq!(
        hosted,
        [("web_search", bound), ("shell", bound), ("image_generation", bound), ("code_interpreter", bound)]
    );
    assert_eq!(named(&one), ["file_1"]);
}

#[test]
fn groups_of_tools_and_tools_that_an_item_loads_are_tools_like_others() {
    let group = |inside: &str| format!(r#"{{"type":"namespace","name":"n","tools":[{inside}]}}"#);
    let functions = r#"{"type":"function","name":"f"},{"type":"custom","name":"g"}"#;
    let search = r#"{"type":"tool_search","execution":"client"}"#;
    let one = ask(&format!(r#""tools":[{},{search}]"#, group(functions))).unwrap();
    assert!(one.hosted_tools.is_empty() && one.input.tools == 4, "{:?}", one.hosted_tools);
    let hosted = |tools: &str| {
        let loaded = items(&format!(r#"{{"type":"tool_search_output","call_id":"c","tools":[{tools}]}}"#));
        let given = ask(&format!(r#""tools":[{tools}]"#)).unwrap();
        let kinds = |ask: &Ask| ask.hosted_tools.iter().map(|tool| tool.kind.clone()).collect::<Vec<_>>();
        assert_eq!(kinds(&loaded), kinds(&given), "{tools}");
        kinds(&given)
    };
    assert_eq!(hosted(&group(functions)), Vec::<String>::new());
    assert_eq!(hosted(&group(r#"{"type":"web_search"}"#)), ["namespace"]);
    assert_eq!(hosted(&group(&group(functions))), ["namespace"]);
    assert_eq!(hosted(r#"{"type":"namespace"},{"type":"tool_search"}"#), ["namespace", "tool_search"]);
    assert_eq!(hosted(r#"{"type":"mcp","server_url":"https://x"}"#), ["mcp"]);
    assert!(items(r#"{"type":"mcp_list_tools","tools":[{"name":"f"}]}"#).hosted_tools.is_empty());
}

#[test]
fn what_changes_the_price_or_the_input_is_seen() {
    let goes_on = ask(r#""background":true"#).unwrap();
    assert!(goes_on.in_background && goes_on.unbounded_prices.is_empty());
    let cut = ask(r#""truncation":"auto""#).unwrap();
    assert!(cut.features.contains(Feature::Truncation));
    assert!(!ask(r#""truncation":"disabled""#).unwrap().features.contains(Feature::Truncation));
    assert!(ask(r#""prompt_cache_options":{"ttl":"12h"}"#).unwrap().input.cache_1h);
    assert!(!ask(r#""prompt_cache_options":{"ttl":"30m"}"#).unwrap().input.cache_1h);
    assert!(ask(r#""moderation":{"model":"x"}"#).is_err());
}

#[test]
fn forms_that_cannot_be_judged_are_refused() {
    for members in [
        r#""input":1"#,
        r#""input":{}"#,
        r#""input":["x"]"#,
        r#""input":[{"id":1}]"#,
        r#""input":[{"content":1}]"#,
        r#""input":[{"content":[1]}]"#,
        r#""store":"no""#,
        r#""max_tool_calls":-1"#,
        r#""max_output_tokens":"10""#,
        r#""previous_response_id":1"#,
    ] {
        assert!(ask(members).is_err(), "{members}");
    }
}
