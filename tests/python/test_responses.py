"""OpenAI's responses by the official `openai` library, and its client of Azure: through Bitting as straight at the provider."""

import openai
import pytest
from openai.types.responses import ResponseTextDeltaEvent
from pydantic import BaseModel

MINI = "sandbox-mini"
USE_THE_TOOL = "How warm is it? Use the tool."
HELLO = [{"role": "user", "content": "Say hello."}]


class Weather(BaseModel):
    """What the weather tool wants to know."""

    city: str
    days: int


WEATHER_TOOL = openai.pydantic_function_tool(Weather, name="weather")["function"] | {"type": "function"}


def test_a_response_is_the_providers(same_openai):
    answer = same_openai(
        lambda client: client.responses.create(
            model=MINI, input="Say hello.", instructions="Be brief.", metadata={"a": "b"}, temperature=0.5
        )
    )
    assert answer.status == "completed" and "Say hello." in answer.output_text
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens > 0


def test_an_output_bound_arrives(same_openai):
    answer = same_openai(lambda client: client.responses.create(model=MINI, input="Say hello.", max_output_tokens=3))
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.usage.output_tokens == 3


def test_the_events_of_a_stream_are_the_providers(same_openai):
    events = same_openai(lambda client: list(client.responses.create(model=MINI, input="Say hello.", stream=True)))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.completed"
    text = "".join(event.delta for event in events if isinstance(event, ResponseTextDeltaEvent))
    assert text == events[-1].response.output_text and events[-1].response.usage.output_tokens > 0


def test_the_stream_helper_works(same_openai):
    def act(client):
        with client.responses.stream(model=MINI, input="Say hello.") as stream:
            return [event.type for event in stream], stream.get_final_response()

    events, final = same_openai(act)
    assert "response.output_text.delta" in events and final.output_text


def test_a_tool_is_called_and_its_result_is_taken(same_openai):
    def act(client):
        ask = dict(model="sandbox-large", tools=[WEATHER_TOOL])
        called = client.responses.create(input=USE_THE_TOOL, **ask)
        call = called.output[-1]
        result = {"type": "function_call_output", "call_id": call.call_id, "output": "21 degrees"}
        carried = [{"role": "user", "content": USE_THE_TOOL}, call.model_dump(exclude_none=True), result]
        chained = client.responses.create(input=[result], previous_response_id=called.id, **ask)
        return called, client.responses.create(input=carried, **ask), chained

    called, carried, chained = same_openai(act)
    call = called.output[-1]
    assert (call.type, call.name) == ("function_call", "weather") and Weather.model_validate_json(call.arguments)
    assert carried.output_text and chained.output_text
    assert chained.previous_response_id == called.id


def test_the_arguments_of_a_tool_are_streamed(same_openai):
    ask = dict(model="sandbox-large", input="Say hello.", tools=[WEATHER_TOOL], tool_choice="required")
    events = same_openai(lambda client: list(client.responses.create(stream=True, **ask)))
    pieces = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
    done = next(event for event in events if event.type == "response.function_call_arguments.done")
    assert len(pieces) > 1 and "".join(pieces) == done.arguments
    assert Weather.model_validate_json(done.arguments)


def test_structured_output_is_parsed(same_openai):
    answer = same_openai(
        lambda client: client.responses.parse(model="sandbox-large", input="Say hello.", text_format=Weather)
    )
    assert isinstance(answer.output_parsed, Weather)


def test_reasoning_comes_through_whole_streamed_and_carried_along(same_openai):
    ask = dict(
        model="sandbox-reasoning+hidden_reasoning=40",
        reasoning={"effort": "low", "summary": "auto"},
        include=["reasoning.encrypted_content"],
        store=False,
    )

    def act(client):
        first = client.responses.create(input="Say hello.", **ask)
        streamed = list(client.responses.create(input="Say hello.", stream=True, **ask))
        carried = [item.model_dump(exclude_none=True) for item in first.output]
        dialogue = [{"role": "user", "content": "Say hello."}, *carried, {"role": "user", "content": "Again."}]
        return first, streamed, client.responses.create(input=dialogue, **ask)

    first, streamed, again = same_openai(act)
    for answer in (first, streamed[-1].response, again):
        assert answer.output[0].type == "reasoning" and answer.output[0].encrypted_content
        assert answer.usage.output_tokens_details.reasoning_tokens == 40


def test_a_kept_response_is_read_listed_chained_and_deleted(same_openai):
    def act(client):
        first = client.responses.create(model=MINI, input="My name is Ada.")
        read = client.responses.retrieve(first.id)
        streamed = list(client.responses.retrieve(first.id, stream=True, starting_after=2))
        items = list(client.responses.input_items.list(first.id, order="asc"))
        chained = client.responses.create(model=MINI, input="Say my name.", previous_response_id=first.id)
        client.responses.delete(first.id)
        return first, read, streamed, items, chained

    first, read, streamed, items, chained = same_openai(act)
    assert read == first and streamed[0].sequence_number == 3
    assert items[0].content[0].text == "My name is Ada."
    assert chained.usage.input_tokens > first.usage.input_tokens


def test_a_background_response_is_polled_and_cancelled(same_openai):
    def act(client):
        ask = dict(model=f"{MINI}+polls=1", input="Say hello.", background=True)
        begun = client.responses.create(**ask)
        polled = [client.responses.retrieve(begun.id) for _ in range(2)]
        other = client.responses.create(**ask)
        return begun, polled, client.responses.cancel(other.id)

    begun, polled, cancelled = same_openai(act)
    assert begun.status == "queued" and polled[-1].status == "completed"
    assert cancelled.status == "cancelled"


def test_input_tokens_are_counted(same_openai):
    counted = same_openai(lambda client: client.responses.input_tokens.count(model=MINI, input="Say hello."))
    used = same_openai(lambda client: client.responses.create(model=MINI, input="Say hello."))
    assert counted.input_tokens == used.usage.input_tokens > 0


def test_a_dialogue_is_compacted(same_openai):
    answer = same_openai(lambda client: client.responses.compact(model=MINI, input="Say hello."))
    assert answer.output[-1].type == "compaction" and answer.output[-1].encrypted_content


def test_what_one_key_made_is_there_for_no_other(bitting, openai_at, subkey, mint):
    mine, other = openai_at(subkey).responses, openai_at(mint()).responses
    made = mine.create(model=MINI, input="Say hello.")
    before = bitting.sandbox_bill()["requests"]
    for attempt in (
        lambda: other.retrieve(made.id),
        lambda: other.delete(made.id),
        lambda: other.cancel(made.id),
        lambda: other.input_items.list(made.id),
        lambda: other.create(model=MINI, input="Go on.", previous_response_id=made.id),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            attempt()
        assert refused.value.code == "object_not_found"
    assert bitting.sandbox_bill()["requests"] == before
    assert mine.retrieve(made.id).id == made.id


def test_a_stream_that_fails_says_so(same_openai):
    events = same_openai(
        lambda client: list(client.responses.create(model=f"{MINI}+fail", input="Say hello.", stream=True))
    )
    assert events[-1].type == "response.failed" and events[-1].response.error.code == "server_error"


def test_a_deleted_response_is_there_for_nobody(openai_at, subkey):
    responses = openai_at(subkey).responses
    made = responses.create(model=MINI, input="Say hello.")
    responses.delete(made.id)
    with pytest.raises(openai.NotFoundError) as refused:
        responses.retrieve(made.id)
    assert refused.value.code == "object_not_found"


def test_the_client_of_azure_chats_whole_and_streamed(same_azure):
    def act(client):
        whole = client.chat.completions.create(model="sandbox-ours", messages=HELLO)
        return whole, list(client.chat.completions.create(model="sandbox-ours", messages=HELLO, stream=True))

    whole, chunks = same_azure(act)
    assert "Say hello." in whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_client_of_azure_embeds(same_azure):
    answer = same_azure(lambda client: client.embeddings.create(model="sandbox-embedding-ours", input="one text"))
    assert answer.data[0].embedding


def test_the_client_of_azure_may_name_the_model_of_another_provider(bitting, azure_at, subkey):
    completions = azure_at(bitting.proxy, subkey).chat.completions
    assert completions.create(model=MINI, messages=HELLO).choices[0].message.content
