"""Which places of a payload are private, and a payload with these closed or opened."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from wakelog.errors import BadInput
from wakelog.forgotten import FORGOTTEN
from wakelog.privacy.envelope import MARK, close, is_envelope, key_of, open_

Key = tuple[int, bytes]
"""The id of a key, and the key."""


@dataclass(frozen=True, slots=True)
class Veiled:
    """A payload as it was read, in which something is, or looks, encrypted."""

    payload: Any


def subjects_of(private: str | Mapping[str, str]) -> list[str]:
    """The subjects whose keys are needed."""
    return [private] if isinstance(private, str) else sorted(set(private.values()))


def closed(payload: Any, private: str | Mapping[str, str], keys: Mapping[str, Key], event: UUID) -> Any:
    """A payload whose private places are encrypted; `payload` is what JSON gives, and is changed.

    `private` is a subject, to whom all of it belongs, or says which places belong to whom: words joined by dots, as in
    "address.street", with numbers for places in lists. Raises `BadInput` for a place that is not there.
    """
    if isinstance(private, str):
        return close(payload, *keys[private], event, "")
    for path, subject in private.items():
        parent, at = _place(payload, path)
        parent[at] = close(parent[at], *keys[subject], event, _pointer(path.split(".")))
    return payload


def expect_places(payload: Any, private: str | Mapping[str, str]) -> None:
    """Raises `BadInput` for a private place that is not in a payload, which is what JSON gives."""
    if not isinstance(private, str):
        for path in private:
            _place(payload, path)


def check_places(private: Mapping[str, str]) -> None:
    """Raises ValueError for a place inside another one."""
    paths = sorted(f"{path}." for path in private)
    for one, next_one in itertools.pairwise(paths):
        if next_one.startswith(one):
            raise ValueError(
                f"expected places apart from each other, found {next_one[:-1]!r} inside {one[:-1]!r}"
            )


def envelopes(payload: Any) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """The envelopes in a payload, in no order, and where each is; without a call for each level, of which JSON may have
    more than Python has calls.
    """
    left: list[tuple[tuple[str, ...], Any]] = [((), payload)]
    while left:
        words, value = left.pop()
        if is_envelope(value):
            yield words, value
        elif isinstance(value, dict):
            inside = cast("dict[Any, Any]", value)
            left += [((*words, str(word)), inner) for word, inner in inside.items()]
        elif isinstance(value, list):
            inside = cast("list[Any]", value)
            left += [((*words, str(at)), inner) for at, inner in enumerate(inside)]


def keys_wanted(payload: Any) -> set[int]:
    """The ids of the keys that a payload needs."""
    return {key_of(envelope) for _, envelope in envelopes(payload)}


def opened(payload: Any, keys: Mapping[int, bytes | None], event: UUID, told: Callable[[str], object]) -> Any:
    """A payload with its private values as they were, as far as these keys open them; None is one that was destroyed.

    Where there is no key the envelope stays. So it does where it does not open, and `told` is.
    """
    for words, envelope in list(envelopes(payload)):
        key_id = key_of(envelope)
        if key_id not in keys:
            continue
        key = keys[key_id]
        value: Any = FORGOTTEN
        if key is not None:
            try:
                value = open_(envelope, key, event, _pointer(words))
            except ValueError as error:
                told(str(error))
                continue
        if not words:
            return value
        parent = payload
        for word in words[:-1]:
            parent = parent[int(word) if isinstance(parent, list) else word]
        parent[int(words[-1]) if isinstance(parent, list) else words[-1]] = value
    return payload


def looks_veiled(text: bytes) -> bool:
    """Whether something in this JSON may be an envelope."""
    return _MARK in text


_MARK = f'"{MARK}"'.encode()


def _pointer(words: tuple[str, ...] | list[str]) -> str:
    """A place in a payload as RFC 6901 writes it."""
    return "".join("/" + word.replace("~", "~0").replace("/", "~1") for word in words)


def _place(payload: Any, path: str) -> tuple[Any, Any]:
    """The object or list that holds a place, and the place in it."""
    *words, last = path.split(".")
    parent: Any = payload
    for word in words:
        parent = parent[_at(parent, word, path)]
    return parent, _at(parent, last, path)


def _at(parent: Any, word: str, path: str) -> Any:
    known: Any = parent
    if isinstance(parent, dict):
        if word in parent:
            return word
        known = ", ".join(parent)  # pyright: ignore[reportUnknownArgumentType]
    elif isinstance(parent, list):
        if word.isdecimal() and int(word) < len(parent):  # pyright: ignore[reportUnknownArgumentType]
            return int(word)
        known = f"a list of {len(parent)}"  # pyright: ignore[reportUnknownArgumentType]
    else:
        known = type(parent).__name__
    raise BadInput(
        f"private: expected {path!r} in the payload, found no {word!r} there (but {known or 'nothing'})"
    )
