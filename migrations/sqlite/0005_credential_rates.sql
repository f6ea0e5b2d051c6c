-- Rate limits of credentials: what may be sent with one, whoever sends it. NULL is none.
ALTER TABLE credentials ADD COLUMN rate_limits TEXT;
