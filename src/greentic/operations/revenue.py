"""Revenue policies of deployments: signed when shares are set, listed and proven on request (reference 02, section 10).

Every deployment that is added gets version 1 (or the one after the last that its bundle and customer ever had), every
update that names shares the next one. The version is made under the environment's lock, from the state that is changed,
and committed with it; the operator key must be trusted there before, and is never made trusted here.
"""

from __future__ import annotations

from typing import Any

from greentic.engine import deployments, policies
from greentic.engine.command import Command
from greentic.operations import names, trust_root
from greentic.operations.context import Context
from greentic.spec import policy_files
from greentic.spec.deployment import BundleDeployment
from greentic.spec.environment import Environment, RetiredPolicy
from greentic.spec.errors import NotFound
from greentic.spec.payloads import AddDeploymentPayload, UpdateDeploymentPayload
from greentic.store.contract import Complete, Completed, Files
from greentic.trust import keys, revenue
from greentic.trust.errors import OperatorKeyError, OperatorKeyNotTrusted, RevenuePolicyError
from greentic.trust.keys import OperatorKey
from greentic.trust.revenue import ChainReport
from greentic.trust.root import TrustRoot, require_operator


def signing(environment_id: str) -> Complete:
    """Completes `bundles add` and `bundles update`: signs the shares and names the policy.

    OperatorKeyNotTrusted (a Conflict) when the environment does not trust the operator key; RevenuePolicyError when the
    version before is missing or not proven.
    """

    def complete(environment: Environment | None, command: Command, now: str, files: Files) -> Completed:
        payload = command.payload
        deployment = None if environment is None else _deployment(environment, command, now)
        if environment is None or deployment is None:
            return Completed(payload)  # there is nothing to sign, or the engine says what is wrong
        root = trust_root.present(environment, files)
        key = _operator_key(environment_id, root)
        before = _before(files, environment, deployment)
        previous = None if before is None else revenue.read(before[0])
        version = revenue.next_version(previous, deployment, deployment.revenue_share, now)
        signed = revenue.sign(version, before, key, root, now)
        return Completed(payload.model_copy(update={"revenue_policy_ref": version.signature_ref}), signed.files)

    return complete


def list_(context: Context, environment_id: str, word: str) -> dict[str, Any]:
    """Every version of a deployment's policy, oldest first, with who gets what, and whether the chain is proven.

    `word` names a deployment, or a bundle (or `bundle@customer`) whose deployment was removed. `finding` names the
    first version that is not proven; the versions from there on have the state `unproven`.
    """
    environment, files = context.store.load(environment_id).environment, context.store.files(environment_id)
    deployment, bundle_id, customer_id = _named(environment, word)
    documents, report = verify(environment, files, bundle_id, customer_id, deployment)
    links = {link.version: link for link in report.links}
    versions = [
        {
            "version": number,
            "state": "proven" if number in links else "unproven",
            **_told(document),
            "signed_by": list(links[number].key_ids) if number in links else [],
            "removed_key": links[number].removed_key if number in links else None,
        }
        for number, document in enumerate(documents, start=1)
    ]
    return {
        "environment_id": environment_id,
        "bundle_id": bundle_id,
        "customer_id": customer_id,
        "deployment_id": None if deployment is None else deployment.deployment_id,
        "revenue_policy_ref": policies.newest(environment, bundle_id, customer_id),
        "versions": versions,
        "ok": report.ok,
        "finding": None
        if report.finding is None
        else {"version": report.finding.version, "reason": report.finding.reason},
    }


def verify(
    environment: Environment, files: Files, bundle_id: str, customer_id: str, deployment: BundleDeployment | None
) -> tuple[list[bytes | None], ChainReport]:
    """(the stored documents, what a verification of the chain saw) up to the newest committed version of the pair."""
    ref = policies.newest(environment, bundle_id, customer_id)
    newest = 0 if ref is None else policy_files.version_of(ref, bundle_id, customer_id) or 0
    documents: list[bytes | None] = []
    envelopes: list[bytes | None] = []
    for version in range(1, newest + 1):
        documents.append(files.read(policy_files.document_ref(bundle_id, customer_id, version)))
        envelopes.append(files.read(policy_files.signature_ref(bundle_id, customer_id, version)))
    root = trust_root.present(environment, files)
    return documents, revenue.verify_chain(documents, envelopes, root, deployment=deployment)


def pairs(environment: Environment) -> list[tuple[str, str, BundleDeployment | None]]:
    """(bundle, customer, its deployment or None) of everything that has a policy."""
    present: list[tuple[str, str, BundleDeployment | None]] = [
        (found.bundle_id, found.customer_id, found) for found in environment.bundles if found.revenue_policy_ref
    ]
    known = {(bundle, customer) for bundle, customer, _ in present}
    left = [(old.bundle_id, old.customer_id) for old in environment.retired_policies]
    return present + [(*pair, None) for pair in left if pair not in known]


def _deployment(environment: Environment, command: Command, now: str) -> BundleDeployment | None:
    """The deployment as it will be, when its shares are to be signed. Raises what the engine refuses."""
    payload = command.payload
    if isinstance(payload, AddDeploymentPayload):
        after = deployments.add(environment, payload, command, now).environment
        return after.deployment(payload.deployment_id)
    if isinstance(payload, UpdateDeploymentPayload) and payload.revenue_share is not None:
        after = deployments.update(environment, payload, command, now).environment
        return after.deployment(payload.deployment_id)
    return None


def _operator_key(environment_id: str, root: TrustRoot) -> OperatorKey:
    bootstrap = f"gtc op trust-root bootstrap {environment_id}"
    try:
        key = keys.load(keys.location())
    except OperatorKeyError as error:
        if error.details.get("reason") != "missing":
            raise
        raise OperatorKeyNotTrusted(
            f"revenue shares are signed, and {error.message}",
            details={"reason": "operator-key-not-trusted", **error.details},
            next_step=bootstrap,
        ) from None
    try:
        require_operator(root, key.public)
    except OperatorKeyNotTrusted as error:
        error.next_step = (error.next_step or bootstrap).replace(" ENV", f" {environment_id}")
        raise
    return key


def _before(files: Files, environment: Environment, deployment: BundleDeployment) -> tuple[bytes, bytes] | None:
    """The stored bytes (document, envelope) of the newest committed version; None when there is none."""
    bundle_id, customer_id = deployment.bundle_id, deployment.customer_id
    ref = policies.newest(environment, bundle_id, customer_id)
    if ref is None:
        return None
    version = policy_files.version_of(ref, bundle_id, customer_id)
    assert version is not None, "newest names versions only"
    document = files.read(policy_files.document_ref(bundle_id, customer_id, version))
    envelope = files.read(policy_files.signature_ref(bundle_id, customer_id, version))
    if document is None or envelope is None:
        raise RevenuePolicyError(
            f"version {version} of the revenue policy of '{bundle_id}' for '{customer_id}' is gone, and the next "
            "one must name it",
            details={"version": version, "revenue_policy_ref": ref},
            next_step="put its two files back from a copy of the environment's folder",
        )
    return document, envelope


def _named(environment: Environment, word: str) -> tuple[BundleDeployment | None, str, str]:
    try:
        deployment = names.deployment(environment, word)
    except NotFound:
        left = [old for old in environment.retired_policies if _matches(old, word)]
        if len(left) != 1:
            raise
        return None, left[0].bundle_id, left[0].customer_id
    return deployment, deployment.bundle_id, deployment.customer_id


def _matches(old: RetiredPolicy, word: str) -> bool:
    return word in {old.bundle_id, f"{old.bundle_id}@{old.customer_id}"}


def _told(document: bytes | None) -> dict[str, Any]:
    try:
        found = revenue.read(document or b"")
    except RevenuePolicyError:
        return {"created_at": None, "deployment_id": None, "revenue_share": []}
    return {
        "created_at": found.created_at,
        "deployment_id": found.deployment_id,
        "revenue_share": [share.to_json() for share in found.revenue_share],
    }
