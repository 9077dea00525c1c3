"""Event models: what the payload of a type is, in each of its versions, said with pydantic.

Declared for the process, as classes are: whoever reads an event there gets it typed (`Event.data`), whoever appends one
there is held to what was declared closed. Nothing of it costs those who declare nothing.

An event is stored in the version it was appended in, and stays so. Read, its payload goes through the upcasters from
its version to the model's, one version each, and then into the model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wakelog.errors import BadInput, DoesNotFit, UnknownType, UnknownVersion, UnreadableEvent

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
        closed: whether appends through Python of another version, or of a payload that does not fit, are refused.

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

    It gets the payload as it is stored, or as the upcaster before it left it, and returns the new one. It is called
    whenever such an event is read, so it is quick, and depends on nothing else.

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


def closed_families() -> dict[str, dict[str, list[int]]]:
    """The closed families, and of each its types with the versions that can be read."""
    return {
        family: {name: readable_versions(name) for name in sorted(_types) if _belongs(name, family)}
        for family in sorted(_closed_families)
    }


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
    known = _types.get(type)
    if known is None:
        return payload
    current = upcast(type, version, payload)
    try:
        return known.model.model_validate(current)
    except ValidationError as error:
        raise UnreadableEvent(f"{type} of version {version} does not fit: {_problems(error)}") from None


def as_event(value: BaseModel) -> dict[str, Any]:
    """Type, version and payload of an instance of a declared model.

    Raises:
        BadInput: its class is not declared.
    """
    known = _by_model.get(value.__class__)
    if known is None:
        raise BadInput(
            f"expected the instance of a declared model, found one of {_name(value.__class__)}",
            hint='Declare it: @event_model("its.type").',
        )
    return {
        "type": known.type,
        "schema_version": known.version,
        "payload": value.model_dump(mode="json"),
    }


def check_new(type: str, version: int, payload: Any) -> None:  # noqa: A002
    """Refuse what may not be appended, since it was declared closed.

    Raises:
        UnknownType: the type is not among those of its closed family.
        UnknownVersion: the version cannot be read.
        DoesNotFit: the payload does not fit the model; the message says where.
    """
    if not _types and not _closed_families:
        return
    known = _types.get(type)
    family = next((name for name in _closed_families if _belongs(type, name)), None)
    if known is None:
        if family is None:
            return
        types = ", ".join(name for name in sorted(_types) if _belongs(name, family))
        raise UnknownType(
            f'expected a type of the closed family "{family}" ({types or "there is none"}), found "{type}"',
            hint=f'Mend the type, or declare it: @event_model("{type}").',
        )
    if not known.closed and family is None:
        return
    versions = readable_versions(type)
    if version not in versions:
        raise UnknownVersion(
            f'type "{type}" is closed: expected version {" or ".join(map(str, versions))}, found {version}',
            hint="Say schema_version=, or declare the upcaster.",
        )
    try:
        current = upcast(type, version, {} if payload is None else payload)
        known.model.model_validate(current)
    except UnreadableEvent as error:
        raise DoesNotFit(f'type "{type}" is closed: {error.args[0]}', hint=error.hint) from error.__cause__
    except ValidationError as error:
        raise DoesNotFit(f'type "{type}" is closed: the payload does not fit: {_problems(error)}') from None


def forget_models(*types: str) -> None:
    """Take back what was declared of these types and families, or of all. For tests."""
    for name in types or [*_types, *_closed_families, *(name for name, _ in _upcasters)]:
        known = _types.pop(name, None)
        if known is not None:
            _by_model.pop(known.model, None)
        _closed_families.discard(name)
        for key in [key for key in _upcasters if key[0] == name]:
            del _upcasters[key]


def _belongs(name: str, family: str) -> bool:
    return name == family or name.startswith(f"{family}.")


def _name(model: type[BaseModel]) -> str:
    return f"{model.__module__}.{model.__qualname__}"


def _problems(error: ValidationError) -> str:
    found: list[Mapping[str, Any]] = list(error.errors(include_url=False))
    told = [
        f"{'.'.join(['payload', *map(str, problem['loc'])])}: {problem['msg']}"
        + ("" if problem["type"] == "missing" else f", found {str(problem['input'])[:80]!r}")
        for problem in found[:_MOST_PROBLEMS]
    ]
    more = len(found) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")
