//! What operators and applications do with secrets, step by step, as it should be done and as it should not.

use super::journey::{Journey, KEYS, PASSPHRASE};
use crate::support::server::chat;
use crate::support::store::tamper;
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

const IDEMPOTENCY_KEY: &str = "the-same-request-again";

/// Providers and their keys: by the API and by the command line, well and badly formed.
pub(super) async fn keys_of_providers(journey: &mut Journey) -> String {
    let url = journey.home.sandbox_url().to_owned();
    let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
    let made =
        journey.admin("POST", "/api/v1/providers", &json!({"slug": "sandbox", "dialects": dialects})).await;
    assert_eq!(made.status, 201, "{:?}", made.json());
    let add = ["credential", "add", "sandbox", "--name", "main", "--json"];
    let added: Value = serde_json::from_str(&journey.tells(&add, KEYS[0]).await).unwrap();
    let id = added["id"].as_str().unwrap().to_owned();

    let credentials = "/api/v1/providers/sandbox/credentials";
    let rotate = format!("{credentials}/{id}/rotate");
    let key = KEYS[0];
    for (path, wrong) in [
        (credentials, format!(r#"{{"name": "a", "secret": ["{key}"]}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": {{"v": "{key}"}}}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": "x", "weight": "{key}"}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": "x", "{key}": 1}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": "{key}", "secret": "{key}"}}"#)),
        (credentials, format!(r#"{{"{key}": 1, "{key}": 2}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": "{key}""#)),
        (credentials, format!(r#"{{"name": "a", "secret": "{key}"}} {key}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": {key}}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": "{key}\n"}}"#)),
        (credentials, format!(r#"{{"name": "a", "secret": "{key}\u0000é"}}"#)),
        (credentials, format!(r#"{{"name": "main", "secret": "{key}"}}"#)),
        (credentials, format!("\"{key}\"")),
        (credentials, key.to_owned()),
        (rotate.as_str(), format!(r#"{{"secret": "{key}", "drain_seconds": "{key}"}}"#)),
        (rotate.as_str(), format!(r#"{{"secret": "{key}", "probe": "{key}"}}"#)),
        ("/api/v1/providers/nobody/credentials", format!(r#"{{"name": "a", "secret": "{key}"}}"#)),
    ] {
        let refused =
            journey.call(&wrong.replace(key, "KEY"), journey.to_admin("POST", path, wrong)).await.unwrap();
        assert!(refused.status.is_client_error(), "{}: {:?}", refused.status, refused.json());
    }
    id
}

/// Sub-keys: minted, shown, rotated, revoked, by the API and by the command line.
pub(super) async fn sub_keys(journey: &mut Journey) -> (String, String) {
    let definition = json!({"name": "ci", "models": ["sandbox/*"], "budgets": [{"limit_usd": "5.00", "window": "day", "alert_at": ["0.000000001"]}]});
    let (minted, first) = journey.given("/api/v1/subkeys", &definition, "secret").await;
    journey.witness.know_token("the first sub-key", &first);
    let id = minted["subkey"]["id"].as_str().unwrap().to_owned();
    let rotate = format!("/api/v1/subkeys/{id}/rotate");
    let (_, second) = journey.given(&rotate, &json!({"overlap_seconds": 0}), "secret").await;
    journey.witness.know_token("the second secret of the first sub-key", &second);

    // A repeat tells what was made and gives nothing out again.
    for again in 0..2 {
        let mut request =
            journey.to_admin("POST", "/api/v1/subkeys", json!({"name": "once", "models": ["*"]}).to_string());
        request.headers_mut().insert("idempotency-key", IDEMPOTENCY_KEY.parse().unwrap());
        let answer = journey.server.send_raw(request).await.unwrap();
        if again == 0 {
            let secret = answer.json()["secret"].as_str().unwrap().to_owned();
            journey.witness.know_token("the sub-key that is minted once", &secret);
            journey.witness.saw_given_out("a mint with an idempotency key", answer.bytes.to_vec(), &secret);
        } else {
            assert_eq!(answer.refusal(), (409, "already_done".to_owned()));
            journey.witness.saw_answer("the repeat of a mint", &answer);
        }
    }

    let file = journey.home.folder.path().join("ci.secret");
    let mint = [
        "subkey",
        "mint",
        "--name",
        "by-cli",
        "--model",
        "sandbox/*",
        "--secret-file",
        file.to_str().unwrap(),
    ];
    journey.tells(&mint, "").await;
    let in_file = std::fs::read_to_string(&file).unwrap();
    journey.witness.know_token("the sub-key in a file", in_file.trim());
    journey.for_secrets.push(file);
    let shown = journey.ask(&["subkey", "mint", "--name", "shown", "--model", "*", "--json"], "").await;
    let out: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let secret = out["secret"].as_str().unwrap().to_owned();
    journey.witness.know_token("the sub-key on standard output", &secret);
    journey.witness.saw_given_out("the output of subkey mint --json", shown.stdout, &secret);
    let shown = out["subkey"]["id"].as_str().unwrap_or("shown").to_owned();
    journey.tells(&["subkey", "list", "--all", "--json"], "").await;
    journey.tells(&["subkey", "show", &id, "--json"], "").await;
    for verb in ["suspend", "resume", "revoke"] {
        journey.tells(&["subkey", verb, &shown], "").await;
    }
    (first, second)
}

/// What an application does and provokes.
pub(super) async fn proxied(journey: &mut Journey, secret: &str) {
    for directives in [
        "",
        "+echo_key",
        "+echo_key_split",
        "+bad_key,echo_key",
        "+status=401,echo_key",
        "+status=400,echo_key",
        "+status=429,echo_key",
        "+status=500,echo_key",
        "+redirect,echo_key",
        "+malformed,echo_key",
        "+cut=2",
        "+close",
    ] {
        for stream in [false, true] {
            for (path, header) in [("/v1/chat/completions", "authorization"), ("/v1/messages", "x-api-key")] {
                let mut body = chat(&format!("sandbox-mini{directives}"));
                body["stream"] = json!(stream);
                let bearer = format!("Bearer {secret}");
                let value = if header == "authorization" { &bearer } else { secret };
                let request =
                    journey.to_proxy(path, &[(header, value), ("anthropic-version", "2023-06-01")], &body);
                journey.call(&format!("{directives} stream={stream}"), request).await;
            }
            let method = if stream { "streamGenerateContent" } else { "generateContent" };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": "hello"}]}], "generationConfig": {"maxOutputTokens": 16}});
            let path = format!("/v1beta/models/sandbox-mini{directives}:{method}");
            journey.call("Gemini's", journey.to_proxy(&path, &[("x-goog-api-key", secret)], &body)).await;
        }
    }
}

/// Both planes again, by the other version of HTTP, which has a log of its own.
pub(super) async fn over_http2(journey: &mut Journey, secret: &str) {
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    for directives in ["", "+echo_key"] {
        let headers = [("authorization", format!("Bearer {secret}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let body = chat(&format!("sandbox-mini{directives}"));
        let requests = [
            journey.to_proxy("/v1/chat/completions", &headers, &body),
            journey.to_admin("GET", "/api/v1/subkeys", ""),
        ];
        for request in requests {
            let (parts, body) = client.request(request).await.unwrap().into_parts();
            assert!(
                parts.version == http::Version::HTTP_2 && (parts.status == 200 || !directives.is_empty())
            );
            let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            journey.witness.saw("an answer by HTTP/2", format!("{:?}", parts.headers));
            journey.witness.saw("an answer by HTTP/2", bytes.to_vec());
        }
    }
}

/// Rotation of a provider's key: by the command line, by the API, and to one that the provider refuses.
pub(super) async fn rotated_keys(journey: &mut Journey, id: &str, live: &str) {
    let rotate = ["credential", "rotate", "sandbox", id, "--drain", "0s"];
    journey.tells(&rotate, KEYS[1]).await;
    proxied(journey, live).await;
    let path = format!("/api/v1/providers/sandbox/credentials/{id}/rotate");
    let done = journey.admin("POST", &path, &json!({"secret": KEYS[2], "drain_seconds": 60})).await;
    assert_eq!(done.status, 200, "{:?}", done.json());
    proxied(journey, live).await;
    // A provider that is not there, and one whose address is refused.
    for (slug, url) in [("gone", "http://127.0.0.1:9/v1"), ("inside", "http://10.0.0.1/v1")] {
        let document = json!({"slug": slug, "dialects": {"openai": url}});
        if journey.admin("POST", "/api/v1/providers", &document).await.status == 201 {
            let path = format!("/api/v1/providers/{slug}/credentials");
            let made = journey.admin("POST", &path, &json!({"name": "main", "secret": KEYS[0]})).await;
            let id = made.json()["id"].as_str().unwrap().to_owned();
            let path = format!("{path}/{id}/rotate");
            let refused = journey.admin("POST", &path, &json!({"secret": KEYS[1]})).await;
            assert!(!refused.status.is_success(), "{:?}", refused.json());
            let body = json!({"model": format!("{slug}/m"), "max_tokens": 1, "messages": []});
            let bearer = format!("Bearer {live}");
            let request = journey.to_proxy("/v1/chat/completions", &[("authorization", &bearer)], &body);
            journey.call("a provider that is gone", request).await.unwrap();
        }
    }
    journey.tells(&["credential", "list", "sandbox", "--json"], "").await;
}

/// Everything that an operator can look at, and an export to a file.
pub(super) async fn looked_at(journey: &mut Journey) {
    for path in [
        "/api/v1/providers",
        "/api/v1/providers/sandbox",
        "/api/v1/providers/sandbox/credentials",
        "/api/v1/models",
        "/api/v1/subkeys",
        "/api/v1/usage",
        "/api/v1/access-log",
        "/api/v1/access-log/export?format=jsonl",
        "/api/v1/admin-log",
        "/api/v1/admin-log/export?format=jsonl",
        "/api/v1/alarms",
        "/api/v1/vault",
        "/metrics",
        "/readyz",
        "/healthz",
    ] {
        let answer = journey.admin("GET", path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.json());
    }
    for (number, arguments) in
        [["log", "export"].as_slice(), &["log", "export", "--admin"]].into_iter().enumerate()
    {
        let name = format!("export-{number}-{}.jsonl", bitting::base::Entropy::new().base62(6));
        let file = journey.home.folder.path().join(name);
        let arguments = [arguments, &["--format", "jsonl", "--output", file.to_str().unwrap()]].concat();
        journey.tells(&arguments, "").await;
        assert!(std::fs::metadata(&file).unwrap().len() > 1_000);
    }
    journey.tells(&["alarm", "list", "--json"], "").await;
    journey.tells(&["vault", "status", "--json"], "").await;
    journey.tells(&["log", "list"], "").await;
}

/// Sealed and unsealed: by the code, by the key, by what is wrong, and by what is well meant and malformed.
pub(super) async fn sealed_and_unsealed(journey: &mut Journey) {
    let kek = std::fs::read_to_string(journey.home.folder.path().join("kek")).unwrap();
    let unseal = "/api/v1/vault/unseal";
    for (round, by) in ["code", "code_file", "kek"].into_iter().enumerate() {
        let (_, code) = journey.given("/api/v1/vault/seal", &json!({}), "unseal_code").await;
        journey.witness.know(&format!("unseal code {round}"), &code);
        journey.witness.know(&format!("unseal code {round} in one piece"), code.replace('-', ""));
        let request =
            journey.to_proxy("/v1/chat/completions", &[("authorization", "Bearer bk_nobody")], &chat("m"));
        assert_eq!(journey.call("sealed", request).await.unwrap().status, 503);
        for wrong in [
            json!({"code": [code]}),
            json!({"code": 1, "code2": code}),
            json!({code.as_str(): 1}),
            json!({"passphrase": code}),
            json!({"kek": PASSPHRASE}),
            json!({"kek": code}),
            json!({"kek": [kek]}),
            json!({kek.as_str(): kek}),
            json!({"code": code, "kek": kek}),
            json!(kek),
        ] {
            let refused = journey.admin("POST", unseal, &wrong).await;
            assert!(refused.status.is_client_error(), "{wrong}: {:?}", refused.json());
        }
        // After that many wrong ones the right one has to wait.
        journey.restart(&[]).await;
        let file = journey.home.folder.path().join(format!("code-{round}.secret"));
        match by {
            "code" => drop(journey.tells(&["vault", "unseal"], &code).await),
            "code_file" => {
                std::fs::write(&file, &code).unwrap();
                journey.for_secrets.push(file.clone());
                journey.tells(&["vault", "unseal", "--code-file", file.to_str().unwrap()], "").await;
            }
            _ => {
                let done = journey.admin("POST", unseal, &json!({"kek": kek})).await;
                assert_eq!(done.status, 200, "{:?}", done.json());
            }
        }
    }
    let sealed = journey.ask(&["vault", "seal"], "").await;
    let text = String::from_utf8(sealed.stdout.clone()).unwrap();
    let code = text.split_whitespace().find(|word| word.len() == 29).unwrap().to_owned();
    journey.witness.know("the unseal code on standard output", &code);
    journey.witness.saw_given_out("the output of vault seal", sealed.stdout, &code);
    journey.tells(&["vault", "unseal"], &code).await;
}

/// Backup, restore, rotation of the vault, another key, another owner; and rows that SQL changed.
pub(super) async fn set_aside(journey: &mut Journey, live: &str) {
    let folder = journey.home.folder.path().to_owned();
    let backup = folder.join("backup");
    journey.beside(&["backup", backup.to_str().unwrap()], &[]).await;
    restored(journey, &backup).await;
    journey.tells(&["vault", "rotate", "--wait", "--json"], "").await;
    journey.tells(&["vault", "rewrap", "--wait", "--json"], "").await;
    let passphrase = journey.passphrase();
    let by_passphrase = [("BITTING_KEK_PASSPHRASE_FILE", passphrase.as_str())];
    for (arguments, environment) in [
        (&["vault", "change-kek", "--to-passphrase-file", &passphrase][..], &[][..]),
        (&["vault", "change-kek", "--confirm"], &by_passphrase),
    ] {
        let output = journey.beside(arguments, environment).await;
        journey.witness.saw(format!("the output of {arguments:?}"), output.stdout);
    }
    let recovered = journey.beside(&["operator", "recover"], &by_passphrase).await;
    let text = String::from_utf8(recovered.stdout.clone()).unwrap();
    let token = text.split_whitespace().find(|word| word.starts_with("bo_")).unwrap().to_owned();
    journey.witness.know("the token of another owner", &token);
    journey.witness.saw_given_out("the output of operator recover", recovered.stdout, &token);

    // What is noticed is alarmed, and the alarm tells of a row, not what is in it.
    journey.restart(&by_passphrase).await;
    tamper(&journey.home.url, "UPDATE budgets SET limit_nano = limit_nano + 1").await;
    let bearer = format!("Bearer {live}");
    let request =
        journey.to_proxy("/v1/chat/completions", &[("authorization", &bearer)], &chat("sandbox-mini"));
    journey.call("a row that SQL changed", request).await.unwrap();
    tamper(&journey.home.url, "UPDATE credential_versions SET sealed = wrapped_dek").await;
    journey.restart(&by_passphrase).await;
    journey
        .call(
            "nothing opens",
            journey.to_proxy("/v1/chat/completions", &[("authorization", &bearer)], &chat("m")),
        )
        .await;
}

/// Restores elsewhere, and leaves what is there among the installation's files, to be searched with them.
async fn restored(journey: &mut Journey, backup: &std::path::Path) {
    let elsewhere = journey.home.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let kek = elsewhere.join("kek");
    std::fs::copy(journey.home.folder.path().join("kek"), &kek).unwrap();
    journey.for_secrets.push(kek);
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bitting"));
    command.arg("restore").arg(backup).arg("--data").arg(&elsewhere).env("BITTING_LOG", "trace");
    let done = command.kill_on_drop(true).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    journey.witness.saw("the output of restore", [done.stdout, done.stderr].concat());
    assert!(elsewhere.join("bitting.db").exists());
}
