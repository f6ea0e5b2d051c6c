//! The watch over the books: they are held against the log at start, every ten minutes, and when somebody asks; what does
//! not add up is blocked, by the writer.

use super::audit::Auditor;
use super::{Command, Mending, RepairError, Unrecorded};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// How often the books are compared with the log.
const AUDIT_EVERY: Duration = Duration::from_mins(10);

/// Compares the books with the log, and blocks what does not add up; tells how many windows that are.
pub(super) async fn audit_and_block(
    auditor: &Auditor,
    commands: &mpsc::Sender<Command>,
) -> Result<usize, RepairError> {
    let mismatches = auditor.run().await?;
    let count = mismatches.len();
    if count > 0 {
        let windows = mismatches.into_iter().map(|mismatch| mismatch.window).collect();
        mend(commands, Mending::Block(windows)).await?;
    }
    // Nothing depends on the sums of usage: the books count, whatever becomes of this.
    if let Err(error) = sum_again(auditor, commands).await {
        tracing::error!(%error, "the sums of usage were not held against the log");
    }
    Ok(count)
}

/// Holds the sums of usage against the log, and has those that disagree made anew.
async fn sum_again(auditor: &Auditor, commands: &mpsc::Sender<Command>) -> Result<(), RepairError> {
    match auditor.check_usage().await? {
        Some(mending) => Ok(mend(commands, mending).await?),
        None => Ok(()),
    }
}

/// Has the writer change windows, and waits until it is durable.
pub(super) async fn mend(commands: &mpsc::Sender<Command>, mending: Mending) -> Result<(), Unrecorded> {
    let (reply, answer) = oneshot::channel();
    commands.send(Command::Mend(mending, reply)).await.map_err(|_| Unrecorded)?;
    answer.await.map_err(|_| Unrecorded)?
}

/// Ends with the writer, which it does not keep alive.
pub(super) async fn audit_regularly(
    commands: mpsc::WeakSender<Command>,
    auditor: Arc<Mutex<Auditor>>,
    stopping: CancellationToken,
) {
    while stopping.run_until_cancelled(tokio::time::sleep(AUDIT_EVERY)).await.is_some() {
        let Some(commands) = commands.upgrade() else { return };
        let audit = async { audit_and_block(&*auditor.lock().await, &commands).await };
        match stopping.run_until_cancelled(audit).await {
            None => return,
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::error!(%error, "the books were not compared with the log"),
        }
    }
}
