-- Usage: what the entries of whole hours come to, written with them. An hour is text like 2026-11-22T16, in UTC; a
-- provider or model that an entry does not have is an empty text. These rows grant nothing and are made of the log.

CREATE TABLE usage_hours (
    hour                TEXT NOT NULL,
    project             TEXT NOT NULL,
    subkey_id           TEXT NOT NULL,
    provider            TEXT NOT NULL,
    model               TEXT NOT NULL,
    entries             INTEGER NOT NULL,
    requests            INTEGER NOT NULL,
    denied              INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cost_nano           INTEGER NOT NULL,
    PRIMARY KEY (hour, project, subkey_id, provider, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_hours_of_subkey ON usage_hours (subkey_id, hour);
CREATE INDEX usage_hours_of_project ON usage_hours (project, hour);

-- The same for each tag.
CREATE TABLE usage_tags (
    hour                TEXT NOT NULL,
    subkey_id           TEXT NOT NULL,
    name                TEXT NOT NULL,
    value               TEXT NOT NULL,
    project             TEXT NOT NULL,
    provider            TEXT NOT NULL,
    model               TEXT NOT NULL,
    entries             INTEGER NOT NULL,
    requests            INTEGER NOT NULL,
    denied              INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    input_tokens        INTEGER NOT NULL,
    cached_input_tokens INTEGER NOT NULL,
    cache_write_tokens  INTEGER NOT NULL,
    output_tokens       INTEGER NOT NULL,
    cost_nano           INTEGER NOT NULL,
    PRIMARY KEY (hour, subkey_id, name, value, project, provider, model)
) STRICT, WITHOUT ROWID;

-- Sub-keys whose tags would make too many rows in an hour: theirs are read from the log.
CREATE TABLE usage_unrolled (
    hour      TEXT NOT NULL,
    subkey_id TEXT NOT NULL,
    begins    TEXT NOT NULL,
    ends      TEXT NOT NULL,
    PRIMARY KEY (hour, subkey_id)
) STRICT, WITHOUT ROWID;

-- Columns are for filters and sums: sums of millions of entries fit, whatever one of them was said to cost.
UPDATE access_log SET cost_nano = 1125899906842624 WHERE cost_nano > 1125899906842624;

INSERT INTO usage_hours (hour, project, subkey_id, provider, model, entries, requests, denied, failed, input_tokens,
                         cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
SELECT substr(l.time, 1, 13), l.project, l.subkey_id, COALESCE(l.provider, ''), COALESCE(l.model, ''), COUNT(*),
       SUM(l.count), SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END),
       SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400) THEN l.count ELSE 0 END),
       SUM(l.input_tokens), SUM(l.cached_input_tokens), SUM(l.cache_write_tokens), SUM(l.output_tokens), SUM(l.cost_nano)
  FROM access_log l GROUP BY 1, 2, 3, 4, 5;

INSERT INTO usage_tags (hour, subkey_id, name, value, project, provider, model, entries, requests, denied, failed,
                        input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, cost_nano)
SELECT substr(l.time, 1, 13), l.subkey_id, t.name, t.value, l.project, COALESCE(l.provider, ''),
       COALESCE(l.model, ''), COUNT(*), SUM(l.count), SUM(CASE WHEN l.decision = 'denied' THEN l.count ELSE 0 END),
       SUM(CASE WHEN l.decision = 'allowed' AND (l.status IS NULL OR l.status >= 400) THEN l.count ELSE 0 END),
       SUM(l.input_tokens), SUM(l.cached_input_tokens), SUM(l.cache_write_tokens), SUM(l.output_tokens), SUM(l.cost_nano)
  FROM access_log l JOIN access_tags t ON t.seq = l.seq GROUP BY 1, 2, 3, 4, 5, 6, 7;

INSERT INTO usage_unrolled (hour, subkey_id, begins, ends)
SELECT r.hour, r.subkey_id, r.hour || ':00:00+00:00', strftime('%Y-%m-%dT%H:%M:%S+00:00', r.hour || ':00:00', '+1 hour')
  FROM usage_tags r GROUP BY r.hour, r.subkey_id HAVING COUNT(*) > 1000;

DELETE FROM usage_tags WHERE EXISTS (
    SELECT 1 FROM usage_unrolled x WHERE x.hour = usage_tags.hour AND x.subkey_id = usage_tags.subkey_id);
