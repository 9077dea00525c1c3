"""Snapshots of a live projection: the state of a stream every so many versions, so that nobody folds a long one whole.

They are rows of an ordinary projection, which workers fold behind the log: so they have its checkpoint, its versions,
its rebuild, and `wakelog projection verify` compares them with the fold from zero.

How this stays correct
----------------------
A snapshot of version v at position p stands for the versions 1 to v, and these are the stream's events at positions up
to p, no more and no fewer. Versions that were given out by the log come in the order of their positions; those that
somebody wrote into a row by hand may not. So it is asked, and the stream has snapshots up to the first position that is
out of order, and none after it. That depends on the log alone, and not on how many events came at a time: made anew,
the snapshots are the same.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, LiteralString, cast

import psycopg
from pydantic import BaseModel

from wakelog.errors import BadInput
from wakelog.log.event import Event
from wakelog.log.read import read_part
from wakelog.postgres import jsonb
from wakelog.projections.definition import ProjectionDefinition

log = logging.getLogger("wakelog.projections")

TABLE = """
    create table snapshots (
        stream text not null,
        position bigint not null,
        version bigint not null,
        made_by integer not null,
        state json not null,
        primary key (stream, position)
    )
"""
_LAST: LiteralString = """
    select stream, last.version, last.position, last.state::text
    from unnest(%s::text[]) as stream
    cross join lateral (
        select s.version, s.position, s.state from snapshots s
        where s.stream = stream.stream order by s.position desc limit 1) last
"""
_FIRST_OUT_OF_ORDER: LiteralString = """
    select min(o.position)
    from (
        select e.version, l.position, row_number() over (order by l.position) as ordinal
        from wakelog.events e join wakelog.log l on l.seq = e.seq
        where e.stream = %(stream)s and e.version > %(version)s and l.position <= %(upto)s) o
    where o.version <> %(version)s + o.ordinal
"""
_STORE: LiteralString = (
    "insert into snapshots (stream, position, version, made_by, state) values (%s, %s, %s, %s, %s)"
)


def kept(definition: ProjectionDefinition) -> ProjectionDefinition | None:
    """What of a projection is kept in tables: itself; of a live one its snapshots; None where it has none."""
    if definition.mode != "live":
        return definition
    if definition.snapshots is None:
        return None
    return replace(
        definition, kind="batch", mode="async", fold=partial(_take, definition), tables=(TABLE,), initial=None,
        snapshots=None, partition_by="stream",
    )  # fmt: skip


def state_from(definition: ProjectionDefinition, text: str | None) -> Any:
    """The state that a snapshot holds; the first one for None."""
    assert definition.initial is not None
    first = definition.initial()
    if text is None:
        return first
    if isinstance(first, BaseModel):
        return type(first).model_validate_json(text)
    return jsonb.decode(text)


def _take(
    definition: ProjectionDefinition, events: Sequence[Event], connection: psycopg.Connection[Any]
) -> None:
    """Fold, for a batch of the log's events: take the snapshots that have become due."""
    every = definition.snapshots
    assert every is not None
    tops = {
        event.stream: event
        for event in events
        if event.stream is not None and event.version is not None and event.version >= every
    }
    if not tops:
        return
    last = {
        stream: (version, position, state)
        for stream, version, position, state in connection.execute(_LAST, [list(tops)])
    }
    for stream, top in tops.items():
        version, position, state = last.get(stream, (0, 0, None))
        assert top.version is not None
        if top.version - version < every:
            continue
        upto = _in_order(connection, top, version)
        rows = list(_due(definition, connection, top, upto, version, position, state))
        with connection.cursor() as cursor:
            cursor.executemany(_STORE, rows)


def _in_order(connection: psycopg.Connection[Any], top: Event, version: int) -> int:
    """How far the versions after one come in the order of the positions, one by one: to that of `top` at most."""
    assert top.position is not None
    row = connection.execute(
        _FIRST_OUT_OF_ORDER, {"stream": top.stream, "version": version, "upto": top.position}
    ).fetchone()
    return top.position if row is None or row[0] is None else row[0] - 1


def _due(
    definition: ProjectionDefinition,
    connection: psycopg.Connection[Any],
    top: Event,
    upto: int,
    version: int,
    position: int,
    state_text: str | None,
) -> Iterator[tuple[str, int, int, int, str]]:
    """The snapshots of a stream after the last one, up to a position, which is that of `top` at most."""
    every, fold, stream = definition.snapshots, definition.fold, top.stream
    assert every is not None
    assert fold is not None
    assert stream is not None
    state = state_from(definition, state_text)
    for event in read_part(
        connection, stream, after=position, upto=upto, after_version=version, upto_version=top.version,
        types=list(definition.types),
    ):  # fmt: skip
        try:
            state = fold(state, event)
        except psycopg.Error:
            raise
        except Exception:
            # Who asks for the state is told. Nobody is told less because there is no snapshot.
            log.warning(
                'projection "%s": no snapshot of stream "%s", which cannot be folded past position %s',
                definition.name, stream, event.position, exc_info=True,
            )  # fmt: skip
            return
        assert event.version is not None
        assert event.position is not None
        if event.version - version >= every:
            version = event.version
            yield stream, event.position, version, definition.version, _text(definition, state)


def _text(definition: ProjectionDefinition, state: Any) -> str:
    text = (
        state.model_dump_json(by_alias=True, round_trip=True)
        if isinstance(state, BaseModel)
        else jsonb.encode(state)
    )
    again = state_from(definition, text)
    if not _same(again, state):
        raise BadInput(
            f'projection "{definition.name}": expected a state that is the same once it was JSON, found '
            f"{state!r:.200}, which becomes {again!r:.200}",
            hint="Use dicts with text as keys, lists, text, numbers, or a pydantic model, which initial= makes.",
        )
    return text


def _same(again: Any, state: Any) -> bool:
    """Whether they are equal, and of the same types all the way down: a Counter equals a dict, and does otherwise."""
    if type(again) is not type(state):
        return False
    if isinstance(state, dict):
        ours, theirs = cast("dict[Any, Any]", state), cast("dict[Any, Any]", again)
        return ours.keys() == theirs.keys() and all(_same(theirs[name], ours[name]) for name in ours)
    if isinstance(state, list):
        here, there = cast("list[Any]", state), cast("list[Any]", again)
        return len(here) == len(there) and all(map(_same, there, here))
    if isinstance(state, BaseModel):
        return _same(dict(again), dict(state))
    return again == state
