"""The env-pack `acme.telemetry.example`: what greentic finds by the two entry points in pyproject.toml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from greentic.envpacks.registry import EnvPack
from greentic.envpacks.telemetry import Telemetry
from greentic.router.spans import Exporter, Origin
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """The half that runs with the commands. Heavy imports belong into the functions below."""
    return EnvPack(
        path="acme.telemetry.example",
        slot=Slot.TELEMETRY,
        versions="^0.1.0",
        summary="sends spans to a collector",
        telemetry=_telemetry,
        answers=lambda: {
            "type": "object",
            "additionalProperties": False,
            "required": ["endpoint"],
            "properties": {
                "endpoint": {"type": "string", "description": "where the collector is, https://…"},
                "token_ref": {"type": "string", "description": "the address of the secret that holds its token"},
            },
        },
    )


def exporter(settings: Mapping[str, Any], origin: Origin) -> Exporter:
    """The half that runs in a router's process."""
    from acme_example.exporter import ExampleExporter

    return ExampleExporter(settings, origin)


def _telemetry() -> Telemetry:
    from acme_example.telemetry import ExampleTelemetry

    return ExampleTelemetry()
