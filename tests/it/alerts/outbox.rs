//! The outbox is bounded, and an older database knows its alerts.

use super::start_of_time;
use crate::admin::plane::settings;
use crate::support::store::{TestStore, on_both, tamper};
use bitting::app::kek::FileKek;
use bitting::base::Entropy;
use bitting::budget::{Share, Window};
use bitting::log::AlarmKind;
use bitting::service::{self, NoticeSettings, Services};
use bitting::store::notice::{self, NoticeRecord};
use bitting::store::{Store, budget_alert, migrate_within};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::task::TaskTracker;

async fn bodies(services: &Services) -> Vec<NoticeRecord> {
    let mut read = services.store.read().await.unwrap();
    notice::due(&mut read.conn(), services.clock.now(), 1_000).await.unwrap()
}

on_both! {
    async fn of_too_many_notices_the_oldest_are_dropped_with_an_alarm_that_is_no_notice(test: TestStore) {
        let (clock, entropy) = (start_of_time(), Entropy::new());
        let kek = Arc::new(FileKek::new(test.folder.path().join("kek")));
        assert!(service::install(&test.store, kek.as_ref(), &clock, &entropy).await.is_ok());
        let mut settings = settings(clock.clone(), entropy, &[], test.folder.path());
        settings.notices = NoticeSettings { has_webhook: true, waiting_max: 3 };
        let tasks = TaskTracker::new();
        let services = Services::start(test.store.clone(), kek, settings, &tasks).await.ok().unwrap();
        for number in 0..5 {
            services.alarms.raise(AlarmKind::RowTampered, &format!("models/{number}"), &json!({}));
            for _ in 0..400 {
                if bodies(&services).await.len() > number {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            clock.advance(chrono::TimeDelta::seconds(1));
        }
        assert_eq!(bodies(&services).await.len(), 5);
        services.tidy_notices().await.unwrap();
        let dropped = async || {
            let filter = store_filter();
            let page = services.list_alarms(filter, None, 10).await.unwrap();
            page.items.len() == 1 && page.items[0].detail["dropped"] == 2
        };
        for _ in 0..400 {
            if dropped().await {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(dropped().await);
        let left: Vec<String> = bodies(&services).await.into_iter().map(|notice| notice.body).collect();
        assert_eq!(left.len(), 3, "the alarm is not among them");
        for (body, number) in left.iter().zip(2..5) {
            assert!(body.contains(&format!("models/{number}")), "{body}");
        }
    }
}

fn store_filter() -> bitting::store::alarm::AlarmFilter {
    bitting::store::alarm::AlarmFilter { kind: Some(AlarmKind::NoticesDropped), ..Default::default() }
}

/// Alerts that were stated before anybody told of them are told of from now on.
async fn an_older_database_knows_its_alerts((url, _folder): (String, TempDir)) {
    let store = Store::open(&url).await.unwrap();
    let mut tx = store.write().await.unwrap();
    migrate_within(&mut tx.conn(), Some(3)).await.unwrap();
    tx.commit().await.unwrap();
    let definition = json!({"name": "old", "budgets": [
        {"limit_usd": "1.00", "window": "day", "alert_at": []},
        {"limit_usd": "1.00", "window": "month", "alert_at": ["0.5", "0.80"]},
    ]});
    tamper(&url, &format!(
        "INSERT INTO subkeys (id, project, name, version, state, definition, created_at, created_by)
         VALUES ('0123456789abcdef', 'default', 'old', 1, 'active', '{definition}', '2026-11-22T16:00:00+00:00', 'owner')"
    )).await;
    for window in ["day", "month", "total"] {
        tamper(&url, &format!(
            "INSERT INTO budgets (id, owner, win, limit_nano, timezone, active)
             VALUES ('subkey:0123456789abcdef/{window}', 'subkey:0123456789abcdef', '{window}', 1000000000, 'UTC', TRUE)"
        )).await;
    }
    store.migrate().await.unwrap();
    let mut read = store.read().await.unwrap();
    let owner = bitting::store::budget::BudgetOwner::subkey(
        &bitting::subkey::SubKeyId::parse("0123456789abcdef").unwrap(),
    );
    let ids = [Window::Day, Window::Month, Window::Total]
        .map(|window| bitting::store::budget::BudgetId::new(&owner, window));
    let found = budget_alert::alerting(&mut read.conn(), &ids.each_ref()).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].id, ids[1]);
    let shares: Vec<&str> = found[0].alert_at.iter().map(Share::as_str).collect();
    assert_eq!(shares, ["0.5", "0.80"]);
}

#[tokio::test]
async fn an_older_database_knows_its_alerts_on_sqlite() {
    an_older_database_knows_its_alerts(TestStore::empty_sqlite()).await;
}

#[tokio::test]
async fn an_older_database_knows_its_alerts_on_postgres() {
    an_older_database_knows_its_alerts(TestStore::empty_postgres().await).await;
}
