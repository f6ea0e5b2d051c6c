//! Objects: whose what a provider keeps is.

use super::at;
use crate::support::store::on_both;
use bitting::provider::{ObjectDocument, ObjectId, ObjectKind, ObjectOrder, Slug};
use bitting::store::object::{self, NewObject, ObjectFilter, ObjectKey, ObjectRecord};
use bitting::store::{Cursor, Store};
use bitting::subkey::{Holder, SubKeyId};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

fn holder(key: u8, project: &str, shares: bool) -> Holder {
    Holder { subkey: SubKeyId::parse(&format!("{key:016}")).unwrap(), project: project.to_owned(), shares }
}

fn slug(text: &str) -> Slug {
    text.parse().unwrap()
}

fn id(text: &str) -> ObjectId {
    text.parse().unwrap()
}

/// A file with openai.
fn file(name: &str, maker: &Holder, created: i64) -> NewObject {
    NewObject {
        provider: slug("openai"),
        id: id(name),
        kind: ObjectKind::File,
        belongs: maker.makes(),
        credential_id: "cred_1".into(),
        model: None,
        parent: None,
        created_at: at(created),
        expires_at: None,
        document: None,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { provider: slug("openai"), id: id(name) }
}

async fn claim(store: &Store, objects: &[NewObject]) -> Vec<ObjectKey> {
    let mut tx = store.write().await.unwrap();
    let taken = object::insert(&mut tx.conn(), objects).await.unwrap();
    tx.commit().await.unwrap();
    taken
}

async fn delete(store: &Store, name: &str, now: DateTime<Utc>) {
    let mut tx = store.write().await.unwrap();
    object::mark_deleted(&mut tx.conn(), &key(name), now).await.unwrap();
    tx.commit().await.unwrap();
}

async fn find(store: &Store, name: &str) -> Option<ObjectRecord> {
    let mut read = store.read().await.unwrap();
    let mut found = object::find(&mut read.conn(), &[&slug("openai")], &[&id(name)]).await.unwrap();
    assert!(found.len() < 2);
    found.pop()
}

fn recorded(object: &NewObject) -> ObjectRecord {
    ObjectRecord { object: object.clone(), deleted_at: None }
}

/// The ids of a list by pages of `limit`.
async fn list(
    store: &Store,
    holder: &Holder,
    order: ObjectOrder,
    (limit, now): (u32, DateTime<Utc>),
) -> Vec<String> {
    let openai = slug("openai");
    let filter = ObjectFilter { holder, provider: &openai, kind: ObjectKind::File, now };
    let (mut ids, mut after): (_, Option<Cursor<String>>) = (Vec::new(), None);
    let mut read = store.read().await.unwrap();
    loop {
        let page = object::page(&mut read.conn(), filter, after.as_ref(), (order, limit)).await.unwrap();
        assert!(page.items.len() <= limit.try_into().unwrap());
        ids.extend(page.items.iter().map(|one| one.object.id.to_string()));
        after = page.next;
        if after.is_none() {
            return ids;
        }
    }
}

on_both! {
    async fn an_object_comes_back_as_it_was_put_on_record(test: TestStore) {
        let store = &test.store;
        let maker = holder(1, "default", true);
        let full = NewObject {
            kind: ObjectKind::Item,
            model: Some("gpt-4o".into()),
            parent: Some(id("resp_1")),
            expires_at: Some(at(60)),
            document: ObjectDocument::parse(r#"{"z": 1.50, "a": "\u0000"}"#),
            ..file("msg_1", &maker, 0)
        };
        assert!(claim(store, &[full.clone(), file("file-1", &holder(1, "default", false), 1)]).await.is_empty());
        assert_eq!(find(store, "msg_1").await, Some(recorded(&full)));
        assert_eq!(find(store, "file-1").await.unwrap().object.belongs.project, None);
        assert_eq!(find(store, "file-2").await, None);
        let elsewhere = NewObject { provider: slug("other"), belongs: holder(2, "p", false).makes(), ..full.clone() };
        assert!(claim(store, std::slice::from_ref(&elsewhere)).await.is_empty(), "another provider's id is another object");
        let mut read = store.read().await.unwrap();
        let found = object::find(&mut read.conn(), &[], &[&id("msg_1"), &id("file-1"), &id("no")]).await.unwrap();
        assert_eq!(found.len(), 3, "{found:?}");
    }

    async fn an_id_stays_whose_it_is_and_a_second_claim_is_told(test: TestStore) {
        let store = &test.store;
        let (first, second) = (holder(1, "a", false), holder(2, "a", true));
        let object = file("file-1", &first, 0);
        claim(store, std::slice::from_ref(&object)).await;
        let claims = [file("file-2", &second, 5), file("file-1", &second, 5), file("file-3", &second, 5)];
        assert_eq!(claim(store, &claims).await, [key("file-1")]);
        assert_eq!(find(store, "file-1").await, Some(recorded(&object)));
        assert_eq!(find(store, "file-3").await, Some(recorded(&claims[2])), "the others are its");
        // Not even when it is gone: whoever has it in flight learns nothing of its next holder.
        delete(store, "file-1", at(6)).await;
        assert_eq!(claim(store, &[file("file-1", &second, 7)]).await, [key("file-1")]);
        assert_eq!(find(store, "file-1").await.unwrap().deleted_at, Some(at(6)));
        // What was shared is not theirs who share in another project, nor theirs who share nothing.
        for other in [holder(3, "b", true), holder(3, "a", false)] {
            assert_eq!(claim(store, &[file("file-2", &other, 8)]).await, [key("file-2")]);
        }
    }

    async fn what_its_holder_tells_again_is_brought_up_to_date(test: TestStore) {
        let store = &test.store;
        let maker = holder(1, "a", true);
        let first = NewObject { expires_at: Some(at(60)), ..file("file-1", &maker, 0) };
        claim(store, std::slice::from_ref(&first)).await;
        let document = ObjectDocument::parse("{}");
        // Another one of the project tells of it, with another credential.
        let again = NewObject {
            document: document.clone(),
            credential_id: "cred_2".into(),
            belongs: holder(2, "a", true).makes(),
            kind: ObjectKind::Batch,
            ..file("file-1", &maker, 9)
        };
        assert!(claim(store, std::slice::from_ref(&again)).await.is_empty());
        let told = NewObject { document: document.clone(), ..first.clone() };
        assert_eq!(find(store, "file-1").await, Some(recorded(&told)), "made once, with one credential");
        let longer = NewObject { expires_at: Some(at(120)), ..first.clone() };
        // Without the project, for the key shares no more; the object is the project's still.
        let longer = NewObject { belongs: holder(1, "a", false).makes(), ..longer };
        assert!(claim(store, &[longer]).await.is_empty());
        let told = NewObject { expires_at: Some(at(120)), ..told };
        assert_eq!(find(store, "file-1").await, Some(recorded(&told)));
        // Deleted and made anew: all of it is new but whose it is.
        delete(store, "file-1", at(10)).await;
        assert!(claim(store, std::slice::from_ref(&again)).await.is_empty());
        let anew = NewObject { belongs: maker.makes(), ..again };
        assert_eq!(find(store, "file-1").await, Some(recorded(&anew)));
    }

    async fn many_objects_are_written_and_found_at_once(test: TestStore) {
        let store = &test.store;
        let maker = holder(1, "a", false);
        let mut objects: Vec<NewObject> = (0..1_201).map(|n| file(&format!("file-{n:04}"), &maker, n)).collect();
        objects.push(objects[0].clone());
        assert!(claim(store, &objects).await.is_empty(), "told twice is told once");
        assert!(claim(store, &[]).await.is_empty());
        let ids: Vec<ObjectId> = objects[..1_201].iter().map(|one| one.id.clone()).collect();
        let mut read = store.read().await.unwrap();
        let found = object::find(&mut read.conn(), &[], &ids.iter().collect::<Vec<_>>()).await.unwrap();
        assert_eq!(found.len(), 1_201);
        assert!(object::find(&mut read.conn(), &[], &[]).await.unwrap().is_empty());
    }

    async fn nothing_that_a_provider_says_keeps_an_object_from_being_written(test: TestStore) {
        let store = &test.store;
        let maker = holder(1, "a", false);
        let ends = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC, at(0)];
        for (n, end) in ends.into_iter().enumerate() {
            let object = NewObject {
                created_at: end,
                expires_at: Some(end),
                model: Some("a\0b".into()),
                document: ObjectDocument::parse(r#"{"a": "\u0000\ud800"}"#),
                ..file(&format!("file-{n}"), &maker, 0)
            };
            assert!(claim(store, &[object]).await.is_empty());
            assert!(find(store, &format!("file-{n}")).await.is_some());
        }
        assert_eq!(list(store, &maker, ObjectOrder::NewestFirst, (10, at(-1))).await, ["file-1", "file-2"]);
    }

    async fn what_is_deleted_is_deleted_with_its_parts(test: TestStore) {
        let store = &test.store;
        let maker = holder(1, "a", false);
        let part = |name: &str| NewObject { parent: Some(id("resp_1")), ..file(name, &maker, 0) };
        let elsewhere = NewObject { provider: slug("other"), ..part("msg_1") };
        let objects = [file("resp_1", &maker, 0), part("msg_1"), part("msg_2"), file("resp_2", &maker, 0), elsewhere];
        claim(store, &objects).await;
        delete(store, "msg_2", at(5)).await;
        delete(store, "resp_1", at(6)).await;
        delete(store, "resp_1", at(7)).await;
        delete(store, "nothing", at(7)).await;
        for (name, deleted) in [("resp_1", Some(6)), ("msg_1", Some(6)), ("msg_2", Some(5)), ("resp_2", None)] {
            assert_eq!(find(store, name).await.unwrap().deleted_at, deleted.map(at), "{name}");
        }
        let mut read = store.read().await.unwrap();
        let found = object::find(&mut read.conn(), &[&slug("other")], &[&id("msg_1")]).await.unwrap();
        assert_eq!(found[0].deleted_at, None);
    }

    async fn what_is_gone_is_forgotten_after_a_while_and_a_few_at_a_time(test: TestStore) {
        let store = &test.store;
        let maker = holder(1, "a", false);
        let mut objects: Vec<NewObject> = (0..10).map(|n| file(&format!("file-{n}"), &maker, 0)).collect();
        for expiring in &mut objects[..4] {
            expiring.expires_at = Some(at(10));
        }
        objects[4].expires_at = Some(at(30));
        claim(store, &objects).await;
        for name in ["file-5", "file-6", "file-7"] {
            delete(store, name, at(15)).await;
        }
        delete(store, "file-8", at(25)).await;
        let mut forgotten = Vec::new();
        for _ in 0..3 {
            let mut tx = store.write().await.unwrap();
            forgotten.push(object::forget(&mut tx.conn(), at(20), 3).await.unwrap());
            tx.commit().await.unwrap();
        }
        assert_eq!(forgotten, [6, 1, 0]);
        let mut left = Vec::new();
        for object in &objects {
            if find(store, object.id.as_str()).await.is_some() {
                left.push(object.id.to_string());
            }
        }
        assert_eq!(left, ["file-4", "file-8", "file-9"]);
    }

    /// Held against a list made in memory, for random objects and holders.
    async fn a_list_has_all_that_the_holder_may_use_in_order_and_nothing_else(test: TestStore) {
        let store = &test.store;
        let mut runner = TestRunner::deterministic();
        let whose = (0..3_u8, 0..2_u8, any::<bool>());
        // Few moments, so that many are of the same.
        let one = (whose.clone(), 0..4_i64, prop::option::of(50..150_i64), prop::bool::weighted(0.2), 0..4_u8);
        let all = prop::collection::vec(one, 80).new_tree(&mut runner).unwrap().current();
        let of = |(key, project, shares): (u8, u8, bool)| holder(key, &format!("p{project}"), shares);
        let mut made = Vec::new();
        for (n, (maker, created, expires, is_deleted, sort)) in all.into_iter().enumerate() {
            let name = format!("file-{n:03}");
            let object = NewObject { expires_at: expires.map(at), ..file(&name, &of(maker), created) };
            let object = match sort {
                0 => NewObject { kind: ObjectKind::Batch, ..object },
                1 => NewObject { provider: slug("other"), ..object },
                _ => object,
            };
            claim(store, std::slice::from_ref(&object)).await;
            if is_deleted {
                delete(store, &name, at(20)).await;
            }
            made.push((object, is_deleted));
        }
        let now = at(100);
        for asker in (0..3).flat_map(|key| (0..2).flat_map(move |p| [false, true].map(|shares| (key, p, shares)))) {
            let asker = of(asker);
            let mut right: Vec<&NewObject> = made
                .iter()
                .filter(|(one, is_deleted)| {
                    let is_listed = one.kind == ObjectKind::File && one.provider.as_str() == "openai";
                    let is_there = !is_deleted && one.expires_at.is_none_or(|end| end > now);
                    is_listed && is_there && asker.may_use(&one.belongs)
                })
                .map(|(one, _)| one)
                .collect();
            right.sort_by_key(|one| (one.created_at, one.id.clone()));
            let mut right: Vec<String> = right.iter().map(|one| one.id.to_string()).collect();
            assert_eq!(list(store, &asker, ObjectOrder::OldestFirst, (3, now)).await, right, "{asker:?}");
            right.reverse();
            for limit in [1, 7, 1_000] {
                assert_eq!(list(store, &asker, ObjectOrder::NewestFirst, (limit, now)).await, right, "{asker:?}");
            }
        }
    }

    /// Among a hundred thousand that are deleted, others' or another project's.
    async fn a_list_reads_what_it_shows_and_nothing_else(test: TestStore) {
        let store = &test.store;
        let (maker, mate) = (holder(1, "p0", true), holder(2, "p0", true));
        let alone = Holder { shares: false, ..maker.clone() };
        claim(store, &[file("file-alone", &alone, 9), file("file-mine", &maker, 8), file("file-mates", &mate, 7)]).await;
        // Of four one is its own in another project, one its own and deleted, one another key's and shared, one not.
        let rows = "SELECT 'openai', 'foreign-' || n, 'file', \
            CASE WHEN n % 2 = 0 THEN '0000000000000001' ELSE '0000000000000003' END, \
            CASE WHEN n % 4 = 0 THEN 'p1' WHEN n % 4 = 1 THEN 'p0' END, 'cred_1'";
        let columns = "INSERT INTO objects (provider, id, kind, subkey_id, project, credential_id, created_at, deleted_at)";
        let deleted = "CASE WHEN n % 4 = 2 THEN";
        let day = "'2026-01-01T00:00:00+00:00'";
        let days = format!("CASE WHEN n < 50000 THEN {day} ELSE '2027-01-01T00:00:00+00:00' END");
        let numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 100000)";
        let cast = if store.backend() == "sqlite" { "" } else { "::timestamptz" };
        test.tamper(&format!("{columns} {numbers} {rows}, ({days}){cast}, {deleted} {day}{cast} END FROM numbers")).await;
        test.tamper("ANALYZE").await;
        let place = Cursor { at: at(9), key: "file-alone".to_owned() };
        let own = list(store, &alone, ObjectOrder::NewestFirst, (1, at(100))).await;
        assert_eq!(own, ["file-alone", "file-mine"]);
        for (asker, shared) in [(&maker, "objects_shared"), (&alone, "objects_by_sharer")] {
            for order in [ObjectOrder::NewestFirst, ObjectOrder::OldestFirst] {
                for after in [None, Some(&place)] {
                    let provider = slug("openai");
                    let filter = ObjectFilter { holder: asker, provider: &provider, kind: ObjectKind::File, now: at(100) };
                    let mut read = store.read().await.unwrap();
                    let plan = object::page_plan(&mut read.conn(), filter, after, (order, 20)).await.unwrap();
                    let told = plan.join("\n");
                    let uses = |index: &str| plan.iter().filter(|step| step.contains(&format!("{index} "))).count();
                    assert_eq!((uses("objects_alone"), uses(shared)), (1, 1), "{told}");
                    let is_read = |step: &&String| {
                        let reads = ["SCAN objects", "SEARCH objects", "on objects"];
                        reads.iter().any(|words| step.contains(words))
                    };
                    assert_eq!(plan.iter().filter(is_read).count(), 2, "and nothing else: {told}");
                    // Nothing that is read is put in order: it is read until the page is full.
                    for pair in plan.windows(2) {
                        let is_sorted = match store.backend() {
                            "sqlite" => is_read(&&pair[0]) && pair[1].contains("TEMP B-TREE"),
                            _ => is_read(&&pair[1]) && !pair[0].contains("Limit"),
                        };
                        assert!(!is_sorted, "{told}");
                    }
                }
            }
        }
    }
}
