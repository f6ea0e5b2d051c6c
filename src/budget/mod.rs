//! Budgets and rates: amounts per window of time, and the arithmetic of holding and posting.

mod balance;
pub mod escrow;
mod rate;
mod window;

pub use balance::{Balance, Refusal};
pub use rate::{RateLimit, RateMetric, RatePeriod, RateWindow};
pub use window::{BudgetSpec, Window};
