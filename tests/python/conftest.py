"""Fixtures: one Bitting for the whole run, and pairs of clients, through it and straight at its sandbox."""

import difflib
import itertools
import os
import pprint

import anthropic
import openai
import pytest
from bitting import Bitting
from google import genai
from google.genai.types import HttpOptions
from mistralai.client import Mistral
from plain import plain
from wire import of_bitting, of_client

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
def genai_at(bitting):
    """Makes a client of Bitting for a key. By default this library tries once."""
    return lambda key: genai.Client(api_key=key, http_options=HttpOptions(base_url=bitting.proxy))


@pytest.fixture(scope="session")
def mistral_at(bitting):
    """Makes a client of Bitting for a key. By default this library tries once."""
    return lambda key: Mistral(api_key=key, server_url=bitting.proxy)


@pytest.fixture(scope="session")
def same(bitting):
    """Does something with a client of Bitting, then with one of the sandbox. Asserts that both saw the same, and that
    the sandbox received the same."""

    def both(act, through, straight):
        seen, arrived = bitting.recorded(lambda: act(through))
        expected, sent = bitting.recorded(lambda: act(straight))
        assert_equal(plain(seen), plain(expected))
        assert_equal(of_bitting(arrived), of_client(sent))
        assert "bk_" not in str(arrived), "the provider has seen the sub-key"
        return seen

    return both


@pytest.fixture(scope="session")
def same_openai(bitting, subkey, same, openai_at):
    """The same with two clients of the OpenAI library."""
    straight = dict(base_url=f"{bitting.sandbox}/v1", api_key=STRAIGHT_KEY, max_retries=0)
    return lambda act, kind=openai.OpenAI: same(act, openai_at(subkey, kind), kind(**straight))


@pytest.fixture(scope="session")
def azure_at():
    """Makes a client of Azure's deployments for an origin and a key."""
    return lambda origin, key: openai.AzureOpenAI(
        azure_endpoint=origin, api_version="2024-10-21", api_key=key, max_retries=0
    )


@pytest.fixture(scope="session")
def same_azure(bitting, mint, same, azure_at):
    """The same with two clients of Azure, where a deployment `sandbox-ours` stands for a model `gpt-house`."""
    houses = {"gpt": "sandbox", "embedding": "sandbox-embedding", "image": "sandbox-image"}
    houses |= {"voice": "sandbox-tts", "ear": "sandbox-whisper"}
    bitting.add_azure("azure", {f"{house}-house": f"{model}-ours" for house, model in houses.items()})
    key = mint(models=["azure/*"])
    return lambda act: same(act, azure_at(bitting.proxy, key), azure_at(bitting.sandbox, STRAIGHT_KEY))


@pytest.fixture(scope="session")
def same_anthropic(bitting, subkey, same, anthropic_at):
    """The same with two clients of the Anthropic library."""
    straight = dict(base_url=bitting.sandbox, api_key=STRAIGHT_KEY, max_retries=0)
    return lambda act, kind=anthropic.Anthropic: same(act, anthropic_at(subkey, kind), kind(**straight))


@pytest.fixture(scope="session")
def same_genai(bitting, subkey, same, genai_at):
    """The same for Google's library."""
    straight = genai.Client(api_key=STRAIGHT_KEY, http_options=HttpOptions(base_url=bitting.sandbox))
    return lambda act: same(act, genai_at(subkey), straight)


@pytest.fixture(scope="session")
def same_mistral(bitting, subkey, same, mistral_at):
    """The same for Mistral's library."""
    return lambda act: same(act, mistral_at(subkey), Mistral(api_key=STRAIGHT_KEY, server_url=bitting.sandbox))


def assert_equal(through, straight):
    """Shows only the lines that differ: these are long."""
    shown = [pprint.pformat(value, width=120).splitlines() for value in (straight, through)]
    assert through == straight, "\n".join(difflib.unified_diff(*shown, "straight", "through Bitting", n=1, lineterm=""))
