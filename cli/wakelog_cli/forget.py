"""`wakelog forget`: what the log says of somebody, made unreadable for good."""

import click
from rich_click import command

from wakelog_cli.database import connected, value
from wakelog_cli.options import be_sure, database_option, json_option, yes_option
from wakelog_cli.output import counted, say, say_json


@command()
@click.argument("subjects", metavar="SUBJECT...", nargs=-1, required=True)
@click.option(
    "--vacuum",
    is_flag=True,
    help="Write the table of keys anew, so that its file holds no old version; private appends wait meanwhile.",
)
@yes_option
@database_option
@json_option
def forget(subjects: tuple[str, ...], vacuum: bool, yes: bool, database: str | None, as_json: bool) -> None:
    """Forget subjects: destroy the keys of what is private about them. The events stay, and verify.

    Nothing private can be appended about them again. Backups and archived WAL still hold the keys until they expire.

    Example: wakelog forget customer-17 --vacuum
    """
    with connected(database) as connection:
        be_sure(f"Forget {', '.join(subjects)}? What is private about them can never be read again.", yes)
        with connection.transaction():
            found = {
                subject: value(connection, "select wakelog.forget(%(subject)s)", {"subject": subject})
                for subject in dict.fromkeys(subjects)
            }
        if vacuum:
            connection.execute("vacuum (full) wakelog.subject_keys")
    forgotten = [subject for subject, now in found.items() if now]
    before = [subject for subject, now in found.items() if not now]
    if as_json:
        say_json({"forgotten": forgotten, "forgotten_before": before, "vacuumed": vacuum})
        return
    if before:
        say(f"Forgotten before: {', '.join(before)}.")
    if forgotten:
        say(f"Forgot {counted(len(forgotten), 'subject')}: {', '.join(forgotten)}.")
    if not vacuum:
        say(
            "The table's file may hold old versions of keys for a while: wakelog forget --vacuum rewrites it."
        )
    say("Backups and archived WAL hold them until they expire.")
