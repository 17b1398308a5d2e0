"""The env-pack `acme.state.example`: what greentic finds by the entry point in pyproject.toml."""

from __future__ import annotations

from greentic.envpacks.registry import EnvPack
from greentic.envpacks.state import State, StateContext
from greentic.spec.capabilities import Slot


def pack() -> EnvPack:
    """Imported when somebody asks what is installed: heavy imports belong into the functions below."""
    return EnvPack(
        path="acme.state.example",
        slot=Slot.STATE,
        versions="^0.1.0",
        summary="keeps state in an SQLite database of the environment; it outlives workers and restarts",
        state=_state,
        answers=lambda: {"type": "object", "additionalProperties": False, "properties": {}},
    )


def _state(context: StateContext) -> State:
    from acme_example.state import ExampleState

    return ExampleState(context)
