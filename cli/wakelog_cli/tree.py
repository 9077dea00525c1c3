"""A workflow drawn as a tree: what led to what, and who did which part of it."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from wakelog_cli.moments import clock_time, in_words
from wakelog_cli.output import console, counted, shortened, to_json

if TYPE_CHECKING:
    from rich.tree import Tree

Row = dict[str, Any]


def tree(title: str, found: Sequence[Row]) -> "Tree":
    """Events under what caused them; an agent's deliveries under the event, and under those what it answered with.

    Rows are those of the view wakelog.timeline, oldest first, with `source` and `worker_name`; events may have a
    `note`, and deliveries `steps`.
    """
    from rich.tree import Tree

    events = [row for row in found if row["what"] == "event"]
    ids = {event["event_id"] for event in events}
    # A loop in the causes, which nothing forbids, hangs under no root: so we say what we have drawn.
    drawn: set[UUID] = set()
    began: datetime = events[0]["at"]
    led_to: defaultdict[UUID | None, list[Row]] = defaultdict(list)
    worked_on: defaultdict[UUID, list[Row]] = defaultdict(list)
    for row in found:
        if row["what"] == "event":
            led_to[row["causation_id"]].append(row)
        else:
            worked_on[row["event_id"]].append(row)
    trunk = Tree(_plain(title))

    def draw(event: Row, at: "Tree") -> None:
        drawn.add(event["event_id"])
        here = at.add(_plain(_event_line(event, began)))
        caused = led_to[event["event_id"]]
        for delivery in worked_on[event["event_id"]]:
            there = here.add(_plain(_delivery_line(delivery)))
            for error in _errors(delivery):
                there.add(_plain(error))
            # What an agent delivered twice (rewound) answered with is shown under the first.
            for answer in [
                e for e in caused if e["source"] == delivery["name"] and e["event_id"] not in drawn
            ]:
                draw(answer, there)
        for other in caused:
            if other["event_id"] not in drawn:
                draw(other, here)

    for event in events:
        if event["causation_id"] not in ids and event["event_id"] not in drawn:
            draw(event, trunk)
    for event in events:
        if event["event_id"] not in drawn:
            draw(event, trunk)
    return trunk


def _event_line(event: Row, began: datetime) -> str:
    after = event["at"] - began
    when = clock_time(event["at"]) if not after else f"+{in_words(after)}"
    payload = "" if event["detail"] == {} else "  " + shortened(to_json(event["detail"]), 60)
    by = f" [{event['source']}]" if event["source"] else ""
    note = f"  ({event['note']})" if event.get("note") else ""
    return f"{event['name']}{by}  {when}  at {event['position']}{payload}{note}"


def _delivery_line(delivery: Row) -> str:
    attempts = delivery["attempts"]
    tries = counted(attempts, "attempt")
    worker = delivery["worker_name"] or (f"worker {delivery['worker']}" if delivery["worker"] else "")
    took = in_words(delivery["took"]) if delivery["took"] is not None else ""
    parts = [delivery["outcome"], took, tries, worker]
    steps = f"; steps: {', '.join(delivery['steps'])}" if delivery.get("steps") else ""
    return f"→ {delivery['name']}: {', '.join(part for part in parts if part)}{steps}"


def _errors(delivery: Row) -> list[str]:
    width = max(console().width - 40, 40)
    failures: list[Row] = delivery["detail"] or []
    return [
        shortened(f"attempt {f.get('attempt')} {f.get('reason')}: {f.get('error') or ''}", width)
        for f in failures
    ]


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)
