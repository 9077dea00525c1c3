"""What the database would refuse, or worse, is refused at once, by one sentence that names it."""

from datetime import datetime
from typing import Any

import psycopg
import pytest
from tests.log.sessions import Sessions, value

from wakelog.errors import BadInput
from wakelog.log import values
from wakelog.log.append import append, append_many

NOT_A_TYPE = ["", "two words", ".a", "a.", "a..b", "a.*", "#", "a\tb", "x" * 256, "ä" * 128]

BAD: list[tuple[dict[str, Any], str]] = [
    ({"payload": "a\x00b"}, "payload: expected JSON without NUL"),
    ({"payload": {"a\x00": 1}}, "payload: expected JSON without NUL"),
    ({"metadata": {"deep": [{"x": "\x00"}]}}, "metadata: expected JSON without NUL"),
    ({"payload": "\\\x00"}, "payload: expected JSON without NUL"),
    ({"source": "a\x00"}, "source: expected text without NUL"),
    ({"payload": object()}, "payload: expected a value that can be written as JSON"),
    ({"payload": "\ud800"}, "payload: "),
    ({"metadata": [1]}, "metadata: "),
    ({"stream": ""}, "stream: expected None or some text"),
    ({"idempotency_key": ""}, "idempotency_key: "),
    ({"correlation_id": ""}, "correlation_id: "),
    ({"causation_id": "no uuid"}, "causation_id: "),
    ({"occurred_at": datetime(2020, 1, 1)}, "occurred_at: "),  # noqa: DTZ001
    ({"stream": "s", "expected_version": -1}, "expected_version: "),
    ({"schema_version": 2**31}, "schema_version: "),
    ({"strem": "s"}, "strem: "),
]


@pytest.mark.parametrize("type", NOT_A_TYPE)
def test_a_type_is_dotted_words(session: Sessions, type: str) -> None:
    connection = session()
    with pytest.raises(BadInput, match="expected words joined by dots"):
        append(connection, type)
    # The database says the same to those who insert.
    with pytest.raises(psycopg.errors.CheckViolation, match="events_type_is_dotted_words"):
        connection.execute("insert into wakelog.events (type) values (%s)", [type])


@pytest.mark.parametrize("type", ["push", "order.placed", "größe.geändert", "a-b_c/d:e.f", "x" * 255])
def test_the_database_takes_every_type_that_python_takes(
    observer: psycopg.Connection[Any], type: str
) -> None:
    assert append(observer, type).type == type


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_a_bad_value_is_named(session: Sessions, bad: dict[str, Any], message: str) -> None:
    connection = session(autocommit=False)
    with pytest.raises(BadInput, match=f"^{message}"):
        append(connection, "a", **bad)
    # The transaction is as good as before.
    assert append(connection, "a").type == "a"
    with pytest.raises(BadInput, match=f"^{message}"):
        append_many(connection, [{"type": "a", **bad}])


def test_an_escaped_backslash_before_u0000_is_no_nul(observer: psycopg.Connection[Any]) -> None:
    assert append(observer, "a", "\\u0000 and \\\\u0000").payload == "\\u0000 and \\\\u0000"


def test_too_large_a_payload_is_refused(
    monkeypatch: pytest.MonkeyPatch, observer: psycopg.Connection[Any]
) -> None:
    monkeypatch.setattr(values, "MOST_JSON_BYTES", 1_000_000)
    assert len(append(observer, "a", "x" * 999_000).payload) == 999_000
    for payload in ("x" * 1_000_000, "ü" * 500_000):
        with pytest.raises(BadInput, match=r"(?s)payload: .* jsonb's limit.*a reference to it"):
            append(observer, "a", payload)


@pytest.mark.soak
def test_three_hundred_megabytes_are_refused(observer: psycopg.Connection[Any]) -> None:
    with pytest.raises(BadInput, match=r"at most 255 MB, .* found 300 MB"):
        append(observer, "a", "x" * 300 * 2**20)
    with pytest.raises(BadInput, match=r"at most 255 MB, .* found 300 MB"):
        append_many(observer, [{"type": "a", "payload": "x" * 300 * 2**20}])
    assert value(observer, "select count(*) from wakelog.events") == 0
