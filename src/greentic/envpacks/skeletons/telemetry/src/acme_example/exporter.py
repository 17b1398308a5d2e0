"""The half of `acme.telemetry.example` that sends, in a router's process. See `greentic.router.spans.Exporter`.

One JSON document per span and line, in one POST. It is called in a thread of its own: only spans wait while it waits.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

from greentic.router.spans import Fields, Origin, Span

SECONDS = 5.0


class ExampleExporter:
    """See `greentic.router.spans.Exporter`."""

    def __init__(self, settings: Mapping[str, Any], origin: Origin) -> None:
        self._endpoint = str(settings["endpoint"])
        self._headers = {**settings.get("headers", {}), "content-type": "application/x-ndjson"}
        self._origin = origin._asdict()

    def export(self, spans: Sequence[Fields]) -> int:
        """Send them; none is lost unless this raises. What comes are plain tuples, cheap for the router."""
        documents = [{**self._origin, **dict(zip(Span._fields, span, strict=True))} for span in spans]
        body = "".join(json.dumps(document) + "\n" for document in documents)
        request = urllib.request.Request(self._endpoint, body.encode(), self._headers, method="POST")
        with urllib.request.urlopen(request, timeout=SECONDS):
            return 0

    def close(self) -> None:
        """Nothing is kept open."""
