"""How the demo shows itself: a table that moves on a terminal, plain lines elsewhere, nothing for --json."""

import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from wakelog_cli.demo_facts import CHECKS, Progress, Push
from wakelog_cli.demo_repository import Repository
from wakelog_cli.output import console, shortened

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live
    from rich.text import Text
    from rich.tree import Tree

Manner = Literal["live", "lines", "silent"]

_MARKS = {"success": ("✓", "green"), "failure": ("✗", "red"), "error": ("!", "red")}


class Screen:
    """Where the demo is watched. A context manager; what it shows last stays."""

    def __init__(self, manner: Manner) -> None:
        self._manner: Manner = manner
        self._console = console()
        self.where = ""
        """What the commands that are shown need at their end, to go to the demo's database."""
        self.commands: list[str] = []
        """Those that were shown, or would have been."""
        self._live: Live | None = None
        self._began = time.monotonic()

    def say(self, text: str = "", style: str = "") -> None:
        """A line for people; above the table while that moves."""
        if self._manner != "silent":
            self._console.print(text, style=style or None, soft_wrap=True)

    def tell(self, text: str, style: str = "") -> None:
        """A line about something that has just happened, with the time since the pushes."""
        self.say(f"{time.monotonic() - self._began:6.2f} s  {text}", style)

    def part(self, text: str) -> None:
        """What comes next is another thing."""
        self.say()
        self.say(text, "bold")

    def typed(self, command: str) -> None:
        """The command that does what happens next."""
        self.commands.append(f"{command}{self.where}")
        self.say(f"$ {self.commands[-1]}", "cyan")

    def wrong(self, text: str) -> None:
        """Something that has not come out right."""
        self.say(text, "bold red")

    def begin(self, repository: Repository) -> None:
        """The pushes are there: time runs from here."""
        self._began = time.monotonic()
        count = len(repository.commits)
        self.tell(f"{count} push{'es' * (count > 1)} appended, in one transaction", "bold")

    def show(self, progress: Progress, new: list[dict[str, Any]]) -> None:
        """How things are now, and the events that are new."""
        if self._manner == "live":
            if self._live is None:
                from rich.live import Live

                self._live = Live(console=self._console, auto_refresh=False)
                self._live.start()
            self._live.update(self._table(progress), refresh=True)
        elif self._manner == "lines":
            commits = {push.event_id: push.commit for push in progress.pushes}
            for event in new:
                if event["type"] != "push":
                    self.tell(f"{commits[event['correlation_id']].short}  {_event_line(event)}")

    def settle(self) -> None:
        """Nothing moves any more."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def draw_runs(self, runs: "dict[str, dict[str, Any]]", progress: Progress) -> None:
        """The rows of the projection, with the checks beside each other."""
        from rich.table import Table
        from rich.text import Text

        made = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("  commit", *CHECKS, "state"):
            made.add_column(column, no_wrap=True)
        for push in progress.pushes:
            if (run := runs.get(push.event_id)) is not None:
                outcomes = [run["checks"].get(check) for check in CHECKS]
                cells = [_marked(one, one) if one else Text("·", style="dim") for one in outcomes]
                state = run["state"]
                made.add_row(
                    Text(f"  {run['commit'][:7]}"), *cells,
                    _marked(state, state) if state else Text("not finished", style="yellow"),
                )  # fmt: skip
        self.draw(made)

    def draw(self, thing: "RenderableType") -> None:
        """Anything rich can draw."""
        if self._manner != "silent":
            self._console.print(thing)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    def _table(self, progress: Progress) -> "RenderableType":
        from rich.table import Table
        from rich.text import Text

        made = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        made.add_column("push", no_wrap=True, ratio=4)
        for check in CHECKS:
            made.add_column(check, no_wrap=True, ratio=3)
        made.add_column("status", no_wrap=True, width=9)
        for push in progress.pushes:
            cells = [self._cell(progress, push, check) for check in CHECKS]
            posted = progress.statuses(push.event_id)
            status = (
                _marked(posted[0]["payload"]["state"], posted[0]["payload"]["state"]) if posted else Text("")
            )
            made.add_row(Text(f"{push.commit.short} {push.commit.subject}"), *cells, status)
        return made

    def _cell(self, progress: Progress, push: Push, check: str) -> "Text":
        from rich.text import Text

        done = progress.outcome(push.event_id, check)
        if done is not None:
            return _marked(_conclusion(done), _summary(done))
        working = progress.working.get((push.event_id, check))
        if working is None:
            return Text("·", style="dim")
        if working.state != "running":
            return Text("its worker died" if working.state == "lease_over" else "waiting", style="yellow")
        if working.worker == progress.killed:
            return Text(f"{working.files_done} of {working.files} files, killed", style="bold red")
        again = f", attempt {working.attempt}" if working.attempt > 1 else ""
        if working.files is None:
            return Text(f"running{again}", style="cyan")
        return Text(f"{working.files_done} of {working.files} files{again}", style="cyan")


def tree(told: list[dict[str, Any]], push: Push, workers: dict[int, str]) -> "Tree":
    """The timeline of one push: which event led to which delivery, and to which event that."""
    from rich.text import Text
    from rich.tree import Tree

    events = [row for row in told if row["what"] == "event"]
    began = next(row["at"] for row in events if row["event_id"] == push.event_id)

    def grow(branch: Tree, event: dict[str, Any]) -> None:
        for delivery in told:
            if delivery["what"] != "delivery" or delivery["event_id"] != event["event_id"]:
                continue
            twig = branch.add(_delivery_line(delivery, workers))
            failures: list[dict[str, Any]] = delivery["detail"] or []
            for failure in failures:
                worker = workers.get(failure["worker"], "?")
                twig.add(
                    Text(f"attempt {failure['attempt']} on {worker}: {failure['error']}", style="yellow")
                )
            for effect in events:
                # An agent's events carry its name as their source.
                if effect["causation_id"] == event["event_id"] and _source(effect) == delivery["name"]:
                    grow(twig.add(_effect_line(effect, began)), effect)

    root = Tree(Text(f"push {push.commit.short} {shortened(push.commit.subject, 60)}", style="bold"))
    grow(root, next(row for row in events if row["event_id"] == push.event_id))
    return root


def _source(event: dict[str, Any]) -> str:
    return "status" if event["name"] == "ci.status" else event["name"].rpartition(".")[0]


def _delivery_line(delivery: dict[str, Any], workers: dict[int, str]) -> "Text":
    from rich.text import Text

    took: timedelta = delivery["took"]
    attempts = f", {delivery['attempts']} attempts" if delivery["attempts"] > 1 else ""
    worker = workers.get(delivery["worker"], delivery["worker"])
    line = Text(f"{delivery['name']}  ")
    line.append(f"{took.total_seconds():.2f} s on {worker}{attempts}", style="yellow" if attempts else "dim")
    return line


def _effect_line(event: dict[str, Any], began: Any) -> "Text":
    said = event["detail"]
    conclusion = said.get("state") or said.get("conclusion") or "error"
    line = _marked(conclusion, f"{event['name']}  {said.get('summary') or said.get('error') or conclusion}")
    line.append(f"  +{(event['at'] - began).total_seconds():.2f} s", style="dim")
    return line


def _event_line(event: dict[str, Any]) -> str:
    mark, _ = _MARKS.get(_conclusion(event), ("", ""))
    return f"{mark} {event['type']}: {_summary(event)}"


def _conclusion(event: dict[str, Any]) -> str:
    payload = event["payload"]
    return payload.get("state") or payload.get("conclusion") or "error"


def _summary(event: dict[str, Any]) -> str:
    payload = event["payload"]
    return str(payload.get("summary") or payload.get("state") or payload.get("error"))


def _marked(conclusion: str, text: str) -> "Text":
    from rich.text import Text

    mark, colour = _MARKS.get(conclusion, ("·", "yellow"))
    return Text(f"{mark} {text}", style=colour)
