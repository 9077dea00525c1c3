from typing import Any

import pytest

from wakelog.agents.app import Wakelog
from wakelog.agents.definition import define
from wakelog.agents.options import Fixed
from wakelog.errors import BadInput


async def handler(event: Any, ctx: Any) -> None: ...


@pytest.mark.parametrize(
    ("option", "expected", "found"),
    [
        ({"name": ""}, "a name of dotted words", "''"),
        ({"name": "two words"}, "a name of dotted words", "'two words'"),
        ({"name": "ends.in.dot."}, "a name of dotted words", "'ends.in.dot.'"),
        ({"name": "x" * 201}, "a name of dotted words", "xxx"),
        ({"on": []}, "at least one type pattern in on=", "[]"),
        ({"on": ""}, "type patterns of dotted words", "''"),
        ({"on": "push*"}, "type patterns of dotted words", "'push*'"),
        ({"on": ["push", "a..b"]}, "type patterns of dotted words", "'a..b'"),
        ({"on": "two words"}, "type patterns of dotted words", "'two words'"),
        ({"on": None}, "text or a list of texts in on=", "None"),
        ({"on": ["push", 5]}, "text or a list of texts in on=", "['push', 5]"),
        ({"source": 5}, "text or a list of texts in source=", "5"),
        ({"source": []}, "at least one pattern in source=, or None", "[]"),
        ({"metadata": "tenant"}, "a mapping in metadata=", "'tenant'"),
        ({"where": 5}, "a jsonpath predicate as text in where=", "5"),
        ({"timeout": 0}, "a timeout greater than 0 seconds", "0"),
        ({"timeout": "5 parsecs"}, "a duration such as 30", "'5 parsecs'"),
        ({"timeout": None}, "a duration such as 30", "None"),
        ({"timeout": float("inf")}, "a duration of 0 seconds or more", "inf"),
        ({"max_attempts": 0}, "max_attempts of 1 or more", "0"),
        ({"max_attempts": "5"}, "max_attempts of 1 or more", "'5'"),
        ({"max_stalled": -1}, "max_stalled of 0 or more", "-1"),
        ({"concurrency": 0}, "concurrency of 1 or more, or None", "0"),
        (
            {"ordered_by": "payload"},
            "ordered_by stream, correlation, source, metadata.<path> or payload.<path>",
            "'payload'",
        ),
        ({"ordered_by": 3}, "ordered_by stream, correlation", "3"),
        ({"backoff": 5}, "a backoff of Fixed, Exponential or a function", "5"),
        ({"backoff": Fixed("soon")}, "a duration such as 30", "'soon'"),
        ({"batch": 0}, "a batch of 1 to 10000 events, or None", "0"),
        ({"batch": 10001}, "a batch of 1 to 10000 events, or None", "10001"),
        ({"batch": True}, "a batch of 1 to 10000 events, or None", "True"),
        ({"start": "yesterday"}, 'start to be "now", "beginning", a position or a datetime', "'yesterday'"),
        ({"handler": "run_tests"}, "a function as the handler", "'run_tests'"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, dict) else None,
)
def test_it_names_the_agent_what_was_expected_and_what_was_found(
    option: dict[str, Any], expected: str, found: str
) -> None:
    name = option.pop("name", "tests")
    options: dict[str, Any] = {
        "handler": handler, "on": "push", "source": None, "metadata": None, "where": None, "timeout": "5m",
        "max_attempts": 5, "max_stalled": 10, "backoff": Fixed(), "concurrency": None, "ordered_by": None,
        "rate": None, "expires": None, "dedupe": None, "capacity": None, "overflow": "refuse",
            "start": "now", "history": True, "batch": None, **option,
    }  # fmt: skip
    with pytest.raises(BadInput) as refused:
        define(name, options.pop("handler"), **options)
    message = str(refused.value)
    assert message.startswith(f'agent "{name}": expected {expected}')
    assert found in message.partition("found ")[2]
    assert "\n" not in message


def test_a_name_is_declared_once_in_an_application() -> None:
    app = Wakelog("ci")
    app.agent("tests", on="push")(handler)
    with pytest.raises(BadInput, match='agent "tests" is declared twice in application "ci"'):
        app.agent("tests", on="pull_request")(handler)


def test_the_decorator_gives_the_handler_back_unchanged() -> None:
    app = Wakelog("ci")
    assert app.agent("tests", on=["push", "build.*.done"], source="github/*")(handler) is handler
    tests = app.agents["tests"]
    assert (tests.types, tests.sources, tests.is_async) == (("push", "build.*.done"), ("github/*",), True)
