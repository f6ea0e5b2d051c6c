"""What two answers to the same request have in common: all but the ids and times that the provider makes up."""

import re
import time
from datetime import datetime

from pydantic import BaseModel

MADE_UP_ID = re.compile(r"^([a-z]+)[-_][0-9a-f]{16,}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
RECENT_SECONDS = 3600
# Headers of an answer that a client of Google's sees. Bitting's are its own, and these of a provider stay with it.
NOT_PASSED = {"date", "server", "server-timing", "set-cookie", "transfer-encoding", "x-request-id"}


def plain(value):
    """The value as plain data, with made-up ids and the present time blotted out."""
    if isinstance(value, BaseModel):
        return {"class": type(value).__name__} | plain(value.model_dump(mode="json", warnings=False))
    if isinstance(value, dict):
        if isinstance(response := value.get("sdk_http_response"), dict):
            value = value | {"sdk_http_response": response | {"headers": passed(response.get("headers") or {})}}
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, str) and TIME.match(value):
        return plain(datetime.fromisoformat(value).timestamp())
    if isinstance(value, str):
        return MADE_UP_ID.sub(r"\1 id", value)
    if isinstance(value, (int, float)) and abs(value - time.time()) < RECENT_SECONDS:
        return "now"
    return value


def passed(headers: dict) -> dict:
    """The headers that come from the provider, in any case that a client gave them."""
    names = sorted(name for name in headers if name.lower() not in NOT_PASSED and not name.lower().startswith("x-bitting-"))
    return {name.lower(): headers[name] for name in names}
