"""For tests of projections: the fixtures of the tests of workers, and a log to fold."""

from tests.worker.conftest import connection, start_workers

__all__ = ["connection", "start_workers"]
