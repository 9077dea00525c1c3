"""Workers in hostile surroundings: the fixtures of the tests of workers, and what counts as done."""

from tests.worker.conftest import connection, start_workers

__all__ = ["connection", "start_workers"]
