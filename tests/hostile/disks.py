"""A small disk of its own, to be filled up and emptied again."""

import contextlib
import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class SmallDisk:
    """Where it is mounted, and how it is filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Leave not one free block."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as ballast:
            for size in (1 << 20, 4096):
                try:
                    while True:
                        ballast.write(os.urandom(size))
                except OSError as full:
                    if full.errno != errno.ENOSPC:
                        raise

    def empty(self) -> None:
        """Give back what `fill` took."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount one that every account may use; skips the test where that is not allowed."""
    folder = Path(tempfile.mkdtemp(prefix="wakelog-test-", dir="/tmp"))
    options = f"size={megabytes}m,mode=1777"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "wakelog-test", str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        folder.rmdir()
        pytest.skip("there is no mount command here")
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"a disk cannot be mounted here (it takes root): {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily, for whatever may still look at it.
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()
