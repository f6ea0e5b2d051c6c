//! Sealing and unsealing by operators: over restarts, against wrong codes, and against SQL behind the server's back.

use super::{UNSEAL, admin_log, installed_on_both, sealed, unseal, vault};
use crate::support::process::{Installation, Process};
use crate::support::server::{TestServer, chat};
use crate::support::store::{TestStore, on_both, tamper};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http::{Method, Request};
use http_body_util::Full;
use ring::digest;
use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;

fn sha256(text: &str) -> String {
    HEXLOWER.encode(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn kek_of(installation: &Installation) -> String {
    fs::read_to_string(installation.folder.path().join("kek")).unwrap()
}

async fn chats(server: &Process, secret: &str) -> (u16, String) {
    server.chat(secret, &chat("sandbox-mini")).await.unwrap().refusal()
}

async fn set_state(installation: &Installation, state: &str) {
    tamper(&installation.url, &format!("UPDATE register SET state = '{state}'")).await;
}

async fn kill(mut server: Process) {
    server.child.kill().await.unwrap();
}

installed_on_both! {
    async fn a_seal_holds_over_restarts_and_its_code_opens_it_once(installation: Installation) {
        let server = installation.serve_first().await;
        let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
        assert_eq!(chats(&server, &secret).await.0, 200);
        let code = sealed(&server).await;
        let plain = code.replace('-', "");
        assert!(plain.len() == 25 && plain.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{code}");
        assert_eq!(chats(&server, &secret).await, (503, "sealed".to_owned()));
        let ready = server.admin(Method::GET, "/readyz", &Value::Null).await;
        assert_eq!((ready.status.as_u16(), &ready.json()["reasons"]), (503, &json!(["sealed", "sealed_by_operator"])));
        kill(server).await;

        // The source is not even asked: with its key away the reason stays the operator.
        let (kek, away) = (installation.folder.path().join("kek"), installation.folder.path().join("away"));
        fs::rename(&kek, &away).unwrap();
        let server = installation.serve().await;
        assert_eq!(vault(&server).await, (true, json!("sealed_by_operator")));
        assert_eq!(chats(&server, &secret).await, (503, "sealed".to_owned()));
        let refused = (403, "unseal_refused".to_owned());
        for wrong in [json!({"code": "wrong"}), json!({})] {
            assert_eq!(unseal(&server, &wrong).await, refused, "{wrong}");
        }
        assert_eq!(unseal(&server, &json!({"code": code})).await, (503, "sealed".to_owned()), "its key is away");
        assert_eq!(vault(&server).await, (true, json!("sealed_by_operator")));
        fs::rename(&away, &kek).unwrap();
        assert_eq!(unseal(&server, &json!({"code": code})).await.0, 200);
        assert_eq!(chats(&server, &secret).await.0, 200);
        assert_eq!(unseal(&server, &json!({"code": code})).await, (409, "not_sealed".to_owned()));

        let next = sealed(&server).await;
        assert_ne!(next, code);
        assert_eq!(unseal(&server, &json!({"code": code})).await, refused, "a code opens once");
        assert_eq!(unseal(&server, &json!({"kek": kek_of(&installation)})).await.0, 200);
        assert_eq!(admin_log(&server, "vault.seal").await.len(), 2);
        let unsealed = admin_log(&server, "vault.unseal").await;
        let told = |entry: &Value| (entry["detail"]["by"].clone(), entry["detail"]["refused_tries"].clone());
        assert_eq!(unsealed.iter().map(told).collect::<Vec<_>>(), [(json!("kek"), json!(1)), (json!("code"), json!(2))]);
        assert_eq!(admin_log(&server, "vault.unseal_refused").await[1]["detail"]["by"], json!({"owner": 2}));
        kill(server).await;
        assert!(!vault(&installation.serve().await).await.0, "unsealed for good");
    }

    async fn a_code_whose_hash_sql_put_there_opens_nothing(installation: Installation) {
        let server = installation.serve_first().await;
        let (_, secret) = server.mint(&json!({"name": "ci", "models": ["sandbox/*"]})).await;
        let code = sealed(&server).await;
        kill(server).await;
        let seal = json!({"at": "2026-11-22T00:00:00Z", "by": "owner", "code_sha256": sha256("MINE")});
        set_state(&installation, &json!({"seal": seal, "quarantine": null}).to_string()).await;
        let server = installation.serve().await;
        for code in ["MINE", &code] {
            assert_eq!(unseal(&server, &json!({"code": code})).await, (403, "unseal_refused".to_owned()));
        }
        assert_eq!(vault(&server).await, (true, json!("sealed_by_operator")));
        assert_eq!(chats(&server, &secret).await, (503, "sealed".to_owned()));
        // The key opens it, and what was done to the register is not passed over.
        assert_eq!(unseal(&server, &json!({"kek": kek_of(&installation)})).await.0, 200);
        let ready = server.admin(Method::GET, "/readyz", &Value::Null).await;
        assert!(ready.json()["reasons"].as_array().unwrap().contains(&json!("quarantined")), "{:?}", ready.json());
    }

    async fn a_seal_that_sql_took_away_leaves_nothing_to_serve(installation: Installation) {
        let server = installation.serve_first().await;
        sealed(&server).await;
        kill(server).await;
        set_state(&installation, r#"{"seal": null, "quarantine": null}"#).await;
        let server = installation.serve().await;
        let ready = server.admin(Method::GET, "/readyz", &Value::Null).await;
        let reasons = ready.json()["reasons"].as_array().unwrap().clone();
        assert!(reasons.iter().any(|reason| *reason == "quarantined" || *reason == "sealed"), "{reasons:?}");
        assert_eq!(ready.status, 503);
    }

    async fn a_role_that_sql_granted_while_sealed_unseals_nothing(installation: Installation) {
        let server = installation.serve_first().await;
        let code = sealed(&server).await;
        let token = "bo_0000000000000000000000000000000000000000000000000000000000000001";
        let hash = sha256(token);
        let (blob, now) = if installation.url.starts_with("sqlite:") {
            (format!("X'{hash}'"), "'2026-11-22T00:00:00.000000Z'")
        } else {
            (format!("'\\x{hash}'"), "now()")
        };
        tamper(&installation.url, &format!(
            "INSERT INTO operators (id, name, roles, projects, version, created_at, created_by) \
             VALUES ('op_mallory', 'mallory', '[\"owner\"]', NULL, 1, {now}, 'x'); \
             INSERT INTO operator_tokens (id, operator_id, sha256, created_at, expires_at) \
             VALUES ('ot_mallory', 'op_mallory', {blob}, {now}, NULL)"
        )).await;
        let tried = server.admin_as(token, Method::POST, UNSEAL, &json!({"code": code})).await;
        assert_eq!(tried.refusal(), (403, "unseal_refused".to_owned()));
        assert!(vault(&server).await.0);
        tamper(&installation.url, "UPDATE operators SET roles = '[\"owner\", \"viewer\"]' WHERE name = 'owner'").await;
        assert_eq!(unseal(&server, &json!({"kek": kek_of(&installation)})).await, (403, "unseal_refused".to_owned()));
        tamper(&installation.url, "UPDATE operators SET roles = '[\"owner\"]' WHERE name = 'owner'").await;
        assert_eq!(unseal(&server, &json!({"code": code})).await.0, 200);
    }
}

/// A path that fits the route.
fn filled(path: &str) -> String {
    let path = path.replace("{id}", "0000000000000000").replace("{slug}", "nobody");
    path.replace("{provider}", "nobody").replace("{*model}", "m")
}

on_both! {
    async fn sealed_everything_answers_so_but_health_the_status_and_unseal(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        let sealed = server.admin_post("/api/v1/vault/seal", &json!({})).await;
        assert_eq!(sealed.status, 200);
        let code = sealed.json()["unseal_code"].as_str().unwrap().to_owned();
        for route in bitting::admin::declared_routes() {
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            let answer = server.admin_call(method, &filled(route.path), Some(&json!({}))).await;
            match (route.method, route.path) {
                ("GET", "/api/v1/vault") => assert_eq!(answer.status, 200),
                ("POST", UNSEAL) => assert_eq!(answer.refusal(), (403, "unseal_refused".to_owned())),
                _ => {
                    assert_eq!(answer.refusal(), (503, "sealed".to_owned()), "{} {}", route.method, route.path);
                    assert!(answer.header("retry-after").is_some());
                }
            }
        }
        for (path, header) in [
            ("/v1/chat/completions", None),
            ("/v1/messages", Some("anthropic-version")),
            ("/v1beta/models/sandbox-mini:generateContent", None),
            ("/no/such/path", None),
        ] {
            for secret in [secret.as_str(), "bk_nobody", ""] {
                let mut request = server.proxied(secret, path, chat("sandbox-mini").to_string());
                if let Some(header) = header {
                    request.headers_mut().insert(header, "2023-06-01".parse().unwrap());
                }
                let answer = server.call(request).await;
                assert_eq!(answer.refusal(), (503, "sealed".to_owned()), "{path}");
                assert!(answer.header("retry-after").is_some());
                if header.is_some() {
                    assert_eq!(answer.json()["type"], "error", "in the client's dialect");
                }
            }
        }
        for path in ["/bitting/self", "/v1/models", "/v1/models/sandbox-mini"] {
            let request = Request::get(format!("{}{path}", server.proxy)).header("x-api-key", &secret);
            let answer = server.call(request.body(Full::new(Bytes::new())).unwrap()).await;
            assert_eq!(answer.refusal(), (503, "sealed".to_owned()), "{path}");
        }
        for plane in [&server.proxy, &server.admin] {
            let get = |path: &str| Request::get(format!("{plane}{path}")).body(Full::new(Bytes::new())).unwrap();
            assert_eq!(server.call(get("/healthz")).await.status, 200);
            let ready = server.call(get("/readyz")).await;
            assert_eq!(ready.status, 503);
            assert_eq!(ready.json()["reasons"], json!(["sealed", "sealed_by_operator"]));
        }
        for body in [json!({"code": code, "kek": "x"}), json!({"token": "x"}), json!({"code": 1})] {
            assert_eq!(server.admin_post(UNSEAL, &body).await.status, 400, "{body}");
        }
        assert_eq!(server.admin_post(UNSEAL, &json!({"code": code})).await.status, 200);
        assert_eq!(server.chat(&secret, "sandbox-mini").await.status, 200);
    }
}

#[tokio::test]
async fn after_five_wrong_tries_nobody_is_heard_for_a_while() {
    let installation = Installation::sqlite().await;
    let log = installation.folder.path().join("log");
    let server = installation.serve_telling(&[], &log).await;
    let code = sealed(&server).await;
    for _ in 0..5 {
        assert_eq!(unseal(&server, &json!({"kek": "wrong-canary-key"})).await.0, 403);
    }
    let right = server.admin(Method::POST, UNSEAL, &json!({"code": code})).await;
    assert_eq!(right.refusal(), (429, "too_many_tries".to_owned()));
    let wait: u64 = right.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=61).contains(&wait));
    assert!(vault(&server).await.0);
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("\"alarm\":\"unseal_refused\"").count(), 1, "{said}");
    assert!(!said.contains("wrong-canary-key") && !said.contains(&code), "{said}");
}

#[tokio::test]
async fn tries_at_the_same_time_are_no_more_tries() {
    let installation = Installation::sqlite().await;
    let server = installation.serve().await;
    let code = sealed(&server).await;
    let wrong = json!({"code": "wrong"});
    let tried = futures_util::future::join_all((0..24).map(|_| unseal(&server, &wrong))).await;
    let heard = tried.iter().filter(|refusal| refusal.0 == 403).count();
    assert_eq!(heard, 5, "{tried:?}");
    assert!(tried.iter().all(|refusal| matches!(refusal.0, 403 | 429)), "{tried:?}");
    assert_eq!(unseal(&server, &json!({"code": code})).await.0, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_about_the_vault_say_what_is_and_keep_secrets_out_of_arguments() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let bitting = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_bitting"));
        command.args(arguments).env("BITTING_URL", &server.admin).env("BITTING_TOKEN", &server.token);
        let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (done.status.code(), text(&done.stdout), text(&done.stderr))
    };
    let folder = server.store.folder.path();
    let (code, out, _) = bitting(&["vault", "seal", "--json"]).await;
    assert_eq!(code, Some(0));
    let sealed: Value = serde_json::from_str(&out).unwrap();
    let (file, wrong) = (folder.join("code"), folder.join("wrong"));
    fs::write(&file, format!("{}\n", sealed["unseal_code"].as_str().unwrap())).unwrap();
    fs::write(&wrong, "wrong\n").unwrap();
    let (_, out, _) = bitting(&["vault", "status"]).await;
    assert!(out.contains("sealed_by_operator"), "{out}");
    let (code, _, error) = bitting(&["vault", "unseal", "--code-file", wrong.to_str().unwrap()]).await;
    assert!(code == Some(1) && error.contains("unseal_refused"), "{error}");
    let (code, out, error) = bitting(&["vault", "unseal", "--code-file", file.to_str().unwrap()]).await;
    assert_eq!((code, out.as_str()), (Some(0), "unsealed\n"), "{error}");
    let (code, out, _) = bitting(&["vault", "seal"]).await;
    assert!(code == Some(0) && out.contains("unseal code"), "{out}");
    let kek = folder.join("kek");
    let (code, _, error) = bitting(&["vault", "unseal", "--kek-file", kek.to_str().unwrap()]).await;
    assert_eq!(code, Some(0), "{error}");
}
