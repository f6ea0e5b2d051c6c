-- The vault in depth: a root key between the key-encryption keys and the keyring, signed rows, versions of a
-- credential side by side, alarms, and books that are compared with the log.

-- One row for each key-encryption key that opens the root; two while one replaces the other.
CREATE TABLE keyring_wraps (
    id         TEXT PRIMARY KEY NOT NULL,
    source     TEXT NOT NULL,
    stored     TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

-- How often each term's wrap key was used.
CREATE TABLE wrap_terms (
    term       INTEGER PRIMARY KEY NOT NULL,
    uses       INTEGER NOT NULL CHECK (uses >= 0),
    created_at TEXT NOT NULL
) STRICT;

-- The MAC of each row that grants power.
CREATE TABLE row_macs (
    tbl  TEXT NOT NULL,
    id   TEXT NOT NULL,
    term INTEGER NOT NULL,
    mac  BLOB NOT NULL,
    PRIMARY KEY (tbl, id)
) STRICT;
CREATE INDEX row_macs_term ON row_macs (term);

-- One row: how many changes there were, what all signed rows add up to, and whether the server is sealed or quarantined.
CREATE TABLE register (
    id     INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    seq    INTEGER NOT NULL,
    digest BLOB NOT NULL,
    epoch  INTEGER NOT NULL,
    state  TEXT NOT NULL,
    term   INTEGER NOT NULL,
    mac    BLOB NOT NULL
) STRICT;

CREATE TABLE alarms (
    id           TEXT PRIMARY KEY NOT NULL,
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,
    detail       TEXT NOT NULL,
    count        INTEGER NOT NULL,
    opened_at    TEXT NOT NULL,
    last_seen_at TEXT NOT NULL,
    closed_at    TEXT,
    closed_by    TEXT,
    reason       TEXT
) STRICT;
CREATE UNIQUE INDEX alarms_open ON alarms (kind, subject) WHERE closed_at IS NULL;
CREATE INDEX alarms_newest ON alarms (opened_at, id);

ALTER TABLE operators ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
ALTER TABLE projects ADD COLUMN version INTEGER NOT NULL DEFAULT 1;

-- Why an operator should rotate the credential, if there is a reason.
ALTER TABLE credentials ADD COLUMN rotation_due TEXT;
ALTER TABLE credential_versions ADD COLUMN status TEXT NOT NULL DEFAULT 'active';
ALTER TABLE credential_versions ADD COLUMN drain_until TEXT;
CREATE INDEX credential_versions_term ON credential_versions (term);
CREATE INDEX subkey_secrets_term ON subkey_secrets (mac_term);

-- Why nothing is admitted in the window, if there is a reason.
ALTER TABLE budget_windows ADD COLUMN blocked TEXT;
-- The budgets and windows that an entry's cost was posted to.
ALTER TABLE access_log ADD COLUMN postings TEXT;

-- What the log's entries up to `audit_progress.through_seq` add up to, for each window.
CREATE TABLE window_audits (
    budget_id    TEXT NOT NULL,
    window_start TEXT NOT NULL,
    audited_nano INTEGER NOT NULL,
    term         INTEGER NOT NULL,
    mac          BLOB NOT NULL,
    PRIMARY KEY (budget_id, window_start)
) STRICT;
-- How far that is, how many rows of `window_audits` there are, and what they add up to: a missing one is noticed.
CREATE TABLE audit_progress (
    id          INTEGER PRIMARY KEY NOT NULL CHECK (id = 1),
    through_seq INTEGER NOT NULL,
    windows     INTEGER NOT NULL,
    total_nano  TEXT NOT NULL,
    term        INTEGER NOT NULL,
    mac         BLOB NOT NULL
) STRICT;
