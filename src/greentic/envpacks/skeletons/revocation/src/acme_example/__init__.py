"""The env-pack `acme.revocation.example`: what greentic finds by the entry point in pyproject.toml."""

from __future__ import annotations

from greentic.envpacks.registry import EnvPack
from greentic.envpacks.revocation import Revocation, RevocationContext
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """Imported when somebody asks what is installed: heavy imports belong into the functions below."""
    return EnvPack(
        path="acme.revocation.example",
        slot=Slot.REVOCATION,
        versions="^0.1.0",
        summary="refuses what a list names, fetched over HTTPS at every question",
        revocation=_revocation,
        answers=lambda: {
            "type": "object",
            "additionalProperties": False,
            "required": ["url"],
            "properties": {"url": {"type": "string", "description": "where the list is, https://…"}},
        },
    )


def _revocation(context: RevocationContext) -> Revocation:
    from acme_example.revocation import ExampleRevocation

    return ExampleRevocation(context)
