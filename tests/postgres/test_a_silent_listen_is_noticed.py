"""A pooler accepts LISTEN and says nothing: the probe tells the difference, and why."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wakelog.postgres.listen import probe_listen, probe_listen_async


def test_a_direct_connection_works(database: str) -> None:
    assert probe_listen(database).works
    assert not probe_listen(database).pooled


def test_over_a_connection_and_for_asyncio(database: str) -> None:
    async def run() -> bool:
        async with await psycopg.AsyncConnection.connect(database) as connection:
            return (await probe_listen_async(connection)).works

    assert asyncio.run(run())
    with psycopg.connect(database) as connection:
        assert probe_listen(connection).works


def test_dropped_notifications_are_noticed(database: str) -> None:
    with proxy(database, lambda message: message != b"A") as url:
        probe = probe_listen(url, patience=0.2)
    assert (probe.works, probe.pooled) == (False, False)
    assert "expected a notification within 0.2 s" in probe.detail


def test_a_slow_server_is_not_taken_for_a_silent_one(database: str) -> None:
    """For a whole life of workers it would be."""

    def passes(message: bytes) -> bool:
        if message == b"A":
            time.sleep(0.5)
        return True

    with proxy(database, passes) as url:
        assert probe_listen(url, patience=0.1).works


def test_a_shared_session_is_noticed(database: str) -> None:
    """As in a transaction-mode pooler with one server connection: both clients' statements run in it."""
    with psycopg.connect(database, autocommit=True) as only:
        from wakelog.postgres import listen

        probe = listen._probe(only, only, 0.2)  # pyright: ignore[reportPrivateUsage]
    assert (probe.works, probe.pooled) == (False, True)
    assert "transaction mode" in probe.detail


@contextmanager
def proxy(url: str, passes: Callable[[bytes], bool]) -> Iterator[str]:
    """A way to the same database that lets only some kinds of the server's messages through."""
    parameters = conninfo_to_dict(url)
    server = (str(parameters["host"]), int(str(parameters["port"])))
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_accept, args=[listener, server, passes], daemon=True).start()
    port = listener.getsockname()[1]
    try:
        yield make_conninfo(url, port=port, sslmode="disable", gssencmode="disable")
    finally:
        listener.close()


def _accept(listener: socket.socket, server: tuple[str, int], passes: Callable[[bytes], bool]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        upstream = socket.create_connection(server)
        threading.Thread(target=_forward, args=[client, upstream], daemon=True).start()
        threading.Thread(target=_filter, args=[upstream, client, passes], daemon=True).start()


def _forward(client: socket.socket, upstream: socket.socket) -> None:
    with client, upstream:
        while data := client.recv(65536):
            upstream.sendall(data)


def _filter(upstream: socket.socket, client: socket.socket, passes: Callable[[bytes], bool]) -> None:
    try:
        with upstream.makefile("rb") as messages:
            while len(head := messages.read(5)) == 5:
                body = messages.read(struct.unpack("!I", head[1:])[0] - 4)
                if passes(head[:1]):
                    client.sendall(head + body)
    except OSError:
        return
