"""Two databases compared by what pg_dump says of them."""

import subprocess

from wakelog.postgres.binaries import Binaries


def dump(binaries: Binaries, url: str) -> str:
    """The schema of a database as SQL, without what differs from dump to dump."""
    run = subprocess.run(
        [binaries.program("pg_dump"), "--schema-only", url], capture_output=True, text=True, check=True
    )
    return "\n".join(
        line for line in run.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))
    )
