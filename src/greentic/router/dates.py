"""The `Date` field (RFC 9110 section 6.6.1), for what a worker sent without one and what the router answers itself."""

from __future__ import annotations

import time

_said = (0, b"")


def date_line(now: float | None = None) -> bytes:
    """The field for `now` (unix seconds; None: this moment), written once a second."""
    global _said
    second = int(time.time() if now is None else now)
    if _said[0] != second:
        # The names of days and months are English: nobody sets LC_TIME in a router.
        _said = second, time.strftime("Date: %a, %d %b %Y %H:%M:%S GMT", time.gmtime(second)).encode()
    return _said[1]
