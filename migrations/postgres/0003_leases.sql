-- Leases: what a window's row holds for one run of a node, durable before it is drawn on.

-- One row for each run of a ledger; what is leased to an earlier one is settled when a later one begins.
CREATE TABLE ledger_epochs (
    epoch      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node       TEXT NOT NULL,
    durability TEXT NOT NULL,
    began_at   TIMESTAMPTZ NOT NULL
);

CREATE TABLE leases (
    epoch        BIGINT NOT NULL REFERENCES ledger_epochs (epoch),
    budget_id    TEXT COLLATE "C" NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    amount_nano  BIGINT NOT NULL CHECK (amount_nano >= 0),
    PRIMARY KEY (epoch, budget_id, window_start)
);
CREATE INDEX leases_of_window ON leases (budget_id, window_start);

-- The run that admitted it; 0 before there were leases.
ALTER TABLE admissions ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
