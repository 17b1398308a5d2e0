"""The verbs of the trust root and what follows a revenue policy, as pure functions."""

from __future__ import annotations

import pytest

from greentic.engine import policies, trust_root
from greentic.engine.command import Command
from greentic.engine.transition import transition
from greentic.spec.deployment import RevenueShare
from greentic.spec.environment import RetiredPolicy, fresh
from greentic.spec.errors import InvalidArgument
from greentic.spec.payloads import AddDeploymentPayload, RemoveDeploymentPayload, UpdateDeploymentPayload
from greentic.spec.trust_root import (
    AddTrustedKeyPayload,
    KeyRemoved,
    RemoveTrustedKeyPayload,
    TrustOperatorKeyPayload,
    TrustRootDocument,
    TrustRootError,
)

A, B = "a" * 32, "b" * 32
NOW = "2026-07-24T10:00:00Z"
DEPLOYMENT = "01J0000000000000000000DEPA"
OTHER = "01J0000000000000000000DEPB"


def key(key_id=A, **more):
    return TrustOperatorKeyPayload(key_id=key_id, public_key_pem=f"PEM {key_id[0]}", **more)


def done(environment, verb, payload, noun="trust-root"):
    return transition(environment, Command("local", noun, verb, payload, "k", "me"), NOW)


def trusting(*verbs):
    environment = fresh("local", "local")
    for verb, payload in verbs:
        environment = done(environment, verb, payload).environment
    return environment


def ids(environment):
    root = environment.trust_root
    return None if root is None else ([one.key_id for one in root.keys], [one.key_id for one in root.removed])


SEEDED = ("seed", key())
REMOVED = ("remove", RemoveTrustedKeyPayload(key_id=A.upper()))


@pytest.mark.parametrize(
    ("verbs", "expected"),
    [
        ([], None),
        ([SEEDED], ([A], [])),
        ([SEEDED, ("seed", key(B))], ([A], [])),
        ([SEEDED, REMOVED, ("seed", key(B))], ([], [A])),
        ([("remove", RemoveTrustedKeyPayload(key_id=B)), SEEDED], ([A], [])),
        ([("bootstrap", key()), ("bootstrap", key(B))], ([A, B], [])),
        ([SEEDED, REMOVED, ("bootstrap", key(B))], ([B], [A])),
        ([SEEDED, ("add", AddTrustedKeyPayload(key_id=B.upper(), public_key_pem="PEM b"))], ([A, B], [])),
        ([SEEDED, REMOVED, ("add", AddTrustedKeyPayload(key_id=A, public_key_pem="PEM", restore=True))], ([A], [])),
    ],
    ids=[
        "nothing",
        "seed",
        "seed-twice",
        "seed-after-all-went",
        "remove-begins-none",
        "two",
        "other",
        "case",
        "restore",
    ],
)
def test_who_is_trusted(verbs, expected) -> None:
    assert ids(trusting(*verbs)) == expected


@pytest.mark.parametrize(
    ("verb", "payload"), [("bootstrap", key()), ("add", AddTrustedKeyPayload(key_id=A.upper(), public_key_pem="PEM"))]
)
def test_a_removed_key_does_not_come_back_by_itself(verb, payload) -> None:
    with pytest.raises(KeyRemoved) as refusal:
        done(trusting(SEEDED, REMOVED), verb, payload)
    assert refusal.value.next_step.endswith(f"trust-root add local --key-id {A} --restore")


def test_what_is_adopted_counts_only_while_there_is_nothing_else() -> None:
    theirs = TrustRootDocument(keys=({"key_id": B, "public_key_pem": "PEM b"},))
    assert ids(trusting(("bootstrap", key(adopted=theirs)))) == ([B, A], [])
    assert ids(trusting(("seed", key(adopted=theirs)))) == ([B], [])
    assert ids(trusting(SEEDED, ("bootstrap", key(adopted=theirs)))) == ([A], [])


def test_nothing_changes_twice() -> None:
    environment = trusting(SEEDED)
    for verb, payload in (SEEDED, ("bootstrap", key()), ("add", AddTrustedKeyPayload(key_id=A, public_key_pem="PEM"))):
        outcome = done(environment, verb, payload)
        assert not outcome.changed
        assert outcome.result["trusted_key_count"] == 1


def test_an_id_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        done(trusting(), "bootstrap", key("x"))


def test_the_numbers_of_keys_are_bounded(monkeypatch) -> None:
    environment = trusting(SEEDED)
    monkeypatch.setattr(trust_root, "MAX_KEYS", 1)
    with pytest.raises(TrustRootError, match="at most"):
        done(environment, "bootstrap", key(B))


def ref(version):
    return f"billing-policies/web/acme/v{version}.json.sig"


def added(environment, deployment_id, version):
    payload = AddDeploymentPayload(
        deployment_id=deployment_id, bundle_id="web", customer_id="acme", revenue_policy_ref=ref(version)
    )
    return done(environment, "add", payload, "bundles").environment


def test_where_a_pair_stopped_is_remembered_until_it_goes_on() -> None:
    environment = added(fresh("local", "local"), DEPLOYMENT, 1)
    payload = UpdateDeploymentPayload(
        deployment_id=DEPLOYMENT,
        revenue_share=(RevenueShare(party_id="acme", basis_points=10_000),),
        revenue_policy_ref=ref(2),
    )
    environment = done(environment, "update", payload, "bundles").environment
    assert (policies.newest(environment, "web", "acme"), environment.retired_policies) == (ref(2), ())
    environment = done(environment, "remove", RemoveDeploymentPayload(deployment_id=DEPLOYMENT), "bundles").environment
    assert policies.newest(environment, "web", "acme") == ref(2)
    assert policies.newest(environment, "web", "other") is None
    environment = added(environment, OTHER, 3)
    assert (policies.newest(environment, "web", "acme"), environment.retired_policies) == (ref(3), ())


def test_a_backup_of_another_deployment_of_the_pair_remembers_the_newest() -> None:
    backup = added(fresh("local", "local"), DEPLOYMENT, 1)
    present = added(fresh("local", "local"), OTHER, 4)
    restored = policies.carried_over(backup, present)
    assert restored.bundles == backup.bundles
    assert restored.retired_policies == (RetiredPolicy(bundle_id="web", customer_id="acme", revenue_policy_ref=ref(4)),)
    assert policies.carried_over(backup, backup) == backup
