"""examples/hello.py, run as its first lines say."""

import os
import subprocess
import sys
import time

import psycopg
from tests.examples.conftest import EXAMPLES

from wakelog import append


def test_a_sign_up_is_greeted(database: str) -> None:
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from wakelog_cli.main import main; main()",
            "worker",
            str(EXAMPLES / "hello.py"),
        ],
        env={**os.environ, "DATABASE_URL": database},
    )
    try:
        with psycopg.connect(database, autocommit=True) as connection:
            until = time.monotonic() + 60
            ready = "select count(*) from wakelog.workers where alive and 'greeter' = any (agents)"
            while connection.execute(ready).fetchone() == (0,) and time.monotonic() < until:
                time.sleep(0.02)
            signed_up = append(connection, "user.signed_up", {"name": "Ada"})
            answer = None
            while answer is None and time.monotonic() < until:
                answer = connection.execute(
                    "select payload from wakelog.events where type = 'greeter.completed' and causation_id = %s",
                    [signed_up.id],
                ).fetchone()
                time.sleep(0.02)
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
    assert answer == ({"text": "Hello, Ada!"},)
