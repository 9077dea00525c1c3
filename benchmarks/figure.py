"""A measured ratio, and how a run of them is told."""

import json
import os
import platform
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """Ours against theirs, each the median of several turns taken alternately in one run."""

    name: str
    unit: str
    ours: float
    theirs: float
    against: str
    limit: float
    """The ratio that is to be reached (or, where lower is better, not to be passed)."""
    lower_is_better: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def holds(self) -> bool:
        return self.ratio <= self.limit if self.lower_is_better else self.ratio >= self.limit


def alternate(turns: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[float, float]:
    """Medians of both, taken in turns, so that a noisy moment hits both alike."""
    mine: list[float] = []
    others: list[float] = []
    for _ in range(turns):
        others.append(theirs())
        mine.append(ours())
    return statistics.median(mine), statistics.median(others)


def machine(server: str) -> str:
    """One line on what this was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, Python {platform.python_version()}, "
        f"PostgreSQL {server}, load {os.getloadavg()[0]:.1f} at the start"
    )


def show(figures: list[Figure], described: str, to: Path | None) -> None:
    """Print a table, and write JSON where asked to."""
    table = Table(title="Wakelog, measured", caption=described)
    for column in ("figure", "ours", "theirs", "unit", "against", "ratio", "limit", ""):
        table.add_column(
            column, justify="right" if column in ("ours", "theirs", "ratio", "limit") else "left"
        )
    for figure in figures:
        table.add_row(
            figure.name, f"{figure.ours:,.4g}", f"{figure.theirs:,.4g}", figure.unit, figure.against,
            f"{figure.ratio:.2f}", f"{'≤' if figure.lower_is_better else '≥'} {figure.limit:g}",
            "holds" if figure.holds else "[bold red]falls short[/]",
        )  # fmt: skip
    Console(width=150).print(table)
    if to is not None:
        rows = [asdict(figure) | {"ratio": figure.ratio, "holds": figure.holds} for figure in figures]
        to.write_text(json.dumps({"machine": described, "figures": rows}, indent=2) + "\n")
