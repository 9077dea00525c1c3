"""Another round for all dead letters of an agent: one by one, at a pace, and to be gone on with after Ctrl-C."""

import time
from typing import TYPE_CHECKING, Any

import click

from wakelog_cli.database import rows, value
from wakelog_cli.interruption import Interruption
from wakelog_cli.progress import Progress

if TYPE_CHECKING:
    from psycopg import Connection


class Pace(click.ParamType[float]):
    """A rate such as `10/s`; gives the seconds between two starts."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from wakelog.agents.options import Rate
        from wakelog.errors import BadInput

        try:
            return Rate.of(value).spacing
        except BadInput as refused:
            self.fail(str(refused.args[0]), param, ctx)


def retry_all(connection: "Connection[Any]", agent: str, gap: float, retried: list[int]) -> None:
    """Give every letter that is dead by now another round, oldest first, `gap` seconds or more apart.

    Each is a transaction of its own on `connection`, which commits by itself; its position is added to `retried` once
    that is committed, so `retried` is right whatever is raised. What dies again meanwhile is left alone.

    Raises KeyboardInterrupt between two letters, and whatever the database refuses.
    """
    began = value(connection, "select wakelog.clock()")
    letters = rows(
        connection,
        """select position from wakelog.dead_letters where agent = %(agent)s and died_at <= %(began)s
           order by died_at, position""",
        {"agent": agent, "began": began},
    )
    with Interruption() as interruption, Progress("retrying", "dead letters", len(letters)) as progress:
        next_at = time.monotonic()
        for letter in letters:
            time.sleep(max(next_at - time.monotonic(), 0.0))
            with interruption.put_off():
                was_there = value(
                    connection,
                    """select wakelog.retry_dead(%(agent)s, d.position) from wakelog.dead_letters d
                       where d.agent = %(agent)s and d.position = %(position)s and d.died_at <= %(began)s""",
                    {"agent": agent, "position": letter["position"], "began": began},
                )
                # From when it is known to have begun, which may have taken its time.
                next_at = time.monotonic() + gap
                if was_there:
                    retried.append(letter["position"])
                progress.advance(1, 1 if was_there else 0)
