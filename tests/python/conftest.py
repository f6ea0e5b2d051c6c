"""Fixtures: one Bitting for the whole run, and pairs of clients, through it and straight at its sandbox."""

import itertools
import os

import anthropic
import openai
import pytest
from bitting import Bitting
from plain import plain

STRAIGHT_KEY = "straight-at-the-sandbox"


@pytest.fixture(scope="session")
def bitting(tmp_path_factory):
    binary = os.environ.get("BITTING_BIN")
    assert binary, "BITTING_BIN names no binary: run these tests by `bash tests/run --python`"
    running = Bitting(binary, tmp_path_factory.mktemp("bitting"))
    yield running
    status = running.stop()
    assert status == 0, f"bitting ended with {status} after SIGTERM; it printed:\n{running.output()}"


@pytest.fixture(scope="session")
def mint(bitting):
    """Mints a sub-key with a name of its own; by default it may use everything the sandbox has."""
    numbers = itertools.count(1)
    return lambda **fields: bitting.mint(f"python-{next(numbers)}", **fields)


@pytest.fixture(scope="session")
def subkey(mint):
    """A sub-key without limits."""
    return mint()


@pytest.fixture(scope="session")
def openai_at(bitting):
    """Makes a client of Bitting for a key. It never retries: each test sees the first answer."""
    return lambda key, kind=openai.OpenAI: kind(base_url=f"{bitting.proxy}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="session")
def anthropic_at(bitting):
    """Makes a client of Bitting for a key. It never retries: each test sees the first answer."""
    return lambda key, kind=anthropic.Anthropic: kind(base_url=bitting.proxy, api_key=key, max_retries=0)


@pytest.fixture(scope="session")
def same_openai(bitting, subkey, openai_at):
    """Does something with a client of Bitting, then with one of the sandbox; asserts that both saw the same."""
    straight = dict(base_url=f"{bitting.sandbox}/v1", api_key=STRAIGHT_KEY, max_retries=0)

    def same(act, kind=openai.OpenAI):
        return both(act, openai_at(subkey, kind), kind(**straight))

    return same


@pytest.fixture(scope="session")
def same_anthropic(bitting, subkey, anthropic_at):
    """The same for the Anthropic library."""
    straight = dict(base_url=bitting.sandbox, api_key=STRAIGHT_KEY, max_retries=0)

    def same(act, kind=anthropic.Anthropic):
        return both(act, anthropic_at(subkey, kind), kind(**straight))

    return same


def both(act, through, straight):
    seen = act(through)
    assert plain(seen) == plain(act(straight))
    return seen
