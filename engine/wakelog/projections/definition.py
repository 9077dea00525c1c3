"""What a projection is: a name, a version, tables, and a fold."""

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from wakelog.errors import BadInput
from wakelog.projections.tables import Tables, table_statements

Mode = Literal["async", "inline", "live"]
OnError = Literal["stop", "skip"]
Kind = Literal["sql", "event", "batch", "live"]
Fold = Callable[..., Any]

_NAME = re.compile(r"[a-z_][a-z0-9_]{0,39}")
_KEY = re.compile(r"stream|correlation|source|(metadata|payload)(\.[^.]+)+")
_TYPES = re.compile(r"([^\s.*#]+|\*|#)(\.([^\s.*#]+|\*|#))*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionDefinition:
    """One projection, checked. Made by :meth:`wakelog.Wakelog.projection`."""

    name: str
    kind: Kind
    fold: Fold | None
    types: tuple[str, ...]
    version: int
    tables: tuple[str, ...]
    statements: tuple[str, ...]
    schema: str
    mode: Mode
    on_error: OnError
    partition_by: str | None
    initial: Callable[[], Any] | None
    """Of a live one: makes the state before the first event."""
    snapshots: int | None
    """Of a live one: after so many versions of a stream its state is stored."""

    def options(self) -> dict[str, object]:
        """As the database reads them (``wakelog.register_projection``)."""
        return {
            "version": self.version,
            "schema": self.schema,
            "kind": self.kind,
            "mode": self.mode,
            "types": list(self.types),
            "tables": list(self.tables),
            "statements": list(self.statements),
            "on_error": self.on_error,
            "partition_by": self.partition_by,
        }


def define_projection(
    name: str,
    *,
    fold: Fold | None,
    sql: "str | Path | Sequence[str] | None",
    on: str | Sequence[str],
    version: int,
    tables: Tables | None,
    schema: str | None,
    mode: Mode,
    batch: bool,
    on_error: OnError,
    partition_by: str | None,
    initial: Callable[[], Any] | None,
    snapshots: int | None = None,
) -> ProjectionDefinition:
    """Check what was said of a projection; BadInput names it, what was expected and what was found."""

    def expect(held: bool, expected: str, found: object) -> None:
        if not held:
            raise BadInput(f'projection "{name}": expected {expected}, found {found!r}')

    expect(bool(_NAME.fullmatch(name)), "a name of a-z, 0-9 and _, of at most 40 characters", name)
    expect(schema is None or bool(_NAME.fullmatch(schema)),
           "a schema of a-z, 0-9 and _, of at most 40 characters", schema)  # fmt: skip
    expect(mode in get_args(Mode), 'mode "async", "inline" or "live"', mode)
    expect(on_error in get_args(OnError), 'on_error "stop" or "skip"', on_error)
    expect(isinstance(version, int) and version >= 1, "a version of 1 or more", version)  # pyright: ignore
    types = (on,) if isinstance(on, str) else tuple(on)
    expect(bool(types) and all(_TYPES.fullmatch(one) for one in types),
           'type patterns of dotted words, "*" (one word) and "#" (any number) in on=', on)  # fmt: skip
    expect(partition_by is None or bool(_KEY.fullmatch(partition_by)),
           "partition_by stream, correlation, source, metadata.<path> or payload.<path>", partition_by)  # fmt: skip
    statements = _statements(sql)
    expect(partition_by is None or mode == "async", "partition_by for mode async only", partition_by)
    expect((fold is None) == bool(statements), "either a function or sql=", "both" if fold else "neither")
    expect(fold is None or callable(fold), "a function", fold)
    expect(not inspect.iscoroutinefunction(fold),
           "a function that is not async, since it waits for nothing but the database", fold)  # fmt: skip
    if mode == "live":
        expect(fold is not None and not batch, "a function of a state and an event for mode live", sql)
        expect(tables is None, "no tables for mode live, which stores nothing", tables)
        expect(initial is not None, "initial=, which makes the first state, for mode live", initial)
        expect(snapshots is None or (type(snapshots) is int and snapshots >= 1),
               "snapshots= after so many versions of a stream, 1 or more", snapshots)  # fmt: skip
        made: tuple[str, ...] = ()
    else:
        expect(initial is None, "initial= for mode live only", initial)
        expect(snapshots is None, "snapshots= for mode live only, the others have their tables", snapshots)
        expect(
            mode != "inline" or bool(statements), "sql= for mode inline: only SQL runs in any producer", fold
        )
        expect(mode != "inline" or on_error == "stop", 'on_error "stop" for mode inline', on_error)
        made = table_statements(name, tables)
        expect(bool(made), "tables=, which it folds into", tables)
    kind: Kind = "live" if mode == "live" else "sql" if statements else "batch" if batch else "event"
    return ProjectionDefinition(
        name=name, kind=kind, fold=fold, types=types, version=version, tables=made, statements=statements,
        schema=schema or name, mode=mode, on_error=on_error, partition_by=partition_by, initial=initial,
        snapshots=snapshots,
    )  # fmt: skip


def _statements(sql: "str | Path | Sequence[str] | None") -> tuple[str, ...]:
    if sql is None:
        return ()
    if isinstance(sql, Path):
        return (sql.read_text(),)
    return (sql,) if isinstance(sql, str) else tuple(sql)
