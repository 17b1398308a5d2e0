"""How A8 says each verb: its body as our payload, our outcome as its result and its audit target (reference 02, 4).

What A8 has no words for goes by the verb's own path in our words; `spec.verbs` knows where either is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from greentic.operations import derived
from greentic.server import bodies
from greentic.server.bodies import plain
from greentic.spec.capabilities import Slot
from greentic.spec.environment import Environment
from greentic.spec.errors import Conflict, InvalidArgument
from greentic.spec.lifecycle import Lifecycle
from greentic.spec.parsing import Payload, parse_payload
from greentic.spec.references import PackDescriptor
from greentic.spec.verbs import find
from greentic.store.contract import Settled

Result = Mapping[str, Any]
Model = TypeVar("Model", bound=Payload)
WHAT = "the body"


@dataclass(frozen=True, slots=True)
class Asked:
    """A verb as somebody asked for it: the decoded body, the names in the path, the idempotency key, and who is
    recorded as having done it when the body does not say."""

    environment_id: str
    body: Any
    path: Mapping[str, str]
    key: str
    by: str


@dataclass(frozen=True, slots=True)
class Words:
    """How A8 says one verb. `check` refuses what only the present state tells."""

    body: type[bodies.Body]
    payload: Callable[[Asked], dict[str, Any]]
    result: Callable[[Settled], Any]
    target: Callable[[Mapping[str, Any], Result | None], Mapping[str, Any]]
    check: Callable[[Asked, Environment], None] = lambda _asked, _environment: None

    def read(self, noun: str, verb: str, asked: Asked) -> Payload:
        """The payload of the verb; AnswersParse for what it cannot hold."""
        return parse_payload(find(noun, verb).payload(), self.payload(asked), WHAT)


def words(noun: str, verb: str) -> Words:
    """How A8 says the verb; KeyError for one that it has not."""
    return _WORDS[noun, verb]


def _environment(settled: Settled) -> Any:
    return settled.environment


def _with_environment(*names: str) -> Callable[[Settled], Any]:
    return lambda settled: {
        **{name: settled.result.get(name) for name in names},
        "environment": settled.environment,
    }


def _named(*names: str) -> Callable[[Settled], Any]:
    return lambda settled: {name: settled.result.get(name) for name in names}


def _part(name: str) -> Callable[[Settled], Any]:
    return lambda settled: settled.result[name]


def _of(*names: str) -> Callable[[Mapping[str, Any], Result | None], Mapping[str, Any]]:
    """A target of these keys of the payload."""
    return lambda payload, _result: {name: payload.get(name) for name in names}


# environments


def _create(asked: Asked) -> dict[str, Any]:
    body: bodies.CreateEnvironment = asked.body
    host = plain(body.host_config)
    del host["env_id"]
    host.pop("router", None)
    return {**host, "environment_id": body.env_id, "name": body.name}


def _patch(asked: Asked) -> dict[str, Any]:
    body: bodies.PatchEnvironment = asked.body
    return {name: value for name in bodies.PatchEnvironment.model_fields if (value := getattr(body, name)) is not None}


def _merge(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = plain(asked.body)
    return found


def _merged(_payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    return {} if result is None else {name: result[name] for name in ("merged_slots", "merged_extensions")}


# revisions


def _stage(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = plain(asked.body)
    return found


def _agreeing(named: str) -> Callable[[Asked], None]:
    """Refuses a body that names another one than the path."""

    def check(asked: Asked) -> None:
        if getattr(asked.body, named) != asked.path[named].upper():
            raise InvalidArgument(f"the body names another {named} than the path")

    return check


def _warm(asked: Asked) -> dict[str, Any]:
    _agreeing("revision_id")(asked)
    return {"revision_id": asked.body.revision_id, "health_gate": asked.body.health_gate.to_json()}


def _as_expected(asked: Asked, environment: Environment) -> None:
    found = environment.revision(asked.body.revision_id)
    expected: Lifecycle = asked.body.expected_lifecycle
    if found is not None and found.lifecycle not in {Lifecycle.READY, expected}:
        raise Conflict(
            f"the revision {found.revision_id} is {found.lifecycle}, not {expected}",
            details={"revision_id": found.revision_id, "actual": found.lifecycle.value, "expected": expected.value},
        )


def _revision(asked: Asked) -> dict[str, Any]:
    return {"revision_id": asked.path["revision_id"].upper()}


def _transition(to: str) -> Callable[[Mapping[str, Any], Result | None], Mapping[str, Any]]:
    def target(payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
        reached = to if result is None else result["revision"]["lifecycle"]
        return {"revision_id": payload["revision_id"], "lifecycle_to": reached}

    return target


def _warmed(payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    vouched = {} if result is None or "vouched" not in result else {"vouched": result["vouched"]}
    return {**_transition("ready")(payload, result), **vouched}


def _staged(payload: Mapping[str, Any], _result: Result | None) -> Mapping[str, Any]:
    return {**_of("revision_id", "deployment_id")(payload, None), "lifecycle_to": Lifecycle.STAGED.value}


# traffic


def _split(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = plain(asked.body)
    return found


def _own_revisions(asked: Asked, environment: Environment) -> None:
    if environment.deployment(asked.body.deployment_id) is None:
        return  # and the engine says so
    for entry in asked.body.entries:
        found = environment.revision(entry.revision_id)
        if found is not None and found.deployment_id != asked.body.deployment_id:
            raise Conflict(f"the revision {entry.revision_id} belongs to another deployment")


def _back(asked: Asked) -> dict[str, Any]:
    return {"updated_by": asked.by, **plain(asked.body)}


def _moved(payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    generation = None if result is None else result["new_generation"]
    return {"deployment_id": payload["deployment_id"], "split_generation": generation}


def _restored(settled: Settled) -> Any:
    told = _with_environment("previous_generation", "new_generation")(settled)
    return {"restored": settled.result["split"], **told}


# bindings


def _content(binding: Any) -> dict[str, Any]:
    found = plain(binding)
    return {name: found[name] for name in ("slot", "kind", "pack_ref", "instance_id", "answers_ref") if name in found}


def _said(asked: Asked) -> dict[str, Any]:
    return {"updated_by": asked.body.updated_by or asked.by, "note": asked.body.note}


def _bound(asked: Asked) -> dict[str, Any]:
    return {**_content(asked.body.binding), **_said(asked)}


def _slot(asked: Asked) -> str:
    try:
        return Slot(asked.path["slot"]).value
    except ValueError:
        raise InvalidArgument(f"there is no slot '{asked.path['slot'][:64]}'") from None


def _rebound(asked: Asked) -> dict[str, Any]:
    if asked.body.binding.slot.value != _slot(asked):
        raise Conflict("the binding is for another slot than the path")
    return _bound(asked)


def _of_slot(asked: Asked) -> dict[str, Any]:
    return {"slot": _slot(asked), "updated_by": asked.by}


def _key(asked: Asked) -> dict[str, Any]:
    key: bodies.ExtensionKey = asked.body.key
    return {"kind_path": key.kind_path, "instance_id": key.instance_id, **_said(asked)}


def _key_back(asked: Asked) -> dict[str, Any]:
    return {**_key(asked), "to_generation": asked.body.to_generation}


def _rebound_extension(asked: Asked) -> dict[str, Any]:
    binding, key = asked.body.binding, asked.body.key
    if (PackDescriptor.parse(binding.kind).path, binding.instance_id) != (key.kind_path, key.instance_id):
        raise Conflict("the binding is for another extension than the key")
    return _bound(asked)


def _extension(payload: Mapping[str, Any], _result: Result | None) -> Mapping[str, Any]:
    path = payload.get("kind_path") or str(payload["kind"]).partition("@")[0]
    return {"kind_path": path, "instance_id": payload.get("instance_id")}


# bundles


def _add_bundle(asked: Asked) -> dict[str, Any]:
    minted = derived.ulid("deployment", f"{asked.environment_id}:{asked.key}")
    return {**plain(asked.body), "deployment_id": minted}


def _update_bundle(asked: Asked) -> dict[str, Any]:
    _agreeing("deployment_id")(asked)
    found: dict[str, Any] = plain(asked.body)
    return found


def _deployment(asked: Asked) -> dict[str, Any]:
    return {"deployment_id": asked.path["deployment_id"].upper()}


def _policy_version(result: Result | None) -> int | None:
    ref = "" if result is None else str(result["deployment"].get("revenue_policy_ref", ""))
    number = ref.rpartition("/")[2].removeprefix("v").removesuffix(".json.sig")
    return int(number) if number.isdigit() else None


def _added_bundle(payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    named = _of("deployment_id", "bundle_id", "customer_id")(payload, None)
    return {**named, "revenue_policy_version": _policy_version(result)}


def _updated_bundle(payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    changed = result is not None and result["revenue_share_changed"]
    version = _policy_version(result) if changed else None
    return {"deployment_id": payload["deployment_id"], "revenue_policy_version": version}


def _removed_bundle(payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    pruned = [] if result is None else result["pruned_revision_ids"]
    return {"deployment_id": payload["deployment_id"], "pruned_revision_ids": pruned}


# messaging


def _add_endpoint(asked: Asked) -> dict[str, Any]:
    minted = derived.ulid("endpoint", f"{asked.environment_id}:{asked.key}")
    return {**plain(asked.body), "endpoint_id": minted}


def _linked(asked: Asked) -> dict[str, Any]:
    return {**plain(asked.body), "endpoint_id": asked.path["endpoint_id"].upper()}


def _welcome(asked: Asked) -> dict[str, Any]:
    _agreeing("endpoint_id")(asked)
    return _linked(asked)


def _endpoint(asked: Asked) -> dict[str, Any]:
    return {"endpoint_id": asked.path["endpoint_id"].upper()}


# trust roots: without a body they act with the server's own operator key, which the server puts in


def _operator(_asked: Asked) -> dict[str, Any]:
    return {"key_id": "", "public_key_pem": ""}


def _own_key(_payload: Mapping[str, Any], result: Result | None) -> Mapping[str, Any]:
    return {"key_id": None if result is None else result["key_id"]}


def _seed_of(settled: Settled) -> Any:
    told = _named("key_id", "public_key_pem", "trusted_key_count")(settled)
    return None if told["key_id"] is None else told


def _trust(asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = plain(asked.body)
    return found


def _distrust(asked: Asked) -> dict[str, Any]:
    return {"key_id": asked.path["key_id"]}


_GENERATIONS = ("previous_generation", "new_generation")
_BINDING = _named("binding", "generation")
_SPLIT = _with_environment("split", *_GENERATIONS)
_TRANSITION = _with_environment("revision", "starting_lifecycle")
_WORDS: Mapping[tuple[str, str], Words] = {
    ("env", "create"): Words(bodies.CreateEnvironment, _create, _environment, _of()),
    ("env", "update"): Words(bodies.PatchEnvironment, _patch, _environment, _of()),
    ("env", "migrate-bindings"): Words(
        bodies.MigrateBindings, _merge, _named("merged_slots", "merged_extensions"), _merged
    ),
    ("revisions", "stage"): Words(bodies.StageRevision, _stage, _part("revision"), _staged),
    ("revisions", "warm"): Words(bodies.WarmRevision, _warm, _TRANSITION, _warmed, _as_expected),
    ("revisions", "drain"): Words(bodies.Nothing, _revision, _TRANSITION, _transition("draining")),
    ("revisions", "archive"): Words(bodies.Nothing, _revision, _TRANSITION, _transition("archived")),
    ("traffic", "set"): Words(
        bodies.SetTraffic, _split, _with_environment("split", *_GENERATIONS), _moved, _own_revisions
    ),
    ("traffic", "rollback"): Words(bodies.RollbackTraffic, _back, _restored, _moved),
    ("env-packs", "add"): Words(bodies.PackBody, _bound, _part("binding"), _of("slot", "kind")),
    ("env-packs", "update"): Words(bodies.PackBody, _rebound, _BINDING, _of("slot", "kind")),
    ("env-packs", "remove"): Words(bodies.Nothing, _of_slot, _BINDING, _of("slot")),
    ("env-packs", "rollback"): Words(bodies.Nothing, _of_slot, _BINDING, _of("slot")),
    ("extensions", "add"): Words(bodies.ExtensionBody, _bound, _part("binding"), _extension),
    ("extensions", "update"): Words(bodies.UpdateExtension, _rebound_extension, _BINDING, _extension),
    ("extensions", "remove"): Words(bodies.KeyedExtension, _key, _BINDING, _extension),
    ("extensions", "rollback"): Words(bodies.KeyedExtension, _key_back, _BINDING, _extension),
    ("bundles", "add"): Words(bodies.AddBundle, _add_bundle, _part("deployment"), _added_bundle),
    ("bundles", "update"): Words(bodies.UpdateBundle, _update_bundle, _part("deployment"), _updated_bundle),
    ("bundles", "remove"): Words(
        bodies.Nothing, _deployment, _named("deployment", "pruned_revision_ids"), _removed_bundle
    ),
    ("messaging.endpoint", "add"): Words(
        bodies.AddEndpoint, _add_endpoint, _part("endpoint"), _of("endpoint_id", "provider_id", "provider_type")
    ),
    ("messaging.endpoint", "link-bundle"): Words(
        bodies.LinkBundle, _linked, _part("endpoint"), _of("endpoint_id", "bundle_id")
    ),
    ("messaging.endpoint", "unlink-bundle"): Words(
        bodies.LinkBundle, _linked, _part("endpoint"), _of("endpoint_id", "bundle_id")
    ),
    ("messaging.endpoint", "set-welcome-flow"): Words(
        bodies.WelcomeFlow, _welcome, _part("endpoint"), _of("endpoint_id", "bundle_id", "pack_id", "flow_id")
    ),
    ("messaging.endpoint", "remove"): Words(bodies.Nothing, _endpoint, _part("endpoint_id"), _of("endpoint_id")),
    ("messaging.endpoint", "rotate-webhook-secret"): Words(
        bodies.RotateSecret, _linked, _part("endpoint"), _of("endpoint_id")
    ),
    ("trust-root", "bootstrap"): Words(bodies.Nothing, _operator, _seed_of, _own_key),
    ("trust-root", "seed"): Words(bodies.Nothing, _operator, _seed_of, _own_key),
    ("trust-root", "add"): Words(
        bodies.TrustKey, _trust, _named("added_key_id", "trusted_key_count"), _of("key_id", "public_key_pem")
    ),
    ("trust-root", "remove"): Words(
        bodies.Nothing,
        _distrust,
        _named("removed_key_id", "removed_public_key_pem", "trusted_key_count"),
        _of("key_id"),
    ),
}
"""By noun and verb, in the order of reference 02, section 4."""
