"""What stands where something personal was, once its subject is forgotten."""

from typing import Any, Final


class Forgotten:
    """The type of `FORGOTTEN`, of which there is one. It is false, and {"$forgotten": true} as JSON."""

    __slots__ = ()
    _only: "Forgotten | None" = None

    def __new__(cls) -> "Forgotten":
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "FORGOTTEN"

    def __reduce__(self) -> str:
        return "FORGOTTEN"  # the same one again, from pickle and copy

    def as_json(self) -> dict[str, Any]:
        """How it is written in JSON."""
        return {"$forgotten": True}


FORGOTTEN: Final = Forgotten()
"""Stands where something personal was. Ask `value is FORGOTTEN`."""
