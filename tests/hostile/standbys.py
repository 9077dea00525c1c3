"""A standby of a server: a copy that follows, and takes its place."""

from pathlib import Path

import psycopg
import pytest
from tests.worker.waiting import one, until

from wakelog.errors import WakelogError
from wakelog.postgres.account import run_as
from wakelog.testing import ThrowawayPostgres

NAME = "standby"


class Standby(ThrowawayPostgres):
    """Made from a primary that runs, and following it until `promote`.

    Skips the test where there is no pg_basebackup.
    """

    def __init__(self, primary: ThrowawayPostgres) -> None:
        self.primary = primary
        if not primary.binaries.program("pg_basebackup").exists():
            pytest.skip(f"there is no pg_basebackup in {primary.binaries.bindir}")
        super().__init__(primary.binaries, durable=True)

    def initialize_database(self) -> None:
        data = Path(self.get_data_directory())
        self._give(data)
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={NAME}"
        program = self.binaries.program("pg_basebackup")
        made = run_as(
            self.account, [program, "-D", data, "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
        )
        if made.returncode != 0:
            raise WakelogError(f"expected pg_basebackup to make a standby, but: {made.stderr.strip()}")
        super().initialize_database()

    def wait_for_it(self) -> None:
        """From here on no commit of the primary is acknowledged before the standby has it on its disk."""
        with psycopg.connect(self.primary.url(), autocommit=True) as connection:
            connection.execute(f"alter system set synchronous_standby_names = '{NAME}'".encode())
            connection.execute("select pg_reload_conf()")
            until(lambda: one(connection, "select sync_state from pg_stat_replication") == "sync")

    def promote(self) -> None:
        """Make it the primary; it takes writes when this returns."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            assert one(connection, "select pg_promote()")


def either(primary: ThrowawayPostgres, standby: Standby) -> str:
    """The URL that names both, and lets libpq find the one that takes writes."""
    return (
        f"postgresql://postgres@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/test"
        "?target_session_attrs=read-write"
    )
