"""The tables of a projection, as statements that create them wherever the search path leads."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wakelog.errors import BadInput

if TYPE_CHECKING:
    import sqlalchemy as sa

    Tables = str | Path | sa.MetaData | sa.Table | Sequence["str | Path | sa.Table"]
else:
    Tables = Any


def table_statements(name: str, tables: "Tables | None") -> tuple[str, ...]:
    """One statement for each table and index, or for each text or file.

    A schema that a SQLAlchemy table names is where its readers look; the statements leave it out.

    Raises BadInput for what is none of these.
    """
    if tables is None:
        return ()
    given: list[Any] = list(tables) if isinstance(tables, list | tuple) else [tables]  # pyright: ignore
    statements: list[str] = []
    for one in given:
        if isinstance(one, Path):
            statements.append(one.read_text())
        elif isinstance(one, str):
            statements.append(one)
        else:
            statements += _compiled(name, one)
    return tuple(statements)


def _compiled(name: str, tables: Any) -> list[str]:
    import sqlalchemy as sa

    if isinstance(tables, sa.Table):
        names, metadata = {tables.name}, tables.metadata
    elif isinstance(tables, sa.MetaData):
        names, metadata = {table.name for table in tables.sorted_tables}, tables
    else:
        raise BadInput(
            f'projection "{name}": expected SQL text, a Path, a SQLAlchemy Table or MetaData in tables=, '
            f"found {tables!r:.200}"
        )
    statements: list[str] = []

    def collect(element: Any, *_: Any, **__: Any) -> None:
        statements.append(str(element.compile(dialect=engine.dialect)).strip())

    def no_schema(_: Any) -> str:
        return ""

    engine = sa.create_mock_engine("postgresql+psycopg://", collect)
    engine.dialect.identifier_preparer.schema_for_object = no_schema
    wanted = [one for one in metadata.sorted_tables if one.name in names]
    metadata.create_all(engine, tables=wanted, checkfirst=False)
    return statements
