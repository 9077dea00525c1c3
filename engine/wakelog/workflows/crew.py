"""Processes that rehearse workflows, each one at a time; nobody holds more than is in hand."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from wakelog.errors import BadInput, WakelogError
from wakelog.hands import Hand, Hands
from wakelog.workflows.difference import Difference
from wakelog.workflows.rehearsal import Rehearsed
from wakelog.workflows.rehearsing import DATABASE


@dataclass(frozen=True, slots=True)
class RehearsedWorkflow:
    """A workflow that was rehearsed; `lost` where the process ended over it."""

    workflow: str
    rehearsed: list[Rehearsed]
    lost: bool = False

    @property
    def differs(self) -> bool:
        """Whether anything would have been otherwise; of one that was lost nobody can say that it would not."""
        return self.lost or any(one.differences for one in self.rehearsed)


@dataclass(slots=True)
class Crew:
    """Rehearses with an application that its processes import; this one imports nothing of it.

    `app` is module:app or file.py. Handlers print to this process's stderr.
    """

    app: str
    url: str
    processes: int = 1
    agents: Sequence[str] | None = None
    every_step_live: bool = False
    live_steps: Sequence[str] = ()
    ignore: Sequence[str] = ()

    def rehearse(self, workflows: Iterable[str]) -> Iterator[RehearsedWorkflow]:
        """What came of each, in the order in which they are done; workflows are taken as they are needed.

        Left early, by whatever exception, its processes are ended; nothing of what they do stays in any case.

        Raises:
            WakelogError: the application does not load, or the database cannot be used.
        """
        todo = iter(workflows)
        told = {
            "app": self.app, "agents": self.agents, "every_step_live": self.every_step_live,
            "live_steps": list(self.live_steps), "ignore": list(self.ignore),
        }  # fmt: skip
        with Hands("wakelog.workflows.rehearsing", told, {DATABASE: self.url}) as hands:
            fresh = {hands.start() for _ in range(self.processes)}
            for hand, told in hands.heard():
                if "refused" in told:
                    refusal = BadInput if told["code"] == BadInput.exit_code else WakelogError
                    raise refusal(told["refused"], hint=told["hint"])
                if not told:
                    hands.end(hand)
                    if hand in fresh:
                        raise self._not_even_begun(hand)
                    fresh.add(hands.start())
                    if hand.work is not None:
                        yield RehearsedWorkflow(hand.work, [], lost=True)
                    continue
                fresh.discard(hand)
                hand.work = None
                if "workflow" in told:
                    yield RehearsedWorkflow(
                        told["workflow"], [_rehearsed(each) for each in told["rehearsed"]]
                    )
                workflow = next(todo, None)
                if workflow is None:
                    hands.end(hand)
                else:
                    hand.give(workflow)

    def _not_even_begun(self, hand: Hand) -> WakelogError:
        return WakelogError(
            f"a process ended with exit code {hand.process.returncode} before it could rehearse anything",
            hint=f"See what importing {self.app} does.",
        )


def _rehearsed(values: dict[str, Any]) -> Rehearsed:
    found = [Difference(**one) for one in values.pop("differences")]
    return Rehearsed(**values, differences=found)
