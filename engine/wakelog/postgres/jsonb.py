"""Values as jsonb takes them."""

import json
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel

from wakelog.errors import BadInput
from wakelog.forgotten import Forgotten


def encode(value: Any) -> str:
    """Any value a person would expect to be JSON, as JSON text.

    Takes what orjson takes (dataclasses, datetimes, UUIDs, enums among it), pydantic models and sets.

    Raises:
        BadInput: the value cannot be written as JSON.
    """
    try:
        return orjson.dumps(value, default=more, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"expected a value that can be written as JSON, found {type(value).__name__}: {error}"
        ) from error


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for JSON that Postgres can hold and Python cannot read (nested a thousand deep)."""

    reason: str


def decode(text: str | bytes) -> Any:
    """The value of JSON text. Numbers are ints up to 64 bits, floats, or, beyond those, ints of any size."""
    try:
        return orjson.loads(text)
    except ValueError:
        return json.loads(text, parse_int=_int)


def decode_or_tell(text: str | bytes) -> Any:
    """The value of JSON text, or an `Unreadable`; for rows of which one must not spoil the others."""
    try:
        return decode(text)
    except (ValueError, RecursionError) as error:
        return Unreadable(f"{type(error).__name__}: {error}")


def _int(digits: str) -> int | float:
    # Python refuses to read ints of more than 4,300 digits.
    return int(digits) if len(digits) < 4000 else float(digits)


def more(value: Any) -> Any:
    """What orjson and json do not take themselves. Raises TypeError for what has no JSON form."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Forgotten):
        return value.as_json()
    if isinstance(value, set | frozenset):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"{type(value).__name__} has no JSON form")
