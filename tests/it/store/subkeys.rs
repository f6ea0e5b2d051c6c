//! Sub-keys: versions, names, secrets, lists.

use super::{at, insert, key, secret};
use crate::support::store::on_both;
use bitting::store::subkey::{SecretUse, Status, SubKeyFilter};
use bitting::store::{Page, Store, StoreError, subkey};
use bitting::subkey::{State, SubKey, SubKeyId};
use chrono::TimeDelta;
use std::collections::BTreeSet;

async fn get(store: &Store, id: &SubKeyId) -> Option<SubKey> {
    subkey::get(&mut store.read().await.unwrap().conn(), id).await.unwrap()
}

async fn update(store: &Store, key: &SubKey, expected: i64, state: State) -> Result<Option<i64>, StoreError> {
    let mut tx = store.write().await?;
    let version = subkey::update(&mut tx.conn(), &key.id, expected, &key.definition, state).await?;
    tx.commit().await?;
    Ok(version)
}

async fn list(store: &Store, filter: SubKeyFilter) -> Vec<String> {
    let mut read = store.read().await.unwrap();
    let page: Page<SubKey, String> = subkey::list(&mut read.conn(), &filter, None, 100).await.unwrap();
    assert_eq!(page.next, None);
    page.items.into_iter().map(|key| key.definition.name).collect()
}

on_both! {
    async fn a_sub_key_reads_back_with_its_secrets_oldest_first(test: TestStore) {
        let store = &test.store;
        let mut key = key("ci", at(0) + TimeDelta::microseconds(1));
        key.definition.labels.insert("team".into(), "search".into());
        key.secrets = vec![secret("sec_b", at(1)), secret("sec_a", at(2))];
        insert(store, &key).await.unwrap();
        insert(store, &super::key("other", at(9))).await.unwrap();
        assert_eq!(get(store, &key.id).await, Some(key.clone()));
        assert_eq!(get(store, &SubKeyId::parse("0000000000000000").unwrap()).await, None);

        let mut tx = store.write().await.unwrap();
        let conn = &mut tx.conn();
        assert!(subkey::expire_secret(conn, "sec_b", at(50)).await.unwrap());
        assert!(subkey::expire_secret(conn, "sec_b", at(90)).await.unwrap(), "never later");
        assert!(!subkey::expire_secret(conn, "sec_x", at(50)).await.unwrap());
        let used = |id: &str, seconds| SecretUse { secret_id: id.into(), subkey_id: key.id.clone(), at: at(seconds) };
        subkey::touch(conn, &[used("sec_a", 7), used("sec_b", 5), used("sec_a", 6)]).await.unwrap();
        subkey::touch(conn, &[used("sec_a", 3)]).await.unwrap();
        subkey::touch(conn, &[]).await.unwrap();
        tx.commit().await.unwrap();
        key.secrets[0].expires_at = Some(at(50));
        key.secrets[0].last_used_at = Some(at(5));
        key.secrets[1].last_used_at = Some(at(7));
        key.last_used_at = Some(at(7));
        assert_eq!(get(store, &key.id).await, Some(key.clone()));

        let mut tx = store.write().await.unwrap();
        assert!(subkey::delete_secret(&mut tx.conn(), "sec_a").await.unwrap());
        assert!(!subkey::delete_secret(&mut tx.conn(), "sec_a").await.unwrap());
        tx.commit().await.unwrap();
        key.secrets.remove(1);
        assert_eq!(get(store, &key.id).await, Some(key), "the last use is not forgotten with its secret");
    }

    async fn a_change_over_an_old_version_changes_nothing(test: TestStore) {
        let store = &test.store;
        let mut key = key("ci", at(0));
        insert(store, &key).await.unwrap();
        key.definition.name = "ci-2".into();
        key.definition.labels.insert("team".into(), "ads".into());
        assert_eq!(update(store, &key, 1, State::Suspended).await.unwrap(), Some(2));
        key.definition.name = "ci-3".into();
        key.definition.labels.clear();
        assert_eq!(update(store, &key, 1, State::Active).await.unwrap(), None);
        let kept = get(store, &key.id).await.unwrap();
        assert_eq!((kept.version, kept.state, kept.definition.name.as_str()), (2, State::Suspended, "ci-2"));
        let labelled = SubKeyFilter { label: Some(("team".into(), None)), ..SubKeyFilter::default() };
        assert_eq!(list(store, labelled).await, ["ci-2"]);
    }

    /// Of many writers of the same version, one wins.
    async fn racing_changes_of_one_version_have_one_winner(test: TestStore) {
        let key = key("ci", at(0));
        insert(&test.store, &key).await.unwrap();
        let tasks: Vec<_> = (0..16).map(|_| {
            let (store, key) = (test.store.clone(), key.clone());
            tokio::spawn(async move { update(&store, &key, 1, State::Revoked).await.unwrap() })
        }).collect();
        let mut won = Vec::new();
        for task in tasks {
            won.extend(task.await.unwrap());
        }
        assert_eq!(won, [2]);
    }

    async fn a_name_is_unique_among_keys_that_are_not_revoked(test: TestStore) {
        let store = &test.store;
        let (first, second) = (key("ci", at(0)), key("ci", at(1)));
        insert(store, &first).await.unwrap();
        let taken = insert(store, &second).await;
        assert!(matches!(taken, Err(StoreError::Conflict { table: "subkeys" })), "{taken:?}");
        let find = async || {
            subkey::find_by_name(&mut store.read().await.unwrap().conn(), "default", "ci").await.unwrap()
        };
        assert_eq!(find().await, Some(first.id.clone()));
        assert_eq!(get(store, &second.id).await, None, "nothing is left of the refused one");
        update(store, &first, 1, State::Revoked).await.unwrap();
        assert_eq!(find().await, None);
        insert(store, &second).await.unwrap();
        assert_eq!(find().await, Some(second.id));
        let back = update(store, &first, 2, State::Active).await;
        assert!(matches!(back, Err(StoreError::Conflict { .. })), "{back:?}");

        let mut homeless = key("x", at(0));
        homeless.definition.project = "nowhere".into();
        let refused = insert(store, &homeless).await;
        assert!(matches!(refused, Err(StoreError::Reference { table: "subkeys" })), "{refused:?}");
    }

    /// Many keys of the same moment, pages of 7, keys added and changed in between.
    async fn pages_lose_nothing_and_repeat_nothing(test: TestStore) {
        let store = &test.store;
        let mut wanted = BTreeSet::new();
        for index in 0..40 {
            let key = key(&format!("k{index}"), at(index / 13));
            insert(store, &key).await.unwrap();
            wanted.insert(key.id.as_str().to_owned());
        }
        let (mut seen, mut after, mut last) = (BTreeSet::new(), None, None);
        loop {
            let mut read = store.read().await.unwrap();
            let page = subkey::list(&mut read.conn(), &SubKeyFilter::default(), after.as_ref(), 7).await.unwrap();
            drop(read);
            for key in page.items {
                let place = (key.created_at, key.id.as_str().to_owned());
                assert!(last.as_ref().is_none_or(|last| place < *last), "newest first");
                assert!(seen.insert(place.1.clone()), "twice");
                last = Some(place);
            }
            insert(store, &key(&format!("new{}", seen.len()), at(100))).await.unwrap();
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        assert_eq!(seen, wanted);
    }

    async fn filters_find_what_they_say(test: TestStore) {
        let store = &test.store;
        let any = SubKeyFilter::default;
        let mut a = key("Alpha_1", at(0));
        a.definition.expires_at = Some(at(100) + TimeDelta::nanoseconds(1));
        a.definition.labels = [("team".to_owned(), "search".to_owned())].into();
        let mut b = key("alpha%2", at(10));
        b.definition.labels = [("team".to_owned(), "ads".to_owned())].into();
        b.created_by = "op_2".into();
        let mut c = key("gamma", at(20));
        c.definition.labels = [("env".to_owned(), "search".to_owned())].into();
        for key in [&a, &b, &c] {
            insert(store, key).await.unwrap();
        }
        update(store, &c, 1, State::Suspended).await.unwrap();

        assert_eq!(list(store, any()).await, ["gamma", "alpha%2", "Alpha_1"]);
        assert_eq!(list(store, SubKeyFilter { project: Some("nowhere".into()), ..any() }).await, [""; 0]);
        assert_eq!(list(store, SubKeyFilter { created_by: Some("op_2".into()), ..any() }).await, ["alpha%2"]);
        for (now, active, expired) in [(at(99), vec!["alpha%2", "Alpha_1"], vec![]), (at(100), vec!["alpha%2"], vec!["Alpha_1"])] {
            assert_eq!(list(store, SubKeyFilter { status: Some(Status::Active { now }), ..any() }).await, active);
            assert_eq!(list(store, SubKeyFilter { status: Some(Status::Expired { now }), ..any() }).await, expired);
        }
        assert_eq!(list(store, SubKeyFilter { status: Some(Status::Suspended), ..any() }).await, ["gamma"]);
        assert_eq!(list(store, SubKeyFilter { status: Some(Status::Revoked), ..any() }).await, [""; 0]);
        let label = |key: &str, value: Option<&str>| SubKeyFilter { label: Some((key.into(), value.map(Into::into))), ..any() };
        assert_eq!(list(store, label("team", None)).await, ["alpha%2", "Alpha_1"]);
        assert_eq!(list(store, label("team", Some("search"))).await, ["Alpha_1"]);
        for (q, found) in [("ALPHA", vec!["alpha%2", "Alpha_1"]), ("a_", vec!["Alpha_1"]), ("%", vec!["alpha%2"]), (c.id.as_str(), vec!["gamma"])] {
            assert_eq!(list(store, SubKeyFilter { q: Some(q.into()), ..any() }).await, found, "{q}");
        }
        assert_eq!(list(store, SubKeyFilter { expires_before: Some(at(101)), ..any() }).await, ["Alpha_1"]);
        assert_eq!(list(store, SubKeyFilter { expires_before: Some(at(100)), ..any() }).await, [""; 0]);

        let mut tx = store.write().await.unwrap();
        let used = SecretUse { secret_id: a.secrets[0].id.clone(), subkey_id: a.id.clone(), at: at(50) };
        subkey::touch(&mut tx.conn(), &[used]).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(list(store, SubKeyFilter { unused_since: Some(at(15)), ..any() }).await, ["alpha%2"]);
        assert_eq!(list(store, SubKeyFilter { unused_since: Some(at(51)), ..any() }).await, ["gamma", "alpha%2", "Alpha_1"]);
    }

    async fn a_row_that_makes_no_sense_is_named_and_not_used(test: TestStore) {
        let store = &test.store;
        let key = key("ci", at(0));
        insert(store, &key).await.unwrap();
        let cases = [
            ("state", "UPDATE subkeys SET state = 'open'"),
            ("definition", r#"UPDATE subkeys SET state = 'active', definition = '{"name": "ci", "models": ["*"], "root": true}'"#),
        ];
        for (column, sql) in cases {
            test.tamper(sql).await;
            let error = subkey::get(&mut store.read().await.unwrap().conn(), &key.id).await.unwrap_err();
            assert_eq!(error.to_string(), format!("a row of subkeys cannot be read: {column} makes no sense"));
            assert!(matches!(error, StoreError::Corrupt { table: "subkeys", .. }), "{error:?}");
        }
    }
}
