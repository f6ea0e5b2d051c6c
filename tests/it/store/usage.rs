//! Usage: the sums beside the log are what a scan of the log comes to.

use super::{at, entry};
use crate::support::store::{TestStore, on_both, tamper};
use bitting::base::NanoUsd;
use bitting::log::{Decision, Entry, Filter, Rollup};
use bitting::store::usage::{Disagreement, GroupBy, TAG_ROWS_MAX};
use bitting::store::{Store, access_log, migrate_within, usage};
use chrono::{DateTime, TimeDelta, Utc};
use std::time::{Duration, Instant};

/// A small generator that is the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn one_of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[usize::try_from(self.below(words.len() as u64)).unwrap()]
    }

    /// Anywhere in five hours, now and then on an hour exactly.
    fn time(&mut self) -> DateTime<Utc> {
        let hour = i64::try_from(self.below(6)).unwrap() * 3_600;
        let inside = if self.below(5) == 0 { 0 } else { i64::try_from(self.below(3_600_000_000)).unwrap() };
        // The hours lie around a midnight.
        at(hour + 6 * 3_600) + TimeDelta::microseconds(inside)
    }

    fn entry(&mut self, n: u64) -> Entry {
        let some = |text: &str| (text != "-").then(|| text.to_owned());
        let is_denied = self.below(5) == 0;
        let tags = ["team", "env", "Ünï:'\"%"].into_iter().filter_map(|name| {
            let value = self.one_of(&["-", "a", "b", ""]);
            (value != "-").then(|| (name.to_owned(), value.to_owned()))
        });
        Entry {
            tags: tags.collect(),
            request_id: format!("r{n}"),
            time: self.time(),
            project: self.one_of(&["default", "web"]).to_owned(),
            subkey_id: self.one_of(&["k1", "k2", ""]).to_owned(),
            provider: some(self.one_of(&["openai", "anthropic", "-"])),
            model: some(self.one_of(&["gpt", "claude", "-", ""])),
            decision: if is_denied { Decision::Denied } else { Decision::Allowed },
            status: [None, Some(200), Some(429), Some(500)][usize::try_from(self.below(4)).unwrap()],
            count: self.below(3),
            input_tokens: self.below(1_000),
            cached_input_tokens: self.below(1_000),
            cache_write_tokens: self.below(1_000),
            output_tokens: if self.below(50) == 0 { u64::MAX } else { self.below(1_000) },
            cost_usd: NanoUsd::from_nano(i64::try_from(self.below(2_000_000)).unwrap() - 200_000),
            ..Entry::default()
        }
    }

    fn filter(&mut self) -> Filter {
        let mut filter = Filter::default();
        if self.below(3) > 0 {
            filter.from = Some(self.time());
        }
        if self.below(3) > 0 {
            filter.to = Some(self.time());
        }
        for (field, words) in [
            (&mut filter.project, ["default", "web", "nobody"]),
            (&mut filter.subkey, ["k1", "k2", ""]),
            (&mut filter.provider, ["openai", "anthropic", ""]),
            (&mut filter.model, ["gpt", "claude", ""]),
        ] {
            if self.below(4) == 0 {
                *field = Some(self.one_of(&words).to_owned());
            }
        }
        if self.below(4) == 0 {
            let within = ["default", "web", "nobody"].map(str::to_owned);
            filter.within = Some(within.into_iter().filter(|_| self.below(2) == 0).collect());
        }
        filter
    }

    fn group_by(&mut self) -> Vec<GroupBy> {
        let mut groups = vec![
            GroupBy::Provider,
            GroupBy::Model,
            GroupBy::Project,
            GroupBy::Subkey,
            GroupBy::Day,
            GroupBy::Tag("team".to_owned()),
            GroupBy::Tag(["env", "Ünï:'\"%", "none"][usize::try_from(self.below(3)).unwrap()].to_owned()),
        ];
        groups.retain(|_| self.below(3) == 0);
        groups
    }
}

async fn append(store: &Store, entries: impl IntoIterator<Item = Entry>) {
    let mut tx = store.write().await.unwrap();
    let mut rollup = Rollup::default();
    for entry in entries {
        access_log::append(&mut tx.conn(), &mut rollup, &entry, &[]).await.unwrap();
        // Told twice, it counts once.
        access_log::append(&mut tx.conn(), &mut rollup, &entry, &[]).await.unwrap();
    }
    usage::add(&mut tx.conn(), &rollup).await.unwrap();
    tx.commit().await.unwrap();
}

async fn equals_a_scan(store: &Store, filter: &Filter, group_by: &[GroupBy]) -> usize {
    let mut read = store.read().await.unwrap();
    let summed = usage::report(&mut read.conn(), filter, group_by).await.unwrap();
    let scanned = usage::scan(&mut read.conn(), filter, group_by).await.unwrap();
    assert_eq!(summed, scanned, "{filter:?} by {group_by:?}");
    summed.len()
}

async fn everything_equals_a_scan(store: &Store, dice: &mut Dice, reports: usize) {
    let mut rows = 0;
    for _ in 0..reports {
        rows += equals_a_scan(store, &dice.filter(), &dice.group_by()).await;
    }
    assert!(rows > reports, "not all of them are empty: {rows}");
}

/// The hours that disagree with the log, and with what.
async fn wrong(store: &Store) -> Vec<(String, Disagreement)> {
    let (mut after, mut wrong) = (None::<String>, Vec::new());
    let mut read = store.read().await.unwrap();
    while let Some(hour) = usage::first_hour_after(&mut read.conn(), after.as_deref()).await.unwrap() {
        if let (Some(disagreement), _) = usage::look(&mut read.conn(), &hour).await.unwrap() {
            wrong.push((hour.clone(), disagreement));
        }
        after = Some(hour);
    }
    wrong
}

on_both! {
    async fn a_report_is_what_a_scan_of_the_log_comes_to(test: TestStore) {
        let (store, mut dice) = (&test.store, Dice(7));
        everything_is_empty(store).await;
        for batch in 0..12 {
            append(store, (0..40).map(|n| dice.entry(batch * 40 + n)).collect::<Vec<_>>()).await;
        }
        everything_equals_a_scan(store, &mut dice, 150).await;
        assert_eq!(wrong(store).await, []);
    }

    async fn a_key_with_too_many_tags_has_no_sums_by_tag_and_its_usage_is_right(test: TestStore) {
        let store = &test.store;
        let tagged = |n: i64, subkey: &str, value: String| {
            let tags = [("session".to_owned(), value), ("team".to_owned(), "a".to_owned())].into();
            Entry { subkey_id: subkey.to_owned(), tags, ..entry(&format!("{subkey}-{n}"), at(n % 7_000)) }
        };
        append(store, (0..50).map(|n| tagged(n, "calm", format!("s{}", n % 3)))).await;
        for batch in 0..5 {
            append(store, (batch * 450..(batch + 1) * 450).map(|n| tagged(n, "wild", format!("s{n}")))).await;
        }
        let rows = |sql: &'static str| async move {
            let mut read = store.read().await.unwrap();
            let count: i64 = match read.conn() {
                bitting::store::Conn::Sqlite(db) => sqlx::query_scalar(sql).fetch_one(&mut *db).await.unwrap(),
                bitting::store::Conn::Postgres(db) => sqlx::query_scalar(sql).fetch_one(&mut *db).await.unwrap(),
            };
            count
        };
        let wild = rows("SELECT COUNT(*) FROM usage_tags WHERE subkey_id = 'wild'").await;
        assert!(wild <= TAG_ROWS_MAX, "{wild} rows, in the hour that has less of it");
        assert_eq!(rows("SELECT COUNT(*) FROM usage_unrolled").await, 1);
        assert_eq!(rows("SELECT COUNT(*) FROM usage_tags WHERE subkey_id = 'calm'").await, 4);
        for tag in ["session", "team"] {
            for more in [vec![], vec![GroupBy::Subkey], vec![GroupBy::Day, GroupBy::Model]] {
                let group_by = [vec![GroupBy::Tag(tag.to_owned())], more].concat();
                equals_a_scan(store, &Filter::default(), &group_by).await;
                let ragged = Filter { from: Some(at(17)), to: Some(at(6_500)), ..Filter::default() };
                equals_a_scan(store, &ragged, &group_by).await;
            }
        }
        assert_eq!(wrong(store).await, []);
    }

    async fn what_is_changed_in_the_sums_is_found_and_made_anew(test: TestStore) {
        let (store, mut dice) = (&test.store, Dice(11));
        append(store, (0..200).map(|n| dice.entry(n)).collect::<Vec<_>>()).await;
        for sql in [
            "UPDATE usage_hours SET cost_nano = cost_nano + 1 WHERE hour = '2026-11-22T23'",
            "UPDATE usage_hours SET failed = failed + 1 WHERE hour = '2026-11-22T23'",
            "DELETE FROM usage_hours WHERE hour = '2026-11-22T23'",
            "INSERT INTO usage_hours SELECT hour, 'none', subkey_id, provider, model, 0, 0, 0, 0, 0, 0, 0, 0, 0
               FROM usage_hours WHERE hour = '2026-11-22T23' AND subkey_id = 'k1' AND provider = 'openai' AND model = 'gpt'",
            "UPDATE usage_hours SET hour = 'zz' WHERE hour = '2026-11-22T23'",
            "UPDATE usage_hours SET hour = '2020-01-01T00' WHERE hour = '2026-11-22T23'",
            "UPDATE usage_tags SET requests = requests + 1 WHERE hour = '2026-11-22T23' AND name = 'team'",
            "DELETE FROM usage_tags WHERE hour = '2026-11-22T23'",
        ] {
            tamper(&test.url, sql).await;
            let found = wrong(store).await;
            assert!(!found.is_empty(), "{sql}");
            let expected = if sql.contains("usage_tags") { Disagreement::Tags } else { Disagreement::Hours };
            assert!(found.iter().all(|(_, disagreement)| *disagreement == expected), "{sql}: {found:?}");
            let mut tx = store.write().await.unwrap();
            for (hour, _) in found {
                usage::rebuild(&mut tx.conn(), &hour).await.unwrap();
            }
            tx.commit().await.unwrap();
            assert_eq!(wrong(store).await, [], "{sql}");
            everything_equals_a_scan(store, &mut dice, 10).await;
        }
        // Who has too many tags is left out when it is made anew, too.
        let many = (0..1_100).map(|n| Entry {
            tags: [("n".to_owned(), n.to_string())].into(),
            ..entry(&format!("many{n}"), at(7 * 3_600))
        });
        append(store, many).await;
        tamper(&test.url, "DELETE FROM usage_unrolled").await;
        assert_eq!(wrong(store).await, [("2026-11-22T23".to_owned(), Disagreement::Tags)]);
        let mut tx = store.write().await.unwrap();
        usage::rebuild(&mut tx.conn(), "2026-11-22T23").await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(wrong(store).await, []);
        equals_a_scan(store, &Filter::default(), &[GroupBy::Tag("n".to_owned())]).await;
    }
}

async fn everything_is_empty(store: &Store) {
    let mut read = store.read().await.unwrap();
    let all = usage::report(&mut read.conn(), &Filter::default(), &[]).await.unwrap();
    assert_eq!((all.len(), all[0].sums.entries), (1, 0));
    let by_day = usage::report(&mut read.conn(), &Filter::default(), &[GroupBy::Day]).await.unwrap();
    assert_eq!(by_day, []);
    assert_eq!(wrong(store).await, []);
}

/// A log that was written before there were sums.
async fn a_migration_sums_up_what_is_there((url, _folder): (String, tempfile::TempDir)) {
    let (store, mut dice) = (Store::open(&url).await.unwrap(), Dice(3));
    let mut tx = store.write().await.unwrap();
    migrate_within(&mut tx.conn(), Some(3)).await.unwrap();
    let many = (0..1_100).map(|n| Entry {
        tags: [("n".to_owned(), n.to_string())].into(),
        ..entry(&format!("many{n}"), at(7 * 3_600))
    });
    for entry in (0..200).map(|n| dice.entry(n)).chain(many).collect::<Vec<_>>() {
        access_log::append(&mut tx.conn(), &mut Rollup::default(), &entry, &[]).await.unwrap();
    }
    migrate_within(&mut tx.conn(), None).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(wrong(&store).await, []);
    everything_equals_a_scan(&store, &mut dice, 60).await;
    equals_a_scan(&store, &Filter::default(), &[GroupBy::Tag("n".to_owned())]).await;
    // What comes later is added to it.
    append(&store, (200..260).map(|n| dice.entry(n)).collect::<Vec<_>>()).await;
    assert_eq!(wrong(&store).await, []);
    everything_equals_a_scan(&store, &mut dice, 60).await;
}

#[tokio::test]
async fn a_log_from_before_is_summed_up_by_the_migration_on_sqlite() {
    a_migration_sums_up_what_is_there(TestStore::empty_sqlite()).await;
}

#[tokio::test]
async fn a_log_from_before_is_summed_up_by_the_migration_on_postgres() {
    a_migration_sums_up_what_is_there(TestStore::empty_postgres().await).await;
}

/// Fills a log with a million entries of 90 days, twenty keys and four models.
const MILLION: &str = "
    INSERT INTO access_log (request_id, time, day, project, subkey_id, provider, model, decision, status, count,
                            input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano, entry)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
    SELECT 'r' || i, strftime('%Y-%m-%dT%H:%M:%S+00:00', 1760000000 + i * 7, 'unixepoch'),
           strftime('%Y-%m-%d', 1760000000 + i * 7, 'unixepoch'), 'p' || (i % 4), 'k' || (i % 20), 'openai',
           'model' || ((i / 20) % 4), 'allowed', 200, 1, 1000, 100, 0, 200, 123456, '{}'
      FROM n";

#[tokio::test]
#[ignore = "takes half a minute; prints how much faster a report is than a scan, and what the sums cost a writer"]
async fn a_report_of_a_million_entries_beside_a_scan() {
    let test = TestStore::sqlite().await;
    tamper(&test.url, MILLION).await;
    let fill = test.store.migration_sql("0006_usage").unwrap();
    tamper(&test.url, &fill[fill.find("INSERT INTO usage_hours").unwrap()..]).await;
    let whole = Filter::default();
    let ragged = Filter {
        from: Some(DateTime::from_timestamp(1_762_000_123, 0).unwrap()),
        to: Some(DateTime::from_timestamp(1_764_600_456, 0).unwrap()),
        ..Filter::default()
    };
    for (what, filter, group_by) in [
        ("all by model and day", &whole, vec![GroupBy::Model, GroupBy::Day]),
        ("30 ragged days by sub-key", &ragged, vec![GroupBy::Subkey]),
        ("30 ragged days", &ragged, vec![]),
    ] {
        let mut read = test.store.read().await.unwrap();
        let begun = Instant::now();
        let summed = usage::report(&mut read.conn(), filter, &group_by).await.unwrap();
        let (by_sums, begun) = (begun.elapsed(), Instant::now());
        assert_eq!(summed, usage::scan(&mut read.conn(), filter, &group_by).await.unwrap());
        let by_scan = begun.elapsed();
        println!("{what}: {by_sums:?} by sums, {by_scan:?} by a scan: {:.0} times", ratio(by_scan, by_sums));
    }
    for keys in [1, 64] {
        let (mut without, mut with) = (Duration::ZERO, Duration::ZERO);
        for turn in 0..200_u64 {
            for is_summed in [false, true] {
                let begun = Instant::now();
                let mut tx = test.store.write().await.unwrap();
                let mut rollup = Rollup::default();
                for n in 0..64_u64 {
                    let mut one = entry(&format!("w{keys}-{turn}-{n}-{is_summed}"), at(0));
                    one.subkey_id = format!("k{}", n % keys);
                    access_log::append(&mut tx.conn(), &mut rollup, &one, &[]).await.unwrap();
                }
                if is_summed {
                    usage::add(&mut tx.conn(), &rollup).await.unwrap();
                }
                tx.commit().await.unwrap();
                *(if is_summed { &mut with } else { &mut without }) += begun.elapsed();
            }
        }
        println!(
            "turns of 64 entries of {keys} keys: {:.2} times as long with the sums",
            ratio(with, without)
        );
    }
}

fn ratio(long: Duration, short: Duration) -> f64 {
    long.as_secs_f64() / short.as_secs_f64()
}
