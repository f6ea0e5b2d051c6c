//! Budgets and rates: amounts per window of time, and the arithmetic of holding and posting.

mod alert;
mod balance;
pub mod escrow;
mod rate;
mod window;
mod window_time;

pub use alert::{ALERTS_MAX, reached};
pub use balance::{Balance, Refusal};
pub use rate::{RateLimit, RateLimitFault, RateMetric, RatePeriod, RateWindow, check_rate_limits};
pub use window::{BudgetSpec, Share, Window, ZoneBefore};
pub use window_time::{TOLERANCE as CLOCK_TOLERANCE, WindowTime};
