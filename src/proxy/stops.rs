//! What ends a request in flight from the side of operators: its sub-key is stopped, or a project above it.

use super::refusal::{Code, Refusal};
use crate::service::Caller;
use tokio_util::sync::CancellationToken;

/// What stops a request in flight: its sub-key, or a project above it.
pub(super) struct Stops {
    key: CancellationToken,
    projects: CancellationToken,
}

impl Stops {
    pub(super) fn of(caller: &Caller) -> Self {
        Self { key: caller.key.stopped.clone(), projects: caller.lineage.stopped.clone() }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.key.is_cancelled() || self.projects.is_cancelled()
    }

    pub(super) async fn cancelled(&self) {
        tokio::select! {
            () = self.key.cancelled() => {}
            () = self.projects.cancelled() => {}
        }
    }

    /// Why a stopped request ends.
    pub(super) fn refusal(&self) -> Refusal {
        // Keys of a suspended project are stopped, too.
        if self.projects.is_cancelled() {
            let message = "The project of this sub-key was suspended while the request was in flight.";
            Refusal::new(Code::KeySuspended, message)
        } else {
            Refusal::new(Code::KeyRevoked, "This sub-key was stopped while the request was in flight.")
        }
    }
}
