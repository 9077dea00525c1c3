"""Reading the events that a handler is given, in its place and in its time: models and upcasters are the
application's code as much as the handler is, and may fail, or never end, like it.
"""

from wakelog.errors import BadInput
from wakelog.postgres.jsonb import Unreadable
from wakelog.worker.delivery import Delivery


class SomeUnreadable(Exception):
    """Some of the events cannot be read, and the handler was not called. `why` has each with its error."""

    def __init__(self, why: list[tuple[Delivery, Exception]]) -> None:
        super().__init__(f"{len(why)} events cannot be read")
        self.why = why


def read(deliveries: list[Delivery]) -> None:
    """Read them all; what comes out is kept with each event (`Event.data`).

    Raises SomeUnreadable.
    """
    why = [(delivery, error) for delivery in deliveries if (error := _unreadable(delivery)) is not None]
    if why:
        raise SomeUnreadable(why)


def _unreadable(delivery: Delivery) -> Exception | None:
    for value in (delivery.event.payload, delivery.event.metadata):
        if isinstance(value, Unreadable):
            return BadInput(f"the event's JSON cannot be read in Python ({value.reason})")
    try:
        _ = delivery.event.data
    except Exception as error:  # UnreadableEvent, and what a model's own code raises
        return error
    return None
