"""The runtime's own log: one JSON object per line, with the time and the event. Never a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from greentic.worker.logfile import LogFile


class Journal:
    """Writes events to `log`."""

    def __init__(self, log: LogFile) -> None:
        self._log = log

    def event(self, event: str, **facts: Any) -> None:
        """One line: what happened, with `facts` (JSON values)."""
        time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._log.write(json.dumps({"time": time, "event": event, **facts}, ensure_ascii=False).encode() + b"\n")
