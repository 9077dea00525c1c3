"""python -m benchmarks [--quick] [--json FILE] [NAME ...]"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import appending, delivering, projecting
from benchmarks.figure import Figure, machine, show
from benchmarks.ground import Ground


def main() -> int:
    """Measure, print, and exit with 1 where a figure falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Ratios, each of one run.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: does it run?")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    given = parser.parse_args()
    scale, turns = (10, 1) if given.quick else (1, 3)

    benchmarks: dict[str, Callable[[Ground], Iterator[Figure]]] = {
        "append": lambda g: appending.one_row_transactions(g, 10 / scale, turns),
        "bulk": lambda g: appending.bulk(g, 50_000 // scale, turns),
        "sequence": lambda g: appending.sequencing(g, 100_000 // scale, turns),
        "no-op": lambda g: delivering.no_op(g, 50_000 // scale, turns),
        "batch": lambda g: delivering.batch(g, 50_000 // scale, turns),
        "effects": lambda g: delivering.effects(g, 5_000 // scale, turns),
        "steps": lambda g: delivering.steps(g, 5_000 // scale, turns),
        "latency": lambda g: delivering.latency(g, 200 // scale, turns),
        "project": lambda g: projecting.figures(g, 500_000 // scale, turns),
    }
    unknown = [name for name in given.names if name not in benchmarks]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are: {', '.join(benchmarks)}")

    ground = Ground()
    described = machine(f"{ground.binaries.version}")
    figures: list[Figure] = []
    try:
        for name in given.names or benchmarks:
            print(f"measuring {name} ...", file=sys.stderr, flush=True)
            figures += benchmarks[name](ground)
    finally:
        ground.close()
    show(figures, described, given.json)
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
