"""An event: as it stands in the log, and as a producer says it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from wakelog.durations import seconds
from wakelog.errors import BadInput
from wakelog.log.closed import check_new
from wakelog.log.models import as_event, newest_version, parse
from wakelog.privacy.fields import check_places

COLUMNS = (
    "position", "id", "type", "source", "stream", "version", "payload", "metadata", "correlation_id",
    "causation_id", "idempotency_key", "schema_version", "occurred_at", "recorded_at",
)  # fmt: skip
"""The columns of `Event.from_row`, in order; those of wakelog.claimed from `id` on are the same."""

# The constraint events_type_is_dotted_words says the same.
_TYPE = re.compile(r"[^\s.*#]+(\.[^\s.*#]+)*")
_TYPE_BYTES = 255
_UNREAD: Any = ...
"""Which stays what it is when an event is copied or pickled."""
# How a moment begins, in ISO 8601.
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class Event:
    """An immutable fact of the log.

    `position` is its place in the log: gapless, never changing; None until the sequencer has given it one, a moment
    after the commit. `correlation_id` names the workflow; an event without one begins its own, named by its id.
    """

    position: int | None
    id: UUID
    type: str
    source: str
    stream: str | None
    version: int | None
    payload: Any
    metadata: dict[str, Any]
    correlation_id: str
    causation_id: UUID | None
    idempotency_key: str | None
    schema_version: int
    occurred_at: datetime
    recorded_at: datetime
    _data: Any = field(default=_UNREAD, init=False, repr=False, compare=False)

    @property
    def data(self) -> Any:
        """The payload as its type's model, brought up to the newest version; the payload itself where no model is
        declared (`wakelog.event_model`).

        Raises:
            UnreadableEvent: this code cannot read it.
        """
        if self._data is _UNREAD:
            object.__setattr__(self, "_data", parse(self.type, self.schema_version, self.payload))
        return self._data

    @classmethod
    def from_row(cls, row: Sequence[Any]) -> Self:
        """The event of a row with `COLUMNS`, in their order; None for empty metadata will do."""
        event: Any = _Unfrozen(*row)
        if event.metadata is None:
            event.metadata = {}
        if event.correlation_id is None:
            event.correlation_id = str(event.id)
        event.__class__ = cls
        return event


_Unfrozen: Any = make_dataclass(
    "_Unfrozen",
    [(one.name, Any, field(default=one.default, init=one.init)) for one in fields(Event)],
    slots=True,
)
"""An event before it becomes one. To set the fields of a frozen one takes seven times as long, for every event read."""


def _no_nul(value: Any) -> Any:
    if isinstance(value, str) and "\x00" in value:
        raise ValueError("expected text without NUL characters, which PostgreSQL cannot store")
    return value


def _not_empty(value: Any) -> Any:
    if value == "":
        raise ValueError("expected None or some text, found empty text")
    return value


def _dotted_words(value: Any) -> Any:
    if isinstance(value, str) and (not _TYPE.fullmatch(value) or len(value.encode()) > _TYPE_BYTES):
        raise ValueError(
            f'expected words joined by dots, as in "order.paid", of at most {_TYPE_BYTES} bytes and without spaces, * '
            f"and #; found {value[:80]!r}"
        )
    return value


def _moment(value: Any) -> Any:
    if value is None or isinstance(value, datetime) or (isinstance(value, str) and _DAY.match(value)):
        return value
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds(value))
    except OverflowError:
        raise ValueError(f"expected a moment before the year 9999, found {value!r}") from None


def _apart(value: str | dict[str, str] | None) -> str | dict[str, str] | None:
    if isinstance(value, dict):
        check_places(value)
    return value or None


Text = Annotated[str, BeforeValidator(_no_nul)]
Name = Annotated[str, BeforeValidator(_not_empty), BeforeValidator(_no_nul)]


class NewEvent(BaseModel):
    """What a producer may say of an event; everything but the type has a default.

    `payload` is any JSON value; None stands for an empty object. `expected_version` is the version its stream must be
    at, 0 for a stream that must be new. An event of the same `source` that already carries the `idempotency_key`
    takes the place of this one. `deliver_after`, before which no agent is given the event, is a moment, or a duration
    from now. `private` says what of the payload is personal, and about whom: {"address.street": "customer-17"}, or
    "customer-17" for all of it. `schema_version` is the one the payload is written in; None is the newest this code
    knows (`event_model`), and 1 where the type has no model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Annotated[Text, BeforeValidator(_dotted_words)]
    payload: Any = None
    stream: Name | None = None
    expected_version: int | None = Field(default=None, ge=0, lt=2**63)
    source: Text = ""
    idempotency_key: Name | None = None
    metadata: dict[str, Any] | None = None
    correlation_id: Name | None = None
    causation_id: UUID | None = None
    schema_version: int | None = Field(default=None, ge=-(2**31), lt=2**31)
    occurred_at: AwareDatetime | None = None
    id: UUID | None = None
    deliver_after: Annotated[AwareDatetime | None, BeforeValidator(_moment)] = None
    private: Annotated[Name | dict[Name, Name] | None, AfterValidator(_apart)] = None

    @model_validator(mode="after")
    def _version_of_a_stream(self) -> Self:
        if self.expected_version is not None and self.stream is None:
            raise ValueError(f"an expected version ({self.expected_version}) needs a stream")
        return self

    @property
    def written_in(self) -> int:
        """The schema version it is appended with."""
        return newest_version(self.type) if self.schema_version is None else self.schema_version

    @classmethod
    def of(cls, values: Any) -> "NewEvent":
        """The event these values describe: a mapping, or an instance of a declared model.

        Raises `BadInput` that names each value that cannot be used, and what `check_new` raises.
        """
        if not isinstance(values, NewEvent):
            if isinstance(values, BaseModel):
                values = as_event(values)
            elif isinstance(values, Mapping) and isinstance(values.get("type"), BaseModel):  # pyright: ignore
                values = _with_model(values)  # pyright: ignore[reportUnknownArgumentType]
            try:
                values = cls.model_validate(values)
            except ValidationError as error:
                raise BadInput("; ".join(_sentence(problem) for problem in error.errors())) from None
        check_new(values.type, values.written_in, values.payload)
        return values


def _with_model(values: Mapping[str, Any]) -> dict[str, Any]:
    said = as_event(values["type"])
    if values.get("payload") is not None:
        raise BadInput(f'expected no payload beside a model of "{said["type"]}", which is one')
    if values.get("schema_version") not in (None, said["schema_version"]):
        raise BadInput(
            f'expected version {said["schema_version"]}, that of the model of "{said["type"]}", found '
            f"{values['schema_version']}"
        )
    return {**values, **said}


def _sentence(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    what = str(problem["msg"]).removeprefix("Value error, ")
    found = "" if problem["type"] in ("value_error", "missing") else f", found {str(problem['input'])[:80]!r}"
    return f"{where}: {what}{found}" if where else f"{what}{found}"
