"""The official `openai` library through Bitting: what it does straight at the provider, it does here."""

import asyncio
import base64
import json
import struct

import openai
import pytest
from pictures import RED_POINT_URL
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Say hello."}]


class Weather(BaseModel):
    """What the weather tool wants to know."""

    city: str
    days: int


WEATHER_TOOL = openai.pydantic_function_tool(Weather, name="weather")
USE_THE_TOOL = [{"role": "user", "content": "How warm is it? Use the tool."}]


def test_a_chat_completion_is_the_providers(same_openai):
    answer = same_openai(lambda client: client.chat.completions.create(model="sandbox-mini", messages=HELLO))
    assert "Say hello." in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens > 0


def test_the_key_that_quickstart_prints_works(bitting, openai_at):
    answer = openai_at(bitting.subkey).chat.completions.create(model="sandbox-mini", messages=HELLO)
    assert answer.choices[0].message.content


def test_a_provider_may_be_named_in_the_model(subkey, openai_at):
    answer = openai_at(subkey).chat.completions.create(model="sandbox/sandbox-mini", messages=HELLO)
    assert answer.choices[0].message.content


def test_a_provider_may_be_named_in_the_path(bitting, subkey):
    client = openai.OpenAI(base_url=f"{bitting.proxy}/p/sandbox/v1", api_key=subkey, max_retries=0)
    assert client.chat.completions.create(model="sandbox-mini", messages=HELLO).choices[0].message.content


def test_several_candidates_and_an_output_bound_arrive(same_openai):
    answer = same_openai(
        lambda client: client.chat.completions.create(
            model="sandbox-large", messages=HELLO, n=2, max_completion_tokens=5, temperature=0.5, seed=7
        )
    )
    assert [choice.finish_reason for choice in answer.choices] == ["length", "length"]


def test_a_stream_has_no_usage_unless_the_client_asks(same_openai):
    chunks = same_openai(
        lambda client: list(client.chat.completions.create(model="sandbox-mini", messages=HELLO, stream=True))
    )
    assert "Say hello." in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"
    # Bitting asks the provider for usage to meter it, and takes it out again: no chunk shows a trace.
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert not any("usage" in chunk.model_fields_set for chunk in chunks)


def test_a_stream_has_usage_when_the_client_asks(same_openai):
    chunks = same_openai(
        lambda client: list(
            client.chat.completions.create(
                model="sandbox-mini", messages=HELLO, stream=True, stream_options={"include_usage": True}
            )
        )
    )
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_the_stream_helper_works(same_openai):
    def act(client):
        with client.chat.completions.stream(model="sandbox-mini", messages=HELLO) as stream:
            return [event.type for event in stream], stream.get_final_completion()

    events, final = same_openai(act)
    assert "content.delta" in events and "content.done" in events
    assert final.choices[0].message.content


def test_a_tool_is_called_and_its_result_is_taken(same_openai):
    def act(client):
        ask = dict(model="sandbox-large", tools=[WEATHER_TOOL])
        called = client.chat.completions.create(messages=USE_THE_TOOL, **ask)
        message = called.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21 degrees"}
        told = client.chat.completions.create(messages=[*USE_THE_TOOL, message, result], **ask)
        return called, told

    called, told = same_openai(act)
    call = called.choices[0].message.tool_calls[0]
    assert called.choices[0].finish_reason == "tool_calls" and call.function.name == "weather"
    assert Weather.model_validate_json(call.function.arguments)
    assert told.choices[0].finish_reason == "stop" and told.choices[0].message.content


def test_a_tool_call_is_streamed(same_openai):
    def act(client):
        return list(
            client.chat.completions.create(
                model="sandbox-large", messages=USE_THE_TOOL, tools=[WEATHER_TOOL], tool_choice="required", stream=True
            )
        )

    chunks = same_openai(act)
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert next(piece.function.name for piece in pieces if piece.function.name) == "weather"
    assert Weather.model_validate_json("".join(piece.function.arguments or "" for piece in pieces))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_the_stream_helper_parses_a_tool_call(same_openai):
    def act(client):
        ask = dict(model="sandbox-large", messages=USE_THE_TOOL, tools=[WEATHER_TOOL])
        with client.chat.completions.stream(**ask) as stream:
            return stream.get_final_completion()

    call = same_openai(act).choices[0].message.tool_calls[0]
    assert isinstance(call.function.parsed_arguments, Weather)


def test_structured_output_is_parsed(same_openai):
    answer = same_openai(
        lambda client: client.chat.completions.parse(model="sandbox-large", messages=HELLO, response_format=Weather)
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_a_picture_is_looked_at(same_openai):
    question = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Which colour is this?"},
                {"type": "image_url", "image_url": {"url": RED_POINT_URL, "detail": "low"}},
            ],
        }
    ]
    answer = same_openai(lambda client: client.chat.completions.create(model="sandbox-vision", messages=question))
    assert "Which colour is this?" in answer.choices[0].message.content


def test_embeddings_are_base64_by_default_and_floats_when_asked(same_openai):
    ask = dict(model="sandbox-embedding", input=["one text", "another text"])
    decoded = same_openai(lambda client: client.embeddings.create(**ask))
    floats = same_openai(lambda client: client.embeddings.create(encoding_format="float", **ask))
    raw = same_openai(lambda client: client.embeddings.create(encoding_format="base64", **ask))
    first = raw.data[0].embedding
    unpacked = [value for (value,) in struct.iter_unpack("<f", base64.b64decode(first))] if isinstance(first, str) else first
    assert len(decoded.data) == len(floats.data) == 2
    assert decoded.data[0].embedding == unpacked
    assert all(abs(a - b) < 1e-6 for a, b in zip(floats.data[0].embedding, unpacked, strict=True))
    assert floats.usage.prompt_tokens > 0


def test_legacy_completions_work_streamed_too(same_openai):
    ask = dict(model="sandbox-mini", prompt="Once upon a time", max_tokens=8)
    answer = same_openai(lambda client: client.completions.create(**ask))
    chunks = same_openai(lambda client: list(client.completions.create(stream=True, **ask)))
    assert answer.choices[0].text == "".join(chunk.choices[0].text for chunk in chunks)
    assert all(chunk.usage is None for chunk in chunks)


def test_the_list_of_models_is_what_the_key_may_use(openai_at, subkey, mint):
    listed = {model.id for model in openai_at(subkey).models.list()}
    assert {"sandbox-mini", "sandbox-large", "sandbox-vision", "sandbox-embedding"} <= listed
    narrow = openai_at(mint(models=["sandbox/sandbox-mini"]))
    assert [model.id for model in narrow.models.list()] == ["sandbox-mini"]
    assert narrow.models.retrieve("sandbox-mini").id == "sandbox-mini"


def test_a_client_of_models_may_tell_its_version_and_nothing_unknown(openai_at, subkey):
    client = openai_at(subkey)
    assert client.models.list(extra_query={"client_version": "0.99.0"}).data
    with pytest.raises(openai.BadRequestError) as raised:
        client.models.list(extra_query={"limit": "2"})
    assert raised.value.code == "invalid_body"
    with pytest.raises(openai.BadRequestError):
        client.models.retrieve("sandbox-mini", extra_query={"client_version": "0.99.0"})


def test_the_async_client_works(same_openai):
    def act(client):
        async def asked():
            async with client:
                one = await client.chat.completions.create(model="sandbox-mini", messages=HELLO)
                stream = await client.chat.completions.create(model="sandbox-mini", messages=HELLO, stream=True)
                return one, [chunk async for chunk in stream]

        return asyncio.run(asked())

    one, chunks = same_openai(act, openai.AsyncOpenAI)
    assert one.choices[0].message.content and chunks[-1].choices[0].finish_reason == "stop"


def test_many_at_once_are_each_answered(openai_at, subkey):
    async def ask_many():
        async with openai_at(subkey, openai.AsyncOpenAI) as client:
            asked = [
                client.chat.completions.create(
                    model="sandbox-mini", messages=[{"role": "user", "content": f"number {number}"}]
                )
                for number in range(50)
            ]
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask_many())
    assert all(f"number {number}." in answer.choices[0].message.content for number, answer in enumerate(answers))


def test_the_raw_answer_names_the_request(openai_at, subkey):
    raw = openai_at(subkey).chat.completions.with_raw_response.create(model="sandbox-mini", messages=HELLO)
    assert raw.headers["x-bitting-request-id"]
    assert raw.headers["x-bitting-provider"] == "sandbox" and raw.headers["x-bitting-model"] == "sandbox-mini"
    assert json.loads(raw.text)["object"] == "chat.completion"


def test_a_refusal_comes_through_whole_and_streamed(same_openai):
    ask = dict(model="sandbox-mini+refusal", messages=HELLO)
    whole, chunks = same_openai(
        lambda client: (
            client.chat.completions.create(**ask),
            list(client.chat.completions.create(stream=True, **ask)),
        )
    )
    refusal = whole.choices[0].message.refusal
    assert refusal and refusal == "".join(chunk.choices[0].delta.refusal or "" for chunk in chunks)


def test_cached_and_reasoning_tokens_are_told_as_the_provider_tells_them(same_openai):
    ask = dict(model="sandbox-reasoning+cached=2,hidden_reasoning=40", messages=HELLO)
    usage = same_openai(lambda client: client.chat.completions.create(**ask)).usage
    assert usage.prompt_tokens_details.cached_tokens == 2
    assert usage.completion_tokens_details.reasoning_tokens == 40


def test_a_429_is_tried_again_and_the_provider_is_told(same_openai):
    def act(client):
        with pytest.raises(openai.RateLimitError) as raised:
            trying = client.with_options(max_retries=1).chat.completions
            trying.create(model="sandbox-mini+status=429", messages=HELLO)
        return raised.value.status_code, raised.value.body

    same_openai(act)


def test_a_stream_that_is_left_early_is_left(same_openai):
    def act(client):
        with client.chat.completions.create(
            model="sandbox-mini+tokens=5000,gap=20", messages=HELLO, stream=True
        ) as stream:
            return [chunk for chunk, _ in zip(stream, range(3))]

    assert len(same_openai(act)) == 3
