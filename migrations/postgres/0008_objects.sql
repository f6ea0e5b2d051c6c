-- Whose what a provider keeps under an id is, and with which credential it was made.

CREATE TABLE objects (
    provider      TEXT COLLATE "C" NOT NULL,
    id            TEXT COLLATE "C" NOT NULL,
    kind          TEXT COLLATE "C" NOT NULL,
    subkey_id     TEXT COLLATE "C" NOT NULL,
    -- Set where it was made to be shared in the project.
    project       TEXT COLLATE "C",
    credential_id TEXT COLLATE "C" NOT NULL,
    model         TEXT COLLATE "C",
    -- What it is a part of, and ends with.
    parent        TEXT COLLATE "C",
    created_at    TIMESTAMPTZ NOT NULL,
    expires_at    TIMESTAMPTZ,
    -- What a list shows of it, in the provider's own bytes.
    document      TEXT COLLATE "C",
    deleted_at    TIMESTAMPTZ,
    PRIMARY KEY (id, provider)
);
CREATE INDEX objects_by_subkey ON objects (subkey_id, kind, provider, created_at, id);
CREATE INDEX objects_by_project ON objects (project, kind, provider, created_at, id) WHERE project IS NOT NULL;
CREATE INDEX objects_by_parent ON objects (parent, provider) WHERE parent IS NOT NULL;
CREATE INDEX objects_expiring ON objects (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX objects_deleted ON objects (deleted_at) WHERE deleted_at IS NOT NULL;
