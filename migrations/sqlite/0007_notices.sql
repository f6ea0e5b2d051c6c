-- Alerts of budgets, and notices: what a webhook is told.

-- The shares of the cap at which to alert, as a list of decimals; NULL where there are none.
ALTER TABLE budgets ADD COLUMN alert_at TEXT;
UPDATE budgets SET alert_at = (
    SELECT json_extract(b.value, '$.alert_at')
      FROM subkeys s, json_each(s.definition, '$.budgets') b
     WHERE budgets.owner = 'subkey:' || s.id
       AND json_extract(b.value, '$.window') = budgets.win
       AND json_array_length(b.value, '$.alert_at') > 0);

-- Each share of a cap that was reached in a window: it is told of once.
CREATE TABLE budget_alerts (
    budget_id    TEXT NOT NULL,
    window_start TEXT NOT NULL,
    share_nano   INTEGER NOT NULL,
    limit_nano   INTEGER NOT NULL,
    spent_nano   INTEGER NOT NULL,
    noticed_at   TEXT NOT NULL,
    PRIMARY KEY (budget_id, window_start, share_nano, limit_nano)
) STRICT;

-- What the webhook is told, in the very bytes: waiting while neither delivered nor given up.
CREATE TABLE notices (
    id           TEXT PRIMARY KEY NOT NULL,
    kind         TEXT NOT NULL,
    subject      TEXT NOT NULL,
    body         TEXT NOT NULL,
    created_at   TEXT NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_try_at  TEXT NOT NULL,
    delivered_at TEXT,
    failed_at    TEXT,
    last_error   TEXT
) STRICT;
CREATE INDEX notices_waiting ON notices (next_try_at) WHERE delivered_at IS NULL AND failed_at IS NULL;
CREATE INDEX notices_oldest ON notices (created_at, id);
