"""Event models: what the payload of a type is, in each of its versions, said with pydantic.

Declared for the process, as classes are: whoever reads an event there gets it typed (`Event.data`), whoever appends one
there is held to what was declared closed. Nothing of it costs those who declare nothing.

An event is stored in the version it was appended in, and stays so. Read, its payload goes through the upcasters from
its version to the model's, one version each, and then into the model.
"""

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wakelog.errors import BadInput, DoesNotFit, UnreadableEvent
from wakelog.postgres import jsonb

M = TypeVar("M", bound=type[BaseModel])
Upcaster = Callable[[Any], Any]
U = TypeVar("U", bound=Upcaster)

_MOST_PROBLEMS = 3
"""So many of a payload's problems are told."""


@dataclass(frozen=True, slots=True)
class Declared:
    """A type as it is declared: the version of today, its model, and whether nothing else may be appended."""

    model: type[BaseModel]
    version: int
    closed: bool
    type: str


_types: dict[str, Declared] = {}
_by_model: dict[type[BaseModel], Declared] = {}
_upcasters: dict[tuple[str, int], Upcaster] = {}
_closed_families: set[str] = set()


def event_model(type: str, *, version: int = 1, closed: bool = False) -> Callable[[M], M]:  # noqa: A002
    """Declare a pydantic model as the payload of an event type, in its newest version; decorates the class.

    Where such an event is read, `Event.data` is an instance of it; ``append(connection, OrderPlaced(...))`` and
    ``ctx.emit(OrderPlaced(...))`` take type and version from it. Older versions are read by way of `upcaster`.

    Args:
        type: the event's type.
        version: its `schema_version`, from 1; raise it with each change that older payloads do not fit.
        closed: whether nothing else may be appended as this type: through Python, another version or a payload that
            does not fit; in SQL, once a worker of the application has started, another version (SQLSTATE WL011).

    Raises:
        BadInput: the version is below 1, or another class was declared for the type.
    """

    def declare(model: M) -> M:
        if version < 1:
            raise BadInput(f'type "{type}": expected a version of 1 or more, found {version}')
        before = _types.get(type)
        if before is not None and _name(before.model) != _name(model):
            raise BadInput(
                f'type "{type}" is declared twice, by {_name(before.model)} and {_name(model)}',
                hint="A type has one model, of its newest version; older ones are read by way of @upcaster.",
            )
        _types[type] = _by_model[model] = Declared(model, version, closed, type)
        return model

    return declare


def upcaster(type: str, version: int) -> Callable[[U], U]:  # noqa: A002
    """Declare how a payload of `version` becomes one of the next version; decorates a function of the payload.

    It gets a copy of the payload as it is stored, or what the upcaster before it returned, and returns the new one,
    which may be the one it got, changed. It is called whenever such an event is read, so it is quick, and depends on
    nothing else.

    Raises:
        BadInput: the version is below 1.
    """
    if version < 1:
        raise BadInput(f'type "{type}": expected an upcaster from a version of 1 or more, found {version}')

    def declare(function: U) -> U:
        _upcasters[type, version] = function
        return function

    return declare


def closed_family(name: str) -> None:
    """Declare that there are no types that are, or begin with, these words but those with an `event_model`.

    Appends through Python of another type, of a version that cannot be read, or of a payload that does not fit are
    refused. Once a worker of the application has started, the database refuses other types (SQLSTATE WL009) and other
    versions (WL011) to everybody, raw inserts included.

    Args:
        name: a dotted word or more, such as "order" or "order.item".
    """
    _closed_families.add(name)


def declared(type: str) -> Declared | None:  # noqa: A002
    """What is declared of a type; None for nothing."""
    return _types.get(type)


def declared_types() -> list[Declared]:
    """All that is declared, by type."""
    return [_types[name] for name in sorted(_types)]


def readable_versions(type: str) -> list[int]:  # noqa: A002
    """The versions of a declared type that can be read: that of its model, and those that upcasters lead on from."""
    version = _types[type].version
    versions = [version]
    while (type, versions[0] - 1) in _upcasters:
        versions.insert(0, versions[0] - 1)
    return versions


def newest_version(type: str) -> int:  # noqa: A002
    """The version a payload has where its producer says none: that of the model; 1 where none is declared."""
    known = _types.get(type)
    return 1 if known is None else known.version


def upcast(type: str, version: int, payload: Any) -> Any:  # noqa: A002
    """The payload as the newest version of its type has it; as it is, where no model is declared.

    Raises:
        UnreadableEvent: no way leads from its version to the model's.
    """
    known = _types.get(type)
    if known is None or version == known.version:
        return payload
    if version > known.version:
        raise UnreadableEvent(
            f"{type}: expected version {known.version} or older, found {version}",
            hint="This code is older than whoever appended it.",
        )
    payload = deepcopy(payload)
    for step in range(version, known.version):
        convert = _upcasters.get((type, step))
        if convert is None:
            raise UnreadableEvent(
                f"{type}: expected an upcaster from version {step} to {step + 1}, found none",
                hint=f'Declare it: @upcaster("{type}", {step}).',
            )
        try:
            payload = convert(payload)
        except Exception as error:
            raise UnreadableEvent(
                f"{type}: the upcaster from version {step} to {step + 1} failed: {error.__class__.__name__}: {error}"
            ) from error
    return payload


def parse(type: str, version: int, payload: Any) -> Any:  # noqa: A002
    """The payload as an instance of its type's model; as it is, where none is declared.

    Raises:
        UnreadableEvent: no way leads from its version to the model's, or it does not fit.
    """
    if isinstance(payload, jsonb.Unreadable):
        raise UnreadableEvent(f"{type}: its JSON cannot be read in Python ({payload.reason})")
    known = _types.get(type)
    if known is None:
        return payload
    try:
        return fit(known, upcast(type, version, payload))
    except ValidationError as error:
        raise UnreadableEvent(f"{type} of version {version} does not fit: {problems(error)}") from None


def fit(known: Declared, payload: Any) -> BaseModel:
    """A payload of the newest version as an instance of its model, read as JSON is: a strict model takes a date written
    as text, and the instance shares nothing with the payload.

    Raises:
        pydantic.ValidationError: it does not fit.
    """
    return known.model.model_validate_json(_json(payload))


def stored(value: BaseModel) -> Any:
    """The payload of an instance. What its model computes is not in it: it is computed anew from what is."""
    return value.model_dump(mode="json", by_alias=True, round_trip=True, warnings=False)


def as_event(value: BaseModel) -> dict[str, Any]:
    """Type, version and payload of an instance of a declared model.

    Raises:
        BadInput: its class is not declared.
        DoesNotFit: what it would be stored as cannot be read as one again.
    """
    known = _by_model.get(value.__class__)
    if known is None:
        raise BadInput(
            f"expected the instance of a declared model, found one of {_name(value.__class__)}",
            hint='Declare it: @event_model("its.type").',
        )
    payload = stored(value)
    try:
        again = fit(known, {} if payload is None else payload)
    except ValidationError as error:
        raise DoesNotFit(
            f"this {_name(value.__class__)} cannot be read again from its JSON: {problems(error)}",
            hint="Mend the value, or have the model read the names and values that it writes.",
            **first(error),
        ) from None
    if _said(again) != _said(value):
        raise DoesNotFit(
            f"this {_name(value.__class__)} would be read as another one: expected {value!r:.200}, found "
            f"{again!r:.200}",
            hint="Mend the model: what it leaves out, or writes under another name than it reads, is lost.",
            path="payload", expected=value, found=again,
        )  # fmt: skip
    return {"type": known.type, "schema_version": known.version, "payload": payload}


def forget_models(*types: str) -> None:
    """Take back what was declared of these types and families, or of all. For tests."""
    for name in types or [*_types, *_closed_families, *(name for name, _ in _upcasters)]:
        known = _types.pop(name, None)
        if known is not None:
            _by_model.pop(known.model, None)
        _closed_families.discard(name)
        for key in [key for key in _upcasters if key[0] == name]:
            del _upcasters[key]


def closed_families() -> list[str]:
    """The families declared closed."""
    return sorted(_closed_families)


def belongs(name: str, family: str) -> bool:
    """Whether a type is, or begins with, these words."""
    return name == family or name.startswith(f"{family}.")


def problems(error: ValidationError) -> str:
    """What does not fit, and where, in one sentence."""
    found: list[Mapping[str, Any]] = list(error.errors(include_url=False))
    told = [
        f"{place(problem)}: {problem['msg']}"
        + ("" if problem["type"] == "missing" else f", found {str(problem['input'])[:80]!r}")
        for problem in found[:_MOST_PROBLEMS]
    ]
    more = len(found) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def place(problem: Mapping[str, Any]) -> str:
    """Where in the payload one of pydantic's problems is."""
    return ".".join(["payload", *map(str, problem["loc"])])


def first(error: ValidationError) -> dict[str, Any]:
    """The first of the problems for programs: path, expected, found."""
    problem: Mapping[str, Any] = error.errors(include_url=False)[0]
    return {
        "path": place(problem),
        "expected": problem["msg"],
        "found": None if problem["type"] == "missing" else problem["input"],
    }


def _said(value: BaseModel) -> list[Any]:
    """What there is of it to be stored: no private attributes, and nothing it has computed."""
    return [*(getattr(value, name) for name in value.__class__.model_fields), value.model_extra]


def _name(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def _json(payload: Any) -> str:
    try:
        return jsonb.encode(payload)
    except BadInput:
        # Numbers beyond 64 bits, which jsonb has.
        return json.dumps(payload, default=jsonb.more)
