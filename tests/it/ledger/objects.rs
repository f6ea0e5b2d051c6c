//! What a request made at the provider is on record with its settlement, or neither is; and whose it is from then on.

use crate::support::server::TestServer;
use crate::support::store::on_both;
use bitting::base::{Entropy, NanoUsd};
use bitting::log::{Decision, Entry, UsageSource};
use bitting::provider::{ObjectId, ObjectKind, Slug};
use bitting::service::{
    Caller, Demand, ListPlace, NewObject, ObjectChanges, ObjectError, ObjectKey, ObjectList, ObjectName,
    ObjectOrder, Reservation,
};
use bitting::subkey::{Holder, SubKeyToken};
use chrono::TimeDelta;
use http::Method;
use serde_json::{Value, json};

/// A sub-key, by its id and secret.
struct Key {
    id: String,
    secret: String,
}

async fn mint(server: &TestServer, more: Value) -> Key {
    let (id, secret) = server.mint(more).await;
    Key { id, secret }
}

async fn caller(server: &TestServer, key: &Key) -> Caller {
    server.services.authenticate(&SubKeyToken::parse(&key.secret).unwrap()).await.unwrap()
}

async fn patch(server: &TestServer, key: &Key, change: Value) {
    let path = format!("/api/v1/subkeys/{}", key.id);
    let patched = server.admin_call(Method::PATCH, &path, Some(&change)).await;
    assert!(patched.status.is_success(), "{:?}", patched.json());
}

fn sandbox() -> Slug {
    "sandbox".parse().unwrap()
}

fn id(text: &str) -> ObjectId {
    text.parse().unwrap()
}

fn object(server: &TestServer, caller: &Caller, name: &str) -> NewObject {
    NewObject {
        provider: sandbox(),
        id: id(name),
        kind: if name.starts_with("resp") { ObjectKind::Response } else { ObjectKind::File },
        belongs: Holder::of(&caller.key.subkey).makes(),
        credential_id: "cred_1".into(),
        model: Some("sandbox-mini".into()),
        parent: None,
        created_at: server.clock.now(),
        expires_at: None,
        document: None,
    }
}

fn made(objects: Vec<NewObject>) -> ObjectChanges {
    ObjectChanges { made: objects, ..ObjectChanges::default() }
}

fn deleted(name: &str) -> ObjectChanges {
    ObjectChanges {
        deleted: vec![ObjectKey { provider: sandbox(), id: id(name) }],
        ..ObjectChanges::default()
    }
}

/// Admits a request of the key by the ledger, as the proxy does.
async fn reserve(server: &TestServer, caller: &Caller) -> (Reservation, Entry) {
    let subkey = &caller.key.subkey;
    let amount = NanoUsd::from_nano(1_000_000);
    let entry = Entry {
        time: server.clock.now(),
        request_id: Entropy::new().id("req"),
        subkey_id: subkey.id.to_string(),
        project: subkey.definition.project.clone(),
        decision: Decision::Allowed,
        count: 1,
        reserved_usd: amount,
        usage_source: UsageSource::Reported,
        ..Entry::default()
    };
    let demand = Demand {
        subkey: subkey.id.clone(),
        subkey_version: subkey.version,
        projects: caller.lineage.versions(),
        is_current: true,
        holds: caller.holds(server.services.ledger.now(), amount),
        amount,
        entry: entry.clone(),
    };
    let mut reservation = server.services.ledger.reserve(demand).await.unwrap();
    reservation.mark_sent();
    (reservation, entry)
}

/// One request of the key that comes to these changes.
async fn settle(server: &TestServer, key: &Key, changes: ObjectChanges) {
    let caller = caller(server, key).await;
    let (reservation, entry) = reserve(server, &caller).await;
    reservation.settle_with(NanoUsd::from_nano(7), entry, changes).durable().await;
}

async fn make(server: &TestServer, key: &Key, name: &str) {
    let caller = caller(server, key).await;
    settle(server, key, made(vec![object(server, &caller, name)])).await;
}

/// Whether the key may use the object.
async fn owns(server: &TestServer, key: &Key, name: &str) -> bool {
    let caller = caller(server, key).await;
    let found = server
        .services
        .owned_objects(&caller, Some(&sandbox()), &[ObjectName { kind: None, id: name }])
        .await;
    let anywhere = server.services.owned_objects(&caller, None, &[ObjectName { kind: None, id: name }]).await;
    match (found, anywhere) {
        (Ok(found), Ok(anywhere)) => {
            assert!(found == anywhere && found.len() == 1 && found[0].object.id.as_str() == name);
            true
        }
        (Err(ObjectError::NotFound { id }), Err(ObjectError::NotFound { .. })) => {
            assert_eq!(id, name);
            false
        }
        other => panic!("{other:?}"),
    }
}

async fn is_anothers(server: &TestServer, key: &Key, name: &str) -> bool {
    let caller = caller(server, key).await;
    !server.services.anyone_elses(&caller, &sandbox(), &[name]).await.unwrap().is_empty()
}

/// What the key is shown of its files.
async fn listed(server: &TestServer, key: &Key, place: ListPlace<'_>, limit: u32) -> (Vec<String>, bool) {
    let (caller, provider) = (caller(server, key).await, sandbox());
    let list = ObjectList {
        provider: &provider,
        kind: ObjectKind::File,
        place,
        order: ObjectOrder::OldestFirst,
        limit,
    };
    let listed = server.services.list_objects(&caller, &list).await.unwrap();
    (listed.items.iter().map(|one| one.object.id.to_string()).collect(), listed.has_more)
}

/// Waits until a turn of the writer with all that waits has failed.
async fn a_turn_fails(server: &TestServer) {
    let entry = Entry { request_id: Entropy::new().id("req"), time: server.clock.now(), ..Entry::default() };
    assert!(server.services.ledger.record(entry).await.is_err());
}

on_both! {
    async fn p4_an_answer_ends_with_its_objects_on_record(test: TestStore) {
        let server = TestServer::start(test).await;
        let key = mint(&server, json!({"budgets": [{"limit_usd": "1", "window": "total"}]})).await;
        make(&server, &key, "file-1").await;
        assert!(owns(&server, &key, "file-1").await);
        assert_eq!(server.entries(&key.id).await.len(), 1);
        settle(&server, &key, deleted("file-1")).await;
        assert!(!owns(&server, &key, "file-1").await);
        // Made and deleted while nothing could be written: the order stays.
        let caller = caller(&server, &key).await;
        let (first, one) = reserve(&server, &caller).await;
        let (second, two) = reserve(&server, &caller).await;
        let first = first.settle_with(NanoUsd::ZERO, one, made(vec![object(&server, &caller, "file-2")]));
        let second = second.settle_with(NanoUsd::ZERO, two, deleted("file-2"));
        tokio::join!(first.durable(), second.durable());
        assert!(!owns(&server, &key, "file-2").await);
        server.end().await;
    }

    async fn p4_a_settlement_is_written_with_its_objects_or_not_at_all(test: TestStore) {
        let server = TestServer::start(test).await;
        let key = mint(&server, json!({"budgets": [{"limit_usd": "1", "window": "total"}]})).await;
        let caller = caller(&server, &key).await;
        for (n, table) in ["objects", "usage_hours"].into_iter().enumerate() {
            let name = format!("file-{n}");
            let (mut reservation, entry) = reserve(&server, &caller).await;
            reservation.recorded().await.unwrap();
            server.store.tamper(&format!("ALTER TABLE {table} RENAME TO lost")).await;
            let changes = made(vec![object(&server, &caller, &name)]);
            let settled = reservation.settle_with(NanoUsd::from_nano(7), entry, changes);
            a_turn_fails(&server).await;
            assert_eq!(server.entries(&key.id).await.len(), n, "no entry without {table}");
            if table != "objects" {
                assert!(!owns(&server, &key, &name).await, "no object without the entry");
            }
            server.store.tamper(&format!("ALTER TABLE lost RENAME TO {table}")).await;
            assert!(!settled.durable().await.is_empty(), "it is kept until it can be written");
            assert_eq!(server.entries(&key.id).await.len(), n + 1);
            assert!(owns(&server, &key, &name).await);
        }
        server.end().await;
    }

    async fn p4_a_commit_that_fails_leaves_neither_entry_nor_object(test: TestStore) {
        let server = TestServer::start(test).await;
        let key = mint(&server, json!({"budgets": [{"limit_usd": "1", "window": "total"}]})).await;
        let caller = caller(&server, &key).await;
        let (mut reservation, entry) = reserve(&server, &caller).await;
        reservation.recorded().await.unwrap();
        // Refused by the database when it is committed, not before.
        let refusing = "CREATE TABLE none (id TEXT PRIMARY KEY); \
            CREATE TABLE refusing (id TEXT REFERENCES none (id) DEFERRABLE INITIALLY DEFERRED);";
        let trigger = if server.services.store.backend() == "sqlite" {
            "CREATE TRIGGER refuse AFTER INSERT ON objects BEGIN INSERT INTO refusing VALUES ('x'); END"
        } else {
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \
             'BEGIN INSERT INTO refusing VALUES (''x''); RETURN NULL; END'; \
             CREATE TRIGGER refuse AFTER INSERT ON objects FOR EACH ROW EXECUTE FUNCTION refuse()"
        };
        server.store.tamper(&format!("{refusing} {trigger}")).await;
        let changes = made(vec![object(&server, &caller, "file-1")]);
        let settled = reservation.settle_with(NanoUsd::from_nano(7), entry, changes);
        a_turn_fails(&server).await;
        assert!(server.entries(&key.id).await.is_empty() && !owns(&server, &key, "file-1").await);
        let mended = if server.services.store.backend() == "sqlite" {
            "DROP TRIGGER refuse"
        } else {
            "DROP TRIGGER refuse ON objects"
        };
        server.store.tamper(mended).await;
        settled.durable().await;
        assert_eq!(server.entries(&key.id).await.len(), 1);
        assert!(owns(&server, &key, "file-1").await);
        server.end().await;
    }

    async fn p2_an_object_is_its_makers_alone(test: TestStore) {
        let server = TestServer::start(test).await;
        let (a, b) = (mint(&server, json!({})).await, mint(&server, json!({"share_objects": true})).await);
        make(&server, &a, "file-a").await;
        make(&server, &a, "resp_a").await;
        assert!(owns(&server, &a, "file-a").await && !owns(&server, &b, "file-a").await);
        assert!(is_anothers(&server, &b, "file-a").await && !is_anothers(&server, &a, "file-a").await);
        assert!(!is_anothers(&server, &b, "file-unknown").await && !is_anothers(&server, &b, "no id").await);
        assert_eq!(listed(&server, &a, ListPlace::Start, 10).await, (vec!["file-a".to_owned()], false));
        assert_eq!(listed(&server, &b, ListPlace::Start, 10).await, (vec![], false));

        // All that is named has to be the caller's, and of the kind that belongs there.
        let asking = caller(&server, &a).await;
        let name = |kind, id| ObjectName { kind, id };
        let both = [name(None, "resp_a"), name(Some(ObjectKind::File), "file-a"), name(None, "resp_a")];
        let found = server.services.owned_objects(&asking, None, &both).await.unwrap();
        let ids: Vec<&str> = found.iter().map(|one| one.object.id.as_str()).collect();
        assert_eq!(ids, ["resp_a", "file-a", "resp_a"]);
        for wrong in [name(Some(ObjectKind::Response), "file-a"), name(None, "file-b"), name(None, "file-a/../x")] {
            let refused = server.services.owned_objects(&asking, None, &[both[0], wrong]).await;
            assert!(matches!(&refused, Err(ObjectError::NotFound { id }) if id == wrong.id), "{refused:?}");
        }
        let elsewhere: Slug = "elsewhere".parse().unwrap();
        assert!(server.services.owned_objects(&asking, Some(&elsewhere), &both).await.is_err());
        let many: Vec<String> = (0..10_001).map(|n| format!("file-{n}")).collect();
        let many: Vec<ObjectName<'_>> = many.iter().map(|id| name(None, id)).collect();
        let refused = server.services.owned_objects(&asking, None, &many).await;
        assert!(matches!(refused, Err(ObjectError::TooMany { ids_max: 10_000 })), "{refused:?}");

        // What the provider gives to B stays A's, and somebody looks at it.
        make(&server, &b, "file-a").await;
        assert!(owns(&server, &a, "file-a").await && !owns(&server, &b, "file-a").await);
        let alarm = server.alarm_about("object_taken", "sandbox").await;
        assert_eq!(alarm["detail"]["object"], "file-a");
        server.end().await;
    }

    async fn p2_what_is_shared_is_its_projects_and_stays_there(test: TestStore) {
        let server = TestServer::start(test).await;
        for slug in ["team", "other"] {
            let made = server.admin_post("/api/v1/projects", &json!({"slug": slug})).await;
            assert_eq!(made.status, 201, "{:?}", made.json());
        }
        let in_team = |shares: bool| json!({"project": "team", "share_objects": shares});
        let (a, b) = (mint(&server, in_team(true)).await, mint(&server, in_team(true)).await);
        let alone = mint(&server, in_team(false)).await;
        let outside = mint(&server, json!({"project": "other", "share_objects": true})).await;
        make(&server, &a, "file-a").await;
        make(&server, &alone, "file-alone").await;
        assert!(owns(&server, &a, "file-a").await && owns(&server, &b, "file-a").await);
        assert!(!owns(&server, &alone, "file-a").await && !owns(&server, &outside, "file-a").await);
        assert!(is_anothers(&server, &outside, "file-a").await && !is_anothers(&server, &b, "file-a").await);
        assert_eq!(listed(&server, &b, ListPlace::Start, 10).await.0, ["file-a"]);
        assert!(!owns(&server, &b, "file-alone").await);
        // What was made alone is not shared by sharing later.
        patch(&server, &alone, json!({"share_objects": true})).await;
        assert!(owns(&server, &alone, "file-a").await && !owns(&server, &b, "file-alone").await);
        assert!(owns(&server, &alone, "file-alone").await);
        // Whoever shares no more keeps what it made.
        patch(&server, &a, json!({"share_objects": false})).await;
        assert!(owns(&server, &a, "file-a").await && owns(&server, &b, "file-a").await);
        // Moved, a key leaves behind what it shared, and takes along what it made alone.
        make(&server, &a, "file-a2").await;
        patch(&server, &a, json!({"project": "other", "share_objects": true})).await;
        assert!(!owns(&server, &a, "file-a").await && is_anothers(&server, &a, "file-a").await);
        assert!(owns(&server, &a, "file-a2").await && !owns(&server, &outside, "file-a2").await);
        assert_eq!(listed(&server, &a, ListPlace::Start, 10).await.0, ["file-a2"]);
        // A revoked key's objects stay what they are.
        server.admin_post(&format!("/api/v1/subkeys/{}/revoke", a.id), &json!({})).await;
        assert!(owns(&server, &b, "file-a").await && !owns(&server, &b, "file-a2").await);
        assert!(is_anothers(&server, &b, "file-a2").await);
        server.end().await;
    }

    async fn a_list_is_read_in_parts_from_either_end(test: TestStore) {
        let server = TestServer::start(test).await;
        let (a, b) = (mint(&server, json!({})).await, mint(&server, json!({})).await);
        make(&server, &b, "file-b").await;
        for n in 0..5 {
            make(&server, &a, &format!("file-{n}")).await;
        }
        settle(&server, &a, deleted("file-2")).await;
        let part = |ids: &[u8], more| (ids.iter().map(|n| format!("file-{n}")).collect::<Vec<_>>(), more);
        assert_eq!(listed(&server, &a, ListPlace::Start, 3).await, part(&[0, 1, 3], true));
        assert_eq!(listed(&server, &a, ListPlace::After("file-3"), 3).await, part(&[4], false));
        // One that was deleted meanwhile has its place still.
        assert_eq!(listed(&server, &a, ListPlace::After("file-2"), 1).await, part(&[3], true));
        assert_eq!(listed(&server, &a, ListPlace::Before("file-4"), 2).await, part(&[1, 3], true));
        assert_eq!(listed(&server, &a, ListPlace::Before("file-2"), 2).await, part(&[0, 1], false));
        let (caller, provider) = (caller(&server, &a).await, sandbox());
        for place in ["file-b", "file-9", "no id"] {
            let place = ListPlace::After(place);
            let (kind, order) = (ObjectKind::File, ObjectOrder::NewestFirst);
            let list = ObjectList { provider: &provider, kind, place, order, limit: 3 };
            let refused = server.services.list_objects(&caller, &list).await;
            assert!(matches!(refused, Err(ObjectError::NotFound { .. })), "{refused:?}");
        }
        server.end().await;
    }

    async fn an_id_that_two_providers_gave_the_caller_needs_a_provider(test: TestStore) {
        let server = TestServer::start(test).await;
        // The same account may stand behind both.
        let twin = json!({"slug": "twin", "dialects": {"openai": format!("{}/v1", server.sandbox_url)}});
        assert_eq!(server.admin_post("/api/v1/providers", &twin).await.status, 201);
        let far = json!({"slug": "far", "dialects": {"openai": "https://far.example/v1"}});
        assert_eq!(server.admin_post("/api/v1/providers", &far).await.status, 201);
        let (a, b) = (mint(&server, json!({})).await, mint(&server, json!({})).await);
        let (twin, far): (Slug, Slug) = ("twin".parse().unwrap(), "far".parse().unwrap());
        make(&server, &a, "file-1").await;
        let (one, other) = (caller(&server, &a).await, caller(&server, &b).await);
        let others = NewObject { provider: far.clone(), ..object(&server, &other, "file-1") };
        settle(&server, &b, made(vec![others])).await;
        assert!(owns(&server, &a, "file-1").await, "only what is the caller's counts");
        assert!(!is_anothers(&server, &a, "file-1").await);
        // B's at `far` alone; at `sandbox`, and at what stands in the same place, A's.
        for (provider, anothers) in [(&sandbox(), true), (&twin, true), (&far, false)] {
            let told = server.services.anyone_elses(&other, provider, &["file-1"]).await.unwrap();
            assert_eq!(!told.is_empty(), anothers, "{provider}");
        }
        let own = NewObject { provider: far.clone(), ..object(&server, &one, "file-2") };
        settle(&server, &a, made(vec![own, object(&server, &one, "file-2")])).await;
        let name = [ObjectName { kind: None, id: "file-2" }];
        let refused = server.services.owned_objects(&one, None, &name).await;
        let both = [far.clone(), sandbox()];
        assert!(matches!(&refused, Err(ObjectError::Ambiguous { providers, .. }) if providers[..] == both), "{refused:?}");
        assert!(server.services.owned_objects(&one, Some(&far), &name).await.is_ok());
        server.end().await;
    }

    async fn what_is_gone_for_a_month_is_forgotten(test: TestStore) {
        let clock = bitting::base::Clock::manual("2026-11-23T12:00:00Z".parse().unwrap());
        let server = TestServer::start_with(test, clock.clone(), &[]).await;
        let (a, b) = (mint(&server, json!({})).await, mint(&server, json!({})).await);
        let maker = caller(&server, &a).await;
        let expires_at = Some(clock.now() + TimeDelta::hours(1));
        let expiring = NewObject { expires_at, ..object(&server, &maker, "file-1") };
        settle(&server, &a, made(vec![expiring, object(&server, &maker, "file-2")])).await;
        assert!(owns(&server, &a, "file-1").await);
        clock.advance(TimeDelta::hours(1));
        assert!(!owns(&server, &a, "file-1").await && owns(&server, &a, "file-2").await);
        clock.advance(TimeDelta::days(30));
        assert!(!server.services.forget_objects().await.unwrap());
        assert!(is_anothers(&server, &b, "file-1").await, "a month is not over");
        clock.advance(TimeDelta::seconds(1));
        server.services.forget_objects().await.unwrap();
        assert!(!is_anothers(&server, &b, "file-1").await);
        assert!(owns(&server, &a, "file-2").await);
        server.end().await;
    }
}
