"""A real pgbouncer in front of a server, lending its sessions for one transaction each."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.worker.waiting import until

from wakelog.postgres.account import environment, server_account
from wakelog.postgres.ports import free_port

_SETTINGS = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
logfile = {folder}/pgbouncer.log
"""


@contextmanager
def transaction_pooler(url: str, folder: Path, *, sessions: int) -> Iterator[str]:
    """The URL of the same database through a pooler that shares so many sessions among all its clients.

    Skips the test where there is no pgbouncer. The folder must be one that every account may pass through.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("there is no pgbouncer here (Debian: apt-get install pgbouncer)")
    server = conninfo_to_dict(url)
    port = free_port()
    account = server_account()
    home = folder / "pgbouncer"
    home.mkdir()
    settings = home / "pgbouncer.ini"
    settings.write_text(
        _SETTINGS.format(
            host=server["host"], port=server["port"], user=server["user"], own_port=port, sessions=sessions,
            folder=home,
        )
    )  # fmt: skip
    if account is not None:
        os.chown(home, account.uid, account.gid)
    # Not as root: pgbouncer refuses that, as the server does.
    process = subprocess.Popen(
        [program, str(settings)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment(home),
        start_new_session=True,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    pooled = make_conninfo(url, port=port)
    try:

        def answers() -> bool:
            assert process.poll() is None, "pgbouncer ended at once"
            with contextlib.suppress(psycopg.OperationalError), psycopg.connect(pooled):
                return True
            return False

        until(answers)
        yield pooled
    finally:
        process.terminate()
        process.wait(10)
