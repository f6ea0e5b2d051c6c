-- Text sorts by code point, as SQLite's does, so that both databases page in one order. Money is whole nano-USD.

CREATE TABLE meta (
    name  TEXT COLLATE "C" PRIMARY KEY,
    value TEXT COLLATE "C" NOT NULL
);

CREATE TABLE keyring (
    id         TEXT COLLATE "C" PRIMARY KEY,
    sealed     BYTEA NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE operators (
    id         TEXT COLLATE "C" PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL UNIQUE,
    roles      JSONB NOT NULL,
    projects   JSONB,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL
);

CREATE TABLE operator_tokens (
    id           TEXT COLLATE "C" PRIMARY KEY,
    operator_id  TEXT COLLATE "C" NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    sha256       BYTEA NOT NULL UNIQUE,
    created_at   TIMESTAMPTZ NOT NULL,
    expires_at   TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ
);
CREATE INDEX operator_tokens_operator ON operator_tokens (operator_id);

CREATE TABLE projects (
    slug       TEXT COLLATE "C" PRIMARY KEY,
    name       TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);
INSERT INTO projects (slug, name, created_at) VALUES ('default', 'default', '1970-01-01T00:00:00+00:00');

CREATE TABLE providers (
    slug       TEXT COLLATE "C" PRIMARY KEY,
    version    BIGINT NOT NULL,
    document   JSONB NOT NULL,
    status     TEXT COLLATE "C" NOT NULL,
    created_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE credentials (
    id             TEXT COLLATE "C" PRIMARY KEY,
    provider       TEXT COLLATE "C" NOT NULL REFERENCES providers (slug),
    name           TEXT COLLATE "C" NOT NULL,
    weight         BIGINT NOT NULL CHECK (weight >= 0),
    projects       JSONB,
    organization   TEXT COLLATE "C",
    openai_project TEXT COLLATE "C",
    status         TEXT COLLATE "C" NOT NULL,
    secret_version BIGINT NOT NULL,
    version        BIGINT NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    created_by     TEXT COLLATE "C" NOT NULL,
    UNIQUE (provider, name)
);

CREATE TABLE credential_versions (
    credential_id  TEXT COLLATE "C" NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    secret_version BIGINT NOT NULL,
    term           BIGINT NOT NULL,
    wrapped_dek    BYTEA NOT NULL,
    sealed         BYTEA NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (credential_id, secret_version)
);

CREATE TABLE subkeys (
    id         TEXT COLLATE "C" PRIMARY KEY,
    project    TEXT COLLATE "C" NOT NULL REFERENCES projects (slug),
    name       TEXT COLLATE "C" NOT NULL,
    version    BIGINT NOT NULL,
    state      TEXT COLLATE "C" NOT NULL,
    definition JSONB NOT NULL,
    expires_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    created_by TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX subkeys_live_name ON subkeys (project, name) WHERE state <> 'revoked';
CREATE INDEX subkeys_newest ON subkeys (created_at, id);
CREATE INDEX subkeys_newest_of_project ON subkeys (project, created_at, id);

CREATE TABLE subkey_secrets (
    id         TEXT COLLATE "C" PRIMARY KEY,
    subkey_id  TEXT COLLATE "C" NOT NULL REFERENCES subkeys (id) ON DELETE CASCADE,
    mac        BYTEA NOT NULL,
    mac_term   BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    expires_at TIMESTAMPTZ
);
CREATE INDEX subkey_secrets_subkey ON subkey_secrets (subkey_id);

CREATE TABLE subkey_labels (
    subkey_id TEXT COLLATE "C" NOT NULL REFERENCES subkeys (id) ON DELETE CASCADE,
    key       TEXT COLLATE "C" NOT NULL,
    value     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (subkey_id, key)
);
CREATE INDEX subkey_labels_value ON subkey_labels (key, value);

-- Volatile, and outlives the secret: a key's last use is not forgotten by rotating it.
CREATE TABLE secret_use (
    secret_id    TEXT COLLATE "C" PRIMARY KEY,
    subkey_id    TEXT COLLATE "C" NOT NULL,
    last_used_at TIMESTAMPTZ NOT NULL
);
CREATE INDEX secret_use_subkey ON secret_use (subkey_id, last_used_at);

CREATE TABLE models (
    provider       TEXT COLLATE "C" NOT NULL,
    name           TEXT COLLATE "C" NOT NULL,
    effective_from TIMESTAMPTZ NOT NULL,
    version        BIGINT NOT NULL,
    document       JSONB NOT NULL,
    created_at     TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (provider, name, effective_from)
);

CREATE TABLE budgets (
    id         TEXT COLLATE "C" PRIMARY KEY,
    owner      TEXT COLLATE "C" NOT NULL,
    win        TEXT COLLATE "C" NOT NULL,
    limit_nano BIGINT NOT NULL CHECK (limit_nano >= 0),
    timezone   TEXT COLLATE "C" NOT NULL,
    active     BOOLEAN NOT NULL,
    UNIQUE (owner, win)
);

CREATE TABLE budget_windows (
    budget_id    TEXT COLLATE "C" NOT NULL REFERENCES budgets (id),
    window_start TIMESTAMPTZ NOT NULL,
    posted_nano  BIGINT NOT NULL DEFAULT 0 CHECK (posted_nano >= 0),
    held_nano    BIGINT NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
    PRIMARY KEY (budget_id, window_start)
);

CREATE TABLE admissions (
    request_id  TEXT COLLATE "C" PRIMARY KEY,
    node        TEXT COLLATE "C" NOT NULL,
    admitted_at TIMESTAMPTZ NOT NULL,
    subkey_id   TEXT COLLATE "C" NOT NULL,
    holds       JSONB NOT NULL,
    entry       JSONB NOT NULL
);
CREATE INDEX admissions_oldest ON admissions (admitted_at, request_id);

CREATE TABLE access_log (
    seq                 BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log_index           BIGINT UNIQUE,
    request_id          TEXT COLLATE "C" NOT NULL UNIQUE,
    time                TIMESTAMPTZ NOT NULL,
    day                 TEXT COLLATE "C" NOT NULL,
    project             TEXT COLLATE "C" NOT NULL,
    subkey_id           TEXT COLLATE "C" NOT NULL,
    provider            TEXT COLLATE "C",
    model               TEXT COLLATE "C",
    decision            TEXT COLLATE "C" NOT NULL,
    status              BIGINT,
    client_ip           TEXT COLLATE "C",
    count               BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens  BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    cost_nano           BIGINT NOT NULL,
    entry               JSONB NOT NULL
);
CREATE INDEX access_log_newest ON access_log (time, seq);
CREATE INDEX access_log_newest_of_project ON access_log (project, time, seq);
CREATE INDEX access_log_newest_of_subkey ON access_log (subkey_id, time, seq);
CREATE INDEX access_log_newest_of_provider ON access_log (provider, time, seq);
CREATE INDEX access_log_newest_of_model ON access_log (model, time, seq);
CREATE INDEX access_log_newest_of_client ON access_log (client_ip, time, seq);
CREATE INDEX access_log_newest_denied ON access_log (time, seq) WHERE decision = 'denied';

CREATE TABLE access_tags (
    seq   BIGINT NOT NULL REFERENCES access_log (seq) ON DELETE CASCADE,
    name  TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (seq, name)
);

CREATE TABLE admin_log (
    seq       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    log_index BIGINT UNIQUE,
    time      TIMESTAMPTZ NOT NULL,
    actor     TEXT COLLATE "C" NOT NULL,
    action    TEXT COLLATE "C" NOT NULL,
    target    TEXT COLLATE "C" NOT NULL,
    entry     JSONB NOT NULL
);
CREATE INDEX admin_log_newest ON admin_log (time, seq);
CREATE INDEX admin_log_newest_of_target ON admin_log (target, time, seq);

CREATE TABLE idempotency (
    operator_id TEXT COLLATE "C" NOT NULL,
    key         TEXT COLLATE "C" NOT NULL,
    resource_id TEXT COLLATE "C" NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (operator_id, key)
);
