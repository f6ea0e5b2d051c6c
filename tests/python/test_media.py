"""Pictures and sound by the official `openai` library: what it does straight at the provider, it does here."""

import base64
import struct

import openai
import pytest
from pictures import RED_POINT

PICTURE = ("point.png", base64.b64decode(RED_POINT), "image/png")
OTHER = ("other.png", base64.b64decode(RED_POINT) + bytes(256), "image/png")
SMALL = {"quality": "low", "size": "1024x1024"}
# A second of silence, and a little more.
SOUND = ("silence.wav", b"RIFF" + struct.pack("<I", 52_036) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 24_000, 48_000, 2, 16) + b"data" + struct.pack("<I", 52_000) + bytes(52_000), "audio/wav")  # fmt: skip
SAY = {"voice": "alloy", "input": "Good mörning."}


def test_pictures_are_made_of_a_text(same_openai):
    answer = same_openai(
        lambda client: client.images.generate(model="sandbox-image", prompt="A red point.", n=2, **SMALL)
    )
    assert len(answer.data) == 2 and base64.b64decode(answer.data[0].b64_json).startswith(b"\x89PNG")
    assert answer.usage.output_tokens == answer.usage.output_tokens_details.image_tokens == 2 * 272


def test_a_picture_that_is_billed_by_the_piece_has_no_usage(same_openai):
    answer = same_openai(lambda client: client.images.generate(model="sandbox-image-each", prompt="A red point."))
    assert answer.usage is None and answer.data[0].revised_prompt == "A red point."


def test_a_picture_becomes_clearer_in_a_stream(same_openai):
    events = same_openai(
        lambda client: list(
            client.images.generate(
                model="sandbox-image", prompt="A red point.", stream=True, partial_images=2, **SMALL
            )
        )
    )
    partial, done = "image_generation.partial_image", "image_generation.completed"
    assert [event.type for event in events] == [partial, partial, done]
    assert events[-1].usage.output_tokens == 272 + 200


def test_a_picture_is_edited(same_openai):
    answer = same_openai(
        lambda client: client.images.edit(model="sandbox-image", image=PICTURE, prompt="Make it blüe.", **SMALL)
    )
    assert answer.usage.input_tokens_details.image_tokens > 0


def test_several_pictures_are_edited_behind_a_mask(same_openai):
    answer = same_openai(
        lambda client: client.images.edit(
            model="sandbox-image", image=[PICTURE, OTHER], mask=PICTURE, prompt="Make it blue.", n=2, **SMALL
        )
    )
    assert len(answer.data) == 2


def test_an_edit_is_streamed(same_openai):
    events = same_openai(
        lambda client: list(
            client.images.edit(
                model="sandbox-image", image=[PICTURE], prompt="Blue.", stream=True, partial_images=1, **SMALL
            )
        )
    )
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_picture_is_varied(same_openai):
    answer = same_openai(
        lambda client: client.images.create_variation(model="sandbox-image-each", image=PICTURE, n=2)
    )
    assert len(answer.data) == 2


@pytest.mark.parametrize("sound", ["mp3", "wav", "pcm"])
def test_a_text_is_read_aloud(same_openai, sound):
    spoken = same_openai(
        lambda client: client.audio.speech.create(model="sandbox-tts", response_format=sound, **SAY).content
    )
    assert len(spoken) > 100


def test_speech_is_heard_while_it_is_made(same_openai):
    def act(client):
        with client.audio.speech.with_streaming_response.create(model="sandbox-speech", **SAY) as answer:
            return answer.headers["content-type"], b"".join(answer.iter_bytes())

    kind, spoken = same_openai(act)
    assert kind == "audio/mpeg" and spoken.startswith(b"ID3")


def test_speech_comes_as_events(same_openai):
    def act(client):
        with client.audio.speech.with_streaming_response.create(
            model="sandbox-speech", stream_format="sse", **SAY
        ) as answer:
            return list(answer.iter_lines())

    lines = same_openai(act)
    assert "speech.audio.delta" in lines[0] and any("speech.audio.done" in line for line in lines)


def test_a_sound_is_written_down(same_openai):
    answer = same_openai(lambda client: client.audio.transcriptions.create(model="sandbox-whisper", file=SOUND))
    assert answer.text and answer.usage.type == "duration" and answer.usage.seconds == 2


def test_a_transcript_tells_its_tokens(same_openai):
    answer = same_openai(
        lambda client: client.audio.transcriptions.create(
            model="sandbox-transcribe", file=SOUND, prompt="Names.", language="en", temperature=0.2, include=["logprobs"]
        )
    )
    assert answer.usage.type == "tokens" and answer.usage.input_token_details.audio_tokens == 20


@pytest.mark.parametrize("form", ["text", "srt", "vtt", "verbose_json"])
def test_a_transcript_has_the_form_that_is_asked_for(same_openai, form):
    granular = {"timestamp_granularities": ["word", "segment"]} if form == "verbose_json" else {}
    answer = same_openai(
        lambda client: client.audio.transcriptions.create(
            model="sandbox-whisper", file=SOUND, response_format=form, **granular
        )
    )
    assert answer.duration == 2 if form == "verbose_json" else isinstance(answer, str)


def test_a_transcript_is_streamed(same_openai):
    events = same_openai(
        lambda client: list(
            client.audio.transcriptions.create(model="sandbox-transcribe", file=SOUND, stream=True)
        )
    )
    assert events[-1].type == "transcript.text.done" and events[-1].usage.output_tokens > 0
    assert "".join(event.delta for event in events[:-1]) == events[-1].text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", ["json", "text", "verbose_json"])
def test_a_sound_is_translated(same_openai, form):
    assert same_openai(
        lambda client: client.audio.translations.create(model="sandbox-whisper", file=SOUND, response_format=form)
    )


def test_azures_client_makes_pictures_and_sound(same_azure):
    def act(client):
        made = client.images.generate(model="sandbox-image-ours", prompt="A red point.", **SMALL)
        edited = client.images.edit(model="sandbox-image-ours", image=PICTURE, prompt="Blue.", **SMALL)
        spoken = client.audio.speech.create(model="sandbox-tts-ours", **SAY).content
        heard = client.audio.transcriptions.create(model="sandbox-whisper-ours", file=SOUND)
        return made, edited, spoken, heard

    made, _, _, heard = same_azure(act)
    assert made.data and heard.text


def test_a_key_without_sound_is_refused_as_its_users_catch_it(bitting, mint, openai_at):
    client = openai_at(mint(allow_audio=False, operations=["audio"]))

    def act():
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.audio.transcriptions.create(model="sandbox-whisper", file=SOUND)
        assert refused.value.code == "feature_not_allowed"
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.images.edit(model="sandbox-image", image=PICTURE, prompt="Blue.")
        assert refused.value.code == "operation_not_allowed"

    assert bitting.recorded(act)[1] == [], "the provider has seen it"
