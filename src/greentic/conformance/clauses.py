"""What the driving test promises, clause by clause, and the checks that prove each: docs/conformance-checks.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Clause:
    """One promise about a deployer that passes, and the names of the checks that prove it."""

    promise: str
    checks: tuple[str, ...]


def _clause(promise: str, *checks: str) -> Clause:
    return Clause(promise, checks)


REFERENCE: Final = (
    _clause("1. stage twice", "core.stage-twice"),
    _clause("2. warm twice", "core.warm-twice"),
    _clause("3. drain twice", "core.drain-twice"),
    _clause("4. archive twice", "core.archive-leaves-nothing"),
    _clause("5. an unknown revision, on every verb", "core.unknown-revision"),
    _clause("6. a split that does not sum to 10,000", "core.wrong-sum"),
    _clause("7. a split that is not there", "core.missing-split"),
    _clause("8. and 9. each of two splits twice", "core.apply-twice"),
    _clause("10. two deployments do not interfere", "core.apply-twice", "traffic.dials-are-independent"),
    _clause("11. what is served is what is recorded", "traffic.exact-shares", "traffic.rollback-restores"),
)
"""The eleven checks of the reference's suite (reference 03, section 2.3), which asks the deployer for them."""

OURS: Final = (
    _clause(
        "a repeated verb leaves the provider as it was",
        *("core.stage-twice", "core.warm-twice", "core.drain-twice", "core.apply-twice", "core.reconcile-twice"),
        *("core.archive-leaves-nothing", "core.destroy-leaves-nothing"),
    ),
    _clause(
        "not one call to the provider when a precondition fails",
        *("core.unknown-revision", "core.wrong-sum", "core.missing-split", "drain.share-is-protected"),
    ),
    _clause("warm waits until the worker answers", "core.warm-waits"),
    _clause("warm fails for a worker that never gets ready, with its reason", "core.warm-fails"),
    _clause(
        "archive leaves nothing and touches no neighbour",
        *("core.archive-leaves-nothing", "tenancy.neighbours-undisturbed"),
    ),
    _clause(
        "shares on the wire are exact, down to one basis point", "traffic.exact-shares", "traffic.exact-basis-points"
    ),
    _clause("moving one dial does not change another's traffic", "traffic.dials-are-independent"),
    _clause(
        "a new split is seen everywhere when its receipt is there", "traffic.receipt-is-true", "traffic.every-router"
    ),
    _clause("no worker is restarted by a move", "traffic.workers-stay"),
    _clause(
        "visitors stay as the dial promises them, and no more of them move than it moves",
        *("traffic.visitors-stay", "traffic.movement-is-minimal", "traffic.rollback-restores"),
        "traffic.cleared-is-silent",
    ),
    _clause(
        "a drain lets what is in flight and who is promised finish, then ends, and reports",
        *("drain.in-flight-finishes", "drain.pinned-stay", "drain.nobody-new", "drain.idle-ends-at-once"),
        *("drain.deadline-cuts", "drain.share-is-protected"),
    ),
    _clause(
        "one customer can never reach another's deployment",
        *("tenancy.own-worker", "tenancy.foreign-host", "tenancy.shared-host", "tenancy.foreign-cookie"),
        "tenancy.foreign-preview",
    ),
    _clause("nor guess a way", "tenancy.nothing-to-guess", "traffic.preview-reaches"),
    _clause("nor affect it", "tenancy.neighbours-undisturbed", "traffic.dials-are-independent"),
    _clause("parameters are honoured, and frozen with the revision", "core.frozen-parameters"),
    _clause("discovered values are true", "core.discovered-values", "core.apply-twice"),
    _clause("a plan is true and changes nothing", "core.plan-tells-and-changes-nothing"),
    _clause("an older record undoes nothing", "core.older-record"),
    _clause("the record alone brings everything back", "core.reconcile-mends"),
    _clause("the permissions declared are those of the calls made", "credentials.exact-permissions"),
    _clause(
        "no secret value in any object, argument, log or audit line",
        *("credentials.no-secret-shown", "credentials.no-secret-recorded", "credentials.worker-is-clean"),
    ),
    _clause(
        "an error or a time-out at every call, then a re-run, converges with no orphan",
        *("faults.error-converges", "faults.timeout-converges", "faults.start-and-stop-converge"),
    ),
    _clause("so does a kill between every two calls", "faults.kill-converges", "faults.start-and-stop-converge"),
    _clause("and an interruption", "faults.interruption-converges"),
    _clause("destroy leaves nothing", "core.destroy-leaves-nothing", "core.reconcile-mends"),
)
"""What it proves beyond those, by looking at the provider and by sending requests."""
