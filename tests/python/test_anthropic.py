"""The official `anthropic` library through Bitting: what it does straight at the provider, it does here."""

import asyncio

import anthropic
import pytest
from pictures import RED_POINT

HELLO = [{"role": "user", "content": "Say hello."}]
WEATHER_TOOL = {
    "name": "weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
USE_THE_TOOL = [{"role": "user", "content": "How warm is it? Use the tool."}]


def test_a_message_is_the_providers(same_anthropic):
    answer = same_anthropic(
        lambda client: client.messages.create(
            model="sandbox-mini", max_tokens=64, messages=HELLO, system="Be brief.", stop_sequences=["STOP"]
        )
    )
    assert "Say hello." in answer.content[0].text
    assert answer.stop_reason == "end_turn" and answer.usage.output_tokens > 0


def test_the_key_that_quickstart_prints_works(bitting, anthropic_at):
    answer = anthropic_at(bitting.subkey).messages.create(model="sandbox-mini", max_tokens=64, messages=HELLO)
    assert answer.content[0].text


def test_the_key_may_come_as_a_bearer_token(bitting, subkey):
    client = anthropic.Anthropic(base_url=bitting.proxy, api_key=None, auth_token=subkey, max_retries=0)
    assert client.messages.create(model="sandbox-mini", max_tokens=64, messages=HELLO).content[0].text


def test_an_output_bound_arrives(same_anthropic):
    answer = same_anthropic(
        lambda client: client.messages.create(model="sandbox-mini", max_tokens=3, messages=HELLO)
    )
    assert answer.stop_reason == "max_tokens" and answer.usage.output_tokens == 3


def test_the_events_of_a_stream_are_the_providers(same_anthropic):
    events = same_anthropic(
        lambda client: list(
            client.messages.create(model="sandbox-mini", max_tokens=64, messages=HELLO, stream=True)
        )
    )
    kinds = [event.type for event in events]
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop" and "content_block_delta" in kinds


def test_the_stream_helper_works(same_anthropic):
    def act(client):
        with client.messages.stream(model="sandbox-mini", max_tokens=64, messages=HELLO) as stream:
            return "".join(stream.text_stream), stream.get_final_message()

    text, final = same_anthropic(act)
    assert "Say hello." in text and final.content[0].text == text
    assert final.usage.output_tokens > 0


def test_a_tool_is_used_and_its_result_is_taken(same_anthropic):
    def act(client):
        ask = dict(model="sandbox-large", max_tokens=256, tools=[WEATHER_TOOL])
        used = client.messages.create(messages=USE_THE_TOOL, **ask)
        use = next(block for block in used.content if block.type == "tool_use")
        result = {"type": "tool_result", "tool_use_id": use.id, "content": "21 degrees"}
        dialogue = [
            *USE_THE_TOOL,
            {"role": "assistant", "content": used.content},
            {"role": "user", "content": [result]},
        ]
        return used, client.messages.create(messages=dialogue, **ask)

    used, told = same_anthropic(act)
    use = next(block for block in used.content if block.type == "tool_use")
    assert used.stop_reason == "tool_use" and use.name == "weather" and isinstance(use.input["city"], str)
    assert told.stop_reason == "end_turn"


def test_a_tool_use_is_streamed(same_anthropic):
    def act(client):
        ask = dict(model="sandbox-large", max_tokens=256, tools=[WEATHER_TOOL], tool_choice={"type": "any"})
        with client.messages.stream(messages=HELLO, **ask) as stream:
            return stream.get_final_message()

    final = same_anthropic(act)
    use = next(block for block in final.content if block.type == "tool_use")
    assert final.stop_reason == "tool_use" and isinstance(use.input["city"], str)


def test_a_picture_is_looked_at(same_anthropic):
    question = [
        {
            "role": "user",
            "content": [
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": RED_POINT}},
                {"type": "text", "text": "Which colour is this?"},
            ],
        }
    ]
    answer = same_anthropic(
        lambda client: client.messages.create(model="sandbox-vision", max_tokens=64, messages=question)
    )
    assert "Which colour is this?" in answer.content[0].text


def test_tokens_are_counted(same_anthropic):
    counted = same_anthropic(lambda client: client.messages.count_tokens(model="sandbox-mini", messages=HELLO))
    used = same_anthropic(
        lambda client: client.messages.create(model="sandbox-mini", max_tokens=64, messages=HELLO)
    )
    assert counted.input_tokens == used.usage.input_tokens > 0


def test_the_list_of_models_is_what_the_key_may_use(anthropic_at, subkey, mint):
    listed = {model.id for model in anthropic_at(subkey).models.list()}
    assert {"sandbox-mini", "sandbox-large", "sandbox-vision"} <= listed
    narrow = anthropic_at(mint(models=["sandbox/sandbox-mini"]))
    assert [model.id for model in narrow.models.list()] == ["sandbox-mini"]
    assert narrow.models.retrieve("sandbox-mini").type == "model"


def test_the_list_of_models_has_pages(anthropic_at, subkey):
    client = anthropic_at(subkey)
    all_at_once = [model.id for model in client.models.list().data]
    first = client.models.list(limit=2)
    assert [model.id for model in first.data] == all_at_once[:2] and first.has_more
    assert (first.first_id, first.last_id) == (all_at_once[0], all_at_once[1])
    assert [model.id for model in client.models.list(limit=2)] == all_at_once
    before = client.models.list(limit=2, before_id=all_at_once[3])
    assert [model.id for model in before.data] == all_at_once[1:3] and before.has_more
    with pytest.raises(anthropic.BadRequestError):
        client.models.list(limit=1001)
    with pytest.raises(anthropic.BadRequestError):
        client.models.list(extra_query={"page": "2"})


def test_the_async_client_works(same_anthropic):
    def act(client):
        async def asked():
            async with client:
                one = await client.messages.create(model="sandbox-mini", max_tokens=64, messages=HELLO)
                async with client.messages.stream(model="sandbox-mini", max_tokens=64, messages=HELLO) as stream:
                    return one, await stream.get_final_message()

        return asyncio.run(asked())

    one, streamed = same_anthropic(act, anthropic.AsyncAnthropic)
    assert one.content[0].text == streamed.content[0].text


def test_cached_tokens_are_told_as_the_provider_tells_them(same_anthropic):
    ask = dict(model="sandbox-mini+cached=2,cache_write=1", max_tokens=64)
    system = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    usage = same_anthropic(lambda client: client.messages.create(messages=HELLO, system=system, **ask)).usage
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (2, 1)


def test_a_beta_is_asked_for_as_the_library_asks(same_anthropic):
    ask = dict(model="sandbox-mini", max_tokens=64, messages=HELLO, betas=["context-1m-2025-08-07"])
    answer = same_anthropic(lambda client: client.beta.messages.create(**ask))
    assert "Say hello." in answer.content[0].text


def test_the_providers_error_is_its_own(same_anthropic):
    def act(client):
        with pytest.raises(anthropic.InternalServerError) as raised:
            client.messages.create(model="sandbox-mini+status=500", max_tokens=64, messages=HELLO)
        return raised.value.body

    assert same_anthropic(act)["error"]["type"] == "api_error"
