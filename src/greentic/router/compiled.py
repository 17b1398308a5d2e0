"""A routing table made ready to serve. Built beside the one in use and swapped in by one assignment.

What did not change between two tables is carried over: a deployment whose slots and revisions are the same
keeps its visitor sequence at its position, so a reload neither repeats work nor disturbs shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from greentic.router.cookie import MAX_AGE_SECONDS, CookieMint, KnownCookies
from greentic.router.limits import Limits
from greentic.router.matching import Matcher
from greentic.router.sequence import Draws, VisitorSequence
from greentic.router.table import DeploymentRow, RoutingTable


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

    def honours(self, generation: int, now: float) -> bool:
        """Whether a pin of `generation`, whose own end has not come, holds at `now` (unix seconds).

        It does when the revision has a share, and has had it since before the pin, or was told to honour its pins for
        longer.
        """
        return (self.weight > 0 and generation >= self.since) or now < self.honour_until


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
    slots: bytes
    visitors: Draws
    shape: tuple[object, ...]
    mint: CookieMint
    cookie_name: bytes
    preview_cookie_name: bytes
    cookie_path: bytes
    cookie_start: bytes
    """The Set-Cookie line of the revision cookie up to its value."""
    cookie_end: bytes
    """The same line behind the value."""


@dataclass(frozen=True, slots=True)
class CompiledTable:
    """A whole table. `source` keeps version, keys and options."""

    source: RoutingTable
    deployments: dict[str, CompiledDeployment]
    matcher: Matcher[CompiledDeployment]
    known: KnownCookies

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


def compile_table(table: RoutingTable, previous: CompiledTable | None = None) -> CompiledTable:
    """`table` ready to serve; `previous` is the table in use, whose unchanged visitor sequences are carried
    on.
    """
    before = previous.deployments if previous is not None else {}
    signed_alike = previous is not None and (previous.source.env_id, previous.source.keys) == (table.env_id, table.keys)
    known = previous.known if previous is not None and signed_alike else KnownCookies()
    deployments: dict[str, CompiledDeployment] = {}
    for row in table.deployments:
        old = before.get(row.deployment_id)
        if old is None or not signed_alike or old.row != row:
            old = _compile_deployment(table, row, old, known)
        deployments[row.deployment_id] = old
    matcher = Matcher((deployments[row.deployment_id], row.hosts, row.path_prefixes) for row in table.deployments)
    return CompiledTable(table, deployments, matcher, known)


def _compile_deployment(
    table: RoutingTable, row: DeploymentRow, before: CompiledDeployment | None, known: KnownCookies
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
        )
        for index, revision in enumerate(row.revisions)
    )
    identifier = row.deployment_id.encode()
    path = _common_path(row.path_prefixes).encode()
    return CompiledDeployment(
        row=row,
        deployment_id=row.deployment_id,
        generation=row.generation,
        pin_seconds=row.pin_seconds,
        revisions=revisions,
        by_id={revision.revision_id: revision for revision in revisions},
        slots=carried.slots if carried else b"".join(bytes((index,)) * count for count, index in row.slots),
        visitors=carried.visitors
        if carried
        else VisitorSequence(row.slots, [not revision.draining for revision in row.revisions]),
        shape=shape,
        mint=CookieMint(
            table.keys,
            env_id=table.env_id,
            tenant=row.tenant,
            deployment_id=row.deployment_id,
            generation=row.generation,
            revision_ids=tuple(revision.revision_id for revision in row.revisions),
            known=known,
        ),
        cookie_name=b"_gt_rev_" + identifier,
        preview_cookie_name=b"_gt_preview_" + identifier,
        cookie_path=path,
        cookie_start=b"Set-Cookie: _gt_rev_" + identifier + b"=",
        cookie_end=b"; Path=%b; HttpOnly; SameSite=Lax; Max-Age=%d" % (path, MAX_AGE_SECONDS),
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
