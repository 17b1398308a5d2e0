"""Where WebSocket frames begin and end, so that a close frame can be put between two of them (RFC 6455
section 5.2).
"""

from __future__ import annotations

import os
from typing import Final

CLOSE_RESTART: Final = b"\x88\x02\x03\xf4"
"""A close frame with status 1012, "service restart": clients reconnect on it."""
_GOING_AWAY: Final = (1001).to_bytes(2)


def close_away() -> bytes:
    """A close frame with status 1001, "going away", as a client sends it: under a new mask (RFC 6455 section 5.3)."""
    mask = os.urandom(4)
    return b"\x88\x82" + mask + bytes(byte ^ key for byte, key in zip(_GOING_AWAY, mask, strict=False))


class FrameBoundary:
    """Follows one direction of a WebSocket without keeping any of it."""

    __slots__ = ("_header", "_payload")

    def __init__(self) -> None:
        self._header = b""
        self._payload = 0

    @property
    def between_frames(self) -> bool:
        """Whether everything seen so far ends with a whole frame."""
        return not self._payload and not self._header

    def feed(self, data: bytes, *, one: bool = False) -> int:
        """Advance over `data`, with `one` only to the end of the frame that is on its way; how many bytes that was."""
        position = 0
        end = len(data)
        while position < end:
            if self._payload:
                step = min(self._payload, end - position)
                self._payload -= step
                position += step
                if one and not self._payload:
                    break
                continue
            header = self._header + data[position : position + 14 - len(self._header)]
            size = _header_size(header)
            if not size or len(header) < size:
                self._header = header
                return end
            position += size - len(self._header)
            self._header = b""
            self._payload = _payload_size(header)
            if one and not self._payload:
                break
        return position


def _header_size(header: bytes) -> int:
    if len(header) < 2:
        return 0
    length = header[1] & 0x7F
    return 2 + (2 if length == 126 else 8 if length == 127 else 0) + (4 if header[1] & 0x80 else 0)


def _payload_size(header: bytes) -> int:
    length = header[1] & 0x7F
    if length == 126:
        return int.from_bytes(header[2:4])
    if length == 127:
        return int.from_bytes(header[2:10])
    return length
