-- Whose what a provider keeps under an id is, and with which credential it was made.

CREATE TABLE objects (
    provider      TEXT NOT NULL,
    id            TEXT NOT NULL,
    kind          TEXT NOT NULL,
    subkey_id     TEXT NOT NULL,
    -- Set where it was made to be shared in the project.
    project       TEXT,
    credential_id TEXT NOT NULL,
    model         TEXT,
    -- What it is a part of, and ends with.
    parent        TEXT,
    created_at    TEXT NOT NULL,
    expires_at    TEXT,
    -- What a list shows of it, in the provider's own bytes.
    document      TEXT,
    deleted_at    TEXT,
    PRIMARY KEY (id, provider)
) STRICT;
CREATE INDEX objects_by_subkey ON objects (subkey_id, kind, provider, created_at, id);
CREATE INDEX objects_by_project ON objects (project, kind, provider, created_at, id) WHERE project IS NOT NULL;
CREATE INDEX objects_by_parent ON objects (parent, provider) WHERE parent IS NOT NULL;
CREATE INDEX objects_expiring ON objects (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX objects_deleted ON objects (deleted_at) WHERE deleted_at IS NOT NULL;
