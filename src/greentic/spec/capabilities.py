"""Capability slots: what an environment can do (reference 01, section 1.3)."""

from __future__ import annotations

from enum import StrEnum


class Slot(StrEnum):
    """A capability slot; `messaging` and `extension` may be bound many times, the others once."""

    DEPLOYER = "deployer"
    SECRETS = "secrets"
    TELEMETRY = "telemetry"
    SESSIONS = "sessions"
    STATE = "state"
    REVOCATION = "revocation"
    MESSAGING = "messaging"
    EXTENSION = "extension"

    @property
    def single(self) -> bool:
        """Whether at most one env-pack fills this slot; such bindings stand in `Environment.packs`."""
        return self not in {Slot.MESSAGING, Slot.EXTENSION}
