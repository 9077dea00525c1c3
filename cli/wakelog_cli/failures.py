"""How a command ends: the exit codes, and one sentence for everything that may be expected to go wrong."""

import sys
from enum import IntEnum
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from wakelog.errors import WakelogError


class ExitCode(IntEnum):
    """What the command exits with; see docs/commands.md."""

    OK = 0
    FAILED = 1
    BAD_INPUT = 2
    NO_DATABASE = 3
    UNKNOWN_NAME = 4
    CONFLICT = 5
    FULL = 6
    INTERRUPTED = 130


class Failure(Exception):
    """Something the command itself found wrong; `next_command` is what to type about it."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED, *, next_command: str) -> None:
        super().__init__(message)
        self.code = code
        self.next_command = next_command


# What to type where the error itself does not say.
_NEXT: dict[int, str] = {
    ExitCode.FAILED: "see: wakelog doctor",
    ExitCode.NO_DATABASE: "see: wakelog doctor",
    ExitCode.UNKNOWN_NAME: "see: wakelog agents list",
    ExitCode.CONFLICT: "see: wakelog tail",
    ExitCode.FULL: "see: wakelog agents list",
}


def explain(failure: BaseException, command: str) -> tuple[int, str] | None:
    """The exit code and the sentence for a failure of `command`; None for one that nobody expected: a defect."""
    if isinstance(failure, Failure):
        return failure.code, f"{failure}; {failure.next_command}"
    if isinstance(failure, click.exceptions.NoArgsIsHelpError):
        return ExitCode.BAD_INPUT, f"expected a subcommand, found none; see: {command} --help"
    if isinstance(failure, click.UsageError):
        return ExitCode.BAD_INPUT, f"{_uncapitalised(failure.format_message())}; see: {command} --help"
    if isinstance(failure, click.ClickException):
        return ExitCode.FAILED, f"{failure.format_message()}; {_NEXT[ExitCode.FAILED]}"
    if isinstance(failure, UnicodeEncodeError):
        return ExitCode.BAD_INPUT, f"expected UTF-8, found {failure.object[:80]!r}; see: {command} --help"
    if isinstance(failure, OSError):
        of = f" ({failure.filename})" if failure.filename else ""
        return ExitCode.FAILED, f"the system refused: {failure.strerror}{of}; see: {command} --help"
    if "psycopg" in sys.modules:
        return _explain_database(failure, command)
    return None


def _explain_database(failure: BaseException, command: str) -> tuple[int, str] | None:
    # Imported here: these take longer than all the rest of `wakelog --help`.
    import psycopg
    from psycopg import errors as pg

    from wakelog.errors import WakelogError, translate

    # SQLAlchemy keeps what the driver raised in `orig`.
    failure = getattr(failure, "orig", None) or failure
    if isinstance(failure, psycopg.Error):
        failure = translate(failure) or failure
    match failure:
        case WakelogError():
            return failure.exit_code, _sentence(failure, command)
        case pg.InvalidSchemaName() | pg.UndefinedTable() | pg.UndefinedFunction() | pg.UndefinedColumn():
            return ExitCode.NO_DATABASE, (
                f"the database does not have the schema this Wakelog expects ({_primary(failure)}); "
                "bring it up to date: wakelog db upgrade"
            )
        case pg.ReadOnlySqlTransaction():
            return ExitCode.NO_DATABASE, (
                f"expected the primary, found a server or a session that takes no writes ({_primary(failure)}); name "
                "every server in the URL and let it choose: postgresql://a,b/name?target_session_attrs=read-write; "
                "see: wakelog doctor"
            )
        case pg.InsufficientPrivilege():
            return ExitCode.FAILED, (
                f"the database refused: {_primary(failure)}; use a role that was granted wakelog_writer (append), "
                "wakelog_reader (look) or wakelog_worker (all), and wakelog_keys for what is private; see which one "
                "this is: wakelog db url"
            )
        case pg.UntranslatableCharacter() | pg.ProgramLimitExceeded() | psycopg.DataError():
            return (
                ExitCode.BAD_INPUT,
                f"the database cannot store that: {_primary(failure)}; see: {command} --help",
            )
        case psycopg.OperationalError() | psycopg.InterfaceError() if _is_gone(failure.sqlstate):
            return ExitCode.NO_DATABASE, f"the database went away: {_primary(failure)}; see: wakelog doctor"
        case psycopg.Error():
            return ExitCode.FAILED, f"the database refused: {_primary(failure)}; see: wakelog doctor"
        case _:
            return None


def _is_gone(sqlstate: str | None) -> bool:
    """Connection exceptions and shutdowns; other operational errors come from a server that is there."""
    return sqlstate is None or sqlstate.startswith(("08", "57P"))


def _primary(failure: BaseException) -> str:
    diagnosis = getattr(failure, "diag", None)
    said = getattr(diagnosis, "message_primary", None) or str(failure).strip() or type(failure).__name__
    return " ".join(said.split())


def _sentence(failure: "WakelogError", command: str) -> str:
    parts = [" ".join(str(failure.args[0]).split()).rstrip(".")]
    if failure.hint:
        parts.append(_uncapitalised(" ".join(failure.hint.split())))
    if "wakelog " not in " ".join(parts):
        parts.append(_NEXT.get(failure.exit_code, f"see: {command} --help"))
    return "; ".join(parts)


def _uncapitalised(text: str) -> str:
    """Click's sentences, made to go on after ours."""
    text = text.rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text
