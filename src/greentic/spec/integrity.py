"""Canonical JSON and digests (reference 01, section 1.17): keys sorted, compact, array order kept, UTF-8."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """`value` as canonical JSON bytes; ValueError for what JSON cannot hold (NaN, infinities)."""
    return _ENCODER.encode(value).encode()


def digest(value: Any) -> str:
    """Lower-case hex SHA-256 over the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def content_digest(data: bytes) -> str:
    """`sha256:<hex>` of raw bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
