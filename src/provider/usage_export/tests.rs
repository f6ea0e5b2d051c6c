//! Small reports in each format, written for these tests.

use super::*;

const OPENAI_USAGE: &str = r#"{
  "object": "page",
  "data": [
    {"object": "bucket", "start_time": 1793491200, "end_time": 1793577600, "results": [
      {"object": "organization.usage.completions.result", "input_tokens": 1000, "output_tokens": 500,
       "input_cached_tokens": 800, "num_model_requests": 5, "project_id": null, "user_id": null, "api_key_id": "key_a",
       "model": "gpt-4o-mini-2024-07-18", "batch": null},
      {"object": "organization.usage.completions.result", "input_tokens": 20, "output_tokens": 1,
       "input_cached_tokens": 0, "num_model_requests": 1, "api_key_id": "key_b", "model": "gpt-4o-mini"},
      {"object": "organization.usage.embeddings.result", "input_tokens": 7, "num_model_requests": 1,
       "model": "text-embedding-3-small"}
    ]},
    {"object": "bucket", "start_time": 1793577600, "end_time": 1793664000, "results": []}
  ],
  "has_more": false, "next_page": null
}"#;
const OPENAI_COSTS: &str = r#"{"object": "page", "data": [
    {"object": "bucket", "start_time": 1793491200, "end_time": 1793577600, "results": [
      {"object": "organization.costs.result", "amount": {"value": 0.06, "currency": "usd"}, "line_item": "x, input"},
      {"object": "organization.costs.result", "amount": {"value": 6.2e-05, "currency": "usd"}, "line_item": null}]}],
  "has_more": false}"#;
const OPENAI_CSV: &str = "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,api_key_id,model,input_tokens,output_tokens,input_cached_tokens
1793491200,1793491260,2026-11-01T00:00:00+00:00,2026-11-01T00:01:00+00:00,proj_a,3.0,key_a,gpt-4o,100,10,40
1793491260,1793491320,2026-11-01T00:01:00+00:00,2026-11-01T00:02:00+00:00,,,,,,,
";
const OPENAI_COST_CSV: &str =
    "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item
1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,1.25,usd,
";
const ANTHROPIC_USAGE: &str = r#"{"data": [
    {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z", "results": [
      {"uncached_input_tokens": 1500, "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
       "cache_read_input_tokens": 200, "output_tokens": 500, "server_tool_use": {"web_search_requests": 10},
       "api_key_id": null, "workspace_id": null, "model": "claude-sonnet-4-20250514", "service_tier": "standard",
       "context_window": "0-200k"}]}],
  "has_more": false, "next_page": null}"#;
const ANTHROPIC_COSTS: &str = r#"{"data": [
    {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z", "results": [
      {"currency": "USD", "amount": "123.78912", "workspace_id": null, "description": "Claude Sonnet 4 Usage - Input Tokens",
       "cost_type": "tokens", "context_window": "0-200k", "model": "claude-sonnet-4-20250514", "service_tier": "standard",
       "token_type": "uncached_input_tokens"},
      {"currency": "USD", "amount": "1", "cost_type": "web_search", "model": null}]}],
  "has_more": false, "next_page": null}"#;
const ANTHROPIC_CSV: &str = "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-11-01,claude-sonnet-4-20250514,\"ci, main\",Default,standard,≤ 200k,10,20,30,40,50,0
2026-11-01,claude-sonnet-4-20250514,other,Default,batch,≤ 200k,1,0,0,0,2,0
";
const ANTHROPIC_COST_CSV: &str = "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type
2026-11-01,Claude Sonnet 4,Default,ci,message,≤ 200k,input_no_cache,0.05,0.05,token
2026-11-01,Claude Sonnet 4,Default,ci,message,≤ 200k,output,0.10,0.10,token
";

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn first(model: Option<&str>) -> Key {
    (day("2026-11-01"), model.map(str::to_owned))
}

/// Requests, input, cached, written, output, nano-USD; below zero for what is not told.
fn counted(counts: [i64; 6]) -> Counted {
    let [requests, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost] =
        counts.map(|count| (count >= 0).then_some(count));
    let cost = cost.map(NanoUsd::from_nano);
    Counted { requests, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost }
}

#[test]
fn every_format_reads() {
    let sonnet = first(Some("claude-sonnet-4"));
    for (text, lines) in [
        (
            OPENAI_USAGE,
            vec![
                (first(Some("gpt-4o-mini")), counted([6, 220, 800, -1, 501, -1])),
                (first(Some("text-embedding-3-small")), counted([1, 7, 0, -1, 0, -1])),
            ],
        ),
        (OPENAI_COSTS, vec![(first(None), counted([-1, -1, -1, -1, -1, 60_062_000]))]),
        (OPENAI_CSV, vec![(first(Some("gpt-4o")), counted([3, 60, 40, -1, 10, -1]))]),
        (OPENAI_COST_CSV, vec![(first(None), counted([-1, -1, -1, -1, -1, 1_250_000_000]))]),
        (ANTHROPIC_USAGE, vec![(sonnet.clone(), counted([-1, 1500, 200, 1500, 500, -1]))]),
        (
            ANTHROPIC_COSTS,
            vec![
                (first(None), counted([-1, -1, -1, -1, -1, 10_000_000])),
                (sonnet.clone(), counted([-1, -1, -1, -1, -1, 1_237_891_200])),
            ],
        ),
        (ANTHROPIC_CSV, vec![(sonnet, counted([-1, 11, 40, 50, 52, -1]))]),
        (ANTHROPIC_COST_CSV, vec![(first(None), counted([-1, -1, -1, -1, -1, 150_000_000]))]),
    ] {
        let export = read(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(export.lines.into_iter().collect::<Vec<_>>(), lines, "{text}");
        assert_eq!(export.days.first(), Some(&day("2026-11-01")));
    }
    assert_eq!(read(OPENAI_USAGE).unwrap().days.len(), 2, "a day on which nothing was counted");
    let pages = format!("[{OPENAI_COSTS}, {OPENAI_COSTS}]");
    assert_eq!(read(&pages).unwrap().lines[&first(None)].cost, Some(NanoUsd::from_nano(120_124_000)));
}

#[test]
fn what_is_no_report_is_refused_in_words() {
    let more = OPENAI_USAGE.replace("\"has_more\": false", "\"has_more\": true");
    let long = OPENAI_USAGE.replace("1793577600, \"results\"", "1793664000, \"results\"");
    let euro = OPENAI_COSTS.replacen("usd", "eur", 1);
    for (text, why) in [
        ("", "is no usage or cost report"),
        ("a,b\n1,2\n", "is no usage or cost report"),
        ("{}", "is no usage or cost report"),
        ("{\"data\": [{}]}", "is no usage or cost report"),
        ("{\"data\": [", "the JSON does not read"),
        (&more, "put all of them into one JSON array"),
        (&long, "does not lie within one day in UTC"),
        (&euro, "an amount is in eur"),
        (&OPENAI_CSV.replace("3.0", "3.5"), "line 2: a count does not read"),
        (&ANTHROPIC_COST_CSV.replace("0.10,0.10", "x,0.10"), "line 3: no amount"),
        (&ANTHROPIC_CSV.replace("2026-11-01,claude", "1.11.26,claude"), "line 2: no day"),
    ] {
        let error = read(text).expect_err(text).to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn models_are_the_same_whatever_the_date_of_their_version() {
    for (model, name) in [
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("gpt-4o", "gpt-4o"),
        ("o3", "o3"),
        ("model-12345678x", "model-12345678x"),
        ("größe-2024-07-18", "größe"),
        ("-20250514", ""),
    ] {
        assert_eq!(without_date(model), name, "{model}");
    }
}

#[test]
fn what_differs_is_named() {
    let theirs = read(OPENAI_USAGE).unwrap();
    let line = |model: &str, counts| (first(Some(model)), counted(counts));
    let second = (day("2026-11-02"), Some("gpt-4o-mini".to_owned()));
    let ours: BTreeMap<Key, Counted> = [
        line("gpt-4o-mini", [3, 100, 800, 0, 498, 7]),
        line("gpt-4o-mini-2024-07-18", [3, 70, 0, 0, 0, 7]),
        line("whisper-1", [0, 0, 0, 0, 0, 0]),
        (second, counted([1, 5, 0, 0, 1, 1])),
        ((day("2026-11-03"), None), counted([9, 9, 9, 9, 9, 9])),
    ]
    .into();
    let one = "1%".parse().unwrap();
    let Comparison { compared, agree, differences } = compare(&theirs, &ours, one);
    assert_eq!((compared, agree), (3, 0));
    let named: Vec<_> = differences
        .iter()
        .map(|d| {
            (
                d.day.to_string(),
                d.model.as_deref().unwrap(),
                d.place,
                d.what.as_str(),
                d.theirs,
                d.ours,
                d.percent(),
            )
        })
        .collect();
    let (nov1, nov2) = (|| "2026-11-01".to_owned(), || "2026-11-02".to_owned());
    let percent = |text: &str| Some(text.to_owned());
    assert_eq!(
        named,
        [
            (nov1(), "gpt-4o-mini", Place::Both, "input_tokens", 220, 170, percent("-22.7%")),
            (nov1(), "text-embedding-3-small", Place::ProviderOnly, "requests", 1, 0, percent("-100.0%")),
            (nov1(), "text-embedding-3-small", Place::ProviderOnly, "input_tokens", 7, 0, percent("-100.0%")),
            (nov2(), "gpt-4o-mini", Place::HereOnly, "requests", 0, 1, None),
            (nov2(), "gpt-4o-mini", Place::HereOnly, "input_tokens", 0, 5, None),
            (nov2(), "gpt-4o-mini", Place::HereOnly, "output_tokens", 0, 1, None),
        ]
    );
    // Costs that name no model are compared by day.
    let costs = read(OPENAI_COSTS).unwrap();
    let ours = [line("a", [1, 1, 1, 1, 1, 60_000_000]), line("b", [1, 1, 1, 1, 1, 62_000])].into();
    assert_eq!(
        compare(&costs, &ours, "0%".parse().unwrap()),
        Comparison { compared: 1, agree: 1, differences: vec![] }
    );
}

#[test]
fn tolerances_read_and_print() {
    for (text, printed) in
        [("1%", "1%"), ("0.5%", "0.5%"), ("0%", "0%"), ("100%", "100%"), ("0.0001%", "0.0001%")]
    {
        assert_eq!(text.parse::<Tolerance>().unwrap().to_string(), printed);
    }
    for bad in ["", "1", "%", "-1%", "101%", "0.00001%", "1.%", "x%"] {
        assert_eq!(bad.parse::<Tolerance>(), Err(ToleranceError), "{bad}");
    }
}
