"""One PostgreSQL data folder: made with initdb, started and stopped with pg_ctl, recognised when it already runs."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from wakelog.errors import WakelogError
from wakelog.postgres.account import Account, can, run_as
from wakelog.postgres.binaries import Binaries

SUPERUSER = "wakelog"

# No process has this number, so PostgreSQL takes a lock file that names it for what it is: left behind.
_NOBODYS_PID = 2**31 - 1


class ServerFailed(WakelogError):
    """A private PostgreSQL could not be made, started or stopped; the message ends with its own words."""


class PortTaken(ServerFailed):
    """Somebody else listens on the port the server was to have."""


@dataclass(frozen=True)
class Cluster:
    """A data folder, the programs of its version, and the account that owns it and runs them."""

    data: Path
    log: Path
    binaries: Binaries
    account: Account | None

    def exists(self) -> bool:
        """Whether initdb has finished here."""
        return (self.data / "PG_VERSION").exists()

    def create(self, password: str) -> None:
        """Make an empty cluster; killed half way, it leaves no data folder that looks finished.

        Raises `ServerFailed` with what initdb said.
        """
        unfinished = self.data.with_name(self.data.name + ".new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._give(_made(unfinished))
        handle, name = tempfile.mkstemp(prefix=".password-", dir=self.data.parent)
        password_file = Path(name)
        try:
            with os.fdopen(handle, "w") as file:
                file.write(password + "\n")
            self._give(password_file)
            made = self._run(
                "initdb",
                *("-D", unfinished, "--username", SUPERUSER, "--pwfile", password_file),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-instructions"),
                home=unfinished,
            )
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise ServerFailed(
                f"expected initdb to make {self.data}, but it ended with {made.returncode}: "
                f"{_last_lines(made.stderr or made.stdout)}"
            )
        unfinished.rename(self.data)

    def launch(self, port: int, settings: Mapping[str, str], timeout: float) -> None:
        """Start the server on that port of 127.0.0.1 and wait until it takes connections.

        It is in a session of its own: a Ctrl-C at our terminal does not reach it.

        Raises `PortTaken`, or `ServerFailed` with the end of the server's log.
        """
        self._disown_stale_lock_file()
        self.log.touch(mode=0o600)
        self._give(self.log)
        written = self.log.stat().st_size
        options = " ".join(
            ["-p", str(port), *(f"-c {shlex.quote(f'{name}={value}')}" for name, value in settings.items())]
        )
        started = self._run(
            "pg_ctl",
            *("start", "-D", self.data, "-l", self.log, "-w", "-t", str(int(timeout)), "-o", options),
            timeout=timeout + 30,
        )
        if started.returncode == 0:
            return
        with self.log.open(errors="replace") as log:
            log.seek(written)
            said = log.read()
        failed = PortTaken if "Address already in use" in said else ServerFailed
        raise failed(
            f"expected PostgreSQL to start from {self.data} on port {port}, but it did not: "
            f"{_last_lines(said or started.stderr)} (all of it: {self.log})"
        )

    def stop(self, timeout: float) -> None:
        """End the server and wait for it: open transactions are rolled back, all that was committed stays.

        Raises `ServerFailed` when it is still there after `timeout` seconds and does not even end at once when told.
        """
        for mode in ("fast", "immediate"):
            if self.port() is None:
                return
            command = ("stop", "-D", self.data, "-w", "-t", str(int(timeout)), "-m", mode)
            stopped = self._run("pg_ctl", *command, timeout=timeout + 30)
            if stopped.returncode == 0:
                return
        if self.port() is not None:
            raise ServerFailed(
                f"expected PostgreSQL in {self.data} to stop within {timeout:g} s, but it still runs; see {self.log}, "
                f"then end it: {self.binaries.program('pg_ctl')} stop -D {self.data} -m immediate"
            )

    def port(self) -> int | None:
        """The port of the server that runs from this folder, or None: a lock file alone is not believed."""
        return port_served_from(self.data)

    def _disown_stale_lock_file(self) -> None:
        """After a crash another process may have the number in postmaster.pid, and PostgreSQL would not start.

        Only the number is replaced: the rest lets PostgreSQL see whether old backends still use the shared memory,
        which deleting the file would hide.
        """
        lines = _lock_file(self.data)
        if lines and self.port() is None:
            text = "\n".join([str(_NOBODYS_PID), *lines[1:]]) + "\n"
            run_as(
                self.account, ["/bin/sh", "-c", 'cat > "$1"', "sh", self.data / "postmaster.pid"], stdin=text
            )

    def _run(
        self, program: str, *arguments: str | Path, timeout: float = 120, home: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [self.binaries.program(program), *arguments]
        try:
            return run_as(self.account, command, home=home or self.data, timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise ServerFailed(
                f"expected {program} to end within {timeout:g} s, and it did not; see {self.log}"
            ) from late

    def _give(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def holds_data_of(account: Account | None, folder: Path) -> bool:
    """Whether that account can keep a data folder in `folder`: reach it, own something in it, and write there."""
    try:
        probe = Path(tempfile.mkdtemp(prefix=".probe-", dir=folder))
    except OSError:
        return False
    try:
        if account is not None:
            os.chown(probe, account.uid, account.gid)
        return can(account, "-w", probe)
    except PermissionError:
        return False
    finally:
        probe.rmdir()


def port_served_from(data: Path) -> int | None:
    """The port of the server that runs from this data folder, or None; changes nothing."""
    lines = _lock_file(data)
    if len(lines) < 4 or not lines[0].lstrip("-").isdigit():
        return None
    started_in = Path(lines[1])
    # A folder that was renamed takes its server along; one that was copied does not.
    ours = started_in == data or not started_in.exists()
    return int(lines[3]) if ours and str(started_in) in _command_line(abs(int(lines[0]))) else None


def _lock_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []


def _command_line(pid: int) -> str:
    """How that process was started; empty for one that is gone, or a zombie."""
    if not Path("/proc/self").exists():
        return run_as(None, ["ps", "-o", "command=", "-p", str(pid)]).stdout
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _last_lines(text: str) -> str:
    return " | ".join(text.strip().splitlines()[-4:]) or "(nothing)"
