"""Frames of the control socket: 4 bytes big-endian length, then that many bytes of one JSON object in UTF-8."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, Final

from greentic.spec.errors import SpecViolation

FRAME_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one message: room for a table of tens of thousands of revisions, and a bound for a confused peer.
"""

_LENGTH = struct.Struct(">I")


def encode_frame(message: Mapping[str, Any]) -> bytes:
    """`message` as one frame. Raises SpecViolation (`control-frame`) when it is larger than FRAME_LIMIT."""
    body = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode()
    if len(body) > FRAME_LIMIT:
        raise SpecViolation("control-frame", f"a control message of {len(body)} bytes is over the limit")
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Cuts a byte stream into messages; what is incomplete waits for the next bytes."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """The messages that `data` completes. Raises SpecViolation (`control-frame`): the stream cannot be
        trusted on.
        """
        buffer = self._buffer
        buffer += data
        messages: list[dict[str, Any]] = []
        start = 0
        while len(buffer) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, start)
            if length > FRAME_LIMIT:
                raise SpecViolation("control-frame", f"a control message of {length} bytes is over the limit")
            end = start + _LENGTH.size + length
            if len(buffer) < end:
                break
            messages.append(_parse(bytes(buffer[start + _LENGTH.size : end])))
            start = end
        del buffer[:start]
        return messages


def _parse(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SpecViolation("control-frame", "a control message is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise SpecViolation("control-frame", "a control message must be an object with a type")
    return message
