//! The sandbox over real sockets: what a client of a provider would see, and what its bill says of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails here")]

mod azure;
mod files;
mod media;
mod misbehaviour;
mod responses;

use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use bitting::base::Clock;
use bitting::sandbox::{Sandbox, serve};
use chrono::DateTime;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const KEY: &str = "sk-sandbox-0123456789";

struct Running {
    sandbox: Sandbox,
    address: SocketAddr,
    client: Client<HttpConnector, Body>,
    stop: oneshot::Sender<()>,
}

/// A sandbox whose clock stands still, so that whole answers can be compared.
async fn start() -> Running {
    let sandbox = Sandbox::new(Clock::manual(DateTime::from_timestamp(1_780_000_000, 0).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = sandbox.clone();
    tokio::spawn(async move {
        let stopped = async { drop(stopped.await) };
        serve(listener, serving, stopped).await.unwrap();
    });
    let client = Client::builder(TokioExecutor::new()).build_http();
    Running { sandbox, address, client, stop }
}

impl Running {
    async fn send(&self, request: http::request::Builder, body: &Value) -> Response<Incoming> {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.client.request(request.body(body).unwrap()).await.unwrap()
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder().method(method).uri(format!("http://{}{path}", self.address))
    }

    fn keyed(&self, path: &str) -> http::request::Builder {
        self.request("POST", path).header("authorization", format!("Bearer {KEY}"))
    }

    /// What another key gets.
    async fn call_as(&self, key: &str, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.request(method, path).header("authorization", format!("Bearer {key}"));
        json_of(self.send(request, body).await).await
    }

    async fn call(&self, method: &str, path: &str) -> (StatusCode, Value) {
        self.call_as(KEY, method, path, &Value::Null).await
    }

    /// An upload of fields and files.
    async fn upload(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        files: &[(&str, &[u8])],
    ) -> Response<Incoming> {
        let request = self.keyed(path).header("content-type", "multipart/form-data; boundary=cut");
        self.client.request(request.body(Body::from(form(fields, files))).unwrap()).await.unwrap()
    }

    async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        json_of(self.send(self.keyed(path), &body).await).await
    }

    /// The `data:` of every event.
    async fn events(&self, path: &str, body: Value) -> Vec<String> {
        let text = text_of(self.send(self.keyed(path), &body).await).await.unwrap();
        text.lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }

    async fn idle(&self) {
        let idle = async {
            while self.sandbox.bill().in_flight > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), idle).await.unwrap();
    }
}

/// A multipart body whose boundary is `cut`.
fn form(fields: &[(&str, &str)], files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--cut\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend(part.bytes());
    }
    for (name, bytes) in files {
        let head = format!(
            "--cut\r\ncontent-disposition: form-data; name=\"{name}\"; filename=\"a.bin\"\r\ncontent-type: image/png\r\n\r\n"
        );
        body.extend(head.bytes());
        body.extend(*bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--cut--\r\n");
    body
}

async fn bytes_of(response: Response<Incoming>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn json_of(response: Response<Incoming>) -> (StatusCode, Value) {
    let status = response.status();
    (status, serde_json::from_str(&text_of(response).await.unwrap()).unwrap())
}

async fn text_of(response: Response<Incoming>) -> Result<String, hyper::Error> {
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec()).unwrap())
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hello there"}]})
}

fn with(mut body: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

#[tokio::test]
async fn chat_answers_and_the_bill_says_what_usage_says() {
    let run = start().await;
    let (status, body) = run
        .post("/v1/chat/completions", with(chat("sandbox-mini+cached=2"), &json!({"max_tokens": 4})))
        .await;
    assert_eq!(status, StatusCode::OK);
    insta::assert_json_snapshot!(body, @r##"
    {
      "choices": [
        {
          "finish_reason": "length",
          "index": 0,
          "logprobs": null,
          "message": {
            "annotations": [],
            "content": "You said: hello ",
            "refusal": null,
            "role": "assistant"
          }
        }
      ],
      "created": 1780000000,
      "id": "chatcmpl_652e68bb3400000000001",
      "model": "sandbox-mini+cached=2",
      "object": "chat.completion",
      "service_tier": "default",
      "system_fingerprint": "fp_sandbox",
      "usage": {
        "completion_tokens": 4,
        "completion_tokens_details": {
          "accepted_prediction_tokens": 0,
          "audio_tokens": 0,
          "reasoning_tokens": 0,
          "rejected_prediction_tokens": 0
        },
        "prompt_tokens": 6,
        "prompt_tokens_details": {
          "audio_tokens": 0,
          "cached_tokens": 2
        },
        "total_tokens": 10
      }
    }
    "##);
    let bill = run.sandbox.bill();
    assert_eq!(
        serde_json::to_value(&bill).unwrap(),
        json!({
            "requests": 1, "in_flight": 0, "in_flight_max": 1, "held": 0, "cost_usd": "0.00000315",
            "models": {"sandbox-mini": {
                "requests": 1, "input_tokens": 4, "cached_input_tokens": 2, "output_tokens": 4, "cost_usd": "0.00000315",
            }},
            "paths": {"/v1/chat/completions": 1},
        })
    );
}

#[tokio::test]
async fn a_chat_stream_has_role_pieces_reason_usage_and_done() {
    let run = start().await;
    let asked = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = run.events("/v1/chat/completions", with(chat("sandbox-mini+tokens=2"), &asked)).await;
    insta::assert_snapshot!(events.join("\n"), @r##"
    {"choices":[{"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"created":1780000000,"id":"chatcmpl_652e68bb3400000000001","model":"sandbox-mini+tokens=2","object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_sandbox","usage":null}
    {"choices":[{"delta":{"content":"You "},"finish_reason":null,"index":0,"logprobs":null}],"created":1780000000,"id":"chatcmpl_652e68bb3400000000001","model":"sandbox-mini+tokens=2","object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_sandbox","usage":null}
    {"choices":[{"delta":{"content":"said"},"finish_reason":null,"index":0,"logprobs":null}],"created":1780000000,"id":"chatcmpl_652e68bb3400000000001","model":"sandbox-mini+tokens=2","object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_sandbox","usage":null}
    {"choices":[{"delta":{},"finish_reason":"stop","index":0,"logprobs":null}],"created":1780000000,"id":"chatcmpl_652e68bb3400000000001","model":"sandbox-mini+tokens=2","object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_sandbox","usage":null}
    {"choices":[],"created":1780000000,"id":"chatcmpl_652e68bb3400000000001","model":"sandbox-mini+tokens=2","object":"chat.completion.chunk","service_tier":"default","system_fingerprint":"fp_sandbox","usage":{"completion_tokens":2,"completion_tokens_details":{"accepted_prediction_tokens":0,"audio_tokens":0,"reasoning_tokens":0,"rejected_prediction_tokens":0},"prompt_tokens":6,"prompt_tokens_details":{"audio_tokens":0,"cached_tokens":0},"total_tokens":8}}
    [DONE]
    "##);
    let plain =
        run.events("/v1/chat/completions", with(chat("sandbox-mini"), &json!({"stream": true}))).await;
    assert!(plain.iter().all(|event| !event.contains("usage")), "{plain:?}");
    assert_eq!(plain.len(), 1 + 16 + 1 + 1);
}

#[tokio::test]
async fn a_message_stream_has_anthropics_events() {
    let run = start().await;
    let asked = json!({"stream": true, "max_tokens": 2});
    let events = run.events("/v1/messages", with(chat("sandbox-mini+cached=1"), &asked)).await;
    insta::assert_snapshot!(events.join("\n"), @r##"
    {"message":{"content":[],"id":"msg_652e68bb3400000000001","model":"sandbox-mini+cached=1","role":"assistant","stop_reason":null,"stop_sequence":null,"type":"message","usage":{"cache_creation":{"ephemeral_1h_input_tokens":0,"ephemeral_5m_input_tokens":0},"cache_creation_input_tokens":0,"cache_read_input_tokens":1,"input_tokens":5,"output_tokens":1,"service_tier":"standard"}},"type":"message_start"}
    {"content_block":{"text":"","type":"text"},"index":0,"type":"content_block_start"}
    {"type":"ping"}
    {"delta":{"text":"You ","type":"text_delta"},"index":0,"type":"content_block_delta"}
    {"delta":{"text":"said","type":"text_delta"},"index":0,"type":"content_block_delta"}
    {"index":0,"type":"content_block_stop"}
    {"delta":{"stop_reason":"max_tokens","stop_sequence":null},"type":"message_delta","usage":{"cache_creation_input_tokens":0,"cache_read_input_tokens":1,"input_tokens":5,"output_tokens":2}}
    {"type":"message_stop"}
    "##);
}

#[tokio::test]
async fn a_response_stream_counts_its_events_and_ends_with_the_response() {
    let run = start().await;
    let asked = json!({"model": "sandbox-mini", "input": "hello", "stream": true});
    let events = run.events("/v1/responses", asked.clone()).await;
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let text: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    let last = &events.last().unwrap();
    assert_eq!(last["type"], "response.completed");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], text);
    assert_eq!(last["response"]["usage"]["output_tokens"], 16);
    let (_, cut) = run
        .post("/v1/responses", json!({"model": "sandbox-mini", "input": "x", "max_output_tokens": 1}))
        .await;
    assert_eq!(
        (&cut["status"], &cut["incomplete_details"]["reason"]),
        (&json!("incomplete"), &json!("max_output_tokens"))
    );
}

#[tokio::test]
async fn gemini_streams_as_events_and_as_an_array() {
    let run = start().await;
    let asked =
        json!({"contents": [{"parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 3}});
    let path = "/v1beta/models/sandbox-mini%2Bhidden_reasoning=5:streamGenerateContent";
    let events = run.events(&format!("{path}?alt=sse"), asked.clone()).await;
    let (_, array) = run.post(path, asked.clone()).await;
    for chunks in [
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect(),
        array.as_array().unwrap().clone(),
    ] {
        let chunks: Vec<Value> = chunks;
        assert_eq!(chunks.len(), 3);
        let last = &chunks[2];
        assert_eq!(last["candidates"][0]["finishReason"], "MAX_TOKENS");
        assert_eq!(last["usageMetadata"]["candidatesTokenCount"], 3);
        assert_eq!(last["usageMetadata"]["thoughtsTokenCount"], 5);
    }
    let (status, whole) = run.post("/v1/models/sandbox-mini:generateContent", asked).await;
    assert_eq!((status, &whole["modelVersion"]), (StatusCode::OK, &json!("sandbox-mini")));
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].output_tokens, 8 + 8 + 3);
}

#[tokio::test]
async fn legacy_completions_bill_every_candidate_made() {
    let run = start().await;
    let asked =
        json!({"model": "sandbox-large", "prompt": ["a", "b"], "n": 1, "best_of": 3, "max_tokens": 4});
    let (_, body) = run.post("/v1/completions", asked.clone()).await;
    assert_eq!(body["choices"].as_array().unwrap().len(), 2);
    assert_eq!(body["usage"]["completion_tokens"], 2 * 3 * 4);
    assert_eq!(run.sandbox.bill().models["sandbox-large"].output_tokens, 24);
    run.events("/v1/completions", with(asked, &json!({"stream": true}))).await;
    assert_eq!(run.sandbox.bill().models["sandbox-large"].output_tokens, 48);
}

#[tokio::test]
async fn embeddings_come_as_numbers_and_as_base64() {
    let run = start().await;
    let asked = json!({"model": "sandbox-embedding", "input": ["hello"], "dimensions": 4});
    let (_, numbers) = run.post("/v1/embeddings", asked.clone()).await;
    let (_, packed) = run.post("/v1/embeddings", with(asked, &json!({"encoding_format": "base64"}))).await;
    let text = packed["data"][0]["embedding"].as_str().unwrap();
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).unwrap();
    let unpacked: Vec<f32> =
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    assert_eq!(numbers["data"][0]["embedding"], json!(unpacked));
    assert_eq!(numbers["usage"], json!({"prompt_tokens": 2, "total_tokens": 2}));
}

#[tokio::test]
async fn tools_and_schemas_are_answered_in_every_dialect() {
    let run = start().await;
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let arguments = json!({"city": "sandbox"});
    let asked = json!({"tools": [{"type": "function", "function": {"name": "look", "parameters": schema}}], "tool_choice": "required"});
    let (_, body) = run.post("/v1/chat/completions", with(chat("sandbox-mini"), &asked)).await;
    let call = &body["choices"][0]["message"]["tool_calls"][0]["function"];
    assert_eq!(serde_json::from_str::<Value>(call["arguments"].as_str().unwrap()).unwrap(), arguments);
    let asked = json!({"max_tokens": 99, "tools": [{"name": "look", "input_schema": schema}], "tool_choice": {"type": "any"}});
    let (_, body) = run.post("/v1/messages", with(chat("sandbox-mini"), &asked)).await;
    assert_eq!((&body["content"][0]["input"], &body["stop_reason"]), (&arguments, &json!("tool_use")));
    let asked = json!({
        "contents": [{"role": "user", "parts": [{"text": "Please use the tool"}]}],
        "tools": [{"functionDeclarations": [{"name": "look", "parameters": schema}]}],
    });
    let (_, body) = run.post("/v1beta/models/sandbox-mini:generateContent", asked).await;
    assert_eq!(body["candidates"][0]["content"]["parts"][0]["functionCall"]["args"], arguments);
    let format =
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}});
    let (_, body) = run.post("/v1/chat/completions", with(chat("sandbox-mini"), &format)).await;
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), arguments);
}

#[tokio::test]
async fn requests_are_remembered_as_they_came_until_reset() {
    let run = start().await;
    let body = "{\"model\" :  \"sandbox-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"\\u0041\"}]}";
    let request =
        run.keyed("/v1/chat/completions?a=%20b").header("X-Trace", "1").body(Body::from(body)).unwrap();
    assert_eq!(run.client.request(request).await.unwrap().status(), StatusCode::OK);
    let (_, seen) = json_of(run.send(run.request("GET", "/sandbox/requests"), &Value::Null).await).await;
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(
        seen[0],
        json!({
            "method": "POST", "path": "/v1/chat/completions", "query": "a=%20b", "body": body, "body_bytes": body.len(),
            "headers": [
                ["authorization", "Bearer sk-sandbox-0123456789"], ["x-trace", "1"],
                ["host", run.address.to_string()], ["content-length", body.len().to_string()],
            ],
        })
    );
    run.send(run.request("POST", "/sandbox/reset"), &Value::Null).await;
    assert!(run.sandbox.requests().is_empty());
    let (_, bill) = json_of(run.send(run.request("GET", "/sandbox/bill"), &Value::Null).await).await;
    assert_eq!(
        (&bill["requests"], &bill["cost_usd"], &bill["models"]),
        (&json!(0), &json!("0.00"), &json!({}))
    );
}

#[tokio::test]
async fn models_are_listed_in_the_dialect_of_the_headers() {
    let run = start().await;
    let get =
        |path: &str, name: &'static str| run.request("GET", path).header(name, "k").header("api-key", "k");
    let mut firsts = Vec::new();
    for (path, header) in
        [("/v1/models", "x-plain"), ("/v1/models", "anthropic-version"), ("/v1beta/models", "x-goog-api-key")]
    {
        let (_, body) = json_of(run.send(get(path, header), &Value::Null).await).await;
        firsts.push(body.get("data").or(body.get("models")).unwrap()[0].clone());
    }
    assert_eq!(firsts[0]["object"], "model");
    assert_eq!((&firsts[1]["type"], &firsts[1]["id"]), (&json!("model"), &json!("sandbox-mini")));
    assert_eq!(firsts[2]["name"], "models/sandbox-mini");
    let (status, _) = json_of(run.send(get("/v1/models/gpt-4o", "x-plain"), &Value::Null).await).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn serving_ends_when_told_though_a_connection_is_idle() {
    let mut run = start().await;
    run.post("/v1/chat/completions", chat("sandbox-dated")).await;
    let (stop, _) = oneshot::channel();
    drop(std::mem::replace(&mut run.stop, stop));
    let refused = async { while TcpStream::connect(run.address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
}
