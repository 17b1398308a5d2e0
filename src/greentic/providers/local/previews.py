"""Preview tokens, signed with the environment's key ring."""

from __future__ import annotations

import base64
from pathlib import Path

from greentic.providers.local import keys
from greentic.router.keys import KeyRing, SigningKey
from greentic.router.preview import mint


def token(path: Path, deployment_id: str, revision_id: str, expires_at: int) -> str:
    """A token that reaches the revision until `expires_at` (unix seconds); errors as of `keys.ensure`."""
    document = keys.ensure(path)
    signing = [SigningKey(key["kid"], base64.b64decode(key["secret"])) for key in document["ring"]]
    ring = KeyRing(tuple(sorted(signing, key=lambda key: key.kid != document["active"])))
    return mint(ring, deployment_id, revision_id, expires_at)
