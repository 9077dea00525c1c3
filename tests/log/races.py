"""Races between operating system processes: all are at the line before any may go."""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psycopg
from tests.log.sessions import waiting_for_a_lock

from wakelog.log.append import append

_GUN = 71


def race(url: str, runner: Callable[..., Any], number: int) -> list[Any]:
    """What `number` processes return from `runner(connection, n)`, called at one moment."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with psycopg.connect(url, autocommit=True) as starter:
        starter.execute("select pg_advisory_lock(%s)", [_GUN])
        with ProcessPoolExecutor(number, mp_context=context) as processes:
            runners = [processes.submit(_run, url, runner, n) for n in range(number)]
            waiting_for_a_lock(starter, number)
            starter.execute("select pg_advisory_unlock(%s)", [_GUN])
            return [ended.result() for ended in runners]


def _run(url: str, runner: Callable[..., Any], n: int) -> Any:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock_shared(%s)", [_GUN])
        return runner(connection, n)


def append_expecting_nothing(connection: psycopg.Connection[Any], n: int) -> str:
    """Append to a stream that must be new; say how it went."""
    try:
        append(connection, "order.placed", {"by": n}, stream="order-1", expected_version=0)
    except Exception as error:
        return type(error).__name__
    return "won"


def append_with_one_key(connection: psycopg.Connection[Any], n: int) -> tuple[str, Any]:
    """Append under the same key as everybody; return the event as it came back."""
    event = append(connection, "order.placed", {"by": n}, source="shop", idempotency_key="order-1")
    return str(event.id), event.payload
