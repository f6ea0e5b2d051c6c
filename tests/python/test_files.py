"""Files and moderations by the official libraries: through Bitting as straight at the provider."""

import anthropic
import openai
import pytest
from pictures import RED_POINT_URL

BYTES = b"\x00\xff\r\n--\xfe plain bytes"
PNG = b"\x89PNG\r\n\x1a\n\x00\xff"
BETA = ["files-api-2025-04-14"]


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes("from a path: ä\n".encode())
    return path


def test_openais_files_are_kept_listed_given_back_and_deleted(same_openai, notes):
    def act(client):
        files = client.files
        expires = {"anchor": "created_at", "seconds": 3600}
        made = [
            files.create(file=BYTES, purpose="user_data"),
            files.create(file=("scan.png", PNG, "image/png"), purpose="vision", expires_after=expires),
            files.create(file=notes, purpose="user_data"),
        ]
        listed = [list(files.list(limit=2)), list(files.list(purpose="user_data", order="asc")), files.list().data]
        shown = [files.retrieve(file.id) for file in made]
        contents = [files.content(file.id).read() for file in made]
        deleted = [files.delete(file.id) for file in made]
        return made, listed, shown, contents, deleted, list(files.list())

    made, listed, shown, contents, deleted, left = same_openai(act)
    assert [file.id for file in listed[0]] == [file.id for file in reversed(made)]
    assert [file.id for file in listed[1]] == [made[0].id, made[2].id]
    assert contents == [BYTES, PNG, notes.read_bytes()]
    assert made == shown and made[1].expires_at and made[2].filename == "notes.txt"
    assert all(answer.deleted for answer in deleted) and left == []


def test_openais_files_can_be_named_in_a_request(same_openai):
    def act(client):
        file = client.files.create(file=("a.txt", b"words " * 500), purpose="user_data")
        parts = [{"type": "file", "file": {"file_id": file.id}}, {"type": "text", "text": "What is it?"}]
        chat = client.chat.completions.create(model="sandbox-mini", messages=[{"role": "user", "content": parts}])
        part = {"type": "input_file", "file_id": file.id}
        response = client.responses.create(model="sandbox-mini", input=[{"role": "user", "content": [part]}])
        client.files.delete(file.id)
        return chat, response

    chat, response = same_openai(act)
    assert chat.usage.prompt_tokens > 500 and response.usage.input_tokens > 500


def test_anthropics_files_are_kept_listed_given_back_and_deleted(same_anthropic, notes):
    def act(client):
        files = client.beta.files
        made = [
            files.upload(file=("data.bin", BYTES, "application/octet-stream"), betas=BETA),
            files.upload(file=("scan.png", PNG, "image/png"), expires_in_seconds=3600, betas=BETA),
            client.files.upload(file=notes),
        ]
        listed = [list(files.list(limit=2, betas=BETA)), list(files.list(ids=[made[1].id], betas=BETA))]
        listed.append(list(client.files.list()))
        shown = [files.retrieve_metadata(file.id, betas=BETA) for file in made]
        contents = [files.download(file.id, betas=BETA).read() for file in made]
        source = {"type": "file", "file_id": made[2].id}
        content = [{"type": "document", "source": source}, {"type": "text", "text": "What is it?"}]
        told = client.beta.messages.create(
            model="sandbox-mini", max_tokens=64, messages=[{"role": "user", "content": content}], betas=BETA
        )
        deleted = [files.delete(file.id, betas=BETA) for file in made]
        return made, listed, shown, contents, told, deleted, list(files.list())

    made, listed, shown, contents, told, deleted, left = same_anthropic(act)
    assert [file.id for file in listed[0]] == [file.id for file in reversed(made)]
    assert [[file.id for file in some] for some in listed[1:]] == [[made[1].id], [f.id for f in reversed(made)]]
    assert contents == [BYTES, PNG, notes.read_bytes()] and made[:2] == shown[:2]
    assert told.content[0].text and [answer.id for answer in deleted] == [file.id for file in made] and left == []


def test_files_of_another_key_are_not_found(mint, openai_at, anthropic_at):
    ours, others = mint(), mint()
    file = openai_at(ours).files.create(file=b"ours", purpose="user_data")
    theirs = openai_at(others)
    assert list(theirs.files.list()) == []
    for act in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            act(file.id)
        assert refused.value.code == "object_not_found"
    openai_at(ours).files.delete(file.id)
    file = anthropic_at(ours).files.upload(file=("a.txt", b"ours"))
    with pytest.raises(anthropic.NotFoundError):
        anthropic_at(others).files.retrieve_metadata(file.id)
    assert list(anthropic_at(others).files.list()) == []
    anthropic_at(ours).files.delete(file.id)


def test_moderations_with_and_without_a_model(same_openai):
    parts = [{"type": "text", "text": "violence"}, {"type": "image_url", "image_url": {"url": RED_POINT_URL}}]

    def act(client):
        return [
            client.moderations.create(model="sandbox-moderation", input="some violence"),
            client.moderations.create(input="a word"),
            client.moderations.create(input=["a word", "violence"]),
            client.moderations.create(input=parts),
        ]

    named, unnamed, several, pictures = same_openai(act)
    assert named.results[0].flagged and not unnamed.results[0].flagged
    assert named.model == unnamed.model == "sandbox-moderation"
    assert [result.flagged for result in several.results] == [False, True] and pictures.results[0].flagged
