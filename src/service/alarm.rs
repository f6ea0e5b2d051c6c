//! Alarms: what an operator has to look at.

use super::Metrics;
use crate::log::AlarmKind;
use serde_json::Value;

/// Where alarms are raised, from anywhere and without waiting.
#[derive(Clone)]
pub struct Alarms {
    metrics: Metrics,
}

impl Alarms {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics }
    }

    /// Raises an alarm about `subject`. `detail` is an object without secrets.
    pub fn raise(&self, kind: AlarmKind, subject: &str, detail: &Value) {
        self.metrics.alarmed(kind);
        tracing::error!(alarm = kind.as_str(), subject, %detail, "alarm");
    }
}
