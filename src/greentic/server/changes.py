"""A change over the wire, in the order of reference 02, section 3.5, save that nobody is read before they are known:
the caller (401), what they may (403, which leaves an audit entry), the key and the precondition (400), the body (400),
then the store, which answers a repetition before anything else and commits the answer with the change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from greentic.engine.authorization import customer_of
from greentic.engine.command import Command
from greentic.server import exchange, views
from greentic.server.access import UNSEEN, Principal
from greentic.server.completing import Check, completing
from greentic.server.desk import Desk
from greentic.server.dialect import Asked, Words, words
from greentic.server.health_gate import gate
from greentic.spec import identifiers
from greentic.spec.changes import ApplyChangesPayload
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, Denied, InvalidArgument, SpecViolation
from greentic.spec.parsing import Payload, parse_payload
from greentic.spec.verbs import Verb, find
from greentic.store import contract
from greentic.store.contract import Decision, Settled

Handler = Callable[[Request], Any]
Target = Callable[[Mapping[str, Any], Mapping[str, Any] | None], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Change:
    """What a request comes to before the store is asked."""

    command: Command
    fingerprint: str
    result: Callable[[Settled], Any]
    target: Target | None = None
    checks: tuple[Check, ...] = ()


def in_words_of_a8(desk: Desk, verb: Verb) -> Handler:
    """The handler of the verb's A8 route."""
    return partial(_handle, desk, verb, words(verb.noun, verb.verb))


def in_our_words(desk: Desk, verb: Verb) -> Handler:
    """The handler of the verb's own path: the body is its payload, the result its own."""
    return partial(_handle, desk, verb, None)


async def _handle(desk: Desk, verb: Verb, said: Words | None, request: Request) -> Response:
    principal = await desk.caller(request)
    named = request.path_params.get("environment_id")
    environment_id = None if named is None else identifiers.environment_id(named)
    await _allow(desk, principal, verb, environment_id, request)
    key, if_match = exchange.idempotency_key(request), exchange.if_match(request)
    generation = exchange.expected_generation(request)
    rehearsed = exchange.rehearsed(request, possible=said is None)

    def read(value: Any) -> tuple[str, _Change]:
        if said is None:
            return _ours(verb, environment_id, value, key, principal, request)
        return _theirs(verb, said, environment_id, value, key, principal, request)

    without_body = said is not None and not said.body.model_fields
    asked_id, change = read(None) if without_body else await desk.read(request, read)
    if environment_id is None:
        await _allow(desk, principal, verb, asked_id, request)
    if isinstance(change.command.payload, ApplyChangesPayload):
        for step in change.command.payload.steps:
            await _allow(desk, principal, find(step.noun, step.verb), asked_id, request)
    noun, _, name = verb.permission.partition(":")
    decision = principal.decide(noun, name, asked_id, changes=True)
    how: dict[str, Any] = {"expected_generation": generation, "if_match": if_match}
    ours = said is None
    return await _carried_out(desk, principal, verb, change, decision, how, request, ours=ours, rehearsed=rehearsed)


async def _carried_out(
    desk: Desk,
    principal: Principal,
    verb: Verb,
    change: _Change,
    decision: Decision,
    expected: Mapping[str, Any],
    request: Request,
    *,
    ours: bool,
    rehearsed: bool,
) -> Response:
    command, customers = change.command, principal.customers
    checks: tuple[Check, ...] = change.checks
    if customers is not None:
        checks = (partial(_own, customers, principal.policy), *checks)
    judged = gate(principal, desk.doorkeeper.data_planes)
    complete = completing(verb.noun, verb.verb, command.environment_id, checks, judged, ours=ours)
    payload = command.payload.to_json()

    def answered(settled: Settled) -> Mapping[str, Any]:
        shown = replace(settled, environment=views.of(settled.environment, customers))
        return exchange.envelope(change.result(shown), settled)

    asked = contract.Request(
        change.fingerprint,
        principal.caller,
        decision,
        answered,
        None if change.target is None else partial(_target, change.target, command.environment_id, payload),
    )
    how: dict[str, Any] = {**expected, "complete": complete, "request": asked}
    try:
        if rehearsed:
            applied = await desk.in_thread(partial(desk.store.plan, command, **how))
        else:
            applied = await desk.applied(command, **how)
    except (SpecViolation, Conflict) as error:
        raise views.refusal(error, customers) from None
    if rehearsed and not applied.replayed:
        told: dict[str, Any] = {"result": applied.result, "etag": applied.etag, "generation": applied.generation}
    else:
        told = exchange.replayed(applied.result) if applied.replayed else dict(applied.result)
    if ours:
        # Where the environment is now belongs to the answer and not to the record, which must stay small.
        told["present"] = {"etag": applied.etag, "generation": applied.generation}
        if "return=representation" in request.headers.get("prefer", ""):
            told["present"]["environment"] = views.of(applied.environment, customers).to_json()
    headers = {"etag": f'"{told["etag"]}"'}
    if (verb.noun, verb.verb) == ("env", "create"):
        headers["location"] = f"/environments/{command.environment_id}"
    return exchange.answer(told, headers=headers)


def _target(
    target: Target, environment_id: str, payload: Mapping[str, Any], result: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    return {**target(payload, result), "environment_id": environment_id}


async def _allow(desk: Desk, principal: Principal, verb: Verb, environment_id: str | None, request: Request) -> None:
    """Denied unless the principal may; a denial of somebody who is known stands in the audit log."""
    noun, _, name = verb.permission.partition(":")
    decision = principal.decide(noun, name, environment_id, changes=True)
    if not decision.allowed:
        raise await deny(desk, principal, verb.noun, verb.verb, environment_id, decision, request)


async def deny(
    desk: Desk,
    principal: Principal,
    noun: str,
    verb: str,
    environment_id: str | None,
    decision: Decision,
    request: Request,
) -> Denied:
    """The denial, once it stands in the audit log of an environment that the principal may know of."""
    if environment_id is not None and principal.sees(environment_id):
        key = request.headers.get("idempotency-key", "").strip()
        kept = key if key.isascii() and key.isprintable() and len(key) <= exchange.MAX_KEY_BYTES else ""
        command = Command(environment_id, noun, verb, Payload(), kept, principal.name)
        asked = contract.Request(
            "", principal.caller, decision, lambda _settled: {}, lambda _result: {"environment_id": environment_id}
        )
        await desk.record_denial(principal, command, asked)
    return Denied(decision.reason, details={"policy": decision.policy, "reason": decision.reason})


def _own(customers: frozenset[str], policy: str, environment: Environment | None, command: Command) -> None:
    """Denied unless the command is about one of `customers`: of what is not there and what is another's, the same."""
    if customer_of(environment, command) not in customers:
        raise Denied(UNSEEN, details={"policy": policy, "reason": UNSEEN})


def _ours(
    verb: Verb, environment_id: str | None, value: Any, key: str, principal: Principal, request: Request
) -> tuple[str, _Change]:
    assert environment_id is not None, "the verb's own path names it"
    payload = parse_payload(verb.payload(), value, "the body")
    command = Command(environment_id, verb.noun, verb.verb, payload, key, principal.name, exchange.evidence(request))
    fingerprint = exchange.fingerprint(request, value, principal.identity)
    return environment_id, _Change(command, fingerprint, lambda settled: settled.result)


def _theirs(
    verb: Verb,
    said: Words,
    environment_id: str | None,
    value: Any,
    key: str,
    principal: Principal,
    request: Request,
) -> tuple[str, _Change]:
    read = parse_payload(said.body, {} if value is None else value, "the body")
    named = getattr(read, "env_id", None) if environment_id is None else environment_id
    if named is None:
        raise InvalidArgument("the body names no environment")
    asked = Asked(named, read, request.path_params, key, principal.name)
    payload = said.read(verb.noun, verb.verb, asked)
    command = Command(named, verb.noun, verb.verb, payload, key, principal.name, exchange.evidence(request))

    def check(environment: Environment | None, _command: Command) -> None:
        if environment is not None:
            said.check(asked, environment)

    fingerprint = exchange.fingerprint(request, value, principal.identity)
    return named, _Change(command, fingerprint, said.result, said.target, (check,))


def seeds(verb: Verb) -> bool:
    """Whether the verb may begin an environment, so that a missing one is one in another state."""
    return (verb.noun, verb.verb) in {("env", "migrate-bindings"), ("env", "seed"), ("changes", "apply")}
