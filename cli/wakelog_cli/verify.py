"""`wakelog verify`: is the past what it was?"""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from wakelog_cli.database import connected, find_url
from wakelog_cli.failures import ExitCode
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, say, say_json
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from wakelog.integrity.verification import Verification


@command()
@click.option(
    "--from", "first", type=click.IntRange(min=1), default=1, help="The first position; without it, 1."
)
@click.option(
    "--to", "last", type=click.IntRange(min=1), help="The last position; without it, the last sealed one."
)
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Seals that were exported earlier: whoever made the whole chain anew is found by them.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Verify with so many at once.",
)
@database_option
@json_option
def verify(
    first: int, last: int | None, against: Path | None, processes: int, database: str | None, as_json: bool
) -> None:
    """Compute again what the seals say of the log, and name the first event that was changed, removed or inserted.

    Exits with 1 where something is not as it was sealed. After Ctrl-C it says how far it came.

    Examples:

        wakelog verify

        wakelog verify --against seal.json --json

        wakelog verify --processes 4
    """
    from wakelog.integrity.seal import exported
    from wakelog.integrity.stretches import verify_over
    from wakelog.integrity.verification import Verification

    known = [] if against is None else exported(against.read_text())
    url = find_url(database)
    with connected(url) as connection:
        verification = Verification(connection, first=first, last=last, against=known)
        running = verification.run() if processes == 1 else verify_over(verification, url, processes, known)
        with Progress("verified", "events", verification.size) as progress:
            try:
                with closing(running):
                    for events in running:
                        progress.advance(events, events)
            except KeyboardInterrupt:
                _say_how_far(verification)
                raise
    if as_json:
        say_json(_document(verification, progress.seconds))
    else:
        _say(verification, progress, against)
    if verification.finding is not None:
        click.get_current_context().exit(ExitCode.FAILED)


def _say_how_far(verification: "Verification") -> None:
    upto = verification.position
    sure = f"all as sealed up to position {upto}" if verification.events else "nothing was verified"
    click.echo(
        f"wakelog: interrupted, {sure} of {verification.last}; go on with: wakelog verify --from {upto + 1}",
        err=True,
    )


def _say(verification: "Verification", progress: Progress, against: Path | None) -> None:
    found = verification.finding
    if found is not None:
        say(f"NOT AS SEALED: {found.message}")
        if verification.events:
            say(f"What comes before it is as sealed: {counted(verification.events, 'event')}.")
        if found.position is not None and found.kind in ("changed", "moved", "inserted", "type_changed"):
            say(f"Look at it: wakelog tail --from {found.position} --limit 1 --json")
        return
    say(
        f"{counted(verification.events, 'event')} in {counted(verification.seals, 'seal')} as sealed, up to position "
        f"{verification.position}, in {progress.seconds:.1f} s ({progress.rate:,.0f} a second)."
    )
    if against is not None:
        say(f"The chain leads to the seals in {against}.")
    if verification.unsealed:
        say(f"{counted(verification.unsealed, 'event')} not sealed yet; seal now: wakelog seal now")
    newest = verification.newest
    if newest is not None and against is None:
        say(
            f"Last seal: {newest.number}, hash {newest.hash.hex()}. Keep it elsewhere: wakelog seal export > seal.json"
        )


def _document(verification: "Verification", seconds: float) -> dict[str, Any]:
    return {
        "ok": verification.finding is None,
        "events": verification.events,
        "seals": verification.seals,
        "from": verification.first,
        "to": verification.position,
        "sealed_to": verification.sealed_upto,
        "unsealed": verification.unsealed,
        "last_seal": None if verification.newest is None else verification.newest.document(),
        "finding": None if verification.finding is None else verification.finding.document(),
        "seconds": round(seconds, 3),
    }
