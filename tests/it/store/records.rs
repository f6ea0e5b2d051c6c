//! Providers, credentials, models, operators, and the small tables.

use super::at;
use crate::support::store::on_both;
use bitting::store::credential::{CredentialRecord, CredentialStatus, Draining, SealedSecret};
use bitting::store::idempotency::KeyUse;
use bitting::store::model::ModelRecord;
use bitting::store::operator::{OperatorRecord, TokenRecord};
use bitting::store::provider::{ProviderRecord, ProviderStatus};
use bitting::store::{StoreError, credential, idempotency, keyring, meta, model, operator, provider};
use serde_json::json;

fn openai() -> ProviderRecord {
    ProviderRecord {
        slug: "openai".into(),
        version: 1,
        document: json!({"dialects": {"openai": "https://api.openai.com/v1"}}),
        status: ProviderStatus::Active,
        created_at: at(0),
    }
}

fn main_credential() -> CredentialRecord {
    CredentialRecord {
        id: "cred_1".into(),
        provider: "openai".into(),
        name: "main".into(),
        weight: 1,
        projects: Some(vec!["default".into()]),
        organization: None,
        openai_project: Some("proj_x".into()),
        rate_limits: Vec::new(),
        status: CredentialStatus::Active,
        secret_version: 1,
        draining: None,
        rotation_due: None,
        version: 1,
        created_at: at(0),
        created_by: "op_1".into(),
    }
}

on_both! {
    async fn providers_change_by_version_and_stay_while_they_have_credentials(test: TestStore) {
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        let mut openai = openai();
        assert!(provider::insert_if_absent(conn, &openai).await.unwrap());
        let other = ProviderRecord { document: json!({}), ..openai.clone() };
        assert!(!provider::insert_if_absent(conn, &other).await.unwrap());
        assert_eq!(provider::get(conn, "openai").await.unwrap(), Some(openai.clone()));
        assert_eq!(provider::get(conn, "x").await.unwrap(), None);
        openai.document = json!({"dialects": {}});
        let change = provider::update(conn, "openai", 1, &openai.document, ProviderStatus::Suspended).await;
        assert_eq!(change.unwrap(), Some(2));
        let late = provider::update(conn, "openai", 1, &json!({}), ProviderStatus::Active).await;
        assert_eq!(late.unwrap(), None);
        (openai.version, openai.status) = (2, ProviderStatus::Suspended);
        assert_eq!(provider::list(conn).await.unwrap(), [openai]);
        assert!(!provider::delete(conn, "openai", 1).await.unwrap());
        credential::insert(conn, &main_credential()).await.unwrap();
        tx.commit().await.unwrap();

        let mut tx = test.store.write().await.unwrap();
        let used = provider::delete(&mut tx.conn(), "openai", 2).await;
        assert!(matches!(used, Err(StoreError::Reference { table: "providers" })), "{used:?}");
        drop(tx);
        test.tamper("UPDATE providers SET status = 'on'").await;
        let corrupt = provider::list(&mut test.store.read().await.unwrap().conn()).await;
        let Err(StoreError::Corrupt { table: "providers", column }) = corrupt else { panic!("{corrupt:?}") };
        assert_eq!(column, "status");
    }

    async fn credentials_rotate_and_are_disabled_by_version(test: TestStore) {
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        provider::insert_if_absent(conn, &openai()).await.unwrap();
        let mut main = main_credential();
        let sealed = |byte| SealedSecret { term: 1, wrapped_dek: vec![byte; 40], sealed: vec![byte, 0, 255] };
        credential::insert(conn, &main).await.unwrap();
        credential::insert_secret(conn, "cred_1", 1, &sealed(1), at(0)).await.unwrap();
        credential::insert_secret(conn, "cred_1", 2, &sealed(2), at(1)).await.unwrap();
        assert_eq!(credential::rotate(conn, "cred_1", 1, 2).await.unwrap(), Some(2));
        assert_eq!(credential::rotate(conn, "cred_1", 1, 3).await.unwrap(), None);
        (main.version, main.secret_version) = (2, 2);
        assert_eq!(credential::get(conn, "cred_1").await.unwrap(), Some(main.clone()));
        assert_eq!(credential::active_of(conn, "openai").await.unwrap(), [main.clone()]);
        assert_eq!(credential::secret(conn, "cred_1", 1).await.unwrap(), Some(sealed(1)));
        assert!(credential::drain_secret(conn, "cred_1", 1, at(5)).await.unwrap());
        main.draining = Some(Draining { secret_version: 1, until: at(5) });
        assert_eq!(credential::get(conn, "cred_1").await.unwrap(), Some(main.clone()));
        assert_eq!(credential::list(conn).await.unwrap(), [main.clone()]);
        assert_eq!(credential::drained_secrets(conn, at(4)).await.unwrap(), []);
        assert_eq!(credential::drained_secrets(conn, at(5)).await.unwrap(), [("cred_1".to_owned(), 1)]);
        assert!(credential::reseal_secret(conn, "cred_1", 1, &sealed(3)).await.unwrap());
        assert_eq!(credential::secret(conn, "cred_1", 1).await.unwrap(), Some(sealed(3)));
        assert!(credential::delete_secret(conn, "cred_1", 1).await.unwrap());
        assert!(!credential::delete_secret(conn, "cred_1", 1).await.unwrap());
        main.draining = None;
        assert!(!credential::set_rotation_due(conn, "cred_1", 1, "an old secret").await.unwrap());
        assert!(credential::set_rotation_due(conn, "cred_1", 2, "first").await.unwrap());
        assert!(!credential::set_rotation_due(conn, "cred_1", 2, "second").await.unwrap());
        main.rotation_due = Some("first".to_owned());
        assert_eq!(credential::get(conn, "cred_1").await.unwrap(), Some(main.clone()));
        assert_eq!(credential::secret(conn, "cred_1", 1).await.unwrap(), None);
        assert_eq!(credential::secret(conn, "cred_1", 2).await.unwrap(), Some(sealed(2)));
        let disabled = credential::set_status(conn, "cred_1", 2, CredentialStatus::Disabled).await;
        assert_eq!(disabled.unwrap(), Some(3));
        assert_eq!(credential::active_of(conn, "openai").await.unwrap(), []);
        (main.version, main.status) = (3, CredentialStatus::Disabled);
        assert_eq!(credential::list(conn).await.unwrap(), [main.clone()]);
        tx.commit().await.unwrap();

        let mut tx = test.store.write().await.unwrap();
        let twin = CredentialRecord { id: "cred_2".into(), ..main };
        let taken = credential::insert(&mut tx.conn(), &twin).await;
        assert!(matches!(taken, Err(StoreError::Conflict { table: "credentials" })), "{taken:?}");
    }

    async fn what_is_said_of_a_model_is_kept_by_moment(test: TestStore) {
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        let said = |seconds, price: &str| ModelRecord {
            provider: "openai".into(),
            name: "gpt-4o".into(),
            effective_from: at(seconds),
            version: 1,
            document: json!({"prices": {"input_per_mtok_usd": price}}),
            created_at: at(0),
        };
        assert_eq!(model::put(conn, &said(100, "2")).await.unwrap(), 1);
        // One count for all that is said of a model, so that what was said last is known.
        assert_eq!(model::put(conn, &said(0, "1")).await.unwrap(), 2);
        assert_eq!(model::put(conn, &said(100, "3")).await.unwrap(), 3);
        let [early, late] = [(0, "1", 2), (100, "3", 3)]
            .map(|(seconds, price, version)| ModelRecord { version, ..said(seconds, price) });
        assert_eq!(model::list(conn).await.unwrap(), [early, late]);
    }

    async fn operators_are_found_by_their_tokens(test: TestStore) {
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        let owner = OperatorRecord {
            id: "op_1".into(),
            name: "root".into(),
            roles: vec!["owner".into()],
            projects: None,
            version: 1,
            created_at: at(0),
            created_by: "local".into(),
        };
        let issuer = OperatorRecord { id: "op_2".into(), name: "ci".into(), projects: Some(vec!["web".into()]), ..owner.clone() };
        operator::insert(conn, &owner).await.unwrap();
        operator::insert(conn, &issuer).await.unwrap();
        let token = TokenRecord {
            id: "tok_1".into(),
            operator_id: "op_1".into(),
            sha256: [9; 32],
            created_at: at(0),
            expires_at: Some(at(60)),
        };
        operator::insert_token(conn, &token).await.unwrap();
        operator::touch_token(conn, "tok_1", at(5)).await.unwrap();
        operator::touch_token(conn, "tok_1", at(4)).await.unwrap();
        let holder = operator::find_by_token(conn, &[9; 32]).await.unwrap().unwrap();
        assert_eq!((holder.operator, holder.token_id.as_str()), (owner.clone(), "tok_1"));
        assert_eq!((holder.expires_at, holder.last_used_at), (Some(at(60)), Some(at(5))));
        assert_eq!(operator::find_by_token(conn, &[8; 32]).await.unwrap(), None);
        assert_eq!(operator::find_by_name(conn, "ci").await.unwrap(), Some(issuer.clone()));
        assert_eq!(operator::list(conn).await.unwrap(), [issuer, owner.clone()]);
        assert!(operator::delete(conn, "op_1").await.unwrap());
        assert_eq!(operator::find_by_token(conn, &[9; 32]).await.unwrap(), None, "the tokens go with it");
        assert!(!operator::delete_token(conn, "tok_1").await.unwrap());
        operator::insert(conn, &owner).await.unwrap();
        let twin = operator::insert(conn, &OperatorRecord { id: "op_3".into(), ..owner }).await;
        assert!(matches!(twin, Err(StoreError::Conflict { table: "operators" })), "{twin:?}");
    }

    async fn an_idempotency_key_is_claimed_once_a_day_by_each_operator(test: TestStore) {
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        let used = |operator_id, resource_id| KeyUse { operator_id, key: "k", resource_id };
        assert_eq!(idempotency::put(conn, used("op_1", "a"), at(0)).await.unwrap(), None);
        assert_eq!(idempotency::put(conn, used("op_1", "b"), at(86_399)).await.unwrap(), Some("a".into()));
        assert_eq!(idempotency::put(conn, used("op_2", "c"), at(1)).await.unwrap(), None);
        assert_eq!(idempotency::put(conn, used("op_1", "d"), at(86_400)).await.unwrap(), None);
        assert_eq!(idempotency::put(conn, used("op_1", "e"), at(86_401)).await.unwrap(), Some("d".into()));
    }

    /// Two requests with one key at the same time, in two transactions: one makes, the other learns what was made.
    async fn racing_uses_of_one_idempotency_key_have_one_winner(test: TestStore) {
        let tasks: Vec<_> = (0..8).map(|index| {
            let store = test.store.clone();
            tokio::spawn(async move {
                let mine = format!("made_{index}");
                let mut tx = store.write().await.unwrap();
                let used = KeyUse { operator_id: "op_1", key: "k", resource_id: &mine };
                let earlier = idempotency::put(&mut tx.conn(), used, at(0)).await.unwrap();
                tx.commit().await.unwrap();
                earlier.unwrap_or(mine)
            })
        }).collect();
        let mut made = Vec::new();
        for task in tasks {
            made.push(task.await.unwrap());
        }
        made.dedup();
        assert_eq!(made.len(), 1, "{made:?}");
    }

    async fn facts_and_keyrings_are_kept(test: TestStore) {
        let mut tx = test.store.write().await.unwrap();
        let conn = &mut tx.conn();
        assert_eq!(meta::get(conn, "installation").await.unwrap(), None);
        assert_eq!(meta::put_if_absent(conn, "installation", "a").await.unwrap(), "a");
        assert_eq!(meta::put_if_absent(conn, "installation", "b").await.unwrap(), "a");
        meta::put(conn, "installation", "c").await.unwrap();
        assert_eq!(meta::get(conn, "installation").await.unwrap().as_deref(), Some("c"));
        assert_eq!(keyring::get(conn, "main").await.unwrap(), None);
        assert!(keyring::put_if_absent(conn, "main", &[1, 0, 255], at(0)).await.unwrap());
        assert!(!keyring::put_if_absent(conn, "main", &[2], at(0)).await.unwrap());
        assert_eq!(keyring::get(conn, "main").await.unwrap(), Some(vec![1, 0, 255]));
        keyring::put(conn, "main", &[3], at(1)).await.unwrap();
        assert_eq!(keyring::get(conn, "main").await.unwrap(), Some(vec![3]));
    }
}
