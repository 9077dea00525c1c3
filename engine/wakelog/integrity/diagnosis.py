"""What has become of an event that is not at its position as it was sealed there.

An event that was moved still has the hash it was sealed with, once it is put back to its place. So the events that are
there now are tried at the places around, and the sealed hashes looked for among them: that tells a removal (the
others have moved up), an insertion (they have moved down) and a swap from a change.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from wakelog.integrity.merkle import leaf_hash
from wakelog.integrity.record import POSITION, SEQUENCED_AT


@dataclass(frozen=True, slots=True)
class Places:
    """The leaves that were sealed around a position, and the records of the events that are there now."""

    sealed: Mapping[int, bytes]
    records: Mapping[int, bytes]


def what_happened(
    position: int, places: Places
) -> tuple[Literal["changed", "removed", "inserted", "moved"], str]:
    """What happened at a position whose sealed event is not there, as a word and as a sentence."""
    was_sealed_at = _sealed_at(position, places)
    is_now_at = _now_at(position, places)
    if is_now_at is not None and (was_sealed_at is not None or position not in places.records):
        there = (
            f" and the one that is here was sealed at {was_sealed_at}" if was_sealed_at is not None else ""
        )
        return "moved", f"the event that was sealed here is at position {is_now_at} now{there}"
    if is_now_at is not None:
        return (
            "inserted", f"inserted after the log was sealed; the event that was sealed here is at {is_now_at} now",
        )  # fmt: skip
    if was_sealed_at is not None:
        return (
            "removed",
            f"the event that was sealed here was removed; here is now the one that was sealed at {was_sealed_at}",
        )
    if position not in places.records:
        return "removed", "the event that was sealed here was removed"
    return "changed", "changed after it was sealed"


def _sealed_at(position: int, places: Places) -> int | None:
    """Where the event that is at a position now was sealed."""
    record = places.records.get(position)
    if record is None:
        return None
    for there, leaf in places.sealed.items():
        if there != position and leaf in _leaves_at(record, there, places):
            return there
    return None


def _now_at(position: int, places: Places) -> int | None:
    """Where the event that was sealed at a position is now."""
    leaf = places.sealed[position]
    for there, record in places.records.items():
        if there != position and leaf in _leaves_at(record, position, places):
            return there
    return None


def _leaves_at(record: bytes, position: int, places: Places) -> Iterator[bytes]:
    """The hashes an event would have at a position: with the time that came along with it, and with the place's own."""
    moved = bytearray(record)
    moved[POSITION] = position.to_bytes(8, "big")
    yield leaf_hash(bytes(moved))
    placed = places.records.get(position)
    if placed is not None:
        moved[SEQUENCED_AT] = placed[SEQUENCED_AT]
        yield leaf_hash(bytes(moved))
