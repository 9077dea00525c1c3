"""What was declared closed: what of it is refused at append, and what the database is told to refuse."""

from typing import Any

from pydantic import ValidationError

from wakelog.errors import DoesNotFit, UnknownType, UnknownVersion, UnreadableEvent
from wakelog.log.models import (
    Declared,
    as_event,
    belongs,
    closed_families,
    declared,
    declared_types,
    first,
    fit,
    problems,
    readable_versions,
    upcast,
)


def check_new(type: str, version: int, payload: Any) -> None:  # noqa: A002
    """Refuse what may not be appended, since it was declared closed.

    Raises:
        UnknownType: the type is not among those of its closed family.
        UnknownVersion: the version cannot be read.
        DoesNotFit: the payload does not fit the model; the message says where.
    """
    known = declared(type)
    family = _family_of(type)
    if known is None:
        if family is None:
            return
        types = ", ".join(_types_of(family))
        raise UnknownType(
            f'expected a type of the closed family "{family}" ({types or "there is none"}), found "{type}"',
            hint=f'Mend the type, or declare it: @event_model("{type}").',
        )
    if known.closed or family is not None:
        _check_payload(known, version, {} if payload is None else payload)


def outcome(type: str, result: Any) -> dict[str, Any]:  # noqa: A002
    """What an agent's answer is stored as, in an event of this type: payload and schema version.

    An agent may always answer; only where its answer has a model and was declared closed, it has to fit.

    Raises:
        DoesNotFit: it does not.
    """
    known = declared(type)
    if known is None:
        return {"payload": result}
    if isinstance(result, known.model):
        result = as_event(result)["payload"]
    check_new(type, known.version, result)
    return {"payload": result, "schema_version": known.version}


def _check_payload(known: Declared, version: int, payload: Any) -> None:
    versions = readable_versions(known.type)
    if version not in versions:
        raise UnknownVersion(
            f'type "{known.type}" is closed: expected version {" or ".join(map(str, versions))}, found {version}',
            hint="Say schema_version=, or declare the upcaster.",
        )
    try:
        fit(known, upcast(known.type, version, payload))
    except UnreadableEvent as error:
        raise DoesNotFit(
            f'type "{known.type}" is closed: {error.args[0]}', hint=error.hint,
            path="payload", expected=f"what the upcaster from version {version} takes", found=payload,
        ) from error.__cause__  # fmt: skip
    except ValidationError as error:
        raise DoesNotFit(
            f'type "{known.type}" is closed: the payload does not fit version {known.version}: {problems(error)}',
            **first(error),
        ) from None


def closings() -> dict[str, tuple[dict[str, list[int]], bool]]:
    """What the database is to refuse: by family, or by type, the types with the versions that can be read, and whether
    there are no others."""
    told = {
        family: ({name: readable_versions(name) for name in _types_of(family)}, True)
        for family in closed_families()
    }
    for each in declared_types():
        if each.closed and each.type not in told:
            told[each.type] = ({each.type: readable_versions(each.type)}, False)
    return told


def _family_of(type_: str) -> str | None:
    return next((name for name in closed_families() if belongs(type_, name)), None)


def _types_of(family: str) -> list[str]:
    return [each.type for each in declared_types() if belongs(each.type, family)]
