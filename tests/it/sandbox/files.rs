//! Files that stay with the provider, in both dialects that have them.

use super::{KEY, Running, bytes_of, form, json_of, start, with};
use axum::body::Body;
use axum::http::StatusCode;
use serde_json::{Value, json};

const BINARY: &[u8] = b"\0\xff\r\n--cu\xfe\r\n";

async fn anthropic(
    run: &Running,
    method: &str,
    path: &str,
    body: Option<Vec<u8>>,
) -> http::Response<hyper::body::Incoming> {
    let request =
        run.request(method, path).header("x-api-key", KEY).header("anthropic-version", "2023-06-01");
    let request = request.header("content-type", "multipart/form-data; boundary=cut");
    run.client.request(request.body(body.map_or_else(Body::empty, Body::from)).unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_file_comes_back_byte_for_byte_to_its_own_account() {
    let run = start().await;
    let uploaded = run.upload("/v1/files", &[("purpose", "user_data")], &[("file", BINARY)]).await;
    let (status, file) = json_of(uploaded).await;
    assert_eq!(status, StatusCode::OK, "{file}");
    let id = file["id"].as_str().unwrap();
    assert_eq!(
        file,
        json!({
            "id": id, "object": "file", "bytes": BINARY.len(), "created_at": 1_780_000_000, "expires_at": null,
            "filename": "a.bin", "purpose": "user_data", "status": "processed", "status_details": null,
        })
    );
    let path = format!("/v1/files/{id}");
    assert_eq!(run.call("GET", &path).await.1, file);
    let content =
        run.request("GET", &format!("{path}/content")).header("authorization", format!("Bearer {KEY}"));
    let content = run.send(content, &Value::Null).await;
    assert_eq!(content.headers()["content-type"], "image/png");
    assert_eq!(bytes_of(content).await, BINARY);
    for (method, path) in
        [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/content"))]
    {
        let (status, refused) = run.call_as("sk-another", method, &path, &Value::Null).await;
        assert_eq!(
            (status, &refused["error"]["message"]),
            (StatusCode::NOT_FOUND, &json!(format!("No such File object: {id}")))
        );
    }
    let failing = run.request("DELETE", &path).header("authorization", format!("Bearer {KEY}"));
    let failing = run.send(failing.header("x-sandbox", "status=500"), &Value::Null).await;
    assert_eq!(failing.status(), StatusCode::INTERNAL_SERVER_ERROR, "and nothing is done");
    let (_, list) = run.call("GET", "/v1/files").await;
    assert_eq!(list["data"], json!([file]));
    assert_eq!(run.call("GET", "/v1/files?purpose=batch").await.1["data"], json!([]));
    assert_eq!(run.call("DELETE", &path).await.1, json!({"id": id, "object": "file", "deleted": true}));
    assert_eq!(run.call("GET", &path).await.0, StatusCode::NOT_FOUND);
    assert!(run.sandbox.bill().models.is_empty(), "files are free");
    let kept = run.sandbox.requests().into_iter().next().unwrap();
    assert_eq!(kept.bytes(), Some(form(&[("purpose", "user_data")], &[("file", BINARY)])));
}

#[tokio::test]
async fn anthropics_files_have_its_shapes_and_are_not_openais() {
    let run = start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let uploaded = anthropic(&run, "POST", "/v1/files", Some(form(&[], &[("file", BINARY)]))).await;
        let (_, file) = json_of(uploaded).await;
        ids.push(file["id"].clone());
        assert_eq!(
            file,
            json!({
                "id": file["id"], "type": "file", "filename": "a.bin", "mime_type": "image/png", "size_bytes": BINARY.len(),
                "downloadable": true, "created_at": "2026-05-28T20:26:40Z", "expires_at": null,
            })
        );
    }
    let (_, page) = json_of(anthropic(&run, "GET", "/v1/files?limit=2", None).await).await;
    assert_eq!((&page["first_id"], &page["last_id"], &page["has_more"]), (&ids[2], &ids[1], &json!(true)));
    let cursor = page["next_page"].as_str().unwrap();
    for next in [format!("after_id={}", ids[1].as_str().unwrap()), format!("page={cursor}")] {
        let (_, page) =
            json_of(anthropic(&run, "GET", &format!("/v1/files?limit=2&{next}"), None).await).await;
        assert_eq!(
            (&page["first_id"], &page["has_more"], &page["next_page"]),
            (&ids[0], &json!(false), &Value::Null)
        );
    }
    let named = format!("/v1/files?ids[]={}&ids[]=file_none", ids[1].as_str().unwrap());
    let (_, page) = json_of(anthropic(&run, "GET", &named, None).await).await;
    assert_eq!((&page["data"][0]["id"], page["data"].as_array().unwrap().len()), (&ids[1], 1));
    let path = format!("/v1/files/{}", ids[0].as_str().unwrap());
    assert_eq!(bytes_of(anthropic(&run, "GET", &format!("{path}/content"), None).await).await, BINARY);
    assert_eq!(run.call("GET", &path).await.0, StatusCode::NOT_FOUND, "not OpenAI's");
    let (_, deleted) = json_of(anthropic(&run, "DELETE", &path, None).await).await;
    assert_eq!(deleted, json!({"id": ids[0], "type": "file_deleted"}));
    let (status, gone) = json_of(anthropic(&run, "GET", &path, None).await).await;
    assert_eq!((status, &gone["error"]["type"]), (StatusCode::NOT_FOUND, &json!("not_found_error")));
}

#[tokio::test]
async fn a_file_that_is_named_counts_as_if_it_were_in_the_request() {
    let run = start().await;
    let uploaded = run.upload("/v1/files", &[("purpose", "user_data")], &[("file", &[b'x'; 4_000])]).await;
    let (_, file) = json_of(uploaded).await;
    let part = json!({"type": "input_file", "file_id": file["id"]});
    let asked = json!({"model": "sandbox-mini", "input": [{"role": "user", "content": [part]}]});
    let (_, made) = run.post("/v1/responses", asked.clone()).await;
    assert!(made["usage"]["input_tokens"].as_u64().unwrap() >= 1_000, "{made}");
    assert_eq!(run.call_as("sk-another", "POST", "/v1/responses", &asked).await.0, StatusCode::NOT_FOUND);
    let part = json!({"type": "file", "file": {"file_id": file["id"]}});
    let asked =
        with(super::chat("sandbox-mini"), &json!({"messages": [{"role": "user", "content": [part]}]}));
    let (_, made) = run.post("/v1/chat/completions", asked).await;
    assert!(made["usage"]["prompt_tokens"].as_u64().unwrap() >= 1_000, "{made}");
}

#[tokio::test]
async fn an_upload_that_is_incomplete_is_refused() {
    let run = start().await;
    for (fields, files, told) in [
        (vec![("purpose", "user_data")], vec![], "'file' is a required property"),
        (vec![], vec![("file", BINARY)], "'purpose' is a required property"),
        (
            vec![("purpose", "vision")],
            vec![("file", BINARY), ("file", BINARY)],
            "'file' is a required property",
        ),
        (
            vec![("purpose", "vision"), ("expires_after[seconds]", "3600")],
            vec![("file", BINARY)],
            "Invalid 'expires_after': give 'anchor', which is 'created_at', and 'seconds'.",
        ),
        (
            vec![
                ("purpose", "vision"),
                ("expires_after[anchor]", "created_at"),
                ("expires_after[seconds]", "60"),
            ],
            vec![("file", BINARY)],
            "Invalid 'expires_after[seconds]': it is a whole number in 3600..=2592000.",
        ),
    ] {
        let (status, refused) = json_of(run.upload("/v1/files", &fields, &files).await).await;
        assert_eq!((status, &refused["error"]["message"]), (StatusCode::BAD_REQUEST, &json!(told)));
    }
    let (status, refused) = run.post("/v1/files", json!({})).await;
    assert_eq!(
        (status, &refused["error"]["message"]),
        (StatusCode::BAD_REQUEST, &json!("Could not parse multipart form"))
    );
}
