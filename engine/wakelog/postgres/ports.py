"""Ports of 127.0.0.1 for private servers."""

import random
import socket

from wakelog.errors import WakelogError

# Below the range from which systems take ports for outgoing connections: a port that a stopped server had is
# still free when it comes back.
_PORTS = range(21000, 32000)
_TRIES = 100


class NoFreePort(WakelogError):
    """None of the ports that were tried was free."""


def free_port() -> int:
    """A port nobody listens on at this moment; raises `NoFreePort`."""
    for port in random.sample(_PORTS, _TRIES):
        if is_free(port):
            return port
    raise NoFreePort(
        f"expected a free port between {_PORTS.start} and {_PORTS.stop - 1} on 127.0.0.1, found {_TRIES} taken ones; "
        "stop what listens there, or set DATABASE_URL to a server of your own"
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on that port of 127.0.0.1 at this moment."""
    with socket.socket() as probe:
        # As PostgreSQL does: connections of a server that has just ended do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
