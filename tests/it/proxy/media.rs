//! Pictures and sound through the proxy: what policy says of them, what is sent, and what comes back.

use crate::support::form::Form;
use crate::support::server::{Answer, TestServer};
use crate::support::store::TestStore;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const PICTURES: &str = "/v1/images/generations";
const EDITS: &str = "/v1/images/edits";
const SPEECH: &str = "/v1/audio/speech";
const TRANSCRIPTS: &str = "/v1/audio/transcriptions";

fn picture() -> Value {
    json!({"model": "sandbox-image", "prompt": "a red point", "quality": "low"})
}

fn speech() -> Value {
    json!({"model": "sandbox-tts", "input": "Hi.", "voice": "alloy"})
}

fn edit(model: &str) -> Form {
    Form::default().fields(&[("model", model), ("prompt", "blue")]).file(
        "image",
        "a.png",
        b"\x89PNG\r\n--\r\n\0\xff",
    )
}

fn sound(model: &str) -> Form {
    Form::default().file("file", "a.mp3", &[7; 900]).fields(&[("model", model), ("response_format", "json")])
}

fn json_of(server: &TestServer, secret: &str, path: &str, body: &Value) -> Request<Full<Bytes>> {
    server.proxied(secret, path, body.to_string())
}

/// The body of the last request that arrived.
fn arrived(server: &TestServer) -> Vec<u8> {
    server.sandbox.requests().pop().unwrap().bytes().unwrap()
}

#[tokio::test]
async fn a_key_uses_pictures_and_sound_as_its_switches_say() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let streamed = edit("sandbox-image").field("stream", "true");
    for (key, path, request, code) in [
        (json!({"allow_images": false}), EDITS, None, "feature_not_allowed"),
        (json!({"allow_audio": false}), SPEECH, None, "feature_not_allowed"),
        (json!({"allow_audio": false}), TRANSCRIPTS, None, "feature_not_allowed"),
        (json!({"allow_streaming": false}), EDITS, Some(streamed), "feature_not_allowed"),
        (json!({"operations": ["chat", "audio"]}), EDITS, None, "operation_not_allowed"),
        (json!({"operations": ["chat", "audio"]}), PICTURES, None, "operation_not_allowed"),
        (json!({"operations": ["chat", "images"]}), SPEECH, None, "operation_not_allowed"),
        (json!({"operations": ["chat", "images"]}), TRANSCRIPTS, None, "operation_not_allowed"),
        (json!({"models": ["sandbox/sandbox-mini"]}), EDITS, None, "model_not_allowed"),
        (json!({"models": ["sandbox/sandbox-mini"]}), TRANSCRIPTS, None, "model_not_allowed"),
        (json!({"models": ["sandbox/sandbox-mini"]}), SPEECH, None, "model_not_allowed"),
    ] {
        let (_, secret) = server.mint(key.clone()).await;
        let request = match (path, request) {
            (path, Some(form)) => form.request(&server, &secret, path),
            (EDITS, None) => edit("sandbox-image").request(&server, &secret, path),
            (TRANSCRIPTS, None) => sound("sandbox-whisper").request(&server, &secret, path),
            (SPEECH, None) => json_of(&server, &secret, path, &speech()),
            (path, None) => json_of(&server, &secret, path, &picture()),
        };
        let refused = server.call(request).await;
        assert_eq!(refused.refusal(), (403, code.to_owned()), "{path} {key}: {}", refused.json());
    }
    assert!(server.sandbox.requests().is_empty());
    // A picture made of a text has no picture in its input.
    let (_, secret) = server.mint(json!({"allow_images": false})).await;
    assert_eq!(server.post(&secret, PICTURES, &picture()).await.status, 200);
}

#[tokio::test]
async fn a_form_arrives_byte_for_byte_and_a_prefix_is_taken_out_of_its_model_alone() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    for (path, of) in [(EDITS, edit as fn(&str) -> Form), (TRANSCRIPTS, sound)] {
        let model = if path == EDITS { "sandbox-image" } else { "sandbox-whisper" };
        let plain = server.call(of(model).request(&server, &secret, path)).await;
        assert_eq!(
            (plain.status.as_u16(), plain.header("x-bitting-changed")),
            (200, None),
            "{}",
            plain.json()
        );
        assert_eq!(arrived(&server), of(model).body());
        let prefixed = of(&format!("sandbox/{model}"));
        let prefixed = server.call(prefixed.request(&server, &secret, path)).await;
        assert_eq!((prefixed.status.as_u16(), prefixed.header("x-bitting-changed")), (200, Some("model")));
        assert_eq!(prefixed.header("x-bitting-model"), Some(model));
        assert_eq!(arrived(&server), of(model).body());
    }
}

#[tokio::test]
async fn a_form_with_two_answers_or_none_reaches_nobody() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let call = async |form: Form, path: &str| server.call(form.request(&server, &secret, path)).await;
    for form in [
        edit("sandbox-image").field("model", "sandbox-image-each"),
        edit("sandbox-image").field("MODEL", "sandbox-image-each"),
        edit("sandbox-image").field("n", "2").field("n", "1"),
        edit("sandbox-image").field("stream", "True"),
        edit("sandbox-image").file("image[]", "b.png", b"x"),
        edit("sandbox-image").field("svg[model]", "sandbox-mini"),
    ] {
        assert_eq!(call(form, EDITS).await.refusal(), (400, "invalid_body".to_owned()));
    }
    let nameless = Form::default().field("prompt", "x").file("image", "a.png", b"x");
    assert_eq!(call(nameless.clone(), EDITS).await.refusal(), (400, "model_required".to_owned()));
    assert_eq!(call(nameless, "/v1/images/variations").await.refusal(), (400, "model_required".to_owned()));
    let as_json = server.post(&secret, TRANSCRIPTS, &json!({"model": "sandbox-whisper"})).await;
    assert_eq!(as_json.refusal(), (415, "unsupported_encoding".to_owned()));
    let voice = json!({"model": "sandbox-tts", "input": "Hi.", "voice": {"id": "voice_of_somebody"}});
    assert_eq!(server.post(&secret, SPEECH, &voice).await.refusal(), (404, "object_not_found".to_owned()));
    assert!(server.sandbox.requests().is_empty());
}

#[tokio::test]
async fn sound_comes_as_it_is_made_and_says_what_it_is() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (id, secret) = server.mint(json!({})).await;
    for (format, kind, head) in
        [("mp3", "audio/mpeg", &b"ID3"[..]), ("wav", "audio/wav", b"RIFF"), ("pcm", "audio/pcm", b"\x55")]
    {
        let mut body = speech();
        body["response_format"] = json!(format);
        let spoken: Answer = server.post(&secret, SPEECH, &body).await;
        assert_eq!((spoken.status.as_u16(), spoken.header("content-type")), (200, Some(kind)), "{format}");
        assert!(spoken.bytes.starts_with(head), "{format}");
    }
    let entry = server.entries(&id).await.pop().unwrap();
    assert_eq!(
        (&entry["operation"], &entry["streamed"], &entry["outcome"]),
        (&json!("audio"), &json!(false), &json!("completed"))
    );
    let text = sound("sandbox-whisper").field("response_format", "srt");
    assert_eq!(server.call(text.request(&server, &secret, TRANSCRIPTS)).await.status, 400, "given twice");
    let subtitles = Form::default()
        .fields(&[("model", "sandbox-whisper"), ("response_format", "srt")])
        .file("file", "a.wav", &[7; 90]);
    let subtitles = server.call(subtitles.request(&server, &secret, TRANSCRIPTS)).await;
    assert_eq!(subtitles.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(subtitles.bytes.starts_with(b"1\n00:00:00,000 --> "));
}

#[tokio::test]
async fn azures_clients_make_pictures_and_sound_by_their_deployments() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let at =
        |model: &str, path: &str| format!("/openai/deployments/{model}{path}?api-version=2025-04-01-preview");
    let mut unnamed = picture();
    unnamed.as_object_mut().unwrap().remove("model");
    let made = server.post(&secret, &at("sandbox-image", "/images/generations"), &unnamed).await;
    assert_eq!(
        (made.status.as_u16(), made.header("x-bitting-model")),
        (200, Some("sandbox-image")),
        "{}",
        made.json()
    );
    let unnamed = Form::default().field("prompt", "blue").file("image", "a.png", b"x");
    let edited = server.call(unnamed.request(&server, &secret, &at("sandbox-image", "/images/edits"))).await;
    assert_eq!(
        (edited.status.as_u16(), edited.header("x-bitting-changed")),
        (200, Some("model")),
        "{}",
        edited.json()
    );
    assert_eq!(
        arrived(&server),
        Form::default()
            .field("model", "sandbox-image")
            .field("prompt", "blue")
            .file("image", "a.png", b"x")
            .body()
    );
    for (path, model) in
        [("/audio/transcriptions", "sandbox-transcribe"), ("/audio/translations", "sandbox-whisper")]
    {
        let heard = server.call(sound(model).request(&server, &secret, &at(model, path))).await;
        assert_eq!(heard.status, 200, "{}", heard.json());
        let other = server.call(sound("sandbox-mini").request(&server, &secret, &at(model, path))).await;
        assert_eq!(other.refusal(), (400, "model_ambiguous".to_owned()));
    }
    assert_eq!(server.post(&secret, &at("sandbox-tts", "/audio/speech"), &speech()).await.status, 200);
}

/// A provider that answers everything with this text.
async fn answering(kind: &'static str, text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut seen = Vec::new();
            while !seen.ends_with(b"--\r\n") {
                let mut bytes = [0; 4096];
                let read = socket.read(&mut bytes).await.unwrap_or(0);
                if read == 0 {
                    break;
                }
                seen.extend(&bytes[..read]);
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                text.len()
            );
            let _ = socket.write_all(format!("{head}{text}").as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn p3_what_somebody_said_is_no_bill() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let said = r#"{"text": "hi", "usage": {"type": "duration", "seconds": 1}}"#;
    for (slug, kind, source, cost) in [
        ("writes", "text/plain; charset=utf-8", "estimated", "0.15"),
        ("tells", "application/json", "reported", "0.0001"),
    ] {
        let provider = json!({"slug": slug, "dialects": {"openai": answering(kind, said).await}});
        assert_eq!(server.admin_post("/api/v1/providers", &provider).await.status, 201);
        let key = json!({"name": "main", "secret": format!("sandbox-{slug}-5f8b2c91d7e64a03")});
        assert_eq!(
            server.admin_post(&format!("/api/v1/providers/{slug}/credentials"), &key).await.status,
            201
        );
        let model = json!({"operations": ["audio"], "max_input_seconds": 1_500, "prices": {"input_per_second_usd": "0.0001"}});
        let path = format!("/api/v1/models/{slug}/ear");
        assert!(server.admin_call(http::Method::PUT, &path, Some(&model)).await.status.is_success());
        let budget = json!([{"limit_usd": "1", "window": "total"}]);
        let (id, secret) = server.mint(json!({"models": [format!("{slug}/*")], "budgets": budget})).await;
        let heard = server.call(sound("ear").request(&server, &secret, TRANSCRIPTS)).await;
        assert_eq!((heard.status.as_u16(), &heard.bytes[..]), (200, said.as_bytes()));
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["usage_source"], &entry["cost_usd"]), (&json!(source), &json!(cost)), "{entry}");
    }
}
