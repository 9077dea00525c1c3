"""Verifying the log over several processes, to the same verdict as in one.

How this stays correct
----------------------
      seals  1 ...... 40 | 41 ..... 80 | 81 .... 120      each stretch by one process, beginning where the one before
             as sealed     a finding      (not asked)      it ends, as Verification.go_on does

A stretch trusts the seal before it, which the stretch before verifies. So when all before a stretch are as they were
sealed, it has found what one process would have found there; a finding is the verdict once every stretch before it is
done, and what comes after it is nobody's business. A process that ends before it has told what came of a stretch has
verified nothing: there is no verdict then, but an error.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from wakelog.errors import BadInput, DatabaseUnreachable, WakelogError
from wakelog.hands import Hands
from wakelog.integrity.seal import Seal
from wakelog.integrity.verification import Finding, Verification
from wakelog.integrity.verifying import DATABASE

FOR_EACH = 16
"""Stretches that there are for each process, so that they end at about the same time."""


@dataclass(slots=True)
class _Stretch:
    numbers: range
    events: int = 0
    seals: int = 0
    upto: int | None = None
    newest: Seal | None = None
    finding: Finding | None = None
    done: bool = False

    @property
    def whole(self) -> bool:
        """Whether it is verified, and nothing was found."""
        return self.done and self.finding is None


def verify_over(
    verification: Verification, url: str, processes: int, against: Sequence[Seal] = ()
) -> Generator[int]:
    """As `Verification.run`, over so many processes; what it yields are events verified anywhere in the log.

    Left early, by whatever exception, its processes are ended, and `verification` says how far all is as sealed.

    Raises:
        WakelogError: a process ended before it was done, or the database cannot be used.
    """
    stretches = _cut(verification.numbers(), processes)
    todo = iter(stretches)
    told = {"first": verification.first, "last": verification.last}
    try:
        with Hands("wakelog.integrity.verifying", told, {DATABASE: url}) as hands:
            at: dict[object, _Stretch] = {}
            for _ in range(min(processes, len(stretches))):
                hands.start()
            for hand, heard in hands.heard():
                if "refused" in heard:
                    raise _refusal(heard)
                if not heard:
                    hands.end(hand)
                    raise _lost(hand.process.returncode, at.get(hand))
                if "events" in heard:
                    at[hand].events += heard["events"]
                    at[hand].upto = heard["upto"]
                    yield heard["events"]
                    continue
                if "done" in heard:
                    _put_down(at[hand], heard)
                    if _decided(stretches):
                        break
                hand.work = None
                stretch = next(todo, None)
                # What comes after a finding nobody needs.
                if stretch is None or any(one.finding for one in stretches):
                    hands.end(hand)
                    continue
                at[hand] = stretch
                known = [seal.document() for seal in against if seal.number in stretch.numbers]
                hand.give({"numbers": [stretch.numbers.start, stretch.numbers.stop], "against": known})
    finally:
        _add_up(verification, stretches)
    if verification.finding is None and not all(one.whole for one in stretches):
        raise WakelogError("expected every stretch of the log to be verified, found one that was not")
    verification.conclude()


def _cut(numbers: range, processes: int) -> list[_Stretch]:
    size = max(1, -(-len(numbers) // (processes * FOR_EACH)))
    return [_Stretch(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def _put_down(stretch: _Stretch, told: dict[str, Any]) -> None:
    stretch.done = True
    stretch.seals = told["seals"]
    stretch.upto = told["upto"]
    stretch.newest = Seal.from_document(told["newest"]) if told["newest"] else None
    stretch.finding = Finding(**told["finding"]) if told["finding"] else None


def _decided(stretches: list[_Stretch]) -> bool:
    """Whether everything before the first finding is verified."""
    undone = next((one for one in stretches if not one.whole), None)
    return undone is not None and undone.finding is not None


def _add_up(verification: Verification, stretches: list[_Stretch]) -> None:
    """What is verified from the beginning on without a gap, and what was found right behind it."""
    whole = list(takewhile(lambda one: one.whole, stretches))
    counted = stretches[: len(whole) + 1]  # with as much of the next one as was told
    for stretch in counted:
        verification.events += stretch.events
        verification.seals += stretch.seals
        verification.newest = stretch.newest or verification.newest
        if stretch.upto is not None:
            verification.position = max(verification.position, min(stretch.upto, verification.last))
        verification.finding = verification.finding or stretch.finding


def _refusal(told: dict[str, Any]) -> WakelogError:
    kinds = {kind.exit_code: kind for kind in (BadInput, DatabaseUnreachable)}
    return kinds.get(told["code"], WakelogError)(told["refused"], hint=told["hint"])


def _lost(code: int | None, stretch: _Stretch | None) -> WakelogError:
    where = "before it verified anything"
    if stretch is not None:
        where = f"while it verified seals {stretch.numbers.start} to {stretch.numbers.stop - 1}"
    return WakelogError(
        f"nothing can be said of the log: one of the processes ended with exit code {code} {where}",
        hint="Type the same command again, or with fewer --processes.",
    )
