"""What would have been different: recorded answers beside those of other code, by path."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from wakelog.log.paths import by_path
from wakelog.postgres import jsonb
from wakelog.workflows.recorded import Recorded

What = Literal[
    "outcome", "error", "step", "event", "type", "source", "stream", "private", "payload", "metadata"
]

LONGEST_ERROR = 2000
"""Characters of an error that are recorded (wakelog.add_failure)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that would have been otherwise.

    `what`: "outcome" (completed or failed), "error", "step" (one that has no recording, by name), "event" (one more,
    or one that is missing), or what is otherwise in an event: "type", "source", "stream", "private" (the places
    of its payload that are), "payload", "metadata".
    `answer` is the type of the event meant, `path` the place in its payload or metadata. None stands for what is not
    there.
    """

    what: What
    was: Any
    would_be: Any
    answer: str | None = None
    path: str | None = None


@dataclass(slots=True)
class Outcome:
    """What other code came to: its answers, or why it failed; `unrecorded` are steps that were asked for in vain."""

    answers: list[dict[str, Any]]
    error: str | None = None
    unrecorded: tuple[str, ...] = ()


def differences(recorded: Recorded, outcome: Outcome, ignore: Sequence[str] = ()) -> list[Difference]:
    """All that is otherwise; paths that match a pattern of `ignore` are not compared."""
    if outcome.unrecorded:
        # What it would have come to with them, nobody knows.
        return [Difference("step", None, name) for name in outcome.unrecorded]
    failed = outcome.error is not None
    if failed != recorded.failed:
        was = _outcome(recorded.error if recorded.failed else None)
        return [Difference("outcome", was, _outcome(outcome.error))]
    if failed:
        was, now = recorded.error or "", (outcome.error or "")[:LONGEST_ERROR]
        return [] if was == now else [Difference("error", was, now)]
    return list(_of_answers(recorded, outcome, ignore))


def _outcome(error: str | None) -> str:
    return "completed" if error is None else f"failed: {error}"


def _of_answers(recorded: Recorded, outcome: Outcome, ignore: Sequence[str]) -> Iterator[Difference]:
    old = {answer["key"]: answer for answer in recorded.answers}
    new = {answer["key"]: _as_stored(recorded.agent, answer) for answer in outcome.answers}
    for key in dict.fromkeys([*old, *new]):
        if key not in new:
            yield Difference("event", old[key]["type"], None, old[key]["type"])
        elif key not in old:
            yield Difference("event", None, new[key]["type"], new[key]["type"])
        else:
            yield from _of_answer(old[key], new[key], ignore)


def _of_answer(old: dict[str, Any], new: dict[str, Any], ignore: Sequence[str]) -> Iterator[Difference]:
    for what in ("type", "source", "stream"):
        if old[what] != new[what]:
            yield Difference(what, old[what], new[what], old["type"])
    if old["private"] != new["private"]:
        yield Difference("private", old["private"], new["private"], old["type"])
    for what in ("payload", "metadata"):
        for path, was, would_be in by_path(old[what], new[what]):
            if not any(fnmatchcase(path, pattern) for pattern in ignore):
                yield Difference(what, was, would_be, old["type"], path)


def _as_stored(agent: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as the log would have it (wakelog.emit)."""
    return {
        "key": answer["key"],
        "type": answer["type"],
        "source": agent if answer.get("source") is None else answer["source"],
        "stream": answer.get("stream"),
        "private": _private(answer.get("private")),
        "payload": jsonb.decode(jsonb.encode(answer["payload"])),
        "metadata": jsonb.decode(jsonb.encode(answer.get("metadata") or {})),
    }


def _private(private: str | dict[str, str] | None) -> list[str]:
    """The places of a payload that are, in the order in which they are recorded; "" is all of it."""
    return [""] if isinstance(private, str) else sorted(private or {})
