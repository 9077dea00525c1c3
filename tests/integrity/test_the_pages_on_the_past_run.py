"""The programs that end docs/integrity.md and docs/forgetting.md do what the pages say."""

import asyncio
import re
import runpy
from pathlib import Path
from typing import Any

import psycopg

from wakelog import FORGOTTEN, append, read
from wakelog.log.read import sequence
from wakelog.testing.until_idle import until_idle

DOCS = Path(__file__).parents[2] / "docs"


def program(page: str, folder: Path) -> dict[str, Any]:
    *_, last = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.S)
    (folder / "program.py").write_text(last)
    return runpy.run_path(str(folder / "program.py"))


def test_the_page_on_integrity(database: str, tmp_path: Path) -> None:
    said = program("integrity.md", tmp_path)["main"](database)
    assert re.fullmatch(
        r"position 1, invoice.sent, id \S+: changed after it was sealed \(seal 1, \S+\)", said
    )


def test_the_page_on_forgetting(database: str, connection: psycopg.Connection[Any], tmp_path: Path) -> None:
    app = program("forgetting.md", tmp_path)["app"]
    private = {"name": "customer-17"}
    append(connection, "customer.joined", {"name": "Ada"}, stream="customer-17", private=private)

    def letters() -> list[Any]:
        sequence(connection)
        return [event.payload["text"] for event in read(connection, types="letter.sent")]

    asyncio.run(until_idle(app, database, 30))
    assert letters() == ["Dear Ada, welcome!"]
    connection.execute("select wakelog.forget('customer-17')")
    connection.execute("select wakelog.rewind_agent('letters', 1)")
    asyncio.run(until_idle(app, database, 30))
    assert letters() == [FORGOTTEN]
    answered = "select payload from wakelog.events where type = 'letters.completed'"
    assert connection.execute(answered).fetchall() == [({"customer": "customer-17"},)]


def test_the_record_on_the_page_is_the_record() -> None:
    from wakelog.integrity.record import FIELDS, TYPE_NUMBERS

    rows = re.findall(
        r"^\| (`[^|]*) \| (\w+), (\d+) \||^\| (`[^|]*) \| as", (DOCS / "integrity.md").read_text(), re.M
    )
    on_the_page = [
        (name, int(number)) for names, _, number, _ in rows for name in re.findall(r"`(\w+)`", names)
    ]
    assert on_the_page == [(name, TYPE_NUMBERS[kind]) for name, kind in FIELDS]
