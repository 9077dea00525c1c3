"""What changed in a projection between two moments, for `wakelog projection show --between`."""

from typing import TYPE_CHECKING, Any

from wakelog_cli.output import counted, say, shortened, to_json
from wakelog_cli.rebuilding import fold_build

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

    from wakelog.projections.changes import Change
    from wakelog.projections.definition import ProjectionDefinition


def changes(
    connection: "Connection[Any]",
    url: str,
    name: str,
    definition: "ProjectionDefinition | None",
    app: str | None,
    after: int,
    upto: int,
) -> "list[Change]":
    """Fold the log aside to both positions and compare; nothing is left behind. Raises as `fold_build`."""
    from wakelog.projections.aside import LookAside
    from wakelog.projections.changes import changes_between

    with LookAside(connection, url, name, definition) as look:
        schemas: list[str] = []
        for position in (after, upto):
            build = look.make(position)
            fold_build(connection, url, build, definition, app, 1, serve=False)
            schemas.append(build.schema)
        return list(changes_between(connection, *schemas))


def document(found: "Sequence[Change]") -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "table": one.table,
            "was": one.was,
            "is": one.now,
            "columns": one.columns if one.was and one.now else None,
        }
        for one in found
    ]


def say_changes(found: "Sequence[Change]") -> None:
    """A line for each row: + added, - removed, ~ changed."""
    table = None
    for one in found:
        if one.table != table:
            table = one.table
            say(f"\n{table}, {counted(sum(other.table == table for other in found), 'row')} otherwise")
        if one.was is None:
            say(f"  + {_cells(one.now)}")
        elif one.now is None:
            say(f"  - {_cells(one.was)}")
        else:
            differences = ", ".join(
                f"{column}: {shortened(to_json(one.was.get(column)), 60)} -> {shortened(to_json(one.now[column]), 60)}"
                for column in one.columns
            )
            same = {column: cell for column, cell in one.now.items() if column not in one.columns}
            say(f"  ~ {_cells(same)}  {differences}")
    if not found:
        say("Nothing is otherwise.")


def _cells(row: dict[str, Any] | None) -> str:
    return shortened("  ".join(f"{name}={to_json(cell)}" for name, cell in (row or {}).items()), 160)
