"""What two answers to the same request have in common: all but the ids and times that the provider makes up."""

import re
import time

from pydantic import BaseModel

MADE_UP_ID = re.compile(r"^([a-z]+)[-_][0-9a-f]{16,}$")
RECENT_SECONDS = 3600


def plain(value):
    """The value as plain data, with made-up ids and the present time blotted out."""
    if isinstance(value, BaseModel):
        return {"class": type(value).__name__} | plain(value.model_dump(mode="json", warnings=False))
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        return MADE_UP_ID.sub(r"\1 id", value)
    if isinstance(value, int) and abs(value - time.time()) < RECENT_SECONDS:
        return "now"
    return value
