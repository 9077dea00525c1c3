"""Everything Wakelog raises, and which SQLSTATE of the database stands for which."""

from typing import Any, ClassVar

import psycopg
from psycopg import errors as pg


class WakelogError(Exception):
    """The base of all. ``exit_code`` is what the command exits with; ``hint`` is what to do next."""

    exit_code: ClassVar[int] = 1
    sqlstate: ClassVar[str | None] = None

    def __init__(self, message: str, *, hint: str | None = None, **values: Any) -> None:
        super().__init__(message)
        self.hint = hint
        self.values = values

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n{self.hint}" if self.hint else message


class VersionConflict(WakelogError):
    """The stream is not at the expected version, or the version is taken. Read again and decide anew."""

    exit_code = 5
    sqlstate = "WL001"


class LeaseLost(WakelogError):
    """This worker no longer holds the delivery: the lease ran out or another took over. Drop the work."""

    sqlstate = "WL002"


class UnknownAgent(WakelogError):
    """No agent of that name is registered."""

    exit_code = 4
    sqlstate = "WL003"


class AppendOnly(WakelogError):
    """Events cannot be changed or deleted."""

    sqlstate = "WL004"


class SequencerRefused(WakelogError):
    """The sequencer cannot go on without risking the loss of events (see ``wakelog db rebase``)."""

    sqlstate = "WL005"


class BadInput(WakelogError, ValueError):
    """A value cannot be used: the message says what was expected and what was found."""

    exit_code = 2
    sqlstate = "WL006"


class UnknownWorker(WakelogError):
    """This worker was found dead, or never registered; it must start anew."""

    sqlstate = "WL007"


class CapacityReached(WakelogError):
    """An agent that wants the event has as many unfinished ones as it may. Append it later, or wait."""

    exit_code = 6
    sqlstate = "WL008"


class UnknownType(BadInput):
    """The type is not among those of its family, which was declared."""

    sqlstate = "WL009"


class Unroutable(BadInput):
    """No agent wants the event, and in its family one must."""

    sqlstate = "WL010"


class UnknownVersion(BadInput):
    """The version is none of those declared for its type."""

    sqlstate = "WL011"


class DoesNotFit(BadInput):
    """The payload does not fit the model of its type, which was declared closed. The message says where."""

    sqlstate = None


class UnreadableEvent(WakelogError):
    """An event of the log cannot be read with the models of this code: its version is newer, no upcaster leads on from
    it, or its payload does not fit."""


class CheckpointMoved(WakelogError):
    """Another runner has folded this range of a projection, or the transaction did not begin to. Drop the work."""

    sqlstate = "WL013"


class UnknownProjection(WakelogError):
    """No projection of that name is registered, or what was built of it is gone."""

    exit_code = 4
    sqlstate = "WL014"


class ProjectionBehind(WakelogError, TimeoutError):
    """A projection was not as far as somebody waited for, in the time they gave it, or has stopped."""

    sqlstate = "WL015"


class UnknownWorkflow(WakelogError):
    """No event carries that correlation."""

    exit_code = 4
    sqlstate = "WL019"


class NothingToFork(WakelogError):
    """Nothing of the workflow was open at the point, or not the event that was to be changed."""

    exit_code = 2
    sqlstate = "WL020"


class LogDamaged(WakelogError):
    """Something that had its position in the log is gone. See: wakelog verify."""

    sqlstate = "WL016"


class SubjectForgotten(WakelogError):
    """Nothing personal can be written about a subject that was forgotten."""

    sqlstate = "WL017"


class UnknownSubject(WakelogError):
    """Nothing personal was ever written about such a subject."""

    exit_code = 4
    sqlstate = "WL018"


class DatabaseUnreachable(WakelogError):
    """No connection could be made."""

    exit_code = 3


class SchemaMismatch(WakelogError):
    """The database was never migrated, is older or newer than this code, or is too old a Postgres."""

    exit_code = 3


class RetryAfter(Exception):
    """Raise in a handler to fail this attempt and be tried again after ``delay`` seconds (or "5m")."""

    def __init__(self, delay: float | str, reason: str = "") -> None:
        super().__init__(reason or f"retry after {delay}")
        self.delay = delay


class DoNotRetry(Exception):
    """Raise in a handler to give the event up at once: it becomes a dead letter."""


class GiveBack(Exception):
    """Raise in a handler to return the event untried: the attempt does not count.

    ``delay`` is in seconds (or "5m"); without it another worker may have the event at once.
    """

    def __init__(self, delay: float | str = 0, reason: str = "") -> None:
        super().__init__(reason or "given back")
        self.delay = delay


BY_SQLSTATE: dict[str, type[WakelogError]] = {
    error.sqlstate: error
    for error in (
        VersionConflict, LeaseLost, UnknownAgent, AppendOnly, SequencerRefused, BadInput, UnknownWorker,
        CapacityReached, UnknownType, Unroutable, UnknownVersion, CheckpointMoved, UnknownProjection, ProjectionBehind,
        UnknownWorkflow, NothingToFork,
        LogDamaged, SubjectForgotten, UnknownSubject,
    )
    if error.sqlstate
}  # fmt: skip


def translate(error: psycopg.Error) -> WakelogError | None:
    """The Wakelog error a database error stands for, or None where it is none of ours."""
    found = BY_SQLSTATE.get(error.sqlstate or "")
    if found is not None:
        return found(error.diag.message_primary or str(error), hint=error.diag.message_hint)
    if isinstance(error, pg.UniqueViolation) and error.diag.constraint_name == "events_one_per_version":
        return VersionConflict(f"the version is taken: {error.diag.message_detail}")
    if isinstance(error, pg.CheckViolation) and (error.diag.schema_name or "") == "wakelog":
        return BadInput(f"{error.diag.message_primary}")
    return None


def one_line(error: BaseException) -> str:
    """What an error says, fit for a line of a log."""
    return " ".join(str(error).split())
