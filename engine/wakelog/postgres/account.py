"""Under which account a PostgreSQL server runs: our own, or an unprivileged one where we are root."""

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from wakelog.errors import WakelogError

# All a server needs to know of its surroundings. The rest (tokens, DATABASE_URL, PG* settings) is none of its
# business, and where it runs as somebody else they could read it.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ", "TZDIR")


class AccountUnusable(WakelogError):
    """A process could not be started as the account that PostgreSQL should run under."""


@dataclass(frozen=True)
class Account:
    """An account that PostgreSQL agrees to run under: anyone but root."""

    name: str
    uid: int
    gid: int


def server_account(existing: Path | None = None) -> Account | None:
    """The account to run a server as; None where we are not root and simply run it ourselves.

    As root it is the owner of the `existing` data folder, else `postgres`, else `nobody`.

    Raises `AccountUnusable` when none of them is there.
    """
    if os.geteuid() != 0:
        return None
    if existing is not None and existing.exists():
        found = existing.stat()
        if found.st_uid != 0:
            return Account(_name_of(found.st_uid), found.st_uid, found.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise AccountUnusable(
        "expected an unprivileged account to run PostgreSQL as, because it refuses to run as root; found neither "
        "postgres nor nobody; create one (useradd --system postgres), or set DATABASE_URL to a server of your own"
    )


def environment(home: Path) -> dict[str, str]:
    """What a server process gets to see: a few names, C messages, and a HOME it owns."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return {**passed, "HOME": str(home), "LC_ALL": "C"}


def run_as(
    account: Account | None,
    command: Sequence[str | Path],
    *,
    home: Path = Path("/"),
    stdin: str = "",
    timeout: float = 120,
    extra_environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end as that account, out of reach of our terminal's Ctrl-C; its exit code is the caller's.

    Raises `AccountUnusable` when we may not become that account, `OSError` when the command cannot be executed,
    `subprocess.TimeoutExpired` after `timeout` seconds.
    """
    try:
        return subprocess.run(
            [str(word) for word in command],
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            cwd="/",
            env={**environment(home), **(extra_environment or {})},
            timeout=timeout,
            check=False,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except PermissionError as refused:
        if account is None or _may_become(account):
            raise
        raise AccountUnusable(
            f"expected to be able to run PostgreSQL as {account.name}, but this root may not change its account "
            f"({refused.strerror}); give the container CAP_SETUID and CAP_SETGID, start it as an ordinary user, "
            "or set DATABASE_URL to a server of your own"
        ) from refused


def can(account: Account | None, test: str, path: Path) -> bool:
    """Whether that account passes `test -x path` (or -r, -w, -d), folders on the way included."""
    return run_as(account, ["/bin/sh", "-c", 'test "$1" "$2"', "sh", test, str(path)]).returncode == 0


def _may_become(account: Account) -> bool:
    try:
        subprocess.run(
            ["/bin/sh", "-c", ":"], cwd="/", check=True, user=account.uid, group=account.gid, extra_groups=[]
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
