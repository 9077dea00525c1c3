"""Values as jsonb takes them."""

from typing import Any

import orjson
from pydantic import BaseModel

from wakelog.errors import BadInput


def encode(value: Any) -> str:
    """Any value a person would expect to be JSON, as JSON text.

    Takes what orjson takes (dataclasses, datetimes, UUIDs, enums among it), pydantic models and sets.

    Raises:
        BadInput: the value cannot be written as JSON.
    """
    try:
        return orjson.dumps(value, default=_more, option=orjson.OPT_NON_STR_KEYS).decode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"expected a value that can be written as JSON, found {type(value).__name__}: {error}") from error


def decode(text: str | bytes) -> Any:
    """The value of JSON text."""
    return orjson.loads(text)


def _more(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, set | frozenset):
        return list(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise TypeError(f"{type(value).__name__} has no JSON form")
