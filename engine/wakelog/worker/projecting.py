"""Folding one build of a projection over several processes, each a part of its events; and the process of a part.

The parts share nothing but the tables, in which each touches rows of its own, as the partition key says. Each has a
checkpoint, so any of them, and the one that started them, may be killed and started again.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import closing

from wakelog.agents.load import load_app
from wakelog.errors import WakelogError
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.folding import AIM_OF_A_REBUILD, Folding
from wakelog.projections.snapshots import kept


class Parts:
    """The processes that fold parts of a build up to a position. Ended with the block, in order."""

    def __init__(self, url: str, target: str, name: str, build: int, parts: Iterable[int], upto: int) -> None:
        environment = os.environ | {"WAKELOG_WORKER_DATABASE": url}
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable, "-m", "wakelog.worker.projecting", target, name, str(build), str(part),
                    str(upto),
                ],
                stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
            )
            for part in parts
        ]  # fmt: skip

    def ended(self, within: float) -> bool:
        """Whether all have done their part, after so many seconds at most.

        Raises WakelogError with what one of them said that could not.
        """
        with contextlib.suppress(subprocess.TimeoutExpired):
            for process in self._processes:
                process.wait(within)
        for process in self._processes:
            if process.poll() not in (None, 0):
                said = process.stderr.read().strip() if process.stderr is not None else ""
                raise WakelogError(said or f"a part ended with exit code {process.returncode}")
        return all(process.poll() == 0 for process in self._processes)

    def __enter__(self) -> "Parts":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
            process.communicate()


def main(arguments: list[str]) -> int:
    """Fold a part: ``target projection build part upto``. Ends when told to, or when its parent is gone."""
    target, name, build, part, upto = arguments
    logging.basicConfig(level="WARNING", stream=sys.stderr)
    stopping = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)

    def parent_gone() -> None:
        os.read(0, 1)
        stopping.set()

    threading.Thread(target=parent_gone, daemon=True).start()
    definition = kept(load_app(target).projections[name]) if target else None
    with closing(open_projection_connection(os.environ["WAKELOG_WORKER_DATABASE"], name)) as connection:
        folding = Folding(connection, int(build), definition, part=int(part), aim=AIM_OF_A_REBUILD)
        while not stopping.is_set():
            step = folding.advance(int(upto))
            if step.stopped:
                raise WakelogError(f'projection "{name}" stopped at position {step.upto}: {step.poison}')
            if step.upto >= int(upto):
                return 0
            if step.at_end and step.moved == 0:
                raise WakelogError(f'projection "{name}" goes on no further than position {step.upto}')
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except WakelogError as refused:
        print(refused, file=sys.stderr)  # noqa: T201 - its parent reads it
        sys.exit(refused.exit_code)
