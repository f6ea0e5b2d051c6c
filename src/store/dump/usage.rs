//! The tables of the sums of usage.
//!
//! They are made of the log, and come with a backup all the same: a restore then reads the log once less, and what came is
//! held against the log like everything that was written.

use super::{Table, int, text, time};

pub(super) const HOURS: Table = Table {
    name: "usage_hours",
    key: &["hour", "project", "subkey_id", "provider", "model"],
    numbered: None,
    opens_vault: false,
    columns: &[
        text("hour").since(6),
        text("project").since(6),
        text("subkey_id").since(6),
        text("provider").since(6),
        text("model").since(6),
        int("entries").since(6),
        int("requests").since(6),
        int("denied").since(6),
        int("failed").since(6),
        int("input_tokens").since(6),
        int("cached_input_tokens").since(6),
        int("cache_write_tokens").since(6),
        int("output_tokens").since(6),
        int("cost_nano").since(6),
    ],
};

pub(super) const TAGS: Table = Table {
    name: "usage_tags",
    key: &["hour", "subkey_id", "name", "value", "project", "provider", "model"],
    numbered: None,
    opens_vault: false,
    columns: &[
        text("hour").since(6),
        text("subkey_id").since(6),
        text("name").since(6),
        text("value").since(6),
        text("project").since(6),
        text("provider").since(6),
        text("model").since(6),
        int("entries").since(6),
        int("requests").since(6),
        int("denied").since(6),
        int("failed").since(6),
        int("input_tokens").since(6),
        int("cached_input_tokens").since(6),
        int("cache_write_tokens").since(6),
        int("output_tokens").since(6),
        int("cost_nano").since(6),
    ],
};

pub(super) const UNROLLED: Table = Table {
    name: "usage_unrolled",
    key: &["hour", "subkey_id"],
    numbered: None,
    opens_vault: false,
    columns: &[
        text("hour").since(6),
        text("subkey_id").since(6),
        time("begins").since(6),
        time("ends").since(6),
    ],
};
