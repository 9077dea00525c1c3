#!/usr/bin/env python3
"""Check a proof that an event is in a Wakelog log. Needs Python 3.11 and nothing else: no Wakelog, no database.

    python3 check_proof.py proof.json --seals seals.json

proof.json comes from `wakelog proof`, seals.json from `wakelog seal export` (or `--all`). A proof alone shows that the
event belongs to the seal it carries; that this seal is the log's own, only an export shows that you have from the
owner of the log, or took yourself, before you had any doubt.

Exit code 0: the event is in the log as the proof shows it. 1: it is not, or something was changed. 2: cannot be read.
"""

import argparse
import datetime
import hashlib
import json
import re
import struct
import sys
import uuid

# The fields of an event in the order in which they are hashed, and the kind of each. Every value is preceded by the
# number of its PostgreSQL type and its length (-1 for null); numbers have their highest byte first.
FIELDS = {
    "position": "int8", "seq": "int8", "sequenced_at": "time", "id": "uuid", "type": "text", "source": "text",
    "stream": "text", "version": "int8", "correlation_id": "text", "causation_id": "uuid",
    "idempotency_key": "text", "schema_version": "int4", "occurred_at": "time", "recorded_at": "time",
    "deliver_after": "time", "metadata": "text", "payload": "text",
}  # fmt: skip
SEAL_FIELDS = {
    "number": "int8", "from": "int8", "to": "int8", "count": "int4", "root": "bytes", "previous": "bytes",
    "sealed_at": "time",
}  # fmt: skip
TYPES = {"int4": 23, "int8": 20, "time": 1184, "uuid": 2950, "text": 25, "bytes": 17}
EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)


class Wrong(Exception):
    """Something is not as it must be."""


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def written(kind, value):
    """The bytes of one value."""
    if kind in ("int4", "int8"):
        if type(value) is not int:
            raise Wrong(f"expected a whole number, found {value!r}")
        return struct.pack("!i" if kind == "int4" else "!q", value)
    if kind == "time" and type(value) is int:
        return struct.pack("!q", value)
    if type(value) is not str:
        raise Wrong(f"expected text, found {value!r}")
    if kind == "time":
        if value == "-infinity":
            return struct.pack("!q", -(2**63))
        if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", value):
            raise Wrong(f"expected a time, found {value!r}")
        since = datetime.datetime.fromisoformat(value) - EPOCH
        return struct.pack("!q", since // datetime.timedelta(microseconds=1))
    if kind == "uuid":
        return uuid.UUID(value).bytes
    if kind == "bytes":
        if not re.fullmatch(r"[0-9a-f]{64}", value):
            raise Wrong(f"expected a hash of 64 digits, found {value!r}")
        return bytes.fromhex(value)
    return value.encode()


def record(fields, values, more=()):
    """The bytes that are hashed: a 1 for the version of the form, and the fields."""
    strange = set(values) ^ {*fields, *more}
    if strange:
        raise Wrong(f"fields that are missing or not known: {', '.join(sorted(strange))}")
    parts = [struct.pack("!iiii", len(fields) + 1, TYPES["int4"], 4, 1)]
    for name, kind in fields.items():
        value = values[name]
        data = None if value is None else written(kind, value)
        parts.append(struct.pack("!ii", TYPES[kind], -1 if data is None else len(data)))
        parts.append(data or b"")
    return b"".join(parts)


def seal_hash(seal):
    """The hash of a seal, once it is seen to be the one it carries."""
    computed = sha256(b"\x02", record(SEAL_FIELDS, seal, more=["hash"]))
    if written("bytes", seal["hash"]) != computed:
        raise Wrong(f"the hash of seal {seal['number']} is not that of its fields")
    return computed


def climb(leaf, index, size, path):
    """The root that a path leads to from a leaf."""
    path = list(path)
    while size > 1:
        if index ^ 1 < size:
            if not path:
                raise Wrong("the path is too short")
            other = path.pop(0)
            leaf = sha256(b"\x01", other, leaf) if index % 2 else sha256(b"\x01", leaf, other)
        index, size = index // 2, (size + 1) // 2
    if path:
        raise Wrong("the path is too long")
    return leaf


def check(proof):
    """The hash of the seal that a proof leads to. Raises Wrong."""
    if (
        set(proof) != {"wakelog", "form", "event", "path", "seal"}
        or proof["wakelog"] != "proof"
        or proof["form"] != 1
    ):
        raise Wrong("expected a proof of form 1")
    event, seal = proof["event"], proof["seal"]
    leaf = sha256(b"\x00", record(FIELDS, event))
    computed = seal_hash(seal)
    index = event["position"] - seal["from"]
    if seal["count"] != seal["to"] - seal["from"] + 1 or not 0 <= index < seal["count"]:
        raise Wrong("the seal does not cover the event's position")
    root = climb(leaf, index, seal["count"], [written("bytes", each) for each in proof["path"]])
    if root != written("bytes", seal["root"]):
        raise Wrong("the event is not the one that was sealed")
    return computed


def check_seals(document, number, wanted):
    """Whether exported seals have this one: alone, or in a chain that holds."""
    if document["wakelog"] != "seals" or document["form"] != 1:
        raise Wrong("expected seals as wakelog seal export writes them")
    known = {seal["number"]: (seal, seal_hash(seal)) for seal in document["seals"]}
    for each, (seal, _) in known.items():
        if each - 1 in known and written("bytes", seal["previous"]) != known[each - 1][1]:
            raise Wrong(f"seal {each} of the file does not follow seal {each - 1}")
    if number not in known:
        raise Wrong(f"seal {number} is not in the file; export all of them: wakelog seal export --all")
    if known[number][1] != wanted:
        raise Wrong(f"seal {number} of the log, as it was exported, is another than the proof's")


def main():
    parser = argparse.ArgumentParser(description="Check a proof that an event is in a Wakelog log.")
    parser.add_argument("proof", help="a file that wakelog proof wrote")
    parser.add_argument("--seals", help="a file that wakelog seal export wrote, and that you trust")
    given = parser.parse_args()
    try:
        with open(given.proof, encoding="utf-8") as file:
            proof = json.load(file)
        seals = None
        if given.seals is not None:
            with open(given.seals, encoding="utf-8") as file:
                seals = json.load(file)
    except (OSError, ValueError) as error:
        print(f"cannot be read: {error}", file=sys.stderr)
        return 2
    try:
        computed = check(proof)
        if seals is not None:
            check_seals(seals, proof["seal"]["number"], computed)
    except (Wrong, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        print(f"REFUSED: {error}", file=sys.stderr)
        return 1
    event, seal = proof["event"], proof["seal"]
    print(f"position {event['position']}, {event['type']}, id {event['id']}, recorded {event['recorded_at']}")
    print(f"is under seal {seal['number']} of {seal['sealed_at']}, with the hash")
    print(f"{computed.hex()}")
    if seals is None:
        print(
            "Compare this hash with one that you have from elsewhere, or give the exported seals: --seals FILE"
        )
    else:
        print(f"and that seal is in {given.seals}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
