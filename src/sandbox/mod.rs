//! The sandbox: a simulated LLM provider that speaks the dialects of `OpenAI`, Azure, Anthropic and Gemini.
//!
//! It is for trying out, tests and benchmarks. The same request gets the same answer (ids and times apart), usage is what
//! its bill says, and it misbehaves only when a request asks it to, by the `x-sandbox` header or by the model's name
//! (`sandbox-mini+status=500`). It takes any key that is not empty, except those that begin with `sandbox-bad` and those
//! that it was told to refuse.
//! A key is an account: the responses and files that it leaves here are there for no other.
//! It keeps its own bill, so that another's account of the same traffic can be compared with it.

mod account;
mod audio;
mod bill;
mod call;
mod chat;
mod completions;
mod directive;
mod embeddings;
mod endpoint;
mod files;
mod gemini;
mod images;
mod messages;
mod models;
mod moderations;
mod multipart;
mod page;
mod prices;
mod rates;
mod record;
mod refusal;
mod reply;
mod responses;
mod schema;
mod seal;
mod server;
mod stream;
mod tokens;

pub use bill::{Bill, ModelBill};
pub use record::Received;
pub use server::serve;

use crate::base::Clock;
use chrono::{DateTime, Utc};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a request is held, and how long a wait for held requests lasts, at most.
const HOLD_MAX: Duration = Duration::from_mins(1);

/// A simulated provider. Clones share one bill, one memory of requests and one gate.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<State>);

#[derive(Debug)]
struct State {
    clock: Clock,
    /// Begins every id: the time of the start, so that ids do not come again.
    epoch: i64,
    ids: AtomicU64,
    ledger: bill::Ledger,
    record: record::Record,
    /// Counts releases; held requests wait for the next one.
    release: watch::Sender<u64>,
    held: watch::Sender<u64>,
    refused: Mutex<Vec<String>>,
    files: account::Shelf<files::File>,
    responses: account::Shelf<responses::Kept>,
}

impl Sandbox {
    /// A sandbox with an empty bill.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(State {
            epoch: clock.now().timestamp_micros(),
            clock,
            ids: AtomicU64::new(0),
            ledger: bill::Ledger::default(),
            record: record::Record::default(),
            release: watch::Sender::new(0),
            held: watch::Sender::new(0),
            refused: Mutex::default(),
            files: files::shelf(),
            responses: responses::shelf(),
        }))
    }

    /// All its endpoints. Only [`serve`] can close a connection without an answer; elsewhere that is a broken body.
    pub fn router(&self) -> axum::Router {
        server::router(self.clone())
    }

    /// What it has charged and counted since it began or was reset.
    pub fn bill(&self) -> Bill {
        Bill { held: *self.0.held.borrow(), ..self.0.ledger.bill() }
    }

    /// The last 256 requests, oldest first.
    pub fn requests(&self) -> Vec<Received> {
        self.0.record.received()
    }

    /// Forgets the bill and the requests. What is in flight stays, and is billed when it ends; what accounts left stays.
    pub fn reset(&self) {
        self.0.ledger.reset();
        self.0.record.clear();
    }

    /// Lets the requests go that are held now, and says how many. Later ones are held again.
    pub fn release(&self) -> u64 {
        let held = *self.0.held.borrow();
        self.0.release.send_modify(|releases| *releases += 1);
        held
    }

    /// Waits until so many requests are held, a minute at most; says how many are.
    pub async fn wait_held(&self, count: u64) -> u64 {
        let mut held = self.0.held.subscribe();
        let reached = tokio::time::timeout(HOLD_MAX, held.wait_for(|held| *held >= count)).await;
        drop(reached);
        *self.0.held.borrow()
    }

    /// Refuses these keys from now on, and no others that it was told before, as a provider whose customer has revoked
    /// them.
    pub fn refuse_keys(&self, keys: &[&str]) {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        *self.0.refused.lock().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn refuses(&self, key: &str) -> bool {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|refused| refused == key)
    }

    async fn hold(&self) {
        struct Place<'a>(&'a watch::Sender<u64>);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                self.0.send_modify(|held| *held -= 1);
            }
        }
        // Listening begins before the place is counted: who sees it counted can release it.
        let mut release = self.0.release.subscribe();
        self.0.held.send_modify(|held| *held += 1);
        let _place = Place(&self.0.held);
        let released = tokio::time::timeout(HOLD_MAX, release.changed()).await;
        drop(released);
    }

    fn id(&self, prefix: &str) -> String {
        let number = self.0.ids.fetch_add(1, Ordering::Relaxed);
        format!("{prefix}_{:x}{number:08x}", self.0.epoch)
    }

    fn now(&self) -> DateTime<Utc> {
        self.0.clock.now()
    }

    fn files(&self) -> &account::Shelf<files::File> {
        &self.0.files
    }

    fn responses(&self) -> &account::Shelf<responses::Kept> {
        &self.0.responses
    }

    fn ledger(&self) -> &bill::Ledger {
        &self.0.ledger
    }

    fn record(&self) -> &record::Record {
        &self.0.record
    }
}
