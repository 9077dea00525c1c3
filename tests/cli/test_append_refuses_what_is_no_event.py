"""wakelog append: bad input is told in a sentence, with what to type next, and nothing is half written."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.cli.command import Wakelog


@pytest.fixture(autouse=True)
def nothing_is_written(connection: psycopg.Connection[Any]) -> Iterator[None]:
    yield
    assert connection.execute("select count(*) from wakelog.events").fetchone() == (0,)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "expected the type"),
        ([""], "expected words joined by dots"),
        (["two words"], "expected words joined by dots"),
        (["x" * 300], "255 bytes"),
        (["push", '{"a": }'], "line 1, column 7"),
        (["push", '{"a": 1} extra'], "extra data at line 1, column 10"),
        (["push", ""], "expecting value"),
        (["push", "NaN"], "NaN is not a number"),
        (["push", "1e999"], "too large a number"),
        (["push", "[" * 100_000], "nested too deeply"),
        (["push", r'"\u0000"'], "\\u0000"),
        (["push", "@nowhere.json"], "nowhere.json"),
        (["push", "@."], "cannot be opened"),
        (["push", "--metadata", "[1]"], "expected the metadata to be a JSON object"),
        (["push", "--metadata", "{"], "expected the metadata to be JSON"),
        (["push", "--cause", "nobody"], "not a valid UUID"),
        (["push", "--stream", ""], "stream"),
        (["push", "--expected-version", "1"], "needs a stream"),
        (["push", "--expected-version", "-1"], "--expected-version"),
        (["push", "--key", "\x00"], "NUL"),
        (["push", "--many", "x.jsonl"], "found both"),
        (["--many", "nowhere.jsonl"], "nowhere.jsonl"),
        (["push", "{}", "more"], "unexpected extra argument"),
        (["push", "--colour", "red"], "no such option"),
    ],
)
def test_bad_input_is_2_and_a_sentence(wakelog: Wakelog, arguments: list[str], said: str) -> None:
    ended = wakelog("append", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said.lower() in ended.err.lower()
    assert ended.err.count("\n") == 1
    assert "wakelog append" in ended.err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "to be JSON"),
        (b"[]", "dict"),
        (b'{"payload": 1}', "type"),
        (b'{"type": "a b"}', "words joined by dots"),
        (b'{"type": "a", "colour": 1}', "colour"),
        (b'{"type": "a", "payload": "\\u0000"}', "u0000"),
        (b"\xff", "UTF-8"),
    ],
)
def test_one_bad_line_and_nothing_of_the_file_is_appended(wakelog: Wakelog, line: bytes, said: str) -> None:
    ended = wakelog(
        "append", "--many", "-", stdin=b'{"type": "fine"}\n' * 100 + line + b'\n{"type": "fine"}\n'
    )
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "wakelog append" in ended.err


def test_the_line_is_named(wakelog: Wakelog) -> None:
    ended = wakelog("append", "--many", "-", stdin=b'{"type": "fine"}\n\n{"type": ""}\n')
    assert ended.err.startswith("wakelog: stdin, line 3: ")
    assert "nothing was appended" in ended.err


def test_300_mb_are_refused_before_they_are_sent(wakelog: Wakelog, tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.write(b'"')
        file.seek(300_000_000)
        file.write(b'"')
    began = time.monotonic()
    ended = wakelog("append", "push", "@large.json")
    assert ended.code == 2
    assert "at most 256 MB" in ended.err
    assert time.monotonic() - began < 5


def test_a_stream_at_another_version_is_a_conflict(
    wakelog: Wakelog, connection: psycopg.Connection[Any]
) -> None:
    ended = wakelog("append", "paid", "--stream", "order-17", "--expected-version", "3")
    assert ended.code == 5
    assert 'stream "order-17" is at version 0, expected 3' in ended.err
