"""Servers with Wakelog in them from the start: each begins with the data of one that was made once, and stopped."""

from pathlib import Path

from wakelog.errors import WakelogError
from wakelog.postgres.account import run_as
from wakelog.postgres.binaries import Binaries
from wakelog.testing import ThrowawayPostgres


class PreparedPostgres(ThrowawayPostgres):
    """A durable server that goes on with a copy of that data."""

    def __init__(self, binaries: Binaries, prepared: Path) -> None:
        self.prepared = prepared
        super().__init__(binaries, durable=True)

    def initialize_database(self) -> None:
        data = Path(self.get_data_directory())
        self._give(data)
        made = run_as(self.account, ["cp", "-R", "-p", f"{self.prepared}/.", data])
        if made.returncode != 0:
            raise WakelogError(f"expected cp to copy a server's data, but: {made.stderr.strip()}")
        super().initialize_database()
