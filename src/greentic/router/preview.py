"""Preview tokens: a signed, expiring address of one revision, which reaches it without any share of the traffic.

Token: base64url(json {d: deployment, r: revision, x: end in unix seconds}) "." base64url(HMAC-SHA256 over
"preview." and the first part). The prefix keeps a token from ever verifying as a cookie, and the other way
round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from greentic.router.keys import KeyRing, Verified, decode, encode
from greentic.spec.errors import Denied

TOKEN_LIMIT: Final = 1024
HEADER: Final = b"x-greentic-preview"
PARAMETER: Final = b"gt_preview"

_DOMAIN = b"preview."


@dataclass(frozen=True, slots=True)
class Preview:
    """What a genuine token grants."""

    deployment_id: str
    revision_id: str
    expires: int


def mint(keys: KeyRing, deployment_id: str, revision_id: str, expires_at: int) -> str:
    """A token that reaches `revision_id` of `deployment_id` until `expires_at` (unix seconds)."""
    payload = encode(
        json.dumps({"d": deployment_id, "r": revision_id, "x": expires_at}, separators=(",", ":")).encode()
    )
    return (payload + b"." + encode(keys.active.sign(_DOMAIN + payload))).decode()


def verify(
    keys: KeyRing, deployment_id: str, token: bytes, now: float, known: Verified[Preview] | None = None
) -> Preview:
    """What `token` grants for `deployment_id` at `now` (unix seconds). Raises Denied, saying why it grants
    nothing.
    """
    preview = known.get(token) if known is not None else None
    if preview is None:
        preview = _read(keys, token)
        if known is not None:
            known.add(token, preview)
    if preview.deployment_id != deployment_id:
        raise Denied("the preview token is for another deployment")
    if preview.expires <= now:
        raise Denied("the preview token has expired", next_step="ask for a new preview link")
    return preview


def _read(keys: KeyRing, token: bytes) -> Preview:
    payload, dot, signature = token.partition(b".")
    if not dot or len(token) > TOKEN_LIMIT:
        raise Denied("this is not a preview token")
    try:
        genuine = keys.verifies(_DOMAIN + payload, decode(signature))
    except ValueError:
        genuine = False
    if not genuine:
        raise Denied("the preview token is not genuine, or its key has been retired")
    try:
        facts = json.loads(decode(payload))
        return Preview(str(facts["d"]), str(facts["r"]), int(facts["x"]))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise Denied("this is not a preview token") from error
