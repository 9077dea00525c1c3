"""`wakelog doctor`: is everything as it should be, and if not, what to do."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich_click import command

from wakelog_cli.checks import BEFORE_THE_SCHEMA, WITH_THE_SCHEMA, Check, Finding, schema
from wakelog_cli.database import find_url
from wakelog_cli.failures import ExitCode
from wakelog_cli.options import database_option, json_option
from wakelog_cli.output import counted, say, say_json, table

if TYPE_CHECKING:
    from psycopg import Connection


@command()
@database_option
@json_option
def doctor(database: str | None, as_json: bool) -> None:
    """Check the server, the schema, waking, workers, agents and settings; 1 if something is broken.

    A warning alone exits with 0.

    Example: wakelog doctor
    """
    findings = list(_examine(find_url(database)))
    broken = any(finding.state == "fail" for finding in findings)
    if as_json:
        say_json({"healthy": not broken, "checks": [vars(finding) for finding in findings]})
    else:
        table(
            {"": "left", "check": "left", "found": "fold", "do": "fold"},
            ((_MARK[f.state], f.check, f.found, f.do) for f in findings),
            empty="",
        )
        warnings = sum(finding.state == "warn" for finding in findings)
        failures = sum(finding.state == "fail" for finding in findings)
        say(f"\n{len(findings)} checks: {failures} failed, {counted(warnings, 'warning')}")
    if broken:
        click.get_current_context().exit(ExitCode.FAILED)


_MARK = {"ok": "ok", "warn": "warn", "fail": "FAIL"}


def _examine(url: str) -> Iterator[Finding]:
    from wakelog.errors import WakelogError
    from wakelog.postgres.connect import connect, safe_url

    try:
        connection = connect(url, application_name="wakelog doctor")
    except WakelogError as failure:
        yield Finding(
            "reachable", "fail", str(failure.args[0]), failure.hint or "give another: --database URL"
        )
        return
    with connection:
        yield Finding("reachable", "ok", safe_url(url))
        for check in BEFORE_THE_SCHEMA:
            yield from _checked(check, connection)
        state = list(_checked(schema, connection))
        yield from state
        if all(finding.state != "fail" for finding in state):
            for check in WITH_THE_SCHEMA:
                yield from _checked(check, connection)


def _checked(check: Check, connection: "Connection[Any]") -> Iterator[Finding]:
    """A check that this role may not make is one that was not made."""
    import psycopg

    try:
        yield from check(connection)
    except psycopg.errors.InsufficientPrivilege as refused:
        yield Finding(
            check.__name__,
            "warn",
            f"could not look: {refused.diag.message_primary}",
            "use a role that was granted wakelog_reader or wakelog_worker",
        )
