//! Random requests and random answers, in random pieces, through the hop: the same bytes as without it, in both
//! directions, and the usage that a plain reading of the whole answer finds.
//!
//! Every run draws anew. A case that fails says its seed; `BITTING_TEST_CASE=SEED cargo test --test it differential`
//! runs that one alone.

mod answer;
mod ask;
mod events;
mod json;
mod random;
mod reference;
mod wire;

use crate::support::server::TestServer;
use crate::support::store::{TestStore, on_both};
use answer::Answer;
use ask::{Ask, BOUND, Key, MODEL};
use bitting::base::{Entropy, NanoUsd};
use futures_util::future::join_all;
use http::Method;
use random::Random;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Instant;
use wire::{Client, Provider, Told};

/// Clients at a time.
const CLIENTS: usize = 6;

/// A server whose one provider is told what to answer, and a key of each sort.
struct Bench {
    server: TestServer,
    provider: Provider,
    keys: Vec<(Key, String, String)>,
}

/// One request and what comes of it, to be compared with its entry.
struct Case {
    seed: u64,
    ask: Ask,
    answer: Answer,
    told: Told,
    /// The request by which the same answer came in one piece.
    whole: Option<String>,
}

impl Bench {
    async fn start(store: TestStore) -> Self {
        let server = TestServer::start(store).await;
        let (provider, url) = Provider::start().await;
        let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
        let made = json!({"slug": "fuzz", "dialects": dialects, "supports_stream_options": true});
        assert_eq!(server.admin_post("/api/v1/providers", &made).await.status, 201);
        let key = json!({"name": "main", "secret": json::SECRET});
        assert_eq!(server.admin_post("/api/v1/providers/fuzz/credentials", &key).await.status, 201);
        let model = json!({
            "operations": ["chat", "completions", "embeddings", "responses"],
            "context_window": 1_000_000, "max_output_tokens": 10_000, "bound_covers_reasoning": true,
            "prices": {"input_per_mtok_usd": "1", "cached_input_per_mtok_usd": "0.5",
                "cache_write_per_mtok_usd": "1.25", "output_per_mtok_usd": "2"},
        });
        let path = "/api/v1/models/fuzz/odd-1.x";
        let put = server.admin_call(Method::PUT, path, Some(&model)).await;
        assert!(put.status.is_success(), "{:?}", put.json());
        let mut keys = Vec::new();
        for (key, more) in [
            (Key::Plain, json!({})),
            (Key::Defaulted, json!({"default_max_output_tokens": BOUND})),
            (Key::Clamped, json!({"max_output_tokens": BOUND, "clamp_output": true})),
        ] {
            let mut more = more;
            more["models"] = json!([format!("fuzz/{MODEL}")]);
            let (id, secret) = server.mint(more).await;
            keys.push((key, id, secret));
        }
        Self { server, provider, keys }
    }

    /// Runs these cases over a few connections, and then looks at what the log says of each.
    async fn run(&self, seeds: &[u64]) {
        let lane = |lane: usize| async move {
            let mut client = Client::new(&self.server.proxy);
            let mut cases = Vec::new();
            for seed in seeds.iter().skip(lane).step_by(CLIENTS) {
                cases.push(self.pass(&mut client, *seed).await);
            }
            cases
        };
        let lanes = join_all((0..CLIENTS).map(lane)).await;
        let mut entries = HashMap::new();
        for (_, id, _) in &self.keys {
            for entry in self.server.entries(id).await {
                entries.insert(entry["request_id"].as_str().unwrap().to_owned(), entry);
            }
        }
        for case in lanes.iter().flatten() {
            case.assert_recorded(&entries);
        }
    }

    /// Passes one case through the hop, and compares bytes.
    async fn pass(&self, client: &mut Client, seed: u64) -> Case {
        let mut random = Random::new(seed);
        let name = format!("{seed:016x}");
        let ask = ask::ask(&mut random);
        let answer = answer::answer(&mut random, &ask, &name);
        let what = format!("seed {seed:#x}: {:?} {} {:?}", ask.kind, ask.path, ask.key);
        self.provider.expect(&name, answer.clone());
        let (_, _, secret) = self.keys.iter().find(|(key, ..)| *key == ask.key).unwrap();
        let told = client.call(&name, secret, &ask).await;
        let received = self.provider.received(&name);
        let received = received.unwrap_or_else(|| panic!("{what}: refused: {}", shown(&told.body)));
        assert_eq!(received.path, ask.upstream_path, "{what}");
        let changed = told.headers.get("x-bitting-changed").map_or("", String::as_str);
        let mut changed: Vec<&str> = changed.split(',').filter(|field| !field.is_empty()).collect();
        changed.sort_unstable();
        assert_eq!(changed, ask.changed, "{what}: {}", shown(&ask.sent));
        assert!(
            ask.arrives.contains(&received.body),
            "{what}\nsent     {}\nreceived {}\nwanted   {}",
            shown(&ask.sent),
            shown(&received.body),
            shown(&ask.arrives[0])
        );
        assert_eq!(told.status, answer.status, "{what}: {}", shown(&told.body));
        assert_eq!(told.headers["content-type"], answer.content_type, "{what}");
        let (body, end) = told.body.split_at(told.body.len().min(answer.passes.len()));
        assert!(
            body == answer.passes && (end.is_empty() || !answer.is_whole),
            "{what}\nprovider {}\nclient   {}\nwanted   {}",
            shown(&answer.bytes),
            shown(&told.body),
            shown(&answer.passes)
        );
        assert_eq!(told.is_whole, answer.is_whole, "{what}: {}", shown(&told.body));
        let may_say_nothing = answer.is_whole || answer.ends_inside && end.is_empty();
        assert!(may_say_nothing || shown(end).contains("error"), "{what}: it breaks off: {}", shown(end));
        let mut whole = None;
        if !answer.is_whole || random.one_in(4) {
            let name = format!("{seed:016x}-whole");
            self.provider.expect(&name, Answer { pieces: vec![answer.bytes.clone()], ..answer.clone() });
            let again = client.call(&name, secret, &ask).await;
            assert_eq!(body, &again.body[..body.len()], "{what}: in one piece");
            whole = Some(again.headers["x-bitting-request-id"].clone());
        }
        Case { seed, ask, answer, told, whole }
    }
}

impl Case {
    fn assert_recorded(&self, entries: &HashMap<String, Value>) {
        let Self { ask, answer, .. } = self;
        let entry = &entries[&self.told.headers["x-bitting-request-id"]];
        let what = format!("seed {:#x}: {:?}: {entry}\n{}", self.seed, ask.kind, shown(&answer.bytes));
        if let Some(whole) = &self.whole {
            for field in TOLD {
                assert_eq!(entry[field], entries[whole][field], "{field} of {what}");
            }
        }
        if answer.status != 200 {
            let free = json!(NanoUsd::ZERO);
            assert_eq!((&entry["cost_usd"], &entry["input_tokens"]), (&free, &json!(0)), "{what}");
            return;
        }
        let plain = reference::told(ask.kind, ask.is_streamed, &answer.bytes);
        assert_eq!(entry["finish_reason"].as_str(), plain.finish.as_deref(), "{what}");
        // Of what broke off, or tells no usage, the cost is a guess.
        if !answer.is_whole || !plain.has_usage {
            return;
        }
        let usage = [plain.input, plain.cached, plain.written, plain.output, plain.reasoning];
        let counted = TOLD[..5].iter().map(|field| entry[*field].as_u64().unwrap_or(0));
        assert_eq!(counted.collect::<Vec<_>>(), usage, "{what}");
        assert_eq!(entry["usage_source"], "reported", "{what}");
        assert_eq!(entry["outcome"], "completed", "{what}");
        let cost = NanoUsd::from_nano(i64::try_from(plain.cost_nano()).unwrap());
        assert_eq!(entry["cost_usd"], json!(cost), "{what}");
        if let Some(told) = self.told.headers.get("x-bitting-cost-usd") {
            assert_eq!(*told, cost.to_string(), "{what}");
        }
    }
}

/// What an entry says of an answer.
const TOLD: [&str; 10] = [
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "usage_source",
    "finish_reason",
    "model_reported",
    "cost_usd",
    "outcome",
];

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    format!("{:?}", text.chars().take(6_000).collect::<String>())
}

/// The seeds of so many cases: fresh ones, or the one that is asked for.
#[expect(clippy::disallowed_methods, reason = "whoever runs a test says which case by the environment")]
fn seeds(count: usize) -> Vec<u64> {
    if let Ok(wanted) = std::env::var("BITTING_TEST_CASE") {
        let digits = wanted.trim_start_matches("0x");
        return vec![u64::from_str_radix(digits, 16).expect("BITTING_TEST_CASE is a seed in hexadecimal")];
    }
    let mut random = Random::new(u64::from_le_bytes(Entropy::new().bytes()));
    (0..count).map(|_| random.draw()).collect()
}

on_both! {
    async fn p6_faithful_random_requests_and_answers_pass_and_meter_as_without_the_hop(test: TestStore) {
        let bench = Bench::start(test).await;
        bench.run(&seeds(250)).await;
        bench.server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute: cargo test --test it differential -- --ignored --nocapture"]
async fn p6_faithful_many_random_requests_and_answers_pass_and_meter_as_without_the_hop() {
    let bench = Bench::start(TestStore::sqlite().await).await;
    let (began, mut done) = (Instant::now(), 0);
    while began.elapsed().as_secs() < 50 {
        let seeds = seeds(500);
        bench.run(&seeds).await;
        done += seeds.len();
    }
    println!("{done} random cases in {} s: the same as without the hop", began.elapsed().as_secs());
    bench.server.end().await;
}
