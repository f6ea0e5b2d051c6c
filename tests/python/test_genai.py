"""The official `google-genai` library through Bitting: what it does straight at the provider, it does here."""

import asyncio

import pytest
from google.genai import errors, types
from pictures import RED_POINT
from pydantic import BaseModel

MINI = "sandbox-mini"
HELLO = "Say hello."
USE_THE_TOOL = "How warm is it? Use the tool."


class Weather(BaseModel):
    """What the weather tool wants to know."""

    city: str
    days: int


WEATHER = types.FunctionDeclaration(
    name="weather", description="Tells the weather.", parameters_json_schema=Weather.model_json_schema()
)
WITH_THE_TOOL = types.GenerateContentConfig(tools=[types.Tool(function_declarations=[WEATHER])])


def test_content_is_the_providers(same_genai):
    config = types.GenerateContentConfig(system_instruction="Be brief.", temperature=0.5, seed=7, candidate_count=2)
    answer = same_genai(lambda client: client.models.generate_content(model=MINI, contents=HELLO, config=config))
    assert HELLO in answer.candidates[0].content.parts[0].text and len(answer.candidates) == 2
    assert answer.usage_metadata.total_token_count > answer.usage_metadata.prompt_token_count > 0


def test_a_provider_may_be_named_in_the_model(genai_at, subkey):
    client = genai_at(subkey)
    assert HELLO in client.models.generate_content(model="sandbox/sandbox-mini", contents=HELLO).text


def test_an_output_bound_arrives(same_genai):
    config = types.GenerateContentConfig(max_output_tokens=3)
    answer = same_genai(lambda client: client.models.generate_content(model=MINI, contents=HELLO, config=config))
    assert answer.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS
    assert answer.usage_metadata.candidates_token_count == 3


def test_the_chunks_of_a_stream_are_the_providers(same_genai):
    chunks = same_genai(lambda client: list(client.models.generate_content_stream(model=MINI, contents=HELLO)))
    assert len(chunks) > 1 and HELLO in "".join(chunk.text for chunk in chunks)
    assert chunks[-1].candidates[0].finish_reason == types.FinishReason.STOP
    assert chunks[-1].usage_metadata.candidates_token_count > 0


def test_a_chat_goes_on(same_genai):
    def act(client):
        chat = client.chats.create(model=MINI)
        return chat.send_message(HELLO), list(chat.send_message_stream("Say it again."))

    first, second = same_genai(act)
    assert HELLO in first.text and "Say it again." in "".join(chunk.text for chunk in second)


def test_a_tool_is_called_and_its_result_is_taken(same_genai):
    def act(client):
        ask = dict(model="sandbox-large", config=WITH_THE_TOOL)
        called = client.models.generate_content(contents=USE_THE_TOOL, **ask)
        result = types.Part.from_function_response(name="weather", response={"degrees": 21})
        dialogue = [
            types.UserContent(USE_THE_TOOL),
            called.candidates[0].content,
            types.Content(role="user", parts=[result]),
        ]
        return called, client.models.generate_content(contents=dialogue, **ask)

    called, told = same_genai(act)
    call = called.function_calls[0]
    assert call.name == "weather" and Weather.model_validate(call.args)
    assert told.text and not told.function_calls


def test_a_tool_call_is_streamed(same_genai):
    ask = dict(model="sandbox-large", contents=USE_THE_TOOL, config=WITH_THE_TOOL)
    chunks = same_genai(lambda client: list(client.models.generate_content_stream(**ask)))
    calls = [call for chunk in chunks for call in chunk.function_calls or []]
    assert [call.name for call in calls] == ["weather"] and Weather.model_validate(calls[0].args)


def test_structured_output_is_parsed(same_genai):
    config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Weather)
    ask = dict(model="sandbox-large", contents=HELLO, config=config)
    answer = same_genai(lambda client: client.models.generate_content(**ask))
    assert isinstance(answer.parsed, Weather)


def test_thoughts_come_through(same_genai):
    config = types.GenerateContentConfig(thinking_config=types.ThinkingConfig(include_thoughts=True))
    ask = dict(model="sandbox-reasoning+hidden_reasoning=40", contents=HELLO, config=config)
    whole, chunks = same_genai(
        lambda client: (
            client.models.generate_content(**ask),
            list(client.models.generate_content_stream(**ask)),
        )
    )
    for answer in (whole, chunks[0]):
        assert answer.candidates[0].content.parts[0].thought
    assert whole.usage_metadata.thoughts_token_count == chunks[-1].usage_metadata.thoughts_token_count == 40


def test_a_picture_is_looked_at(same_genai):
    picture = types.Part(inline_data=types.Blob(mime_type="image/png", data=RED_POINT))
    contents = [picture, "Which colour is this?"]
    answer = same_genai(lambda client: client.models.generate_content(model="sandbox-vision", contents=contents))
    assert "Which colour is this?" in answer.text


def test_texts_are_embedded(same_genai):
    config = types.EmbedContentConfig(output_dimensionality=8)
    ask = dict(model="sandbox-embedding", contents=["one text", "another text"])
    whole, short = same_genai(
        lambda client: (client.models.embed_content(**ask), client.models.embed_content(config=config, **ask))
    )
    assert len(whole.embeddings) == len(short.embeddings) == 2
    assert len(short.embeddings[0].values) == 8 < len(whole.embeddings[0].values)


def test_tokens_are_counted(same_genai):
    counted, used = same_genai(
        lambda client: (
            client.models.count_tokens(model=MINI, contents=HELLO),
            client.models.generate_content(model=MINI, contents=HELLO),
        )
    )
    assert counted.total_tokens == used.usage_metadata.prompt_token_count > 0


def test_the_list_of_models_is_what_the_key_may_use(genai_at, subkey, mint):
    whole = genai_at(subkey)  # a client that nobody holds closes itself
    listed = {model.name for model in whole.models.list()}
    assert {f"models/{name}" for name in (MINI, "sandbox-large", "sandbox-embedding")} <= listed
    narrow = genai_at(mint(models=["sandbox/sandbox-mini"]))
    assert [model.name for model in narrow.models.list()] == [f"models/{MINI}"]
    assert narrow.models.get(model=MINI).name == f"models/{MINI}"


def test_the_list_of_models_has_pages(genai_at, subkey):
    client = genai_at(subkey)
    all_at_once = [model.name for model in client.models.list()]
    pages = client.models.list(config={"page_size": 2})
    assert [model.name for model in pages.page] == all_at_once[:2] and len(all_at_once) > 4
    assert [model.name for model in client.models.list(config={"page_size": 2})] == all_at_once
    with pytest.raises(errors.ClientError) as raised:
        client.models.list(config={"page_token": "made-up"})
    assert raised.value.code == 400


def test_the_async_client_works(same_genai):
    def act(client):
        async def asked():
            async with client.aio as asynchronous:
                one = await asynchronous.models.generate_content(model=MINI, contents=HELLO)
                stream = await asynchronous.models.generate_content_stream(model=MINI, contents=HELLO)
                return one, [chunk async for chunk in stream]

        return asyncio.run(asked())

    one, chunks = same_genai(act)
    assert one.text == "".join(chunk.text for chunk in chunks)


@pytest.mark.parametrize(
    ("model", "expected", "status"),
    [
        ("sandbox-mini+status=429", errors.ClientError, 429),
        ("sandbox-mini+status=500", errors.ServerError, 500),
        ("sandbox-mini+status=503", errors.ServerError, 503),
    ],
)
def test_the_providers_errors_are_its_own(same_genai, model, expected, status):
    def act(client):
        with pytest.raises(expected) as raised:
            client.models.generate_content(model=model, contents=HELLO)
        return raised.value.code, raised.value.status, raised.value.message

    assert same_genai(act)[0] == status


def test_refusals_are_client_errors(bitting, genai_at, mint):
    def refused(key, status, word):
        before = bitting.sandbox_bill()["requests"]
        client = genai_at(key)
        with pytest.raises(errors.ClientError) as whole:
            client.models.generate_content(model=MINI, contents=HELLO)
        with pytest.raises(errors.ClientError) as streamed:
            list(client.models.generate_content_stream(model=MINI, contents=HELLO))
        for error in (whole.value, streamed.value):
            assert (error.code, error.status) == (status, word) and key not in str(error)
        assert bitting.sandbox_bill()["requests"] == before

    refused(mint(models=["sandbox/sandbox-large"]), 403, "PERMISSION_DENIED")
    refused("bk_short", 401, "UNAUTHENTICATED")
    spent = mint(rate_limits=[{"metric": "requests", "limit": 1, "per": "day"}])
    client = genai_at(spent)
    client.models.generate_content(model=MINI, contents=HELLO)
    refused(spent, 429, "RESOURCE_EXHAUSTED")
