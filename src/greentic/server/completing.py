"""What the server adds to a verb before it is carried out, because only the server knows it: its operator key, the
signature of revenue shares, that a key to trust is one, and who stands behind what is said of health.

The same whether somebody asks in the words of A8 or in ours; what a client says of the operator key is not heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from greentic.engine import changes
from greentic.engine.command import Command
from greentic.engine.transition import transition
from greentic.operations import revenue, trust_root
from greentic.server.health_gate import Gate
from greentic.server.unrouted import routed
from greentic.spec.changes import ApplyChangesPayload, Step
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.spec.payloads import AddDeploymentPayload, CreateEnvironmentPayload
from greentic.spec.trust_root import AddTrustedKeyPayload, TrustRootError
from greentic.store.contract import Complete, Completed, Files
from greentic.trust.public import PublicKey, canonical_key_id

Check = Callable[[Environment | None, Command], None]
"""Refuses, by raising, what only the present state tells."""


def completing(
    noun: str, verb: str, environment_id: str, checks: tuple[Check, ...], gate: Gate, *, ours: bool
) -> Complete:
    """The completion of one verb, after `checks`; `gate` judges what is said of health. `ours`: it was asked in our
    words, in which a new environment trusts the operator key from the beginning; in those of A8 it trusts nobody yet.
    """
    own = None if (noun, verb) == ("env", "create") and not ours else _OWN.get((noun, verb))

    def complete(environment: Environment | None, command: Command, now: str, files: Files) -> Completed:
        for check in checks:
            check(environment, command)
        if (noun, verb) == ("revisions", "warm"):
            return Completed(gate(environment, command, now))
        if (noun, verb) == ("changes", "apply"):
            return _together(environment, command, now, files, gate)
        if isinstance(command.payload, AddDeploymentPayload) and environment is not None and not ours:
            command = replace(command, payload=routed(environment, command.payload))
        if own is None:
            return Completed(command.payload)
        return own(environment_id)(environment, command, now, files)

    return complete


def _together(environment: Environment | None, command: Command, now: str, files: Files, gate: Gate) -> Completed:
    """Each step completed on what the one before it will leave; the files of all of them."""
    payload = command.payload
    assert isinstance(payload, ApplyChangesPayload), "changes apply takes no other"
    done: list[Step] = []
    made: dict[str, bytes] = {}
    for number, step in enumerate(changes.steps(payload, command)):
        try:
            own = completing(step.noun, step.verb, step.environment_id, (), gate, ours=True)
            completed = own(environment, step, now, _Over(files, made))
            made.update(completed.files)
            environment = transition(environment, replace(step, payload=completed.payload), now).environment
        except GreenticError as error:
            raise changes.placed(error, number) from None
        done.append(Step(noun=step.noun, verb=step.verb, payload=completed.payload.to_json()))
    return Completed(ApplyChangesPayload(steps=tuple(done)), tuple(made.items()))


class _Over:
    """The files that are there, and those that are about to be."""

    def __init__(self, files: Files, made: Mapping[str, bytes]) -> None:
        self._files, self._made = files, made

    def read(self, path: str) -> bytes | None:
        """The content of a file, None when there is none."""
        return self._made[path] if path in self._made else self._files.read(path)

    def names(self, under: str) -> tuple[str, ...]:
        """The paths of all files below a folder, in order."""
        new = {path for path in self._made if path.startswith(f"{under}/")}
        return tuple(sorted(new.union(self._files.names(under))))


def _own_key(environment: Environment | None, command: Command, now: str, files: Files) -> Completed:
    if environment is None:
        return Completed(command.payload)  # and the engine says so; no key is made for it
    key = trust_root.operator_key(create=True)
    assert key is not None, "it was to be made"
    return trust_root.adopting(environment, replace(command, payload=key), now, files)


def _proven(environment: Environment | None, command: Command, now: str, files: Files) -> Completed:
    payload = command.payload
    assert isinstance(payload, AddTrustedKeyPayload), "trust-root add takes no other"
    public = PublicKey.from_pem(payload.public_key_pem)
    if canonical_key_id(payload.key_id) != public.key_id:
        raise TrustRootError(
            f"the key id '{payload.key_id[:64]}' is not the one derived from the key, {public.key_id}",
            reason="key-id-mismatch",
            details={"derived_key_id": public.key_id},
        )
    return _adopting(environment, command, now, files)


def _adopting(environment: Environment | None, command: Command, now: str, files: Files) -> Completed:
    """What an environment trusted before its document said so is the server's to know."""
    kept = replace(command, payload=command.payload.model_copy(update={"adopted": None}))
    return trust_root.adopting(environment, kept, now, files)


def _trusting(environment: Environment | None, command: Command, now: str, files: Files) -> Completed:
    payload = command.payload
    assert isinstance(payload, CreateEnvironmentPayload), "env create takes no other"
    kept = replace(command, payload=payload.model_copy(update={"operator_key": None}))
    return trust_root.seeding(create=True)(environment, kept, now, files)


def _always(complete: Complete) -> Callable[[str], Complete]:
    return lambda _environment_id: complete


_OWN: Mapping[tuple[str, str], Callable[[str], Complete]] = {
    ("env", "create"): _always(_trusting),
    ("trust-root", "bootstrap"): _always(_own_key),
    ("trust-root", "seed"): _always(_own_key),
    ("trust-root", "add"): _always(_proven),
    ("trust-root", "remove"): _always(_adopting),
    ("bundles", "add"): revenue.signing,
    ("bundles", "update"): revenue.signing,
}
