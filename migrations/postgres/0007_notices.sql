-- Alerts of budgets, and notices: what a webhook is told.

-- The shares of the cap at which to alert, as a list of decimals; NULL where there are none.
ALTER TABLE budgets ADD COLUMN alert_at JSONB;
UPDATE budgets SET alert_at = b.value -> 'alert_at'
  FROM subkeys s, jsonb_array_elements(s.definition -> 'budgets') AS b(value)
 WHERE budgets.owner = 'subkey:' || s.id
   AND b.value ->> 'window' = budgets.win
   AND jsonb_array_length(b.value -> 'alert_at') > 0;

-- Each share of a cap that was reached in a window: it is told of once.
CREATE TABLE budget_alerts (
    budget_id    TEXT COLLATE "C" NOT NULL,
    window_start TIMESTAMPTZ NOT NULL,
    share_nano   BIGINT NOT NULL,
    limit_nano   BIGINT NOT NULL,
    spent_nano   BIGINT NOT NULL,
    noticed_at   TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (budget_id, window_start, share_nano, limit_nano)
);

-- What the webhook is told, in the very bytes: waiting while neither delivered nor given up.
CREATE TABLE notices (
    id           TEXT COLLATE "C" PRIMARY KEY,
    kind         TEXT COLLATE "C" NOT NULL,
    subject      TEXT COLLATE "C" NOT NULL,
    body         TEXT COLLATE "C" NOT NULL,
    created_at   TIMESTAMPTZ NOT NULL,
    attempts     BIGINT NOT NULL DEFAULT 0,
    next_try_at  TIMESTAMPTZ NOT NULL,
    delivered_at TIMESTAMPTZ,
    failed_at    TIMESTAMPTZ,
    last_error   TEXT COLLATE "C"
);
CREATE INDEX notices_waiting ON notices (next_try_at) WHERE delivered_at IS NULL AND failed_at IS NULL;
CREATE INDEX notices_oldest ON notices (created_at, id);
