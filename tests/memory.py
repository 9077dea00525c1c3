"""Folders in memory, for what is careless about crashes anyway: a busy disk makes a database ten times slower."""

import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHARED_MEMORY = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that must be free there. A session's server comes to a quarter of it; many a container has 64 MB in all."""


@contextmanager
def folders_in_memory() -> Generator[None]:
    """Temporary folders made in this block lie in memory, where this machine has room for them there."""
    with pytest.MonkeyPatch.context() as patch:
        if SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free >= ROOM:
            patch.setattr(tempfile, "tempdir", str(SHARED_MEMORY))
        yield
