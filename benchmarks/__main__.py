"""python -m benchmarks [--quick] [--strict] [--json FILE] [NAME ...]"""

import argparse
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import psycopg

from benchmarks import appending, delivering, projecting, sealing, waking
from benchmarks.figure import Failed, Figure, machine, show
from benchmarks.ground import Ground
from wakelog import WakelogError


def catalogue(scale: int, turns: int) -> dict[str, Callable[[Ground], Iterator[Figure]]]:
    """The benchmarks by name; ``scale`` divides the work, ``turns`` is how often both sides are measured."""
    return {
        "append": lambda g: appending.one_row_transactions(g, 5 / scale, turns),
        "bulk": lambda g: appending.bulk(g, 50_000 // scale, turns),
        "sequence": lambda g: appending.sequencing(g, 100_000 // scale, turns),
        "seal": lambda g: sealing.sealing(g, 10 / scale, 100_000 // scale, turns),
        "no-op": lambda g: delivering.no_op(g, 50_000 // scale, turns),
        "batch": lambda g: delivering.batch(g, 50_000 // scale, turns),
        "backlog": lambda g: delivering.backlog(g, 1_000_000 // scale, 10_000 // scale, turns),
        "snapshot": lambda g: delivering.old_snapshot(g, 50_000 // scale, turns),
        "agents": lambda g: delivering.many_agents(g, 20_000 // scale, turns),
        "latency": lambda g: waking.idle(g, 200 // scale, turns),
        "workers": lambda g: waking.many_workers(g, 64 // scale, 100 // scale, min(turns, 2)),
        "effects": lambda g: delivering.effects(g, 5_000 // scale, turns),
        "steps": lambda g: delivering.steps(g, 5_000 // scale, turns),
        "project": lambda g: projecting.figures(g, 500_000 // scale, turns),
    }


def main() -> int:
    """Measure and print; exit with 1 where something failed, or with --strict where a figure falls short."""
    names = list(catalogue(1, 1))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Ratios, each of one run, beside the bound they are to keep."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these: {', '.join(names)}")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, one turn: does it run?")
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where a figure falls short of its bound"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    unknown = [name for name in given.names if name not in names]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(names)}")
    chosen: list[str] = given.names or names
    signal.signal(signal.SIGTERM, _interrupt)

    figures: list[Figure] = []
    failed: list[Failed] = []
    described = ""
    started = time.monotonic()
    ground = Ground()
    try:
        described = machine(ground.binaries.version)
        benchmarks = catalogue(*((10, 1) if given.quick else (1, 3)))
        for number, name in enumerate(chosen, 1):
            _progress(f"[{number}/{len(chosen)}, {time.monotonic() - started:.0f} s] measuring {name} ...")
            try:
                for figure in benchmarks[name](ground):
                    figures.append(figure)
                    _progress(f"    {figure.name}: {figure.ratio:.2f}")
            except (WakelogError, psycopg.Error, subprocess.CalledProcessError) as error:
                failed.append(Failed(name, str(error).partition("\n")[0]))
                _progress(f"    failed: {failed[-1].why}")
    except KeyboardInterrupt:
        _progress("interrupted; what was measured so far:")
        return 130
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is left to do takes a second
        if figures or failed:
            show(figures, failed, described, given.json)
        ground.close()
    return 1 if failed or (given.strict and not all(figure.holds for figure in figures)) else 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
