//! Pictures and sound under a cap: what they are charged, and that no bill passes what was held.

use super::{books, read_to_end, total, usd};
use crate::support::form::Form;
use crate::support::server::{Answer, TestServer};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::time::Duration;

const PICTURES: &str = "/v1/images/generations";
const EDITS: &str = "/v1/images/edits";
const VARIATIONS: &str = "/v1/images/variations";
const SPEECH: &str = "/v1/audio/speech";
const TRANSCRIPTS: &str = "/v1/audio/transcriptions";
const TRANSLATIONS: &str = "/v1/audio/translations";

/// One call as a client makes it.
#[derive(Clone)]
enum Sent {
    Json(Value),
    Form(Form),
}

impl Sent {
    fn request(&self, server: &TestServer, secret: &str, path: &str) -> Request<Full<Bytes>> {
        match self {
            Self::Json(body) => server.proxied(secret, path, body.to_string()),
            Self::Form(form) => form.request(server, secret, path),
        }
    }
}

fn picture(model: &str, more: &Value) -> Sent {
    let mut body = json!({"model": model, "prompt": "a red point", "size": "1024x1024", "quality": "low"});
    for (field, value) in more.as_object().unwrap() {
        body[field] = value.clone();
    }
    Sent::Json(body)
}

fn plain_picture(model: &str, n: u64) -> Sent {
    Sent::Json(json!({"model": model, "prompt": "a red point", "n": n}))
}

fn speech(model: &str, format: &str) -> Sent {
    Sent::Json(json!({"model": model, "input": "Good mörning.", "voice": "alloy", "stream_format": format}))
}

fn edit(fields: &[(&str, &str)]) -> Sent {
    let form = Form::default().field("prompt", "blue").fields(fields);
    Sent::Form(
        form.file("image[]", "a.png", &[1; 10_000])
            .file("image[]", "b.png", &[2; 40])
            .file("mask", "m.png", &[3; 4]),
    )
}

fn sound(fields: &[(&str, &str)]) -> Sent {
    Sent::Form(Form::default().fields(fields).file("file", "a.mp3", &vec![7; 40_000]))
}

/// Puts a model into the catalog that is like one of the sandbox's but for `changes`.
async fn list_like(server: &TestServer, base: &str, name: &str, changes: &Value) {
    let listed = server.admin_get("/api/v1/models?limit=1000").await.json();
    let known =
        listed["items"].as_array().unwrap().iter().find(|known| known["model"] == base).unwrap().clone();
    let mut document = known.as_object().unwrap().clone();
    let facts = [
        "operations",
        "capabilities",
        "context_window",
        "max_output_tokens",
        "max_image_tokens",
        "picture_tokens",
    ];
    let facts = [facts.as_slice(), &["max_input_seconds", "prices"]].concat();
    document.retain(|field, value| facts.contains(&field.as_str()) && !value.is_null());
    for (field, value) in changes.as_object().unwrap() {
        document.insert(field.clone(), value.clone());
    }
    let put = server
        .admin_call(Method::PUT, &format!("/api/v1/models/sandbox/{name}"), Some(&Value::Object(document)))
        .await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

/// The base of a name with directives.
fn base(model: &str) -> &str {
    model.split('+').next().unwrap()
}

/// What came of one call with a fresh key: the answer, its entry, and what the sandbox billed.
async fn see(server: &TestServer, path: &str, sent: &Sent) -> (Answer, Value, NanoUsd) {
    let (id, secret) = server.mint(total("2")).await;
    server.sandbox.reset();
    let answer = server.call(sent.request(server, &secret, path)).await;
    let mut entries = server.entries(&id).await;
    assert_eq!(entries.len(), 1, "{path}: {entries:?}");
    let entry = entries.remove(0);
    assert_eq!(books(server, &id).await, (usd(&entry["cost_usd"]), NanoUsd::ZERO), "{path}");
    (answer, entry, server.sandbox.bill().cost_usd)
}

/// Asks again and again until the cap refuses, and leaves each answer once it has `last` of it, or at its end. What the
/// sandbox billed never passes what is spent, and that never the cap.
async fn spend_all(server: &TestServer, cap: &str, path: &str, call: &Sent, last: Option<usize>) {
    let (id, secret) = server.mint(total(cap)).await;
    server.sandbox.reset();
    let mut answered = 0;
    loop {
        let response = server.send(call.request(server, &secret, path)).await;
        match response.status().as_u16() {
            200 => answered += 1,
            402 => break,
            429 => continue,
            other => panic!("{path}: {other}: {}", read_to_end(response).await.0),
        }
        let (mut body, mut bytes) = (response.into_body(), 0);
        while last.is_none_or(|last| bytes < last) {
            let Some(Ok(frame)) = body.frame().await else { break };
            bytes += frame.into_data().unwrap_or_default().len();
        }
        drop(body);
        while server.sandbox.bill().in_flight > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let spent = loop {
        match books(server, &id).await {
            (spent, NanoUsd::ZERO) => break spent,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let billed = server.sandbox.bill().cost_usd;
    assert!(answered > 1, "{path}: {answered}: {:?}", server.entries(&id).await);
    assert!(
        billed <= spent && spent <= cap.parse().unwrap(),
        "{path}: billed {billed}, spent {spent}, {answered} times"
    );
}

on_both! {
    async fn pictures_and_sound_are_charged_as_the_provider_bills_them(test: TestStore) {
        let server = TestServer::start(test).await;
        for (path, sent) in [
            (PICTURES, picture("sandbox-image", &json!({"n": 2}))),
            (PICTURES, picture("sandbox-image", &json!({"stream": true, "partial_images": 3}))),
            (EDITS, edit(&[("model", "sandbox-image"), ("quality", "medium"), ("n", "2")])),
            (EDITS, edit(&[("model", "sandbox-image"), ("stream", "true"), ("partial_images", "1")])),
            (SPEECH, speech("sandbox-speech", "sse")),
            (TRANSCRIPTS, sound(&[("model", "sandbox-transcribe"), ("prompt", "names")])),
            (TRANSCRIPTS, sound(&[("model", "sandbox-transcribe"), ("stream", "true")])),
            (TRANSCRIPTS, sound(&[("model", "sandbox-transcribe"), ("response_format", "diarized_json")])),
            (TRANSCRIPTS, sound(&[("model", "sandbox-whisper")])),
            (TRANSLATIONS, sound(&[("model", "sandbox-whisper"), ("response_format", "verbose_json")])),
        ] {
            let (answer, entry, billed) = see(&server, path, &sent).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.json());
            assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("completed"), &json!("reported")), "{entry}");
            assert_eq!(usd(&entry["cost_usd"]), billed, "{path}: {entry}");
            assert!(billed > NanoUsd::ZERO && billed <= usd(&entry["reserved_usd"]), "{path}: {entry}");
        }
        server.end().await;
    }

    async fn what_tells_no_usage_is_charged_its_bound(test: TestStore) {
        let server = TestServer::start(test).await;
        for model in ["sandbox-image+no_usage", "sandbox-transcribe+no_usage", "sandbox-speech+no_usage"] {
            list_like(&server, base(model), model, &json!({})).await;
        }
        for (path, sent) in [
            (PICTURES, plain_picture("sandbox-image-each", 3)),
            (VARIATIONS, Sent::Form(Form::default().field("model", "sandbox-image-each").file("image", "a.png", &[1; 8]))),
            (PICTURES, picture("sandbox-image+no_usage", &json!({}))),
            (PICTURES, picture("sandbox-image+no_usage", &json!({"stream": true}))),
            (SPEECH, speech("sandbox-tts", "audio")),
            (SPEECH, speech("sandbox-speech", "audio")),
            (SPEECH, speech("sandbox-speech+no_usage", "sse")),
            (TRANSCRIPTS, sound(&[("model", "sandbox-transcribe"), ("response_format", "text")])),
            (TRANSCRIPTS, sound(&[("model", "sandbox-transcribe+no_usage")])),
            (TRANSCRIPTS, sound(&[("model", "sandbox-whisper"), ("response_format", "srt")])),
            (TRANSLATIONS, sound(&[("model", "sandbox-whisper"), ("response_format", "vtt")])),
        ] {
            let (answer, entry, billed) = see(&server, path, &sent).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.json());
            assert_eq!((&entry["outcome"], &entry["usage_source"]), (&json!("completed"), &json!("estimated")), "{entry}");
            assert_eq!(entry["cost_usd"], entry["reserved_usd"], "{path}: {entry}");
            assert!(billed > NanoUsd::ZERO && billed <= usd(&entry["cost_usd"]), "{path}: {billed}: {entry}");
        }
        // By the piece the bound is what is billed.
        for (path, sent) in [(PICTURES, plain_picture("sandbox-image-each", 2)), (SPEECH, speech("sandbox-tts", "audio"))] {
            let (_, entry, billed) = see(&server, path, &sent).await;
            assert_eq!(usd(&entry["cost_usd"]), billed, "{entry}");
        }
        server.end().await;
    }

    async fn p3_pictures_and_sound_stay_below_a_tight_cap(test: TestStore) {
        let server = TestServer::start(test).await;
        for (cap, path, sent) in [
            ("0.05", PICTURES, picture("sandbox-image", &json!({"n": 1}))),
            ("0.25", PICTURES, plain_picture("sandbox-image-each", 2)),
            ("0.06", EDITS, edit(&[("model", "sandbox-image"), ("quality", "low"), ("size", "1024x1024")])),
            ("0.001", SPEECH, speech("sandbox-tts", "audio")),
            ("0.2", SPEECH, speech("sandbox-speech", "audio")),
            ("0.0497", SPEECH, speech("sandbox-speech", "sse")),
            ("0.117", TRANSCRIPTS, sound(&[("model", "sandbox-transcribe")])),
            ("0.151", TRANSCRIPTS, sound(&[("model", "sandbox-whisper")])),
            ("0.5", TRANSLATIONS, sound(&[("model", "sandbox-whisper"), ("response_format", "text")])),
        ] {
            spend_all(&server, cap, path, &sent, None).await;
        }
        server.end().await;
    }

    async fn p3_whoever_hangs_up_on_pictures_and_sound_stays_below_the_cap(test: TestStore) {
        let server = TestServer::start(test).await;
        let (picture_model, speech_model, transcript_model) =
            ("sandbox-image+gap=20", "sandbox-speech+gap=5,tokens=400", "sandbox-transcribe+gap=5,tokens=40");
        for model in [picture_model, speech_model, transcript_model] {
            list_like(&server, base(model), model, &json!({})).await;
        }
        let shown = json!({"stream": true, "partial_images": 3});
        for (cap, path, sent) in [
            ("0.1", PICTURES, picture(picture_model, &shown)),
            ("0.2", SPEECH, speech(speech_model, "audio")),
            ("0.2", SPEECH, speech(speech_model, "sse")),
            ("0.3", TRANSCRIPTS, sound(&[("model", transcript_model), ("stream", "true")])),
        ] {
            spend_all(&server, cap, path, &sent, Some(1)).await;
        }
        server.end().await;
    }

    async fn p3_broken_answers_cost_what_was_begun(test: TestStore) {
        let server = TestServer::start(test).await;
        for (path, model, streams) in [
            (PICTURES, "sandbox-image+cut=1", true),
            (PICTURES, "sandbox-image+cut=0", false),
            (SPEECH, "sandbox-speech+cut=2", true),
            (TRANSCRIPTS, "sandbox-transcribe+cut=2", true),
            (TRANSCRIPTS, "sandbox-transcribe+cut=0", false),
        ] {
            list_like(&server, base(model), model, &json!({})).await;
            let sent = match path {
                PICTURES => picture(model, &json!({"stream": streams, "partial_images": if streams { 2 } else { 0 }})),
                SPEECH => speech(model, "sse"),
                _ => sound(&[("model", model), ("stream", if streams { "true" } else { "false" })]),
            };
            let (id, secret) = server.mint(total("2")).await;
            server.sandbox.reset();
            let response = server.send(sent.request(&server, &secret, path)).await;
            assert_eq!(response.status().as_u16(), if streams { 200 } else { 502 }, "{model}");
            let (text, is_clean) = read_to_end(response).await;
            assert!(is_clean != streams, "{model}: {text}");
            let entry = server.entries(&id).await.remove(0);
            assert_eq!(entry["outcome"], "upstream_failed", "{entry}");
            let (billed, cost) = (server.sandbox.bill().cost_usd, usd(&entry["cost_usd"]));
            assert!(billed > NanoUsd::ZERO && billed <= cost && cost <= usd(&entry["reserved_usd"]), "{billed}: {entry}");
        }
        // The bytes of a sound that breaks off are all that its client has, and no clean end.
        list_like(&server, "sandbox-tts", "sandbox-tts+cut=1", &json!({})).await;
        let (id, secret) = server.mint(total("2")).await;
        let response = server.send(speech("sandbox-tts+cut=1", "audio").request(&server, &secret, SPEECH)).await;
        assert!(!read_to_end(response).await.1);
        let entry = server.entries(&id).await.remove(0);
        assert_eq!((&entry["outcome"], &entry["cost_usd"]), (&json!("upstream_failed"), &entry["reserved_usd"]), "{entry}");
        server.end().await;
    }

    async fn what_has_no_price_or_no_bound_is_refused_under_a_cap_alone(test: TestStore) {
        let server = TestServer::start(test).await;
        list_like(&server, "sandbox-speech", "sandbox-speech-boundless", &json!({"max_output_tokens": null})).await;
        list_like(&server, "sandbox-whisper", "sandbox-whisper-boundless", &json!({"max_input_seconds": null})).await;
        list_like(&server, "sandbox-image", "sandbox-image-boundless", &json!({"max_output_tokens": null, "picture_tokens": {}})).await;
        let input_alone = json!({"prices": {"input_per_mtok_usd": "5"}});
        list_like(&server, "sandbox-image", "sandbox-image-unpriced", &input_alone).await;
        let (_, capped) = server.mint(total("100")).await;
        let (_, free) = server.mint(json!({})).await;
        let feature = "feature_unpriced";
        for (path, sent, code) in [
            (SPEECH, speech("sandbox-speech-boundless", "sse"), feature),
            (TRANSCRIPTS, sound(&[("model", "sandbox-whisper-boundless")]), feature),
            (PICTURES, picture("sandbox-image-boundless", &json!({})), feature),
            (PICTURES, picture("sandbox-image-unpriced", &json!({})), "model_unpriced"),
            (PICTURES, picture("sandbox-image-each", &json!({"quality": "hd"})), feature),
            (PICTURES, picture("sandbox-image-each", &json!({"size": "1792x1024", "quality": "standard"})), feature),
            (PICTURES, picture("sandbox-image", &json!({"output_format": "gif"})), feature),
            (EDITS, edit(&[("model", "sandbox-image"), ("input_fidelity", "high")]), feature),
            (TRANSCRIPTS, sound(&[("model", "sandbox-transcribe"), ("chunking_strategy", "auto")]), feature),
        ] {
            server.sandbox.reset();
            let refused = server.call(sent.request(&server, &capped, path)).await;
            assert_eq!(refused.refusal(), (403, code.to_owned()), "{path}: {}", refused.json());
            assert_eq!(server.sandbox.bill().requests, 0);
            let answered = server.call(sent.request(&server, &free, path)).await;
            assert_eq!(answered.status, 200, "{path}: {}", answered.json());
        }
        server.end().await;
    }

    async fn a_key_that_clamps_gets_a_whole_picture_or_none(test: TestStore) {
        let server = TestServer::start(test).await;
        let key = json!({"budgets": [{"limit_usd": "0.012", "window": "total"}], "clamp_to_budget": true});
        let (_, secret) = server.mint(key).await;
        let asked = picture("sandbox-image", &json!({}));
        let refused = server.call(picture("sandbox-image", &json!({"quality": "high"})).request(&server, &secret, PICTURES)).await;
        assert_eq!(refused.refusal(), (402, "budget_exceeded".to_owned()));
        let answered = server.call(asked.request(&server, &secret, PICTURES)).await;
        assert_eq!((answered.status.as_u16(), answered.header("x-bitting-changed")), (402, None), "{}", answered.json());
        let (_, secret) = server.mint(json!({"budgets": [{"limit_usd": "0.02", "window": "total"}], "clamp_to_budget": true})).await;
        let answered = server.call(asked.request(&server, &secret, PICTURES)).await;
        assert_eq!((answered.status.as_u16(), answered.header("x-bitting-changed")), (200, None), "{}", answered.json());
        server.end().await;
    }
}
