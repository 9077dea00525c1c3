"""A way to the server on which an answer may be cut off: whatever holds certain words ends its connection."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@contextmanager
def cut_at(url: str, words: bytes) -> Iterator[str]:
    """The database's URL by that way; each connection over which the server sends these words is closed before them."""
    server = conninfo_to_dict(url)
    ready, port = threading.Event(), list[int]()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, watched: bool) -> None:
        said = b""
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                said = said[-len(words) :] + data
                if watched and words in said:
                    break
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection(str(server["host"]), int(server["port"] or 5432))
        both = [
            asyncio.ensure_future(carry(to_server[0], writer, True)),
            asyncio.ensure_future(carry(reader, to_server[1], False)),
        ]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        writer.close()
        to_server[1].close()

    async def serve() -> None:
        listening = await asyncio.start_server(connected, "127.0.0.1", 0)
        port.append(listening.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        listening.close()
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                task.cancel()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    ready.wait()
    try:
        yield make_conninfo(url, host="127.0.0.1", port=port[0])
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()
