//! Both logs: exactly one entry, filters, pages, exports, sums.

use super::{at, entry};
use crate::support::store::on_both;
use bitting::base::NanoUsd;
use bitting::log::{AdminEntry, Decision, Entry, Filter, Rollup, Sums};
use bitting::store::admin_log::AdminFilter;
use bitting::store::usage::{GroupBy, UsageRow};
use bitting::store::{Conn, Store, access_log, admin_log, usage};
use serde_json::json;

async fn append(store: &Store, entries: &[Entry]) -> Vec<Option<i64>> {
    let mut tx = store.write().await.unwrap();
    let (mut seqs, mut rollup) = (Vec::new(), Rollup::default());
    for entry in entries {
        seqs.push(access_log::append(&mut tx.conn(), &mut rollup, entry, &[]).await.unwrap());
    }
    usage::add(&mut tx.conn(), &rollup).await.unwrap();
    tx.commit().await.unwrap();
    seqs
}

async fn ids(store: &Store, filter: Filter) -> Vec<String> {
    let page = access_log::page(&mut store.read().await.unwrap().conn(), &filter, None, 1_000).await.unwrap();
    page.items.into_iter().map(|logged| logged.entry.request_id).collect()
}

fn sums(group: &[Option<&str>], requests: i64, denied: i64, tokens: [i64; 4], cost: i64) -> UsageRow {
    let sums = Sums {
        requests,
        denied,
        input_tokens: tokens[0],
        cached_input_tokens: tokens[1],
        cache_write_tokens: tokens[2],
        output_tokens: tokens[3],
        cost: NanoUsd::from_nano(cost),
        ..Sums::default()
    };
    UsageRow { group: group.iter().map(|value| value.map(str::to_owned)).collect(), sums }
}

/// A report without the number of entries, which nobody is told.
async fn report(conn: &mut Conn<'_>, filter: &Filter, group_by: &[GroupBy]) -> Vec<UsageRow> {
    let mut rows = usage::report(conn, filter, group_by).await.unwrap();
    for row in &mut rows {
        row.sums.entries = 0;
    }
    rows
}

on_both! {
    async fn a_request_has_exactly_one_entry_and_the_first_stays(test: TestStore) {
        let store = &test.store;
        let mut first = entry("r1", at(0));
        first.tags = [("team".to_owned(), "search".to_owned())].into();
        let second = Entry { status: Some(500), ..first.clone() };
        let seqs = append(store, &[first.clone(), second, entry("r2", at(1))]).await;
        assert!(seqs[0].is_some() && seqs[1].is_none() && seqs[2] > seqs[0], "{seqs:?}");
        let mut read = store.read().await.unwrap();
        let logged = access_log::get(&mut read.conn(), "r1").await.unwrap().unwrap();
        assert_eq!((Some(logged.seq), logged.entry), (seqs[0], first));
        assert_eq!(access_log::get(&mut read.conn(), "r3").await.unwrap(), None);
    }

    async fn pages_are_newest_first_and_exports_oldest_first_without_gaps(test: TestStore) {
        let store = &test.store;
        // Appended in another order than the requests came; some of the same moment.
        let entries: Vec<Entry> = (0..25).map(|i| entry(&format!("r{i}"), at((i * 7) % 9))).collect();
        append(store, &entries).await;
        let mut read = store.read().await.unwrap();
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = access_log::page(&mut read.conn(), &Filter::default(), after.as_ref(), 4).await.unwrap();
            assert!(page.items.len() <= 4);
            paged.extend(page.items);
            let Some(next) = page.next else { break };
            after = Some(next.to_string().parse().unwrap());
        }
        let mut wanted: Vec<_> = paged.iter().map(|logged| (logged.entry.time, logged.seq)).collect();
        assert_eq!(wanted.len(), 25);
        wanted.sort_unstable();
        wanted.dedup();
        wanted.reverse();
        assert_eq!(paged.iter().map(|logged| (logged.entry.time, logged.seq)).collect::<Vec<_>>(), wanted);

        let (mut exported, mut seq) = (Vec::new(), 0);
        loop {
            let some = access_log::export(&mut read.conn(), &Filter::default(), seq, 10).await.unwrap();
            let Some(last) = some.last() else { break };
            seq = last.seq;
            exported.extend(some.into_iter().map(|logged| logged.entry));
        }
        assert_eq!(exported, entries);
    }

    async fn every_filter_narrows(test: TestStore) {
        let store = &test.store;
        let base = entry("a", at(0));
        let denied = Entry { decision: Decision::Denied, status: Some(403), ..entry("b", at(10)) };
        let mut other = Entry { project: "web".into(), subkey_id: "k2".into(), ..entry("c", at(20)) };
        other.provider = Some("anthropic".into());
        other.model = Some("claude".into());
        other.client_ip = Some("192.0.2.1".into());
        append(store, &[base, denied, other]).await;
        let any = Filter::default;
        let cases: [(Filter, &[&str]); 12] = [
            (any(), &["c", "b", "a"]),
            (Filter { from: Some(at(10)), ..any() }, &["c", "b"]),
            (Filter { to: Some(at(10)), ..any() }, &["a"]),
            (Filter { project: Some("web".into()), ..any() }, &["c"]),
            (Filter { subkey: Some("k".into()), ..any() }, &["b", "a"]),
            (Filter { provider: Some("anthropic".into()), ..any() }, &["c"]),
            (Filter { model: Some("gpt-4o".into()), ..any() }, &["b", "a"]),
            (Filter { decision: Some(Decision::Denied), ..any() }, &["b"]),
            (Filter { decision: Some(Decision::Allowed), ..any() }, &["c", "a"]),
            (Filter { status: Some(403), ..any() }, &["b"]),
            (Filter { request_id: Some("a".into()), ..any() }, &["a"]),
            (Filter { client_ip: Some("192.0.2.1".into()), from: Some(at(20)), ..any() }, &["c"]),
        ];
        for (filter, found) in cases {
            assert_eq!(ids(store, filter.clone()).await, found, "{filter:?}");
        }
    }

    async fn usage_sums_by_what_is_asked(test: TestStore) {
        let store = &test.store;
        let mut tagged = entry("a", at(0));
        tagged.tags = [("team".to_owned(), "search".to_owned())].into();
        tagged.cached_input_tokens = 3;
        tagged.cache_write_tokens = 2;
        let mut denied = Entry { decision: Decision::Denied, count: 60, ..entry("b", at(1)) };
        (denied.provider, denied.model, denied.cost_usd) = (None, None, NanoUsd::ZERO);
        (denied.input_tokens, denied.output_tokens) = (0, 0);
        let mut next_day = entry("c", at(8 * 3_600));
        next_day.tags = [("team".to_owned(), "ads".to_owned())].into();
        let huge = Entry { input_tokens: u64::MAX, ..entry("d", at(90 * 86_400)) };
        append(store, &[tagged, denied, next_day, huge]).await;

        let mut read = store.read().await.unwrap();
        let conn = &mut read.conn();
        let days = Filter { to: Some(at(86_400)), ..Filter::default() };
        let whole = report(conn, &days, &[]).await;
        assert_eq!(whole, [sums(&[], 62, 60, [20, 3, 2, 10], 200)]);
        let by = [GroupBy::Provider, GroupBy::Model, GroupBy::Project, GroupBy::Subkey];
        assert_eq!(report(conn, &days, &by).await, [
            sums(&[None, None, Some("default"), Some("k")], 60, 60, [0; 4], 0),
            sums(&[Some("openai"), Some("gpt-4o"), Some("default"), Some("k")], 2, 0, [20, 3, 2, 10], 200),
        ]);
        assert_eq!(report(conn, &days, &[GroupBy::Day]).await, [
            sums(&[Some("2026-11-22")], 61, 60, [10, 3, 2, 5], 100),
            sums(&[Some("2026-11-23")], 1, 0, [10, 0, 0, 5], 100),
        ]);
        let tags = [GroupBy::Tag("team".into()), GroupBy::Tag("none".into())];
        assert_eq!(report(conn, &days, &tags).await, [
            sums(&[None, None], 60, 60, [0; 4], 0),
            sums(&[Some("ads"), None], 1, 0, [10, 0, 0, 5], 100),
            sums(&[Some("search"), None], 1, 0, [10, 3, 2, 5], 100),
        ]);
        let none = Filter { project: Some("nowhere".into()), ..Filter::default() };
        assert_eq!(report(conn, &none, &[]).await, [sums(&[], 0, 0, [0; 4], 0)]);
        assert_eq!(report(conn, &none, &[GroupBy::Day]).await, []);
        let later = Filter { from: Some(at(86_400)), ..Filter::default() };
        assert_eq!(report(conn, &later, &[]).await[0].sums.input_tokens, 1 << 40);
    }

    async fn the_admin_log_keeps_who_did_what_to_what(test: TestStore) {
        let store = &test.store;
        let told = |seconds, action: &str, target: &str| AdminEntry {
            time: at(seconds),
            actor: "op_1".into(),
            action: action.into(),
            target: target.into(),
            request_id: "r".into(),
            detail: json!({"after": {"name": "ci"}}),
        };
        let entries = [told(0, "subkey.mint", "k1"), told(1, "subkey.mint", "k2"), told(1, "subkey.revoke", "k1")];
        let mut tx = store.write().await.unwrap();
        for entry in &entries {
            admin_log::append(&mut tx.conn(), entry).await.unwrap();
        }
        tx.commit().await.unwrap();
        let mut read = store.read().await.unwrap();
        let conn = &mut read.conn();
        let any = AdminFilter::default;
        let first = admin_log::page(conn, &any(), None, 2).await.unwrap();
        let second = admin_log::page(conn, &any(), first.next.as_ref(), 2).await.unwrap();
        let paged: Vec<_> = first.items.into_iter().chain(second.items).map(|logged| logged.entry).collect();
        assert_eq!(paged, [entries[2].clone(), entries[1].clone(), entries[0].clone()]);
        assert_eq!(second.next, None);
        for (filter, found) in [
            (AdminFilter { target: Some("k1".into()), ..any() }, 2),
            (AdminFilter { action: Some("subkey.mint".into()), ..any() }, 2),
            (AdminFilter { actor: Some("op_2".into()), ..any() }, 0),
            (AdminFilter { from: Some(at(1)), to: Some(at(2)), ..any() }, 2),
        ] {
            assert_eq!(admin_log::export(conn, &filter, 0, 10).await.unwrap().len(), found, "{filter:?}");
        }
        let exported = admin_log::export(conn, &any(), 0, 10).await.unwrap();
        assert_eq!(exported.into_iter().map(|logged| logged.entry).collect::<Vec<_>>(), entries);
    }
}
