"""The revision cookie: a signed promise that a visitor stays, with an end, and the visitor's slot for after that end.

Format (reference 04 section 1.3): base64url(json) "." base64url(HMAC-SHA256 over the ASCII of the first
part). Keys of the JSON: e environment, t tenant, d deployment, r revision, g generation at issue, x end of
the pin in unix seconds; ours: k key id, s slot. The signature is checked before anything is parsed, and the
key is found by trying the ring, not by believing k.
"""

from __future__ import annotations

import json
import re
from typing import Final

from greentic.router.keys import Hash, KeyRing, SigningKey, Verified, decode, encode
from greentic.router.pins import Pin

COOKIE_LIMIT: Final = 1024
"""Bytes of a cookie value; ours take about 350."""
MAX_AGE_SECONDS: Final = 30 * 24 * 3600
"""The slot outlives the pin: a visitor who returns in a month lands where the table says."""

_REST = re.compile(
    rb',"r":"([A-Za-z0-9._-]+)","g":([0-9]{1,19}),"k":"[A-Za-z0-9._-]+", *"x":([0-9]{1,18}),"s":(-?[0-9]{1,5})\}'
)
"""What follows `e`, `t` and `d` in a payload as this class writes it."""


class CookieMint:
    """Makes and reads the revision cookies of one deployment."""

    __slots__ = (
        "_deployment_id",
        "_env_id",
        "_generation",
        "_heads",
        "_issued",
        "_key",
        "_known",
        "_ring",
        "_scope",
        "_start",
        "_tenant",
    )

    def __init__(
        self,
        ring: KeyRing,
        *,
        env_id: str,
        tenant: str,
        deployment_id: str,
        generation: int,
        revision_ids: tuple[str, ...],
        known: Verified[Pin] | None = None,
        issued: Verified[bytes] | None = None,
    ) -> None:
        """`known` and `issued`: cookies that were read and made with the same ring, of any deployment."""
        self._known = known if known is not None else Verified()
        self._issued = issued if issued is not None else Verified()
        self._ring = ring
        self._key: SigningKey = ring.active
        self._env_id = env_id
        self._tenant = tenant
        self._deployment_id = deployment_id
        self._scope = f"{deployment_id}/{tenant}"
        self._generation = generation
        self._heads = {revision_id: self._head(revision_id, generation) for revision_id in revision_ids}
        whose = {"e": env_id, "t": tenant, "d": deployment_id}
        self._start = json.dumps(whose, separators=(",", ":")).encode()[:-1]

    @property
    def ring(self) -> KeyRing:
        """The keys that cookies of this deployment are signed with."""
        return self._ring

    def _head(self, revision_id: str, generation: int) -> tuple[bytes, Hash]:
        """How the payload of such a pin begins, and the signature begun with it."""
        fixed = {"e": self._env_id, "t": self._tenant, "d": self._deployment_id, "r": revision_id, "g": generation}
        fixed["k"] = self._key.kid
        text = json.dumps(fixed, separators=(",", ":")).encode()[:-1] + b","
        # Blanks are free in JSON: with them the head's base64 is whole and can be made once.
        head = encode(text + b" " * (-len(text) % 3))
        return head, self._key.begun(head)

    def issue(self, pin: Pin) -> bytes:
        """A cookie value that makes the promise `pin`."""
        revision_id, generation, expires, slot = pin
        known = self._heads.get(revision_id) if generation == self._generation else None
        head, begun = known or self._head(revision_id, generation)
        tail = encode(b'"x":%d,"s":%d}' % (expires, slot))
        return b"%b%b.%b" % (head, tail, encode(self._key.sign(tail, begun)))

    def issue_again(self, pin: Pin) -> bytes:
        """`issue` of a promise that is made with every response to a session: signed once."""
        key = (self._scope, pin)
        value = self._issued.get(key)
        if value is None:
            value = self.issue(pin)
            self._issued.add(key, value)
        return value

    def read(self, value: bytes) -> Pin | None:
        """The pin of `value`; None when it is not a genuine cookie of this environment, tenant and
        deployment.
        """
        if len(value) > COOKIE_LIMIT:
            return None
        key = (self._scope, value)
        known = self._known.get(key)
        if known is not None:
            return known
        payload, dot, signature = value.partition(b".")
        if not dot:
            return None
        try:
            if not self._ring.verifies(payload, decode(signature)):
                return None
            pin = self._pin(decode(payload))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            return None
        if pin is not None:
            self._known.add(key, pin)
        return pin

    def _pin(self, text: bytes) -> Pin | None:
        """What a genuine payload says; read as JSON only when it is not as this class writes it."""
        if text.startswith(self._start):
            found = _REST.fullmatch(text, len(self._start))
            if found is not None:
                return Pin(found[1].decode(), int(found[2]), int(found[3]), int(found[4]))
        facts = json.loads(text)
        if facts["e"] != self._env_id or facts["t"] != self._tenant or facts["d"] != self._deployment_id:
            return None
        # A cookie of the reference has no slot: its pin holds, and after it the visitor is a new one.
        return Pin(str(facts["r"]), int(facts["g"]), int(facts["x"]), int(facts.get("s", -1)))
