//! Log entries: typed records, an allow list of fields, never a dump of a request.

mod alarm;
mod entry;
mod filter;

pub use alarm::AlarmKind;
pub use entry::{AdminEntry, Decision, Entry, Outcome, UsageSource};
pub use filter::Filter;
