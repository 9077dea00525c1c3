"""Merkle trees as RFC 6962 has them: a root for many hashes, and a short path from one of them to the root."""

from collections.abc import Sequence
from hashlib import sha256

SIZE = 32
"""Bytes of a hash."""


def leaf_hash(record: bytes) -> bytes:
    """The hash of what a leaf stands for; the 0 keeps it from being taken for a node."""
    return sha256(b"\x00" + record).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two neighbours."""
    return sha256(b"\x01" + left + right).digest()


def split(leaves: bytes) -> list[bytes]:
    """Hashes, of those that follow each other in one value."""
    return [leaves[at : at + SIZE] for at in range(0, len(leaves), SIZE)]


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over at least one hash."""
    level = list(leaves)
    while len(level) > 1:
        level = _above(level)
    return level[0]


def path(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The hashes beside the way from a leaf to the root, from the bottom up; where there is none, it is left out."""
    found: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        beside = index ^ 1
        if beside < len(level):
            found.append(level[beside])
        level = _above(level)
        index //= 2
    return found


def climb(leaf: bytes, index: int, size: int, beside: Sequence[bytes]) -> bytes | None:
    """The root that a path leads to from leaf number `index` of `size`; None for a path of another length."""
    if not 0 <= index < size:
        return None
    left = list(beside)
    here = leaf
    while size > 1:
        if index ^ 1 < size:
            if not left:
                return None
            other = left.pop(0)
            here = node_hash(other, here) if index % 2 else node_hash(here, other)
        index, size = index // 2, (size + 1) // 2
    return None if left else here


def _above(level: list[bytes]) -> list[bytes]:
    above = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)]
    return [*above, level[-1]] if len(level) % 2 else above
