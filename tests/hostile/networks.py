"""A network of two: this machine, and a namespace at the other end of a cable that can be cut."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

_RANGES = ("198.51.100", "203.0.113", "192.0.2")
"""Set aside for documentation, so that hardly anybody has them."""


class Namespace:
    """The other end. `here` and `there` are the addresses of the two."""

    def __init__(self, name: str, addresses: str) -> None:
        self.name = name
        self.here = f"{addresses}.1"
        self.there = f"{addresses}.2"
        self._cable = f"{name}b"

    @property
    def within(self) -> list[str]:
        """The command that runs another one there."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Nothing passes any more, and nobody is told."""
        _ip("-n", self.name, "link", "set", self._cable, "down")

    def mend(self) -> None:
        """All is as it was before the cut."""
        _ip("-n", self.name, "link", "set", self._cable, "up")


@contextmanager
def network() -> Iterator[Namespace]:
    """Lay it out; skips the test where that is not allowed."""
    if shutil.which("ip") is None:
        pytest.skip("there is no ip command here (Debian: apt-get install iproute2)")
    name = f"wl{os.getpid()}"
    try:
        routes = _ip("route", "show", "table", "all") + _ip("address")
        free = [addresses for addresses in _RANGES if f"{addresses}." not in routes]
        if not free:
            pytest.skip(f"no range of addresses is free here, of {', '.join(_RANGES)}")
        namespace = Namespace(name, free[0])
        _ip("netns", "add", name)
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"no network namespace can be made here (it takes root): {refused.stderr.strip()}")
    try:
        near, far = f"{name}a", f"{name}b"
        try:
            _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        except subprocess.CalledProcessError as refused:
            pytest.skip(f"no virtual cable can be laid here: {refused.stderr.strip()}")
        _ip("address", "add", f"{namespace.here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "address", "add", f"{namespace.there}/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        yield namespace
    finally:
        # The cable goes with it, as soon as the last process in it has ended.
        _ip("netns", "delete", name)


def _ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout
