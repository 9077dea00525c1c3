"""The append-only log in your Postgres that wakes your agents."""

__version__ = "0.1.0"
