"""OpenTelemetry: spans of the routers' requests to any collector that speaks OTLP over HTTP.

Needs the extra `greentic[telemetry]`. What is offered through the entry points; each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot

if TYPE_CHECKING:
    from greentic.envpacks.telemetry import Telemetry
    from greentic.router.spans import Exporter, Origin


def telemetry() -> EnvPack:
    """Spans by OTLP."""
    return EnvPack(
        path="greentic.telemetry.otlp",
        slot=Slot.TELEMETRY,
        versions="^0.1.0",
        summary="sends a span per request to an OpenTelemetry collector (OTLP over HTTP)",
        telemetry=_telemetry,
        answers=_answers,
    )


def span_exporter(settings: Mapping[str, Any], origin: Origin) -> Exporter:
    """The exporter, in a router's process."""
    from greentic.providers.otlp.exporter import OtlpExporter

    return OtlpExporter(settings, origin)


def _telemetry() -> Telemetry:
    from greentic.providers.otlp.answers import OtlpTelemetry

    return OtlpTelemetry()


def _answers() -> Mapping[str, Any]:
    from greentic.providers.otlp.answers import SCHEMA

    return SCHEMA
