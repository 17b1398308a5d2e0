"""What is known of a request when it is over: the one record that `explain`, the access log and spans are made of."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from greentic.router.cookie import CookieMint
    from greentic.router.selection import Decision, Facts
    from greentic.router.table import DeploymentRow

KEPT: Final = 8192
"""Requests that a router remembers for `explain`; a few hundred bytes each, about 8 MB when full."""
PATH_BYTES: Final = 512
"""Of a longer path the beginning is kept."""


class Ended(NamedTuple):
    """A request that is over. It lives in this process only: `facts` holds what the client sent, cookies too.

    Times are unix seconds, durations seconds. `row` and `mint` are those of the deployment as it was then; they,
    `facts` and `decision` are None, and the text fields empty, as far as the request did not come.
    `selected_at` is the time that selection was given, `upstream_seconds` how long after the request's beginning the
    worker's response head came (0.0: none came). `error` is the kind of the router's refusal, `client-closed` when the
    client left first, None when all went well. `received_bytes` is the request's body (and what went into a tunnel),
    `sent_bytes` everything the client was sent, the head too. `trace_id` is set when the request was traced.
    """

    request_id: bytes
    ended_at: float
    selected_at: float
    seconds: float
    upstream_seconds: float
    status: int
    error: str | None
    peer: bytes
    method: bytes
    host: bytes
    path: bytes
    row: DeploymentRow | None
    mint: CookieMint | None
    facts: Facts | None
    decision: Decision | None
    received_bytes: int
    sent_bytes: int
    trace_id: str


Kept = deque[tuple[object, ...]]
"""The fields of `Ended`, oldest first: a plain tuple costs a third of a named one, and few are ever looked at."""


def ring() -> Kept:
    """An empty memory of KEPT requests."""
    return deque(maxlen=KEPT)
