"""The bounds of the data path: sizes in bytes, times in seconds. All of them can be overridden by a table's options,
where `greentic.spec.router_settings.RouterLimits` goes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from greentic.spec.errors import SpecViolation


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client, one request and one worker may take of one router process.

    Times are checked by one coarse sweep (`greentic.router.phases.TICK_SECONDS`), so each is exact to that
    tick. A client is slower than `client_bytes_per_second` when it is so on average for longer than
    `body_idle_seconds` as it sends a body, or `write_stall_seconds` as it takes a response.
    """

    max_connections: int = 10_000
    max_worker_connections: int = 4096
    max_waiting: int = 1024
    max_url_bytes: int = 16 * 1024
    max_header_bytes: int = 64 * 1024
    max_headers: int = 128
    max_body_bytes: int = 64 * 1024 * 1024
    handshake_seconds: float = 10.0
    header_seconds: float = 10.0
    body_idle_seconds: float = 60.0
    keep_alive_seconds: float = 75.0
    write_stall_seconds: float = 60.0
    client_bytes_per_second: float = 256.0
    waiting_seconds: float = 10.0
    connect_seconds: float = 2.0
    connect_retry_seconds: float = 2.0
    response_head_seconds: float = 60.0
    response_idle_seconds: float = 300.0
    stream_idle_seconds: float = 3600.0
    upstream_idle_seconds: float = 30.0

    @staticmethod
    def parse(document: Any) -> Limits:
        """Limits from the overrides in a table's `options.limits`; unknown names are ignored.

        Raises SpecViolation (`limits`) when a value is no positive finite number, or no whole number where
        one is due.
        """
        if not isinstance(document, Mapping):
            raise SpecViolation("limits", "options.limits must be an object")
        values: dict[str, Any] = {}
        for field in fields(Limits):
            if field.name not in document:
                continue
            value = document[field.name]
            whole = field.name.startswith("max_")
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                raise SpecViolation("limits", f"options.limits.{field.name} must be a number")
            if value <= 0 or value > 1 << 53 or not math.isfinite(value):
                raise SpecViolation("limits", f"options.limits.{field.name} must be greater than 0")
            values[field.name] = value
        return Limits(**values)
