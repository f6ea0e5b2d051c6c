//! Pictures, sound and moderations, and what they cost.

use super::{bytes_of, json_of, start, text_of, with};
use axum::http::StatusCode;
use serde_json::{Value, json};

const SPEECH: &str = "/v1/audio/speech";

fn speak(model: &str) -> Value {
    json!({"model": model, "input": "Good m\u{f6}rning.", "voice": "alloy"})
}

fn parsed(events: &[String]) -> Vec<Value> {
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

#[tokio::test]
async fn a_picture_costs_its_tokens_by_quality_and_size() {
    let run = start().await;
    let asked = json!({"model": "sandbox-image", "prompt": "a red point", "quality": "low", "size": "1024x1024", "n": 2});
    let (_, made) = run.post("/v1/images/generations", asked).await;
    assert_eq!(made["data"].as_array().unwrap().len(), 2);
    assert_eq!(
        made["usage"],
        json!({
            "input_tokens": 3, "input_tokens_details": {"image_tokens": 0, "text_tokens": 3}, "output_tokens": 544,
            "output_tokens_details": {"image_tokens": 544, "text_tokens": 0}, "total_tokens": 547,
        })
    );
    let bill = run.sandbox.bill().models["sandbox-image"].clone();
    assert_eq!((bill.image_output_tokens, bill.cost_usd.as_nano()), (544, 3 * 5_000 + 544 * 40_000));
    let asked =
        json!({"model": "sandbox-image-each", "prompt": "a red point", "n": 3, "response_format": "url"});
    let (_, made) = run.post("/v1/images/generations", asked).await;
    assert!(made.get("usage").is_none() && made["data"][2]["url"].is_string(), "{made}");
    assert_eq!(run.sandbox.bill().models["sandbox-image-each"].cost_usd.to_string(), "0.12");
}

#[tokio::test]
async fn a_picture_becomes_clearer_in_a_stream() {
    let run = start().await;
    let asked = json!({"prompt": "a red point", "quality": "medium", "size": "1024x1024", "stream": true, "partial_images": 2});
    let events = parsed(&run.events("/v1/images/generations", asked.clone()).await);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["image_generation.partial_image", "image_generation.partial_image", "image_generation.completed"]
    );
    assert_eq!(
        (&events[1]["partial_image_index"], &events[2]["usage"]["output_tokens"]),
        (&json!(1), &json!(1_256))
    );
    let cut = with(asked, &json!({"model": "sandbox-image+cut=1"}));
    assert!(text_of(run.send(run.keyed("/v1/images/generations"), &cut).await).await.is_err());
    run.idle().await;
    assert_eq!(run.sandbox.bill().models["sandbox-image"].image_output_tokens, 2 * 1_256, "begun whole");
}

#[tokio::test]
async fn pictures_are_edited_and_varied() {
    let run = start().await;
    let fields = [
        ("model", "sandbox-image"),
        ("prompt", "blue"),
        ("quality", "low"),
        ("size", "1024x1024"),
        ("n", "1"),
    ];
    let files: [(&str, &[u8]); 3] = [("image[]", &[1; 10_000]), ("image[]", &[2; 40]), ("mask", &[3; 4])];
    let (_, made) = json_of(run.upload("/v1/images/edits", &fields, &files).await).await;
    assert_eq!(
        made["usage"]["input_tokens_details"],
        json!({"image_tokens": 323 + 10 + 1, "text_tokens": 1})
    );
    let bill = run.sandbox.bill().models["sandbox-image"].clone();
    assert_eq!(bill.cost_usd.as_nano(), 5_000 + 334 * 10_000 + 272 * 40_000);
    let streaming = [("prompt", "blue"), ("stream", "true"), ("partial_images", "1")];
    let streamed = text_of(run.upload("/v1/images/edits", &streaming, &files).await).await.unwrap();
    assert!(
        streamed.contains("event: image_edit.partial_image")
            && streamed.contains("event: image_edit.completed")
    );
    let (status, varied) =
        json_of(run.upload("/v1/images/variations", &[("n", "2")], &[("image", &[1; 8])]).await).await;
    assert_eq!((status, varied["data"].as_array().unwrap().len()), (StatusCode::OK, 2));
    assert_eq!(run.sandbox.bill().models["sandbox-image-each"].pictures, 2);
    let (status, refused) = json_of(run.upload("/v1/images/edits", &[("prompt", "x")], &[]).await).await;
    assert_eq!((status, &refused["error"]["param"]), (StatusCode::BAD_REQUEST, &json!("image")));
}

#[tokio::test]
async fn speech_is_bytes_of_the_kind_asked_for() {
    let run = start().await;
    for (format, kind, head) in [
        ("mp3", "audio/mpeg", &b"ID3"[..]),
        ("opus", "audio/ogg", b"OggS"),
        ("aac", "audio/aac", b"\xff\xf1"),
        ("flac", "audio/flac", b"fLaC"),
        ("wav", "audio/wav", b"RIFF"),
        ("pcm", "audio/pcm", b"\x55"),
    ] {
        let spoken = run
            .send(run.keyed(SPEECH), &with(speak("sandbox-tts"), &json!({"response_format": format})))
            .await;
        assert_eq!(spoken.headers()["content-type"], kind);
        assert!(bytes_of(spoken).await.starts_with(head), "{format}");
    }
    // Thirteen characters, of which one has two bytes.
    let bill = run.sandbox.bill().models["sandbox-tts"].clone();
    assert_eq!((bill.characters, bill.cost_usd.as_nano()), (6 * 13, 6 * 13 * 15_000));
    let events = parsed(
        &run.events(SPEECH, with(speak("sandbox-speech+tokens=20"), &json!({"stream_format": "sse"}))).await,
    );
    assert_eq!(events[0]["type"], "speech.audio.delta");
    assert_eq!(
        *events.last().unwrap(),
        json!({"type": "speech.audio.done", "usage": {"input_tokens": 4, "output_tokens": 20, "total_tokens": 24}})
    );
    let bill = run.sandbox.bill().models["sandbox-speech"].clone();
    assert_eq!((bill.audio_output_tokens, bill.cost_usd.as_nano()), (20, 4 * 600 + 20 * 12_000));
    let cut = run.send(run.keyed(SPEECH), &speak("sandbox-speech+tokens=900,cut=3")).await;
    assert!(text_of(cut).await.is_err());
    let (status, _) = run.post(SPEECH, with(speak("sandbox-tts"), &json!({"stream_format": "sse"}))).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_was_heard_is_told_in_every_format_and_billed_by_the_second() {
    let run = start().await;
    let sound = &vec![7; 40_000][..];
    let mut seen = Vec::new();
    for format in ["json", "text", "srt", "vtt", "verbose_json"] {
        let fields = [("model", "sandbox-whisper+tokens=3"), ("response_format", format)];
        seen.push(
            text_of(run.upload("/v1/audio/transcriptions", &fields, &[("file", sound)]).await).await.unwrap(),
        );
    }
    assert_eq!(
        seen[..4],
        [
            "{\"text\":\"You said: a \",\"usage\":{\"seconds\":3,\"type\":\"duration\"}}",
            "You said: a \n",
            "1\n00:00:00,000 --> 00:00:03,000\nYou said: a \n\n\n",
            "WEBVTT\n\n00:00:00.000 --> 00:00:03.000\nYou said: a \n\n",
        ]
    );
    let verbose: Value = serde_json::from_str(&seen[4]).unwrap();
    assert_eq!((&verbose["duration"], &verbose["segments"][0]["end"]), (&json!(3), &json!(3)));
    let fields = [("model", "sandbox-whisper")];
    let (_, told) = json_of(run.upload("/v1/audio/translations", &fields, &[("file", sound)]).await).await;
    assert_eq!(told["usage"], json!({"type": "duration", "seconds": 3}));
    let bill = run.sandbox.bill().models["sandbox-whisper"].clone();
    assert_eq!((bill.seconds, bill.output_tokens, bill.cost_usd.to_string()), (18, 0, "0.0018".to_owned()));
}

#[tokio::test]
async fn a_transcript_comes_as_events_with_its_usage() {
    let run = start().await;
    let sound = &vec![7; 40_000][..];
    let fields = [("model", "sandbox-transcribe+tokens=5"), ("prompt", "names"), ("stream", "true")];
    let text =
        text_of(run.upload("/v1/audio/transcriptions", &fields, &[("file", sound)]).await).await.unwrap();
    let events: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!((events.len(), &events[0]["type"]), (6, &json!("transcript.text.delta")));
    let usage = json!({
        "type": "tokens", "input_tokens": 32, "input_token_details": {"text_tokens": 2, "audio_tokens": 30},
        "output_tokens": 5, "total_tokens": 37,
    });
    assert_eq!((&events[5]["type"], &events[5]["usage"]), (&json!("transcript.text.done"), &usage));
    let bill = run.sandbox.bill().models["sandbox-transcribe"].clone();
    assert_eq!(bill.cost_usd.as_nano(), 2 * 2_500 + 30 * 6_000 + 5 * 10_000);
    let (_, whole) =
        json_of(run.upload("/v1/audio/transcriptions", &fields[..2], &[("file", sound)]).await).await;
    assert_eq!(whole["usage"], usage);
    let fields = [("model", "sandbox-transcribe"), ("response_format", "srt")];
    let (status, _) =
        json_of(run.upload("/v1/audio/transcriptions", &fields, &[("file", sound)]).await).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn moderations_judge_each_input_for_nothing() {
    let run = start().await;
    let picture = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}});
    for (input, flagged) in [
        (json!("hello"), vec![false]),
        (json!(["hello", "violence"]), vec![false, true]),
        (json!([{"type": "text", "text": "violence"}, picture]), vec![true]),
    ] {
        let (_, judged) = run.post("/v1/moderations", json!({"input": input})).await;
        let told: Vec<&Value> =
            judged["results"].as_array().unwrap().iter().map(|result| &result["flagged"]).collect();
        assert_eq!(told, flagged, "{judged}");
        let last = judged["results"].as_array().unwrap().last().unwrap();
        assert_eq!(last["category_applied_input_types"]["violence"][0], "text");
    }
    let bill = run.sandbox.bill();
    assert_eq!((bill.models["sandbox-moderation"].requests, bill.cost_usd.as_nano()), (3, 0));
}

#[tokio::test]
async fn gemini_tells_pictures_sound_and_thoughts_apart() {
    let run = start().await;
    let asked = json!({
        "contents": [{"parts": [{"text": "a question with a few words"}]}],
        "generationConfig": {"thinkingConfig": {"includeThoughts": true}},
    });
    let directives = "tokens=2,cached=1,image_input=2,audio_input=3,image_output=4,hidden_reasoning=5";
    let (_, told) = run.post(&format!("/v1/models/sandbox-rates+{directives}:generateContent"), asked).await;
    let parts = told["candidates"][0]["content"]["parts"].as_array().unwrap();
    assert_eq!((&parts[0]["thought"], parts.len()), (&json!(true), 3));
    assert_eq!(parts[2]["inlineData"]["mimeType"], "image/png");
    assert_eq!(
        told["usageMetadata"],
        json!({
            "promptTokenCount": 10, "candidatesTokenCount": 6, "thoughtsTokenCount": 5, "totalTokenCount": 21,
            "cachedContentTokenCount": 1, "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 1}],
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": 5}, {"modality": "IMAGE", "tokenCount": 2}, {"modality": "AUDIO", "tokenCount": 3},
            ],
            "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 2}, {"modality": "IMAGE", "tokenCount": 4}],
        })
    );
    let bill = run.sandbox.bill().models["sandbox-rates"].clone();
    assert_eq!((bill.image_output_tokens, bill.output_tokens), (4, 11));
}
