"""Where two JSON values differ, place by place."""

from collections.abc import Iterator
from typing import Any, cast

from wakelog.forgotten import FORGOTTEN
from wakelog.privacy.envelope import is_envelope

_ABSENT = object()


def by_path(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: the place, as words joined by dots, what is there in one, and in the other.

    None stands for what is not there. What was private in the old one, and cannot be read here, differs from nothing.
    """
    if (old is FORGOTTEN or is_envelope(old)) and new is not _ABSENT:
        return  # what it was, nobody here can say
    was, now = _places(old), _places(new)
    if was is not None and now is not None and isinstance(old, dict) == isinstance(new, dict):
        for name in dict.fromkeys([*was, *now]):
            place = f"{path}.{name}" if path else name
            yield from by_path(was.get(name, _ABSENT), now.get(name, _ABSENT), place)
    elif isinstance(old, bool) != isinstance(new, bool) or old != new:
        yield path, None if old is _ABSENT else old, None if new is _ABSENT else new


def _places(value: Any) -> dict[str, Any] | None:
    """What an object or an array holds, by name or number; None for any other value."""
    if isinstance(value, dict):
        return cast("dict[str, Any]", value)
    if isinstance(value, list):
        return {str(n): each for n, each in enumerate(cast("list[Any]", value))}
    return None
