//! What the sandbox does wrong when it is told to, and whom it refuses.

use super::{Running, chat, json_of, start, text_of, with};
use axum::body::Body;
use axum::http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

/// What arrives before the body ends, and whether it ends as it should.
async fn partial(response: Response<Incoming>) -> (String, bool) {
    let mut body = response.into_body();
    let mut text = String::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap()),
            Err(_) => return (text, false),
        }
    }
    (text, true)
}

#[tokio::test]
async fn keys_models_and_paths_are_refused_in_the_callers_dialect() {
    let run = start().await;
    let paths = ["/v1/chat/completions", "/v1/messages", "/v1beta/models/sandbox-mini:generateContent"];
    let mut seen = Vec::new();
    for path in paths {
        let body = with(chat("sandbox-mini"), &json!({"max_tokens": 1}));
        let (status, none) = json_of(run.send(run.request("POST", path), &body).await).await;
        let bad = run.request("POST", path).header("x-api-key", "sandbox-bad-key-1234");
        let (bad_status, bad) = json_of(run.send(bad, &body).await).await;
        seen.push(format!("{status} {}\n{bad_status} {}", none["error"], bad["error"]));
    }
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let (status, body) = run.post(path, with(chat("gpt-4o"), &json!({"max_tokens": 1}))).await;
        seen.push(format!("{status} {}", body["error"]));
    }
    let (status, body) = run.post("/v1/models/gpt-4o:generateContent", json!({})).await;
    seen.push(format!("{status} {}", body["error"]));
    let (status, body) = run.post("/v1/nowhere", json!({})).await;
    seen.push(format!("{status} {}", body["error"]));
    insta::assert_snapshot!(seen.join("\n"), @r##"
    401 Unauthorized {"code":null,"message":"You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).","param":null,"type":"invalid_request_error"}
    401 Unauthorized {"code":"invalid_api_key","message":"Incorrect API key provided: sandbox-***1234.","param":null,"type":"invalid_request_error"}
    401 Unauthorized {"message":"x-api-key header is required","type":"authentication_error"}
    401 Unauthorized {"message":"invalid x-api-key","type":"authentication_error"}
    401 Unauthorized {"code":401,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"googleapis.com","metadata":{"service":"generativelanguage.googleapis.com"},"reason":"CREDENTIALS_MISSING"}],"message":"Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid authentication credential.","status":"UNAUTHENTICATED"}
    400 Bad Request {"code":400,"details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","domain":"googleapis.com","metadata":{"service":"generativelanguage.googleapis.com"},"reason":"API_KEY_INVALID"}],"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}
    404 Not Found {"code":"model_not_found","message":"The model `gpt-4o` does not exist or you do not have access to it.","param":null,"type":"invalid_request_error"}
    404 Not Found {"message":"model: gpt-4o","type":"not_found_error"}
    404 Not Found {"code":404,"message":"models/gpt-4o is not found for API version v1beta, or is not supported for this method.","status":"NOT_FOUND"}
    404 Not Found {"code":null,"message":"Invalid URL (POST /v1/nowhere)","param":null,"type":"invalid_request_error"}
    "##);
    let bill = run.sandbox.bill();
    assert!(bill.models.is_empty() && bill.requests == 10, "{bill:?}");
}

#[tokio::test]
async fn a_status_is_answered_with_the_dialects_error_and_costs_nothing() {
    let run = start().await;
    let response = run.send(run.keyed("/v1/chat/completions"), &chat("sandbox-mini+status=429")).await;
    assert_eq!(response.headers()["retry-after"], "1");
    let (status, body) = json_of(response).await;
    assert_eq!(
        (status, &body["error"]["code"]),
        (StatusCode::TOO_MANY_REQUESTS, &json!("rate_limit_exceeded"))
    );
    let by_header = run.keyed("/v1/messages").header("x-sandbox", "status=529");
    let body = with(chat("sandbox-mini"), &json!({"max_tokens": 1}));
    let (status, body) = json_of(run.send(by_header, &body).await).await;
    assert_eq!((status.as_u16(), &body["error"]["type"]), (529, &json!("overloaded_error")));
    let (status, body) = run.post("/v1/chat/completions", chat("sandbox-mini+sttaus=500")).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"]["message"].as_str().unwrap().contains("there are: status, delay"), "{body}");
    let (status, body) = run
        .post("/v1beta/models/sandbox-mini+bad_key,status=400:generateContent", json!({"contents": [{}]}))
        .await;
    assert_eq!((status.as_u16(), &body["error"]["details"][0]["reason"]), (400, &json!("API_KEY_INVALID")));
    let response = run.send(run.keyed("/v1/chat/completions"), &chat("sandbox-mini+redirect")).await;
    assert_eq!(
        (response.status(), &response.headers()["location"]),
        (StatusCode::FOUND, &"/v1/redirected".parse().unwrap())
    );
    assert!(run.sandbox.bill().models.is_empty());
}

#[tokio::test]
async fn a_cut_stream_is_aborted_after_its_events_and_billed_for_them() {
    let run = start().await;
    let asked = with(chat("sandbox-mini+cut=3"), &json!({"stream": true}));
    let (text, ended) = partial(run.send(run.keyed("/v1/chat/completions"), &asked).await).await;
    assert_eq!((text.matches("data: ").count(), ended), (3, false));
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].output_tokens, 2);
    let (text, ended) =
        partial(run.send(run.keyed("/v1/chat/completions"), &chat("sandbox-mini+cut=0")).await).await;
    assert!(!ended && text.starts_with('{') && serde_json::from_str::<Value>(&text).is_err());
}

#[tokio::test]
async fn a_closed_connection_has_no_answer() {
    let run = start().await;
    let request = run.keyed("/v1/chat/completions").body(Body::from(chat("sandbox-mini+close").to_string()));
    assert!(run.client.request(request.unwrap()).await.is_err());
    assert_eq!(run.sandbox.bill().requests, 1);
}

#[tokio::test]
async fn malformed_answers_cannot_be_read() {
    let run = start().await;
    let text =
        text_of(run.send(run.keyed("/v1/chat/completions"), &chat("sandbox-mini+malformed")).await).await;
    assert!(serde_json::from_str::<Value>(&text.unwrap()).is_err());
    let asked = with(chat("sandbox-mini+malformed"), &json!({"stream": true}));
    let events = run.events("/v1/chat/completions", asked).await;
    let unreadable = |event: &&String| serde_json::from_str::<Value>(event).is_err() && *event != "[DONE]";
    assert_eq!(events.iter().filter(unreadable).count(), 1);
}

#[tokio::test]
async fn the_received_key_is_echoed_whole_or_over_two_events() {
    let run = start().await;
    let response = run.send(run.keyed("/v1/chat/completions"), &chat("sandbox-mini+echo_key")).await;
    assert_eq!(response.headers()["x-echo"], "sk-sandbox-0123456789");
    assert!(text_of(response).await.unwrap().contains("sk-sandbox-0123456789"));
    let asked = with(chat("sandbox-mini+echo_key_split"), &json!({"stream": true}));
    let events = run.events("/v1/chat/completions", asked).await;
    assert!(events.iter().all(|event| !event.contains("sk-sandbox-0123456789")));
    let read = |event: &String| serde_json::from_str::<Value>(event).ok();
    let text: String = events
        .iter()
        .filter_map(read)
        .filter_map(|chunk| Some(chunk["choices"][0]["delta"]["content"].as_str()?.to_owned()))
        .collect();
    assert!(text.starts_with("sk-sandbox-0123456789"), "{text}");
    let (_, body) = run
        .post("/v1/messages", with(chat("sandbox-mini+echo_key,status=500"), &json!({"max_tokens": 1})))
        .await;
    assert!(body["error"]["message"].as_str().unwrap().ends_with("sk-sandbox-0123456789"));
}

#[tokio::test]
async fn no_usage_means_no_usage_in_any_dialect() {
    let run = start().await;
    let model = "sandbox-mini+no_usage";
    let stream = json!({"stream": true, "stream_options": {"include_usage": true}, "max_tokens": 5});
    for (path, body) in [
        ("/v1/chat/completions", chat(model)),
        ("/v1/chat/completions", with(chat(model), &stream)),
        ("/v1/messages", with(chat(model), &json!({"max_tokens": 1}))),
        ("/v1/messages", with(chat(model), &stream)),
        ("/v1/completions", json!({"model": model, "prompt": "x"})),
        ("/v1/embeddings", json!({"model": model, "input": "x"})),
        ("/v1beta/models/sandbox-mini+no_usage:generateContent", json!({"contents": [{}]})),
    ] {
        let response = run.send(run.keyed(path), &body).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let text = text_of(response).await.unwrap().replace("no_usage", "");
        assert!(!text.contains("usage"), "{path} {text}");
    }
    assert_eq!(run.sandbox.bill().models["sandbox-mini"].requests, 7);
}

#[tokio::test]
async fn held_requests_are_in_flight_together_until_released() {
    let run = start().await;
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let body = Body::from(chat("sandbox-mini+hold").to_string());
            run.client.request(run.keyed("/v1/chat/completions").body(body).unwrap())
        })
        .map(tokio::spawn)
        .collect();
    let (_, held) = json_of(run.send(run.request("GET", "/sandbox/held?count=5"), &Value::Null).await).await;
    assert_eq!(held, json!({"held": 5}));
    let bill = run.sandbox.bill();
    assert_eq!((bill.in_flight, bill.in_flight_max, bill.held, bill.models.len()), (5, 5, 5, 0));
    let (_, released) = json_of(run.send(run.request("POST", "/sandbox/release"), &Value::Null).await).await;
    assert_eq!(released, json!({"released": 5}));
    for call in calls {
        let answered = timeout(Duration::from_secs(10), call).await.unwrap();
        assert_eq!(answered.unwrap().unwrap().status(), StatusCode::OK);
    }
    let bill = run.sandbox.bill();
    assert_eq!((bill.in_flight, bill.in_flight_max, bill.held), (0, 5, 0));
}

/// Reads the beginning of a long stream, then hangs up.
async fn hang_up(run: &Running, model: &str) {
    let body = with(chat(model), &json!({"stream": true})).to_string();
    let mut socket = TcpStream::connect(run.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer k\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut beginning = [0; 2048];
    socket.read_exact(&mut beginning).await.unwrap();
    drop(socket);
    run.idle().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_stops_the_work_unless_it_drains() {
    let run = start().await;
    hang_up(&run, "sandbox-stops+tokens=1000000").await;
    hang_up(&run, "sandbox-drains+tokens=1000000,drain").await;
    let bill = run.sandbox.bill();
    let (stopped, drained) = (&bill.models["sandbox-stops"], &bill.models["sandbox-drains"]);
    assert!(stopped.output_tokens > 0 && stopped.output_tokens < 1_000_000, "{stopped:?}");
    assert_eq!(drained.output_tokens, 1_000_000);
    assert_eq!(stopped.input_tokens, drained.input_tokens);
}
