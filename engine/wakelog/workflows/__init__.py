"""Workflows: what they are at, what they were at, and what would become of them.

A workflow is all events of one correlation. Most of the work is done by SQL functions (``wakelog.workflows``,
``wakelog.workflow_at``, ``wakelog.fork_workflow``), of which these are the Python; rehearsing is done here.
"""

from typing import TYPE_CHECKING, Any

from wakelog.workflows.fork import fork
from wakelog.workflows.listing import State, WorkflowSummary, workflows
from wakelog.workflows.state import Work, WorkflowEvent, WorkflowState, workflow_at

if TYPE_CHECKING:
    from wakelog.workflows.crew import Crew, RehearsedWorkflow
    from wakelog.workflows.difference import Difference
    from wakelog.workflows.rehearsal import Rehearsed, rehearse

__all__ = [
    "Crew",
    "Difference",
    "Rehearsed",
    "RehearsedWorkflow",
    "State",
    "Work",
    "WorkflowEvent",
    "WorkflowState",
    "WorkflowSummary",
    "fork",
    "rehearse",
    "workflow_at",
    "workflows",
]

_MODULES = {
    "Crew": "wakelog.workflows.crew",
    "Difference": "wakelog.workflows.difference",
    "Rehearsed": "wakelog.workflows.rehearsal",
    "RehearsedWorkflow": "wakelog.workflows.crew",
    "rehearse": "wakelog.workflows.rehearsal",
}


def __getattr__(name: str) -> Any:
    # Rehearsing takes all of the worker, which takes long to import for those who only look.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)
