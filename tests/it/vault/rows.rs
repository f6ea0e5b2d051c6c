//! Rows that were changed by SQL, under a running server and under a stopped one: what they grant is refused, alarmed,
//! and not sent to a provider; put back, they are good again.

use crate::support::server::{Answer, CANARY, TestServer};
use crate::support::store::{TestStore, on_both};
use bitting::service::{Actor, Role, RowWatch};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

/// What SQL does, what puts it back, and who shall be refused in between.
struct Case {
    name: &'static str,
    sql: String,
    undo: String,
    refused: Refused,
}

enum Refused {
    /// The holder of this secret, because its key's row is not as it was written.
    Key(String),
    /// Whoever asks with the secret that was rotated out, in the place of the new one.
    Old { old: String, new: String },
    /// Whoever asks with this secret, by this code.
    Code(String, &'static str),
    /// The holder of this operator token.
    Operator(String),
    /// Minting.
    Mint,
}

/// A server with something of everything, each used once.
struct World {
    server: TestServer,
    cases: Vec<Case>,
}

impl World {
    async fn new(test: TestStore) -> Self {
        let sqlite = test.url.starts_with("sqlite");
        let server = TestServer::start(test).await;
        // A price of an operator's, and a second credential for one project.
        let model = json!({
            "operations": ["chat"], "context_window": 128_000, "max_output_tokens": 16_384,
            "prices": {"input_per_mtok_usd": "0.151", "output_per_mtok_usd": "0.6"},
        });
        let put = server.admin_call(Method::PUT, "/api/v1/models/sandbox/sandbox-mini", Some(&model)).await;
        assert!(put.status.is_success(), "{:?}", put.json());
        let limits = json!([{"metric": "requests", "limit": 1234, "per": "minute"}]);
        let second =
            json!({"name": "second", "secret": CANARY, "projects": ["default"], "rate_limits": limits});
        let second = server.admin_post("/api/v1/providers/sandbox/credentials", &second).await.json();
        let second = second["id"].as_str().unwrap().to_owned();

        let capped = json!({
            "budgets": [{"limit_usd": "0.777", "window": "total"}, {"limit_usd": "0.5", "window": "month"}],
            "models": ["sandbox/sandbox-mini"], "expires_at": "2031-01-01T00:00:00Z",
        });
        let (key, secret) = server.mint(capped).await;
        let (other, other_secret) = server.mint(json!({})).await;
        let (stopped, stopped_secret) = server.mint(json!({})).await;
        let (revoked, revoked_secret) = server.mint(json!({})).await;
        let (_, pinned_secret) = server.mint(json!({"credential": second})).await;
        let (rotated, rotated_secret) = server.mint(json!({})).await;
        let team = json!({
            "slug": "team", "budgets": [{"limit_usd": "0.888", "window": "total"}], "ceiling": {"max_output_tokens": 4242},
        });
        for project in [&team, &json!({"slug": "idle"})] {
            assert_eq!(server.admin_post("/api/v1/projects", project).await.status, 201);
        }
        let bounded = json!({"project": "team", "max_output_tokens": 16});
        let (_, team_secret) = server.mint(bounded).await;
        let (_, idle_secret) = server.mint(json!({"project": "idle"})).await;
        assert_eq!(server.chat(&idle_secret, "sandbox/sandbox-mini").await.status, 200);
        assert_eq!(server.chat(&team_secret, "sandbox/sandbox-mini").await.status, 200);
        let idle = server.admin_post("/api/v1/projects/idle/suspend", &json!({})).await;
        assert_eq!(idle.status, 200, "{:?}", idle.json());
        for secret in
            [&secret, &other_secret, &stopped_secret, &revoked_secret, &pinned_secret, &rotated_secret]
        {
            assert_eq!(server.chat(secret, "sandbox/sandbox-mini").await.status, 200);
        }
        let save = format!(
            "CREATE TABLE saved_secrets AS SELECT * FROM subkey_secrets WHERE subkey_id = '{rotated}';
             CREATE TABLE saved_budgets AS SELECT * FROM budgets WHERE owner = 'subkey:{key}';"
        );
        server.store.tamper(&save).await;
        for (id, verb) in [(&stopped, "suspend"), (&revoked, "revoke")] {
            let done = server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &json!({})).await;
            assert!(done.status.is_success(), "{verb} {:?}", done.json());
        }
        let path = format!("/api/v1/subkeys/{rotated}/rotate");
        let new = server.admin_post(&path, &json!({"overlap_seconds": 0})).await.json();
        let new = new["secret"].as_str().unwrap().to_owned();
        server
            .store
            .tamper(&format!(
                "CREATE TABLE new_secrets AS SELECT * FROM subkey_secrets WHERE subkey_id = '{rotated}';"
            ))
            .await;
        let made = server.services.create_operator(&Actor::local(), "eve", &[Role::Viewer], None, None).await;
        let eve = made.ok().unwrap().1.expose().clone();

        let json = |table: &str, column: &str, from: &str, to: &str, id: &str| {
            let one = |from: &str, to: &str| {
                if sqlite {
                    format!("UPDATE {table} SET {column} = replace({column}, '{from}', '{to}') WHERE {id};")
                } else {
                    format!(
                        "UPDATE {table} SET {column} = replace({column}::text, '{from}', '{to}')::jsonb WHERE {id};"
                    )
                }
            };
            (one(from, to), one(to, from))
        };
        let this = format!("id = '{key}'");
        let url = &server.sandbox_url;
        let elsewhere = url.replace("127.0.0.1", "127.0.0.2");
        let mut cases = Vec::new();
        let mut add =
            |name, (sql, undo): (String, String), refused| cases.push(Case { name, sql, undo, refused });
        let its = || Refused::Key(secret.clone());
        add("a cap is raised", json("subkeys", "definition", "0.777", "9777", &this), its());
        add("models are widened", json("subkeys", "definition", "sandbox/sandbox-mini", "**", &this), its());
        add("an expiry is moved", json("subkeys", "definition", "2031-", "2041-", &this), its());
        let set = |table: &str, to: &str, from: &str, id: &str| {
            (format!("UPDATE {table} SET {to} WHERE {id};"), format!("UPDATE {table} SET {from} WHERE {id};"))
        };
        let total = format!("id = 'subkey:{key}/total'");
        add(
            "a budget's cap is raised",
            set("budgets", "limit_nano = 9777", "limit_nano = 777000000", &total),
            its(),
        );
        let truth = |word: bool| match (sqlite, word) {
            (true, true) => "active = 1",
            (true, false) => "active = 0",
            (false, true) => "active = TRUE",
            (false, false) => "active = FALSE",
        };
        add("a budget is put aside", set("budgets", truth(false), truth(true), &total), its());
        let gone = format!(
            "DELETE FROM budget_windows WHERE budget_id = 'subkey:{key}/total'; DELETE FROM budgets WHERE {total};"
        );
        let back = format!("INSERT INTO budgets SELECT * FROM saved_budgets WHERE {total};");
        add("a budget is deleted", (gone, back), its());
        let more = format!(
            "INSERT INTO subkey_secrets SELECT 'sec_x', '{key}', mac, mac_term, created_at, expires_at
               FROM subkey_secrets WHERE subkey_id = '{other}';"
        );
        add("a secret is added", (more, "DELETE FROM subkey_secrets WHERE id = 'sec_x';".to_owned()), its());
        add(
            "a suspended key is resumed",
            set("subkeys", "state = 'active'", "state = 'suspended'", &format!("id = '{stopped}'")),
            Refused::Key(stopped_secret),
        );
        let put_back = ("state = 'active', version = 1", "state = 'revoked', version = 2");
        add(
            "the row of a revoked key is put back",
            set("subkeys", put_back.0, put_back.1, &format!("id = '{revoked}'")),
            Refused::Key(revoked_secret),
        );
        let mac = |from: &str| {
            format!("UPDATE subkey_secrets SET mac = (SELECT mac FROM {from}) WHERE subkey_id = '{rotated}';")
        };
        add(
            "the MAC of a secret that was rotated out is put back",
            (mac("saved_secrets"), mac("new_secrets")),
            Refused::Old { old: rotated_secret, new },
        );
        add(
            "a base URL is changed",
            json("providers", "document", url, &elsewhere, "slug = 'sandbox'"),
            Refused::Code(other_secret.clone(), ""),
        );
        add(
            "a credential is opened to every project",
            set("credentials", "projects = NULL", "projects = '[\"default\"]'", &format!("id = '{second}'")),
            Refused::Code(pinned_secret.clone(), ""),
        );
        add(
            "a credential's limit is raised",
            json("credentials", "rate_limits", "1234", "999999", &format!("id = '{second}'")),
            Refused::Code(pinned_secret.clone(), ""),
        );
        add(
            "a credential's limits are taken away",
            set(
                "credentials",
                "rate_limits = NULL",
                &format!(
                    "rate_limits = '{}'",
                    json!([{"metric": "requests", "limit": 1234, "per": "minute"}])
                ),
                &format!("id = '{second}'"),
            ),
            Refused::Code(pinned_secret, ""),
        );
        add(
            "a price is changed",
            json("models", "document", "0.151", "0.001", "provider = 'sandbox'"),
            Refused::Code(secret.clone(), "model_unpriced"),
        );
        add(
            "a role is granted",
            json("operators", "roles", "viewer", "owner", "name = 'eve'"),
            Refused::Operator(eve),
        );
        let its = || Refused::Key(team_secret.clone());
        let in_team = "slug = 'team'";
        add("a ceiling is raised", json("projects", "document", "4242", "9999", in_team), its());
        add("a project is moved", set("projects", "parent = 'default'", "parent = NULL", in_team), its());
        let team_total = "id = 'project:team/total'";
        add(
            "a project's cap is raised",
            set("budgets", "limit_nano = 9777", "limit_nano = 888000000", team_total),
            its(),
        );
        add("a project's cap is put aside", set("budgets", truth(false), truth(true), team_total), its());
        add(
            "a suspended project is resumed",
            set("projects", "status = 'active'", "status = 'suspended'", "slug = 'idle'"),
            Refused::Key(idle_secret),
        );
        add(
            "a project is changed",
            set("projects", "name = 'other'", "name = 'default'", "slug = 'default'"),
            Refused::Mint,
        );
        Self { server, cases }
    }
}

/// Lets a watch look once.
async fn look(server: &TestServer) {
    RowWatch::new(server.services.clone()).turn().await.unwrap();
}

fn alarms(server: &TestServer, kind: &str) -> u64 {
    let text = server.services.metrics.render();
    let line = format!("bitting_alarms_total{{kind=\"{kind}\"}} ");
    text.lines().find_map(|one| one.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

async fn ask_as(server: &TestServer, token: &str) -> Answer {
    let request = Request::get(format!("{}/api/v1/providers", server.admin));
    let request = request.header("authorization", format!("Bearer {token}"));
    server.call(request.body(Full::default()).unwrap()).await
}

/// Whether it is refused in the way that it should be, and nothing is sent.
async fn is_refused(server: &TestServer, case: &Case) {
    let name = case.name;
    let sent = server.sandbox.requests().len();
    match &case.refused {
        Refused::Key(secret) => {
            let answer = server.chat(secret, "sandbox/sandbox-mini").await;
            assert_eq!(answer.refusal(), (401, "key_suspended".to_owned()), "{name}: {:?}", answer.json());
            assert!(answer.json().to_string().contains("changed outside of Bitting"), "{name}");
            let id = &secret[3..19];
            let entries = server.entries(id).await;
            assert_eq!(entries.last().unwrap()["rule"], "row_tampered", "{name}");
        }
        Refused::Old { old, new } => {
            for secret in [old, new] {
                let answer = server.chat(secret, "sandbox/sandbox-mini").await;
                assert_eq!(answer.status, 401, "{name}: {:?}", answer.json());
            }
        }
        Refused::Code(secret, code) => {
            let answer = server.chat(secret, "sandbox/sandbox-mini").await;
            assert!(answer.status.as_u16() >= 400, "{name}: {:?}", answer.json());
            assert!(answer.refusal().1.contains(code), "{name}: {:?}", answer.json());
        }
        Refused::Operator(token) => assert_eq!(ask_as(server, token).await.status, 401, "{name}"),
        Refused::Mint => {
            let body = json!({"name": "more", "models": ["*"]});
            let answer = server.admin_post("/api/v1/subkeys", &body).await;
            assert_eq!(answer.refusal(), (409, "row_tampered".to_owned()), "{name}");
        }
    }
    assert_eq!(server.sandbox.requests().len(), sent, "{name}: something was sent");
}

/// Whether it is as it was before the row was changed.
async fn is_good_again(server: &TestServer, case: &Case) {
    match &case.refused {
        Refused::Key(secret) | Refused::Code(secret, _) => {
            let answer = server.chat(secret, "sandbox/sandbox-mini").await;
            let text = answer.json().to_string();
            assert!(!text.contains("changed outside"), "{}: {text}", case.name);
        }
        Refused::Old { old, new } => {
            assert_eq!(server.chat(old, "sandbox/sandbox-mini").await.status, 401);
            assert_eq!(server.chat(new, "sandbox/sandbox-mini").await.status, 200);
        }
        Refused::Operator(token) => assert_eq!(ask_as(server, token).await.status, 200, "{}", case.name),
        Refused::Mint => {}
    }
}

on_both! {
    async fn a_running_server_refuses_what_sql_changed_and_takes_it_back(test: TestStore) {
        let World { server, cases } = World::new(test).await;
        for case in &cases {
            let before = alarms(&server, "row_tampered");
            server.store.tamper(&case.sql).await;
            // The watch looks at what was used since it looked last.
            if let Refused::Key(secret) | Refused::Code(secret, _) | Refused::Old { new: secret, .. } =
                &case.refused
            {
                server.chat(secret, "sandbox/sandbox-mini").await;
            }
            look(&server).await;
            is_refused(&server, case).await;
            // The ledger may have noticed by itself, too.
            assert!(alarms(&server, "row_tampered") > before, "{}", case.name);
            server.store.tamper(&case.undo).await;
            look(&server).await;
            is_good_again(&server, case).await;
        }
        assert_eq!((server.services.quarantine(), alarms(&server, "register_mismatch")), (None, 0));
    }

    async fn a_server_that_starts_refuses_what_sql_changed(test: TestStore) {
        let World { mut server, cases } = World::new(test).await;
        for case in &cases {
            server.pause().await;
            server.store.tamper(&case.sql).await;
            server.resume().await;
            assert_eq!(alarms(&server, "row_tampered"), 1, "{}", case.name);
            is_refused(&server, case).await;
            assert_eq!(alarms(&server, "row_tampered"), 1, "{}", case.name);
            server.pause().await;
            server.store.tamper(&case.undo).await;
            server.resume().await;
            is_good_again(&server, case).await;
            assert_eq!(alarms(&server, "row_tampered"), 0, "{}", case.name);
        }
    }

    async fn another_pepper_leaves_every_row_good(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let (_, secret) = server.mint(json!({})).await;
        assert_eq!(server.admin_post("/api/v1/vault/rotate", &json!({})).await.status, 202);
        for _ in 0..2 {
            assert_eq!(server.chat(&secret, "sandbox/sandbox-mini").await.status, 200);
            server.services.write_last_used().await.unwrap();
            look(&server).await;
            assert_eq!(server.chat(&secret, "sandbox/sandbox-mini").await.status, 200);
            assert_eq!((alarms(&server, "row_tampered"), alarms(&server, "register_mismatch")), (0, 0));
            server.pause().await;
            server.resume().await;
        }
    }

    async fn a_ciphertext_is_of_its_row_alone(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let url = &server.sandbox_url;
        let other = json!({"slug": "other", "dialects": {"openai": format!("{url}/v1")}});
        assert_eq!(server.admin_post("/api/v1/providers", &other).await.status, 201);
        for (provider, name) in [("sandbox", "second"), ("other", "main")] {
            let path = format!("/api/v1/providers/{provider}/credentials");
            let made = server.admin_post(&path, &json!({"name": name, "secret": CANARY})).await;
            assert_eq!(made.status, 201);
        }
        let in_force = |server: &TestServer| -> Vec<String> {
            let snapshot = server.services.snapshot();
            let all = snapshot.providers.values().flat_map(|entry| &entry.credentials);
            all.map(|one| one.id.clone()).collect()
        };
        let all = in_force(&server);
        assert_eq!(all.len(), 3);
        server.store.tamper("CREATE TABLE saved AS SELECT * FROM credential_versions").await;
        for to in &all {
            for from in all.iter().filter(|from| *from != to) {
                for columns in [&["wrapped_dek"][..], &["sealed"], &["wrapped_dek", "sealed"]] {
                    let put = |from: &str| {
                        let column = |name: &&str| format!("{name} = (SELECT {name} FROM saved WHERE credential_id = '{from}')");
                        let columns: Vec<String> = columns.iter().map(column).collect();
                        format!("UPDATE credential_versions SET {} WHERE credential_id = '{to}'", columns.join(", "))
                    };
                    let before = alarms(&server, "row_tampered");
                    server.store.tamper(&put(from)).await;
                    look(&server).await;
                    let left = in_force(&server);
                    assert!(left.len() == 2 && !left.contains(to), "{columns:?} of {from} in {to}");
                    assert_eq!(alarms(&server, "row_tampered"), before + 1);
                    server.store.tamper(&put(to)).await;
                    look(&server).await;
                    assert_eq!(in_force(&server), all);
                }
            }
        }
        // Two exchanged, the server stopped meanwhile.
        server.pause().await;
        let swap = "UPDATE credential_versions SET (wrapped_dek, sealed) =
            (SELECT s.wrapped_dek, s.sealed FROM saved s WHERE s.credential_id <> credential_versions.credential_id
              ORDER BY s.credential_id LIMIT 1)";
        server.store.tamper(swap).await;
        server.resume().await;
        assert_eq!(in_force(&server), Vec::<String>::new());
        assert_eq!(alarms(&server, "row_tampered"), 3);
        let (_, secret) = server.mint(json!({})).await;
        assert!(server.chat(&secret, "sandbox/sandbox-mini").await.status.as_u16() >= 400);
        assert_eq!(server.sandbox.requests().len(), 0);
    }

    async fn a_running_server_notices_that_macs_and_register_are_not_its_own(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({})).await;
        assert_eq!(server.chat(&secret, "sandbox/sandbox-mini").await.status, 200);
        look(&server).await;
        assert_eq!((server.services.quarantine(), alarms(&server, "register_mismatch")), (None, 0));
        server.store.tamper(&format!("DELETE FROM row_macs WHERE id = '{id}'")).await;
        look(&server).await;
        assert_eq!(alarms(&server, "register_mismatch"), 1);
        assert_eq!(server.services.quarantine().unwrap().reason, "register_mismatch");
    }

    async fn a_running_server_notices_another_register(test: TestStore) {
        let server = TestServer::start(test).await;
        server.store.tamper("UPDATE register SET epoch = epoch + 1").await;
        look(&server).await;
        assert_eq!(alarms(&server, "register_mismatch"), 1);
        assert!(server.services.quarantine().is_some());
    }

    async fn a_server_that_starts_notices_a_missing_mac(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({})).await;
        server.pause().await;
        server.store.tamper(&format!("DELETE FROM row_macs WHERE id = '{id}'")).await;
        server.resume().await;
        assert_eq!((alarms(&server, "register_mismatch"), alarms(&server, "row_tampered")), (1, 1));
        assert!(server.services.quarantine().is_some());
        assert!(server.chat(&secret, "sandbox/sandbox-mini").await.status.as_u16() >= 400);
        assert_eq!(server.sandbox.requests().len(), 0);
    }

    async fn a_server_that_starts_notices_another_register(test: TestStore) {
        let mut server = TestServer::start(test).await;
        server.pause().await;
        server.store.tamper("UPDATE register SET seq = seq + 1").await;
        server.resume().await;
        assert_eq!(alarms(&server, "register_mismatch"), 1);
        assert!(server.services.quarantine().is_some());
    }

    async fn a_revoked_key_that_is_put_back_with_its_mac_does_not_add_up(test: TestStore) {
        let mut server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({})).await;
        assert_eq!(server.chat(&secret, "sandbox/sandbox-mini").await.status, 200);
        let save = format!(
            "CREATE TABLE saved_key AS SELECT * FROM subkeys WHERE id = '{id}';
             CREATE TABLE saved_mac AS SELECT * FROM row_macs WHERE id = '{id}';"
        );
        server.store.tamper(&save).await;
        let done = server.admin_post(&format!("/api/v1/subkeys/{id}/revoke"), &json!({})).await;
        assert!(done.status.is_success());
        let back = format!(
            "UPDATE subkeys SET state = 'active', version = (SELECT version FROM saved_key) WHERE id = '{id}';
             UPDATE row_macs SET mac = (SELECT mac FROM saved_mac) WHERE id = '{id}';"
        );
        server.store.tamper(&back).await;
        let sent = server.sandbox.requests().len();
        look(&server).await;
        assert_eq!(server.chat(&secret, "sandbox/sandbox-mini").await.status, 401);
        // The row alone is noticed, too: it is not the one in memory.
        assert_eq!(alarms(&server, "register_mismatch"), 1);
        assert!(server.services.quarantine().is_some());
        assert_eq!(server.sandbox.requests().len(), sent);

        server.pause().await;
        server.resume().await;
        assert_eq!(alarms(&server, "register_mismatch"), 1);
        assert!(server.services.quarantine().is_some());
    }

    async fn a_verb_does_not_sign_what_sql_changed(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, _) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "total"}]})).await;
        server.store.tamper("UPDATE budgets SET limit_nano = 5").await;
        for verb in ["suspend", "rotate", "revoke"] {
            let answer = server.admin_post(&format!("/api/v1/subkeys/{id}/{verb}"), &json!({})).await;
            assert_eq!(answer.refusal(), (409, "row_tampered".to_owned()), "{verb}");
        }
        assert_eq!(alarms(&server, "row_tampered"), 1);
        server.store.tamper("UPDATE providers SET version = version + 1 WHERE slug = 'sandbox'").await;
        let answer = server.admin_post("/api/v1/providers/sandbox/suspend", &json!({})).await;
        assert_eq!(answer.refusal(), (409, "row_tampered".to_owned()));
        let new = json!({"name": "new", "secret": CANARY});
        let answer = server.admin_post("/api/v1/providers/sandbox/credentials", &new).await;
        assert_eq!(answer.refusal(), (409, "row_tampered".to_owned()));
    }
}
