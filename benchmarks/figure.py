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
    bound: float | None
    """The ratio that is to be reached (or, where lower is better, not to be passed); None for a mere comparison."""
    lower_is_better: bool = False
    spread: float = 0.0
    """How far the turns' ratios lay apart, as a share of their median: what is within it is noise."""

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs if self.theirs else float("nan")

    @property
    def holds(self) -> bool:
        if self.bound is None:
            return True
        # Written so that a ratio that is no number does not hold.
        return self.ratio <= self.bound if self.lower_is_better else self.ratio >= self.bound


@dataclass(frozen=True, slots=True)
class Failed:
    """A benchmark that came to no figure."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Turns:
    """What both sides came to, turn by turn."""

    ours: list[float]
    theirs: list[float]

    def figure(
        self, name: str, unit: str, against: str, bound: float | None, *, lower_is_better: bool = False
    ) -> Figure:
        ratios = [mine / other for mine, other in zip(self.ours, self.theirs, strict=True)]
        return Figure(
            name, unit, statistics.median(self.ours), statistics.median(self.theirs), against, bound,
            lower_is_better, (max(ratios) - min(ratios)) / statistics.median(ratios),
        )  # fmt: skip


def alternate(turns: int, ours: Callable[[], float], theirs: Callable[[], float]) -> Turns:
    """Both, taken in turns, so that a noisy moment hits both alike."""
    found = Turns([], [])
    for _ in range(turns):
        found.theirs.append(theirs())
        found.ours.append(ours())
    return found


def machine(server: str) -> str:
    """One line on what this was measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, PostgreSQL {server}, load {os.getloadavg()[0]:.1f} at the start"
    )


def show(figures: list[Figure], failed: list[Failed], described: str, to: Path | None) -> None:
    """Print a table, and write JSON where asked to."""
    table = Table(title="Wakelog, measured", caption=described)
    for column in ("figure", "ours", "theirs", "unit", "against", "ratio", "bound", "±", ""):
        table.add_column(
            column, justify="right" if column in ("ours", "theirs", "ratio", "bound", "±") else "left"
        )
    for figure in figures:
        sign = "≤" if figure.lower_is_better else "≥"
        table.add_row(
            figure.name, _number(figure.ours), _number(figure.theirs), figure.unit, figure.against,
            f"{figure.ratio:.2f}", "" if figure.bound is None else f"{sign} {figure.bound:.2f}",
            f"{figure.spread:.0%}",
            "" if figure.bound is None else "holds" if figure.holds else "[bold red]FALLS SHORT[/]",
        )  # fmt: skip
    for one in failed:
        table.add_row(one.name, "", "", "", one.why, "", "", "", "[bold red]FAILED[/]")
    Console(width=180).print(table)
    if to is not None:
        rows = [asdict(figure) | {"ratio": figure.ratio, "holds": figure.holds} for figure in figures]
        document = {"machine": described, "figures": rows, "failed": [asdict(one) for one in failed]}
        to.write_text(json.dumps(document, indent=2) + "\n")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
