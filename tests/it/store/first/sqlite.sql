-- A database that the first release wrote, by .dump.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE _sqlx_migrations (
    version BIGINT PRIMARY KEY,
    description TEXT NOT NULL,
    installed_on TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    success BOOLEAN NOT NULL,
    checksum BLOB NOT NULL,
    execution_time BIGINT NOT NULL
);
INSERT INTO "_sqlx_migrations" VALUES(1,'first','2026-11-22 22:46:43',1,X'9F2542096C5A8A0F6B2FE684711E5814D15B1E18F303CA78EE1AD075B729FDE763A907FC8644DED5CF77993C27E0F1A0',11478430);
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
INSERT INTO "access_log" VALUES(1,NULL,'req_1NE3UAlOKr3KEqIZZfEZIQ','2026-11-22T22:46:43.226598+00:00','2026-11-22','default','DJmdwZVGZmmQxSnJ','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.226598Z","node":"vm","request_id":"req_1NE3UAlOKr3KEqIZZfEZIQ","subkey_id":"DJmdwZVGZmmQxSnJ","subkey_name":"live","secret_id":"sec_FSt3cVN3xhiNdXUZr7kT0r","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d200000000","attempts":1,"fallback":null,"changed":[],"streamed":false,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":5,"first_byte_ms":5,"overhead_us":4178,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
INSERT INTO "access_log" VALUES(2,NULL,'req_YyDClzuHfwDQNVCLB9gOuQ','2026-11-22T22:46:43.236626+00:00','2026-11-22','default','2Wq8bAvEfQDpH0Kn','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.236626Z","node":"vm","request_id":"req_YyDClzuHfwDQNVCLB9gOuQ","subkey_id":"2Wq8bAvEfQDpH0Kn","subkey_name":"revoked","secret_id":"sec_Q2lOOcP0rgmUvfPLk2Cd5S","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d200000002","attempts":1,"fallback":null,"changed":[],"streamed":false,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":4,"first_byte_ms":4,"overhead_us":3330,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
INSERT INTO "access_log" VALUES(3,NULL,'req_IiQc5TCR29vJPGVq4WQ3Hj','2026-11-22T22:46:43.247078+00:00','2026-11-22','default','7PBxYrd2uGMot6Jt','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.247078Z","node":"vm","request_id":"req_IiQc5TCR29vJPGVq4WQ3Hj","subkey_id":"7PBxYrd2uGMot6Jt","subkey_name":"suspended","secret_id":"sec_dchMI0udlVh4phN9TidNtU","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d200000004","attempts":1,"fallback":null,"changed":[],"streamed":false,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":3,"first_byte_ms":3,"overhead_us":3075,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
INSERT INTO "access_log" VALUES(4,NULL,'req_GT76H0Mxrn7hdhE4OyQI7U','2026-11-22T22:46:43.254395+00:00','2026-11-22','default','DJmdwZVGZmmQxSnJ','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.254395Z","node":"vm","request_id":"req_GT76H0Mxrn7hdhE4OyQI7U","subkey_id":"DJmdwZVGZmmQxSnJ","subkey_name":"live","secret_id":"sec_FSt3cVN3xhiNdXUZr7kT0r","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d200000006","attempts":1,"fallback":null,"changed":[],"streamed":false,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":2,"first_byte_ms":2,"overhead_us":2071,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
INSERT INTO "access_log" VALUES(5,NULL,'req_25nwvxOcMUQYBWhH1KCr5e','2026-11-22T22:46:43.262777+00:00','2026-11-22','default','2Wq8bAvEfQDpH0Kn','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.262777Z","node":"vm","request_id":"req_25nwvxOcMUQYBWhH1KCr5e","subkey_id":"2Wq8bAvEfQDpH0Kn","subkey_name":"revoked","secret_id":"sec_Q2lOOcP0rgmUvfPLk2Cd5S","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d200000008","attempts":1,"fallback":null,"changed":[],"streamed":false,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":2,"first_byte_ms":2,"overhead_us":2022,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
INSERT INTO "access_log" VALUES(6,NULL,'req_icVkZ1B7VRqfRr8xJMQQhx','2026-11-22T22:46:43.268813+00:00','2026-11-22','default','7PBxYrd2uGMot6Jt','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.268813Z","node":"vm","request_id":"req_icVkZ1B7VRqfRr8xJMQQhx","subkey_id":"7PBxYrd2uGMot6Jt","subkey_name":"suspended","secret_id":"sec_dchMI0udlVh4phN9TidNtU","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d20000000a","attempts":1,"fallback":null,"changed":[],"streamed":false,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":3,"first_byte_ms":3,"overhead_us":2562,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
INSERT INTO "access_log" VALUES(7,NULL,'req_TbDqrrtktlk6Hx9WuYHKVu','2026-11-22T22:46:43.278839+00:00','2026-11-22','default','DJmdwZVGZmmQxSnJ','sandbox','sandbox-mini','allowed',200,'127.0.0.1',1,5,0,0,16,10350,'{"index":null,"logged_at":null,"time":"2026-11-22T22:46:43.278839Z","node":"vm","request_id":"req_TbDqrrtktlk6Hx9WuYHKVu","subkey_id":"DJmdwZVGZmmQxSnJ","subkey_name":"live","secret_id":"sec_FSt3cVN3xhiNdXUZr7kT0r","parent_subkey":null,"project":"default","owner":null,"client_ip":"127.0.0.1","peer_ip":"127.0.0.1","method":"POST","path":"/v1/chat/completions","operation":"chat","dialect":"openai","model_requested":"sandbox-mini","model":"sandbox-mini","model_reported":null,"provider":"sandbox","credential_id":"cred_1hBJGGCx6ecyqiUmzzG0N9","decision":"allowed","rule":null,"would_deny":[],"count":1,"status":200,"upstream_status":200,"upstream_request_id":"req_660e54050c9d20000000c","attempts":1,"fallback":null,"changed":["stream_options.include_usage"],"streamed":true,"finish_reason":"stop","input_tokens":5,"cached_input_tokens":0,"cache_write_tokens":0,"output_tokens":16,"reasoning_tokens":0,"reserved_usd":"0.0000543","cost_usd":"0.00001035","price_version":"catalog@2026-01-01","usage_source":"reported","outcome":"completed","duration_ms":7,"first_byte_ms":3,"overhead_us":2448,"user_agent":"Python-urllib/3.11","policy_versions":{},"labels":{"team":"search"},"tags":{}}');
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
INSERT INTO "admin_log" VALUES(1,NULL,'2026-11-22T22:46:43.194217+00:00','owner','provider.create','sandbox','{"time":"2026-11-22T22:46:43.194217Z","actor":"owner","action":"provider.create","target":"sandbox","request_id":"req_ZOoCnjdz9z67PuVYACo9gy","detail":{"document":{"deployments":{},"dialects":{"anthropic":{"auth":"x-api-key","base_url":"http://127.84.2.1:8402","headers":{},"query":{}},"gemini":{"auth":"x-goog-api-key","base_url":"http://127.84.2.1:8402","headers":{},"query":{}},"openai":{"auth":"bearer","base_url":"http://127.84.2.1:8402/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"sandbox","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}},"operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":1}}');
INSERT INTO "admin_log" VALUES(2,NULL,'2026-11-22T22:46:43.203482+00:00','owner','credential.create','cred_1hBJGGCx6ecyqiUmzzG0N9','{"time":"2026-11-22T22:46:43.203482Z","actor":"owner","action":"credential.create","target":"cred_1hBJGGCx6ecyqiUmzzG0N9","request_id":"req_OLgNtwW0G62Yf18ckehRTd","detail":{"name":"main","operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","projects":null,"provider":"sandbox"}}');
INSERT INTO "admin_log" VALUES(3,NULL,'2026-11-22T22:46:43.210565+00:00','owner','subkey.mint','DJmdwZVGZmmQxSnJ','{"time":"2026-11-22T22:46:43.210565Z","actor":"owner","action":"subkey.mint","target":"DJmdwZVGZmmQxSnJ","request_id":"req_OhIEzwSxA6mvvEOMRyLdq2","detail":{"definition":{"allow_audio":true,"allow_files":true,"allow_images":true,"allow_remote_urls":true,"allow_store":true,"allow_streaming":true,"allow_tools":true,"allow_truncation":false,"budgets":[{"alert_at":[],"limit_usd":"0.01","timezone":"UTC","window":"total"},{"alert_at":[],"limit_usd":"5.00","timezone":"UTC","window":"month"}],"clamp_output":false,"clamp_to_budget":false,"credential":null,"default_max_output_tokens":null,"deny_models":[],"description":null,"expires_at":null,"hosted_tools":[],"ip_allow":["127.0.0.0/8"],"labels":{"team":"search"},"max_output_tokens":null,"max_request_usd":null,"may_delegate":false,"models":["sandbox/*"],"name":"live","not_before":null,"operations":["*"],"owner":null,"policies":[],"project":"default","provider_order":[],"rate_limits":[],"service_tiers":["auto","default"],"share_objects":false,"strict_fields":false},"operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":1}}');
INSERT INTO "admin_log" VALUES(4,NULL,'2026-11-22T22:46:43.216144+00:00','owner','subkey.mint','2Wq8bAvEfQDpH0Kn','{"time":"2026-11-22T22:46:43.216144Z","actor":"owner","action":"subkey.mint","target":"2Wq8bAvEfQDpH0Kn","request_id":"req_u2IuqiexOBXpw1Sbj0WUgQ","detail":{"definition":{"allow_audio":true,"allow_files":true,"allow_images":true,"allow_remote_urls":true,"allow_store":true,"allow_streaming":true,"allow_tools":true,"allow_truncation":false,"budgets":[{"alert_at":[],"limit_usd":"0.01","timezone":"UTC","window":"total"},{"alert_at":[],"limit_usd":"5.00","timezone":"UTC","window":"month"}],"clamp_output":false,"clamp_to_budget":false,"credential":null,"default_max_output_tokens":null,"deny_models":[],"description":null,"expires_at":null,"hosted_tools":[],"ip_allow":["127.0.0.0/8"],"labels":{"team":"search"},"max_output_tokens":null,"max_request_usd":null,"may_delegate":false,"models":["sandbox/*"],"name":"revoked","not_before":null,"operations":["*"],"owner":null,"policies":[],"project":"default","provider_order":[],"rate_limits":[],"service_tiers":["auto","default"],"share_objects":false,"strict_fields":false},"operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":1}}');
INSERT INTO "admin_log" VALUES(5,NULL,'2026-11-22T22:46:43.223847+00:00','owner','subkey.mint','7PBxYrd2uGMot6Jt','{"time":"2026-11-22T22:46:43.223847Z","actor":"owner","action":"subkey.mint","target":"7PBxYrd2uGMot6Jt","request_id":"req_aBXL4o1QUXexAQDUrPj2ZZ","detail":{"definition":{"allow_audio":true,"allow_files":true,"allow_images":true,"allow_remote_urls":true,"allow_store":true,"allow_streaming":true,"allow_tools":true,"allow_truncation":false,"budgets":[{"alert_at":[],"limit_usd":"0.01","timezone":"UTC","window":"total"},{"alert_at":[],"limit_usd":"5.00","timezone":"UTC","window":"month"}],"clamp_output":false,"clamp_to_budget":false,"credential":null,"default_max_output_tokens":null,"deny_models":[],"description":null,"expires_at":null,"hosted_tools":[],"ip_allow":["127.0.0.0/8"],"labels":{"team":"search"},"max_output_tokens":null,"max_request_usd":null,"may_delegate":false,"models":["sandbox/*"],"name":"suspended","not_before":null,"operations":["*"],"owner":null,"policies":[],"project":"default","provider_order":[],"rate_limits":[],"service_tiers":["auto","default"],"share_objects":false,"strict_fields":false},"operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":1}}');
INSERT INTO "admin_log" VALUES(6,NULL,'2026-11-22T22:46:43.296030+00:00','owner','subkey.revoke','2Wq8bAvEfQDpH0Kn','{"time":"2026-11-22T22:46:43.296030Z","actor":"owner","action":"subkey.revoke","target":"2Wq8bAvEfQDpH0Kn","request_id":"req_XJv6S32Ex24bw7xOphmBeI","detail":{"after":"revoked","before":"active","operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":2}}');
INSERT INTO "admin_log" VALUES(7,NULL,'2026-11-22T22:46:43.301530+00:00','owner','subkey.suspend','7PBxYrd2uGMot6Jt','{"time":"2026-11-22T22:46:43.301530Z","actor":"owner","action":"subkey.suspend","target":"7PBxYrd2uGMot6Jt","request_id":"req_Lu6O20m4Q0SDdSqs69wdRz","detail":{"after":"suspended","before":"active","operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":2}}');
INSERT INTO "admin_log" VALUES(8,NULL,'2026-11-22T22:46:43.321687+00:00','owner','model.set','sandbox/sandbox-own','{"time":"2026-11-22T22:46:43.321687Z","actor":"owner","action":"model.set","target":"sandbox/sandbox-own","request_id":"req_VKTPTEcEjuAnCwsiSIperL","detail":{"after":{"aliases":[],"bound_covers_reasoning":false,"capabilities":[],"context_window":1000,"effective_from":"2026-11-22T22:46:43.306133Z","max_output_tokens":100,"operations":["chat"],"prices":{"input_per_mtok_usd":"1.00","output_per_mtok_usd":"2.00"}},"before":[],"operator_id":"op_YBsfYKZtQ0hBJ6nzFxQE6v","version":1}}');
CREATE TABLE admissions (
    request_id  TEXT PRIMARY KEY NOT NULL,
    node        TEXT NOT NULL,
    admitted_at TEXT NOT NULL,
    subkey_id   TEXT NOT NULL,
    holds       TEXT NOT NULL,
    entry       TEXT NOT NULL
) STRICT;
CREATE TABLE budget_windows (
    budget_id    TEXT NOT NULL REFERENCES budgets (id),
    window_start TEXT NOT NULL,
    posted_nano  INTEGER NOT NULL DEFAULT 0 CHECK (posted_nano >= 0),
    held_nano    INTEGER NOT NULL DEFAULT 0 CHECK (held_nano >= 0),
    PRIMARY KEY (budget_id, window_start)
) STRICT;
INSERT INTO "budget_windows" VALUES('subkey:DJmdwZVGZmmQxSnJ/total','1970-01-01T00:00:00+00:00',31050,0);
INSERT INTO "budget_windows" VALUES('subkey:DJmdwZVGZmmQxSnJ/month','2026-11-01T00:00:00+00:00',31050,0);
INSERT INTO "budget_windows" VALUES('subkey:2Wq8bAvEfQDpH0Kn/total','1970-01-01T00:00:00+00:00',20700,0);
INSERT INTO "budget_windows" VALUES('subkey:2Wq8bAvEfQDpH0Kn/month','2026-11-01T00:00:00+00:00',20700,0);
INSERT INTO "budget_windows" VALUES('subkey:7PBxYrd2uGMot6Jt/total','1970-01-01T00:00:00+00:00',20700,0);
INSERT INTO "budget_windows" VALUES('subkey:7PBxYrd2uGMot6Jt/month','2026-11-01T00:00:00+00:00',20700,0);
CREATE TABLE budgets (
    id         TEXT PRIMARY KEY NOT NULL,
    owner      TEXT NOT NULL,
    win        TEXT NOT NULL,
    limit_nano INTEGER NOT NULL CHECK (limit_nano >= 0),
    timezone   TEXT NOT NULL,
    active     INTEGER NOT NULL CHECK (active IN (0, 1)),
    UNIQUE (owner, win)
) STRICT;
INSERT INTO "budgets" VALUES('subkey:DJmdwZVGZmmQxSnJ/total','subkey:DJmdwZVGZmmQxSnJ','total',10000000,'UTC',1);
INSERT INTO "budgets" VALUES('subkey:DJmdwZVGZmmQxSnJ/month','subkey:DJmdwZVGZmmQxSnJ','month',5000000000,'UTC',1);
INSERT INTO "budgets" VALUES('subkey:2Wq8bAvEfQDpH0Kn/total','subkey:2Wq8bAvEfQDpH0Kn','total',10000000,'UTC',1);
INSERT INTO "budgets" VALUES('subkey:2Wq8bAvEfQDpH0Kn/month','subkey:2Wq8bAvEfQDpH0Kn','month',5000000000,'UTC',1);
INSERT INTO "budgets" VALUES('subkey:7PBxYrd2uGMot6Jt/total','subkey:7PBxYrd2uGMot6Jt','total',10000000,'UTC',1);
INSERT INTO "budgets" VALUES('subkey:7PBxYrd2uGMot6Jt/month','subkey:7PBxYrd2uGMot6Jt','month',5000000000,'UTC',1);
CREATE TABLE credential_versions (
    credential_id  TEXT NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    secret_version INTEGER NOT NULL,
    term           INTEGER NOT NULL,
    wrapped_dek    BLOB NOT NULL,
    sealed         BLOB NOT NULL,
    created_at     TEXT NOT NULL,
    PRIMARY KEY (credential_id, secret_version)
) STRICT;
INSERT INTO "credential_versions" VALUES('cred_1hBJGGCx6ecyqiUmzzG0N9',1,1,X'0101000000011A9257F80417914401A61A4D0458B6FBE360E26F58A7981045DCAD4CFA315E3ED885C7D39EC678051591CC48B4F554BC83077FB964BAE6B45DF1DD2B',X'01010000000178786D64F822DA0D903CF2A8F36A48F68F60771F661A995FDFEFD30F54C9895DA60972A7362E7AFC4CC7304146E75D3CA35DD616E1BDFA8FE2C079676484619578DA24BC','2026-11-22T22:46:43.202749+00:00');
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
INSERT INTO "credentials" VALUES('cred_1hBJGGCx6ecyqiUmzzG0N9','sandbox','main',1,NULL,NULL,NULL,'active',1,1,'2026-11-22T22:46:43.202749+00:00','owner');
CREATE TABLE idempotency (
    operator_id TEXT NOT NULL,
    key         TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    created_at  TEXT NOT NULL,
    PRIMARY KEY (operator_id, key)
) STRICT;
CREATE TABLE keyring (
    id         TEXT PRIMARY KEY NOT NULL,
    sealed     BLOB NOT NULL,
    updated_at TEXT NOT NULL
) STRICT;
INSERT INTO "keyring" VALUES('kek',X'010100000000048A874AC3D414B1225D6373550D30DFEC031B7366326B4FECE188A91C36B0BBBFF2DBD86D82B7355433B5E235D8C8A604B5AD8D5E3D71C50706B302BE794DE54EF5AB580B2F5D7982686FAF8D5858CC78E1E2282F1067A05E1F1C0EE80A06F7C4F732CA2829F5EBF6D5D0F89908D30084B0D1DAE83D0112DA464CB22A6F48395313380FB093E958995F727D8905DAAA13DB89C3E49D4D162C6C9468E1C72C2B','2026-11-22T22:46:43.147476+00:00');
CREATE TABLE meta (
    name  TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT;
INSERT INTO "meta" VALUES('installation','inst_TE2CqVIYf1pQ8SC7CI7L1s');
INSERT INTO "meta" VALUES('provider_seeded/anthropic','yes');
INSERT INTO "meta" VALUES('provider_seeded/deepseek','yes');
INSERT INTO "meta" VALUES('provider_seeded/gemini','yes');
INSERT INTO "meta" VALUES('provider_seeded/mistral','yes');
INSERT INTO "meta" VALUES('provider_seeded/openai','yes');
INSERT INTO "meta" VALUES('provider_seeded/openrouter','yes');
INSERT INTO "meta" VALUES('provider_seeded/qwen','yes');
CREATE TABLE models (
    provider       TEXT NOT NULL,
    name           TEXT NOT NULL,
    effective_from TEXT NOT NULL,
    version        INTEGER NOT NULL,
    document       TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    PRIMARY KEY (provider, name, effective_from)
) STRICT;
INSERT INTO "models" VALUES('sandbox','sandbox-own','2026-11-22T22:46:43.306133+00:00',1,'{"aliases":[],"bound_covers_reasoning":false,"capabilities":[],"context_window":1000,"effective_from":"2026-11-22T22:46:43.306133Z","max_output_tokens":100,"operations":["chat"],"prices":{"input_per_mtok_usd":"1.00","output_per_mtok_usd":"2.00"}}','2026-11-22T22:46:43.306133+00:00');
CREATE TABLE operator_tokens (
    id           TEXT PRIMARY KEY NOT NULL,
    operator_id  TEXT NOT NULL REFERENCES operators (id) ON DELETE CASCADE,
    sha256       BLOB NOT NULL UNIQUE,
    created_at   TEXT NOT NULL,
    expires_at   TEXT,
    last_used_at TEXT
) STRICT;
INSERT INTO "operator_tokens" VALUES('ot_3QMOY1bt85WgAvJGio8fny','op_YBsfYKZtQ0hBJ6nzFxQE6v',X'3F6F07C16043AA4D8C78DBA4DE55FA743EA495B86C11BE7E3F5203B75FD263B4','2026-11-22T22:46:43.147995+00:00',NULL,'2026-11-22T22:46:43.192262+00:00');
CREATE TABLE operators (
    id         TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL UNIQUE,
    roles      TEXT NOT NULL,
    projects   TEXT,
    created_at TEXT NOT NULL,
    created_by TEXT NOT NULL
) STRICT;
INSERT INTO "operators" VALUES('op_YBsfYKZtQ0hBJ6nzFxQE6v','owner','["owner"]',NULL,'2026-11-22T22:46:43.147995+00:00','local');
CREATE TABLE projects (
    slug       TEXT PRIMARY KEY NOT NULL,
    name       TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
INSERT INTO "projects" VALUES('default','default','1970-01-01T00:00:00+00:00');
CREATE TABLE providers (
    slug       TEXT PRIMARY KEY NOT NULL,
    version    INTEGER NOT NULL,
    document   TEXT NOT NULL,
    status     TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
INSERT INTO "providers" VALUES('anthropic',1,'{"deployments":{},"dialects":{"anthropic":{"auth":"x-api-key","base_url":"https://api.anthropic.com","headers":{},"query":{}},"openai":{"auth":"bearer","base_url":"https://api.anthropic.com/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"anthropic","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.172074+00:00');
INSERT INTO "providers" VALUES('deepseek',1,'{"deployments":{},"dialects":{"anthropic":{"auth":"x-api-key","base_url":"https://api.deepseek.com/anthropic","headers":{},"query":{}},"openai":{"auth":"bearer","base_url":"https://api.deepseek.com/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"deepseek","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.172728+00:00');
INSERT INTO "providers" VALUES('gemini',1,'{"deployments":{},"dialects":{"gemini":{"auth":"x-goog-api-key","base_url":"https://generativelanguage.googleapis.com","headers":{},"query":{}},"openai":{"auth":"bearer","base_url":"https://generativelanguage.googleapis.com/v1beta/openai","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"gemini","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.173095+00:00');
INSERT INTO "providers" VALUES('mistral',1,'{"deployments":{},"dialects":{"openai":{"auth":"bearer","base_url":"https://api.mistral.ai/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"mistral","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.173557+00:00');
INSERT INTO "providers" VALUES('openai',1,'{"deployments":{},"dialects":{"openai":{"auth":"bearer","base_url":"https://api.openai.com/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"openai","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.173844+00:00');
INSERT INTO "providers" VALUES('openrouter',1,'{"deployments":{},"dialects":{"openai":{"auth":"bearer","base_url":"https://openrouter.ai/api/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"openrouter","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.174113+00:00');
INSERT INTO "providers" VALUES('qwen',1,'{"deployments":{},"dialects":{"openai":{"auth":"bearer","base_url":"https://dashscope-intl.aliyuncs.com/compatible-mode/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"qwen","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.174433+00:00');
INSERT INTO "providers" VALUES('sandbox',1,'{"deployments":{},"dialects":{"anthropic":{"auth":"x-api-key","base_url":"http://127.84.2.1:8402","headers":{},"query":{}},"gemini":{"auth":"x-goog-api-key","base_url":"http://127.84.2.1:8402","headers":{},"query":{}},"openai":{"auth":"bearer","base_url":"http://127.84.2.1:8402/v1","headers":{},"query":{}}},"on_client_gone":"cancel","slug":"sandbox","supports_stream_options":true,"timeouts":{"connect_ms":5000,"first_byte_ms":600000,"idle_ms":300000,"total_ms":3600000}}','active','2026-11-22T22:46:43.193840+00:00');
CREATE TABLE secret_use (
    secret_id    TEXT PRIMARY KEY NOT NULL,
    subkey_id    TEXT NOT NULL,
    last_used_at TEXT NOT NULL
) STRICT;
INSERT INTO "secret_use" VALUES('sec_FSt3cVN3xhiNdXUZr7kT0r','DJmdwZVGZmmQxSnJ','2026-11-22T22:46:43.278942+00:00');
INSERT INTO "secret_use" VALUES('sec_Q2lOOcP0rgmUvfPLk2Cd5S','2Wq8bAvEfQDpH0Kn','2026-11-22T22:46:43.262855+00:00');
INSERT INTO "secret_use" VALUES('sec_dchMI0udlVh4phN9TidNtU','7PBxYrd2uGMot6Jt','2026-11-22T22:46:43.268883+00:00');
CREATE TABLE subkey_labels (
    subkey_id TEXT NOT NULL REFERENCES subkeys (id) ON DELETE CASCADE,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (subkey_id, key)
) STRICT;
INSERT INTO "subkey_labels" VALUES('DJmdwZVGZmmQxSnJ','team','search');
INSERT INTO "subkey_labels" VALUES('2Wq8bAvEfQDpH0Kn','team','search');
INSERT INTO "subkey_labels" VALUES('7PBxYrd2uGMot6Jt','team','search');
CREATE TABLE subkey_secrets (
    id         TEXT PRIMARY KEY NOT NULL,
    subkey_id  TEXT NOT NULL REFERENCES subkeys (id) ON DELETE CASCADE,
    mac        BLOB NOT NULL,
    mac_term   INTEGER NOT NULL,
    created_at TEXT NOT NULL,
    expires_at TEXT
) STRICT;
INSERT INTO "subkey_secrets" VALUES('sec_FSt3cVN3xhiNdXUZr7kT0r','DJmdwZVGZmmQxSnJ',X'C056B1F0A2CDBB9CF0B351171D042BF2589BFEEE9A0F3A26865F8B98EB7BB8B1',1,'2026-11-22T22:46:43.209712+00:00',NULL);
INSERT INTO "subkey_secrets" VALUES('sec_Q2lOOcP0rgmUvfPLk2Cd5S','2Wq8bAvEfQDpH0Kn',X'18ED4957EE7688AADBE956BE2D190AE5BD96AF828DFE17DBEFC80BCAB4BB5D26',1,'2026-11-22T22:46:43.215672+00:00',NULL);
INSERT INTO "subkey_secrets" VALUES('sec_dchMI0udlVh4phN9TidNtU','7PBxYrd2uGMot6Jt',X'C73430144CAF5C687287978A60120D53B22331748E20633B8590B3D2130B3A37',1,'2026-11-22T22:46:43.223411+00:00',NULL);
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
INSERT INTO "subkeys" VALUES('DJmdwZVGZmmQxSnJ','default','live',1,'active','{"name":"live","project":"default","description":null,"owner":null,"models":["sandbox/*"],"deny_models":[],"operations":["*"],"provider_order":[],"credential":null,"ip_allow":["127.0.0.0/8"],"budgets":[{"limit_usd":"0.01","window":"total","timezone":"UTC","alert_at":[]},{"limit_usd":"5.00","window":"month","timezone":"UTC","alert_at":[]}],"rate_limits":[],"max_request_usd":null,"max_output_tokens":null,"default_max_output_tokens":null,"clamp_output":false,"clamp_to_budget":false,"allow_streaming":true,"allow_tools":true,"allow_images":true,"allow_audio":true,"allow_files":true,"allow_remote_urls":true,"allow_store":true,"allow_truncation":false,"hosted_tools":[],"service_tiers":["auto","default"],"strict_fields":false,"share_objects":false,"may_delegate":false,"policies":[],"not_before":null,"expires_at":null,"labels":{"team":"search"}}',NULL,'2026-11-22T22:46:43.209712+00:00','owner');
INSERT INTO "subkeys" VALUES('2Wq8bAvEfQDpH0Kn','default','revoked',2,'revoked','{"name":"revoked","project":"default","description":null,"owner":null,"models":["sandbox/*"],"deny_models":[],"operations":["*"],"provider_order":[],"credential":null,"ip_allow":["127.0.0.0/8"],"budgets":[{"limit_usd":"0.01","window":"total","timezone":"UTC","alert_at":[]},{"limit_usd":"5.00","window":"month","timezone":"UTC","alert_at":[]}],"rate_limits":[],"max_request_usd":null,"max_output_tokens":null,"default_max_output_tokens":null,"clamp_output":false,"clamp_to_budget":false,"allow_streaming":true,"allow_tools":true,"allow_images":true,"allow_audio":true,"allow_files":true,"allow_remote_urls":true,"allow_store":true,"allow_truncation":false,"hosted_tools":[],"service_tiers":["auto","default"],"strict_fields":false,"share_objects":false,"may_delegate":false,"policies":[],"not_before":null,"expires_at":null,"labels":{"team":"search"}}',NULL,'2026-11-22T22:46:43.215672+00:00','owner');
INSERT INTO "subkeys" VALUES('7PBxYrd2uGMot6Jt','default','suspended',2,'suspended','{"name":"suspended","project":"default","description":null,"owner":null,"models":["sandbox/*"],"deny_models":[],"operations":["*"],"provider_order":[],"credential":null,"ip_allow":["127.0.0.0/8"],"budgets":[{"limit_usd":"0.01","window":"total","timezone":"UTC","alert_at":[]},{"limit_usd":"5.00","window":"month","timezone":"UTC","alert_at":[]}],"rate_limits":[],"max_request_usd":null,"max_output_tokens":null,"default_max_output_tokens":null,"clamp_output":false,"clamp_to_budget":false,"allow_streaming":true,"allow_tools":true,"allow_images":true,"allow_audio":true,"allow_files":true,"allow_remote_urls":true,"allow_store":true,"allow_truncation":false,"hosted_tools":[],"service_tiers":["auto","default"],"strict_fields":false,"share_objects":false,"may_delegate":false,"policies":[],"not_before":null,"expires_at":null,"labels":{"team":"search"}}',NULL,'2026-11-22T22:46:43.223411+00:00','owner');
CREATE INDEX operator_tokens_operator ON operator_tokens (operator_id);
CREATE UNIQUE INDEX subkeys_live_name ON subkeys (project, name) WHERE state <> 'revoked';
CREATE INDEX subkeys_newest ON subkeys (created_at, id);
CREATE INDEX subkeys_newest_of_project ON subkeys (project, created_at, id);
CREATE INDEX subkey_secrets_subkey ON subkey_secrets (subkey_id);
CREATE INDEX subkey_labels_value ON subkey_labels (key, value);
CREATE INDEX secret_use_subkey ON secret_use (subkey_id, last_used_at);
CREATE INDEX admissions_oldest ON admissions (admitted_at, request_id);
CREATE INDEX access_log_newest ON access_log (time, seq);
CREATE INDEX access_log_newest_of_project ON access_log (project, time, seq);
CREATE INDEX access_log_newest_of_subkey ON access_log (subkey_id, time, seq);
CREATE INDEX access_log_newest_of_provider ON access_log (provider, time, seq);
CREATE INDEX access_log_newest_of_model ON access_log (model, time, seq);
CREATE INDEX access_log_newest_of_client ON access_log (client_ip, time, seq);
CREATE INDEX access_log_newest_denied ON access_log (time, seq) WHERE decision = 'denied';
CREATE INDEX admin_log_newest ON admin_log (time, seq);
CREATE INDEX admin_log_newest_of_target ON admin_log (target, time, seq);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('admin_log',8);
INSERT INTO "sqlite_sequence" VALUES('access_log',7);
COMMIT;
