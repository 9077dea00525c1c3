"""Computing again what the seals say of the log, and naming the first event that is not as it was sealed.

How this stays correct
----------------------
No function in the database is believed: the bytes of each event are asked for with a statement of this module's own,
and hashed here. What a seal says is tied down from the end: its hash is in the next one, the last
one's is in a file that somebody took home (`against`). So of each seal, in order:

    its fields --> its hash --> the next seal's `previous`
    its leaves --> its root         (one of its fields)
    its events --> its leaves

The first of these that does not hold is the finding. Seals and events are read a few thousand events at a time, each
in a short transaction: what is sealed does not change meanwhile, unless somebody is at it this very moment.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, LiteralString

from psycopg import Connection
from psycopg.rows import tuple_row

from wakelog.integrity import merkle
from wakelog.integrity.diagnosis import Places, what_happened
from wakelog.integrity.merkle import leaf_hash
from wakelog.integrity.record import decode
from wakelog.integrity.records import records
from wakelog.integrity.seal import NOTHING_BEFORE, Seal, seals

SEALS_AT_ONCE = 32
_MOST_TO_COMPARE = 256 * 1024 * 1024
"""Bytes of events that are held to find out what happened to one."""
_BEYOND = 100
"""Positions behind the seals looked at in which a moved event is looked for."""

Kind = Literal[
    "changed", "removed", "inserted", "moved", "type_changed", "seal_changed", "seal_removed", "seals_cut_off",
    "chain_rewritten",
]  # fmt: skip

_STATE: LiteralString = """
    select s.head, coalesce((select max(l.to_position) from wakelog.seals l), 0),
           coalesce((select max(l.number) from wakelog.seals l), 0)
    from wakelog.sequencer s
"""
# What has its position and is not sealed yet: that much can be said of it, that it is there.
_GAP: LiteralString = """
    select p.position from generate_series(%s::bigint, %s::bigint) as p (position)
    where not exists (select from wakelog.log l join wakelog.events e on e.seq = l.seq where l.position = p.position)
    order by 1 limit 1
"""
_BEFORE_THE_FIRST: LiteralString = (
    "select l.position, e.id, e.type from wakelog.log l left join wakelog.events e on e.seq = l.seq"
    " where l.position < 1 order by 1 limit 1"
)
# Neither in the log nor on its way there: readers of streams would see it all the same.
_BESIDE_THE_LOG: LiteralString = """
    select null::bigint, e.id, e.type from wakelog.events e
    where not exists (select from wakelog.log l where l.seq = e.seq)
      and e.seq not in (select w.seq from wakelog.without_position(2147483647) as w (seq))
      and e.xid is distinct from pg_current_xact_id_if_assigned()
      and not wakelog.is_restored()
    order by e.seq limit 1
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The first thing that is not as it was sealed, and where."""

    kind: Kind
    message: str
    position: int | None = None
    upto: int | None = None
    """The last position that it may be about, where it cannot be said which."""
    seal: int | None = None
    event_id: str | None = None
    event_type: str | None = None

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


class Verification:
    """A verification of the log, or of a part of it; `run` does it, and the rest says how far it has come."""

    def __init__(
        self,
        connection: Connection[Any],
        *,
        first: int = 1,
        last: int | None = None,
        against: Sequence[Seal] = (),
    ) -> None:
        self._connection = connection
        self._against = {seal.number: seal for seal in against}
        self._whole = first <= 1 and last is None
        self.head, self.sealed_upto, self._last_number = self._state()
        self.first = max(first, 1)
        self.last = self.sealed_upto if last is None else min(last, self.sealed_upto)
        self.position = self.first - 1
        """Up to here all is as it was sealed."""
        self.events = 0
        """Events verified."""
        self.seals = 0
        """Seals verified, with all they cover or the part asked for."""
        self.newest: Seal | None = None
        """The last seal that was verified."""
        self.finding: Finding | None = None

    @property
    def unsealed(self) -> int:
        """Events that have their positions and no seal yet."""
        return max(self.head - self.sealed_upto, 0)

    @property
    def size(self) -> int:
        """Events there are to verify."""
        return max(self.last - self.first + 1, 0)

    def run(self) -> Generator[int]:
        """Verify, and yield how many events were, again and again, until the end or the first finding."""
        yield from self.go_on()
        self.conclude()

    def numbers(self) -> range:
        """The numbers of the seals that there may be to verify."""
        before = self._before(self.first)
        return range(before[0].number + 1 if before else 1, self._last_number + 1)

    def go_on(self, numbers: range | None = None) -> Generator[int]:
        """Verify the seals of these numbers, or all, with what they cover of what was asked for; yields as `run`.

        The last one before them is taken to be as it was sealed. So all is verified where all that there are were, in
        pieces, and the finding of the first piece that has one is the first of all.
        """
        numbers = self.numbers() if numbers is None else numbers
        previous = self._upto(numbers.start - 1)
        if previous is not None:
            self.position = max(self.position, previous.to_position)
        number = numbers.start
        while self.finding is None and number < numbers.stop and self.position < self.last:
            page = seals(self._connection, number=number, limit=SEALS_AT_ONCE, leaves=True)
            page = [seal for seal in page if seal.number < numbers.stop]
            if not page:
                break
            whole: list[Seal] = []
            broken: Finding | None = None
            for seal in page:
                if seal.from_position > self.last:
                    break
                broken = self._chain(previous, seal) or self._leaves(seal)
                if broken is not None:
                    break
                whole.append(seal)
                previous = seal
            yield from self._events_of(whole)
            verified = [seal for seal in whole if min(seal.to_position, self.last) <= self.position]
            self.seals += len(verified)
            self.newest = verified[-1] if verified else self.newest
            self.finding = self.finding or broken
            number = page[-1].number + 1

    def conclude(self) -> None:
        """After all that was asked for: what the seals that were taken home say, and what lies beside the log."""
        self.finding = self.finding or self._taken_home() or self._elsewhere()

    def _upto(self, number: int) -> Seal | None:
        """The last seal there is up to a number."""
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(
                "select max(s.number) from wakelog.seals s where s.number <= %s", [number]
            ).fetchone()
        return None if row is None or row[0] is None else seals(self._connection, number=row[0], limit=1)[0]

    def _before(self, position: int) -> list[Seal]:
        """The last seal that ends before a position, if there is one."""
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(
                "select max(s.number) from wakelog.seals s where s.to_position < %s", [position]
            ).fetchone()
        return [] if row is None or row[0] is None else seals(self._connection, number=row[0], limit=1)

    def _state(self) -> tuple[int, int, int]:
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(_STATE).fetchone()
        assert row is not None
        return row

    def _chain(self, previous: Seal | None, seal: Seal) -> Finding | None:
        """Whether a seal is whole, and follows the one before it."""
        number = 1 if previous is None else previous.number + 1
        begins = 1 if previous is None else previous.to_position + 1
        if seal.number != number:
            gone = (
                f"seal {number} was"
                if seal.number == number + 1
                else f"seals {number} to {seal.number - 1} were"
            )
            return Finding(
                "seal_removed", f"{gone} removed: the next one there is {seal.number}",
                begins, seal.from_position - 1, number,
            )  # fmt: skip
        if seal.own_hash() != seal.hash:
            return self._changed(seal, "its hash is not that of its fields")
        if seal.previous != (NOTHING_BEFORE if previous is None else previous.hash):
            if previous is None:
                return self._changed(seal, "it is the first, and names one before it")
            return Finding(
                "chain_rewritten",
                f"seal {number} was made after another seal {previous.number} than is there now: one of them was "
                "made anew, with what it covers",
                previous.from_position, seal.to_position, previous.number,
            )  # fmt: skip
        if seal.from_position != begins or seal.count != seal.to_position - seal.from_position + 1:
            return self._changed(seal, f"expected it to begin at position {begins}")
        taken_home = self._against.get(seal.number)
        if taken_home is not None and taken_home.hash != seal.hash:
            return self._another(taken_home)
        return None

    def _leaves(self, seal: Seal) -> Finding | None:
        """Whether the list of a seal's leaves is that of its root; where it is not, whether its events are whole."""
        if len(seal.leaves) == seal.count and merkle.root(seal.leaves) == seal.root:
            return None
        with closing(records(self._connection, seal.from_position, seal.to_position)) as found:
            leaves = [merkle.leaf_hash(record) for _, record, _ in found if record is not None]
        if len(leaves) == seal.count and merkle.root(leaves) == seal.root:
            return self._changed(seal, "its list of leaves is not that of its root; the events are as sealed")
        return Finding(
            "changed",
            f"something between positions {seal.from_position} and {seal.to_position} was changed after it was sealed, "
            f"and so was the list in seal {seal.number} that would say what",
            seal.from_position, seal.to_position, seal.number,
        )  # fmt: skip

    def _events_of(self, whole: list[Seal]) -> Iterator[int]:
        """Whether the events of seals that follow each other are what these say."""
        asked = [seal for seal in whole if seal.to_position >= self.first]
        if not asked:
            return
        first, last = max(asked[0].from_position, self.first), min(asked[-1].to_position, self.last)
        broken: Seal | None = None
        with closing(records(self._connection, first, last)) as found:
            for seal in asked:
                before = self.events
                self.finding = self._compare(seal, min(seal.to_position, last), found)
                yield self.events - before
                if self.finding is not None:
                    return
                if self.position < min(seal.to_position, last):
                    broken = seal
                    break
        # Only now, since the connection was busy with the records.
        if broken is not None:
            self.finding = self._named(broken, self.position + 1)

    def _compare(
        self, seal: Seal, upto: int, found: Iterator[tuple[int, bytes | None, bool]]
    ) -> Finding | None:
        """Go on through a seal's events while they are as they were sealed; `position` says how far that is."""
        leaves = seal.leaves[self.position + 1 - seal.from_position :]
        # In this order, zip takes no record that belongs to the next seal.
        for leaf, (position, record, has_its_type) in zip(leaves, found, strict=False):
            if position != self.position + 1 or record is None or leaf_hash(record) != leaf:
                return None
            if not has_its_type:
                return self._about(
                    record, seal, "type_changed", "agents find it under another type than the event has"
                )
            self.position = position
            self.events += 1
            if position == upto:
                return None
        return None

    def _named(self, seal: Seal, position: int) -> Finding:
        """What has become of the event that was sealed at a position."""
        around = seals(self._connection, number=max(seal.number - 1, 1), limit=3, leaves=True)
        sealed = {
            one.from_position + at: leaf
            for one in around
            if len(one.leaves) == one.count and merkle.root(one.leaves) == one.root
            for at, leaf in enumerate(one.leaves)
        }
        here: dict[int, bytes] = {}
        room = _MOST_TO_COMPARE
        with closing(records(self._connection, min(sealed), max(sealed) + _BEYOND)) as found:
            for at, record, _ in found:
                if record is not None and (at == position or len(record) <= room):
                    here[at] = record
                    room -= len(record)
        kind, sentence = what_happened(position, Places(sealed, here))
        if position not in here or kind == "removed":
            return Finding(
                kind, f"position {position}: {sentence} (seal {seal.number}, {seal.sealed_at})", position,
                seal=seal.number,
            )  # fmt: skip
        return self._about(here[position], seal, kind, sentence)

    def _about(self, record: bytes, seal: Seal, kind: Kind, sentence: str) -> Finding:
        event = decode(record)
        return Finding(
            kind,
            f"position {event['position']}, {event['type']}, id {event['id']}: {sentence} "
            f"(seal {seal.number}, {seal.sealed_at})",
            event["position"], seal=seal.number, event_id=event["id"], event_type=event["type"],
        )  # fmt: skip

    def _changed(self, seal: Seal, why: str) -> Finding:
        return Finding(
            "seal_changed", f"seal {seal.number} was changed: {why}", seal.from_position, seal.to_position,
            seal.number,
        )  # fmt: skip

    def _taken_home(self) -> Finding | None:
        """Whether the seals that were taken home are here, also those that the part asked for does not touch."""
        for number, known in sorted(self._against.items()):
            if number > self._last_number:
                return Finding(
                    "seals_cut_off",
                    f"seal {number} was exported (of {known.sealed_at}, up to position {known.to_position}), and the "
                    f"last one here is {self._last_number}: what came after it was cut off",
                    self.sealed_upto + 1, known.to_position, number,
                )  # fmt: skip
            here = seals(self._connection, number=number, limit=1)
            if not here or here[0].number != number or here[0].hash != known.hash:
                return self._another(known)
        return None

    def _another(self, known: Seal) -> Finding:
        return Finding(
            "chain_rewritten",
            f"seal {known.number} is not the one that was exported (of {known.sealed_at}): it was made anew, and with "
            "it what it covers, or what came before",
            1, known.to_position, known.number,
        )  # fmt: skip

    def _elsewhere(self) -> Finding | None:
        """Of a whole log: whether something is missing in what is not sealed yet, or lies beside the log."""
        if not self._whole:
            return None
        with self._connection.cursor(row_factory=tuple_row) as cursor:
            row = cursor.execute(_GAP, [self.sealed_upto + 1, self.head]).fetchone()
            if row is not None:
                return Finding("removed", f"position {row[0]}, not sealed yet: its event is gone", row[0])
            row = cursor.execute(_BEFORE_THE_FIRST).fetchone()
            if row is not None:
                return _inserted(row[0], row[1], row[2], "before the log begins")
            row = cursor.execute(_BESIDE_THE_LOG).fetchone()
            if row is not None:
                return _inserted(row[0], row[1], row[2], "beside the log")
        return None


def _inserted(position: int | None, id_: object, type_: str | None, where: str) -> Finding:
    return Finding(
        "inserted", f"{type_}, id {id_}: inserted {where}", position, event_id=str(id_), event_type=type_
    )


def verify(
    connection: Connection[Any],
    *,
    first: int = 1,
    last: int | None = None,
    against: Sequence[Seal] = (),
) -> Verification:
    """Verify the log from position `first` to `last`, both included, and return what came of it.

    `against` are seals that were exported earlier. What is sealed is verified, the rest counted. Needs what
    wakelog_reader may. Raises psycopg.Error as the database does.
    """
    verification = Verification(connection, first=first, last=last, against=against)
    for _ in verification.run():
        pass
    return verification
