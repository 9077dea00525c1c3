"""Workflows: what they are at, what they were at, what would become of them from a point in their past.

A workflow is all events of one correlation. The work is done by SQL functions (``wakelog.workflows``,
``wakelog.workflow_at``, ``wakelog.fork_workflow``); these are their Python.
"""

from wakelog.workflows.fork import fork
from wakelog.workflows.listing import State, WorkflowSummary, workflows
from wakelog.workflows.state import Work, WorkflowEvent, WorkflowState, workflow_at

__all__ = [
    "State",
    "Work",
    "WorkflowEvent",
    "WorkflowState",
    "WorkflowSummary",
    "fork",
    "workflow_at",
    "workflows",
]
