"""Producers' values on their way into the database, refused here where the database would refuse them later."""

import re
from typing import Any

from wakelog.errors import BadInput
from wakelog.postgres import jsonb

MOST_JSON_BYTES = 255 * 1024 * 1024
"""What fits into one jsonb value."""

# \u0000 that is not itself an escaped backslash followed by u0000.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def json_text(name: str, value: Any) -> str:
    """A value as JSON that jsonb takes. Raises `BadInput` that names it: too large, NUL characters, no JSON."""
    try:
        text = jsonb.encode(value)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error
    # The length in bytes is at least that in characters, and seldom needed.
    if len(text) > MOST_JSON_BYTES // 4 and len(text.encode()) > MOST_JSON_BYTES:
        raise BadInput(
            f"{name}: expected JSON of at most {MOST_JSON_BYTES // 2**20} MB, which is jsonb's limit, found "
            f"{len(text.encode()) / 2**20:.0f} MB",
            hint="Keep the data elsewhere and put a reference to it into the event.",
        )
    if "\\u0000" in text and _NUL.search(text):
        raise BadInput(
            f"{name}: expected JSON without NUL characters (\\u0000), which PostgreSQL cannot store"
        )
    return text
