"""However it came to be: made field by field, or from a row of the log."""

import copy
import pickle
from dataclasses import FrozenInstanceError, asdict, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from wakelog import Event

ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROW: Any = (
    7, ID, "push", "git", "repo", 3, {"n": 1}, {"by": "me"}, "flow", ID, "key", 2, NOW, NOW
)  # fmt: skip


def test_it_equals_one_that_was_made() -> None:
    event = Event.from_row(ROW)
    assert type(event) is Event
    assert event == Event(*ROW)
    assert repr(event) == repr(Event(*ROW))
    assert asdict(event) == asdict(Event(*ROW))


def test_it_cannot_be_changed() -> None:
    event = Event.from_row(ROW)
    with pytest.raises(FrozenInstanceError):
        event.type = "pull"  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(FrozenInstanceError):
        del event.type  # pyright: ignore[reportAttributeAccessIssue]
    assert replace(event, type="pull").type == "pull"


def test_it_can_be_copied_and_sent() -> None:
    event = Event.from_row(ROW)
    for again in (copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert again == event
        assert again.data == event.payload


def test_what_a_row_leaves_out_is_filled_in() -> None:
    event = Event.from_row((*ROW[:7], None, None, *ROW[9:]))
    assert event.metadata == {}
    assert event.correlation_id == str(ID)
