-- Lists of objects by indexes that have what is shown and nothing else, in its order: what a key made alone, what it made
-- to be shared, and what a project shares.

DROP INDEX objects_by_subkey;
DROP INDEX objects_by_project;
CREATE INDEX objects_alone ON objects (subkey_id, kind, provider, created_at, id)
    WHERE project IS NULL AND deleted_at IS NULL;
CREATE INDEX objects_by_sharer ON objects (subkey_id, project, kind, provider, created_at, id)
    WHERE project IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX objects_shared ON objects (project, kind, provider, created_at, id)
    WHERE project IS NOT NULL AND deleted_at IS NULL;

-- What was charged in full because the work goes on after its answer, until its use is read.

CREATE TABLE deferred_charges (
    provider    TEXT COLLATE "C" NOT NULL,
    -- The response that the work goes on for.
    response_id TEXT COLLATE "C" NOT NULL,
    -- The request that was charged.
    request_id  TEXT COLLATE "C" NOT NULL,
    -- By what its use is priced, in the very bytes that are signed.
    terms       TEXT COLLATE "C" NOT NULL,
    created_at  TIMESTAMPTZ NOT NULL,
    term        BIGINT NOT NULL,
    mac         BYTEA NOT NULL,
    PRIMARY KEY (response_id, provider)
);
CREATE INDEX deferred_charges_by_age ON deferred_charges (created_at);
CREATE INDEX deferred_charges_by_request ON deferred_charges (request_id);
