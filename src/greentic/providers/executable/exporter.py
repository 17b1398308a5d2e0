"""Spans that an executable sends (see `greentic.router.spans`): batch after batch to one process per router."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from greentic.envpacks.wire import to_json
from greentic.providers.executable import contracts
from greentic.providers.executable.contracts import SpanDocument
from greentic.router.spans import Fields, Origin

EXPORT_SECONDS: Final = 10.0
"""How long one batch may take; only spans wait for it."""


class ExecutableExporter:
    """See `greentic.router.spans.Exporter`. It has an event loop of its own, which runs while a batch is sent."""

    def __init__(self, settings: Mapping[str, Any], origin: Origin) -> None:
        self._context = {"settings": settings["settings"], **origin._asdict()}
        self._peer = contracts.peer(settings)
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._running = False
        self._closed = False

    def export(self, spans: Sequence[Fields]) -> int:
        """Have the executable send `spans`; how many of them were lost."""
        told = [to_json(SpanDocument(*(_text(field) for field in fields))) for fields in spans]  # type: ignore[arg-type]
        asked = contracts.params(self._context, spans=told)
        self._running = True
        try:
            lost = self._runner.run(self._peer.ask("export", asked, EXPORT_SECONDS))
        finally:
            self._running = False
        return min(max(lost, 0), len(spans)) if type(lost) is int else len(spans)

    def close(self) -> None:
        """End the process: at once when a batch is under way, which is lost then."""
        if self._running:
            self._peer.kill()
        elif not self._closed:
            self._closed = True
            self._runner.run(self._peer.close())
            self._runner.close()


def _text(field: object) -> object:
    return field.decode(errors="backslashreplace") if isinstance(field, bytes) else field
