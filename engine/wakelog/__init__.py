"""The append-only log in your Postgres that wakes your agents.

    from wakelog import Wakelog

    app = Wakelog("shop")

    @app.agent("greeter", on="customer.joined")
    async def greet(event, ctx):
        return {"hello": event.payload["name"]}

Run it with ``wakelog worker module:app``. Any application, in any language, wakes it by inserting a row:
``insert into wakelog.events (type, payload) values ('customer.joined', '{"name": "Ada"}')``.
"""

from wakelog.agents.app import Wakelog
from wakelog.agents.batch import BatchContext
from wakelog.agents.context import Context
from wakelog.agents.options import Backoff, Dedupe, Exponential, Fixed, Rate
from wakelog.errors import (
    AppendOnly,
    BadInput,
    CapacityReached,
    CheckpointMoved,
    DatabaseUnreachable,
    DoesNotFit,
    DoNotRetry,
    GiveBack,
    LeaseLost,
    LogDamaged,
    NothingToFork,
    ProjectionBehind,
    RetryAfter,
    SchemaMismatch,
    SubjectForgotten,
    UnknownAgent,
    UnknownProjection,
    UnknownSubject,
    UnknownType,
    UnknownVersion,
    UnknownWorkflow,
    UnreadableEvent,
    Unroutable,
    VersionConflict,
    WakelogError,
)
from wakelog.forgotten import FORGOTTEN, Forgotten
from wakelog.log.append import append, append_many
from wakelog.log.event import Event, NewEvent
from wakelog.log.models import closed_family, event_model, upcaster
from wakelog.log.read import read, read_stream
from wakelog.log.tail import tail
from wakelog.projections.live import fold
from wakelog.projections.waiting import wait_until

__version__ = "0.1.0"

__all__ = [
    "FORGOTTEN",
    "AppendOnly",
    "Backoff",
    "BadInput",
    "BatchContext",
    "CapacityReached",
    "CheckpointMoved",
    "Context",
    "DatabaseUnreachable",
    "Dedupe",
    "DoNotRetry",
    "DoesNotFit",
    "Event",
    "Exponential",
    "Fixed",
    "Forgotten",
    "GiveBack",
    "LeaseLost",
    "LogDamaged",
    "NewEvent",
    "NothingToFork",
    "ProjectionBehind",
    "Rate",
    "RetryAfter",
    "SchemaMismatch",
    "SubjectForgotten",
    "UnknownAgent",
    "UnknownProjection",
    "UnknownSubject",
    "UnknownType",
    "UnknownVersion",
    "UnknownWorkflow",
    "UnreadableEvent",
    "Unroutable",
    "VersionConflict",
    "Wakelog",
    "WakelogError",
    "append",
    "append_many",
    "closed_family",
    "event_model",
    "fold",
    "read",
    "read_stream",
    "tail",
    "upcaster",
    "wait_until",
]
