"""What stands where something personal was, once its subject is forgotten."""

from typing import Any, Final

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


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

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """So that an event model may say `email: str | Forgotten`."""
        written = core_schema.chain_schema([
            core_schema.typed_dict_schema(
                {"$forgotten": core_schema.typed_dict_field(core_schema.literal_schema([True]))},
                extra_behavior="forbid",
            ),
            core_schema.no_info_plain_validator_function(lambda _: FORGOTTEN),
        ])  # fmt: skip
        return core_schema.json_or_python_schema(
            json_schema=written,
            python_schema=core_schema.is_instance_schema(cls),
            serialization=core_schema.plain_serializer_function_ser_schema(cls.as_json, when_used="json"),
        )


FORGOTTEN: Final = Forgotten()
"""Stands where something personal was. Ask `value is FORGOTTEN`."""
