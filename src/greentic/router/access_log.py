"""The access log: one JSON object per line, for whoever asked for it with a flag."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import TextIO


class AccessLog:
    """Writes records to `stream`, with `time` (unix seconds) first."""

    __slots__ = ("_stream",)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Mapping[str, object]) -> None:
        """Write one record; a reader that has gone away stops nobody."""
        try:
            self._stream.write(json.dumps({"time": round(time.time(), 3), **record}) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return
