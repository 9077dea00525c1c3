"""Where the SQL lives, in a wheel or in a checkout, and the two halves of install.txt."""

import hashlib
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]


def sql_folder() -> Path:
    """The folder of today's schema, one object per file."""
    return _folder("_sql", "sql")


def migrations_folder() -> Path:
    """The folder of Alembic's revisions."""
    return _folder("_migrations", "migrations")


def tables_sql() -> str:
    """What is made once and changed by revisions afterwards: the first half of install.txt."""
    return _text(_order()[0])


def replaceable_sql() -> str:
    """Functions, triggers, views and grants: the second half of install.txt, replayed by every upgrade."""
    return _text(_order()[1])


def roles_sql() -> str:
    """Makes those of the roles that are missing, where that is allowed."""
    return _text(["roles/roles.sql"])


def grants_sql() -> str:
    """What each role may do; part of the replaceable half."""
    return _text(["roles/grants.sql"])


def replaceable_views() -> list[str]:
    """The names of the views among them, in the order in which they are made."""
    return [Path(name).stem for name in _order()[1] if name.startswith("views/")]


@cache
def fingerprint() -> str:
    """Changes whenever the replaceable half does."""
    return hashlib.sha256(replaceable_sql().encode()).hexdigest()[:16]


def _folder(in_wheel: str, in_checkout: str) -> Path:
    packed = _PACKAGE / in_wheel
    return packed if packed.is_dir() else _CHECKOUT / in_checkout


def _order() -> tuple[list[str], list[str]]:
    lines = (sql_folder() / "install.txt").read_text().splitlines()
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    dashes = names.index("---")
    return names[:dashes], names[dashes + 1 :]


def _text(names: list[str]) -> str:
    folder = sql_folder()
    return "\n".join((folder / name).read_text().strip() + "\n" for name in names)
