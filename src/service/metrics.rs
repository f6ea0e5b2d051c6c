//! Counters for Prometheus. No label holds a key, a name of a person, or anything that a caller chose freely.

use crate::base::NanoUsd;
use crate::log::{AlarmKind, Entry};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// What the server counts.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    refusals: IntCounterVec,
    tokens: IntCounterVec,
    cost_nano_usd: IntCounterVec,
    alarms: IntCounterVec,
    overhead_seconds: HistogramVec,
    notices: IntCounterVec,
    notices_waiting: IntGauge,
}

impl Metrics {
    /// Fresh counters.
    ///
    /// # Errors
    /// When two metrics have one name.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let requests = counter(
            "bitting_requests_total",
            "Proxied requests that were admitted, by how they ended.",
            &["operation", "provider", "status"],
        )?;
        let refusals = counter(
            "bitting_refusals_total",
            "Proxied requests that were refused, by code.",
            &["operation", "code"],
        )?;
        let tokens = counter("bitting_tokens_total", "Tokens by class.", &["provider", "class"])?;
        let cost_nano_usd =
            counter("bitting_cost_nano_usd_total", "Cost posted, in 10^-9 USD.", &["provider"])?;
        let alarms = counter("bitting_alarms_total", "Alarms raised, by kind.", &["kind"])?;
        let notices = counter(
            "bitting_notices_total",
            "Notices to the webhook, by what became of them: delivered, failed for good, dropped; put_off counts attempts.",
            &["outcome"],
        )?;
        let notices_waiting = IntGauge::new("bitting_notices_waiting", "Notices that wait for the webhook.")?;
        registry.register(Box::new(notices_waiting.clone()))?;
        let buckets =
            vec![0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5];
        let help = "Time spent in Bitting before the first byte, the provider's excluded.";
        let options = HistogramOpts::new("bitting_overhead_seconds", help).buckets(buckets);
        let overhead_seconds = HistogramVec::new(options, &["operation"])?;
        registry.register(Box::new(overhead_seconds.clone()))?;
        Ok(Self {
            registry,
            requests,
            refusals,
            tokens,
            cost_nano_usd,
            alarms,
            overhead_seconds,
            notices,
            notices_waiting,
        })
    }

    /// An alarm was raised.
    pub fn alarmed(&self, kind: AlarmKind) {
        self.alarms.with_label_values(&[kind.as_str()]).inc();
    }

    /// So many notices came to this end.
    pub fn noticed(&self, outcome: &str, count: u64) {
        self.notices.with_label_values(&[outcome]).inc_by(count);
    }

    /// So many notices wait.
    pub fn notices_wait(&self, count: i64) {
        self.notices_waiting.set(count);
    }

    /// A request was refused.
    pub fn refused(&self, operation: Option<&str>, code: &str) {
        self.refusals.with_label_values(&[operation.unwrap_or("unknown"), code]).inc();
    }

    /// An admitted request was settled.
    pub fn settled(&self, entry: &Entry, cost: NanoUsd) {
        let operation = entry.operation.as_deref().unwrap_or("unknown");
        let provider = entry.provider.as_deref().unwrap_or("unknown");
        let status = entry.status.map_or_else(|| "none".to_owned(), |status| status.to_string());
        self.requests.with_label_values(&[operation, provider, &status]).inc();
        for (class, tokens) in [
            ("input", entry.input_tokens),
            ("cached_input", entry.cached_input_tokens),
            ("cache_write", entry.cache_write_tokens),
            ("output", entry.output_tokens),
        ] {
            self.tokens.with_label_values(&[provider, class]).inc_by(tokens);
        }
        self.cost_nano_usd.with_label_values(&[provider]).inc_by(u64::try_from(cost.as_nano()).unwrap_or(0));
        let overhead = std::time::Duration::from_micros(entry.overhead_us);
        self.overhead_seconds.with_label_values(&[operation]).observe(overhead.as_secs_f64());
    }

    /// Everything, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail, and the format is text.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut text);
        String::from_utf8(text).unwrap_or_default()
    }
}
