"""wakelog tail: what is there, and what comes; it ends quietly, however it ends."""

import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import COMMAND, Processes, Wakelog


@pytest.mark.usefixtures("log_of_three")
class TestWhatIsThere:
    def test_it_is_printed_in_order(self, wakelog: Wakelog) -> None:
        lines = wakelog("tail").out.splitlines()
        assert [line.split()[0] for line in lines] == ["1", "2", "3"]
        assert 'push [github/acme]  {"branch": "main"}' in lines[0]
        assert lines[2].endswith("order.paid order-17@1")

    def test_as_json_it_is_one_object_a_line(self, wakelog: Wakelog) -> None:
        events = wakelog("tail", "--json").lines
        assert [(e["position"], e["type"]) for e in events] == [(1, "push"), (2, "push"), (3, "order.paid")]
        assert events[0]["payload"] == {"branch": "main"}

    @pytest.mark.parametrize(
        ("arguments", "positions"),
        [
            (["--limit", "2"], [1, 2]),
            (["--type", "order.*"], [3]),
            (["--type", "nothing", "--type", "push"], [1, 2]),
            (["--from", "2"], [2, 3]),
            (["--from", "4"], []),
            (["--from", "now"], []),
            (["--from", "beginning", "-n", "1"], [1]),
            (["--from", "10m"], [1, 2, 3]),
            (["--from", "-10m"], [1, 2, 3]),
            (["--from", (datetime.now(UTC) + timedelta(days=1)).isoformat()], []),
            (["--from", "2020-01-01"], [1, 2, 3]),
        ],
    )
    def test_a_part_of_it_may_be_asked_for(
        self, wakelog: Wakelog, arguments: list[str], positions: list[int]
    ) -> None:
        ended = wakelog("tail", "--json", *arguments)
        assert (ended.code, [event["position"] for event in ended.lines]) == (0, positions)


@pytest.mark.parametrize("place", ["yesterday", "", "-", "10x", "2026-13-01", "1e5"])
def test_a_place_that_is_none_is_refused(wakelog: Wakelog, place: str) -> None:
    ended = wakelog("tail", "--from", place)
    assert ended.code == 2
    assert "expected now, beginning, a position" in ended.err
    assert ended.err.rstrip().endswith("see: wakelog tail --help")


def test_ctrl_c_ends_it_with_130_and_no_word(
    database: str, processes: Processes, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("insert into wakelog.events (type) values ('first')")
    following = processes.start("tail", "-f", "--from", "beginning", folder=tmp_path, DATABASE_URL=database)
    assert following.stdout is not None
    assert "first" in following.stdout.readline()
    connection.execute("insert into wakelog.events (type) values ('second')")
    assert "second" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    out, err = following.communicate(timeout=20)
    assert (following.returncode, out, err) == (130, "", "")


def test_it_ends_with_its_reader_at_once_and_no_word(
    database: str, tmp_path: Path, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("insert into wakelog.events (type) values ('only')")
    # PIPESTATUS tells how it ended, which the shell takes from head otherwise.
    script = f'"{COMMAND[0]}" tail -f --from beginning | head -1; echo "${{PIPESTATUS[0]}}"'
    ended = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "DATABASE_URL": database},
        capture_output=True,
        text=True,
        timeout=30,
    )
    first, code = ended.stdout.splitlines()
    assert "only" in first
    assert (code, ended.stderr) == ("0", "")
