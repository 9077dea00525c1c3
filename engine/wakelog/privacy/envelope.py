"""One value, encrypted: what it looks like in a payload, and how it is closed and opened.

    {"$private": {"key": 17, "box": "<base64>"}}

The box is 12 random bytes, then the value's JSON encrypted with AES-256-GCM, then the 16 bytes that authenticate it
together with the event's id and the place in its payload: what was taken from another event, or from another place in
the same one, does not open.
"""

import base64
import binascii
import os
from typing import Any, TypeGuard, cast
from uuid import UUID

from wakelog.errors import BadInput
from wakelog.postgres import jsonb

MARK = "$private"
_NONCE = 12
_LAST_KEY = 2**63 - 1
"""What the database numbers keys up to. JSON has larger numbers, and anybody can write an object of this form."""


def is_envelope(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a value of a payload is an encrypted one."""
    if not isinstance(value, dict) or list(value) != [MARK]:  # pyright: ignore[reportUnknownArgumentType]
        return False
    inner = cast("dict[str, Any]", value[MARK])
    if not isinstance(inner, dict) or set(inner) != {"key", "box"}:  # pyright: ignore[reportUnnecessaryIsInstance]
        return False
    key = inner["key"]
    return type(key) is int and 0 < key <= _LAST_KEY and isinstance(inner["box"], str)


def key_of(envelope: dict[str, Any]) -> int:
    """The id of the key that an envelope needs."""
    return envelope[MARK]["key"]


def close(value: Any, key_id: int, key: bytes, event: UUID, place: str) -> dict[str, Any]:
    """Encrypt a value for its place in an event. Raises `BadInput` where the library for it is not installed."""
    nonce = os.urandom(_NONCE)
    box = nonce + _cipher(key).encrypt(nonce, jsonb.encode(value).encode(), _bound_to(event, place))
    return {MARK: {"key": key_id, "box": base64.b64encode(box).decode()}}


def open_(envelope: dict[str, Any], key: bytes, event: UUID, place: str) -> Any:
    """The value of an envelope. Raises ValueError where it does not belong there, or was changed."""
    from cryptography.exceptions import InvalidTag

    try:
        box = base64.b64decode(envelope[MARK]["box"], validate=True)
        return jsonb.decode(_cipher(key).decrypt(box[:_NONCE], box[_NONCE:], _bound_to(event, place)))
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise ValueError(f"an envelope of event {event} at {place or '/'} does not open") from error


def can_open() -> bool:
    """Whether the library for it is installed."""
    try:
        import cryptography  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError:
        return False
    return True


def _bound_to(event: UUID, place: str) -> bytes:
    return b"wakelog 1\x00" + event.bytes + place.encode()


def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise BadInput(
            "expected the package cryptography, which private values need, found it missing",
            hint="Install it: pip install 'wakelog[forget]'",
        ) from None
    return AESGCM(key)
