"""The Wakelog object: where an application declares its agents."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from wakelog.agents.definition import AgentDefinition, Family, Handler, define
from wakelog.agents.options import Backoff, Dedupe, Exponential, Overflow, Rate, Start
from wakelog.durations import Duration
from wakelog.errors import BadInput
from wakelog.projections.definition import Mode, OnError, ProjectionDefinition, define_projection

if TYPE_CHECKING:
    from wakelog.projections.tables import Tables

F = TypeVar("F", bound=Handler)

_DEFAULT_BACKOFF = Exponential()


class Wakelog:
    """An application: a name, the agents declared with :meth:`agent`, and projections with :meth:`projection`.

    Run it with ``wakelog worker module:app``; nothing connects anywhere before that.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.agents: dict[str, AgentDefinition] = {}
        self.families: dict[str, Family] = {}
        self.projections: dict[str, ProjectionDefinition] = {}

    def family(self, name: str, *, types: Sequence[str] | None = None, must_match: bool = False) -> None:
        """Declare what must hold for events whose type is, or begins with, these words; the database sees to it.

        Whoever appends something else, by whatever means, is refused: with `UnknownType` (SQLSTATE WL009) or
        `Unroutable` (WL010). Declared in the database when a worker starts; declared again, it is replaced.

        Args:
            name: a dotted word or more, such as "order" or "order.item".
            types: which types there are, each beginning with the name; None for any.
            must_match: whether some agent must want each event, all its filters considered.

        Raises:
            BadInput: a type does not begin with the name, or nothing is declared.
        """
        known = None if types is None else tuple(types)
        strange = [each for each in known or () if each != name and not each.startswith(f"{name}.")]
        if strange:
            raise BadInput(f'family "{name}": expected types that begin with "{name}", found {strange[0]!r}')
        if known is None and not must_match:
            raise BadInput(f'family "{name}": expected types= or must_match=True, found neither')
        self.families[name] = Family(name, known, must_match)

    def agent(
        self,
        name: str,
        *,
        on: str | Sequence[str],
        source: str | Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        where: str | None = None,
        timeout: Duration = "5m",
        max_attempts: int = 5,
        max_stalled: int = 10,
        backoff: Backoff = _DEFAULT_BACKOFF,
        concurrency: int | None = None,
        ordered_by: str | None = None,
        rate: str | Rate | None = None,
        expires: Duration | None = None,
        dedupe: Dedupe | None = None,
        capacity: int | None = None,
        overflow: Overflow = "refuse",
        start: Start = "now",
        history: bool = True,
        batch: int | None = None,
    ) -> Callable[[F], F]:
        """Declare an agent; decorates its handler, ``handler(event, ctx)``, async or not.

        What the handler returns becomes the event ``<name>.completed`` (None: no event). When the agent
        gives up, the event is a dead letter and ``<name>.failed`` tells it.

        With ``batch``, the handler is called as ``handler(events, ctx)`` with a list, and ``ctx`` is a
        :class:`~wakelog.BatchContext`. It returns None, or a list with a result for each event.

        Args:
            name: unlike any other agent's in the database; dotted words.
            on: patterns of event types; ``*`` is one word, ``#`` zero or more.
            source: patterns of sources, words separated by ``/``; None for any.
            metadata: an object the event's metadata must contain.
            where: a jsonpath predicate on the payload, such as ``'$.size > 10'``.
            timeout: how long one attempt may take; then it is ended and counts as failed.
            max_attempts: failed attempts after which the event is given up.
            max_stalled: how often workers may die over an event before it is given up.
            backoff: how long to wait after the n-th failure.
            concurrency: at most so many at once, over all workers; None for as many as they have room.
            ordered_by: work with the same "stream", "correlation", "source", "metadata.<path>" or
                "payload.<path>" is done one at a time and in the order of the log, over all workers; work with
                another value goes on meanwhile, work without one any time. None for no order.
            rate: at most so many starts in any window, over all workers: "10/s", "100/m", "3/30s".
            expires: how long after its place in the log an event may still be worked on; after that it is
                given up, with the reason "expired".
            dedupe: which events stand for one another, such as ``Dedupe("payload.id", "throttle", "5m")``; those
                that are left out are in the history.
            capacity: how many unfinished events it may have; producers then wait or are refused, as they say
                (``append(..., backpressure=...)``). Every append that it wants is counted, by whatever application.
            overflow: "refuse", or "drop_oldest": the oldest that waits is given up, with the reason "overflow".
            start: where a new agent begins. Counts the first time only; later: ``wakelog agents rewind``.
            history: whether finished deliveries leave a row in the history.
            batch: hand over up to so many events at a time (1 to 10000), acknowledged as one; whatever is there,
                without waiting for more. The time limit is the whole batch's, every other limit counts events. An
                exception fails them all, and each is handed over alone when its turn comes again.

        Raises:
            BadInput: an option cannot be used, or the name is taken in this application.
        """

        def declare(handler: F) -> F:
            if name in self.agents:
                raise BadInput(f'agent "{name}" is declared twice in application "{self.name}"')
            self.agents[name] = define(
                name, handler, on=on, source=source, metadata=metadata, where=where, timeout=timeout,
                max_attempts=max_attempts, max_stalled=max_stalled, backoff=backoff,
                concurrency=concurrency, ordered_by=ordered_by, rate=rate, expires=expires, dedupe=dedupe,
                capacity=capacity, overflow=overflow,
                start=start, history=history, batch=batch,
            )  # fmt: skip
            return handler

        return declare

    def projection(
        self,
        name: str,
        *,
        on: str | Sequence[str] = "#",
        tables: "Tables | None" = None,
        version: int = 1,
        sql: str | Path | Sequence[str] | None = None,
        batch: bool = False,
        schema: str | None = None,
        mode: Mode = "async",
        on_error: OnError = "stop",
        partition_by: str | None = None,
        initial: Callable[[], Any] | None = None,
        snapshots: int | None = None,
    ) -> Callable[[F], F]:
        """Declare a projection: tables that are derived from the log; decorates the function that folds it.

        ``fold(event, connection)`` is called for each event, or, with ``batch=True``, ``fold(events, connection)``
        for a list. It writes to the projection's tables through the connection, naming them without a schema, in
        the transaction that moves the checkpoint; it may write nowhere else, and must do the same whenever it is run.
        With ``sql`` there is no function to decorate: the statements fold the rows of ``new_events``.

        Args:
            name: of a-z, 0-9 and _; unlike any other projection's in the database.
            on: patterns of event types; ``*`` is one word, ``#`` zero or more.
            tables: what creates its tables: SQL text, a path to it, SQLAlchemy tables or metadata, or a list of these.
            version: raise it with every change of the tables or the fold. The new version is built beside the old one,
                which serves until the new one has caught up and no worker with older code is left.
            sql: a statement, several, or a path to a file with one.
            batch: whether the function takes a list of events.
            schema: where readers find the tables, and nothing else is; the name of the projection.
            mode: "async", behind the log by milliseconds; "inline", in the transaction of whoever appends, for
                statements in SQL; "live", folded when asked for (`wakelog.fold`) and stored nowhere, or in snapshots,
                by a function of a state and an event that returns the next state.
            on_error: what to do about an event that cannot be folded: "stop" there, or "skip" it and go on.
            partition_by: "stream", "correlation", "source", "metadata.<path>" or "payload.<path>": events with
                different values touch different rows, so that a rebuild may use several processes. For functions.
            initial: with mode "live", what makes the first state, such as ``dict`` or a pydantic model.
            snapshots: with mode "live", after how many versions of a stream a worker stores its state (100 is a good
                one), so that `wakelog.fold` of the stream begins there. The state is JSON, or a pydantic model.

        Raises:
            BadInput: an option cannot be used, or the name is taken in this application.
        """
        if name in self.projections:
            raise BadInput(f'projection "{name}" is declared twice in application "{self.name}"')

        def define(fold: Callable[..., Any] | None) -> None:
            self.projections[name] = define_projection(
                name, fold=fold, sql=sql, on=on, version=version, tables=tables, schema=schema, mode=mode, batch=batch,
                on_error=on_error, partition_by=partition_by, initial=initial, snapshots=snapshots,
            )  # fmt: skip

        def declare(fold: F) -> F:
            if sql is not None:
                raise BadInput(f'projection "{name}": expected either a function or sql=, found both')
            define(fold)
            return fold

        if sql is not None:
            define(None)
        return declare
