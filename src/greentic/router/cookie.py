"""The revision cookie: a signed promise that a visitor stays, with an end, and the visitor's slot for after that end.

Format (reference 04 section 1.3): base64url(json) "." base64url(HMAC-SHA256 over the ASCII of the first
part). Keys of the JSON: e environment, t tenant, d deployment, r revision, g generation at issue, x end of
the pin in unix seconds; ours: k key id, s slot. The signature is checked before anything is parsed, and the
key is found by trying the ring, not by believing k.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from greentic.router.keys import KeyRing, SigningKey, decode, encode

COOKIE_LIMIT: Final = 1024
"""Bytes of a cookie value; ours take about 350."""
MAX_AGE_SECONDS: Final = 30 * 24 * 3600
"""The slot outlives the pin: a visitor who returns in a month lands where the table says."""


KNOWN_LIMIT: Final = 8192


@dataclass(slots=True)
class Pin:
    """What a genuine cookie of this deployment says."""

    revision_id: str
    generation: int
    expires: int
    slot: int


class KnownCookies:
    """Cookies that were verified already: a visitor sends the same one with every request.

    Only genuine ones are kept, at most KNOWN_LIMIT; shared by the deployments of one table, and gone with its keys.
    """

    __slots__ = ("_pins",)

    def __init__(self) -> None:
        self._pins: dict[tuple[str, bytes], Pin] = {}

    def get(self, deployment_id: str, value: bytes) -> Pin | None:
        """The pin of a value that was genuine before."""
        return self._pins.get((deployment_id, value))

    def add(self, deployment_id: str, value: bytes, pin: Pin) -> None:
        """Remember a genuine value."""
        if len(self._pins) >= KNOWN_LIMIT:
            self._pins.clear()
        self._pins[(deployment_id, value)] = pin


class CookieMint:
    """Makes and reads the revision cookies of one deployment."""

    __slots__ = ("_deployment_id", "_env_id", "_heads", "_key", "_known", "_ring", "_tenant")

    def __init__(
        self,
        ring: KeyRing,
        *,
        env_id: str,
        tenant: str,
        deployment_id: str,
        generation: int,
        revision_ids: tuple[str, ...],
        known: KnownCookies | None = None,
    ) -> None:
        self._known = known if known is not None else KnownCookies()
        self._ring = ring
        self._key: SigningKey = ring.active
        self._env_id = env_id
        self._tenant = tenant
        self._deployment_id = deployment_id
        self._heads = [self._head(revision_id, generation) for revision_id in revision_ids]

    @property
    def ring(self) -> KeyRing:
        """The keys that cookies of this deployment are signed with."""
        return self._ring

    def _head(self, revision_id: str, generation: int) -> bytes:
        fixed = {"e": self._env_id, "t": self._tenant, "d": self._deployment_id, "r": revision_id, "g": generation}
        fixed["k"] = self._key.kid
        text = json.dumps(fixed, separators=(",", ":")).encode()[:-1] + b","
        # Blanks are free in JSON: with them the head's base64 is whole and can be made once.
        return encode(text + b" " * (-len(text) % 3))

    def issue(self, index: int, expires: int, slot: int) -> bytes:
        """A cookie value for revision `index` of the deployment, pinned until `expires` (unix seconds)."""
        payload = self._heads[index] + encode(b'"x":%d,"s":%d}' % (expires, slot))
        return payload + b"." + encode(self._key.sign(payload))

    def read(self, value: bytes) -> Pin | None:
        """The pin of `value`; None when it is not a genuine cookie of this environment, tenant and
        deployment.
        """
        if len(value) > COOKIE_LIMIT:
            return None
        known = self._known.get(self._deployment_id, value)
        if known is not None:
            return known
        payload, dot, signature = value.partition(b".")
        if not dot:
            return None
        try:
            if not self._ring.verifies(payload, decode(signature)):
                return None
            facts = json.loads(decode(payload))
            if facts["e"] != self._env_id or facts["t"] != self._tenant or facts["d"] != self._deployment_id:
                return None
            # A cookie of the reference has no slot: its pin holds, and after it the visitor is a new one.
            pin = Pin(str(facts["r"]), int(facts["g"]), int(facts["x"]), int(facts.get("s", -1)))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        self._known.add(self._deployment_id, value, pin)
        return pin
