"""Trust tokens: a signed, expiring proof that a caller may say who its users are and which revision it wants.

The token stands in `x-greentic-trust`: base64url(json {e: environment, d: deployment, x: end in unix seconds}) "."
base64url(HMAC-SHA256 over "trust." and the first part). Without d it holds for every deployment of the environment.
The prefix keeps it from ever verifying as a cookie or a preview token. A caller that proves itself with a client
certificate, or comes from a trusted network, needs none.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from greentic.router.keys import KeyRing, Verified, decode, encode

TOKEN_LIMIT: Final = 1024

_DOMAIN = b"trust."


class Trust(NamedTuple):
    """What a genuine token grants. `deployment_id` is None when it holds for all."""

    env_id: str
    deployment_id: str | None
    expires: int


def mint(keys: KeyRing, env_id: str, deployment_id: str | None, expires_at: int) -> str:
    """A token that makes its bearer a trusted caller until `expires_at` (unix seconds)."""
    facts: dict[str, str | int] = {"e": env_id, "x": expires_at}
    if deployment_id is not None:
        facts["d"] = deployment_id
    payload = encode(json.dumps(facts, separators=(",", ":")).encode())
    return (payload + b"." + encode(keys.active.sign(_DOMAIN + payload))).decode()


def proves(
    keys: KeyRing, env_id: str, deployment_id: str, token: bytes, now: float, known: Verified[Trust] | None = None
) -> bool:
    """Whether `token` makes its bearer trusted for `deployment_id` of `env_id` at `now` (unix seconds)."""
    trust = known.get(token) if known is not None else None
    if trust is None:
        trust = _read(keys, token)
        if trust is None:
            return False
        if known is not None:
            known.add(token, trust)
    return trust.env_id == env_id and trust.deployment_id in (None, deployment_id) and trust.expires > now


def _read(keys: KeyRing, token: bytes) -> Trust | None:
    payload, dot, signature = token.partition(b".")
    if not dot or len(token) > TOKEN_LIMIT:
        return None
    try:
        if not keys.verifies(_DOMAIN + payload, decode(signature)):
            return None
        facts = json.loads(decode(payload))
        deployment_id = facts.get("d")
        return Trust(str(facts["e"]), None if deployment_id is None else str(deployment_id), int(facts["x"]))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        return None
