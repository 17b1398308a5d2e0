"""The routers' halves of env-packs that are executables: session pins that one keeps, spans that one sends.

What is offered through the entry points `greentic.executable`; each is imported when it is asked for. The settings are
those of `greentic.envpacks.offering.ForRouters`: which executable, by its digest, and what it gave for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greentic.router.pins import PinStore
    from greentic.router.spans import Exporter, Origin


def pin_store(settings: Mapping[str, Any]) -> PinStore:
    """Session pins, in a router's process."""
    from greentic.providers.executable.pins import ExecutablePins

    return ExecutablePins(settings)


def span_exporter(settings: Mapping[str, Any], origin: Origin) -> Exporter:
    """Spans, in a router's process."""
    from greentic.providers.executable.exporter import ExecutableExporter

    return ExecutableExporter(settings, origin)
