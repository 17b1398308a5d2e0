"""Tokens signed with the environment's key ring: previews for people, trust for callers."""

from __future__ import annotations

import base64
from pathlib import Path

from greentic.providers.local import keys
from greentic.router import preview, trust
from greentic.router.keys import KeyRing, SigningKey


def token(path: Path, deployment_id: str, revision_id: str, expires_at: int) -> str:
    """A token that reaches the revision until `expires_at` (unix seconds); errors as of `keys.ensure`."""
    return preview.mint(_ring(path), deployment_id, revision_id, expires_at)


def trust_token(path: Path, environment_id: str, deployment_id: str | None, expires_at: int) -> str:
    """A token that makes its bearer a trusted caller until `expires_at` (unix seconds); errors as of `keys.ensure`."""
    return trust.mint(_ring(path), environment_id, deployment_id, expires_at)


def _ring(path: Path) -> KeyRing:
    document = keys.ensure(path)
    signing = [SigningKey(key["kid"], base64.b64decode(key["secret"])) for key in document["ring"]]
    return KeyRing(tuple(sorted(signing, key=lambda key: key.kid != document["active"])))
