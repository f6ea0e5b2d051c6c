-- The vault in depth: a root key between the key-encryption keys and the keyring, signed rows, versions of a
-- credential side by side, alarms, and books that are compared with the log.

-- One row for each key-encryption key that opens the root; two while one replaces the other.
CREATE TABLE keyring_wraps (
    id         TEXT COLLATE "C" PRIMARY KEY,
    source     TEXT COLLATE "C" NOT NULL,
    stored     JSONB NOT NULL,
    sealed     BYTEA NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

-- How often each term's wrap key was used.
CREATE TABLE wrap_terms (
    term       BIGINT PRIMARY KEY,
    uses       BIGINT NOT NULL CHECK (uses >= 0),
    created_at TIMESTAMPTZ NOT NULL
);

-- The MAC of each row that grants power.
CREATE TABLE row_macs (
    tbl  TEXT COLLATE "C" NOT NULL,
    id   TEXT COLLATE "C" NOT NULL,
    term BIGINT NOT NULL,
    mac  BYTEA NOT NULL,
    PRIMARY KEY (tbl, id)
);
CREATE INDEX row_macs_term ON row_macs (term);

-- One row: how many changes there were, what all signed rows add up to, and whether the server is sealed or quarantined.
CREATE TABLE register (
    id     BIGINT PRIMARY KEY CHECK (id = 1),
    seq    BIGINT NOT NULL,
    digest BYTEA NOT NULL,
    epoch  BIGINT NOT NULL,
    state  JSONB NOT NULL,
    term   BIGINT NOT NULL,
    mac    BYTEA NOT NULL
);

CREATE TABLE alarms (
    id           TEXT COLLATE "C" PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    detail       JSONB NOT NULL,
    count        BIGINT NOT NULL,
    opened_at    TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    closed_at    TIMESTAMPTZ,
    closed_by    TEXT COLLATE "C",
    reason       TEXT COLLATE "C"
);
CREATE UNIQUE INDEX alarms_open ON alarms (kind, subject) WHERE closed_at IS NULL;
CREATE INDEX alarms_newest ON alarms (opened_at, id);

ALTER TABLE operators ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
ALTER TABLE projects ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- Why an operator should rotate the credential, if there is a reason.
ALTER TABLE credentials ADD COLUMN rotation_due TEXT COLLATE "C";
ALTER TABLE credential_versions ADD COLUMN status TEXT COLLATE "C" NOT NULL DEFAULT 'active';
ALTER TABLE credential_versions ADD COLUMN drain_until TIMESTAMPTZ;
CREATE INDEX credential_versions_term ON credential_versions (term);
CREATE INDEX subkey_secrets_term ON subkey_secrets (mac_term);

-- Why nothing is admitted in the window, if there is a reason.
ALTER TABLE budget_windows ADD COLUMN blocked TEXT COLLATE "C";
-- The budgets and windows that an entry's cost was posted to.
ALTER TABLE access_log ADD COLUMN postings JSONB;

-- What the log's entries up to `audit_progress.through_seq` add up to, for each window.
CREATE TABLE window_audits (
    budget_id    TEXT COLLATE "C" NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    audited_nano BIGINT NOT NULL,
    term         BIGINT NOT NULL,
    mac          BYTEA NOT NULL,
    PRIMARY KEY (budget_id, window_start)
);
-- How far that is, how many rows of `window_audits` there are, and what they add up to: a missing one is noticed.
CREATE TABLE audit_progress (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    through_seq BIGINT NOT NULL,
    windows     BIGINT NOT NULL,
    total_nano  TEXT COLLATE "C" NOT NULL,
    term        BIGINT NOT NULL,
    mac         BYTEA NOT NULL
);
