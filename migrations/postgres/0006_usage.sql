-- Usage: what the entries of whole hours come to, written with them. An hour is text like 2026-11-22T16, in UTC; a
-- provider or model that an entry does not have is an empty text. These rows grant nothing and are made of the log.

CREATE TABLE usage_hours (
    hour                TEXT COLLATE "C" NOT NULL,
    project             TEXT COLLATE "C" NOT NULL,
    subkey_id           TEXT COLLATE "C" NOT NULL,
    provider            TEXT COLLATE "C" NOT NULL,
    model               TEXT COLLATE "C" NOT NULL,
    entries             BIGINT NOT NULL,
    requests            BIGINT NOT NULL,
    denied              BIGINT NOT NULL,
    failed              BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens  BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    cost_nano           BIGINT NOT NULL,
    PRIMARY KEY (hour, project, subkey_id, provider, model)
);
CREATE INDEX usage_hours_of_subkey ON usage_hours (subkey_id, hour);
CREATE INDEX usage_hours_of_project ON usage_hours (project, hour);

-- The same for each tag.
CREATE TABLE usage_tags (
    hour                TEXT COLLATE "C" NOT NULL,
    subkey_id           TEXT COLLATE "C" NOT NULL,
    name                TEXT COLLATE "C" NOT NULL,
    value               TEXT COLLATE "C" NOT NULL,
    project             TEXT COLLATE "C" NOT NULL,
    provider            TEXT COLLATE "C" NOT NULL,
    model               TEXT COLLATE "C" NOT NULL,
    entries             BIGINT NOT NULL,
    requests            BIGINT NOT NULL,
    denied              BIGINT NOT NULL,
    failed              BIGINT NOT NULL,
    input_tokens        BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens  BIGINT NOT NULL,
    output_tokens       BIGINT NOT NULL,
    cost_nano           BIGINT NOT NULL,
    PRIMARY KEY (hour, subkey_id, name, value, project, provider, model)
);

-- Sub-keys whose tags would make too many rows in an hour: theirs are read from the log.
CREATE TABLE usage_unrolled (
    hour      TEXT COLLATE "C" NOT NULL,
    subkey_id TEXT COLLATE "C" NOT NULL,
    begins    TIMESTAMPTZ NOT NULL,
    ends      TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (hour, subkey_id)
);

-- Columns are for filters and sums: sums of millions of entries fit, whatever one of them was said to cost.
UPDATE access_log SET cost_nano = 1125899906842624 WHERE cost_nano > 1125899906842624;

INSERT INTO usage_hours (hour, project, subkey_id, provider, model, entries, requests, denied, failed, input_tokens,
                         cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
SELECT to_char(l.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'), l.project, l.subkey_id, COALESCE(l.provider, ''), COALESCE(l.model, ''), COUNT(*),
       SUM(l.count), SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END),
       SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400) THEN l.count ELSE 0 END),
       SUM(l.input_tokens), SUM(l.cached_input_tokens), SUM(l.cache_write_tokens), SUM(l.output_tokens), SUM(l.cost_nano)
  FROM access_log l GROUP BY 1, 2, 3, 4, 5;

INSERT INTO usage_tags (hour, subkey_id, name, value, project, provider, model, entries, requests, denied, failed,
                        input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
SELECT to_char(l.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'), l.subkey_id, t.name, t.value, l.project, COALESCE(l.provider, ''),
       COALESCE(l.model, ''), COUNT(*), SUM(l.count), SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END),
       SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400) THEN l.count ELSE 0 END),
       SUM(l.input_tokens), SUM(l.cached_input_tokens), SUM(l.cache_write_tokens), SUM(l.output_tokens), SUM(l.cost_nano)
  FROM access_log l JOIN access_tags t ON t.seq = l.seq GROUP BY 1, 2, 3, 4, 5, 6, 7;

INSERT INTO usage_unrolled (hour, subkey_id, begins, ends)
SELECT r.hour, r.subkey_id, CAST(r.hour || ':00:00Z' AS TIMESTAMPTZ), CAST(r.hour || ':00:00Z' AS TIMESTAMPTZ) + INTERVAL '1 hour'
  FROM usage_tags r GROUP BY r.hour, r.subkey_id HAVING COUNT(*) > 1000;

DELETE FROM usage_tags WHERE EXISTS (
    SELECT 1 FROM usage_unrolled x WHERE x.hour = usage_tags.hour AND x.subkey_id = usage_tags.subkey_id);
