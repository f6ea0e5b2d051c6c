-- Leases: what a window's row holds for one run of a node, durable before it is drawn on.

-- One row for each run of a ledger; what is leased to an earlier one is settled when a later one begins.
CREATE TABLE ledger_epochs (
    epoch      INTEGER PRIMARY KEY AUTOINCREMENT,
    node       TEXT NOT NULL,
    durability TEXT NOT NULL,
    began_at   TEXT NOT NULL
) STRICT;

CREATE TABLE leases (
    epoch        INTEGER NOT NULL REFERENCES ledger_epochs (epoch),
    budget_id    TEXT NOT NULL,
    window_start TEXT NOT NULL,
    amount_nano  INTEGER NOT NULL CHECK (amount_nano >= 0),
    PRIMARY KEY (epoch, budget_id, window_start)
) STRICT;
CREATE INDEX leases_of_window ON leases (budget_id, window_start);

-- The run that admitted it; 0 before there were leases.
ALTER TABLE admissions ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
