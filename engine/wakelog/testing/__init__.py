"""What the tests of a program that uses Wakelog import: `pip install 'wakelog[testing]'`."""

from wakelog.testing.postgres import ThrowawayPostgres

__all__ = ["ThrowawayPostgres"]
