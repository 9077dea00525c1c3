"""`wakelog tail`: the log as it is, and as it grows."""

import os
import select
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from wakelog_cli.database import find_url
from wakelog_cli.moments import Place, Start, clock_time
from wakelog_cli.options import database_option, import_models, json_option, models_app_option
from wakelog_cli.output import event_document, say, say_json, shortened, to_json

if TYPE_CHECKING:
    from wakelog.log.event import Event


@command()
@click.option(
    "--from",
    "start",
    type=Place(),
    metavar="PLACE",
    help="now, beginning, a position, a time, or how long ago (10m). Without it: beginning; with --follow: now.",
)
@click.option("--follow", "-f", is_flag=True, help="Wait for more, until Ctrl-C.")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="PATTERN",
    help="Only these types: * is one word, # zero or more. May be repeated.",
)
@click.option("--limit", "-n", type=click.IntRange(1, 10**15), help="End after so many events.")
@models_app_option
@database_option
@json_option
def tail(
    start: Start | None,
    follow: bool,
    types: tuple[str, ...],
    limit: int | None,
    app: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Print events in the order of the log, oldest first; with --follow, also those to come.

    With --json each event is an object on a line of its own. With --app, types that have a model there are shown in
    its version; in JSON as "data" beside "payload", or "unreadable" with the reason.

    Examples:

        wakelog tail --from 10m --type 'order.*'

        wakelog tail -f

        wakelog tail -f --json --type push | jq .payload.branch

        wakelog tail --type order.placed --app shop.py
    """
    if start is None:
        start = "now" if follow else "beginning"

    from wakelog.log.tail import tail as read_log

    import_models(app)
    events = read_log(find_url(database), start=start, types=types or None, follow=follow)
    with events, _ending_with_its_reader(follow):
        for event in islice(events, limit):
            if as_json:
                say_json({**event_document(event), **_as_code_reads_it(event)})
            else:
                say(_line(event))
                if follow:
                    sys.stdout.flush()


def _as_code_reads_it(event: "Event") -> dict[str, Any]:
    from wakelog.errors import UnreadableEvent
    from wakelog.log.models import declared, stored

    if declared(event.type) is None:
        return {}
    try:
        return {"data": stored(event.data)}
    except UnreadableEvent as error:
        return {"unreadable": str(error.args[0])}


def _line(event: "Event") -> str:
    of = f" {event.stream}@{event.version}" if event.stream else ""
    by = f" [{event.source}]" if event.source else ""
    head = f"{event.position:>8}  {clock_time(event.recorded_at)}  {event.type}{by}{of}"
    read = _as_code_reads_it(event)
    if "unreadable" in read:
        head += f"  ({read['unreadable']})"
    payload = read.get("data", event.payload)
    if payload == {}:
        return head
    room = os.get_terminal_size().columns - len(head) - 2 if sys.stdout.isatty() else 2000
    return f"{head}  {shortened(to_json(payload), max(room, 20))}"


@contextmanager
def _ending_with_its_reader(follow: bool) -> Generator[None]:
    """End when the other end of our pipe is closed, though nothing new has been written to it meanwhile.

    `wakelog tail -f | head -1` ends with its first event, not with its second.
    """
    if not follow or sys.stdout.isatty():
        yield
        return
    closed = threading.Event()

    def watch(descriptor: int) -> None:
        poll = select.poll()
        poll.register(descriptor, 0)
        # An error or a hang-up is reported unasked.
        poll.poll()
        closed.set()
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, args=[sys.stdout.fileno()], daemon=True).start()
    try:
        yield
    except KeyboardInterrupt:
        if closed.is_set():
            raise BrokenPipeError from None
        raise
