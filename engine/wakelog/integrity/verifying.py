"""A process that verifies stretches of the log: seals from one number to another, given on stdin, a line each.

Lines out are JSON: {"ready": true}, {"refused": why}, {"events": so many more, "upto": position}, and of each stretch
in the end {"done": true} with its finding, if any. It ends when stdin does.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import orjson
import psycopg

from wakelog.errors import WakelogError, one_line
from wakelog.hands import telling
from wakelog.integrity.seal import Seal
from wakelog.integrity.verification import Verification
from wakelog.postgres.connect import connect

DATABASE = "WAKELOG_VERIFY_DATABASE"
"""The variable with the URL, which nobody is to see among the arguments."""


def serve(url: str, first: int, last: int, tell: Callable[[Any], None]) -> None:
    """Verify the stretches that come in, from position `first` to `last`, until there are no more."""
    with connect(url, application_name="wakelog verify") as connection:
        tell({"ready": True})
        for line in sys.stdin.buffer:
            asked = orjson.loads(line)
            known = [Seal.from_document(seal) for seal in asked["against"]]
            verification = Verification(connection, first=first, last=last, against=known)
            for events in verification.go_on(range(*asked["numbers"])):
                tell({"events": events, "upto": verification.position})
            finding, newest = verification.finding, verification.newest
            tell({
                "done": True,
                "seals": verification.seals,
                "upto": verification.position,
                "newest": newest and newest.document(),
                "finding": finding and finding.document(),
            })  # fmt: skip


def main() -> None:
    with telling() as (told, tell):
        try:
            serve(os.environ.pop(DATABASE), told["first"], told["last"], tell)
        except BrokenPipeError:
            pass  # whoever asked is gone
        except WakelogError as refused:
            tell({"refused": str(refused.args[0]), "hint": refused.hint, "code": refused.exit_code})
        except psycopg.Error as error:
            tell({"refused": one_line(error), "hint": None, "code": WakelogError.exit_code})


if __name__ == "__main__":
    main()
