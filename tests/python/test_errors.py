"""Refusals through the official libraries: each raises the class its users catch, with Bitting's code in it.

Every refusal of Bitting's own is tested to reach nobody: the sandbox counts its requests.
"""

import contextlib
import threading
import time

import anthropic
import httpx2
import openai
import pytest

HELLO = [{"role": "user", "content": "Say hello."}]
# The right form, but for the checksum.
MALFORMED = "bk_0000000000000000_0000000000000000000000000000000000000000000000000"


class OpenAI:
    """How the `openai` library asks, and what it makes of refusals."""

    library = openai
    overdrawn_type = "insufficient_quota"

    def __init__(self, clients):
        self._clients = clients

    def ask(self, key: str, model: str = "sandbox-mini"):
        return self._clients(key).chat.completions.create(model=model, messages=HELLO)

    def stream(self, key: str, model: str):
        return list(self._clients(key).chat.completions.create(model=model, messages=HELLO, stream=True))

    def code(self, error) -> str:
        return error.code

    def type(self, error) -> str:
        return error.type


class Anthropic:
    """How the `anthropic` library asks, and what it makes of refusals."""

    library = anthropic
    overdrawn_type = "billing_error"

    def __init__(self, clients):
        self._clients = clients

    def ask(self, key: str, model: str = "sandbox-mini"):
        return self._clients(key).messages.create(model=model, max_tokens=64, messages=HELLO)

    def stream(self, key: str, model: str):
        ask = dict(model=model, max_tokens=64, messages=HELLO)
        return list(self._clients(key).messages.create(stream=True, **ask))

    def code(self, error) -> str:
        assert error.body["type"] == "error" and error.body["request_id"]
        return error.body["error"]["code"]

    def type(self, error) -> str:
        return error.body["error"]["type"]


@pytest.fixture(params=["openai", "anthropic"])
def dialect(request, openai_at, anthropic_at):
    return OpenAI(openai_at) if request.param == "openai" else Anthropic(anthropic_at)


def received(bitting) -> int:
    """How many requests have reached the sandbox."""
    return bitting.sandbox_bill()["requests"]


@contextlib.contextmanager
def reaches_nobody(bitting):
    before = received(bitting)
    yield
    assert received(bitting) == before


def refusal(dialect, expected, key, model="sandbox-mini"):
    with pytest.raises(expected) as raised:
        dialect.ask(key, model)
    assert key not in str(raised.value.body), "the message shows the key"
    return raised.value


@pytest.mark.parametrize("key", [MALFORMED, "sk-proj-something-else", "bk_short"])
def test_a_wrong_key_is_an_authentication_error(bitting, dialect, key):
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.AuthenticationError, key)
    assert dialect.type(error) == "authentication_error"
    assert dialect.code(error) == "invalid_api_key"
    if dialect.library is openai:
        assert error.body["message"].startswith("Incorrect API key provided")


def test_a_secret_with_one_character_changed_is_an_authentication_error(bitting, dialect, subkey):
    changed = subkey[:-10] + ("a" if subkey[-10] != "a" else "b") + subkey[-9:]
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.AuthenticationError, changed)
    assert dialect.code(error) == "invalid_api_key"


def test_a_model_that_is_not_allowed_is_a_permission_error(bitting, dialect, mint):
    key = mint(models=["sandbox/sandbox-large"])
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.PermissionDeniedError, key)
    assert (dialect.code(error), dialect.type(error)) == ("model_not_allowed", "permission_error")


def test_no_models_at_all_admit_nothing(bitting, dialect, mint):
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.PermissionDeniedError, mint(models=[]))
    assert dialect.code(error) == "model_not_allowed"


def test_an_address_that_is_not_allowed_is_a_permission_error(bitting, dialect, mint):
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.PermissionDeniedError, mint(ip_allow=["192.0.2.0/24"]))
    assert dialect.code(error) == "ip_not_allowed"


def test_one_request_too_many_is_a_rate_limit_error(bitting, dialect, mint):
    key = mint(rate_limits=[{"metric": "requests", "limit": 1, "per": "day"}])
    dialect.ask(key)
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.RateLimitError, key)
    assert (dialect.code(error), dialect.type(error)) == ("rate_limit_exceeded", "rate_limit_error")
    assert int(error.response.headers["retry-after"]) > 0


def test_a_budget_held_by_a_request_in_flight_is_a_rate_limit_error(bitting, dialect, mint):
    bitting.price_per_request("sandbox-mini+hold", "0.05")
    key = mint(budgets=[{"limit_usd": "0.08", "window": "total"}])
    first = threading.Thread(target=dialect.ask, args=(key, "sandbox-mini+hold"))
    first.start()
    try:
        assert httpx2.get(f"{bitting.sandbox}/sandbox/held?count=1", timeout=70).json()["held"] == 1
        with reaches_nobody(bitting):
            began = time.monotonic()
            error = refusal(dialect, dialect.library.RateLimitError, key, "sandbox-mini+hold")
    finally:
        httpx2.post(f"{bitting.sandbox}/sandbox/release")
        first.join()
    assert (dialect.code(error), dialect.type(error)) == ("budget_held", "rate_limit_error")
    assert error.response.headers["retry-after"] == "1"
    assert 1.5 < time.monotonic() - began < 30


def test_a_spent_budget_is_402(bitting, dialect, mint):
    bitting.price_per_request("sandbox-mini+tokens=2", "0.05")
    key = mint(budgets=[{"limit_usd": "0.08", "window": "total"}])
    dialect.ask(key, "sandbox-mini+tokens=2")
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.APIStatusError, key, "sandbox-mini+tokens=2")
    assert error.status_code == 402
    assert (dialect.code(error), dialect.type(error)) == ("budget_exceeded", dialect.overdrawn_type)
    assert error.response.headers["x-should-retry"] == "false"


def test_the_providers_failure_is_an_internal_server_error(dialect, subkey):
    error = refusal(dialect, dialect.library.InternalServerError, subkey, "sandbox-mini+status=500")
    assert error.status_code == 500
    assert "The server had an error" in str(error)


def test_the_providers_rate_limit_is_a_rate_limit_error(dialect, subkey):
    error = refusal(dialect, dialect.library.RateLimitError, subkey, "sandbox-mini+status=429")
    assert "Rate limit reached" in str(error)


def test_the_providers_refusal_of_our_key_is_not_the_applications_fault(dialect, subkey):
    error = refusal(dialect, dialect.library.InternalServerError, subkey, "sandbox-mini+bad_key")
    assert (error.status_code, dialect.code(error)) == (502, "upstream_credential_error")


def test_a_provider_that_hangs_up_is_an_internal_server_error_not_to_be_retried(dialect, subkey):
    error = refusal(dialect, dialect.library.InternalServerError, subkey, "sandbox-mini+close")
    assert (error.status_code, dialect.code(error)) == (502, "upstream_error")
    assert error.response.headers["x-should-retry"] == "false"


def test_a_stream_that_breaks_off_breaks_off_for_the_client(dialect, subkey):
    with pytest.raises((dialect.library.APIError, httpx2.HTTPError)):
        dialect.stream(subkey, "sandbox-mini+cut=4")


def test_a_revoked_key_is_an_authentication_error(bitting, dialect, mint):
    key = mint()
    dialect.ask(key)
    bitting.revoke(key)
    with reaches_nobody(bitting):
        error = refusal(dialect, dialect.library.AuthenticationError, key)
    assert dialect.code(error) == "key_revoked"
