"""Which revision of a deployment serves a request, and why.

Order: preview token, trusted header, revision cookie, session pin, slot. The slot is that of the request's key, else
the one in its cookie, else the next one of the deployment's sequence. All of it is a function of the request's facts,
the compiled deployment, the session's pin, the time and, for a visitor without a slot, the next draw; it does nothing
else, so a decision can be replayed and explained.

It comes in two steps, because a session's pin may have to be asked for elsewhere: `select` decides all but the pin,
and where it made a new promise to a request that names a session, `in_session` lets that session's pin go first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from greentic.router import preview
from greentic.router.compiled import CompiledDeployment, CompiledRevision
from greentic.router.keys import KeyRing
from greentic.router.pins import Pin
from greentic.router.table import SLOTS
from greentic.spec.errors import Conflict, Denied, NotFound

PREVIEW: Final = "preview"
"""A signed preview token named the revision."""
HEADER: Final = "header"
"""A trusted caller named the revision."""
COOKIE: Final = "cookie"
"""The pin in the visitor's cookie holds."""
SESSION: Final = "session"
"""The session's pin holds."""
KEY: Final = "key"
"""The revision owns the slot of the request's key."""
SLOT: Final = "slot"
"""The revision owns the slot that the visitor's cookie carries."""
SEQUENCE: Final = "sequence"
"""A visitor without a slot: the next one of the deployment's sequence."""
REASONS: Final = (PREVIEW, HEADER, COOKIE, SESSION, KEY, SLOT, SEQUENCE)


class Facts(NamedTuple):
    """What a request says about where it belongs; each is None when it is absent.

    A preview token it asked with, and the values of our two cookies (one that came twice is None too, since nobody can
    say which is meant); the revision that a trusted caller named, an id or `vN`; the key that the caller is known by,
    with a letter for its kind in front; the session that it belongs to. Whether the caller is trusted was decided
    before: what only a trusted one may say is not here otherwise.
    """

    preview_token: bytes | None = None
    preview_cookie: bytes | None = None
    revision_cookie: bytes | None = None
    revision: bytes | None = None
    key: bytes | None = None
    session: bytes | None = None


NO_FACTS: Final = Facts()


@dataclass(slots=True)
class Decision:
    """The revision and the reason.

    `slot` is the visitor's place in the table, -1 where none took part. `promise` is what the response's cookie is to
    say, None when the visitor keeps the cookie it has or gets none; `former` the genuine pin it came with that the
    promise takes the place of. `preview` is the token that the browser is to keep, empty for none. `session` is the
    session's pin that went first.
    """

    revision: CompiledRevision
    reason: str
    slot: int = -1
    promise: Pin | None = None
    former: Pin | None = None
    preview: bytes = b""
    session: Pin | None = None


def select(deployment: CompiledDeployment, keys: KeyRing, facts: Facts, now: float) -> Decision:
    """The decision for one request at `now` (unix seconds), as far as no session's pin goes first.

    Raises Denied when a preview token in header or query grants nothing (a person asked for it), NotFound when a
    trusted caller named a revision that is not served, and Conflict when no revision takes new visitors.
    """
    former: Pin | None = None
    if facts is not NO_FACTS:
        token, kept, cookie, named, key, _ = facts
        if token is not None:
            return Decision(_previewed(deployment, keys, token, now), PREVIEW, preview=token)
        if kept is not None:
            try:
                return Decision(_previewed(deployment, keys, kept, now), PREVIEW)
            except Denied:
                pass  # the browser still holds what has ended; nobody asked for it now
        if named is not None:
            return Decision(_named(deployment, named), HEADER)
        if cookie is not None:
            former = deployment.mint.read(cookie)
            if former is not None:
                pinned = deployment.held(former, now)
                if pinned is not None:
                    return Decision(pinned, COOKIE, former.slot)
        if key is not None and deployment.slots:
            slot = deployment.slot_of(key)
            owner = deployment.revisions[deployment.slots[slot]]
            if not owner.draining:
                return Decision(owner, KEY, slot, _promise(deployment, owner, slot, now), former)
        if former is not None and 0 <= former.slot < SLOTS and deployment.slots:
            owner = deployment.revisions[deployment.slots[former.slot]]
            if not owner.draining:
                return Decision(owner, SLOT, former.slot, _promise(deployment, owner, former.slot, now), former)
    draw = deployment.visitors.draw()
    if draw is None:
        raise Conflict("no revision of this deployment takes new visitors")
    drawn = deployment.revisions[draw[0]]
    return Decision(drawn, SEQUENCE, draw[1], _promise(deployment, drawn, draw[1], now), former)


def in_session(deployment: CompiledDeployment, decision: Decision, pin: Pin | None, now: float) -> Decision:
    """`decision`, which made a promise, when the request's session has `pin`: the pin's revision if the pin holds.

    The visitor gets a cookie with that very promise: its generation and its end, so that nothing is prolonged.
    """
    if pin is None:
        return decision
    revision = deployment.held(pin, now)
    promise = decision.promise
    if revision is None or promise is None or pin[:3] == promise[:3]:
        return decision
    kept = pin if pin.slot == decision.slot else pin._replace(slot=decision.slot)
    promise = None if revision.draining else kept
    return Decision(revision, SESSION, decision.slot, promise, decision.former, session=pin)


def _promise(deployment: CompiledDeployment, revision: CompiledRevision, slot: int, now: float) -> Pin:
    # As `Pin(…)` does, without its detour: every new visitor gets one.
    return tuple.__new__(Pin, (revision.revision_id, deployment.generation, int(now) + deployment.pin_seconds, slot))


def _previewed(deployment: CompiledDeployment, keys: KeyRing, token: bytes, now: float) -> CompiledRevision:
    granted = preview.verify(keys, deployment.deployment_id, token, now, deployment.known.previews)
    revision = deployment.by_id.get(granted.revision_id)
    if revision is None or revision.draining:
        raise Denied("the previewed revision is not ready here")
    return revision


def _named(deployment: CompiledDeployment, name: bytes) -> CompiledRevision:
    """A draining revision is reached too: whoever watches its end wants to see it."""
    revision = deployment.by_name.get(name)
    if revision is None:
        raise NotFound("the revision that x-greentic-revision names is not served here")
    return revision
