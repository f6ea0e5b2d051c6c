//! The proxy from outside: what is admitted arrives and comes back, what is not is refused unseen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::support::server::TestServer;
use crate::support::store::on_both;
use serde_json::json;

on_both! {
    async fn an_admitted_chat_is_answered_charged_and_logged(test: TestStore) {
        let server = TestServer::start(test).await;
        let (id, secret) = server.mint(json!({"budgets": [{"limit_usd": "1", "window": "day"}]})).await;
        let answer = server.chat(&secret, "sandbox-mini").await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        let bill = server.sandbox.bill();
        assert_eq!(answer.header("x-bitting-cost-usd"), Some(bill.cost_usd.to_string().as_str()));
        let entries = server.entries(&id).await;
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0]["cost_usd"], json!(bill.cost_usd));
        assert_eq!(entries[0]["outcome"], "completed");
        server.end().await;
    }
}
