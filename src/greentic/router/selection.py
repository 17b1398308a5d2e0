"""Which revision of a deployment serves a request, and why.

Order: preview token, (trusted header), revision cookie, (session pin), slot of the cookie, sequence. The two
in brackets have their place marked below. A function of the request's facts, the compiled deployment, the
time and, for a visitor without a key, the next draw of the deployment's sequence; it does nothing else, so a
decision can be replayed and explained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from greentic.router import preview
from greentic.router.compiled import CompiledDeployment, CompiledRevision
from greentic.router.keys import KeyRing
from greentic.router.table import SLOTS
from greentic.spec.errors import Conflict, Denied

PREVIEW: Final = "preview"
COOKIE: Final = "cookie"
SLOT: Final = "slot"
SEQUENCE: Final = "sequence"
REASONS: Final = (PREVIEW, COOKIE, SLOT, SEQUENCE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a request says about where it belongs: a preview token it asked with, and the values of our two cookies.

    Each is None when it is absent; a cookie that came twice is None too, since nobody can say which one is
    meant.
    """

    preview_token: bytes | None = None
    preview_cookie: bytes | None = None
    revision_cookie: bytes | None = None


NO_FACTS: Final = Facts()


@dataclass(slots=True)
class Decision:
    """The revision, the reason, and the header line that makes it last (`Set-Cookie: …`, no line end; empty
    for none).
    """

    revision: CompiledRevision
    reason: str
    set_cookie: bytes


def select(deployment: CompiledDeployment, keys: KeyRing, facts: Facts, now: float) -> Decision:
    """The decision for one request at `now` (unix seconds).

    Raises Denied when a preview token in header or query grants nothing (a person asked for it), and Conflict
    when no revision takes new visitors.
    """
    if facts is not NO_FACTS:
        if facts.preview_token is not None:
            revision = _previewed(deployment, keys, facts.preview_token, now)
            return Decision(revision, PREVIEW, _preview_line(deployment, facts.preview_token))
        if facts.preview_cookie is not None:
            try:
                return Decision(_previewed(deployment, keys, facts.preview_cookie, now), PREVIEW, b"")
            except Denied:
                pass  # the browser still holds what has ended; nobody asked for it now
        # Room for the trusted header: a caller who proves trust names the revision.
        if facts.revision_cookie is not None:
            pin = deployment.mint.read(facts.revision_cookie)
            if pin is not None:
                pinned = deployment.by_id.get(pin.revision_id)
                if pinned is not None and pin.expires > now and pinned.honours(pin.generation, now):
                    return Decision(pinned, COOKIE, b"")
                # Room for the session pin: it goes before the slot.
                if 0 <= pin.slot < SLOTS and deployment.slots:
                    owner = deployment.revisions[deployment.slots[pin.slot]]
                    if not owner.draining:
                        return Decision(owner, SLOT, _cookie_line(deployment, owner, pin.slot, now))
    # Room for the session pin of a caller without a cookie.
    draw = deployment.visitors.draw()
    if draw is None:
        raise Conflict("no revision of this deployment takes new visitors")
    drawn = deployment.revisions[draw[0]]
    return Decision(drawn, SEQUENCE, _cookie_line(deployment, drawn, draw[1], now))


def _previewed(deployment: CompiledDeployment, keys: KeyRing, token: bytes, now: float) -> CompiledRevision:
    granted = preview.verify(keys, deployment.deployment_id, token, now)
    revision = deployment.by_id.get(granted.revision_id)
    if revision is None or revision.draining:
        raise Denied("the previewed revision is not ready here")
    return revision


def _cookie_line(deployment: CompiledDeployment, revision: CompiledRevision, slot: int, now: float) -> bytes:
    value = deployment.mint.issue(revision.index, int(now) + deployment.pin_seconds, slot)
    return deployment.cookie_start + value + deployment.cookie_end


def _preview_line(deployment: CompiledDeployment, token: bytes) -> bytes:
    return b"Set-Cookie: %b=%b; Path=%b; HttpOnly; SameSite=Lax" % (
        deployment.preview_cookie_name,
        token,
        deployment.cookie_path,
    )
