"""A routing table made ready to serve. Built beside the one in use and swapped in by one assignment.

What did not change between two tables is carried over: a deployment whose slots and revisions are the same
keeps its visitor sequence at its position, so a reload neither repeats work nor disturbs shares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from greentic.router.cookie import MAX_AGE_SECONDS, CookieMint
from greentic.router.keys import Hash, Verified
from greentic.router.limits import Limits
from greentic.router.matching import Matcher
from greentic.router.pins import Pin, PinScope
from greentic.router.preview import Preview
from greentic.router.sequence import Draws, VisitorSequence
from greentic.router.table import SLOTS, DeploymentRow, RoutingTable
from greentic.router.trust import Trust

_DIGEST_BYTES = 16
_DIGESTS = 4096
"""Remembered by one process."""


@dataclass(frozen=True, slots=True)
class CompiledRevision:
    """A revision as the data path needs it. `weight` is its share in slots (basis points)."""

    index: int
    revision_id: str
    header_value: bytes
    host: str
    port: int
    draining: bool
    since: int
    weight: int
    honour_until: int = 0
    honour_since: int = 0

    def honours(self, generation: int, now: float) -> bool:
        """Whether a pin of `generation`, whose own end has not come, holds at `now` (unix seconds).

        It does when the revision has a share, and has had it since before the pin, or was told to honour pins as old as
        that for longer.
        """
        return (self.weight > 0 and generation >= self.since) or (
            generation >= self.honour_since and now < self.honour_until
        )


@dataclass(frozen=True, slots=True)
class Known:
    """Signed texts that were verified with the keys of a table, and cookies that were made with them for sessions."""

    cookies: Verified[Pin] = field(default_factory=Verified)
    issued: Verified[bytes] = field(default_factory=Verified)
    previews: Verified[Preview] = field(default_factory=Verified)
    trusts: Verified[Trust] = field(default_factory=Verified)


@dataclass(frozen=True, slots=True)
class CompiledDeployment:
    """A deployment as the data path needs it. `slots[s]` is the index of the revision that owns slot s; empty
    = no traffic.
    """

    row: DeploymentRow
    deployment_id: str
    generation: int
    pin_seconds: int
    revisions: tuple[CompiledRevision, ...]
    by_id: dict[str, CompiledRevision]
    by_name: dict[bytes, CompiledRevision]
    """Revisions by what a trusted caller may call them: the id, or the name (`v3`)."""
    slots: bytes
    visitors: Draws
    shape: tuple[object, ...]
    mint: CookieMint
    known: Known
    hasher: Hash
    """BLAKE2b (RFC 7693) keyed with the environment's slot secret, after the deployment's id."""
    scope: PinScope
    open: Mapping[str, int]
    """`greentic.router.pins.Admissible` when no revision's pins are honoured beyond its share."""
    honoured: tuple[CompiledRevision, ...]
    """Revisions whose pins are honoured until a moment, whatever their share."""
    cookie_name: bytes
    preview_cookie_name: bytes
    cookie_path: bytes
    cookie_start: bytes
    """The Set-Cookie line of the revision cookie up to its value."""
    cookie_end: bytes
    """The same line behind the value."""
    preview_start: bytes
    preview_end: bytes
    secure: bool
    """Whether cookies are for HTTPS alone however this request came: the environment's public address is an HTTPS one.
    """

    def digest(self, key: bytes) -> bytes:
        """16 bytes that stand for `key` in this deployment, the same on every router; nobody without the slot secret
        can tell them.
        """
        return _digest(self.hasher, key)

    def slot_of(self, key: bytes) -> int:
        """The slot of `key`: uniform over all slots (the bias of the remainder is below 10^-15)."""
        return int.from_bytes(_digest(self.hasher, key)[:8]) % SLOTS

    def held(self, pin: Pin, now: float) -> CompiledRevision | None:
        """The revision that `pin` promises when the promise holds at `now` (unix seconds)."""
        if pin.expires <= now:
            return None
        revision = self.by_id.get(pin.revision_id)
        return revision if revision is not None and revision.honours(pin.generation, now) else None

    def admissible(self, now: float) -> Mapping[str, int]:
        """Which pins hold at `now`, as `greentic.router.pins.Admissible`."""
        if not self.honoured:
            return self.open
        longer = {
            one.revision_id: min(one.honour_since, self.open.get(one.revision_id, one.honour_since))
            for one in self.honoured
            if now < one.honour_until
        }
        return {**self.open, **longer}

    def cookie_line(self, promise: Pin, *, secure: bool, again: bool = False) -> bytes:
        """The header line (`Set-Cookie: …`, no line end) that gives a visitor the cookie of `promise`; `again`: the
        promise was made before, to a session.
        """
        value = self.mint.issue_again(promise) if again else self.mint.issue(promise)
        return self.cookie_start + value + self._end(self.cookie_end, secure=secure)

    def preview_line(self, token: bytes, *, secure: bool) -> bytes:
        """The header line that makes a browser keep a preview token."""
        return self.preview_start + token + self._end(self.preview_end, secure=secure)

    def _end(self, end: bytes, *, secure: bool) -> bytes:
        return end + b"; Secure" if secure or self.secure else end


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """A whole table. `source` keeps version, keys and options."""

    source: RoutingTable
    deployments: dict[str, CompiledDeployment]
    matcher: Matcher[CompiledDeployment]
    known: Known

    @property
    def limits(self) -> Limits:
        """The bounds in force."""
        return self.source.limits

    def warnings(self) -> list[str]:
        """Routes that can never match, in words."""
        return [
            f"deployment {deployment.deployment_id}: {host or 'any host'} {prefix} belongs to an earlier deployment"
            for deployment, host, prefix in self.matcher.shadowed
        ]


@lru_cache(_DIGESTS)
def _digest(hasher: Hash, key: bytes) -> bytes:
    """What `hasher` makes of `key`: a session asks for its slot and its pin with every request."""
    state = hasher.copy()
    state.update(key)
    return state.digest()


def compile_table(table: RoutingTable, previous: CompiledTable | None = None) -> CompiledTable:
    """`table` ready to serve; `previous` is the table in use, whose unchanged visitor sequences are carried
    on.
    """
    before = previous.deployments if previous is not None else {}
    signed_alike = previous is not None and _signing(previous.source) == _signing(table)
    known = previous.known if previous is not None and signed_alike else Known()
    deployments: dict[str, CompiledDeployment] = {}
    for row in table.deployments:
        old = before.get(row.deployment_id)
        if old is None or not signed_alike or old.row != row:
            old = _compile_deployment(table, row, old, known)
        deployments[row.deployment_id] = old
    matcher = Matcher((deployments[row.deployment_id], row.hosts, row.path_prefixes) for row in table.deployments)
    return CompiledTable(table, deployments, matcher, known)


def _signing(table: RoutingTable) -> tuple[object, ...]:
    """What cookies and slots of a table depend on beside its rows."""
    return table.env_id, table.keys, table.slot_secret, table.secure_cookies


def _compile_deployment(
    table: RoutingTable, row: DeploymentRow, before: CompiledDeployment | None, known: Known
) -> CompiledDeployment:
    shape = (row.slots, tuple((revision.revision_id, revision.draining) for revision in row.revisions))
    carried = before if before is not None and before.shape == shape else None
    weights = [0] * len(row.revisions)
    for count, index in row.slots:
        weights[index] += count
    revisions = tuple(
        CompiledRevision(
            index=index,
            revision_id=revision.revision_id,
            header_value=revision.revision_id.encode(),
            host=revision.host,
            port=revision.port,
            draining=revision.draining,
            since=revision.since,
            weight=weights[index],
            honour_until=revision.honour_until,
            honour_since=revision.honour_since,
        )
        for index, revision in enumerate(row.revisions)
    )
    identifier = row.deployment_id.encode()
    path = _common_path(row.path_prefixes).encode()
    # An id is never mistaken for a name: ids go in last.
    names = {row.revisions[one.index].name.encode(): one for one in revisions if row.revisions[one.index].name}
    return CompiledDeployment(
        row=row,
        deployment_id=row.deployment_id,
        generation=row.generation,
        pin_seconds=row.pin_seconds,
        revisions=revisions,
        by_id={revision.revision_id: revision for revision in revisions},
        by_name={**names, **{revision.header_value: revision for revision in revisions}},
        slots=carried.slots if carried else b"".join(bytes((index,)) * count for count, index in row.slots),
        visitors=carried.visitors
        if carried
        else VisitorSequence(
            row.slots,
            [not revision.draining for revision in row.revisions],
            index=table.replica.index,
            count=table.replica.count,
            turn=row.generation,
        ),
        shape=shape,
        mint=CookieMint(
            table.keys,
            env_id=table.env_id,
            tenant=row.tenant,
            deployment_id=row.deployment_id,
            generation=row.generation,
            revision_ids=tuple(revision.revision_id for revision in row.revisions),
            known=known.cookies,
            issued=known.issued,
        ),
        known=known,
        hasher=hashlib.blake2b(identifier + b"\0", key=table.slot_secret, digest_size=_DIGEST_BYTES),
        scope=PinScope(table.env_id, row.deployment_id, row.tenant),
        open={revision.revision_id: revision.since for revision in revisions if revision.weight},
        honoured=tuple(revision for revision in revisions if revision.honour_until),
        cookie_name=b"_gt_rev_" + identifier,
        preview_cookie_name=b"_gt_preview_" + identifier,
        cookie_path=path,
        cookie_start=b"Set-Cookie: _gt_rev_" + identifier + b"=",
        cookie_end=b"; Path=%b; HttpOnly; SameSite=Lax; Max-Age=%d" % (path, MAX_AGE_SECONDS),
        preview_start=b"Set-Cookie: _gt_preview_" + identifier + b"=",
        preview_end=b"; Path=%b; HttpOnly; SameSite=Lax" % path,
        secure=table.secure_cookies,
    )


def _common_path(prefixes: Sequence[str]) -> str:
    """The longest path that covers every prefix of a deployment: `/` when there are none.

    One path per deployment: with a path per prefix, a browser would hold two cookies of one name where
    prefixes nest, and a visitor would be two visitors.
    """
    if not prefixes:
        return "/"
    common = prefixes[0].split("/")
    for prefix in prefixes[1:]:
        segments = prefix.split("/")
        length = 0
        while length < min(len(common), len(segments)) and common[length] == segments[length]:
            length += 1
        common = common[:length]
    return "/".join(common) or "/"
