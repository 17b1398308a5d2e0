"""The health gate of a warming revision, evaluated here: on what a data plane saw and signed, not on a caller's word.

A verdict that something is wrong is taken from whoever may warm: it takes traffic from nobody. A verdict that all is
well counts when a data plane of the environment signed, no longer ago than `MAX_AGE`, that it saw a healthy worker of
this very record of the revision (`trust.health`). Callers whose grant says that they vouch are believed without, and so
is everybody on a server that was told of no data planes at all, as in the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from greentic.engine.command import Command
from greentic.server.access import Principal
from greentic.spec.environment import Environment
from greentic.spec.errors import Denied, GreenticError
from greentic.spec.identifiers import unix_seconds
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.payloads import Vouched, WarmRevisionPayload
from greentic.spec.revision import Revision
from greentic.trust import health
from greentic.trust.public import PublicKey

POLICY = "health-evidence"
MAX_AGE = 120.0
"""Seconds that evidence counts after what it tells was seen, and that its clock may be behind ours."""
MAX_AHEAD = 30.0
"""Seconds that the clock of a data plane may be ahead of ours."""
_WARMING = frozenset({Lifecycle.STAGED, Lifecycle.WARMING})

DataPlanes = Sequence[tuple[str, PublicKey]]
"""The data planes of an environment: (name, key) of each."""
Gate = Callable[[Environment | None, Command, str], WarmRevisionPayload]
"""(the environment, a `revisions warm` of it, the time) -> its payload, vouched for; Denied."""


def gate(principal: Principal, data_planes: Callable[[str], DataPlanes | None]) -> Gate:
    """The gate for what `principal` asks; `data_planes` tells those of an environment, when it is asked."""

    def judged(environment: Environment | None, command: Command, now: str) -> WarmRevisionPayload:
        payload = command.payload
        assert isinstance(payload, WarmRevisionPayload), "revisions warm takes no other"
        payload = payload.model_copy(update={"vouched": None})
        revision = None if environment is None else environment.revision(payload.revision_id)
        if not payload.health_gate.ok or revision is None or revision.lifecycle not in _WARMING:
            return payload  # nothing is claimed that could become true
        planes = data_planes(command.environment_id)
        if planes is None:
            return payload.model_copy(update={"vouched": Vouched(actor=principal.name)})
        why = "nobody showed evidence of it"
        for text in command.evidence:
            found = _seen(text, revision, planes, now)
            if isinstance(found, Vouched):
                return payload.model_copy(update={"vouched": found})
            why = found
        if principal.grant.vouches_for_health:
            return payload.model_copy(update={"vouched": Vouched(actor=principal.name)})
        reason = f"that the worker of {revision.revision_id} is healthy is not taken on the caller's word: {why}"
        raise Denied(
            reason,
            details={"policy": POLICY, "reason": reason, "revision_id": revision.revision_id},
            next_step="warm it where its data plane is, whose key the server knows: gtc store data-plane allow",
        )

    return judged


def _seen(text: str, revision: Revision, data_planes: DataPlanes, now: str) -> Vouched | str:
    """Who vouches by the evidence in `text`, or why it does not count."""
    if not data_planes:
        return "the server knows no data plane of the environment"
    try:
        signed = health.verify(text, [key for _name, key in data_planes])
    except GreenticError as error:
        return error.message
    seen, age = signed.seen, unix_seconds(now) - unix_seconds(signed.seen.observed_at)
    if (seen.env_id, seen.revision_id) != (revision.env_id, revision.revision_id):
        return f"the evidence is of {seen.env_id}/{seen.revision_id}"
    if signed.record != health.record(revision):
        return "the evidence is of another attempt, or of another bundle or configuration"
    if not -MAX_AHEAD <= age <= MAX_AGE:
        return f"the evidence was seen at {seen.observed_at}, and it is {now} here"
    if seen.state != health.HEALTHY:
        return f"the data plane saw it {seen.state}"
    names = {key.key_id: name for name, key in data_planes}
    return Vouched(actor=names[signed.key_ids[0]], key_id=signed.key_ids[0], observed_at=seen.observed_at)
