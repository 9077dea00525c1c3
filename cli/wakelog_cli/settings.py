"""Points in a workflow, and what is to be otherwise there, as people type them."""

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import click

from wakelog_cli.moments import Moment


class Setting(click.ParamType[tuple[str, Any]]):
    """`customer.name=Ada`, `amount=5`: a path in the payload, and a value that is JSON, or else text."""

    name = "setting"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        if not isinstance(value, str):
            return value
        path, sign, text = value.partition("=")
        if not path or not sign:
            self.fail(f"expected a path and a value, such as amount=5, found {value!r}", param, ctx)
        try:
            return path, json.loads(text)
        except ValueError:
            return path, text


class WorkflowPoint(click.ParamType[UUID | int | datetime]):
    """The id of an event, a position, or a moment."""

    name = "point"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> UUID | int | datetime:
        if not isinstance(value, str):
            return value
        text = value.strip()
        if text.isdigit() and len(text) <= 18:
            return int(text)
        try:
            return UUID(text)
        except ValueError:
            pass
        try:
            return Moment().convert(text, param, ctx)
        except click.BadParameter:
            self.fail(
                "expected the id of an event, a position such as 812, a time such as 2026-11-27T14:30, or how long ago "
                f"it was, such as 10m; found {value!r}",
                param,
                ctx,
            )
