//! What an agent does: many requests at once, none of which says how much it may write.

use super::{books, usd};
use crate::support::server::TestServer;
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use futures_util::future::join_all;
use http::Method;
use serde_json::json;

const AGENTS: usize = 16;

on_both! {
    async fn sixteen_agents_at_once_work_on_the_cap_of_quickstart(test: TestStore) {
        let server = TestServer::start(test).await;
        // About the dearest there is: sixteen times the bound of the key's default is 4.92 of the 5 USD.
        let dear = json!({
            "operations": ["chat"], "context_window": 200_000, "max_output_tokens": 32_000,
            "prices": {"input_per_mtok_usd": "15", "output_per_mtok_usd": "75"},
        });
        let path = "/api/v1/models/sandbox/sandbox-large+hold";
        assert!(server.admin_call(Method::PUT, path, Some(&dear)).await.status.is_success());
        // As quickstart mints it.
        let (id, secret) = server
            .mint(json!({
                "budgets": [{"limit_usd": "5.00", "window": "month"}],
                "default_max_output_tokens": 4096, "clamp_to_budget": true,
            }))
            .await;
        let body = json!({"model": "sandbox-large+hold", "messages": [{"role": "user", "content": "go"}]});
        let calls = join_all((0..AGENTS).map(|_| server.post(&secret, "/v1/chat/completions", &body)));
        let release = async {
            let held = server.sandbox.wait_held(16).await;
            let (_, holds) = books(&server, &id).await;
            server.sandbox.release();
            (held, holds)
        };
        let (answers, (held, holds)) = futures_util::future::join(calls, release).await;
        assert_eq!(held, 16, "all of them are in flight at once");
        assert!(holds > "4.9".parse().unwrap() && holds <= "5".parse().unwrap(), "{holds}");
        for answer in &answers {
            assert_eq!(answer.status, 200, "{:?}", answer.json());
            assert_eq!(answer.header("x-bitting-changed"), Some("max_tokens"));
        }
        let entries = server.entries(&id).await;
        let sum = entries.iter().fold(NanoUsd::ZERO, |sum, entry| sum.saturating_add(usd(&entry["cost_usd"])));
        assert_eq!((entries.len(), books(&server, &id).await), (AGENTS, (sum, NanoUsd::ZERO)));
        server.end().await;
    }
}
