"""What can be wrong with whom an environment trusts, with its revenue policies, and with the signed head of its log."""

from __future__ import annotations

from collections.abc import Iterator

from greentic.engine.trust_root import find, restoring
from greentic.operations import audit, revenue, trust_root
from greentic.operations.context import Context
from greentic.operations.findings import Finding
from greentic.spec.environment import Environment
from greentic.spec.errors import GreenticError
from greentic.store.contract import Files
from greentic.trust import keys
from greentic.trust.errors import OperatorKeyError
from greentic.trust.root import TrustRoot


def findings(
    context: Context, environment: Environment, *, judge_head: bool = True, signs: bool = True
) -> Iterator[Finding]:
    """Each finding with its fix. `judge_head` is False for a log of which it is known that it does not hold, `signs`
    for an environment whose server signs for it, with a key of its own.
    """
    if judge_head:
        yield from _head(context, environment.environment_id)
    files = context.store.files(environment.environment_id)
    try:
        root = trust_root.present(environment, files)
    except GreenticError as error:
        fix = f"gtc op backup restore {environment.environment_id}"
        yield Finding("trust-root", "error", "trust root", error.message, fix)
        return
    if signs:
        yield from _operator(environment, root)
    yield from _policies(environment, files, root)


def _operator(environment: Environment, root: TrustRoot) -> Iterator[Finding]:
    """A key that cannot be used is an error; one that is not there, or not trusted, only where it was to sign."""
    bootstrap = f"gtc op trust-root bootstrap {environment.environment_id}"
    signs = bool(root.keys) or bool(revenue.pairs(environment))
    try:
        key = keys.load(keys.location())
    except OperatorKeyError as error:
        missing = error.details.get("reason") == "missing"
        if signs or not missing:
            severity = "warning" if missing else "error"
            yield Finding("operator-key", severity, "operator key", error.message, error.next_step or bootstrap)
        return
    if signs and root.keys and not root.trusts(key.key_id):
        message = f"the environment trusts other keys, not the operator key {key.key_id}: you cannot set revenue shares"
        gone = find(root.removed, key.key_id) is not None
        fix = restoring(key.key_id, environment.environment_id) if gone else bootstrap
        yield Finding("operator-key", "warning", "operator key", message, fix)


def _policies(environment: Environment, files: Files, root: TrustRoot) -> Iterator[Finding]:
    name = environment.environment_id
    pairs = revenue.pairs(environment)
    if pairs and not root.keys:
        message = "nobody is trusted, so no revenue policy can be signed" + ("" if root.removed else " or proven")
        fix = f"gtc op trust-root bootstrap {name}"
        if root.removed:
            fix = f"when a removed key may be trusted again: gtc op trust-root add {name} --key-id ID --restore"
        yield Finding("trust-root", "error", "trust root", message, fix)
    for bundle_id, customer_id, deployment in pairs:
        _, report = revenue.verify(environment, files, bundle_id, customer_id, deployment)
        if report.finding is None:
            continue
        subject = f"{bundle_id}@{customer_id}"
        message = f"version {report.finding.version} is not proven: {report.finding.reason}"
        fix = (
            f"look: gtc op bundles policies {subject} --env {name}; then put lost or changed files back from a copy, "
            f"or sign its shares anew: gtc op bundles update {subject} --env {name} --answers FILE"
        )
        yield Finding("revenue-policy", "error", subject, message, fix)


def _head(context: Context, environment_id: str) -> Iterator[Finding]:
    """The signed head; what is wrong with the log itself is told elsewhere."""
    try:
        audit.check(context, environment_id)
    except GreenticError as error:
        fix = error.next_step or f"gtc op audit verify --env {environment_id}"
        yield Finding("signed-head", "error", "audit/head.json", error.message, fix)
