"""Redis: session pins that every router of an environment shares, across processes, machines and restarts.

Needs the extra `greentic[redis]`. What is offered through the entry points; each is imported when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from greentic.envpacks.registry import EnvPack
from greentic.spec.capabilities import Slot

if TYPE_CHECKING:
    from greentic.envpacks.sessions import Sessions
    from greentic.router.pins import PinStore


def sessions() -> EnvPack:
    """Session pins in Redis."""
    return EnvPack(
        path="greentic.sessions.redis",
        slot=Slot.SESSIONS,
        versions="^0.1.0",
        summary="keeps the pins of sessions in Redis, shared by all routers",
        sessions=_sessions,
        answers=_answers,
    )


def pin_store(settings: Mapping[str, Any]) -> PinStore:
    """The store, in a router's process."""
    from greentic.providers.redis.pins import RedisPins

    return RedisPins(settings)


def _answers() -> Mapping[str, Any]:
    from greentic.providers.redis.answers import SCHEMA

    return SCHEMA


def _sessions() -> Sessions:
    from greentic.providers.redis.answers import RedisSessions

    return RedisSessions()
