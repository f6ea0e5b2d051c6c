//! The life of a response, from its making to its end.

use super::{KEY, Running, json_of, start, with};
use axum::http::StatusCode;
use serde_json::{Value, json};

const PATH: &str = "/v1/responses";

fn ask(model: &str, more: &Value) -> Value {
    with(json!({"model": model, "input": "hello there"}), more)
}

async fn make(run: &Running, model: &str, more: &Value) -> Value {
    let (status, made) = run.post(PATH, ask(model, more)).await;
    assert_eq!(status, StatusCode::OK, "{made}");
    made
}

fn path(made: &Value, below: &str) -> String {
    format!("{PATH}/{}{below}", made["id"].as_str().unwrap())
}

fn error(refused: &(StatusCode, Value)) -> (u16, &str) {
    (refused.0.as_u16(), refused.1["error"]["message"].as_str().unwrap())
}

async fn events(run: &Running, more: &Value, model: &str) -> Vec<Value> {
    let events = run.events(PATH, ask(model, &with(json!({"stream": true}), more))).await;
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    let kinds = events.iter().map(|event| event["type"].as_str().unwrap());
    let mut kinds: Vec<&str> = kinds.map(|kind| kind.trim_start_matches("response.")).collect();
    kinds.dedup();
    kinds
}

#[tokio::test]
async fn a_response_is_kept_for_the_key_that_made_it_and_for_no_other() {
    let run = start().await;
    let made = make(&run, "sandbox-mini", &json!({})).await;
    let (status, read) = run.call("GET", &path(&made, "")).await;
    assert_eq!((status, &read), (StatusCode::OK, &made));
    let gone = format!("Response with id '{}' not found.", made["id"].as_str().unwrap());
    for (method, below) in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")] {
        let refused = run.call_as("sk-another", method, &path(&made, below), &Value::Null).await;
        assert_eq!(error(&refused), (404, gone.as_str()), "{method} {below}");
    }
    let (_, deleted) = run.call("DELETE", &path(&made, "")).await;
    assert_eq!(deleted, json!({"id": made["id"], "object": "response", "deleted": true}));
    assert_eq!(error(&run.call("GET", &path(&made, "")).await), (404, gone.as_str()));
    let unkept = make(&run, "sandbox-mini", &json!({"store": false})).await;
    assert_eq!(run.call("GET", &path(&unkept, "")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].requests, 2, "only making one costs");
}

#[tokio::test]
async fn a_later_turn_pays_for_the_earlier_ones() {
    let run = start().await;
    let first = make(&run, "sandbox-mini", &json!({"instructions": "Be brief and to the point."})).await;
    let more = json!({"previous_response_id": first["id"]});
    let second = make(&run, "sandbox-mini", &more).await;
    let third = make(&run, "sandbox-mini", &json!({"previous_response_id": second["id"]})).await;
    let input = |made: &Value| made["usage"]["input_tokens"].as_u64().unwrap();
    // Six tokens of a turn's input and sixteen of its output; instructions do not go over.
    assert_eq!((input(&second), input(&third)), (6 + 16 + 6, 2 * (6 + 16) + 6));
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].input_tokens, input(&first) + 28 + 50);
    let (_, counted) = run.post("/v1/responses/input_tokens", ask("sandbox-mini", &more)).await;
    assert_eq!(counted, json!({"object": "response.input_tokens", "input_tokens": 28}));
    let refused = run.call_as("sk-another", "POST", PATH, &ask("sandbox-mini", &more)).await;
    assert_eq!(refused.1["error"]["code"], "previous_response_not_found");
    let told = format!("Previous response with id '{}' not found.", first["id"].as_str().unwrap());
    assert_eq!(error(&refused), (400, told.as_str()));
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].requests, 3, "counting and refusing are free");
}

#[tokio::test]
async fn items_are_listed_and_can_be_referred_to() {
    let run = start().await;
    let input = json!([
        {"role": "user", "content": "one"}, {"type": "message", "role": "assistant", "content": "two"},
        {"role": "user", "content": [{"type": "input_text", "text": "three"}]},
    ]);
    let made = make(&run, "sandbox-mini", &json!({"input": input})).await;
    let list = async |query: &str| run.call("GET", &path(&made, &format!("/input_items{query}"))).await.1;
    let all = list("?order=asc").await;
    let texts: Vec<&Value> =
        all["data"].as_array().unwrap().iter().map(|item| &item["content"][0]["text"]).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert_eq!((&all["object"], &all["has_more"]), (&json!("list"), &json!(false)));
    let newest = list("?limit=2").await;
    assert_eq!((&newest["first_id"], &newest["has_more"]), (&all["data"][2]["id"], &json!(true)));
    let rest = list(&format!("?limit=2&after={}", newest["last_id"].as_str().unwrap())).await;
    assert_eq!((&rest["data"][0], &rest["has_more"]), (&all["data"][0], &json!(false)));
    let said = &made["output"][0]["id"];
    let referring = json!({"input": [{"type": "item_reference", "id": said}]});
    let (plain, referred) =
        (make(&run, "sandbox-mini", &json!({})).await, make(&run, "sandbox-mini", &referring).await);
    assert!(referred["usage"]["input_tokens"].as_u64() > plain["usage"]["input_tokens"].as_u64());
    let refused = run.call_as("sk-another", "POST", PATH, &ask("sandbox-mini", &referring)).await;
    let told = format!("Item with id '{}' not found.", said.as_str().unwrap());
    assert_eq!((error(&refused), &refused.1["error"]["param"]), ((404, told.as_str()), &json!("input")));
}

#[tokio::test]
async fn a_background_response_is_queued_and_complete_when_it_is_read() {
    let run = start().await;
    let background = json!({"background": true});
    let queued = make(&run, "sandbox-mini+polls=1", &background).await;
    assert_eq!(
        (&queued["status"], &queued["usage"], &queued["output"]),
        (&json!("queued"), &Value::Null, &json!([]))
    );
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].output_tokens, 16, "the work goes on by itself");
    let read = async || run.call("GET", &path(&queued, "")).await.1;
    assert_eq!(read().await["status"], "in_progress");
    let complete = read().await;
    assert_eq!((&complete["status"], &complete["usage"]["output_tokens"]), (&json!("completed"), &json!(16)));
    assert_eq!(run.call("POST", &path(&queued, "/cancel")).await.1, complete, "too late");
    let queued = make(&run, "sandbox-mini", &background).await;
    for (method, below) in [("POST", "/cancel"), ("POST", "/cancel"), ("GET", "")] {
        let (status, cancelled) = run.call(method, &path(&queued, below)).await;
        assert_eq!((status, &cancelled["status"]), (StatusCode::OK, &json!("cancelled")));
    }
    let plain = make(&run, "sandbox-mini", &json!({})).await;
    let refused = run.call("POST", &path(&plain, "/cancel")).await;
    assert_eq!(error(&refused), (400, "Cannot cancel a synchronous response."));
    let refused = run.post(PATH, ask("sandbox-mini", &json!({"background": true, "store": false}))).await;
    assert_eq!((refused.0, &refused.1["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("store")));
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].requests, 3);
}

#[tokio::test]
async fn a_stream_can_be_read_again_from_any_event_on() {
    let run = start().await;
    for more in [json!({}), json!({"background": true})] {
        let first = events(&run, &more, "sandbox-mini+hidden_reasoning=3,searches=1").await;
        let again = async |after: usize| {
            let path = path(&first[0]["response"], &format!("?stream=true&starting_after={after}"));
            let request = run.request("GET", &path).header("authorization", format!("Bearer {KEY}"));
            let text = super::text_of(run.send(request, &Value::Null).await).await.unwrap();
            let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
            data.map(|event| serde_json::from_str(event).unwrap()).collect::<Vec<Value>>()
        };
        for after in [0, 2, 12, 15, first.len() - 2] {
            assert_eq!(again(after).await, first[after + 1..], "{after}");
        }
    }
    run.idle().await;
    let bill = &run.sandbox.bill().models["sandbox-mini"];
    assert_eq!((bill.requests, bill.output_tokens), (2, 2 * (16 + 3)));
}

#[tokio::test]
async fn a_background_stream_is_billed_whole_when_nobody_reads_it() {
    let run = start().await;
    for (model, tokens) in [("sandbox-mini+tokens=50,cut=5", 0), ("sandbox-large+tokens=50,cut=6", 50)] {
        let in_background = json!({"stream": true, "background": tokens > 0});
        let response = run.send(run.keyed(PATH), &ask(model, &in_background)).await;
        assert!(super::text_of(response).await.is_err());
        run.idle().await;
        let base = model.split_once('+').unwrap().0;
        assert!(run.sandbox.bill().models[base].output_tokens.abs_diff(tokens) <= 2, "{model}");
    }
}

#[tokio::test]
async fn what_hosted_tools_did_comes_before_the_words() {
    let run = start().await;
    let more = json!({"reasoning": {"summary": "auto"}, "include": ["reasoning.encrypted_content"]});
    let model = "sandbox-rates+hidden_reasoning=5,searches=2,containers=1";
    let made = make(&run, model, &more).await;
    let items = made["output"].as_array().unwrap();
    let types: Vec<&str> = items.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        ["reasoning", "web_search_call", "web_search_call", "code_interpreter_call", "message"]
    );
    assert!(items[0]["encrypted_content"].is_string() && items[3]["container_id"].is_string());
    assert_eq!(made["usage"]["output_tokens_details"]["reasoning_tokens"], 5);
    let bill = run.sandbox.bill().models["sandbox-rates"].clone();
    assert_eq!((bill.searches, bill.containers), (2, 1));
    // A request, searches, a container, six tokens in, sixteen out, five of reasoning.
    assert_eq!(bill.cost_usd.as_nano(), 100_000 + 20_000_000 + 30_000_000 + 6_000 + 80_000 + 35_000);
    let streamed = events(&run, &more, model).await;
    insta::assert_snapshot!(kinds(&streamed).join(" "), @"created in_progress output_item.added reasoning_summary_part.added reasoning_summary_text.delta reasoning_summary_text.done reasoning_summary_part.done output_item.done output_item.added web_search_call.in_progress web_search_call.searching web_search_call.completed output_item.done output_item.added web_search_call.in_progress web_search_call.searching web_search_call.completed output_item.done output_item.added code_interpreter_call.in_progress code_interpreter_call_code.delta code_interpreter_call_code.done code_interpreter_call.interpreting code_interpreter_call.completed output_item.done output_item.added content_part.added output_text.delta output_text.done content_part.done output_item.done completed");
}

#[tokio::test]
async fn a_response_may_decline_fail_or_call_a_function() {
    let run = start().await;
    let declined = events(&run, &json!({}), "sandbox-mini+refusal").await;
    assert!(kinds(&declined).contains(&"refusal.delta") && kinds(&declined).contains(&"refusal.done"));
    let last = &declined.last().unwrap()["response"];
    assert_eq!(last["output"][0]["content"][0]["type"], "refusal");
    let failed = events(&run, &json!({}), "sandbox-mini+fail").await;
    let last = failed.last().unwrap();
    assert_eq!(
        (&last["type"], &last["response"]["error"]["code"]),
        (&json!("response.failed"), &json!("server_error"))
    );
    assert_eq!(make(&run, "sandbox-mini+fail", &json!({})).await["status"], "failed");
    let incomplete = events(&run, &json!({"max_output_tokens": 2}), "sandbox-mini").await;
    assert_eq!(incomplete.last().unwrap()["type"], "response.incomplete");
    let tools = json!({
        "tools": [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}],
        "tool_choice": "required", "input": [{"role": "user", "content": "hi"}],
    });
    let called = events(&run, &tools, "sandbox-mini").await;
    assert!(kinds(&called).contains(&"function_call_arguments.delta"));
    let (_, chat) = run.post("/v1/chat/completions", super::chat("sandbox-mini+refusal")).await;
    assert!(
        chat["choices"][0]["message"]["content"].is_null()
            && chat["choices"][0]["message"]["refusal"].is_string()
    );
}

#[tokio::test]
async fn a_conversation_is_compacted_and_goes_on() {
    let run = start().await;
    let input = json!([{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]);
    let (_, made) = run.post("/v1/responses/compact", ask("sandbox-mini", &json!({"input": input}))).await;
    assert_eq!(made["object"], "response.compaction");
    let output = made["output"].as_array().unwrap();
    let types: Vec<&str> = output.iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["message", "compaction"]);
    assert_eq!(
        run.sandbox.bill().models["sandbox-mini"].output_tokens,
        made["usage"]["output_tokens"].as_u64().unwrap()
    );
    make(&run, "sandbox-mini", &json!({"input": output})).await;
    let request = run.request("GET", &path(&made, "")).header("authorization", format!("Bearer {KEY}"));
    assert_eq!(json_of(run.send(request, &Value::Null).await).await.0, StatusCode::NOT_FOUND);
}
