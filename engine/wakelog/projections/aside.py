"""Tables of a projection beside those that serve, to look at or to compare, which go when the look is over.

How this stays correct
----------------------
      make --> a build in the database, and in a transaction that stays open the lock on it --> drop, or leave
                          |
                          `--> the process or its connection has gone: so has the lock, and whoever comes next drops it

The lock is there before anybody sees the build, and goes with its last row. It is held by a transaction of a connection
of its own, not by a session, so that it means the same behind a pooler that lends sessions for one transaction each.

What is made is noted before it is committed, and the end of the block drops all that is noted. So there is no moment
at which a Ctrl-C leaves something behind; what a second one does, during that end, is for whoever comes next.
"""

import weakref
from contextlib import suppress
from types import TracebackType
from typing import Any, LiteralString, Self

import psycopg
from psycopg import Connection, sql
from psycopg.pq import TransactionStatus

from wakelog.errors import BadInput, WakelogError
from wakelog.postgres.connect import connect, prepare_nothing_behind_a_pooler
from wakelog.projections.builds import Build, build, call
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.rebuilding import drop_left_behind, known, serving

# Timeouts are for transactions that nobody needs any more. (Not every server has all of them.)
# The number is written into the statement. With a parameter, it would keep its snapshot until the next one in the same
# transaction (a portal that can be read on from), and with it every version of every row, in all of the database.
_LOCK: LiteralString = """
    select pg_advisory_xact_lock(wakelog.lock_space('projection'), {number}),
           (select count(set_config(s.name, '0', true)) from pg_settings s
            where s.name in ('idle_in_transaction_session_timeout', 'transaction_timeout'))
"""
_DROP: LiteralString = """
    select wakelog.drop_build(b.id) from wakelog.projection_builds b where b.id = %s and b.state = 'aside'
"""
_FORGET: LiteralString = "select wakelog.forget_build(%s)"


class LookAside:
    """Makes builds that will not serve, and drops them when the block ends, however it ends."""

    def __init__(
        self, connection: Connection[Any], url: str, name: str, definition: ProjectionDefinition | None
    ) -> None:
        """``connection``, in autocommit, makes the tables; ``url`` leads to the same database as the same role."""
        self._connection = connection
        self._name = name
        self._definition = definition
        self._made = _Made(url)
        # Ctrl-C may come when the end of the block has begun and not yet done anything.
        self._after_all = weakref.finalize(self, self._made.drop_quietly)

    def __enter__(self) -> Self:
        return self

    def make(self, upto: int | None, schema: str | None = None) -> Build:
        """A build with empty tables, of the version that serves, to be folded up to a position; None: to any.

        Raises:
            UnknownProjection: there is none of that name.
            BadInput: nothing serves yet; or its fold is in Python and no definition was given, or another version's.
            DatabaseUnreachable: no further connection can be had.
        """
        prepare_nothing_behind_a_pooler(self._connection)
        found = serving(known(self._connection, self._name, self._definition), self._name)
        if self._definition is not None and self._definition.version != found.version:
            raise BadInput(
                f'projection "{self._name}": expected version {found.version}, which serves, in the application, '
                f"found version {self._definition.version}"
            )
        drop_left_behind(self._connection, self._name)
        with self._connection.transaction():
            number = call(
                self._connection, "select wakelog.copy_build(%s, true, %s, %s)", [found.build, schema, upto]
            )
            self._made.note(number)
            call(self._connection, "select wakelog.make_tables(%s)", [number])
        return build(self._connection, number)

    def drop(self, one: Build) -> None:
        """Drop what was made, before the block ends."""
        self._made.end(one.build, _DROP)

    def leave(self, one: Build) -> None:
        """Leave the tables of a build to the caller; they are no longer a projection's."""
        self._made.end(one.build, _FORGET)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._made.drop()
        except KeyboardInterrupt:
            # The first one, perhaps, which came only now.
            self._made.drop()
            raise
        self._after_all.detach()


class _Made:
    """The builds that are to be dropped, and the connection that has the locks on them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._holder: Connection[Any] | None = None
        self._numbers: list[int] = []

    def note(self, number: int) -> None:
        """Hold the lock on a build that nobody else sees yet."""
        self._numbers.append(number)
        self._open().execute(sql.SQL(_LOCK).format(number=number))

    def end(self, number: int, how: LiteralString) -> None:
        """Drop one, or forget it."""
        holder = self._open()
        # In the transaction that has the lock, unless something was cut off in the middle of it.
        if holder.info.transaction_status not in (TransactionStatus.INTRANS, TransactionStatus.IDLE):
            holder.rollback()
        call(holder, how, [number])
        holder.commit()
        self._numbers = [other for other in self._numbers if other != number]

    def drop(self) -> None:
        """Drop all that are left; as often as one likes."""
        for number in reversed(self._numbers):
            try:
                self.end(number, _DROP)
            except psycopg.OperationalError:
                # Whoever cut off the connection that had the lock need not have the last word.
                if self._holder is None or not self._holder.closed:
                    raise
                self.end(number, _DROP)
        if self._holder is not None:
            self._holder.close()

    def drop_quietly(self) -> None:
        """The same, when nobody is left who could be told."""
        with suppress(psycopg.Error, WakelogError):
            self.drop()

    def _open(self) -> Connection[Any]:
        if self._holder is None or self._holder.closed:
            self._holder = connect(self._url, autocommit=False, application_name="wakelog looks aside")
            prepare_nothing_behind_a_pooler(self._holder)
        return self._holder
