"""Everything a database holds, as pg_dump tells it."""

import subprocess

from wakelog.postgres.binaries import Binaries


def contents(binaries: Binaries, url: str) -> str:
    """Every row of every table, without where the sequences are: no rollback takes them back."""
    run = subprocess.run(
        [binaries.program("pg_dump"), "--data-only", "--inserts", "-b", url],
        capture_output=True,
        text=True,
        check=True,
    )
    left_out = ("\\restrict", "\\unrestrict", "SELECT pg_catalog.setval")
    return "\n".join(line for line in run.stdout.splitlines() if not line.startswith(left_out))
