"""Folders in memory, for servers whose data nobody wants back: on a busy disk a database takes ten times as long."""

import shutil
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
ROOM = 2 << 30
"""Bytes that must be free there: many times what is ever needed, for many a container has 64 MB in all."""


def roomy_memory() -> Path | None:
    """Where folders in memory can be made; None where this machine has no room for them."""
    if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free >= ROOM:
        return SHARED_MEMORY
    return None
