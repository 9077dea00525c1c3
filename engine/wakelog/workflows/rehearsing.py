"""A process that rehearses: workflows come in on stdin, a line each; what came of each goes out, a line each.

Lines out are JSON: {"ready": true}, {"refused": why}, {"workflow": id, "rehearsed": [...]}. They go through a pipe of
their own, since handlers may print. It ends when stdin does.
"""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson

from wakelog.agents.load import load_app
from wakelog.errors import WakelogError
from wakelog.hands import telling
from wakelog.workflows.bench import LiveSteps
from wakelog.workflows.rehearsal import Rehearsal

DATABASE = "WAKELOG_REHEARSAL_DATABASE"
"""The variable with the URL, which nobody is to see among the arguments."""


async def serve(url: str, told: dict[str, Any], tell: Callable[[Any], None]) -> None:
    """Rehearse what comes in until there is no more."""
    live = LiveSteps(told["every_step_live"], frozenset(told["live_steps"]))
    app = load_app(told["app"])
    with Rehearsal(
        url, app, agents=told["agents"], live=live, ignore=told["ignore"],
        die=lambda: os._exit(os.EX_SOFTWARE),
    ) as rehearsal:  # fmt: skip
        tell({"ready": True})
        for line in sys.stdin:  # nothing else is to be done meanwhile
            workflow = orjson.loads(line)
            rehearsed = await rehearsal.workflow(workflow)
            tell({"workflow": workflow, "rehearsed": [asdict(one) for one in rehearsed]})


def main() -> None:
    with telling() as (told, tell):
        try:
            asyncio.run(serve(os.environ.pop(DATABASE), told, tell))
        except WakelogError as refused:
            tell({"refused": str(refused.args[0]), "hint": refused.hint, "code": refused.exit_code})
    # Threads that were left behind keep nobody waiting.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
