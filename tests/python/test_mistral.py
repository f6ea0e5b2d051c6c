"""The official `mistralai` library through Bitting, in the OpenAI dialect: as straight at the provider."""

import pytest
from mistralai.client import errors
from pydantic import BaseModel

HELLO = [{"role": "user", "content": "Say hello."}]
USE_THE_TOOL = [{"role": "user", "content": "How warm is it? Use the tool."}]


class Weather(BaseModel):
    """What the weather tool wants to know."""

    city: str
    days: int


WEATHER_TOOL = {"type": "function", "function": {"name": "weather", "parameters": Weather.model_json_schema()}}


def test_a_chat_completion_is_the_providers(same_mistral):
    answer = same_mistral(
        lambda client: client.chat.complete(model="sandbox-mini", messages=HELLO, temperature=0.5, max_tokens=64)
    )
    assert "Say hello." in answer.choices[0].message.content and answer.usage.completion_tokens > 0


def test_a_stream_is_the_providers(same_mistral):
    def act(client):
        with client.chat.stream(model="sandbox-mini", messages=HELLO) as events:
            return [event.data for event in events]

    chunks = same_mistral(act)
    assert "Say hello." in "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_tool_is_called_and_its_result_is_taken(same_mistral):
    def act(client):
        ask = dict(model="sandbox-large", tools=[WEATHER_TOOL])
        called = client.chat.complete(messages=USE_THE_TOOL, **ask)
        message = called.choices[0].message
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "21 degrees"}
        return called, client.chat.complete(messages=[*USE_THE_TOOL, message, result], **ask)

    called, told = same_mistral(act)
    call = called.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and Weather.model_validate_json(call.function.arguments)
    assert told.choices[0].message.content


def test_structured_output_is_parsed(same_mistral):
    answer = same_mistral(
        lambda client: client.chat.parse(response_format=Weather, model="sandbox-large", messages=HELLO)
    )
    assert isinstance(answer.choices[0].message.parsed, Weather)


def test_a_refused_model_is_an_error_with_the_code_in_it(mistral_at, mint):
    with pytest.raises(errors.SDKError) as raised:
        mistral_at(mint(models=["sandbox/sandbox-large"])).chat.complete(model="sandbox-mini", messages=HELLO)
    assert raised.value.status_code == 403 and '"model_not_allowed"' in raised.value.body


def test_the_providers_failure_is_its_own(same_mistral):
    def act(client):
        with pytest.raises(errors.SDKError) as raised:
            client.chat.complete(model="sandbox-mini+status=500", messages=HELLO)
        return raised.value.status_code, raised.value.body

    assert same_mistral(act)[0] == 500


def test_the_list_of_models_is_what_the_library_reads(mistral_at, mint):
    client = mistral_at(mint(models=["sandbox/sandbox-mini", "sandbox/sandbox-large"]))
    models = {model.id: model for model in client.models.list().data}
    assert set(models) == {"sandbox-mini", "sandbox-large"}
    assert models["sandbox-mini"].capabilities.completion_chat
    assert client.models.retrieve(model_id="sandbox-mini").id == "sandbox-mini"


def test_a_voice_that_mistral_gives_everybody_is_nobodys_object(same_mistral):
    def act(client):
        with pytest.raises(errors.MistralError) as raised:
            client.audio.speech.complete(model="sandbox-tts", input="Hello.", voice_id="gb_jane_neutral")
        return raised.value.status_code

    # The sandbox reads aloud as OpenAI does, which this library does not take for an answer.
    assert same_mistral(act) == 200


def test_a_voice_that_somebody_made_is_not_found(mistral_at, subkey):
    with pytest.raises(errors.SDKError) as raised:
        mistral_at(subkey).audio.speech.complete(model="sandbox-tts", input="Hello.", voice_id="my-voice")
    assert raised.value.status_code == 404 and '"object_not_found"' in raised.value.body


def test_a_sound_at_a_url_arrives_as_the_library_sends_it(same_mistral):
    """Without a file it sends no form of parts; the sandbox takes no other."""

    def act(client):
        with pytest.raises(errors.SDKError) as raised:
            client.audio.transcriptions.complete(
                model="sandbox-whisper",
                file_url="https://sound.example/a b.mp3?x=1&y=2",
                timestamp_granularities=["segment", "word"],
            )
        return raised.value.status_code, raised.value.body

    assert same_mistral(act)[0] == 400


def test_a_sound_at_a_url_is_refused_where_urls_are(mistral_at, mint):
    with pytest.raises(errors.SDKError) as raised:
        mistral_at(mint(allow_remote_urls=False)).audio.transcriptions.complete(
            model="sandbox-whisper", file_url="https://sound.example/a.mp3"
        )
    assert raised.value.status_code == 403 and '"feature_not_allowed"' in raised.value.body
