//! Log entries: typed records, an allow list of fields, never a dump of a request.

mod alarm;
mod entry;
mod filter;
mod notice;
mod usage;

pub use alarm::AlarmKind;
pub use entry::{AdminEntry, Decision, Entry, Outcome, UsageSource};
pub use filter::Filter;
pub use notice::{NoticeKind, Setback, next_attempt};
pub use usage::{Bucket, Hour, Rollup, Sums, Tag};
