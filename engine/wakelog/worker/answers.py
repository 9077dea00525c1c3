"""What a handler that has returned answers: its events, its results, and which of a batch it let fail."""

from typing import Any

from wakelog.agents.batch import BatchContext
from wakelog.agents.context import Bench, Context
from wakelog.agents.options import Duration
from wakelog.errors import BadInput
from wakelog.log.closed import outcome
from wakelog.log.values import json_text
from wakelog.worker.delivery import Delivery, Work
from wakelog.worker.settling import Done

FailedAlone = tuple[Delivery, BaseException | str, Duration | None]
"""One of a batch, why it failed, and when it may be tried again."""


def context_for(work: Work, bench: Bench) -> Context | BatchContext:
    """What the handler gets as its second argument."""
    agent = work.agent
    if agent.batch is None:
        delivery = work.deliveries[0]
        return Context(delivery.event, agent.name, delivery.attempt, agent.is_async, bench)
    events = [delivery.event for delivery in work.deliveries]
    return BatchContext(events, agent.name, work.attempt, agent.is_async, bench)


def answers(work: Work, context: Context | BatchContext, result: Any) -> tuple[list[Done], list[FailedAlone]]:
    """The deliveries that are done, each with the events it answers with, and those that failed alone.

    Raises BadInput for a result that cannot be written as JSON, does not fit the model of its closed type, or is not
    one for each event of a batch.
    """
    if isinstance(context, Context):
        return [(work.deliveries[0], _with_result(work.deliveries[0], context.emitted, result))], []
    emitted: dict[int, list[dict[str, Any]]] = {}
    for event in context.emitted:
        emitted.setdefault(event["position"], []).append(event)
    done: list[Done] = []
    failed: list[FailedAlone] = []
    results = _one_for_each(work, result)
    for delivery, its_result in zip(work.deliveries, results, strict=True):
        if (failure := context.failed.get(delivery.position)) is not None:
            failed.append((delivery, *failure))
        else:
            events = emitted.get(delivery.position, [])
            done.append((delivery, _with_result(delivery, events, its_result)))
    return done, failed


def _one_for_each(work: Work, result: Any) -> list[Any]:
    count = len(work.deliveries)
    if result is None:
        return [None] * count
    if not isinstance(result, list | tuple):
        found = type(result).__name__
    elif len(result) != count:  # pyright: ignore[reportUnknownArgumentType]
        found = f"{len(result)} of them"  # pyright: ignore[reportUnknownArgumentType]
    else:
        return list(result)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    raise BadInput(
        f'agent "{work.agent.name}" takes batches: expected None or a list of {count} results, one for each event '
        f"and None where there is none, found {found}"
    )


def _with_result(delivery: Delivery, events: list[dict[str, Any]], result: Any) -> list[dict[str, Any]]:
    if result is None:
        return events
    type_ = f"{delivery.agent.name}.completed"
    said = outcome(type_, result)
    json_text("the result", said["payload"])
    completed = {"position": delivery.position, "key": "completed", "type": type_, **said}
    return [*events, completed]
