"""W3C trace context: which `traceparent` is passed on (https://www.w3.org/TR/trace-context, section 3.2)."""

from __future__ import annotations

import re

_PARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-[\x21-\x7e]{1,256})?"
)


def is_traceparent(value: bytes) -> bool:
    """Whether `value` is well formed: version 00 exactly, a later version at least as far as 00 goes."""
    return _PARENT.fullmatch(value) is not None and (len(value) == 55 or not value.startswith(b"00"))
