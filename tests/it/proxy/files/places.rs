//! Which provider and account a file goes to, and who may send one at all.

use super::*;

/// Adds a second provider, which is the sandbox with another account.
async fn add_second(server: &TestServer) {
    let url = &server.sandbox_url;
    let second = json!({"slug": "second", "dialects": {"openai": format!("{url}/v1"), "anthropic": url}});
    assert_eq!(server.admin_post("/api/v1/providers", &second).await.status, 201);
    let key = json!({"name": "main", "secret": "sandbox-second-account-key"});
    assert_eq!(server.admin_post("/api/v1/providers/second/credentials", &key).await.status, 201);
    let model = json!({"operations": ["chat"], "context_window": 1_000, "max_output_tokens": 400});
    let put = server.admin_call(Method::PUT, "/api/v1/models/second/a", Some(&model)).await;
    assert!(put.status.is_success(), "{:?}", put.json());
}

fn account(server: &TestServer) -> String {
    let sent = server.sandbox.requests().pop().unwrap();
    let key = sent.header("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned());
    key.or(sent.header("x-api-key").map(str::to_owned)).unwrap()
}

#[tokio::test]
async fn a_file_goes_to_the_only_provider_that_the_key_may_use_or_where_the_path_says() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    add_second(&server).await;
    let (_, both) = server.mint(json!({"models": ["sandbox/*", "second/*"]})).await;
    let (_, one) = server.mint(json!({"models": ["second/*"]})).await;
    for dialect in ["openai", "anthropic"] {
        let seen = server.sandbox.requests().len();
        for answer in [
            upload_at(&server, dialect, &both, FILES, upload_of(BINARY)).await,
            call(&server, dialect, &both, "GET", FILES).await,
        ] {
            assert_eq!(answer.refusal(), (400, "provider_ambiguous".to_owned()), "{}", answer.json());
            let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
            assert!(message.contains("/p/{provider}") && message.contains("sandbox, second"), "{message}");
        }
        let elsewhere = upload_at(&server, dialect, &one, "/p/sandbox/v1/files", upload_of(BINARY)).await;
        assert_eq!(elsewhere.refusal(), (403, "model_not_allowed".to_owned()), "{}", elsewhere.json());
        assert_eq!(server.sandbox.requests().len(), seen);

        let file = upload_at(&server, dialect, &both, "/p/second/v1/files", upload_of(BINARY)).await;
        assert_eq!((file.status.as_u16(), account(&server).as_str()), (200, "sandbox-second-account-key"));
        assert_eq!(file.header("x-bitting-provider"), Some("second"));
        let path = format!("{FILES}/{}", id(&file.json()));
        assert_eq!(call(&server, dialect, &both, "GET", &path).await.status, 200, "it is where it is");
        assert_eq!(account(&server), "sandbox-second-account-key");
        assert_eq!(listed(&server, dialect, &both, "/p/second/v1/files").await.len(), 1);
        assert!(listed(&server, dialect, &both, "/p/sandbox/v1/files").await.is_empty());
        let seen = server.sandbox.requests().len();
        let other = call(&server, dialect, &both, "GET", &format!("/p/sandbox{path}")).await;
        is_nobodys(&server, &other, seen, "another provider's path");
        let only = made(&server, dialect, &one).await;
        assert_eq!(account(&server), "sandbox-second-account-key");
        assert_eq!(listed(&server, dialect, &one, FILES).await, [only]);
    }
}

#[tokio::test]
async fn a_file_stays_with_the_account_that_it_was_sent_to() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let other = json!({"name": "other", "secret": "sandbox-other-account-key"});
    let added = server.admin_post("/api/v1/providers/sandbox/credentials", &other).await;
    let credential = added.json()["id"].as_str().unwrap().to_owned();
    let (_, secret) = server.mint(json!({})).await;
    let mut accounts = Vec::new();
    for _ in 0..8 {
        let file = made(&server, "openai", &secret).await;
        let maker = account(&server);
        let path = format!("{FILES}/{}", id(&file));
        for path in [path.clone(), format!("{path}/content")] {
            assert_eq!(call(&server, "openai", &secret, "GET", &path).await.status, 200);
            assert_eq!(account(&server), maker);
        }
        let (named, body) = naming("openai", &file);
        assert_eq!(server.call(spoken(&server, "openai", &secret, named, &body)).await.status, 200);
        assert_eq!(account(&server), maker);
        accounts.push((maker, path));
    }
    let of_other =
        accounts.iter().find(|(maker, _)| maker == "sandbox-other-account-key").expect("both are used");
    assert!(accounts.iter().any(|(maker, _)| maker == CANARY), "both are used");
    assert_eq!(listed(&server, "openai", &secret, FILES).await.len(), 8);
    let (_, pinned) = server.mint(json!({"credential": credential})).await;
    made(&server, "openai", &pinned).await;
    assert_eq!(account(&server), "sandbox-other-account-key");
    let disable = format!("/api/v1/providers/sandbox/credentials/{credential}/disable");
    assert_eq!(server.admin_post(&disable, &json!({})).await.status, 200);
    let seen = server.sandbox.requests().len();
    is_nobodys(
        &server,
        &call(&server, "openai", &secret, "GET", &of_other.1).await,
        seen,
        "its credential is gone",
    );
}

#[tokio::test]
async fn what_a_key_may_not_send_or_see_is_refused_unseen() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    add_second(&server).await;
    assert_eq!(server.admin_post("/api/v1/projects", &json!({"slug": "narrow"})).await.status, 201);
    let known = form(&[("purpose", "batch")], &[("file", "text/plain", b"x")]);
    let unknown = form(&[("purpose", "batch"), ("new_thing", "1")], &[("file", "text/plain", b"x")]);
    for (key, path, body, code) in [
        (json!({"allow_files": false}), FILES, &known, "feature_not_allowed"),
        (json!({"allow_store": false}), FILES, &known, "feature_not_allowed"),
        (json!({"operations": ["chat"]}), FILES, &known, "operation_not_allowed"),
        (json!({"strict_fields": true}), FILES, &unknown, "feature_not_allowed"),
        (json!({"ip_allow": ["192.0.2.0/24"]}), FILES, &known, "ip_not_allowed"),
        (json!({"models": ["sandbox/*"]}), "/p/second/v1/files", &known, "model_not_allowed"),
    ] {
        let (_, secret) = server.mint(key.clone()).await;
        for dialect in ["openai", "anthropic"] {
            let answer = upload_at(&server, dialect, &secret, path, body.clone()).await;
            assert_eq!(answer.refusal(), (403, code.to_owned()), "{key} {dialect}: {}", answer.json());
        }
    }
    // A ceiling binds where no model is named, too, for every way to files.
    let (_, wide) = server.mint(json!({"models": ["sandbox/*", "second/*"], "project": "narrow"})).await;
    let file = upload_at(&server, "openai", &wide, "/p/second/v1/files", known.clone()).await.json();
    let seen = server.sandbox.requests().len();
    let ceiling = json!({"ceiling": {"models": ["sandbox/*"]}});
    let patched = server.admin_call(Method::PATCH, "/api/v1/projects/narrow", Some(&ceiling)).await;
    assert!(patched.status.is_success(), "{:?}", patched.json());
    for (method, path) in [
        ("GET", "/p/second/v1/files".to_owned()),
        ("GET", format!("{FILES}/{}", id(&file))),
        ("DELETE", format!("{FILES}/{}", id(&file))),
        ("GET", format!("{FILES}/{}/content", id(&file))),
    ] {
        let answer = call(&server, "openai", &wide, method, &path).await;
        assert_eq!(answer.refusal(), (403, "model_not_allowed".to_owned()), "{path}: {}", answer.json());
    }
    for operation in ["list", "show"] {
        let (_, chats) = server.mint(json!({"operations": ["chat"]})).await;
        let path = if operation == "list" { FILES.to_owned() } else { format!("{FILES}/{}", id(&file)) };
        let answer = call(&server, "openai", &chats, "GET", &path).await;
        assert_eq!(answer.refusal(), (403, "operation_not_allowed".to_owned()), "{operation}");
    }
    assert_eq!(server.sandbox.requests().len(), seen);
    // Uploads count as requests.
    let (_, slow) =
        server.mint(json!({"rate_limits": [{"metric": "requests", "limit": 1, "per": "day"}]})).await;
    assert_eq!(upload_at(&server, "openai", &slow, FILES, known.clone()).await.status, 200);
    for answer in [
        upload_at(&server, "openai", &slow, FILES, known).await,
        call(&server, "openai", &slow, "GET", FILES).await,
    ] {
        assert_eq!(answer.refusal(), (429, "rate_limit_exceeded".to_owned()));
    }
}

#[tokio::test]
async fn a_dialect_that_the_keeper_does_not_speak_is_said_so() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let plain = json!({"slug": "plain", "dialects": {"openai": format!("{}/v1", server.sandbox_url)}});
    assert_eq!(server.admin_post("/api/v1/providers", &plain).await.status, 201);
    let key = json!({"name": "main", "secret": "sandbox-plain-account-key"});
    assert_eq!(server.admin_post("/api/v1/providers/plain/credentials", &key).await.status, 201);
    let (_, secret) = server.mint(json!({"models": ["plain/*"]})).await;
    let file = made(&server, "openai", &secret).await;
    let seen = server.sandbox.requests().len();
    let answer = call(&server, "anthropic", &secret, "GET", &format!("{FILES}/{}", id(&file))).await;
    assert_eq!(answer.refusal(), (400, "dialect_not_supported".to_owned()), "{}", answer.json());
    assert_eq!(server.sandbox.requests().len(), seen);
    let azure =
        call(&server, "openai", &secret, "GET", &format!("/openai{FILES}/{}?api-version=v1", id(&file)))
            .await;
    assert_eq!(azure.json(), file);
    assert_eq!(listed(&server, "openai", &secret, "/openai/v1/files?api-version=v1").await, [file]);
}

on_both! {
    async fn p2_what_code_wrote_goes_on_in_a_conversation_when_it_is_deleted_and_only_for_its_maker(test: TestStore) {
        let server = TestServer::start(test).await;
        let (_, maker) = server.mint(json!({})).await;
        let (_, other) = server.mint(json!({})).await;
        let file = made(&server, "anthropic", &maker).await;
        let output = json!([{"type": "code_execution_output", "file_id": id(&file)}]);
        let result = json!({"type": "code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": output});
        let block = json!({"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": result});
        let turns = json!([{"role": "assistant", "content": [block]}, {"role": "user", "content": "And now?"}]);
        let body = json!({"model": "sandbox-mini", "max_tokens": 16, "messages": turns});
        let ask = async |secret: &str| {
            let seen = server.sandbox.requests().len();
            let answer = server.call(spoken(&server, "anthropic", secret, "/v1/messages", &body)).await;
            (answer, server.sandbox.requests().len() > seen)
        };
        for is_deleted in [false, true] {
            if is_deleted {
                let path = format!("{FILES}/{}", id(&file));
                assert_eq!(call(&server, "anthropic", &maker, "DELETE", &path).await.status, 200);
            }
            let (answer, was_seen) = ask(&maker).await;
            assert!(was_seen, "deleted: {is_deleted}: {}", answer.json());
            let (answer, was_seen) = ask(&other).await;
            assert_eq!((answer.refusal(), was_seen), ((404, "object_not_found".to_owned()), false));
        }
    }
}
