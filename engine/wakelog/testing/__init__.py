"""What the tests of a program that uses Wakelog import: `pip install 'wakelog[testing]'`.

pytest finds the fixtures `wakelog_log`, `wakelog_database` and `wakelog_server` by itself (see docs/testing.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wakelog.testing.log import DeadLetter, LogUnderTest
    from wakelog.testing.postgres import ThrowawayPostgres
    from wakelog.testing.until_idle import NotIdle

__all__ = ["DeadLetter", "LogUnderTest", "NotIdle", "ThrowawayPostgres"]

_MODULES = {
    "DeadLetter": "wakelog.testing.log",
    "LogUnderTest": "wakelog.testing.log",
    "NotIdle": "wakelog.testing.until_idle",
    "ThrowawayPostgres": "wakelog.testing.postgres",
}


def __getattr__(name: str) -> Any:
    # pytest imports this room's plugin in every run, also of those who installed nothing for tests.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
