-- A database that the first release wrote, by pg_dump.
CREATE TABLE _sqlx_migrations (
    version bigint NOT NULL,
    description text NOT NULL,
    installed_on timestamp with time zone DEFAULT now() NOT NULL,
    success boolean NOT NULL,
    checksum bytea NOT NULL,
    execution_time bigint NOT NULL
);
CREATE TABLE access_log (
    seq bigint NOT NULL,
    log_index bigint,
    request_id text NOT NULL COLLATE pg_catalog."C",
    "time" timestamp with time zone NOT NULL,
    day text NOT NULL COLLATE pg_catalog."C",
    project text NOT NULL COLLATE pg_catalog."C",
    subkey_id text NOT NULL COLLATE pg_catalog."C",
    provider text COLLATE pg_catalog."C",
    model text COLLATE pg_catalog."C",
    decision text NOT NULL COLLATE pg_catalog."C",
    status bigint,
    client_ip text COLLATE pg_catalog."C",
    count bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_write_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_nano bigint NOT NULL,
    entry jsonb NOT NULL
);
ALTER TABLE access_log ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME access_log_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE access_tags (
    seq bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE admin_log (
    seq bigint NOT NULL,
    log_index bigint,
    "time" timestamp with time zone NOT NULL,
    actor text NOT NULL COLLATE pg_catalog."C",
    action text NOT NULL COLLATE pg_catalog."C",
    target text NOT NULL COLLATE pg_catalog."C",
    entry jsonb NOT NULL
);
ALTER TABLE admin_log ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME admin_log_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE admissions (
    request_id text NOT NULL COLLATE pg_catalog."C",
    node text NOT NULL COLLATE pg_catalog."C",
    admitted_at timestamp with time zone NOT NULL,
    subkey_id text NOT NULL COLLATE pg_catalog."C",
    holds jsonb NOT NULL,
    entry jsonb NOT NULL
);
CREATE TABLE budget_windows (
    budget_id text NOT NULL COLLATE pg_catalog."C",
    window_start timestamp with time zone NOT NULL,
    posted_nano bigint DEFAULT 0 NOT NULL,
    held_nano bigint DEFAULT 0 NOT NULL,
    CONSTRAINT budget_windows_held_nano_check CHECK ((held_nano >= 0)),
    CONSTRAINT budget_windows_posted_nano_check CHECK ((posted_nano >= 0))
);
CREATE TABLE budgets (
    id text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    win text NOT NULL COLLATE pg_catalog."C",
    limit_nano bigint NOT NULL,
    timezone text NOT NULL COLLATE pg_catalog."C",
    active boolean NOT NULL,
    CONSTRAINT budgets_limit_nano_check CHECK ((limit_nano >= 0))
);
CREATE TABLE credential_versions (
    credential_id text NOT NULL COLLATE pg_catalog."C",
    secret_version bigint NOT NULL,
    term bigint NOT NULL,
    wrapped_dek bytea NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE credentials (
    id text NOT NULL COLLATE pg_catalog."C",
    provider text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    weight bigint NOT NULL,
    projects jsonb,
    organization text COLLATE pg_catalog."C",
    openai_project text COLLATE pg_catalog."C",
    status text NOT NULL COLLATE pg_catalog."C",
    secret_version bigint NOT NULL,
    version bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT credentials_weight_check CHECK ((weight >= 0))
);
CREATE TABLE idempotency (
    operator_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    resource_id text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE keyring (
    id text NOT NULL COLLATE pg_catalog."C",
    sealed bytea NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
CREATE TABLE meta (
    name text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE models (
    provider text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    effective_from timestamp with time zone NOT NULL,
    version bigint NOT NULL,
    document jsonb NOT NULL,
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE operator_tokens (
    id text NOT NULL COLLATE pg_catalog."C",
    operator_id text NOT NULL COLLATE pg_catalog."C",
    sha256 bytea NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone
);
CREATE TABLE operators (
    id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    roles jsonb NOT NULL,
    projects jsonb,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE projects (
    slug text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE providers (
    slug text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    document jsonb NOT NULL,
    status text NOT NULL COLLATE pg_catalog."C",
    created_at timestamp with time zone NOT NULL
);
CREATE TABLE secret_use (
    secret_id text NOT NULL COLLATE pg_catalog."C",
    subkey_id text NOT NULL COLLATE pg_catalog."C",
    last_used_at timestamp with time zone NOT NULL
);
CREATE TABLE subkey_labels (
    subkey_id text NOT NULL COLLATE pg_catalog."C",
    key text NOT NULL COLLATE pg_catalog."C",
    value text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE subkey_secrets (
    id text NOT NULL COLLATE pg_catalog."C",
    subkey_id text NOT NULL COLLATE pg_catalog."C",
    mac bytea NOT NULL,
    mac_term bigint NOT NULL,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone
);
CREATE TABLE subkeys (
    id text NOT NULL COLLATE pg_catalog."C",
    project text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    version bigint NOT NULL,
    state text NOT NULL COLLATE pg_catalog."C",
    definition jsonb NOT NULL,
    expires_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    created_by text NOT NULL COLLATE pg_catalog."C"
);
INSERT INTO _sqlx_migrations VALUES (1, 'first', '2026-11-22 22:46:45.027804+00', true, '\x039f99e763e3bbad69f7cda587d83425d03c89fe6423da72c88640d5151a9170769e4d416d1d4a7a8013223bb27c7a45', 202275730);
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (1, NULL, 'req_KRZm0wWBXNXQodfCrRJ3kY', '2026-11-22 22:46:45.391311+00', '2026-11-22', 'default', '3bYnTUA36GwnpKPv', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.391311Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": [], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": false, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_nJKKSkUWvy7XxHSJW5xcnB", "subkey_id": "3bYnTUA36GwnpKPv", "request_id": "req_KRZm0wWBXNXQodfCrRJ3kY", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 20, "overhead_us": 18632, "subkey_name": "live", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 20, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d5000000000"}');
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (2, NULL, 'req_3IbScMbfHaXgYMEwYL5o6G', '2026-11-22 22:46:45.42183+00', '2026-11-22', 'default', 'nOKreNdn0eainwkW', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.421830Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": [], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": false, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_bjF5PEo8aZBQDfWktbMCij", "subkey_id": "nOKreNdn0eainwkW", "request_id": "req_3IbScMbfHaXgYMEwYL5o6G", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 5, "overhead_us": 4396, "subkey_name": "revoked", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 5, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d5000000002"}');
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (3, NULL, 'req_9xgAHVxv3DXcy7tbJHzzGF', '2026-11-22 22:46:45.43032+00', '2026-11-22', 'default', '9bOvKBvqXeJwRWUQ', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.430320Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": [], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": false, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_KBAmNWoOdy2sIypd9o17Jp", "subkey_id": "9bOvKBvqXeJwRWUQ", "request_id": "req_9xgAHVxv3DXcy7tbJHzzGF", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 4, "overhead_us": 3842, "subkey_name": "suspended", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 4, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d5000000004"}');
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (4, NULL, 'req_cvVnXJUBjT1yXfmt3bdyfz', '2026-11-22 22:46:45.440355+00', '2026-11-22', 'default', '3bYnTUA36GwnpKPv', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.440355Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": [], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": false, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_nJKKSkUWvy7XxHSJW5xcnB", "subkey_id": "3bYnTUA36GwnpKPv", "request_id": "req_cvVnXJUBjT1yXfmt3bdyfz", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 3, "overhead_us": 2664, "subkey_name": "live", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 3, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d5000000006"}');
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (5, NULL, 'req_0kztq7AXOpc45GBOzsaCm5', '2026-11-22 22:46:45.446435+00', '2026-11-22', 'default', 'nOKreNdn0eainwkW', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.446435Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": [], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": false, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_bjF5PEo8aZBQDfWktbMCij", "subkey_id": "nOKreNdn0eainwkW", "request_id": "req_0kztq7AXOpc45GBOzsaCm5", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 3, "overhead_us": 2690, "subkey_name": "revoked", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 3, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d5000000008"}');
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (6, NULL, 'req_OOpCMr7seUslaVyL11tK8E', '2026-11-22 22:46:45.458014+00', '2026-11-22', 'default', '9bOvKBvqXeJwRWUQ', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.458014Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": [], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": false, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_KBAmNWoOdy2sIypd9o17Jp", "subkey_id": "9bOvKBvqXeJwRWUQ", "request_id": "req_OOpCMr7seUslaVyL11tK8E", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 3, "overhead_us": 2716, "subkey_name": "suspended", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 3, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d500000000a"}');
INSERT INTO access_log OVERRIDING SYSTEM VALUE VALUES (7, NULL, 'req_SW7r0rvD1WNaXJ7I4AcvFa', '2026-11-22 22:46:45.464893+00', '2026-11-22', 'default', '3bYnTUA36GwnpKPv', 'sandbox', 'sandbox-mini', 'allowed', 200, '127.0.0.1', 1, 5, 0, 0, 16, 10350, '{"node": "vm", "path": "/v1/chat/completions", "rule": null, "tags": {}, "time": "2026-11-22T22:46:45.464893Z", "count": 1, "index": null, "model": "sandbox-mini", "owner": null, "labels": {"team": "search"}, "method": "POST", "status": 200, "changed": ["stream_options.include_usage"], "dialect": "openai", "outcome": "completed", "peer_ip": "127.0.0.1", "project": "default", "attempts": 1, "cost_usd": "0.00001035", "decision": "allowed", "fallback": null, "provider": "sandbox", "streamed": true, "client_ip": "127.0.0.1", "logged_at": null, "operation": "chat", "secret_id": "sec_nJKKSkUWvy7XxHSJW5xcnB", "subkey_id": "3bYnTUA36GwnpKPv", "request_id": "req_SW7r0rvD1WNaXJ7I4AcvFa", "user_agent": "Python-urllib/3.11", "would_deny": [], "duration_ms": 4, "overhead_us": 1677, "subkey_name": "live", "input_tokens": 5, "reserved_usd": "0.0000543", "usage_source": "reported", "credential_id": "cred_K3aG60D94QtaRdomis1gnV", "finish_reason": "stop", "first_byte_ms": 2, "output_tokens": 16, "parent_subkey": null, "price_version": "catalog@2026-01-01", "model_reported": null, "model_requested": "sandbox-mini", "policy_versions": {}, "upstream_status": 200, "reasoning_tokens": 0, "cache_write_tokens": 0, "cached_input_tokens": 0, "upstream_request_id": "req_660e5406c1d500000000c"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (1, NULL, '2026-11-22 22:46:45.341965+00', 'owner', 'provider.create', 'sandbox', '{"time": "2026-11-22T22:46:45.341965Z", "actor": "owner", "action": "provider.create", "detail": {"version": 1, "document": {"slug": "sandbox", "dialects": {"gemini": {"auth": "x-goog-api-key", "query": {}, "headers": {}, "base_url": "http://127.84.2.1:8402"}, "openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "http://127.84.2.1:8402/v1"}, "anthropic": {"auth": "x-api-key", "query": {}, "headers": {}, "base_url": "http://127.84.2.1:8402"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "sandbox", "request_id": "req_E2k65lBojwa97g3eqJ84bx"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (2, NULL, '2026-11-22 22:46:45.356355+00', 'owner', 'credential.create', 'cred_K3aG60D94QtaRdomis1gnV', '{"time": "2026-11-22T22:46:45.356355Z", "actor": "owner", "action": "credential.create", "detail": {"name": "main", "projects": null, "provider": "sandbox", "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "cred_K3aG60D94QtaRdomis1gnV", "request_id": "req_sAHUzl914huMIjq6hYr5v9"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (3, NULL, '2026-11-22 22:46:45.374515+00', 'owner', 'subkey.mint', '3bYnTUA36GwnpKPv', '{"time": "2026-11-22T22:46:45.374515Z", "actor": "owner", "action": "subkey.mint", "detail": {"version": 1, "definition": {"name": "live", "owner": null, "labels": {"team": "search"}, "models": ["sandbox/*"], "budgets": [{"window": "total", "alert_at": [], "timezone": "UTC", "limit_usd": "0.01"}, {"window": "month", "alert_at": [], "timezone": "UTC", "limit_usd": "5.00"}], "project": "default", "ip_allow": ["127.0.0.0/8"], "policies": [], "credential": null, "expires_at": null, "not_before": null, "operations": ["*"], "allow_audio": true, "allow_files": true, "allow_store": true, "allow_tools": true, "deny_models": [], "description": null, "rate_limits": [], "allow_images": true, "clamp_output": false, "hosted_tools": [], "may_delegate": false, "service_tiers": ["auto", "default"], "share_objects": false, "strict_fields": false, "provider_order": [], "allow_streaming": true, "clamp_to_budget": false, "max_request_usd": null, "allow_truncation": false, "allow_remote_urls": true, "max_output_tokens": null, "default_max_output_tokens": null}, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "3bYnTUA36GwnpKPv", "request_id": "req_Zw1WjpEDC3dIytSWLoXHNK"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (4, NULL, '2026-11-22 22:46:45.381682+00', 'owner', 'subkey.mint', 'nOKreNdn0eainwkW', '{"time": "2026-11-22T22:46:45.381682Z", "actor": "owner", "action": "subkey.mint", "detail": {"version": 1, "definition": {"name": "revoked", "owner": null, "labels": {"team": "search"}, "models": ["sandbox/*"], "budgets": [{"window": "total", "alert_at": [], "timezone": "UTC", "limit_usd": "0.01"}, {"window": "month", "alert_at": [], "timezone": "UTC", "limit_usd": "5.00"}], "project": "default", "ip_allow": ["127.0.0.0/8"], "policies": [], "credential": null, "expires_at": null, "not_before": null, "operations": ["*"], "allow_audio": true, "allow_files": true, "allow_store": true, "allow_tools": true, "deny_models": [], "description": null, "rate_limits": [], "allow_images": true, "clamp_output": false, "hosted_tools": [], "may_delegate": false, "service_tiers": ["auto", "default"], "share_objects": false, "strict_fields": false, "provider_order": [], "allow_streaming": true, "clamp_to_budget": false, "max_request_usd": null, "allow_truncation": false, "allow_remote_urls": true, "max_output_tokens": null, "default_max_output_tokens": null}, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "nOKreNdn0eainwkW", "request_id": "req_rJqofXF9LHcmOff85P6xf5"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (5, NULL, '2026-11-22 22:46:45.389316+00', 'owner', 'subkey.mint', '9bOvKBvqXeJwRWUQ', '{"time": "2026-11-22T22:46:45.389316Z", "actor": "owner", "action": "subkey.mint", "detail": {"version": 1, "definition": {"name": "suspended", "owner": null, "labels": {"team": "search"}, "models": ["sandbox/*"], "budgets": [{"window": "total", "alert_at": [], "timezone": "UTC", "limit_usd": "0.01"}, {"window": "month", "alert_at": [], "timezone": "UTC", "limit_usd": "5.00"}], "project": "default", "ip_allow": ["127.0.0.0/8"], "policies": [], "credential": null, "expires_at": null, "not_before": null, "operations": ["*"], "allow_audio": true, "allow_files": true, "allow_store": true, "allow_tools": true, "deny_models": [], "description": null, "rate_limits": [], "allow_images": true, "clamp_output": false, "hosted_tools": [], "may_delegate": false, "service_tiers": ["auto", "default"], "share_objects": false, "strict_fields": false, "provider_order": [], "allow_streaming": true, "clamp_to_budget": false, "max_request_usd": null, "allow_truncation": false, "allow_remote_urls": true, "max_output_tokens": null, "default_max_output_tokens": null}, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "9bOvKBvqXeJwRWUQ", "request_id": "req_udlwB4tbfrs2reGrMHB7c9"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (6, NULL, '2026-11-22 22:46:45.476424+00', 'owner', 'subkey.revoke', 'nOKreNdn0eainwkW', '{"time": "2026-11-22T22:46:45.476424Z", "actor": "owner", "action": "subkey.revoke", "detail": {"after": "revoked", "before": "active", "version": 2, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "nOKreNdn0eainwkW", "request_id": "req_Q1rHSjUxniQQxwvPIIb3SK"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (7, NULL, '2026-11-22 22:46:45.484645+00', 'owner', 'subkey.suspend', '9bOvKBvqXeJwRWUQ', '{"time": "2026-11-22T22:46:45.484645Z", "actor": "owner", "action": "subkey.suspend", "detail": {"after": "suspended", "before": "active", "version": 2, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "9bOvKBvqXeJwRWUQ", "request_id": "req_YIBcsrUWQ6YLEbzbdCOaWl"}');
INSERT INTO admin_log OVERRIDING SYSTEM VALUE VALUES (8, NULL, '2026-11-22 22:46:45.501789+00', 'owner', 'model.set', 'sandbox/sandbox-own', '{"time": "2026-11-22T22:46:45.501789Z", "actor": "owner", "action": "model.set", "detail": {"after": {"prices": {"input_per_mtok_usd": "1.00", "output_per_mtok_usd": "2.00"}, "aliases": [], "operations": ["chat"], "capabilities": [], "context_window": 1000, "effective_from": "2026-11-22T22:46:45.489129Z", "max_output_tokens": 100, "bound_covers_reasoning": false}, "before": [], "version": 1, "operator_id": "op_cXXto92Gu7zuwagdiYdl49"}, "target": "sandbox/sandbox-own", "request_id": "req_SLVU64J2Qlxll9mFLIRXWJ"}');
INSERT INTO budget_windows VALUES ('subkey:nOKreNdn0eainwkW/total', '1970-01-01 00:00:00+00', 20700, 0);
INSERT INTO budget_windows VALUES ('subkey:nOKreNdn0eainwkW/month', '2026-11-01 00:00:00+00', 20700, 0);
INSERT INTO budget_windows VALUES ('subkey:9bOvKBvqXeJwRWUQ/total', '1970-01-01 00:00:00+00', 20700, 0);
INSERT INTO budget_windows VALUES ('subkey:9bOvKBvqXeJwRWUQ/month', '2026-11-01 00:00:00+00', 20700, 0);
INSERT INTO budget_windows VALUES ('subkey:3bYnTUA36GwnpKPv/total', '1970-01-01 00:00:00+00', 31050, 0);
INSERT INTO budget_windows VALUES ('subkey:3bYnTUA36GwnpKPv/month', '2026-11-01 00:00:00+00', 31050, 0);
INSERT INTO budgets VALUES ('subkey:3bYnTUA36GwnpKPv/total', 'subkey:3bYnTUA36GwnpKPv', 'total', 10000000, 'UTC', true);
INSERT INTO budgets VALUES ('subkey:3bYnTUA36GwnpKPv/month', 'subkey:3bYnTUA36GwnpKPv', 'month', 5000000000, 'UTC', true);
INSERT INTO budgets VALUES ('subkey:nOKreNdn0eainwkW/total', 'subkey:nOKreNdn0eainwkW', 'total', 10000000, 'UTC', true);
INSERT INTO budgets VALUES ('subkey:nOKreNdn0eainwkW/month', 'subkey:nOKreNdn0eainwkW', 'month', 5000000000, 'UTC', true);
INSERT INTO budgets VALUES ('subkey:9bOvKBvqXeJwRWUQ/total', 'subkey:9bOvKBvqXeJwRWUQ', 'total', 10000000, 'UTC', true);
INSERT INTO budgets VALUES ('subkey:9bOvKBvqXeJwRWUQ/month', 'subkey:9bOvKBvqXeJwRWUQ', 'month', 5000000000, 'UTC', true);
INSERT INTO credential_versions VALUES ('cred_K3aG60D94QtaRdomis1gnV', 1, 1, '\x010100000001bffb6e5614c27010b4450c5951717777ed5715708eae9ee3818d5b4b974e53bee17d61766cc7fef4b1db5e92a5c20e6c8821c9c728f03fbb2f55fcbf', '\x010100000001c69894a24b7332f3b796d8eb1062657b012e525b6cfde1265a079fd5299e809176fd9aa9d2153cbb3e2b6186c177abb67b02d4ec5c67824397ab644252c60725420d4341', '2026-11-22 22:46:45.351465+00');
INSERT INTO credentials VALUES ('cred_K3aG60D94QtaRdomis1gnV', 'sandbox', 'main', 1, NULL, NULL, NULL, 'active', 1, 1, '2026-11-22 22:46:45.351465+00', 'owner');
INSERT INTO keyring VALUES ('kek', '\x0101000000006f42ba8063bd6a56c92bdd3252f8fc730fe7d866462ff7804538308abdaa73c17cd0a0d5a3bd9f935bc29b0e35171955e5bc735b9e03dec28803df7ded048eef6c4146653a26dd9d66680ba9a2a1d15ca5a8db221585ea6846b5fc18531ce7b0f4798fa22b6ac625ccb41cd28fb6082b76b137531114b46672a46d46ec4c15d2cffadda4015179e31aa9fd6a7b01f3c2c9622c2d519d60af42000fa3c554d5dd', '2026-11-22 22:46:45.235419+00');
INSERT INTO meta VALUES ('installation', 'inst_OkvXIf5LQlkVyYHCmfI8om');
INSERT INTO meta VALUES ('provider_seeded/anthropic', 'yes');
INSERT INTO meta VALUES ('provider_seeded/deepseek', 'yes');
INSERT INTO meta VALUES ('provider_seeded/gemini', 'yes');
INSERT INTO meta VALUES ('provider_seeded/mistral', 'yes');
INSERT INTO meta VALUES ('provider_seeded/openai', 'yes');
INSERT INTO meta VALUES ('provider_seeded/openrouter', 'yes');
INSERT INTO meta VALUES ('provider_seeded/qwen', 'yes');
INSERT INTO models VALUES ('sandbox', 'sandbox-own', '2026-11-22 22:46:45.489129+00', 1, '{"prices": {"input_per_mtok_usd": "1.00", "output_per_mtok_usd": "2.00"}, "aliases": [], "operations": ["chat"], "capabilities": [], "context_window": 1000, "effective_from": "2026-11-22T22:46:45.489129Z", "max_output_tokens": 100, "bound_covers_reasoning": false}', '2026-11-22 22:46:45.489129+00');
INSERT INTO operator_tokens VALUES ('ot_8o4JaTNwznddQOnOh6np11', 'op_cXXto92Gu7zuwagdiYdl49', '\xec603453c14b264bbad464c42a90f93ba945e89a59b15416a436fec7f02521f2', '2026-11-22 22:46:45.238842+00', NULL, '2026-11-22 22:46:45.330506+00');
INSERT INTO operators VALUES ('op_cXXto92Gu7zuwagdiYdl49', 'owner', '["owner"]', NULL, '2026-11-22 22:46:45.238842+00', 'local');
INSERT INTO projects VALUES ('default', 'default', '1970-01-01 00:00:00+00');
INSERT INTO providers VALUES ('anthropic', 1, '{"slug": "anthropic", "dialects": {"openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://api.anthropic.com/v1"}, "anthropic": {"auth": "x-api-key", "query": {}, "headers": {}, "base_url": "https://api.anthropic.com"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.31209+00');
INSERT INTO providers VALUES ('deepseek', 1, '{"slug": "deepseek", "dialects": {"openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://api.deepseek.com/v1"}, "anthropic": {"auth": "x-api-key", "query": {}, "headers": {}, "base_url": "https://api.deepseek.com/anthropic"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.314504+00');
INSERT INTO providers VALUES ('gemini', 1, '{"slug": "gemini", "dialects": {"gemini": {"auth": "x-goog-api-key", "query": {}, "headers": {}, "base_url": "https://generativelanguage.googleapis.com"}, "openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://generativelanguage.googleapis.com/v1beta/openai"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.315108+00');
INSERT INTO providers VALUES ('mistral', 1, '{"slug": "mistral", "dialects": {"openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://api.mistral.ai/v1"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.315627+00');
INSERT INTO providers VALUES ('openai', 1, '{"slug": "openai", "dialects": {"openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://api.openai.com/v1"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.316083+00');
INSERT INTO providers VALUES ('openrouter', 1, '{"slug": "openrouter", "dialects": {"openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://openrouter.ai/api/v1"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.31655+00');
INSERT INTO providers VALUES ('qwen', 1, '{"slug": "qwen", "dialects": {"openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.317024+00');
INSERT INTO providers VALUES ('sandbox', 1, '{"slug": "sandbox", "dialects": {"gemini": {"auth": "x-goog-api-key", "query": {}, "headers": {}, "base_url": "http://127.84.2.1:8402"}, "openai": {"auth": "bearer", "query": {}, "headers": {}, "base_url": "http://127.84.2.1:8402/v1"}, "anthropic": {"auth": "x-api-key", "query": {}, "headers": {}, "base_url": "http://127.84.2.1:8402"}}, "timeouts": {"idle_ms": 300000, "total_ms": 3600000, "connect_ms": 5000, "first_byte_ms": 600000}, "deployments": {}, "on_client_gone": "cancel", "supports_stream_options": true}', 'active', '2026-11-22 22:46:45.332067+00');
INSERT INTO secret_use VALUES ('sec_KBAmNWoOdy2sIypd9o17Jp', '9bOvKBvqXeJwRWUQ', '2026-11-22 22:46:45.458108+00');
INSERT INTO secret_use VALUES ('sec_bjF5PEo8aZBQDfWktbMCij', 'nOKreNdn0eainwkW', '2026-11-22 22:46:45.44649+00');
INSERT INTO secret_use VALUES ('sec_nJKKSkUWvy7XxHSJW5xcnB', '3bYnTUA36GwnpKPv', '2026-11-22 22:46:45.464957+00');
INSERT INTO subkey_labels VALUES ('3bYnTUA36GwnpKPv', 'team', 'search');
INSERT INTO subkey_labels VALUES ('nOKreNdn0eainwkW', 'team', 'search');
INSERT INTO subkey_labels VALUES ('9bOvKBvqXeJwRWUQ', 'team', 'search');
INSERT INTO subkey_secrets VALUES ('sec_nJKKSkUWvy7XxHSJW5xcnB', '3bYnTUA36GwnpKPv', '\x625fc1382307184201a16744f7b352547193cdaaf80204021779a2ab5a97a1d0', 1, '2026-11-22 22:46:45.364597+00', NULL);
INSERT INTO subkey_secrets VALUES ('sec_bjF5PEo8aZBQDfWktbMCij', 'nOKreNdn0eainwkW', '\xeb773bb78d1801dd3493da1e5b06a527172aaadd6994e85d4c1a1e5fd1e8bc38', 1, '2026-11-22 22:46:45.377954+00', NULL);
INSERT INTO subkey_secrets VALUES ('sec_KBAmNWoOdy2sIypd9o17Jp', '9bOvKBvqXeJwRWUQ', '\xa86cc17a90438723530fcf6b9abd8f039073a63841ba2e9c3eac1cac5719f486', 1, '2026-11-22 22:46:45.387597+00', NULL);
INSERT INTO subkeys VALUES ('3bYnTUA36GwnpKPv', 'default', 'live', 1, 'active', '{"name": "live", "owner": null, "labels": {"team": "search"}, "models": ["sandbox/*"], "budgets": [{"window": "total", "alert_at": [], "timezone": "UTC", "limit_usd": "0.01"}, {"window": "month", "alert_at": [], "timezone": "UTC", "limit_usd": "5.00"}], "project": "default", "ip_allow": ["127.0.0.0/8"], "policies": [], "credential": null, "expires_at": null, "not_before": null, "operations": ["*"], "allow_audio": true, "allow_files": true, "allow_store": true, "allow_tools": true, "deny_models": [], "description": null, "rate_limits": [], "allow_images": true, "clamp_output": false, "hosted_tools": [], "may_delegate": false, "service_tiers": ["auto", "default"], "share_objects": false, "strict_fields": false, "provider_order": [], "allow_streaming": true, "clamp_to_budget": false, "max_request_usd": null, "allow_truncation": false, "allow_remote_urls": true, "max_output_tokens": null, "default_max_output_tokens": null}', NULL, '2026-11-22 22:46:45.364597+00', 'owner');
INSERT INTO subkeys VALUES ('nOKreNdn0eainwkW', 'default', 'revoked', 2, 'revoked', '{"name": "revoked", "owner": null, "labels": {"team": "search"}, "models": ["sandbox/*"], "budgets": [{"window": "total", "alert_at": [], "timezone": "UTC", "limit_usd": "0.01"}, {"window": "month", "alert_at": [], "timezone": "UTC", "limit_usd": "5.00"}], "project": "default", "ip_allow": ["127.0.0.0/8"], "policies": [], "credential": null, "expires_at": null, "not_before": null, "operations": ["*"], "allow_audio": true, "allow_files": true, "allow_store": true, "allow_tools": true, "deny_models": [], "description": null, "rate_limits": [], "allow_images": true, "clamp_output": false, "hosted_tools": [], "may_delegate": false, "service_tiers": ["auto", "default"], "share_objects": false, "strict_fields": false, "provider_order": [], "allow_streaming": true, "clamp_to_budget": false, "max_request_usd": null, "allow_truncation": false, "allow_remote_urls": true, "max_output_tokens": null, "default_max_output_tokens": null}', NULL, '2026-11-22 22:46:45.377954+00', 'owner');
INSERT INTO subkeys VALUES ('9bOvKBvqXeJwRWUQ', 'default', 'suspended', 2, 'suspended', '{"name": "suspended", "owner": null, "labels": {"team": "search"}, "models": ["sandbox/*"], "budgets": [{"window": "total", "alert_at": [], "timezone": "UTC", "limit_usd": "0.01"}, {"window": "month", "alert_at": [], "timezone": "UTC", "limit_usd": "5.00"}], "project": "default", "ip_allow": ["127.0.0.0/8"], "policies": [], "credential": null, "expires_at": null, "not_before": null, "operations": ["*"], "allow_audio": true, "allow_files": true, "allow_store": true, "allow_tools": true, "deny_models": [], "description": null, "rate_limits": [], "allow_images": true, "clamp_output": false, "hosted_tools": [], "may_delegate": false, "service_tiers": ["auto", "default"], "share_objects": false, "strict_fields": false, "provider_order": [], "allow_streaming": true, "clamp_to_budget": false, "max_request_usd": null, "allow_truncation": false, "allow_remote_urls": true, "max_output_tokens": null, "default_max_output_tokens": null}', NULL, '2026-11-22 22:46:45.387597+00', 'owner');
SELECT pg_catalog.setval('access_log_seq_seq', 7, true);
SELECT pg_catalog.setval('admin_log_seq_seq', 8, true);
ALTER TABLE ONLY _sqlx_migrations
    ADD CONSTRAINT _sqlx_migrations_pkey PRIMARY KEY (version);
ALTER TABLE ONLY access_log
    ADD CONSTRAINT access_log_log_index_key UNIQUE (log_index);
ALTER TABLE ONLY access_log
    ADD CONSTRAINT access_log_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY access_log
    ADD CONSTRAINT access_log_request_id_key UNIQUE (request_id);
ALTER TABLE ONLY access_tags
    ADD CONSTRAINT access_tags_pkey PRIMARY KEY (seq, name);
ALTER TABLE ONLY admin_log
    ADD CONSTRAINT admin_log_log_index_key UNIQUE (log_index);
ALTER TABLE ONLY admin_log
    ADD CONSTRAINT admin_log_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY admissions
    ADD CONSTRAINT admissions_pkey PRIMARY KEY (request_id);
ALTER TABLE ONLY budget_windows
    ADD CONSTRAINT budget_windows_pkey PRIMARY KEY (budget_id, window_start);
ALTER TABLE ONLY budgets
    ADD CONSTRAINT budgets_owner_win_key UNIQUE (owner, win);
ALTER TABLE ONLY budgets
    ADD CONSTRAINT budgets_pkey PRIMARY KEY (id);
ALTER TABLE ONLY credential_versions
    ADD CONSTRAINT credential_versions_pkey PRIMARY KEY (credential_id, secret_version);
ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_pkey PRIMARY KEY (id);
ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_provider_name_key UNIQUE (provider, name);
ALTER TABLE ONLY idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (operator_id, key);
ALTER TABLE ONLY keyring
    ADD CONSTRAINT keyring_pkey PRIMARY KEY (id);
ALTER TABLE ONLY meta
    ADD CONSTRAINT meta_pkey PRIMARY KEY (name);
ALTER TABLE ONLY models
    ADD CONSTRAINT models_pkey PRIMARY KEY (provider, name, effective_from);
ALTER TABLE ONLY operator_tokens
    ADD CONSTRAINT operator_tokens_pkey PRIMARY KEY (id);
ALTER TABLE ONLY operator_tokens
    ADD CONSTRAINT operator_tokens_sha256_key UNIQUE (sha256);
ALTER TABLE ONLY operators
    ADD CONSTRAINT operators_name_key UNIQUE (name);
ALTER TABLE ONLY operators
    ADD CONSTRAINT operators_pkey PRIMARY KEY (id);
ALTER TABLE ONLY projects
    ADD CONSTRAINT projects_pkey PRIMARY KEY (slug);
ALTER TABLE ONLY providers
    ADD CONSTRAINT providers_pkey PRIMARY KEY (slug);
ALTER TABLE ONLY secret_use
    ADD CONSTRAINT secret_use_pkey PRIMARY KEY (secret_id);
ALTER TABLE ONLY subkey_labels
    ADD CONSTRAINT subkey_labels_pkey PRIMARY KEY (subkey_id, key);
ALTER TABLE ONLY subkey_secrets
    ADD CONSTRAINT subkey_secrets_pkey PRIMARY KEY (id);
ALTER TABLE ONLY subkeys
    ADD CONSTRAINT subkeys_pkey PRIMARY KEY (id);
CREATE INDEX access_log_newest ON access_log USING btree ("time", seq);
CREATE INDEX access_log_newest_denied ON access_log USING btree ("time", seq) WHERE (decision = 'denied'::text);
CREATE INDEX access_log_newest_of_client ON access_log USING btree (client_ip, "time", seq);
CREATE INDEX access_log_newest_of_model ON access_log USING btree (model, "time", seq);
CREATE INDEX access_log_newest_of_project ON access_log USING btree (project, "time", seq);
CREATE INDEX access_log_newest_of_provider ON access_log USING btree (provider, "time", seq);
CREATE INDEX access_log_newest_of_subkey ON access_log USING btree (subkey_id, "time", seq);
CREATE INDEX admin_log_newest ON admin_log USING btree ("time", seq);
CREATE INDEX admin_log_newest_of_target ON admin_log USING btree (target, "time", seq);
CREATE INDEX admissions_oldest ON admissions USING btree (admitted_at, request_id);
CREATE INDEX operator_tokens_operator ON operator_tokens USING btree (operator_id);
CREATE INDEX secret_use_subkey ON secret_use USING btree (subkey_id, last_used_at);
CREATE INDEX subkey_labels_value ON subkey_labels USING btree (key, value);
CREATE INDEX subkey_secrets_subkey ON subkey_secrets USING btree (subkey_id);
CREATE UNIQUE INDEX subkeys_live_name ON subkeys USING btree (project, name) WHERE (state <> 'revoked'::text);
CREATE INDEX subkeys_newest ON subkeys USING btree (created_at, id);
CREATE INDEX subkeys_newest_of_project ON subkeys USING btree (project, created_at, id);
ALTER TABLE ONLY access_tags
    ADD CONSTRAINT access_tags_seq_fkey FOREIGN KEY (seq) REFERENCES access_log(seq) ON DELETE CASCADE;
ALTER TABLE ONLY budget_windows
    ADD CONSTRAINT budget_windows_budget_id_fkey FOREIGN KEY (budget_id) REFERENCES budgets(id);
ALTER TABLE ONLY credential_versions
    ADD CONSTRAINT credential_versions_credential_id_fkey FOREIGN KEY (credential_id) REFERENCES credentials(id) ON DELETE CASCADE;
ALTER TABLE ONLY credentials
    ADD CONSTRAINT credentials_provider_fkey FOREIGN KEY (provider) REFERENCES providers(slug);
ALTER TABLE ONLY operator_tokens
    ADD CONSTRAINT operator_tokens_operator_id_fkey FOREIGN KEY (operator_id) REFERENCES operators(id) ON DELETE CASCADE;
ALTER TABLE ONLY subkey_labels
    ADD CONSTRAINT subkey_labels_subkey_id_fkey FOREIGN KEY (subkey_id) REFERENCES subkeys(id) ON DELETE CASCADE;
ALTER TABLE ONLY subkey_secrets
    ADD CONSTRAINT subkey_secrets_subkey_id_fkey FOREIGN KEY (subkey_id) REFERENCES subkeys(id) ON DELETE CASCADE;
ALTER TABLE ONLY subkeys
    ADD CONSTRAINT subkeys_project_fkey FOREIGN KEY (project) REFERENCES projects(slug);
