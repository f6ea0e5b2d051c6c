//! What a request of Google's asks for.

use super::super::{read, splice};
use super::*;
use crate::provider::Dialect;
use crate::provider::operation::{Matched, find};
use http::Method;

fn matched(action: &'static str) -> Matched<'static> {
    find(&Method::POST, action, Dialect::Gemini).unwrap()
}

const PATH: &str = "/v1beta/models/gemini-3:generateContent";

fn ask(members: &str) -> Result<Ask, AskError> {
    read(matched(PATH).row, format!("{{{members}}}").as_bytes())
}

fn part(part: &str) -> Ask {
    ask(&format!(r#""contents":[{{"role":"user","parts":[{part}]}}]"#)).unwrap()
}

fn features(ask: &Ask) -> Vec<Feature> {
    ask.features.iter().collect()
}

#[test]
fn a_plain_generation_asks_for_little() {
    let one = part(r#"{"text":"hello"}"#);
    assert!(features(&one).is_empty() && one.unknown_fields.is_empty() && !one.input.beyond_body);
    assert_eq!((one.input.messages, one.output.candidates, one.stream), (1, 1, false));
    assert!((5..40).contains(&one.input.text_bytes));
    let stream = "/v1beta/models/gemini-3:streamGenerateContent";
    let streamed = read(matched(stream).row, br#"{"contents":[]}"#).unwrap();
    assert!(streamed.stream && streamed.features.contains(Feature::Streaming));
}

#[test]
fn both_spellings_are_read_and_never_both_at_once() {
    for (bound, candidates) in
        [("maxOutputTokens", "candidateCount"), ("max_output_tokens", "candidate_count")]
    {
        let config = format!(r#""generation_config":{{"{bound}":7,"{candidates}":3}}"#);
        let one = ask(&config).unwrap();
        assert_eq!((one.output.bounds[0].tokens, one.output.candidates), (7, 3));
    }
    for twice in [
        r#""generationConfig":{},"generation_config":{}"#,
        r#""generationConfig":{"maxOutputTokens":1,"max_output_tokens":9}"#,
        r#""contents":[{"parts":[{"inlineData":{},"inline_data":{}}]}]"#,
        r#""tools":[{"googleSearch":{},"google_search":{}}]"#,
    ] {
        let Err(AskError::Field { problem, .. }) = ask(twice) else { panic!("{twice}") };
        assert_eq!(problem, FieldProblem::SpeltTwice, "{twice}");
    }
    for variant in [
        r#""GenerationConfig":{}"#,
        r#""generationConfig":{"MaxOutputTokens":1}"#,
        r#""contents":[{"Parts":[]}]"#,
        r#""contents":[{"parts":[{"inline_Data":{}}]}]"#,
    ] {
        let Err(AskError::Field { problem, .. }) = ask(variant) else { panic!("{variant}") };
        assert!(matches!(problem, FieldProblem::CaseVariant(_)), "{variant}");
    }
}

#[test]
fn a_bound_is_put_where_the_configuration_is() {
    for (body, given) in [
        ("{}", r#"{"generationConfig":{"maxOutputTokens":5}}"#),
        (r#"{"contents":[]}"#, r#"{"generationConfig":{"maxOutputTokens":5},"contents":[]}"#),
        (r#"{"generation_config":null}"#, r#"{"generation_config":{"maxOutputTokens":5}}"#),
        (r#"{"generationConfig":{}}"#, r#"{"generationConfig":{"maxOutputTokens":5}}"#),
        (r#"{"generationConfig":{"seed":1}}"#, r#"{"generationConfig":{"maxOutputTokens":5,"seed":1}}"#),
        (
            r#"{"generationConfig":{"max_output_tokens":null}}"#,
            r#"{"generationConfig":{"max_output_tokens":5}}"#,
        ),
    ] {
        let one = read(matched(PATH).row, body.as_bytes()).unwrap();
        let change = one.bound_splice("max_tokens", 5);
        assert_eq!(change.field, "generationConfig.maxOutputTokens");
        assert_eq!(splice(body.as_bytes(), vec![change]).unwrap(), given);
    }
}

#[test]
fn media_are_read_by_their_type_and_place() {
    let payload = "A".repeat(5000);
    let inline =
        |kind: &str| part(&format!(r#"{{"inlineData":{{"mimeType":"{kind}","data":"{payload}"}}}}"#));
    let picture = inline("image/png");
    assert_eq!((features(&picture), picture.input.images), (vec![Feature::Images], 1));
    assert!(!picture.input.beyond_body && picture.input.text_bytes < 200);
    for (kind, feature) in [
        ("audio/wav", Feature::Audio),
        ("video/mp4", Feature::Images),
        ("application/pdf", Feature::Files),
        ("", Feature::Files),
    ] {
        let one = inline(kind);
        assert_eq!(features(&one), [feature], "{kind}");
        assert!(one.input.beyond_body && one.input.text_bytes < 200, "{kind}");
    }
    let google = "https://generativelanguage.googleapis.com/v1beta/files/abc";
    let others = [
        "HTTPS://GenerativeLanguage.googleapis.com:443/v1beta/files/abc",
        "https://generativelanguage.googleapis.com./v1beta//files/abc",
        "https://x@generativelanguage.googleapis.com/files/abc",
        "https://%67enerativelanguage.googleapis.com/v1beta/files/abc",
        "https:\\\\generativelanguage.googleapis.com/files/abc",
        "/v1beta/files/abc",
    ];
    for uri in [google, "files/abc"].into_iter().chain(others) {
        let kept = part(&format!(r#"{{"file_data":{{"file_uri":"{uri}"}}}}"#));
        assert_eq!(
            (kept.objects[0].field.as_str(), kept.objects[0].id.as_str()),
            ("fileData.fileUri", "files/abc"),
            "{uri}"
        );
        assert_eq!(features(&kept), [Feature::Files]);
    }
    for uri in ["https://youtu.be/x", "gs://b/files/o", "https://evil.example/v1beta/files/abc"] {
        let remote = part(&format!(r#"{{"fileData":{{"fileUri":"{uri}","mimeType":"image/png"}}}}"#));
        assert_eq!(features(&remote), [Feature::Images, Feature::RemoteUrls], "{uri}");
        assert!(remote.objects.is_empty() && remote.input.beyond_body);
    }
    let unknown = part(r#"{"hologram":{"url":"https://x"}}"#);
    assert_eq!(unknown.unknown_fields, ["contents.parts.hologram"]);
    assert!(unknown.input.beyond_body && unknown.features.contains(Feature::RemoteUrls));
    let inner =
        r#"{"functionResponse":{"name":"f","parts":[{"inlineData":{"mimeType":"image/png","data":""}}]}}"#;
    assert_eq!(part(inner).input.images, 1);
}

#[test]
fn tools_are_the_clients_or_the_providers() {
    let one =
        ask(r#""tools":[{"functionDeclarations":[{"name":"f"},{"name":"g"}]},{"computerUse":{}}]"#).unwrap();
    assert!(one.features.contains(Feature::Tools) && one.hosted_tools.is_empty());
    assert_eq!(one.input.tools, 3);
    let tools = r#""tools":[{"google_search":{},"codeExecution":{}},{"urlContext":{}},{"brandNew":{}},
        {"fileSearch":{"fileSearchStoreNames":["fileSearchStores/a"]}}]"#;
    let one = ask(tools).unwrap();
    let kinds: Vec<_> = one.hosted_tools.iter().map(|tool| tool.kind.as_str()).collect();
    assert_eq!(kinds, ["web_search", "code_execution", "url_context", "brandNew", "file_search"]);
    assert_eq!(one.objects[0].id, "fileSearchStores/a");
    assert!(one.features.contains(Feature::RemoteUrls) && !one.features.contains(Feature::Tools));
}

#[test]
fn what_is_kept_and_what_it_costs_is_seen() {
    let one = ask(r#""cachedContent":"cachedContents/c","store":true,"serviceTier":"PRIORITY",
        "generationConfig":{"responseModalities":["audio"]}"#)
    .unwrap();
    assert_eq!(
        (one.objects[0].field.as_str(), one.objects[0].id.as_str()),
        ("cachedContent", "cachedContents/c")
    );
    assert_eq!(one.service_tier.as_deref(), Some("priority"));
    assert!(one.output.sound && one.input.beyond_body);
    assert_eq!(features(&one), [Feature::Audio, Feature::Store]);
}

#[test]
fn a_count_reads_what_it_counts() {
    let row = matched("/v1/models/gemini-3:countTokens").row;
    let body = br#"{"generateContentRequest":{"model":"models/gemini-3","contents":[{"parts":[{"text":"x"},
        {"fileData":{"fileUri":"files/abc"}}]}]}}"#;
    let one = read(row, body).unwrap();
    assert_eq!((one.objects.len(), one.models[0].name.as_str()), (1, "gemini-3"));
    assert!(read(row, br#"{"contents":[{"parts":[1]}]}"#).is_err());
}

#[test]
fn forms_that_cannot_be_judged_are_refused() {
    for members in [
        r#""contents":"x""#,
        r#""contents":["x"]"#,
        r#""contents":[{"parts":"x"}]"#,
        r#""generationConfig":[]"#,
        r#""generationConfig":{"maxOutputTokens":"10"}"#,
        r#""generationConfig":{"maxOutputTokens":-1}"#,
        r#""generationConfig":{"candidateCount":0}"#,
        r#""generationConfig":{"candidateCount":1000}"#,
        r#""tools":"x""#,
        r#""tools":[1]"#,
        r#""model":1"#,
        r#""model":"models/http://evil""#,
        r#""serviceTier":1"#,
        r#""base_url":"http://evil""#,
    ] {
        assert!(ask(members).is_err(), "{members}");
    }
}
