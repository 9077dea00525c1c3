"""The code in docs/testing.md, run as a reader would run it."""

import os
import re
import subprocess
import sys
from pathlib import Path

from wakelog.testing import LogUnderTest, ThrowawayPostgres

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_page_ends_with_a_test_file_that_runs(server: ThrowawayPostgres, tmp_path: Path) -> None:
    tables, tests = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert PAGE.read_text().endswith(f"{tests}```\n")
    (tmp_path / "conftest.py").write_text(tables)
    (tmp_path / "test_shop.py").write_text(
        f"{tests}\n\ndef test_tables(wakelog_log):\n"
        "    assert wakelog_log.connection.execute('table greeted').fetchall() == []\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "wakelog.testing.plugin"],
        cwd=tmp_path, text=True, capture_output=True,
        env=os.environ | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "", "WAKELOG_TEST_DATABASE": server.url(),
        },
    )  # fmt: skip
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_page_names_all_that_a_log_can_do() -> None:
    page = PAGE.read_text()
    public = [name for name in vars(LogUnderTest) if not name.startswith("_") and name != "close"]
    assert [
        name for name in [*public, "connection", "url"] if f"`{name}" not in page.replace("await ", "")
    ] == []
