-- Times are RFC 3339 in UTC; their text order is their order in time. Money is whole nano-USD.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;

CREATE TABLE keyring (
    id         TEXT PRIMARY KEY NOT NULL,
    sealed     BLOB NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;

CREATE TABLE operators (
    id         TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL UNIQUE,
    roles      TEXT NOT NULL,
    projects   TEXT,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL
) STRICT;

CREATE TABLE operator_tokens (
    id           TEXT PRIMARY KEY NOT NULL,
    operator_id  TEXT NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    sha256       BLOB NOT NULL UNIQUE,
    created_at   TEXT NOT NULL,
    expires_at   TEXT,
    last_used_at TEXT
) STRICT;
CREATE INDEX operator_tokens_operator ON operator_tokens (operator_id);

CREATE TABLE projects (
    slug       TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
INSERT INTO projects (slug, name, created_at) VALUES ('default', 'default', '1970-01-01T00:00:00+00:00');

CREATE TABLE providers (
    slug       TEXT PRIMARY KEY NOT NULL,
    version    INTEGER NOT NULL,
    document   TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE credentials (
    id             TEXT PRIMARY KEY NOT NULL,
    provider       TEXT NOT NULL REFERENCES providers (slug),
    name           TEXT NOT NULL,
    weight         INTEGER NOT NULL CHECK (weight >= 0),
    projects       TEXT,
    organization   TEXT,
    openai_project TEXT,
    status         TEXT NOT NULL,
    secret_version INTEGER NOT NULL,
    version        INTEGER NOT NULL,
    created_at     TEXT NOT NULL,
    created_by     TEXT NOT NULL,
    UNIQUE (provider, name)
) STRICT;

CREATE TABLE credential_versions (
    credential_id  TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    secret_version INTEGER NOT NULL,
    term           INTEGER NOT NULL,
    wrapped_dek    BLOB NOT NULL,
    sealed         BLOB NOT NULL,
    created_at     TEXT NOT NULL,
    PRIMARY KEY (credential_id, secret_version)
) STRICT;

CREATE TABLE subkeys (
    id         TEXT PRIMARY KEY NOT NULL,
    project    TEXT NOT NULL REFERENCES projects (slug),
    name       TEXT NOT NULL,
    version    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    definition TEXT NOT NULL,
    expires_at TEXT,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX subkeys_live_name ON subkeys (project, name) WHERE state <> 'revoked';
CREATE INDEX subkeys_newest ON subkeys (created_at, id);
CREATE INDEX subkeys_newest_of_project ON subkeys (project, created_at, id);

CREATE TABLE subkey_secrets (
    id         TEXT PRIMARY KEY NOT NULL,
    subkey_id  TEXT NOT NULL REFERENCES subkeys (id) ON DELETE CASCADE,
    mac        BLOB NOT NULL,
    mac_term   INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT
) STRICT;
CREATE INDEX subkey_secrets_subkey ON subkey_secrets (subkey_id);

CREATE TABLE subkey_labels (
    subkey_id TEXT NOT NULL REFERENCES subkeys (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (subkey_id, key)
) STRICT;
CREATE INDEX subkey_labels_value ON subkey_labels (key, value);

-- Volatile, and outlives the secret: a key's last use is not forgotten by rotating it.
CREATE TABLE secret_use (
    secret_id    TEXT PRIMARY KEY NOT NULL,
    subkey_id    TEXT NOT NULL,
    last_used_at TEXT NOT NULL
) STRICT;
CREATE INDEX secret_use_subkey ON secret_use (subkey_id, last_used_at);

CREATE TABLE models (
    provider       TEXT NOT NULL,
    name           TEXT NOT NULL,
    effective_from TEXT NOT NULL,
    version        INTEGER NOT NULL,
    document       TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    PRIMARY KEY (provider, name, effective_from)
) STRICT;

CREATE TABLE budgets (
    id         TEXT PRIMARY KEY NOT NULL,
    owner      TEXT NOT NULL,
    win        TEXT NOT NULL,
    limit_nano INTEGER NOT NULL CHECK (limit_nano >= 0),
    timezone   TEXT NOT NULL,
    active     INTEGER NOT NULL CHECK (active IN (0, 1)),
    UNIQUE (owner, win)
) STRICT;

CREATE TABLE budget_windows (
    budget_id    TEXT NOT NULL REFERENCES budgets (id),
    window_start TEXT NOT NULL,
    posted_nano  INTEGER NOT NULL DEFAULT 0 CHECK (posted_nano >= 0),
    held_nano    INTEGER NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
    PRIMARY KEY (budget_id, window_start)
) STRICT;

CREATE TABLE admissions (
    request_id  TEXT PRIMARY KEY NOT NULL,
    node        TEXT NOT NULL,
    admitted_at TEXT NOT NULL,
    subkey_id   TEXT NOT NULL,
    holds       TEXT NOT NULL,
    entry       TEXT NOT NULL
) STRICT;
CREATE INDEX admissions_oldest ON admissions (admitted_at, request_id);

CREATE TABLE access_log (
    seq                 INTEGER PRIMARY KEY AUTOINCREMENT,
    log_index           INTEGER UNIQUE,
    request_id          TEXT NOT NULL UNIQUE,
    time                TEXT NOT NULL,
    day                 TEXT NOT NULL,
    project             TEXT NOT NULL,
    subkey_id           TEXT NOT NULL,
    provider            TEXT,
    model               TEXT,
    decision            TEXT NOT NULL,
    status              INTEGER,
    client_ip           TEXT,
    count               INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cost_nano           INTEGER NOT NULL,
    entry               TEXT NOT NULL
) STRICT;
CREATE INDEX access_log_newest ON access_log (time, seq);
CREATE INDEX access_log_newest_of_project ON access_log (project, time, seq);
CREATE INDEX access_log_newest_of_subkey ON access_log (subkey_id, time, seq);
CREATE INDEX access_log_newest_of_provider ON access_log (provider, time, seq);
CREATE INDEX access_log_newest_of_model ON access_log (model, time, seq);
CREATE INDEX access_log_newest_of_client ON access_log (client_ip, time, seq);
CREATE INDEX access_log_newest_denied ON access_log (time, seq) WHERE decision = 'denied';

CREATE TABLE access_tags (
    seq   INTEGER NOT NULL REFERENCES access_log (seq) ON DELETE CASCADE,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (seq, name)
) STRICT;

CREATE TABLE admin_log (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    log_index INTEGER UNIQUE,
    time      TEXT NOT NULL,
    actor     TEXT NOT NULL,
    action    TEXT NOT NULL,
    target    TEXT NOT NULL,
    entry     TEXT NOT NULL
) STRICT;
CREATE INDEX admin_log_newest ON admin_log (time, seq);
CREATE INDEX admin_log_newest_of_target ON admin_log (target, time, seq);

CREATE TABLE idempotency (
    operator_id TEXT NOT NULL,
    key         TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    PRIMARY KEY (operator_id, key)
) STRICT;
