"""What reached the provider: through Bitting, the request that the client made, but for what a proxy must change.

Method, path, query and body are compared byte for byte, but for ids that a provider made up before.
"""

import base64
import re

# The client's business with the server that it talks to. Everything else that it sends must arrive.
NOT_SENT_ON = {"accept-encoding", "accept-language", "connection", "cookie", "sec-fetch-mode"}
# Where a key may stand. The provider's may stand elsewhere than the sub-key did.
CREDENTIALS = {"authorization", "x-api-key", "x-goog-api-key", "api-key"}
MADE_UP_ID = re.compile(r"\b(resp|chatcmpl|msg|call|toolu|fc|rs|file)([-_])[0-9a-f]{16,}")
# Without it a stream reports no usage, so Bitting asks for it, in front, where the client does not.
USAGE_ASKED = '"stream_options":{"include_usage":true},'
# A model in a path is written anew: whatever some server could read as something else is escaped.
ESCAPED = str.maketrans({"+": "%2B", "=": "%3D", ",": "%2C"})
# What separates the parts of a form, which a client makes up for each.
BOUNDARY = re.compile(r"boundary=([^;]+)")
# Lists that Bitting answers from its own record.
ANSWERED_HERE = {("GET", "/v1/files")}
STREAMED_CHAT = re.compile(r"/(chat/)?completions$")


def essence(request: dict) -> dict:
    request = with_plain_boundary(request)
    headers = [(name, value) for name, value in request["headers"] if name not in CREDENTIALS | NOT_SENT_ON]
    keys = [value for name, value in request["headers"] if name in CREDENTIALS]
    return {
        "method": request["method"],
        "path": without_ids(request["path"]),
        "query": request["query"],
        "headers": sorted(headers),
        "keys": len(keys),
        "body": without_ids(request["body"]),
        "body_base64": request.get("body_base64"),
        "body_bytes": request["body_bytes"],
    }


def with_plain_boundary(request: dict) -> dict:
    kind = dict(request["headers"]).get("content-type", "")
    found = BOUNDARY.search(kind)
    if not found:
        return request
    ours, plain = found[1].encode(), b"b" * len(found[1])
    headers = [(name, value.replace(found[1], plain.decode())) for name, value in request["headers"]]
    changed = {"headers": headers, "body": request["body"].replace(found[1], plain.decode())}
    if request.get("body_base64"):
        changed["body_base64"] = base64.b64decode(request["body_base64"]).replace(ours, plain)
    return request | changed


def as_sent_on(request: dict) -> dict:
    """The request as Bitting has to write it: a model's name in a path escaped, and usage asked for."""
    request = request | {"path": request["path"].translate(ESCAPED)}
    body = request["body"]
    compact = re.sub(r'"(stream)"\s*:\s*true', r'"\1":true', body)
    if not STREAMED_CHAT.search(request["path"]) or '"stream":true' not in compact or '"stream_options"' in body:
        return request
    length = request["body_bytes"] + len(USAGE_ASKED)
    headers = [(name, str(length)) if name == "content-length" else (name, value) for name, value in request["headers"]]
    return request | {"body": "{" + USAGE_ASKED + body[1:], "body_bytes": length, "headers": headers}


def without_ids(text: str) -> str:
    return MADE_UP_ID.sub(r"\1\2id", text)


def of_bitting(requests: list) -> list:
    """What the sandbox recorded of a client of Bitting, as it is compared."""
    return [essence(request) for request in requests]


def of_client(requests: list) -> list:
    """What the sandbox recorded of a client of its own: what must come through Bitting too."""
    sent_on = [request for request in requests if (request["method"], request["path"]) not in ANSWERED_HERE]
    return [essence(as_sent_on(request)) for request in sent_on]
