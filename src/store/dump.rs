//! Every table with its columns, as a backup carries them: the one list from which rows are read out of one database
//! and written into another, whatever kind either is.
//!
//! A test compares the list with the real schema of both databases, so nothing can be forgotten. The only table that
//! is not here is the record of the migrations: what a backup has of it are their names.

mod column;
mod rows;
mod usage;

pub use column::{Column, Kind};
use column::{boolean, bytes, int, json, text, time};
pub use rows::{Cell, DumpError, clear, continue_sequences, each_row, insert, last_seq, unhurried};

/// A table.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The primary key, by which its rows are put in order.
    pub key: &'static [&'static str],
    /// Its columns, oldest first.
    pub columns: &'static [Column],
    /// The column that the database numbers, if one is.
    pub numbered: Option<&'static str>,
    /// Whether its rows are needed to open the vault.
    pub opens_vault: bool,
}

impl Table {
    /// The columns that the table has after the migration `schema`; none before there is such a table.
    pub fn columns_at(&self, schema: i64) -> Vec<&'static Column> {
        self.columns.iter().filter(|column| column.since <= schema).collect()
    }
}

/// All tables. One that refers to another comes after it.
pub static TABLES: [Table; 35] = [
    Table {
        name: "meta",
        key: &["name"],
        numbered: None,
        opens_vault: true,
        columns: &[text("name"), text("value")],
    },
    Table {
        name: "keyring",
        key: &["id"],
        numbered: None,
        opens_vault: true,
        columns: &[text("id"), bytes("sealed"), time("updated_at")],
    },
    Table {
        name: "keyring_wraps",
        key: &["id"],
        numbered: None,
        opens_vault: true,
        columns: &[
            text("id").since(2),
            text("source").since(2),
            json("stored").since(2),
            bytes("sealed").since(2),
            time("created_at").since(2),
        ],
    },
    Table {
        name: "wrap_terms",
        key: &["term"],
        numbered: None,
        opens_vault: true,
        columns: &[int("term").since(2), int("uses").since(2), time("created_at").since(2)],
    },
    Table {
        name: "register",
        key: &["id"],
        numbered: None,
        opens_vault: true,
        columns: &[
            int("id").since(2),
            int("seq").since(2),
            bytes("digest").since(2),
            int("epoch").since(2),
            json("state").since(2),
            int("term").since(2),
            bytes("mac").since(2),
        ],
    },
    Table {
        name: "row_macs",
        key: &["tbl", "id"],
        numbered: None,
        opens_vault: false,
        columns: &[text("tbl").since(2), text("id").since(2), int("term").since(2), bytes("mac").since(2)],
    },
    Table {
        name: "operators",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id"),
            text("name"),
            json("roles"),
            json("projects").or_null(),
            time("created_at"),
            text("created_by"),
            int("version").since(2),
        ],
    },
    Table {
        name: "operator_tokens",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id"),
            text("operator_id"),
            bytes("sha256"),
            time("created_at"),
            time("expires_at").or_null(),
            time("last_used_at").or_null(),
        ],
    },
    Table {
        name: "projects",
        key: &["slug"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("slug"),
            text("name"),
            time("created_at"),
            int("version").since(2),
            text("status").since(4),
            text("parent").or_null().since(4),
            json("document").or_null().since(4),
        ],
    },
    Table {
        name: "providers",
        key: &["slug"],
        numbered: None,
        opens_vault: false,
        columns: &[text("slug"), int("version"), json("document"), text("status"), time("created_at")],
    },
    Table {
        name: "credentials",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id"),
            text("provider"),
            text("name"),
            int("weight"),
            json("projects").or_null(),
            text("organization").or_null(),
            text("openai_project").or_null(),
            text("status"),
            int("secret_version"),
            int("version"),
            time("created_at"),
            text("created_by"),
            text("rotation_due").or_null().since(2),
            json("rate_limits").or_null().since(5),
        ],
    },
    Table {
        name: "credential_versions",
        key: &["credential_id", "secret_version"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("credential_id"),
            int("secret_version"),
            int("term"),
            bytes("wrapped_dek"),
            bytes("sealed"),
            time("created_at"),
            text("status").since(2),
            time("drain_until").or_null().since(2),
        ],
    },
    Table {
        name: "subkeys",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id"),
            text("project"),
            text("name"),
            int("version"),
            text("state"),
            json("definition"),
            time("expires_at").or_null(),
            time("created_at"),
            text("created_by"),
        ],
    },
    Table {
        name: "subkey_secrets",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id"),
            text("subkey_id"),
            bytes("mac"),
            int("mac_term"),
            time("created_at"),
            time("expires_at").or_null(),
        ],
    },
    Table {
        name: "subkey_labels",
        key: &["subkey_id", "key"],
        numbered: None,
        opens_vault: false,
        columns: &[text("subkey_id"), text("key"), text("value")],
    },
    Table {
        name: "secret_use",
        key: &["secret_id"],
        numbered: None,
        opens_vault: false,
        columns: &[text("secret_id"), text("subkey_id"), time("last_used_at")],
    },
    Table {
        name: "models",
        key: &["provider", "name", "effective_from"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("provider"),
            text("name"),
            time("effective_from"),
            int("version"),
            json("document"),
            time("created_at"),
        ],
    },
    Table {
        name: "budgets",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id"),
            text("owner"),
            text("win"),
            int("limit_nano"),
            text("timezone"),
            boolean("active"),
            json("alert_at").or_null().since(7),
        ],
    },
    Table {
        name: "budget_windows",
        key: &["budget_id", "window_start"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("budget_id"),
            time("window_start"),
            int("posted_nano"),
            int("held_nano"),
            text("blocked").or_null().since(2),
        ],
    },
    Table {
        name: "admissions",
        key: &["request_id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("request_id"),
            text("node"),
            time("admitted_at"),
            text("subkey_id"),
            json("holds"),
            json("entry"),
            int("epoch").since(3),
        ],
    },
    Table {
        name: "ledger_epochs",
        key: &["epoch"],
        numbered: Some("epoch"),
        opens_vault: false,
        columns: &[
            int("epoch").since(3),
            text("node").since(3),
            text("durability").since(3),
            time("began_at").since(3),
        ],
    },
    Table {
        name: "leases",
        key: &["epoch", "budget_id", "window_start"],
        numbered: None,
        opens_vault: false,
        columns: &[
            int("epoch").since(3),
            text("budget_id").since(3),
            time("window_start").since(3),
            int("amount_nano").since(3),
        ],
    },
    Table {
        name: "access_log",
        key: &["seq"],
        numbered: Some("seq"),
        opens_vault: false,
        columns: &[
            int("seq"),
            int("log_index").or_null(),
            text("request_id"),
            time("time"),
            text("day"),
            text("project"),
            text("subkey_id"),
            text("provider").or_null(),
            text("model").or_null(),
            text("decision"),
            int("status").or_null(),
            text("client_ip").or_null(),
            int("count"),
            int("input_tokens"),
            int("cached_input_tokens"),
            int("cache_write_tokens"),
            int("output_tokens"),
            int("cost_nano"),
            json("entry"),
            json("postings").or_null().since(2),
        ],
    },
    Table {
        name: "access_tags",
        key: &["seq", "name"],
        numbered: None,
        opens_vault: false,
        columns: &[int("seq"), text("name"), text("value")],
    },
    usage::HOURS,
    usage::TAGS,
    usage::UNROLLED,
    Table {
        name: "admin_log",
        key: &["seq"],
        numbered: Some("seq"),
        opens_vault: false,
        columns: &[
            int("seq"),
            int("log_index").or_null(),
            time("time"),
            text("actor"),
            text("action"),
            text("target"),
            json("entry"),
        ],
    },
    Table {
        name: "idempotency",
        key: &["operator_id", "key"],
        numbered: None,
        opens_vault: false,
        columns: &[text("operator_id"), text("key"), text("resource_id"), time("created_at")],
    },
    Table {
        name: "alarms",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id").since(2),
            text("kind").since(2),
            text("subject").since(2),
            json("detail").since(2),
            int("count").since(2),
            time("opened_at").since(2),
            time("last_seen_at").since(2),
            time("closed_at").or_null().since(2),
            text("closed_by").or_null().since(2),
            text("reason").or_null().since(2),
        ],
    },
    Table {
        name: "budget_alerts",
        key: &["budget_id", "window_start", "share_nano", "limit_nano"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("budget_id").since(7),
            time("window_start").since(7),
            int("share_nano").since(7),
            int("limit_nano").since(7),
            int("spent_nano").since(7),
            time("noticed_at").since(7),
        ],
    },
    Table {
        name: "notices",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("id").since(7),
            text("kind").since(7),
            text("subject").since(7),
            text("body").since(7),
            time("created_at").since(7),
            int("attempts").since(7),
            time("next_try_at").since(7),
            time("delivered_at").or_null().since(7),
            time("failed_at").or_null().since(7),
            text("last_error").or_null().since(7),
        ],
    },
    Table {
        name: "objects",
        key: &["provider", "id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("provider").since(8),
            text("id").since(8),
            text("kind").since(8),
            text("subkey_id").since(8),
            text("project").or_null().since(8),
            text("credential_id").since(8),
            text("model").or_null().since(8),
            text("parent").or_null().since(8),
            time("created_at").since(8),
            time("expires_at").or_null().since(8),
            text("document").or_null().since(8),
            time("deleted_at").or_null().since(8),
        ],
    },
    Table {
        name: "window_audits",
        key: &["budget_id", "window_start"],
        numbered: None,
        opens_vault: false,
        columns: &[
            text("budget_id").since(2),
            time("window_start").since(2),
            int("audited_nano").since(2),
            int("term").since(2),
            bytes("mac").since(2),
        ],
    },
    Table {
        name: "audit_progress",
        key: &["id"],
        numbered: None,
        opens_vault: false,
        columns: &[
            int("id").since(2),
            int("through_seq").since(2),
            int("windows").since(2),
            text("total_nano").since(2),
            int("term").since(2),
            bytes("mac").since(2),
        ],
    },
];

/// The table called `name`, and its place in the order.
pub fn table(name: &str) -> Option<(usize, &'static Table)> {
    TABLES.iter().enumerate().find(|(_, table)| table.name == name)
}
