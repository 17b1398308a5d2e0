"""The env-pack `acme.secrets.example`: what greentic finds by the entry point in pyproject.toml."""

from __future__ import annotations

from greentic.envpacks.registry import EnvPack
from greentic.envpacks.secrets import Secrets, SecretsContext
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """Imported when somebody asks what is installed: heavy imports belong into the functions below."""
    return EnvPack(
        path="acme.secrets.example",
        slot=Slot.SECRETS,
        versions="^0.1.0",
        summary="keeps each secret in a file of its own, for its owner's eyes alone",
        secrets=_secrets,
        answers=lambda: {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "folder": {
                    "type": "string",
                    "description": "where the files are; in the environment's folder unless it is absolute",
                    "default": "acme_example",
                }
            },
        },
    )


def _secrets(context: SecretsContext) -> Secrets:
    from acme_example.secrets import ExampleSecrets

    return ExampleSecrets(context)
