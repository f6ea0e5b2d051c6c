"""What providers send and nobody makes up on demand comes through whole: each library reads the same, through Bitting
and straight, from answers that are replayed byte for byte.
"""

import anthropic
import openai
import pytest
from conftest import STRAIGHT_KEY, assert_equal
from google import genai
from google.genai.types import HttpOptions
from mistralai.client import Mistral
from plain import plain
from replay import ANSWERS, Replay

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def replay(bitting):
    running = Replay()
    openai_and_anthropic = {"openai": f"{running.origin}/v1", "anthropic": running.origin, "gemini": running.origin}
    bitting.add_provider("replay", openai_and_anthropic)
    yield running
    running.close()


@pytest.fixture(scope="module")
def clients(bitting, replay, mint):
    """Pairs of clients, through Bitting and straight, for a library."""
    key = mint(models=["replay/*"], hosted_tools=["*"])

    def pair(kind):
        if kind in (openai.OpenAI, anthropic.Anthropic):
            path = "/v1" if kind is openai.OpenAI else ""
            places = (f"{bitting.proxy}/p/replay{path}", key), (f"{replay.origin}{path}", STRAIGHT_KEY)
            return [kind(base_url=url, api_key=secret, max_retries=0) for url, secret in places]
        places = (f"{bitting.proxy}/p/replay", key), (replay.origin, STRAIGHT_KEY)
        if kind is Mistral:
            return [Mistral(server_url=url, api_key=secret) for url, secret in places]
        return [genai.Client(http_options=HttpOptions(base_url=url), api_key=secret) for url, secret in places]

    return pair


@pytest.fixture(scope="module")
def same(clients):
    """Does something with both clients of a library, asserts that both saw the same, and returns it."""

    def both(kind, act):
        through, straight = clients(kind)
        seen, expected = act(through), act(straight)
        assert_equal(plain(seen), plain(expected))
        return seen

    return both


def chat(client, model, stream=False):
    answer = client.chat.completions.create(model=model, messages=HELLO, stream=stream)
    return list(answer) if stream else answer


def first(answer):
    return answer.choices[0].message


CHATS = {
    "logprobs": lambda answer: answer.choices[0].logprobs.content[1].bytes == list(" 🌍".encode()),
    "parallel_tools": lambda answer: [call.id for call in first(answer).tool_calls] == ["call_a", "call_b"],
    "empty_choices": lambda answer: answer.choices == [],
    "reasoning_content": lambda answer: first(answer).reasoning_content == "Two and two.",
    "audio": lambda answer: first(answer).audio.transcript == "Hello.",
    "annotations": lambda answer: first(answer).annotations[0].url_citation.title == "T \u2028 <b>",
    "custom_tool": lambda answer: first(answer).tool_calls[0].custom.input == 'ls -l\n\t"x"',
}


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_completion_is_whatever_the_provider_sends(same, name):
    assert CHATS[name](same(openai.OpenAI, lambda client: chat(client, name)))


def of(field):
    """What a field of the deltas comes to."""
    return lambda chunks: "".join(
        getattr(choice.delta, field, None) or "" for chunk in chunks for choice in chunk.choices if choice.index == 0
    )


def arguments(chunks, index):
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    return "".join(call.function.arguments for call in calls if call.index == index)


STREAMS = {
    "logprobs": lambda chunks: chunks[2].choices[0].logprobs.content[0].logprob == -1e-9,
    "parallel_tools": lambda chunks: arguments(chunks, 1) == '{"city":"\\u00c5bo","days":3}',
    "empty_choices": lambda chunks: [len(chunk.choices) for chunk in chunks] == [0, 1, 1, 1, 0],
    "reasoning_content": lambda chunks: of("reasoning_content")(chunks) == "Two and two.",
    "openrouter": lambda chunks: chunks[0].choices[0].delta.reasoning_details[0]["text"] == "Two",
    "audio": lambda chunks: chunks[1].choices[0].delta.audio.data == "UklGRgAAAABXQVZF",
    "custom_tool": lambda chunks: chunks[1].obfuscation == "Zz9",
    "candidates": lambda chunks: of("content")(chunks) == "Aa",
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_whatever_the_provider_sends(same, name):
    chunks = same(openai.OpenAI, lambda client: chat(client, name, stream=True))
    assert STREAMS[name](chunks)
    assert all(chunk.usage is None for chunk in chunks if name != "reasoning_content")


def test_a_chat_that_fails_on_its_way_fails_with_the_providers_words(same):
    def act(client):
        seen = []
        with pytest.raises(openai.APIError) as raised:
            for chunk in client.chat.completions.create(model="fails", messages=HELLO, stream=True):
                seen.append(chunk)
        with pytest.raises(openai.BadRequestError) as refused:
            chat(client, "fails")
        return seen, raised.value.message, raised.value.body, refused.value.body

    seen, message, _, refused = same(openai.OpenAI, act)
    assert (len(seen), message, refused["param"]) == (1, "The server had an error.", "temperature")


def test_the_items_of_a_response_are_the_providers(same):
    def act(client):
        ask = dict(model="items", input="Say hello.", store=False)
        return client.responses.create(**ask), list(client.responses.create(stream=True, **ask))

    whole, events = same(openai.OpenAI, act)
    assert [item.type for item in whole.output][1:5] == [
        "web_search_call",
        "image_generation_call",
        "code_interpreter_call",
        "mcp_call",
    ]
    assert whole.output_text == "See there." and events[-1].response.output[0].encrypted_content == "gAAAA+/="
    assert [event.sequence_number for event in events] == list(range(len(events)))


@pytest.mark.parametrize("name, last", [("incomplete", "response.incomplete"), ("errs", "error")])
def test_a_response_that_ends_otherwise_ends_as_the_provider_says(same, name, last):
    def act(client):
        return list(client.responses.create(model=name, input="Say hello.", store=False, stream=True))

    assert same(openai.OpenAI, act)[-1].type == last


def test_the_blocks_of_a_message_are_the_providers(same):
    def act(client):
        ask = dict(model="blocks", max_tokens=64, messages=HELLO)
        with client.messages.stream(**ask) as stream:
            events = list(stream)
            return client.messages.create(**ask), events, stream.get_final_message()

    whole, _, streamed = same(anthropic.Anthropic, act)
    assert [block.type for block in whole.content] == [block.type for block in streamed.content]
    assert whole.content[0].signature == streamed.content[0].signature == "EqQBCgIYAhIM+/=="
    assert whole.content[4].citations == streamed.content[4].citations != []
    assert streamed.usage.server_tool_use.web_search_requests == 1


def test_a_message_that_fails_or_is_refused_on_its_way_says_so(same):
    def act(client):
        seen = []
        ask = dict(max_tokens=64, messages=HELLO)
        with pytest.raises(anthropic.APIStatusError) as raised:
            for event in client.messages.create(model="overloads", stream=True, **ask):
                seen.append(event)
        with client.messages.stream(model="refuses", **ask) as stream:
            return seen, raised.value.body, stream.get_final_message()

    seen, body, refused = same(anthropic.Anthropic, act)
    assert len(seen) == 3 and body["error"]["type"] == "overloaded_error" and refused.stop_reason == "refusal"


def test_the_parts_of_content_are_the_providers(same):
    def act(client):
        ask = dict(model="parts", contents="Say hello.")
        chunks = list(client.models.generate_content_stream(**ask))
        return client.models.generate_content(**ask), chunks, client.models.generate_content(**ask | {"model": "blocked"})

    whole, chunks, blocked = same(genai.Client, act)
    parts = whole.candidates[0].content.parts
    assert parts[0].thought and parts[2].thought_signature and parts[4].inline_data.data.startswith(b"\x89PNG")
    assert [part for chunk in chunks for part in chunk.candidates[0].content.parts] == parts
    assert blocked.prompt_feedback.block_reason == "SAFETY" and whole.candidates[0].logprobs_result


def test_the_chunks_of_mistrals_content_are_the_providers(same):
    def act(client):
        ask = dict(model="magistral", messages=HELLO)
        return client.chat.complete(**ask), [event.data for event in client.chat.stream(**ask)]

    whole, chunks = same(Mistral, act)
    assert whole.choices[0].message.content[0].thinking[0].text == "Two and two."
    assert chunks[3].choices[0].delta.tool_calls[0].id == "D681PevKs"


def test_every_answer_is_replayed():
    """An answer that no test reads proves nothing."""
    tested = set(CHATS) | set(STREAMS) | {"fails", "items", "incomplete", "errs", "blocks", "overloads", "refuses"}
    kept = {path.name.split(".")[0] for path in ANSWERS.iterdir()}
    assert kept == tested | {"parts", "blocked", "magistral"}
